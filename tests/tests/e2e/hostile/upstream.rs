//! Applications that answer what no client should see.

use std::cell::Cell;
use std::rc::Rc;

use meshgate_tests::run;
use tokio::sync::Notify;

use crate::support::app::{App, ok};
use crate::support::mesh::{BACKEND, Mesh, logged_path};
use crate::support::wire::Wire;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")
}

#[test]
fn an_answer_that_is_no_http_becomes_a_502_or_503_and_its_connection_is_not_used_again() {
    run(async {
        for (answer, status, flag) in [
            ("garbage\r\n\r\n".to_owned(), 502, "UPE"),
            ("HTTP/1.1 abc OK\r\n\r\n".to_owned(), 502, "UPE"),
            ("HTTP/1.1 99 Low\r\ncontent-length: 0\r\n\r\n".to_owned(), 502, "UPE"),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n".to_owned(), 502, "UPE"),
            ("HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n".to_owned(), 502, "UPE"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned(), 502, "UPE"),
            ("HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\na".to_owned(), 502, "UPE"),
            (
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".to_owned(),
                502,
                "UPE",
            ),
            ("HTTP/1.1 000 Zero\r\ncontent-length: 0\r\n\r\n".to_owned(), 502, "UPE"),
            ("HTTP/1.1 1000 High\r\ncontent-length: 0\r\n\r\n".to_owned(), 502, "UPE"),
            ("HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 0\r\n\r\n".to_owned(), 502, "UPE"),
            ("HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 0\r\n\r\n".to_owned(), 502, "UPE"),
            ("HTTP/1.1 200 OK\nx: a\ncontent-length: 0\n\n".to_owned(), 502, "UPE"),
            ("HTTP/1.1 200 OK\r\nx: a\nset-cookie: b=c\r\ncontent-length: 0\r\n\r\n".to_owned(), 502, "UPE"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n".to_owned(), 502, "UPE"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(), 502, "UPE"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
                502,
                "UPE",
            ),
            (format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(100_000)), 502, "UPE"),
            (String::new(), 503, "UC"),
            ("HTTP/1.1 200 OK\r\ncontent-le".to_owned(), 503, "UC"),
        ] {
            let what = answer.chars().take(60).collect::<String>().escape_debug().to_string();
            let bad = Cell::new(true);
            let app = App::tcp(async move |stream| {
                let mut wire = Wire::over(stream);
                // The first connection is answered badly, and then closed only when what was to be said is nothing else.
                let bad = bad.replace(false);
                while wire.request().await.is_some() {
                    if bad {
                        wire.try_send(&answer).await;
                        if answer.is_empty() || answer.ends_with("le") {
                            return;
                        }
                    } else {
                        wire.try_send(ok("good")).await;
                    }
                }
            })
            .await;
            let mesh = Mesh::of(app.address()).await;
            let mut client = mesh.wire().await;
            let got = client.ask(get("/bad")).await;
            assert_eq!(got.status(), status, "{what}: {got:?}");
            let line = logged_path(mesh.backend(), "/bad").await;
            assert_eq!(line["response_flags"], flag, "{what}: {line:#}");
            assert_eq!(mesh.wire().await.ask(get("/next")).await.text(), "good", "{what}");
            assert_eq!(app.connections(), 2, "{what}");
        }
    });
}

#[test]
fn a_second_answer_to_one_request_is_never_given_to_the_next() {
    run(async {
        let app = App::http1(|request| ok(request.target()) + &ok("poison")).await;
        let mesh = Mesh::of(app.address()).await;
        let mut clients = [mesh.wire().await, mesh.wire().await];
        for number in 0..20 {
            let path = format!("/{number}");
            let answer = clients[number % 2].ask(get(&path)).await;
            assert_eq!((answer.status(), answer.text()), (200, path));
        }
    });
}

#[test]
fn bytes_behind_a_head_answer_or_a_204_are_never_given_to_the_next() {
    run(async {
        let app = App::http1(|request| match request.start.split(' ').next() {
            Some("HEAD") => ok("a body that must not be"),
            Some("DELETE") => format!("HTTP/1.1 204 No Content\r\ncontent-length: 50\r\n\r\n{}", ok("poison")),
            _ => ok(request.target()),
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        for number in 0..5 {
            client.send(format!("HEAD / HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")).await;
            assert_eq!(client.head().await.unwrap().status(), 200);
            client.send(format!("DELETE / HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")).await;
            let head = client.head().await.unwrap();
            assert_eq!((head.status(), head.field("content-length")), (204, None));
            let path = format!("/{number}");
            assert_eq!(client.ask(get(&path)).await.text(), path);
        }
    });
}

#[test]
fn an_answer_that_comes_before_its_request_is_nobodys() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            while let Some(request) = wire.request().await {
                wire.try_send(ok(request.target())).await;
                // Not in one segment with the real answer: it comes while the connection rests in the pool.
                wire.try_send("").await;
                tokio::task::yield_now().await;
                wire.try_send(ok("early poison")).await;
            }
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        for number in 0..20 {
            let path = format!("/{number}");
            assert_eq!(mesh.wire().await.ask(get(&path)).await.text(), path);
        }
    });
}

