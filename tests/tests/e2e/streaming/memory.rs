//! How much memory large and stalled bodies take in each proxy.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Frame;
use meshgate::sandbox::until;
use meshgate_tests::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{get, http2_client, request};
use crate::support::app::{App, Frames};
use crate::support::large::{MIB, count, large, peak, write};
use crate::support::mesh::{BACKEND, Mesh, Spec, VIRTUAL_PORT};
use crate::support::soon;
use crate::support::wire::Wire;

/// Far more than a proxy may hold.
const LARGE: u64 = 1024 * MIB;

/// The most memory that a proxy may ever have taken while one large body passed.
const MOST: u64 = 64 * MIB;

/// How much a stalled body may add: buffers of fixed size on a few hops, never the body.
const MOST_STALLED: u64 = 8 * MIB;

/// A writer that could not write for this long is stalled.
const STALLED: Duration = Duration::from_millis(500);

#[test]
fn a_large_answer_and_a_large_upload_pass_in_little_memory() {
    run(async {
        let app = large(LARGE).await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        client.send(get("/")).await;
        assert_eq!(client.head().await.unwrap().status(), 200);
        let early = client.buffered();
        assert_eq!(early + count(client.stream(), LARGE - early).await, LARGE);
        client.send(format!("PUT / HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-length: {LARGE}\r\n\r\n")).await;
        write(client.stream(), LARGE).await;
        assert_eq!(client.answer().await.text(), LARGE.to_string());
        for sidecar in [&mesh.frontend, mesh.backend()] {
            let peak = peak(sidecar);
            assert!(peak < MOST, "{} MiB", peak / MIB);
        }
    });
}

/// An application that writes without end after `greeting`, and says when it could not write any more.
async fn endless(greeting: &'static str, stalled: &Rc<Cell<bool>>) -> App {
    let stalled = Rc::clone(stalled);
    App::tcp(async move |mut stream| {
        stream.read_u8().await.unwrap();
        stream.write_all(greeting.as_bytes()).await.unwrap();
        let block = vec![b'x'; 64 * 1024];
        loop {
            match timeout(STALLED, stream.writable()).await {
                Ok(_) => match stream.try_write(&block) {
                    Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                    _ => {}
                },
                Err(_) => stalled.set(true),
            }
        }
    })
    .await
}

#[test]
fn a_reader_that_stalls_stalls_the_writer_and_costs_no_memory() {
    run(async {
        for tcp in [false, true] {
            let stalled = Rc::<Cell<bool>>::default();
            let app = endless(if tcp { "" } else { "HTTP/1.1 200 OK\r\n\r\n" }, &stalled).await;
            let mut spec = Spec::of(&[app.address()]).with_virtual();
            spec.port_name = if tcp { "tcp" } else { "http" };
            let mesh = Mesh::start(spec).await;
            let before = [peak(&mesh.frontend), peak(mesh.backend())];
            let port = if tcp { VIRTUAL_PORT } else { mesh.frontend.outbound().port() };
            let mut client = Wire::connect((mesh.frontend.outbound().ip(), port).into()).await;
            client.send(get("/")).await;
            until("the application to stall", async || stalled.get().then_some(())).await.unwrap();
            little_more(&mesh, before, if tcp { "TCP" } else { "HTTP/1" });
            // It was held up, not lost: all goes on when the reader does.
            assert_eq!(count(client.stream(), 64 * MIB).await >> 20, 64);
        }
    });
}

#[test]
fn http_2_streams_that_nobody_reads_cost_no_memory_beyond_their_windows() {
    run(async {
        // As many as a client has windows for: two that it does not read, and one that it does.
        const STREAMS: u64 = 3;
        let app = App::http2(async |_| {
            let (sender, frames) = Frames::channel();
            tokio::task::spawn_local(async move {
                while sender.send(Frame::data(Bytes::from_static(&[0; 64 * 1024]))).await.is_ok() {}
            });
            Response::new(frames)
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let before = [peak(&mesh.frontend), peak(mesh.backend())];
        let mut sender = http2_client(&mesh).await;
        let mut held = Vec::new();
        for _ in 0..STREAMS {
            held.push(soon("a head", sender.send_request(request("/endless"))).await.unwrap());
        }
        // Reading one of them shows that all that could come has had the time to.
        let mut first = held.swap_remove(0).into_body();
        let mut read = 0;
        while read < 64 * MIB {
            let frame = soon("more", first.frame()).await.unwrap().unwrap();
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        little_more(&mesh, before, "HTTP/2");
    });
}

/// Writes until nothing is taken any more, which must be long before the end.
async fn until_stalled(stream: &mut TcpStream) {
    let block = vec![b'x'; 64 * 1024];
    let mut written = 0;
    while let Ok(Ok(len)) = timeout(STALLED, stream.write(&block)).await {
        written += len as u64;
        assert!(written < LARGE, "the upload was taken in whole, and the application has read nothing");
    }
}

#[test]
fn an_application_that_does_not_read_stalls_the_upload_and_costs_no_memory() {
    run(async {
        for tcp in [false, true] {
            let app = App::tcp(async move |_held: TcpStream| std::future::pending().await).await;
            let mut spec = Spec::of(&[app.address()]).with_virtual();
            spec.port_name = if tcp { "tcp" } else { "http" };
            let mesh = Mesh::start(spec).await;
            let before = [peak(&mesh.frontend), peak(mesh.backend())];
            let mut client = if tcp { mesh.virtual_wire().await } else { mesh.wire().await };
            client.send(format!("PUT / HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-length: {LARGE}\r\n\r\n")).await;
            until("its arrival", async || (app.connections() == 1).then_some(())).await.unwrap();
            until_stalled(client.stream()).await;
            little_more(&mesh, before, if tcp { "TCP" } else { "HTTP/1" });
        }
    });
}

#[test]
fn http_2_uploads_that_an_application_does_not_read_stall_and_cost_no_memory() {
    run(async {
        const STREAMS: u64 = 3;
        let came = Rc::<Cell<u64>>::default();
        let counted = Rc::clone(&came);
        let app = App::http2(async move |request| {
            counted.set(counted.get() + 1);
            let _held = request;
            std::future::pending::<Response<Frames>>().await
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let before = [peak(&mesh.frontend), peak(mesh.backend())];
        let mut clients = Vec::new();
        for _ in 0..STREAMS {
            let (body, frames) = Frames::channel();
            let mut sender = http2_client(&mesh).await;
            let request = Request::put(format!("http://{BACKEND}/")).body(frames).unwrap();
            clients.push((tokio::task::spawn_local(async move { sender.send_request(request).await }), body));
        }
        until("their arrival", async || (came.get() == STREAMS).then_some(())).await.unwrap();
        for (_, body) in &clients {
            let mut written = 0;
            let block = Bytes::from_static(&[0; 64 * 1024]);
            while let Ok(Ok(())) = timeout(STALLED, body.send(Frame::data(block.clone()))).await {
                written += block.len() as u64;
                assert!(written < LARGE, "the upload was taken in whole, and the application has read nothing");
            }
        }
        assert!(clients.iter().all(|(request, _)| !request.is_finished()), "one has ended");
        little_more(&mesh, before, "HTTP/2");
    });
}

/// What has stalled has cost neither proxy more than buffers.
fn little_more(mesh: &Mesh, before: [u64; 2], what: &str) {
    for (sidecar, before) in [&mesh.frontend, mesh.backend()].into_iter().zip(before) {
        let after = peak(sidecar);
        assert!(after < before + MOST_STALLED, "{what}: from {} to {} KiB", before >> 10, after >> 10);
    }
}
