//! What a gRPC client is told when there is no application's answer for it: a status in its own terms.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Frame;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use meshgate::sandbox::until;
use meshgate_tests::run;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

use crate::support::app::{App, Frames, Local, nobody, ok};
use crate::support::mesh::{BACKEND, Mesh, Spec, logged, logged_path, policy};
use crate::support::soon;
use crate::support::wire::{Message, Wire};

fn call(content_type: &str) -> String {
    format!(
        "POST /pkg.Service/Call HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-type: {content_type}\r\ncontent-length: 0\r\n\r\n"
    )
}

fn outcome(answer: &Message) -> (u16, Option<&str>, Option<&str>, Option<&str>) {
    (answer.status(), answer.field("grpc-status"), answer.field("grpc-message"), answer.field("content-type"))
}

#[test]
fn a_refused_call_is_permission_denied() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("none", "ALLOW", "[]")).await;
        let mut client = mesh.wire().await;
        for content_type in ["application/grpc", "application/grpc+proto"] {
            let answer = client.ask(call(content_type)).await;
            let expected = (200, Some("7"), Some("RBAC: access denied"), Some("application/grpc"));
            assert_eq!((outcome(&answer), answer.text().as_str()), (expected, ""), "{content_type}");
        }
        for content_type in ["application/grpc;v=1", "application/grpc-web", "application/json"] {
            let answer = client.ask(call(content_type)).await;
            assert_eq!(outcome(&answer), (403, None, None, Some("text/plain")), "{content_type}");
        }
        assert_eq!(app.connections(), 0);
    });
}

#[test]
fn a_call_to_an_application_that_is_down_is_unavailable() {
    run(async {
        let (_held, address) = nobody();
        let mesh = Mesh::of(address).await;
        let answer = mesh.wire().await.ask(call("application/grpc")).await;
        assert_eq!((answer.status(), answer.field("grpc-status")), (200, Some("14")), "{answer:?}");
        let line = logged_path(mesh.backend(), "/pkg.Service/Call").await;
        assert_eq!(line["response_flags"], "UF");
    });
}

fn with_timeout(timeout: &str) -> String {
    call("application/grpc")
        .replace("content-length", &format!("grpc-timeout: {timeout}\r\nte: trailers\r\ncontent-length"))
}

/// Answers every call with a head and one message, and then says when the other side has ended the stream.
async fn endless(ended: mpsc::UnboundedSender<()>) -> App {
    App::http2(async move |_| {
        let (sender, frames) = Frames::channel();
        sender.send(Frame::data(Bytes::from_static(b"first"))).await.unwrap();
        let ended = ended.clone();
        tokio::task::spawn_local(async move {
            sender.closed().await;
            // The test may be over.
            let _ = ended.send(());
        });
        Response::builder().header("content-type", "application/grpc").body(frames).unwrap()
    })
    .await
}

async fn connect(mesh: &Mesh) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
    let (sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(connection);
    sender
}

fn call_http2(path: &str, timeout: Option<&str>) -> Request<Empty<Bytes>> {
    let request = Request::post(format!("http://{BACKEND}{path}")).header("content-type", "application/grpc");
    let request = timeout.into_iter().fold(request, |request, timeout| request.header("grpc-timeout", timeout));
    request.header("te", "trailers").body(Empty::new()).unwrap()
}

/// The HTTP/2 error code that a body ended with.
fn reason(error: &hyper::Error) -> Option<h2::Reason> {
    std::error::Error::source(error)?.downcast_ref::<h2::Error>()?.reason()
}

#[test]
fn a_call_that_is_not_answered_in_its_time_is_deadline_exceeded_and_ends_at_the_application() {
    run(async {
        let (gone, mut ended) = mpsc::unbounded_channel::<Message>();
        let app = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            while let Some(request) = wire.head().await {
                if request.field("grpc-timeout") == Some("1500m") {
                    wire.rest().await;
                    return gone.send(request).unwrap();
                }
                wire.send(ok("in time")).await;
            }
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        // The way there is made, so that the time goes to the application alone.
        assert_eq!(client.ask(call("application/grpc")).await.text(), "in time");
        let answer = client.ask(with_timeout("1500m")).await;
        let expected = (200, Some("4"), Some("upstream request timeout"), Some("application/grpc"));
        assert_eq!(outcome(&answer), expected);
        let request = soon("the end at the application", ended.recv()).await.unwrap();
        assert_eq!(request.field("te"), Some("trailers"));
        logged(&mesh.frontend, |line| line["path"] == "/pkg.Service/Call" && line["response_flags"] == "UT").await;
        // Longer ones, and what is none, are for the application alone; the connection is as good as before.
        for timeout in ["1H", "0S", "5s", "-1S", "123456789n"] {
            assert_eq!(client.ask(with_timeout(timeout)).await.text(), "in time", "{timeout}");
        }
        let plain = with_timeout("1n").replace("application/grpc", "application/json");
        assert_eq!(client.ask(plain).await.text(), "in time");
    });
}

#[test]
fn a_stream_that_takes_longer_than_its_time_is_reset_on_both_sides() {
    run(async {
        let (gone, mut ended) = mpsc::unbounded_channel();
        let app = endless(gone).await;
        let mesh = Mesh::of(app.address()).await;
        let mut sender = connect(&mesh).await;
        let answer = soon("the head", sender.send_request(call_http2("/slow", Some("1500m")))).await.unwrap();
        let mut body = answer.into_body();
        assert_eq!(soon("a message", body.frame()).await.unwrap().unwrap().into_data().unwrap(), "first");
        let error = soon("the end", body.frame()).await.unwrap().unwrap_err();
        assert_eq!(reason(&error), Some(h2::Reason::CANCEL));
        soon("the end at the application", ended.recv()).await.unwrap();
        assert_eq!(logged_path(&mesh.frontend, "/slow").await["response_flags"], "UT");
        // The connection goes on.
        let answer = soon("the head", sender.send_request(call_http2("/next", None))).await.unwrap();
        assert_eq!((answer.status().as_u16(), app.connections()), (200, 1));
    });
}

