//! Where does a message end? Whatever two parsers could answer differently is refused, and never reaches the application.

use meshgate_tests::run;

use super::{DOORS, is_refused, knock};
use crate::support::app::App;
use crate::support::mesh::{BACKEND, Mesh, logged, policy};
use crate::support::wire::Wire;

/// What an attacker hopes will be read as a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: backend\r\n\r\n";

fn post(fields: &str, body: &str) -> String {
    format!("POST /framed HTTP/1.1\r\nhost: {BACKEND}\r\n{fields}\r\n{body}")
}

#[test]
fn a_message_with_two_lengths_is_refused_and_the_connection_closed() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        for fields in [
            "content-length: 5\r\ncontent-length: 6\r\n",
            "content-length: 5, 6\r\n",
            "content-length: +5\r\n",
            "content-length: -1\r\n",
            "content-length: 0x5\r\n",
            "content-length:\r\n",
            "content-length: 18446744073709551616\r\n",
            "content-length: 5 5\r\n",
            "content-length: 5\r\ncontent-length: 5\r\n",
            "content-length: 5, 5\r\n",
            "content-length: 9223372036854775808\r\n",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            "Content-Length: 0\r\nx: y\r\nTRANSFER-ENCODING: Chunked\r\n",
            "content_length: 5\r\n",
            "transfer_encoding: chunked\r\n",
            "transfer-encoding:\r\n",
            "transfer-encoding: chunked,\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked, gzip\r\n",
            "transfer-encoding: chunked, chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: identity\r\n",
            "transfer-encoding: xchunked\r\n",
            "transfer-encoding: chunked;q=1\r\n",
            "transfer-encoding: \"chunked\"\r\n",
        ] {
            is_refused(&mesh, &app, 400, &post(fields, &format!("0\r\n\r\n{SMUGGLED}"))).await;
        }
    });
}

#[test]
fn a_transfer_encoding_in_http_1_0_is_refused() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let request = format!("POST / HTTP/1.0\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
        is_refused(&mesh, &app, 400, &request).await;
    });
}

#[test]
fn heads_that_servers_read_differently_are_refused() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        for fields in [
            "x: a\0b",
            "x: a\rb",
            "x: a\r\r\nhost: b",
            "x: a\u{1}b",
            "x: a\u{7f}b",
            "x\0: a",
            ": a",
            "x : a",
            "host : other",
            " x: a",
            "no colon",
            "x\u{e9}: a",
            "x(y): a",
            "x: a\r\n b: folded",
            "x: a\r\n\tfolded",
            "x: a\ny: b",
            "x: a\n",
            "host: a",
            "Host: b",
            "x_forwarded_for: 1.1.1.1",
        ] {
            is_refused(&mesh, &app, 400, &format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n{SMUGGLED}")).await;
        }
        for start in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 x",
            "GET /\0 HTTP/1.1",
            "GET / HTTP/1.2",
            "GET / HTTP/3.0",
            "GET /",
            "GET / http/1.1",
            "GET /#admin HTTP/1.1",
            "GET /a?b#c HTTP/1.1",
            "GET http://a/#b HTTP/1.1",
        ] {
            is_refused(&mesh, &app, 400, &format!("{start}\r\nhost: a\r\n\r\n{SMUGGLED}")).await;
        }
    });
}

#[test]
fn a_bare_line_feed_is_refused_wherever_a_line_ends_with_it() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        for head in [
            "GET / HTTP/1.1\nhost: a\r\nx: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\nx: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: a\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n\n",
            "GET / HTTP/1.1\nhost: a\nx: a\n\n",
        ] {
            is_refused(&mesh, &app, 400, &format!("{head}{SMUGGLED}")).await;
        }
    });
}

#[test]
fn what_is_refused_does_not_depend_on_how_it_is_cut_into_segments() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let request = post("content-length: 5\r\ntransfer-encoding: chunked\r\n", &format!("0\r\n\r\n{SMUGGLED}"));
        for at in (1..request.len() - SMUGGLED.len()).step_by(7) {
            let (one, other) = request.split_at(at);
            let mut client = mesh.outside().await;
            client.send(one).await;
            tokio::task::yield_now().await;
            client.try_send(other).await;
            assert_eq!(client.head().await.unwrap_or_default().status(), 400, "cut at {at}");
        }
        assert!(app.take_seen().is_empty());
    });
}

#[test]
fn the_body_of_a_get_goes_up_like_any_other() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let head = format!("GET /body HTTP/1.1\r\nhost: {BACKEND}\r\n");
        for body in ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
            for door in DOORS {
                assert_eq!(knock(&mesh, door).await.ask(format!("{head}{body}")).await.status(), 200, "{door}");
                assert_eq!(app.take_seen().remove(0).text(), "hello", "{door}: {body:?}");
            }
        }
        // And what is no body makes it no request.
        let mut client = mesh.outside().await;
        client.send(format!("{head}transfer-encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n")).await;
        assert_eq!(client.head().await.unwrap_or_default().status(), 400);
        assert!(app.take_seen().is_empty());
    });
}

