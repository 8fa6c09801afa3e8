//! HTTP/2 through a pair of sidecars, by prior knowledge at both ends.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Frame;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use meshgate_tests::run;
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use crate::support::app::{App, Frames, Local, full};
use crate::support::mesh::{BACKEND, Mesh, logged_path, policy};
use crate::support::{curl, soon};

pub(super) async fn connect(mesh: &Mesh) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
    let (sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(connection);
    sender
}

fn request(path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(format!("http://{BACKEND}{path}")).body(Full::default()).unwrap()
}

#[test]
fn curl_with_prior_knowledge_is_served_in_http_2_end_to_end() {
    run(async {
        let app = App::http2(async |request: Request<_>| {
            assert_eq!(request.version(), Version::HTTP_2);
            Response::new(full("h2c"))
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let url = format!("http://{}/h2", mesh.frontend.outbound());
        let host = format!("host: {BACKEND}");
        let arguments = ["--http2-prior-knowledge", "-H", &host, "-w", " %{http_code} %{http_version}", &url];
        let Some(output) = curl(&arguments).await else { return };
        assert_eq!(String::from_utf8_lossy(&output.stdout), "h2c 200 2", "{output:?}");
        for sidecar in [&mesh.frontend, mesh.backend()] {
            assert_eq!(logged_path(sidecar, "/h2").await["protocol"], "HTTP/2");
        }
    });
}

#[test]
fn concurrent_streams_share_one_upstream_connection() {
    run(async {
        const STREAMS: usize = 20;
        // Nobody is answered before all have arrived, so they must all be under way at once.
        let all = Rc::new(Barrier::new(STREAMS));
        let app = App::http2(async move |_| {
            all.wait().await;
            Response::new(full("together"))
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let sender = connect(&mesh).await;
        let calls: Vec<_> = (0..STREAMS)
            .map(|number| {
                let mut sender = sender.clone();
                tokio::task::spawn_local(
                    async move { sender.send_request(request(&format!("/{number}"))).await.unwrap() },
                )
            })
            .collect();
        for call in calls {
            let answer = soon("an answer", call).await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "together");
        }
        assert_eq!(app.connections(), 1);
    });
}

#[test]
fn grpc_trailers_and_streams_in_both_directions_at_once_pass() {
    run(async {
        // Echoes each message as it comes, and ends with trailers, as a gRPC server does.
        let app = App::http2(async |request: Request<hyper::body::Incoming>| {
            let (sender, frames) = Frames::channel();
            tokio::task::spawn_local(async move {
                let mut body = request.into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    let Ok(data) = frame.into_data() else { continue };
                    sender.send(Frame::data(data)).await.unwrap();
                }
                let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
                sender.send(Frame::trailers(trailers)).await.unwrap();
            });
            Response::new(frames)
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
        let (mut sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        let (messages, frames) = Frames::channel();
        let call = Request::post(format!("http://{BACKEND}/pkg.Service/Echo"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(frames)
            .unwrap();
        let mut body = soon("the head", sender.send_request(call)).await.unwrap().into_body();
        for text in ["one", "two", "three"] {
            messages.send(Frame::data(Bytes::from_static(text.as_bytes()))).await.unwrap();
            // Each comes back before the next is sent: nothing waits for the body's end.
            let frame = soon("the echo", body.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), text);
        }
        drop(messages);
        let trailers = soon("trailers", body.frame()).await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
    });
}

#[test]
fn a_refused_call_over_http_2_is_permission_denied_in_the_headers() {
    run(async {
        let app = App::http2(async |_| Response::new(full("reached"))).await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("none", "ALLOW", "[]")).await;
        let mut sender = connect(&mesh).await;
        let mut call = request("/pkg.Service/Call");
        call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        let answer = sender.send_request(call).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &HeaderValue::from_static("7")));
        let answer = sender.send_request(request("/plain")).await.unwrap();
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "RBAC: access denied");
        assert_eq!(app.connections(), 0);
    });
}

#[test]
fn cookie_crumbs_are_one_header_to_policies_and_application() {
    run(async {
        let app = App::http2(async |request: Request<_>| {
            let cookies: Vec<_> = request.headers().get_all("cookie").iter().cloned().collect();
            Response::new(Full::from(Bytes::from(format!("{cookies:?}"))))
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("cookie", "ALLOW", "[{when: [{key: 'request.headers[cookie]', values: ['a=1; b=2']}]}]"))
            .await;
        let mut sender = connect(&mesh).await;
        let mut call = request("/");
        call.headers_mut().append("cookie", HeaderValue::from_static("a=1"));
        call.headers_mut().append("cookie", HeaderValue::from_static("b=2"));
        let answer = sender.send_request(call).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), r#"["a=1; b=2"]"#);
    });
}

#[test]
fn a_client_that_resets_its_stream_resets_it_at_the_application_too() {
    run(async {
        let dropped = Rc::new(Cell::new(false));
        let noted = Rc::clone(&dropped);
        let app = App::http2(async move |_| {
            let (sender, frames) = Frames::channel();
            let noted = Rc::clone(&noted);
            tokio::task::spawn_local(async move {
                sender.closed().await;
                noted.set(true);
            });
            Response::new(frames)
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
        let (mut sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        let call = Request::get(format!("http://{BACKEND}/endless")).body(Empty::<Bytes>::new()).unwrap();
        let answer = soon("the head", sender.send_request(call)).await.unwrap();
        assert!(!dropped.get());
        drop(answer);
        meshgate::sandbox::until("the stream's end", async || dropped.get().then_some(())).await.unwrap();
        assert_eq!(app.connections(), 1);
    });
}
