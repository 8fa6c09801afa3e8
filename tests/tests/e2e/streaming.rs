//! Bodies stream: memory stays small however large they are, nothing waits for their end, and an end is never made up.

mod memory;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use meshgate_tests::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::app::{App, Frames, Local, full};
use crate::support::mesh::{BACKEND, Mesh, Spec, logged_path, policy};
use crate::support::soon;
use crate::support::wire::Wire;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")
}

#[test]
fn each_chunk_arrives_before_the_next_is_made_in_either_direction() {
    run(async {
        // Answers each chunk of the request with one of its own, as it comes.
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            wire.head().await.unwrap();
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            while let Some(chunk) = wire.exactly("5\r\nhello\r\n".len()).await {
                wire.send(chunk).await;
            }
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        client.send(format!("POST / HTTP/1.1\r\nhost: {BACKEND}\r\ntransfer-encoding: chunked\r\n\r\n")).await;
        assert_eq!(client.head().await.unwrap().status(), 200);
        for _ in 0..10 {
            client.send("5\r\nhello\r\n").await;
            assert_eq!(client.exactly("5\r\nhello\r\n".len()).await.unwrap(), b"5\r\nhello\r\n");
        }
    });
}

#[test]
fn a_client_that_goes_away_ends_the_exchange_at_the_application() {
    run(async {
        let (gone, mut goes) = mpsc::channel(2);
        let app = App::tcp(async move |mut stream| {
            let mut head = vec![0; 4096];
            let len = stream.read(&mut head).await.unwrap();
            if head[..len].starts_with(b"GET /endless") {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
            } else {
                // Never answers.
                let _ = stream.read(&mut head).await;
            }
            gone.send(()).await.unwrap();
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        client.send(get("/endless")).await;
        assert_eq!(client.head().await.unwrap().status(), 200);
        assert!(goes.try_recv().is_err());
        drop(client);
        soon("the application's write to fail", goes.recv()).await.unwrap();
        assert_eq!(logged_path(&mesh.frontend, "/endless").await["response_flags"], "DC");
        let mut client = mesh.wire().await;
        client.send(get("/hanging")).await;
        meshgate::sandbox::until("the request's arrival", async || (app.connections() == 2).then_some(()))
            .await
            .unwrap();
        drop(client);
        soon("the application's read to end", goes.recv()).await.unwrap();
        let line = logged_path(mesh.backend(), "/hanging").await;
        assert_eq!((line["response_flags"].as_str(), line["response_code"].as_u64()), (Some("DC"), Some(0)));
    });
}

#[test]
fn an_answer_that_breaks_off_never_ends_cleanly() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            let Some(request) = wire.request().await else { return };
            wire.send(match request.target() {
                "/length" => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart",
                "/chunked" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n",
                "/in-chunk" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\npart",
                _ => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\nzz\r\n",
            })
            .await;
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        for path in ["/length", "/chunked", "/in-chunk", "/bad-chunk"] {
            let mut client = mesh.wire().await;
            client.send(get(path)).await;
            let head = client.head().await.unwrap();
            assert_eq!(head.status(), 200, "{path}");
            let rest = String::from_utf8(client.rest().await).unwrap();
            if path == "/length" {
                assert_eq!(head.field("content-length"), Some("100"));
                assert_eq!(rest, "part");
            } else {
                assert!(!rest.ends_with("0\r\n\r\n"), "{path}: a clean end was made up: {rest:?}");
            }
            for sidecar in [mesh.backend(), &mesh.frontend] {
                let line = logged_path(sidecar, path).await;
                assert_eq!(line["response_flags"], "UC", "{path}: {line:#}");
                assert_eq!(line["response_code"], 200, "{path}: {line:#}");
            }
        }
    });
}

