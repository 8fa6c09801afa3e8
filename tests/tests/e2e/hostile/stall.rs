//! Whoever stops in the middle: applications that never answer, clients that never finish, readers that never read. The subject
//! of these tests is time itself.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

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
use tokio::time::Instant;

use super::{DOORS, knock};
use crate::support::app::{App, Frames, Local, full};
use crate::support::mesh::{BACKEND, Mesh, Spec, VIRTUAL_PORT, logged, logged_path};
use crate::support::soon;
use crate::support::wire::Wire;

const LIMIT: Duration = Duration::from_millis(700);

/// What may come on top of a limit.
const LATE: Duration = Duration::from_secs(1);

const BOTH: &str = "timeouts: {stream: 700ms}\n";

/// The limit is the backend's alone, so that it is known whose it was.
async fn mesh(app: &App, lines: &str) -> Mesh {
    let mut spec = Spec::of(&[app.address()]).with_virtual();
    spec.backend = lines.to_owned();
    Mesh::start(spec).await
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")
}

fn took(since: Instant, what: &str) {
    let took = since.elapsed();
    assert!(took >= LIMIT && took < LIMIT + LATE, "{what}: {took:?}");
}

async fn http2_client<B>(mesh: &Mesh, door: &str) -> http2::SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Unpin + 'static,
{
    let address = if door == "inbound" { mesh.backend().inbound() } else { mesh.frontend.outbound() };
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(connection);
    sender
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://{BACKEND}{path}")).body(Empty::new()).unwrap()
}

/// Takes everything and says nothing, and tells when its connection ends.
async fn silent() -> (App, mpsc::Receiver<()>) {
    let (gone, goes) = mpsc::channel(8);
    let app = App::tcp(async move |mut stream| {
        let mut buffer = vec![0; 4096];
        while matches!(stream.read(&mut buffer).await, Ok(len) if len > 0) {}
        gone.send(()).await.unwrap();
    })
    .await;
    (app, goes)
}

#[test]
fn an_application_that_never_answers_is_504_and_so_is_one_whose_head_trickles() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            let Some(request) = wire.request().await else { return };
            wire.send("HTTP/1.1 200 OK\r\nx: ").await;
            let mut tick = tokio::time::interval(LIMIT / 10);
            while request.target() == "/trickles" && wire.try_send("a").await {
                tick.tick().await;
            }
            wire.rest().await;
        })
        .await;
        let mesh = mesh(&app, BOTH).await;
        for path in ["/silent", "/trickles"] {
            let started = Instant::now();
            let answer = mesh.outside().await.ask(get(path)).await;
            assert_eq!((answer.status(), answer.text().as_str()), (504, "upstream request timeout"), "{path}");
            took(started, path);
            assert_eq!(logged_path(mesh.backend(), path).await["response_flags"], "SI", "{path}");
        }
    });
}

#[test]
fn an_http_2_stream_that_is_never_answered_is_504_and_the_others_go_on() {
    run(async {
        let app = App::http2(async |request: Request<_>| {
            if request.uri().path() == "/silent" {
                std::future::pending::<()>().await;
            }
            Response::new(full("ok"))
        })
        .await;
        let mesh = mesh(&app, BOTH).await;
        let mut sender = http2_client(&mesh, "inbound").await;
        let started = Instant::now();
        let silent = tokio::task::spawn_local(sender.send_request(request("/silent")));
        let mut tick = tokio::time::interval(LIMIT / 5);
        while !silent.is_finished() {
            assert_eq!(soon("a neighbour", sender.send_request(request("/ok"))).await.unwrap().status(), 200);
            tick.tick().await;
        }
        took(started, "the answer");
        assert_eq!(silent.await.unwrap().unwrap().status(), 504);
        assert_eq!(soon("the next", sender.send_request(request("/ok"))).await.unwrap().status(), 200);
    });
}

#[test]
fn a_client_that_stops_in_its_upload_is_408_and_its_application_is_let_go() {
    run(async {
        let (app, mut goes) = silent().await;
        let mesh = mesh(&app, BOTH).await;
        for framing in ["content-length: 100\r\n\r\npart", "transfer-encoding: chunked\r\n\r\n4\r\npart\r\n"] {
            let started = Instant::now();
            let mut client = mesh.outside().await;
            let answer = client.ask(format!("POST /half HTTP/1.1\r\nhost: {BACKEND}\r\n{framing}")).await;
            assert_eq!((answer.status(), answer.field("connection")), (408, Some("close")), "{answer:?}");
            took(started, framing);
            assert_eq!(client.rest().await, b"");
            soon("the application's end", goes.recv()).await.unwrap();
        }
        assert_eq!(logged_path(mesh.backend(), "/half").await["response_flags"], "SI");
    });
}

