//! Answers that say that the server failed, where the route asks other clusters.

use super::*;

#[test]
fn an_answer_of_a_server_that_failed_is_asked_for_once_in_another_cluster() {
    run(async {
        let (here, beside) = (Server::of(&[Act::Answer(SICK)]).await, Server::ok().await);
        let (there, yonder) = (Server::ok().await, Server::ok().await);
        let proxy = Proxy::new("").to(&[&here, &beside]).elsewhere("one", &[&there]);
        let proxy = proxy.elsewhere("two", &[&yonder]).failing_over();
        for request in [GET, PUT] {
            assert_eq!(proxy.ask(request).await, (200, "ok".to_owned()));
        }
        assert_eq!([&here, &beside, &there, &yonder].map(Server::count), [2, 0, 2, 0]);
        assert_eq!(there.seen(), [GET, PUT]);
        assert_eq!(proxy.retries("answer", "answered"), 2);
        let line = proxy.line().await;
        assert_eq!(line["upstream_cluster_key"], "default/default/default/one", "{line:#}");
        assert_eq!((line["attempts"].as_u64(), line["response_code"].as_u64()), (Some(2), Some(200)));
    });
}

#[test]
fn the_second_answer_is_given_whatever_it_is() {
    run(async {
        let other = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 5\r\n\r\nother";
        let (here, there) = (Server::of(&[Act::Answer(SICK)]).await, Server::of(&[Act::Answer(other)]).await);
        let yonder = Server::ok().await;
        let proxy = Proxy::new("").to(&[&here]).elsewhere("one", &[&there]).elsewhere("two", &[&yonder]).failing_over();
        assert_eq!(proxy.get().await, (500, "other".to_owned()));
        assert_eq!([&here, &there, &yonder].map(Server::count), [1, 1, 0]);
        assert_eq!(proxy.line().await["response_flags"], "-");
    });
}

#[test]
fn a_post_that_was_answered_is_never_asked_for_again() {
    run(async {
        let (here, there) = (Server::of(&[Act::Answer(SICK)]).await, Server::ok().await);
        let proxy = Proxy::new("").to(&[&here]).elsewhere("one", &[&there]).failing_over();
        assert_eq!(proxy.ask(POST).await, (503, "sick".to_owned()));
        assert_eq!((here.count(), there.count()), (1, 0));
    });
}

#[test]
fn a_post_that_was_not_sent_goes_to_another_cluster() {
    run(async {
        let (_held, gone) = nobody();
        let there = Server::ok().await;
        let mut proxy = Proxy::new("");
        proxy.candidates.push(proxy.candidate(gone, HttpVersion::Http1, None));
        let proxy = proxy.elsewhere("one", &[&there]).failing_over();
        assert_eq!(proxy.ask(POST).await.0, 200);
        assert_eq!(there.seen(), [POST]);
    });
}

#[test]
fn without_another_cluster_the_first_answer_is_given_as_it_is() {
    run(async {
        let (here, beside) = (Server::of(&[Act::Answer(SICK)]).await, Server::ok().await);
        let proxy = Proxy::new("").to(&[&here, &beside]).failing_over();
        assert_eq!(proxy.get().await, (503, "sick".to_owned()));
        assert_eq!((here.count(), beside.count()), (1, 0));
        let line = proxy.line().await;
        assert_eq!((line["response_flags"].as_str(), line.get("attempts")), (Some("-"), None), "{line:#}");
    });
}

#[test]
fn an_answer_is_better_than_none_from_the_other_cluster() {
    run(async {
        let (_held, gone) = nobody();
        for reached in [true, false] {
            let (here, there) = (Server::of(&[Act::Answer(SICK)]).await, Server::of(&[Act::Close]).await);
            let mut proxy = Proxy::new("").to(&[&here]).elsewhere("one", &[&there]).failing_over();
            if !reached {
                let remote = proxy.candidates.pop().unwrap().remote().cloned();
                proxy.candidates.push(proxy.candidate(gone, HttpVersion::Http1, remote));
            }
            assert_eq!(proxy.get().await, (503, "sick".to_owned()));
            assert_eq!((here.count(), there.count()), (1, usize::from(reached)));
            let line = proxy.line().await;
            assert_eq!((line["response_flags"].as_str(), line["attempts"].as_u64()), (Some("-"), Some(2)));
            assert_eq!(line["upstream_host"], here.address.to_string());
            assert_eq!(line.get("upstream_cluster_key"), None);
        }
    });
}

#[test]
fn after_a_failed_answer_its_own_cluster_is_not_asked_again() {
    run(async {
        let (here, beside) = (Server::of(&[Act::Answer(SICK)]).await, Server::ok().await);
        let there = Server::of(&[Act::Close]).await;
        let proxy = Proxy::new("").to(&[&here]).elsewhere("one", &[&there]).failing_over().to(&[&beside]);
        assert_eq!(proxy.get().await, (503, "sick".to_owned()));
        assert_eq!([&here, &there, &beside].map(Server::count), [1, 1, 0]);
    });
}

#[test]
fn answers_are_given_as_they_are_where_the_route_does_not_fail_over() {
    run(async {
        let (here, there) = (Server::of(&[Act::Answer(SICK)]).await, Server::ok().await);
        let proxy = Proxy::new("").to(&[&here]).elsewhere("one", &[&there]);
        assert_eq!(proxy.get().await, (503, "sick".to_owned()));
        assert_eq!((here.count(), there.count()), (1, 0));
        // A client's mistake is one in every cluster.
        let missing = Server::of(&[Act::Answer("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")]).await;
        let proxy = Proxy::new("").to(&[&missing]).elsewhere("one", &[&there]).failing_over();
        assert_eq!(proxy.get().await.0, 404);
        assert_eq!(there.count(), 0);
    });
}

#[test]
fn without_budget_the_first_answer_is_given() {
    run(async {
        let (here, there) = (Server::of(&[Act::Answer(SICK)]).await, Server::ok().await);
        let proxy = Proxy::new("budgetPercent: 0, budgetMinPerSecond: 0").to(&[&here]).elsewhere("one", &[&there]);
        assert_eq!(proxy.failing_over().get().await, (503, "sick".to_owned()));
        assert_eq!(there.count(), 0);
    });
}
