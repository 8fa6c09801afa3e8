//! Where HTTP/1 has corners: expectations, answers before the request is over, half-closed connections, HTTP/1.0.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use meshgate::sandbox::until;
use meshgate_tests::run;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::app::{App, Frames, Local, full, ok};
use crate::support::mesh::{BACKEND, Mesh, Spec, logged, logged_path, policy};
use crate::support::soon;
use crate::support::wire::Wire;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")
}

fn expecting(path: &str, expectation: &str) -> String {
    format!("PUT {path} HTTP/1.1\r\nhost: {BACKEND}\r\nexpect: {expectation}\r\ncontent-length: 4\r\n\r\n")
}

#[test]
fn a_body_that_the_application_does_not_want_is_never_asked_for() {
    run(async {
        for version in ["1.1 401 Unauthorized", "1.1 413 Content Too Large", "1.1 417 Expectation Failed"] {
            let (said, mut heard) = mpsc::unbounded_channel();
            let app = App::tcp(async move |stream| {
                let mut wire = Wire::over(stream);
                let head = wire.head().await.unwrap();
                wire.send(format!("HTTP/{version}\r\ncontent-length: 2\r\n\r\nno")).await;
                said.send((head.field("expect").map(str::to_owned), wire.rest().await)).unwrap();
            })
            .await;
            let mesh = Mesh::of(app.address()).await;
            let mut client = mesh.wire().await;
            // The first thing that it reads is the answer, and no 100.
            let answer = client.ask(expecting("/upload", "100-continue")).await;
            assert_eq!((answer.start, answer.body), (format!("HTTP/{version}"), b"no".to_vec()));
            drop(client);
            let (expectation, body) = soon("the end", heard.recv()).await.unwrap();
            assert_eq!((expectation.as_deref(), body.as_slice()), (Some("100-continue"), &b""[..]));
        }
    });
}

#[test]
fn the_client_is_told_to_go_on_when_the_application_says_so() {
    run(async {
        let (go, wait) = mpsc::unbounded_channel::<()>();
        let wait = tokio::sync::Mutex::new(wait);
        let app = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            wire.head().await.unwrap();
            wait.lock().await.recv().await.unwrap();
            wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            let body = wire.exactly(4).await.unwrap();
            wire.send(ok(&String::from_utf8_lossy(&body))).await;
        })
        .await;
        // Longer than anybody here is waited for: it is the application's word that counts.
        let lines = "http: {expectContinue: 10m}\n".to_owned();
        let spec = Spec { backend: lines.clone(), frontend: lines, ..Spec::of(&[app.address()]) };
        let mesh = Mesh::start(spec).await;
        let mut client = mesh.wire().await;
        client.send(expecting("/", "100-continue")).await;
        until("the request", async || (app.connections() == 1).then_some(())).await.unwrap();
        assert!(client.stream().try_read(&mut [0; 16]).is_err(), "told before the application said so");
        go.send(()).unwrap();
        assert_eq!(client.answer().await.start, "HTTP/1.1 100 Continue");
        assert_eq!(client.ask("body").await.text(), "body");
    });
}

#[test]
fn an_application_that_knows_no_expectations_is_sent_the_body_after_a_while() {
    run(async {
        let app = App::http1(|request| ok(&request.text())).await;
        let lines = "http: {expectContinue: 50ms}\n".to_owned();
        let spec = Spec { backend: lines.clone(), frontend: lines, ..Spec::of(&[app.address()]) };
        let mesh = Mesh::start(spec).await;
        let mut client = mesh.wire().await;
        assert_eq!(client.ask(expecting("/", "100-Continue")).await.status(), 100);
        assert_eq!(client.ask("body").await.text(), "body");
        // Nobody waits who has nothing to send, or who speaks HTTP/1.0.
        let none = format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\nexpect: 100-continue\r\n\r\n");
        assert_eq!(client.ask(none).await.status(), 200);
        let old = expecting("/", "100-continue").replace("HTTP/1.1", "HTTP/1.0");
        assert_eq!(client.ask(format!("{old}body")).await.text(), "body");
        let expectations: Vec<_> =
            app.take_seen().iter().map(|request| request.field("expect").map(str::to_owned)).collect();
        assert_eq!(expectations, [Some("100-Continue".to_owned()), None, None]);
    });
}

