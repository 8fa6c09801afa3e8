//! Bodies that are kept, and those that are not.

use super::*;

fn put(body: &str) -> String {
    format!("PUT / HTTP/1.1\r\nhost: service\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn body_of(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn a_body_is_kept_up_to_so_many_bytes() {
    run(async {
        for (len, status) in [(1, 200), (100, 200), (101, 503), (100_000, 503)] {
            let (bad, good) = (Server::of(&[Act::Close]).await, Server::ok().await);
            let proxy = Proxy::new("bufferBytes: 100").to(&[&bad, &good]);
            let request = put(&"x".repeat(len));
            assert_eq!(proxy.ask(&request).await.0, status, "{len}");
            assert_eq!(bad.seen(), [request.as_str()]);
            assert_eq!(good.count(), usize::from(status == 200), "{len}");
            let line = proxy.line().await;
            assert_eq!(line["bytes_received"].as_u64(), Some(len as u64), "{line:#}");
        }
    });
}

#[test]
fn a_body_of_unknown_length_is_kept_until_it_is_too_long() {
    run(async {
        let chunked = |pieces: &[&str]| {
            let head = "PUT / HTTP/1.1\r\nhost: service\r\ntransfer-encoding: chunked\r\n\r\n";
            let pieces: String = pieces.iter().map(|piece| format!("{:X}\r\n{piece}\r\n", piece.len())).collect();
            format!("{head}{pieces}0\r\n\r\n")
        };
        let long = "y".repeat(60);
        for (pieces, status) in [(vec!["one", "two"], 200), (vec![long.as_str(), "z"], 200), (vec![&long, &long], 503)]
        {
            let (bad, good) = (Server::of(&[Act::Close]).await, Server::ok().await);
            let proxy = Proxy::new("bufferBytes: 100").to(&[&bad, &good]);
            assert_eq!(proxy.ask(&chunked(&pieces)).await.0, status, "{pieces:?}");
            if status == 200 {
                // In the same framing, though it is known by then how long it is.
                let whole = pieces.concat();
                assert_eq!(good.seen(), [chunked(&[&whole])]);
            } else {
                assert_eq!(good.count(), 0);
            }
        }
    });
}

#[test]
fn a_body_is_not_waited_for_and_its_beginning_is_sent_again_before_the_rest() {
    run(async {
        let (bad, good) = (Server::of(&[Act::ResetAt(4)]).await, Server::ok().await);
        let proxy = Proxy::new("").to(&[&bad, &good]);
        let mut client = proxy.client();
        client.write_all(b"PUT / HTTP/1.1\r\nhost: service\r\ncontent-length: 8\r\n\r\nhalf").await.unwrap();
        until("the beginning", async || (bad.count() == 1).then_some(())).await.unwrap();
        assert_eq!(body_of(&bad.seen()[0]), "half");
        until("the second try", async || (good.connections.get() == 1).then_some(())).await.unwrap();
        client.write_all(b"rest").await.unwrap();
        assert_eq!(answer(&mut client).await.0, 200);
        assert_eq!(good.seen(), [put("halfrest")]);
        assert_eq!(proxy.line().await["bytes_received"], 8);
    });
}

#[test]
fn a_second_try_that_is_answered_early_leaves_no_connection_for_the_next() {
    run(async {
        let bad = Server::of(&[Act::ResetAt(4), Act::Close]).await;
        let good = Server::of(&[Act::AnswerAt(4, OK), Act::Answer(OK)]).await;
        let proxy = Proxy::new("").to(&[&bad, &good]);
        let mut client = proxy.client();
        client.write_all(b"PUT / HTTP/1.1\r\nhost: service\r\ncontent-length: 8\r\n\r\nhalf").await.unwrap();
        assert_eq!(answer(&mut client).await.0, 200);
        assert_eq!(body_of(&good.seen()[0]), "half");
        // What the first try knew of the body must not count for the second: half of a request is on this connection.
        assert_eq!(proxy.get().await.0, 200);
        assert_eq!((good.count(), good.connections.get()), (2, 2));
    });
}

#[test]
fn trailers_are_sent_again_and_no_identity_comes_with_them() {
    run(async {
        let (bad, good) = (Server::of(&[Act::Close]).await, Server::ok().await);
        let proxy = Proxy::new("").to(&[&bad, &good]);
        let request = "PUT / HTTP/1.1\r\nhost: service\r\ntrailer: x-sum, x-forwarded-client-cert\r\n\
                       transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 7\r\nx-forwarded-client-cert: a\r\n\r\n";
        assert_eq!(proxy.ask(request).await.0, 200);
        assert_eq!(body_of(&good.seen()[0]), "4\r\nbody\r\n0\r\nx-sum: 7\r\n\r\n");
        assert_eq!(bad.seen(), good.seen());
    });
}

#[test]
fn a_body_that_its_client_breaks_off_is_not_sent_again() {
    run(async {
        let (bad, good) = (Server::of(&[Act::Hang]).await, Server::ok().await);
        let proxy = Proxy::new("").to(&[&bad, &good]);
        let mut client = proxy.client();
        let head = "PUT / HTTP/1.1\r\nhost: service\r\ntransfer-encoding: chunked\r\n\r\n";
        client.write_all(format!("{head}4\r\nhalf\r\nno size\r\n").as_bytes()).await.unwrap();
        let mut read = Vec::new();
        // However it is told.
        let _ = client.read_to_end(&mut read).await;
        until("an end", async || (bad.ended.get() == 1).then_some(())).await.unwrap();
        assert_eq!(good.connections.get(), 0);
    });
}

#[test]
fn nothing_is_kept_of_a_body_where_there_is_nobody_else() {
    run(async {
        let only = Server::of(&[Act::Answer(OK), Act::Close, Act::Answer(OK)]).await;
        let proxy = Proxy::new("").to(&[&only]);
        assert_eq!(proxy.ask(PUT).await.0, 200);
        assert_eq!(proxy.ask(PUT).await.0, 503);
        assert_eq!(only.count(), 2);
    });
}

#[test]
fn a_failed_answer_is_asked_for_elsewhere_only_once_the_whole_request_is_known() {
    run(async {
        let (here, there) = (Server::of(&[Act::AnswerAt(4, SICK)]).await, Server::ok().await);
        let proxy = Proxy::new("").to(&[&here]).elsewhere("one", &[&there]).failing_over();
        let mut client = proxy.client();
        client.write_all(b"PUT / HTTP/1.1\r\nhost: service\r\ncontent-length: 8\r\n\r\nhalf").await.unwrap();
        assert_eq!(answer(&mut client).await, (503, "sick".to_owned()));
        assert_eq!(there.connections.get(), 0);
    });
}
