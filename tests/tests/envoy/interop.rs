//! Beside Istio's own sidecar: an Envoy that calls ours, and one that ours calls, each configured as istiod does it, over real sockets
//! and certificates. Asserted on what the application got and on who each side takes the other for.
//!
//! Istio's own filters are not in a release binary of Envoy: the one that sets the ALPN names of a request's protocol is stood in for
//! by a cluster for each protocol with those names, and the one that exchanges metadata by what the handshake agrees on.

mod config;
mod hbone;
mod inbound;
mod outbound;

use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use meshgate::sandbox::Sandbox;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::app::{App, Frames, Local};
use crate::support::pki::{Authority, Credentials};
use crate::support::soon;
use crate::support::wire::Wire;

/// Who the Envoy is that calls.
const ISTIO: &str = "spiffe://cluster.local/ns/default/sa/istio";

/// The header in which Envoy tells the application who calls.
const SEEN_CALLER: &str = "x-forwarded-client-cert";

/// A certificate of the mesh's own authority.
fn issue(sandbox: &Sandbox, id: &str) -> Credentials {
    Authority::of(sandbox).issue(id)
}

/// A folder for an Envoy's files.
fn folder(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.path("envoy");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The roots of the mesh.
fn roots(sandbox: &Sandbox) -> String {
    std::fs::read_to_string(sandbox.path("ca/ca.pem")).unwrap()
}

/// Sends each piece back as it comes, and the trailers behind them.
async fn echoing() -> App {
    App::http2(async |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let mut answer = Response::new(body.map_err(|_| unreachable!("the caller ends in order")).boxed_unsync());
        for name in ["content-type", SEEN_CALLER] {
            if let Some(value) = parts.headers.get(name) {
                answer.headers_mut().insert(name, value.clone());
            }
        }
        answer
    })
    .await
}

/// Counts until the client's end, and tells.
async fn counter() -> App {
    App::tcp(async |stream| {
        let mut wire = Wire::over(stream);
        let all = wire.rest().await;
        let _ = wire.try_send(format!("got {}", all.len())).await;
    })
    .await
}

/// A stream in both directions at once, and its trailers. Says what came back as [`SEEN_CALLER`].
async fn grpc(server: SocketAddr, host: &str) -> Option<String> {
    let stream = TcpStream::connect(server).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) = http2::handshake(Local, io).await.unwrap();
    let connection = tokio::task::spawn_local(connection);
    let (frames, body) = Frames::channel();
    let request = Request::post(format!("http://{host}/pkg.Service/Chat"));
    let request = request.header("content-type", "application/grpc").header("te", "trailers").body(body).unwrap();
    frames.send(Frame::data(Bytes::from_static(b"0"))).await.unwrap();
    let (parts, mut answer) = soon("an answer", sender.send_request(request)).await.unwrap().into_parts();
    assert_eq!((parts.status.as_u16(), parts.headers["content-type"].to_str().unwrap()), (200, "application/grpc"));
    let next =
        async |answer: &mut Incoming| soon("a message", answer.frame()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(next(&mut answer).await, "0");
    for message in ["1", "22", "333"] {
        // Each is answered before the next is sent.
        frames.send(Frame::data(Bytes::from_static(message.as_bytes()))).await.unwrap();
        assert_eq!(next(&mut answer).await, message);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    frames.send(Frame::trailers(trailers)).await.unwrap();
    drop(frames);
    let last = loop {
        match soon("the end", answer.frame()).await.unwrap().unwrap().into_trailers() {
            Ok(trailers) => break trailers,
            Err(data) => assert!(data.into_data().unwrap().is_empty()),
        }
    };
    assert_eq!(last["grpc-status"], "0");
    connection.abort();
    parts.headers.get(SEEN_CALLER).map(|value| value.to_str().unwrap().to_owned())
}

/// Breaks off in the middle of what it promised; or goes on without an end, and tells when nobody hears it any more.
async fn rude() -> (App, mpsc::Receiver<()>) {
    let (gone, goes) = mpsc::channel(1);
    let app = App::tcp(async move |stream| {
        let mut wire = Wire::over(stream);
        let Some(head) = wire.head().await else { return };
        if head.target() == "/cut" {
            return wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart").await;
        }
        wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
        while wire.try_send([b'x'; 8192]).await {}
        gone.send(()).await.unwrap();
    })
    .await;
    (app, goes)
}

/// A client of [`rude`] that goes away, and one that is left.
async fn goes_away_early(server: SocketAddr, host: &str, goes: &mut mpsc::Receiver<()>) {
    let mut client = Wire::connect(server).await;
    client.send(format!("GET /endless HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
    assert_eq!(client.head().await.unwrap().status(), 200);
    drop(client);
    soon("the application's write to fail", goes.recv()).await.unwrap();
    let mut client = Wire::connect(server).await;
    client.send(format!("GET /cut HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
    assert_eq!(client.head().await.unwrap().status(), 200);
    assert_eq!(client.rest().await, b"part");
}