#[test]
fn a_hasty_client_puts_no_endpoint_out_of_rotation() {
    run(async {
        let hang = async || {
            App::http1(|request| match request.field("grpc-timeout") {
                Some(_) => String::new(),
                None => ok("served"),
            })
            .await
        };
        let (one, other) = (hang().await, hang().await);
        let lines = "outlierDetection: {consecutiveFailures: 1, baseEjectionTime: 10m}\n".to_owned();
        let spec = Spec { frontend: lines, ..Spec::of(&[one.address(), other.address()]) };
        let mesh = Mesh::start(spec).await;
        for _ in 0..4 {
            assert_eq!(mesh.wire().await.ask(with_timeout("30m")).await.field("grpc-status"), Some("4"));
        }
        assert_eq!(mesh.frontend.metric("mesh_endpoints_ejected").await, Some(0.0));
    });
}

#[test]
fn every_error_of_ours_is_one_in_grpcs_terms_with_an_empty_body() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            if let Some(request) = wire.head().await
                && request.target() == "/garbage"
            {
                wire.send("this is no HTTP\r\n\r\n").await;
            }
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        for (path, change, expected) in [
            ("/garbage", "", "13"),
            ("/reset", "", "14"),
            ("/a", "content_length: 1\r\n", "13"),
            ("/%00", "", "13"),
            ("/a", "expect: other\r\n", "13"),
            ("/a", "connection: x\r\nupgrade: websocket\r\n", "13"),
        ] {
            let request = call("application/grpc").replace("/pkg.Service/Call", path);
            let request = request.replace("content-type", &format!("{change}content-type"));
            let answer = mesh.wire().await.ask(request).await;
            let got = (answer.status(), answer.field("grpc-status"), answer.field("content-length"), answer.text());
            assert_eq!(got, (200, Some(expected), Some("0"), String::new()), "{path} {change}");
        }
        let spec = Spec { registry_only: true, ..Spec::of(&[app.address()]) };
        let mesh = Mesh::start(spec).await;
        let nowhere = call("application/grpc").replace(BACKEND, "nowhere.example");
        assert_eq!(mesh.wire().await.ask(nowhere).await.field("grpc-status"), Some("12"));
    });
}

#[test]
fn a_stream_that_the_application_resets_is_reset_for_the_client_for_the_same_reason() {
    run(async {
        let had = Rc::new(Notify::new());
        let seen = Rc::clone(&had);
        let app = App::tcp(async move |stream| {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                let mut stream = respond.send_response(head, false).unwrap();
                stream.send_data(Bytes::from_static(b"first"), false).unwrap();
                // After the client has had it, not before.
                let seen = Rc::clone(&seen);
                tokio::task::spawn_local(async move {
                    seen.notified().await;
                    stream.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
                });
            }
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut sender = connect(&mesh).await;
        let answer = soon("the head", sender.send_request(call_http2("/reset", None))).await.unwrap();
        let mut body = answer.into_body();
        assert_eq!(soon("a message", body.frame()).await.unwrap().unwrap().into_data().unwrap(), "first");
        had.notify_one();
        let error = soon("the end", body.frame()).await.unwrap().unwrap_err();
        assert_eq!(reason(&error), Some(h2::Reason::ENHANCE_YOUR_CALM));
        assert_eq!(logged_path(mesh.backend(), "/reset").await["response_flags"], "UC");
    });
}

#[test]
fn a_call_that_its_client_gives_up_before_the_head_ends_at_the_application() {
    run(async {
        let called = Rc::new(Cell::new(false));
        let noted = Rc::clone(&called);
        let (gone, mut ended) = mpsc::unbounded_channel();
        let app = App::http2(async move |_| {
            noted.set(true);
            struct Gone(mpsc::UnboundedSender<()>);
            impl Drop for Gone {
                fn drop(&mut self) {
                    // The test may be over.
                    let _ = self.0.send(());
                }
            }
            let _gone = Gone(gone.clone());
            std::future::pending::<Response<Empty<Bytes>>>().await
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut sender = connect(&mesh).await;
        let calling = tokio::task::spawn_local(sender.send_request(call_http2("/given-up", None)));
        until("the call", async || called.get().then_some(())).await.unwrap();
        calling.abort();
        soon("the end at the application", ended.recv()).await.unwrap();
        assert_eq!(logged_path(&mesh.frontend, "/given-up").await["response_flags"], "DC");
    });
}

#[test]
fn a_trailers_only_answer_and_its_status_pass_as_they_are() {
    run(async {
        let app = App::http2(async |request: Request<_>| {
            let response = Response::builder().header("content-type", "application/grpc");
            let (sender, frames) = Frames::channel();
            if request.uri().path() == "/only" {
                return response.header("grpc-status", "5").header("grpc-message", "none").body(frames).unwrap();
            }
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("9"))]);
            sender.send(Frame::trailers(trailers)).await.unwrap();
            response.body(frames).unwrap()
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut sender = connect(&mesh).await;
        let answer = soon("the head", sender.send_request(call_http2("/only", None))).await.unwrap();
        assert_eq!(
            (&answer.headers()["grpc-status"], &answer.headers()["grpc-message"]),
            (&"5".parse::<HeaderValue>().unwrap(), &"none".parse().unwrap())
        );
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "");
        let answer = soon("the head", sender.send_request(call_http2("/late", None))).await.unwrap();
        let trailers = answer.into_body().frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "9");
    });
}