#[test]
fn an_expectation_that_nobody_knows_is_a_417_and_its_body_no_request() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        for expectation in ["200-ok", "100-continue, x", "100-continue\r\nexpect: 100-continue"] {
            let mut client = mesh.wire().await;
            let answer = client.ask(format!("{}body", expecting("/", expectation))).await;
            assert_eq!((answer.status(), answer.text().as_str()), (417, "expectation failed"), "{expectation}");
            assert_eq!(logged(&mesh.frontend, |line| line["response_code"] == 417).await["response_flags"], "DPE");
        }
        assert_eq!(app.take_seen(), []);
    });
}

#[test]
fn interim_answers_other_than_100_are_dropped_and_the_answer_is_whole() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            while wire.head().await.is_some() {
                // With the 100 as many as there may be, of each request anew.
                wire.send("HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n".repeat(99)).await;
                wire.send(format!("HTTP/1.1 100 Continue\r\n\r\n{}", ok("whole"))).await;
            }
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        for _ in 0..2 {
            let answer = client.ask(get("/hints")).await;
            assert_eq!((answer.status(), answer.text().as_str(), answer.field("link")), (200, "whole", None));
        }
        assert_eq!(app.connections(), 1);
    });
}

#[test]
fn interim_answers_without_end_do_not_make_an_answer_late_for_ever_and_too_many_are_none() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            match wire.head().await {
                Some(request) if request.target() == "/flood" => {
                    while wire.try_send("HTTP/1.1 102 Processing\r\n\r\n".repeat(100)).await {}
                }
                Some(request) if request.target() == "/slow" => {
                    // Few enough, each well before its caller has had enough of waiting.
                    while wire.try_send("HTTP/1.1 102 Processing\r\n\r\n").await {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
                _ => wire.send(ok("other")).await,
            }
        })
        .await;
        let spec = Spec { backend: "retries: {perTryTimeout: 1s}\n".to_owned(), ..Spec::of(&[app.address()]) };
        let mesh = Mesh::start(spec).await;
        let mut client = mesh.wire().await;
        client.send(get("/slow")).await;
        until("the request", async || (app.connections() == 1).then_some(())).await.unwrap();
        assert_eq!(mesh.get("/other").await.to_string(), "200");
        assert_eq!(client.answer().await.status(), 504);
        assert_eq!(logged_path(mesh.backend(), "/slow").await["response_flags"], "UT");
        assert_eq!(mesh.wire().await.ask(get("/flood")).await.status(), 502);
        assert_eq!(logged_path(mesh.backend(), "/flood").await["response_flags"], "UPE");
    });
}