#[test]
fn interim_answers_do_not_end_the_exchange() {
    run(async {
        let app = App::http1(|_| {
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_owned() + &ok("final")
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        for _ in 0..3 {
            let mut answer = client.ask(get("/")).await;
            while answer.status() < 200 {
                answer = client.answer().await;
            }
            assert_eq!((answer.status(), answer.text().as_str()), (200, "final"));
        }
    });
}

#[test]
fn an_answer_that_breaks_off_or_breaks_the_rules_in_its_body_never_ends_cleanly() {
    run(async {
        let head = "HTTP/1.1 200 OK\r\n";
        for answer in [
            "content-length: 10\r\n\r\nhello",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "transfer-encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n0\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5 \r\nworld\r\n0\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\n\r\n",
        ] {
            let bad = Cell::new(true);
            let app = App::tcp(async move |stream| {
                let mut wire = Wire::over(stream);
                while wire.request().await.is_some() {
                    if bad.replace(false) {
                        wire.try_send(format!("{head}{answer}")).await;
                        return;
                    }
                    wire.try_send(ok("good")).await;
                }
            })
            .await;
            let mesh = Mesh::of(app.address()).await;
            let what = answer.escape_debug();
            let mut client = mesh.wire().await;
            client.send(get("/cut")).await;
            let got = String::from_utf8_lossy(&client.rest().await).into_owned();
            let is_whole = got.ends_with("0\r\n\r\n") || got.contains("content-length: 5\r\n");
            assert!(!is_whole, "{what}: {}", got.escape_debug());
            assert_eq!(mesh.wire().await.ask(get("/next")).await.text(), "good", "{what}");
        }
    });
}

#[test]
fn a_client_that_breaks_its_bodies_off_does_not_put_the_upstream_out_of_rotation() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        for _ in 0..20 {
            let mut client = mesh.wire().await;
            let broken = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n";
            client.send(format!("PUT /broken HTTP/1.1\r\nhost: {BACKEND}\r\n{broken}")).await;
            client.rest().await;
        }
        assert_eq!(mesh.wire().await.ask(get("/next")).await.status(), 200);
        let line = logged_path(&mesh.frontend, "/broken").await;
        assert_eq!(
            (line["response_flags"].as_str(), line["response_code"].as_u64()),
            (Some("DPE"), Some(400)),
            "{line:#}"
        );
    });
}

#[test]
fn an_answer_that_is_reset_in_the_middle_never_ends_cleanly() {
    run(async {
        let see = Rc::new(Notify::new());
        let seen = Rc::clone(&see);
        let app = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            let Some(request) = wire.request().await else { return };
            let framing =
                if request.target() == "/length" { "content-length: 100" } else { "transfer-encoding: chunked" };
            wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n4\r\npart\r\n")).await;
            // Not before the client has seen the part.
            seen.notified().await;
            wire.stream().set_zero_linger().unwrap();
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        for path in ["/length", "/chunked"] {
            let mut client = mesh.wire().await;
            client.send(format!("POST {path} HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-length: 0\r\n\r\n")).await;
            assert_eq!(client.head().await.unwrap().status(), 200, "{path}");
            assert_eq!(client.exactly(4).await.unwrap(), b"4\r\np", "{path}");
            see.notify_one();
            let rest = String::from_utf8(client.rest().await).unwrap();
            assert!(rest.len() < 50 && !rest.ends_with("0\r\n\r\n"), "{path}: a clean end was made up: {rest:?}");
            assert_eq!(logged_path(&mesh.frontend, path).await["response_flags"], "UC", "{path}");
        }
    });
}

#[test]
fn an_early_413_reaches_a_client_that_is_still_sending() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            let Some(head) = wire.head().await else { return };
            if head.target() == "/large" {
                wire.send("HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 5\r\n\r\nlarge")
                    .await;
                wire.end().await;
                wire.rest().await;
            } else {
                wire.send(ok("good")).await;
            }
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        for framing in ["content-length: 100000000", "transfer-encoding: chunked"] {
            let mut client = mesh.wire().await;
            client
                .send(format!("PUT /large HTTP/1.1\r\nhost: {BACKEND}\r\n{framing}\r\n\r\n10\r\n0123456789abcdef\r\n"))
                .await;
            let answer = client.answer().await;
            assert_eq!((answer.status(), answer.text().as_str()), (413, "large"), "{framing}");
            assert_eq!(mesh.wire().await.ask(get("/next")).await.text(), "good", "{framing}");
        }
    });
}

#[test]
fn trailers_that_are_none_break_the_answer_off() {
    run(async {
        for (trailers, what) in [
            ("no colon\r\n\r\n".to_owned(), "no colon"),
            ("x: a\0b\r\n\r\n".to_owned(), "NUL"),
            (format!("x: {}\r\n\r\n", "a".repeat(100_000)), "too long"),
            ("x: 1\r\n".repeat(10_000) + "\r\n", "too many"),
        ] {
            let bad = Cell::new(true);
            let app = App::tcp(async move |stream| {
                let mut wire = Wire::over(stream);
                while wire.request().await.is_some() {
                    let answer = match bad.replace(false) {
                        true => {
                            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n0\r\n{trailers}")
                        }
                        false => ok("good"),
                    };
                    if !wire.try_send(answer).await {
                        return;
                    }
                }
            })
            .await;
            let mesh = Mesh::of(app.address()).await;
            let mut client = mesh.wire().await;
            client.send(get("/trailers")).await;
            assert_eq!(client.head().await.unwrap().status(), 200, "{what}");
            let rest = String::from_utf8_lossy(&client.rest().await).into_owned();
            assert!(rest.starts_with("4\r\npart\r\n") && !rest.ends_with("0\r\n\r\n"), "{what}: {rest:?}");
            assert_eq!(mesh.wire().await.ask(get("/next")).await.text(), "good", "{what}");
        }
    });
}