#[test]
fn window_updates_and_pings_keep_no_stream() {
    run(async {
        let app = App::http2(async |request: Request<hyper::body::Incoming>| {
            let _ = request.into_body().collect().await;
            Response::new(full("ok"))
        })
        .await;
        let mesh = mesh(&app, BOTH).await;
        let mut client = mesh.outside().await;
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        // POST http / with an authority, and a body to come.
        let authority = BACKEND.as_bytes();
        let mut block = vec![0x83, 0x86, 0x84, 0x41, u8::try_from(authority.len()).unwrap()];
        block.extend_from_slice(authority);
        let mut head = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 4, 0, 0, 0, 1];
        head.extend(block);
        let started = Instant::now();
        client.send(head).await;
        let mut tick = tokio::time::interval(LIMIT / 10);
        let stream = client.into_stream();
        let (mut from, mut to) = stream.into_split();
        let noise = async {
            loop {
                let window = b"\0\0\x04\x08\0\0\0\0\x01\0\0\0\x01";
                let ping = b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0";
                if to.write_all(window).await.is_err() || to.write_all(ping).await.is_err() {
                    std::future::pending::<()>().await;
                }
                tick.tick().await;
            }
        };
        let answer = async {
            loop {
                let mut frame = [0; 9];
                from.read_exact(&mut frame).await.unwrap();
                let mut payload = vec![0; usize::from(frame[1]) << 8 | usize::from(frame[2])];
                from.read_exact(&mut payload).await.unwrap();
                // HEADERS or RST_STREAM of the stream.
                if frame[8] == 1 && (frame[3] == 1 || frame[3] == 3) {
                    return;
                }
            }
        };
        tokio::select! {
            () = noise => {}
            () = soon("the stream's end", answer) => {}
        }
        took(started, "the stream's end");
    });
}

#[test]
fn an_answer_that_stops_is_broken_off_and_one_that_goes_on_slowly_is_not() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            let Some(request) = wire.request().await else { return };
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
            if request.target() == "/stops" {
                wire.rest().await;
                return;
            }
            for _ in 0..8 {
                tokio::time::sleep(LIMIT / 3).await;
                wire.send("1\r\na\r\n").await;
            }
            wire.send("0\r\n\r\n").await;
        })
        .await;
        let mesh = mesh(&app, BOTH).await;
        let mut client = mesh.outside().await;
        let started = Instant::now();
        client.send(get("/stops")).await;
        assert_eq!(client.head().await.unwrap().status(), 200);
        assert_eq!(client.rest().await, b"1\r\na\r\n");
        took(started, "the end");
        assert_eq!(logged_path(mesh.backend(), "/stops").await["response_flags"], "SI");
        assert_eq!(mesh.outside().await.ask(get("/slow")).await.text(), "aaaaaaaaa");
    });
}

/// Writes without end, and says when it could not any more.
async fn endless(greeting: &'static str) -> (App, mpsc::Receiver<()>) {
    let (gone, goes) = mpsc::channel(8);
    let app = App::tcp(async move |mut stream| {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        stream.write_all(greeting.as_bytes()).await.unwrap();
        while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
        gone.send(()).await.unwrap();
    })
    .await;
    (app, goes)
}

#[test]
fn a_reader_that_stops_is_let_go_with_what_it_holds() {
    // Longer than the way through two proxies takes on a busy machine.
    const LIMIT: Duration = Duration::from_secs(2);
    run(async {
        for tcp in [false, true] {
            let (app, mut goes) = endless(if tcp { "" } else { "HTTP/1.1 200 OK\r\n\r\n" }).await;
            let mut spec = Spec::of(&[app.address()]).with_virtual();
            spec.port_name = if tcp { "tcp" } else { "http" };
            spec.frontend = "timeouts: {stream: 2s}\n".to_owned();
            let mesh = Mesh::start(spec).await;
            let port = if tcp { VIRTUAL_PORT } else { mesh.frontend.outbound().port() };
            let mut client = Wire::connect((mesh.frontend.outbound().ip(), port).into()).await;
            let started = Instant::now();
            client.send(get("/never-read")).await;
            if tokio::time::timeout(LIMIT + 3 * LATE, goes.recv()).await.is_err() {
                panic!("tcp: {tcp}: still there; the log: {:#?}", mesh.frontend.access_log());
            }
            // It takes a moment until nothing more goes into anybody's buffers.
            let took = started.elapsed();
            assert!(took >= LIMIT && took < LIMIT + 2 * LATE, "tcp: {tcp}: {took:?}");
            let line = logged(&mesh.frontend, |line| line["response_flags"] == "SI").await;
            assert_eq!(line["direction"], "outbound", "{line:#}");
        }
    });
}