#[test]
fn an_early_answer_over_http_2_arrives_and_the_upload_is_stopped() {
    run(async {
        let app = App::http2(async |_| {
            let mut response = Response::new(full("large"));
            *response.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
            response
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
        let (mut sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        for _ in 0..2 {
            let (upload, frames) = Frames::channel();
            let request = Request::post(format!("http://{BACKEND}/upload")).body(frames).unwrap();
            let answer = soon("the answer", sender.send_request(request)).await.unwrap();
            assert_eq!(answer.status(), 413);
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "large");
            // Nobody takes any more of it.
            let pushing = async { while upload.send(Frame::data(Bytes::from(vec![0; 16384]))).await.is_ok() {} };
            soon("the upload to be stopped", pushing).await;
        }
        // A stream that ended is no reason to end the connection.
        assert_eq!(app.connections(), 1);
    });
}

#[test]
fn a_client_that_ends_its_direction_has_gone_and_so_has_its_request() {
    run(async {
        let (gone, mut ended) = mpsc::unbounded_channel::<()>();
        let app = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            if wire.head().await.is_some() {
                wire.rest().await;
                gone.send(()).unwrap();
            }
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        client.send(get("/half")).await;
        until("the request", async || (app.connections() == 1).then_some(())).await.unwrap();
        client.end().await;
        soon("the end at the application", ended.recv()).await.unwrap();
        assert_eq!(client.rest().await, b"");
        assert_eq!(logged_path(&mesh.frontend, "/half").await["response_flags"], "DC");
    });
}

#[test]
fn http_1_0_is_kept_alive_only_where_it_asks_for_that_and_the_end_can_be_told() {
    run(async {
        let app = App::http1(|request| match request.target() {
            "/known" => ok("known"),
            _ => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nend\r\n0\r\n\r\n".to_owned(),
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let old = |path: &str, more: &str| format!("GET {path} HTTP/1.0\r\nhost: {BACKEND}\r\n{more}\r\n");
        let mut client = mesh.wire().await;
        for _ in 0..2 {
            let answer = client.ask(old("/known", "connection: keep-alive\r\n")).await;
            assert_eq!((answer.start.as_str(), answer.text().as_str()), ("HTTP/1.0 200 OK", "known"));
            assert_eq!(answer.field("connection"), Some("keep-alive"));
        }
        // Without a length the connection's end is the answer's.
        let answer = client.ask(old("/open", "connection: keep-alive\r\n")).await;
        assert_eq!((answer.text().as_str(), answer.field("transfer-encoding")), ("end", None));
        assert_eq!(client.rest().await, b"");
        let mut client = mesh.wire().await;
        assert_eq!(client.ask(old("/known", "")).await.text(), "known");
        assert_eq!(client.rest().await, b"");
    });
}

#[test]
fn an_application_that_speaks_http_1_0_is_understood_and_its_connection_not_used_again() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            let Some(request) = wire.head().await else { return };
            wire.send(match request.target() {
                "/length" => "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nwhole",
                "/cut" => "HTTP/1.0 200 OK\r\ncontent-length: 50\r\n\r\nwhole",
                _ => "HTTP/1.0 200 OK\r\n\r\nto the end",
            })
            .await;
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        let answer = client.ask(get("/length")).await;
        assert_eq!((answer.start.as_str(), answer.text().as_str()), ("HTTP/1.1 200 OK", "whole"));
        let answer = client.ask(get("/open")).await;
        assert_eq!((answer.text().as_str(), answer.field("transfer-encoding")), ("to the end", Some("chunked")));
        assert_eq!(client.ask(get("/length")).await.text(), "whole");
        assert_eq!(app.connections(), 3);
        // What has a length and ends before it is known to be cut.
        client.send(get("/cut")).await;
        assert_eq!(client.head().await.unwrap().field("content-length"), Some("50"));
        assert_eq!(client.rest().await, b"whole");
        assert_eq!(logged_path(mesh.backend(), "/cut").await["response_flags"], "UC");
    });
}

#[test]
fn of_pipelined_requests_a_refused_one_is_answered_in_its_place_and_a_malformed_one_is_the_last() {
    run(async {
        let app = App::http1(|request| ok(request.target())).await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("secret", "DENY", "[{to: [{operation: {paths: [/secret]}}]}]")).await;
        let mut client = mesh.wire().await;
        let malformed = get("/bad").replace("host: ", "host: a\r\nhost: ");
        client.send([get("/1"), get("/secret"), get("/2"), malformed, get("/never")].concat()).await;
        assert_eq!(client.answer().await.text(), "/1");
        assert_eq!(client.answer().await.status(), 403);
        assert_eq!(client.answer().await.text(), "/2");
        assert_eq!(client.answer().await.status(), 400);
        assert_eq!(client.rest().await, b"");
        let seen: Vec<String> = app.take_seen().iter().map(|request| request.target().to_owned()).collect();
        assert_eq!(seen, ["/1", "/2"]);
    });
}

#[test]
fn head_204_and_304_have_no_body_over_http_2_and_keep_what_is_said_of_one() {
    run(async {
        let app = App::http2(async |request: Request<_>| {
            let response = Response::builder();
            let response = match request.uri().path() {
                "/204" => response.status(204),
                "/304" => response.status(304).header("etag", "\"a\""),
                _ => response.header("content-length", "1234"),
            };
            response.body(full("")).unwrap()
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
        let (mut sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        for (method, path, status, field, value) in [
            ("HEAD", "/head", 200, "content-length", Some("1234")),
            ("GET", "/204", 204, "content-length", None),
            ("GET", "/304", 304, "etag", Some("\"a\"")),
        ] {
            let request = Request::builder().method(method).uri(format!("http://{BACKEND}{path}"));
            let request = request.body(full("")).unwrap();
            let answer = soon("the answer", sender.send_request(request)).await.unwrap();
            let said = answer.headers().get(field).map(|value| value.to_str().unwrap());
            assert_eq!((answer.status().as_u16(), said), (status, value), "{path}");
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "");
        }
    });
}
