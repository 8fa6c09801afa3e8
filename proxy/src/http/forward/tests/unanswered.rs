//! Requests that got no answer: which of them are sent again, and how often.

use super::*;

#[test]
fn what_was_not_sent_goes_to_the_next_whatever_its_method_and_with_its_body() {
    run(async {
        let (_held, gone) = nobody();
        let good = Server::ok().await;
        let mut proxy = Proxy::new("");
        proxy.candidates.push(proxy.candidate(gone, HttpVersion::Http1, None));
        let proxy = proxy.to(&[&good]);
        for request in [GET, POST, PUT] {
            assert_eq!(proxy.ask(request).await.0, 200, "{request}");
        }
        assert_eq!(good.seen(), [GET, POST, PUT]);
        assert_eq!(proxy.retries("unsent", "answered"), 3);
        let line = proxy.lines(3).await.remove(1);
        assert_eq!((line["attempts"].as_u64(), line["response_flags"].as_str()), (Some(2), Some("-")), "{line:#}");
        assert_eq!(line["upstream_host"], good.address.to_string());
        assert_eq!(line["bytes_received"], 4);
    });
}

#[test]
fn an_idempotent_request_whose_connection_ends_is_sent_again_with_the_same_bytes() {
    run(async {
        for act in [Act::Close, Act::Reset] {
            for request in [GET, PUT, "DELETE / HTTP/1.1\r\nhost: service\r\n\r\n"] {
                let (bad, good) = (Server::of(&[act]).await, Server::ok().await);
                let proxy = Proxy::new("").to(&[&bad, &good]);
                assert_eq!(proxy.ask(request).await, (200, "ok".to_owned()));
                assert_eq!((bad.seen(), good.seen()), (vec![request.to_owned()], vec![request.to_owned()]));
                assert_eq!(proxy.retries("lost", "answered"), 1);
                let line = proxy.line().await;
                assert_eq!(line["attempts"], 2);
                assert_eq!(line["upstream_host"], good.address.to_string());
            }
        }
    });
}

#[test]
fn a_post_that_was_sent_is_never_sent_again() {
    run(async {
        for act in [Act::Close, Act::Reset] {
            let (bad, good) = (Server::of(&[act]).await, Server::ok().await);
            let proxy = Proxy::new("").to(&[&bad, &good]).failing_over();
            for request in [POST, "POST / HTTP/1.1\r\nhost: service\r\ncontent-length: 0\r\n\r\n"] {
                assert_eq!(proxy.ask(request).await.0, 503);
            }
            assert_eq!((bad.count(), good.count()), (2, 0));
            let line = proxy.line().await;
            assert_eq!((line["response_flags"].as_str(), line.get("attempts")), (Some("UC"), None), "{line:#}");
        }
    });
}

#[test]
fn a_request_that_waits_to_be_told_to_go_on_is_sent_once() {
    run(async {
        let (bad, good) = (Server::of(&[Act::Close]).await, Server::ok().await);
        let proxy = Proxy::new("").to(&[&bad, &good]);
        let mut client = proxy.client();
        let head = b"PUT / HTTP/1.1\r\nhost: service\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
        client.write_all(head).await.unwrap();
        let mut go_on = [0; 25];
        client.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"body").await.unwrap();
        assert_eq!(answer(&mut client).await.0, 503);
        assert_eq!((bad.count(), good.count()), (1, 0));
    });
}

#[test]
fn there_are_no_more_tries_than_there_may_be() {
    run(async {
        let bad = [Server::of(&[Act::Close]).await, Server::of(&[Act::Close]).await, Server::of(&[Act::Close]).await];
        let good = Server::ok().await;
        let all = [&bad[0], &bad[1], &bad[2], &good];
        let proxy = Proxy::new("").to(&all);
        assert_eq!(proxy.get().await.0, 503);
        assert_eq!(all.map(Server::count), [1, 1, 1, 0]);
        let line = proxy.line().await;
        assert_eq!((line["response_flags"].as_str(), line["attempts"].as_u64()), (Some("UC,URX"), Some(3)));
        assert_eq!((proxy.retries("lost", "failed"), proxy.retries("lost", "answered")), (2, 0));
        let once = Proxy::new("attempts: 1").to(&all);
        assert_eq!(once.get().await.0, 503);
        assert_eq!(all.map(Server::count), [2, 1, 1, 0]);
        let line = once.line().await;
        assert_eq!((line["response_flags"].as_str(), line.get("attempts")), (Some("UC"), None));
    });
}