#[test]
fn requests_before_a_refused_one_are_served_and_nothing_behind_it() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let good = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-length: 2\r\n\r\nok");
        for bad in [
            post("content-length: 0\r\ncontent-length: 0\r\n", ""),
            "GET /#f HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
            "garbage between requests\r\n\r\n".to_owned(),
            "\0\0\0\0".to_owned(),
            "\n".to_owned(),
        ] {
            for door in DOORS {
                let what = format!("{door}: {}", bad.escape_debug());
                let mut client = knock(&mesh, door).await;
                client.send([good("/1"), good("/2"), bad.clone(), good("/3")].concat()).await;
                assert_eq!(client.answer().await.status(), 200, "{what}");
                assert_eq!(client.answer().await.status(), 200, "{what}");
                assert_eq!(client.head().await.unwrap_or_default().status(), 400, "{what}");
                assert!(client.rest().await.is_empty(), "{what}");
                let seen: Vec<_> = app.take_seen().iter().map(|request| request.target().to_owned()).collect();
                assert_eq!(seen, ["/1", "/2"], "{what}");
            }
        }
    });
}

#[test]
fn the_log_says_what_two_readers_would_not_agree_on() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let framed = post("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n");
        assert_eq!(mesh.outside().await.ask(framed).await.status(), 400);
        let chunk = post("transfer-encoding: chunked\r\n", "5 \r\nhello\r\n0\r\n\r\n");
        assert_eq!(mesh.outside().await.ask(chunk).await.status(), 400);
        for reason in ["content-length beside transfer-encoding", "a chunk size that is none"] {
            logged(mesh.backend(), |line| {
                let details = line["response_code_details"].as_str().unwrap_or_default();
                line["response_flags"] == "DPE" && line["response_code"] == 400 && details.contains(reason)
            })
            .await;
        }
    });
}

#[test]
fn a_chunk_that_is_not_exactly_one_breaks_the_request_off() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        for body in [
            "zz\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            "5\r\nhelloXX\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "5 ;x\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "5;a\0b\r\nhello\r\n0\r\n\r\n",
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\nx: y\n\r\n",
            "5\r\nhello\r\n0\r\n\n",
            "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
            "5\r\nhello\r\n0\r\nx: a\0b\r\n\r\n",
            &format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(5000)),
        ] {
            for door in DOORS {
                let what = format!("{door}: {}", body.escape_debug());
                let mut client = knock(&mesh, door).await;
                client.send(post("transfer-encoding: chunked\r\n", &format!("{body}{SMUGGLED}"))).await;
                client.end().await;
                let answers = String::from_utf8_lossy(&client.rest().await).into_owned();
                assert!(!answers.contains(" 200 "), "{what}: {answers}");
                // Requests are kept once they are whole: this one never was.
                let seen = app.take_seen();
                assert!(seen.is_empty(), "{what}: {seen:?}");
            }
        }
        assert_eq!(mesh.get("/fine").await.to_string(), "200");
    });
}

#[test]
fn the_body_of_a_refused_request_is_never_read_as_a_request() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        // Everything but POST is allowed, so that a smuggled GET would get through.
        mesh.policies(&policy("no-post", "DENY", "[{to: [{operation: {methods: [POST]}}]}]")).await;
        let filler = "x".repeat(300_000);
        for body in [SMUGGLED.to_owned(), format!("{filler}{SMUGGLED}")] {
            let length = format!("content-length: {}\r\n", body.len());
            let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
            for request in [post(&length, &body), post("transfer-encoding: chunked\r\n", &chunks)] {
                for door in DOORS {
                    let mut client = knock(&mesh, door).await;
                    // What comes after the refusal may be unsendable, because the connection may be closed.
                    client.try_send(&request).await;
                    client.try_send("GET /after HTTP/1.1\r\nhost: backend\r\nconnection: close\r\n\r\n").await;
                    let answer = client.head().await;
                    assert_eq!(answer.unwrap_or_default().status(), 403, "{door}");
                    let rest = String::from_utf8_lossy(&client.rest().await).into_owned();
                    assert!(rest.matches("HTTP/1.1").count() < 2, "{door}: {rest}");
                    let seen = app.take_seen();
                    assert!(seen.iter().all(|request| request.target() == "/after"), "{door}: {seen:?}");
                }
            }
        }
    });
}

#[test]
fn a_request_that_does_not_parse_is_in_the_access_log() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let answer = mesh.outside().await.ask("GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n").await;
        assert_eq!(answer.status(), 400);
        logged(mesh.backend(), |line| line["response_flags"] == "DPE").await;
    });
}

#[test]
fn bytes_that_are_no_http_go_nowhere_where_nothing_says_where() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            let got = wire.rest().await;
            wire.try_send(got).await;
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        for garbage in ["\0\0\0\0", "\u{1}garbage\r\n\r\n", "get / http/1.1\r\n\r\n", "\x16\x03\x01\x00\x02ab"] {
            let mut client = mesh.wire().await;
            client.send(garbage).await;
            assert_eq!(client.rest().await, b"", "{}", garbage.escape_debug());
        }
        assert_eq!(app.connections(), 0);
        logged(&mesh.frontend, |line| line["response_flags"] == "NR" && line["protocol"] == "TCP").await;
        // At the backend's door the port is declared HTTP, and they are no request, whatever the policies say.
        mesh.policies(&policy("get", "ALLOW", "[{to: [{operation: {methods: [GET]}}]}]")).await;
        let mut client = mesh.outside().await;
        client.send("\0\0\0\0").await;
        assert!(client.rest().await.starts_with(b"HTTP/1.1 400 "));
        assert_eq!(app.connections(), 0);
    });
}
