//! A request goes on in the version it came in, unless who is called knows only the other.

use http::{HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use meshgate_tests::run;

use super::http2::connect;
use crate::support::app::{App, ok};
use crate::support::mesh::{BACKEND, Mesh, Spec, logged_path};
use crate::support::soon;
use crate::support::wire::Message;

/// Whether what an application of old read is a piece of HTTP/2's preface.
fn is_preface(request: &Message) -> bool {
    ["PRI * HTTP/2.0", "SM"].contains(&request.start.as_str())
}

/// Knows HTTP/1 alone, and says so as its like do.
async fn old() -> App {
    App::http1(|request| match request.start.as_str() {
        "PRI * HTTP/2.0" | "SM" => {
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
        }
        start if start.starts_with("GET /trailers") => {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n4\r\nbody\r\n0\r\nx: y\r\n\r\n"
                .to_owned()
        }
        _ => ok(&String::from_utf8_lossy(&request.body)),
    })
    .await
}

#[test]
fn an_application_without_http_2_gets_http_1_and_its_caller_does_not_notice() {
    run(async {
        let app = old().await;
        let mesh = Mesh::of(app.address()).await;
        let mut sender = connect(&mesh).await;
        for number in 0..5 {
            let call = Request::post(format!("http://{BACKEND}/call?{number}"));
            let call = call.header("te", "trailers").body(Full::from(format!("body {number}"))).unwrap();
            let answer = soon("an answer", sender.send_request(call)).await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), format!("body {number}"));
        }
        let seen = app.take_seen();
        // Asked once what it speaks.
        assert_eq!(seen.iter().filter(|request| request.start.starts_with("PRI")).count(), 1, "{seen:?}");
        assert_eq!(app.connections(), 2);
        let calls: Vec<_> = seen.iter().filter(|request| !is_preface(request)).collect();
        assert_eq!(calls.len(), 5);
        for (number, call) in calls.iter().enumerate() {
            assert_eq!(call.start, format!("POST /call?{number} HTTP/1.1"));
            assert_eq!((call.field("host"), call.text()), (Some(BACKEND), format!("body {number}")));
        }
        assert_eq!(logged_path(mesh.backend(), "/call?0").await["protocol"], "HTTP/2");
        let call = Request::get(format!("http://{BACKEND}/trailers")).body(Full::default()).unwrap();
        let body = soon("trailers", sender.send_request(call)).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x"], "y");
        // HTTP/1 meanwhile goes its usual way, over the same port.
        assert_eq!(mesh.get("/plain").await.to_string(), "200");
    });
}

#[test]
fn grpc_is_never_translated() {
    run(async {
        let app = old().await;
        let mesh = Mesh::of(app.address()).await;
        let mut sender = connect(&mesh).await;
        for _ in 0..2 {
            let mut call = Request::post(format!("http://{BACKEND}/pkg.Service/Call")).body(Full::from("x")).unwrap();
            call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            let answer = soon("an answer", sender.send_request(call)).await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()["grpc-status"]),
                (200, &HeaderValue::from_static("13"))
            );
        }
        assert!(app.take_seen().iter().all(is_preface));
    });
}

#[test]
fn a_port_that_is_declared_http_2_gets_it_whatever_its_callers_speak() {
    run(async {
        for name in ["http2", "grpc"] {
            let app = App::http2(async |request: Request<Incoming>| {
                let (head, body) = request.into_parts();
                assert_eq!(head.version, Version::HTTP_2);
                let said = format!("{} {} {}", head.method, head.uri, head.headers.contains_key("host"));
                let body = body.collect().await.unwrap().to_bytes();
                Response::new(Full::from([said.as_bytes(), b" ", &body].concat()))
            })
            .await;
            let mut spec = Spec::of(&[app.address()]);
            spec.port_name = name;
            let mesh = Mesh::start(spec).await;
            let mut client = mesh.wire().await;
            for _ in 0..3 {
                let answer = client
                    .ask(format!("POST /a?b HTTP/1.1\r\nhost: {BACKEND}\r\nconnection: x\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
                    .await;
                assert_eq!(
                    (answer.status(), answer.text()),
                    (200, format!("POST http://{BACKEND}/a?b false abc")),
                    "{name}"
                );
                assert!(answer.start.starts_with("HTTP/1.1 "));
            }
            assert_eq!(app.connections(), 1, "{name}");
        }
    });
}