#[test]
fn fewer_endpoints_than_tries_are_each_tried_once() {
    run(async {
        let (one, other) = (Server::of(&[Act::Close]).await, Server::of(&[Act::Reset]).await);
        let proxy = Proxy::new("attempts: 10").to(&[&one, &other]);
        assert_eq!(proxy.get().await, (503, "upstream closed the connection".to_owned()));
        assert_eq!((one.count(), other.count()), (1, 1));
        assert_eq!(proxy.line().await["response_flags"], "UC");
    });
}

#[test]
fn a_reused_connection_that_ends_costs_a_get_nothing_even_where_there_is_one_endpoint() {
    run(async {
        for proxy in [Proxy::new(""), Proxy::new("").without_budget()] {
            let only = Server::of(&[Act::Answer(OK), Act::Close, Act::Answer(OK), Act::Reset, Act::Answer(OK)]).await;
            let proxy = proxy.to(&[&only]);
            for _ in 0..3 {
                assert_eq!(proxy.get().await.0, 200);
            }
            assert_eq!((only.count(), only.connections.get()), (5, 3));
            assert_eq!(proxy.retries("lost", "answered"), 2);
        }
    });
}

#[test]
fn a_reused_connection_that_ends_after_a_post_was_sent_ends_the_post() {
    run(async {
        let only = Server::of(&[Act::Answer(OK), Act::Close, Act::Answer(OK)]).await;
        let proxy = Proxy::new("").to(&[&only]);
        assert_eq!(proxy.ask(POST).await.0, 200);
        assert_eq!(proxy.ask(POST).await.0, 503);
        assert_eq!(only.count(), 2);
    });
}

#[test]
fn a_new_connection_that_ends_is_not_tried_again_where_there_is_one_endpoint() {
    run(async {
        let only = Server::of(&[Act::Close]).await;
        let proxy = Proxy::new("").to(&[&only]);
        assert_eq!(proxy.get().await.0, 503);
        assert_eq!(only.count(), 1);
        // Not over a second new one either, after the first was one of the pool.
        let twice = Server::of(&[Act::Answer(OK), Act::Close]).await;
        let proxy = Proxy::new("attempts: 5").to(&[&twice]);
        assert_eq!(proxy.get().await.0, 200);
        assert_eq!(proxy.get().await.0, 503);
        assert_eq!(twice.count(), 3);
    });
}

#[test]
fn what_is_no_answer_is_not_asked_for_again() {
    run(async {
        let switched = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: a\r\n\r\n";
        for garbage in ["garbage\r\n\r\n", switched] {
            let (bad, good) = (Server::of(&[Act::Answer(garbage)]).await, Server::ok().await);
            let proxy = Proxy::new("").to(&[&bad, &good]).failing_over();
            assert_eq!(proxy.get().await.0, 502);
            assert_eq!(good.count(), 0);
        }
    });
}