#[test]
fn an_http_2_reader_that_stops_loses_its_stream_alone() {
    run(async {
        let ended = Rc::<Cell<usize>>::default();
        let counted = Rc::clone(&ended);
        let app = App::http2(async move |request: Request<_>| {
            let (sender, frames) = Frames::channel();
            let counted = Rc::clone(&counted);
            let short = request.uri().path() == "/short";
            tokio::task::spawn_local(async move {
                while sender.send(Frame::data(Bytes::from_static(&[0; 16 * 1024]))).await.is_ok() && !short {}
                counted.set(counted.get() + usize::from(!short));
            });
            Response::new(frames)
        })
        .await;
        let mesh = mesh(&app, BOTH).await;
        let mut sender = http2_client(&mesh, "inbound").await;
        let started = Instant::now();
        let mut stalled = Vec::new();
        for _ in 0..3 {
            stalled.push(soon("a head", sender.send_request(request("/endless"))).await.unwrap());
        }
        meshgate::sandbox::until("the streams' end", async || (ended.get() == 3).then_some(())).await.unwrap();
        let took = started.elapsed();
        assert!(took >= LIMIT && took < LIMIT + 2 * LATE, "{took:?}");
        for answer in stalled {
            let error = soon("the end of what is there", answer.into_body().collect()).await;
            assert!(error.is_err(), "a clean end was made up");
        }
        let answer = soon("a neighbour", sender.send_request(request("/short"))).await.unwrap();
        assert_eq!(soon("its body", answer.into_body().collect()).await.unwrap().to_bytes().len(), 16 * 1024);
    });
}

#[test]
fn an_application_that_does_not_read_an_upload_is_let_go() {
    run(async {
        for over_http_2 in [false, true] {
            let app = App::tcp(async |mut held: TcpStream| {
                if held.read_u8().await.is_ok() {
                    std::future::pending::<()>().await;
                }
            })
            .await;
            let mesh = mesh(&app, BOTH).await;
            let started = Instant::now();
            if over_http_2 {
                let (frames, body) = Frames::channel();
                let mut sender = http2_client(&mesh, "inbound").await;
                tokio::task::spawn_local(async move {
                    while frames.send(Frame::data(Bytes::from_static(&[0; 16 * 1024]))).await.is_ok() {}
                });
                let upload = Request::put(format!("http://{BACKEND}/unread")).body(body).unwrap();
                assert_eq!(soon("an answer", sender.send_request(upload)).await.unwrap().status(), 504);
            } else {
                let mut client = mesh.outside().await;
                client
                    .send(format!("PUT /unread HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-length: 999999999\r\n\r\n"))
                    .await;
                let block = vec![b'x'; 65536];
                while let Ok(Ok(_)) = tokio::time::timeout(LIMIT * 4, client.stream().write_all(&block)).await {}
            }
            let took = started.elapsed();
            assert!(took >= LIMIT && took < LIMIT + 2 * LATE, "HTTP/2: {over_http_2}: {took:?}");
            let line = logged_path(mesh.backend(), "/unread").await;
            assert_eq!((line["response_code"].as_u64(), line["response_flags"].as_str()), (Some(504), Some("SI")));
        }
    });
}

#[test]
fn a_request_as_a_whole_has_its_time_however_busy_it_is() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            let Some(request) = wire.request().await else { return };
            if request.target() == "/silent" {
                wire.rest().await;
                return;
            }
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let mut tick = tokio::time::interval(LIMIT / 10);
            while wire.try_send("1\r\na\r\n").await {
                tick.tick().await;
            }
        })
        .await;
        let mesh = mesh(&app, "timeouts: {request: 700ms}\n").await;
        let started = Instant::now();
        let answer = mesh.outside().await.ask(get("/silent")).await;
        assert_eq!((answer.status(), answer.text().as_str()), (504, "request timeout"));
        took(started, "/silent");
        let mut client = mesh.outside().await;
        let started = Instant::now();
        client.send(get("/busy")).await;
        let rest = String::from_utf8(client.rest().await).unwrap();
        took(started, "/busy");
        assert!(rest.starts_with("HTTP/1.1 200") && !rest.ends_with("0\r\n\r\n"), "{rest:?}");
        for path in ["/silent", "/busy"] {
            assert_eq!(logged_path(mesh.backend(), path).await["response_flags"], "UT", "{path}");
        }
    });
}

#[test]
fn a_slow_head_is_408_once_a_byte_of_it_has_come() {
    run(async {
        let app = App::ok().await;
        let lines = "timeouts: {requestHeader: 700ms}\n";
        let mut spec = Spec::of(&[app.address()]);
        (spec.frontend, spec.backend) = (lines.to_owned(), lines.to_owned());
        let mesh = Mesh::start(spec).await;
        for door in DOORS {
            for already_served in [false, true] {
                let mut client = knock(&mesh, door).await;
                if already_served {
                    assert_eq!(client.ask(get("/")).await.status(), 200);
                }
                let started = Instant::now();
                client.send("GET /slow HTTP/1.1\r\nx: ").await;
                let answer = client.answer().await;
                assert_eq!((answer.status(), answer.field("connection")), (408, Some("close")), "{door}");
                took(started, door);
                assert_eq!(client.rest().await, b"", "{door}");
            }
            let sidecar = if door == "inbound" { mesh.backend() } else { &mesh.frontend };
            assert_eq!(logged(sidecar, |line| line["response_code"] == 408).await["response_flags"], "SI");
        }
    });
}