#[test]
fn an_http_2_answer_that_breaks_off_is_reset() {
    run(async {
        let (die, dies) = tokio::sync::oneshot::channel::<()>();
        let dies = std::cell::Cell::new(Some(dies));
        let app = App::tcp(async move |mut stream| {
            let (sender, frames) = Frames::channel();
            sender.send(Frame::data(Bytes::from_static(b"part"))).await.unwrap();
            let frames = std::cell::Cell::new(Some(frames));
            let service = hyper::service::service_fn(|_| {
                let frames = frames.take().unwrap();
                async move { Ok::<_, std::convert::Infallible>(Response::new(frames)) }
            });
            let serving =
                hyper::server::conn::http2::Builder::new(Local).serve_connection(TokioIo::new(&mut stream), service);
            tokio::select! {
                _ = serving => {}
                _ = dies.take().unwrap() => {}
            }
            drop(sender);
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut sender = http2_client(&mesh).await;
        let answer = soon("the head", sender.send_request(request("/cut"))).await.unwrap();
        let mut body = answer.into_body();
        assert_eq!(soon("the part", body.frame()).await.unwrap().unwrap().into_data().unwrap(), "part");
        die.send(()).unwrap();
        let end = soon("the end", body.frame()).await;
        assert!(matches!(end, Some(Err(_))), "a clean end was made up: {end:?}");
        assert_eq!(logged_path(&mesh.frontend, "/cut").await["response_flags"], "UC");
    });
}

#[test]
fn an_upload_that_breaks_off_never_ends_cleanly_at_the_application() {
    run(async {
        let (told, mut tells) = mpsc::channel(2);
        let app = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            wire.head().await;
            told.send(wire.rest().await).await.unwrap();
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        for framing in ["content-length: 100\r\n\r\npart", "transfer-encoding: chunked\r\n\r\n4\r\npart\r\n"] {
            let mut client = mesh.wire().await;
            client.send(format!("POST / HTTP/1.1\r\nhost: {BACKEND}\r\n{framing}")).await;
            drop(client);
            let got = soon("the application's end", tells.recv()).await.unwrap();
            let got = String::from_utf8(got).unwrap();
            assert!(!got.ends_with("0\r\n\r\n") && got.len() < 100, "{got:?}");
        }
    });
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            if wire.request().await.is_some() {
                wire.send("HTTP/1.0 200 OK\r\n\r\nto the end").await;
            }
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let answer = mesh.wire().await.ask(get("/")).await;
        assert_eq!((answer.start.as_str(), answer.text().as_str()), ("HTTP/1.1 200 OK", "to the end"));
    });
}

#[test]
fn clients_that_stall_do_not_hold_up_others_that_share_the_upstream_connection() {
    run(async {
        let app = App::http2(async |request: Request<_>| {
            let (sender, frames) = Frames::channel();
            if request.uri().path() == "/short" {
                sender.send(Frame::data(Bytes::from_static(b"short"))).await.unwrap();
            } else {
                tokio::task::spawn_local(async move {
                    while sender.send(Frame::data(Bytes::from_static(&[0; 16 * 1024]))).await.is_ok() {}
                });
            }
            Response::new(frames)
        })
        .await;
        let mut spec = Spec::of(&[app.address()]);
        // One worker, so that all callers meet on the same upstream connection.
        (spec.frontend, spec.backend) = ("workers: 1\n".to_owned(), "workers: 1\n".to_owned());
        let mesh = Mesh::start(spec).await;
        for streams in [1, 3, 12] {
            let mut staller = http2_client(&mesh).await;
            let mut stalled = Vec::new();
            for _ in 0..streams {
                stalled.push(soon("a head", staller.send_request(request("/endless"))).await.unwrap());
            }
            let mut other = http2_client(&mesh).await;
            for _ in 0..5 {
                let answer = soon("an answer beside", other.send_request(request("/short"))).await.unwrap();
                let body = soon(&format!("a body beside {streams} stalled"), answer.into_body().collect()).await;
                assert_eq!(body.unwrap().to_bytes(), "short");
            }
        }
    });
}

#[test]
fn a_refused_answer_over_http_2_does_not_wait_for_the_upload() {
    run(async {
        let app = App::http2(async |_| Response::new(full("ok"))).await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("none", "ALLOW", "[]")).await;
        let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
        let (mut sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        let (_held_open, frames) = Frames::channel();
        let upload = Request::post(format!("http://{BACKEND}/upload")).body(frames).unwrap();
        assert_eq!(soon("the refusal", sender.send_request(upload)).await.unwrap().status(), 403);
    });
}

async fn http2_client<B>(mesh: &Mesh) -> http2::SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Unpin + 'static,
{
    let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
    let (sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(connection);
    sender
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://{BACKEND}{path}")).body(Empty::new()).unwrap()
}
