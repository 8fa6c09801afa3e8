//! What honest HTTP/2 callers do that looks like the beginning of a flood: it is none, however long it goes on.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use meshgate_tests::run;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::app::{App, Frames, Local, full};
use crate::support::mesh::{BACKEND, Mesh};
use crate::support::soon;

/// An HTTP/2 caller behind the frontend's sidecar that asks whether the connection lives this often.
async fn caller<B>(mesh: &Mesh, pings: Duration) -> http2::SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Unpin + 'static,
{
    let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
    let (sender, connection) = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .keep_alive_interval(pings)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::task::spawn_local(connection);
    sender
}

fn call<B>(path: &str, body: B) -> Request<B> {
    Request::post(format!("http://{BACKEND}{path}")).body(body).unwrap()
}

#[test]
fn ten_thousand_small_messages_each_way_with_pings_between_them_are_no_flood() {
    run(async {
        let app = App::http2(async |request| {
            Response::new(request.into_body().map_err(|error| -> Infallible { panic!("{error}") }))
        });
        let app = app.await;
        let mesh = Mesh::of(app.address()).await;
        let mut caller = caller(&mesh, Duration::from_millis(20)).await;
        let (messages, body) = Frames::channel();
        let answer = soon("the head of the answer", caller.send_request(call("/echo", body))).await.unwrap();
        let mut echo = answer.into_body();
        for number in 0..10_000_u32 {
            messages.send(Frame::data(Bytes::copy_from_slice(&number.to_be_bytes()))).await.unwrap();
            let mut heard = Vec::new();
            while heard.len() < 4 {
                let frame = soon("the echo", echo.frame()).await.unwrap_or_else(|| panic!("cut after {number}"));
                heard
                    .extend_from_slice(&frame.unwrap_or_else(|error| panic!("{number}: {error}")).into_data().unwrap());
            }
            assert_eq!(heard, number.to_be_bytes());
        }
        drop(messages);
        let rest = soon("the end", echo.collect()).await.unwrap().to_bytes();
        assert!(rest.is_empty(), "{rest:?}");
    });
}

#[test]
fn whoever_leaves_a_page_again_and_again_while_half_of_it_is_there_is_no_flood() {
    run(async {
        let app = App::http2(async |request| {
            if request.uri().path() == "/slow" {
                std::future::pending::<()>().await;
            }
            Response::new(full("here"))
        });
        let app = app.await;
        let mesh = Mesh::of(app.address()).await;
        let caller = caller::<Empty<Bytes>>(&mesh, Duration::from_secs(10)).await;
        for page in 0..30 {
            let mut parts = JoinSet::new();
            for part in 0..100 {
                let mut caller = caller.clone();
                let path = if part % 2 == 0 { "/slow" } else { "/" };
                parts.spawn_local(async move {
                    caller.ready().await?;
                    let answer = caller.send_request(call(path, Empty::new())).await?;
                    assert_eq!(answer.status(), StatusCode::OK);
                    answer.into_body().collect().await.map(drop)
                });
            }
            for _ in 0..50 {
                let part = soon("half of the page", parts.join_next()).await.unwrap().unwrap();
                part.unwrap_or_else(|error| panic!("page {page}: {error}"));
            }
            // The rest is taken back at once.
            parts.shutdown().await;
        }
        for sidecar in [&mesh.frontend, mesh.backend()] {
            let refused = sidecar.metric("mesh_http2_excess_total{peer=\"downstream\",reason=\"resets\"}").await;
            assert!(refused.is_none_or(|count| count == 0.0), "{refused:?}");
        }
    });
}