#[test]
fn an_answer_that_breaks_off_after_its_head_is_the_answer() {
    run(async {
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
        let (bad, good) = (Server::of(&[Act::AnswerAndClose(cut)]).await, Server::ok().await);
        let proxy = Proxy::new("").to(&[&bad, &good]);
        let mut client = proxy.client();
        client.write_all(GET.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        // However the connection ends, it does.
        let _ = client.read_to_end(&mut read).await;
        assert!(read.ends_with(b"half"), "{}", String::from_utf8_lossy(&read));
        assert_eq!((bad.count(), good.count()), (1, 0));
    });
}

#[test]
fn without_budget_the_failure_is_the_answer_and_is_counted() {
    run(async {
        let (bad, good) = (Server::of(&[Act::Close]).await, Server::ok().await);
        let proxy = Proxy::new("budgetPercent: 0, budgetMinPerSecond: 0").to(&[&bad, &good]);
        assert_eq!(proxy.get().await.0, 503);
        assert_eq!((bad.count(), good.count()), (1, 0));
        assert_eq!(proxy.metric("mesh_retry_budget_exhausted_total"), 1);
        assert_eq!(proxy.retries("lost", "no_budget"), 1);
        let line = proxy.line().await;
        assert!(line["response_code_details"].as_str().unwrap().contains("retry budget"), "{line:#}");
        // What could not be sent to one is not free to be sent to the next.
        let (_held, gone) = nobody();
        let mut proxy = Proxy::new("budgetPercent: 0, budgetMinPerSecond: 0");
        proxy.candidates.push(proxy.candidate(gone, HttpVersion::Http1, None));
        let proxy = proxy.to(&[&good]);
        assert_eq!(proxy.ask(POST).await.0, 503);
        assert_eq!(good.count(), 0);
    });
}

#[test]
fn a_share_of_the_requests_is_sent_again() {
    run(async {
        let (bad, good) = (Server::of(&[Act::Close]).await, Server::ok().await);
        let proxy = Proxy::new("budgetPercent: 100, budgetMinPerSecond: 0").to(&[&bad, &good]);
        assert_eq!(proxy.get().await.0, 200);
        let proxy = Proxy::new("budgetPercent: 0, budgetMinPerSecond: 2").to(&[&bad, &good]);
        let mut codes = Vec::new();
        for _ in 0..3 {
            codes.push(proxy.get().await.0);
        }
        assert_eq!(codes, [200, 200, 503]);
        assert_eq!((bad.count(), good.count()), (4, 3));
    });
}

#[test]
fn an_endpoint_that_does_not_answer_in_time_is_left_for_another() {
    run(async {
        let (slow, good) = (Server::of(&[Act::Hang]).await, Server::ok().await);
        let proxy = Proxy::new("perTryTimeout: 50ms").to(&[&slow, &good]);
        for request in [GET, PUT] {
            assert_eq!(proxy.ask(request).await.0, 200);
        }
        assert_eq!((slow.count(), good.seen()), (2, vec![GET.to_owned(), PUT.to_owned()]));
        assert_eq!(proxy.retries("timeout", "answered"), 2);
        // A POST may have been done.
        assert_eq!(proxy.ask(POST).await, (504, "upstream request timeout".to_owned()));
        assert_eq!((slow.count(), good.count()), (3, 2));
        assert_eq!(proxy.lines(3).await[2]["response_flags"], "UT");
        // Nobody waits for what was given up.
        until("the ends of three connections", async || (slow.ended.get() == 3).then_some(())).await.unwrap();
        let proxy = Proxy::new("perTryTimeout: 50ms, attempts: 2").to(&[&slow, &slow]);
        assert_eq!(proxy.get().await.0, 504);
        assert_eq!(proxy.line().await["response_flags"], "UT,URX");
    });
}

#[test]
fn a_slow_client_is_not_a_slow_endpoint() {
    run(async {
        let good = Server::ok().await;
        let proxy = Proxy::new("perTryTimeout: 100ms").to(&[&good]);
        let mut client = proxy.client();
        client.write_all(b"POST / HTTP/1.1\r\nhost: service\r\ncontent-length: 3\r\n\r\n").await.unwrap();
        for _ in 0..3 {
            // Longer than a try may take: here the time that passes is what is tested.
            tokio::time::sleep(Duration::from_millis(150)).await;
            client.write_all(b"x").await.unwrap();
        }
        assert_eq!(answer(&mut client).await.0, 200);
    });
}

#[test]
fn a_client_that_goes_away_ends_the_second_try() {
    run(async {
        let (bad, slow, good) = (Server::of(&[Act::Close]).await, Server::of(&[Act::Hang]).await, Server::ok().await);
        let proxy = Proxy::new("").to(&[&bad, &slow, &good]);
        let mut client = proxy.client();
        client.write_all(GET.as_bytes()).await.unwrap();
        until("the second try", async || (slow.count() == 1).then_some(())).await.unwrap();
        drop(client);
        until("its end", async || (slow.ended.get() == 1).then_some(())).await.unwrap();
        let line = proxy.line().await;
        assert_eq!((line["response_flags"].as_str(), line["attempts"].as_u64()), (Some("DC"), Some(2)), "{line:#}");
        assert_eq!(good.count(), 0);
        assert_eq!(proxy.retries("lost", "cancelled"), 1);
    });
}
