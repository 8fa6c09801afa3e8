//! Applications that die while their sidecars live.

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;

use super::*;
use crate::support::app::{Local, full};
use crate::support::mesh::logged;
use crate::support::soon;

/// What only the sidecar of an endpoint may say, said by somebody else.
pub(super) const CLAIM: &str = "HTTP/1.1 503 Service Unavailable\r\nproxy-status: meshgate; error=destination_unavailable\r\n\
                                content-length: 4\r\n\r\nsick";

const AGAIN: &str = "mesh_retries_total{reason=\"unreached\",outcome=\"answered\"}";

const EJECTIONS: &str = "mesh_endpoint_ejections_total{reason=\"consecutive_failures\"}";

/// Nobody leaves the rotation, and all may be tried again.
const KEEPS: &str = "workers: 1\nretries: {budgetPercent: 100}\noutlierDetection: {consecutiveFailures: 0}\n";

async fn mesh(apps: &[&App], frontend: &str) -> Mesh {
    let addresses: Vec<_> = apps.iter().map(|app| app.address()).collect();
    let mut spec = Spec::of(&addresses);
    spec.frontend = frontend.to_owned();
    spec.backend = "workers: 1\n".to_owned();
    Mesh::start(spec).await
}

async fn say_back() -> App {
    App::http1(|request| ok(&format!("{} {}", request.target(), request.text()))).await
}

#[test]
fn what_has_not_reached_an_application_is_answered_by_another_a_post_as_well() {
    run(async {
        let (mut dying, living) = (say_back().await, say_back().await);
        let mesh = mesh(&[&dying, &living], KEEPS).await;
        let mut client = mesh.wire().await;
        for turn in 0..4 {
            assert_eq!(client.ask(get(&format!("/before/{turn}"))).await.status(), 200);
        }
        assert_eq!((dying.take_seen().len(), living.take_seen().len()), (2, 2));
        dying.kill().await;
        for turn in 0..200 {
            let path = format!("/get/{turn}");
            let answer = client.ask(get(&path)).await;
            assert_eq!((answer.status(), answer.text()), (200, format!("{path} ")));
        }
        for turn in 0..200 {
            let (path, body) = (format!("/post/{turn}"), format!("{turn} ").repeat(turn * 5));
            let answer = client.ask(with_body("POST", &path, &body)).await;
            assert_eq!((answer.status(), answer.text()), (200, format!("{path} {body}")));
        }
        assert_eq!(living.take_seen().len(), 400);
        mesh.frontend.until_metric(AGAIN, |count| count == 200.0).await.unwrap();
        let line = logged(&mesh.frontend, |line| line["method"] == "POST" && line["attempts"] == 2).await;
        assert_eq!(
            (line["response_code"].as_u64(), line["response_flags"].as_str()),
            (Some(200), Some("-")),
            "{line:#}"
        );
        // A handshake for each would let whoever sends requests to a dead application keep everybody busy.
        let handshakes = "mesh_tls_handshakes_total{direction=\"inbound\",outcome=\"ok\"}";
        assert!(mesh.backend().metric(handshakes).await.unwrap() < 20.0);
    });
}

#[test]
fn an_endpoint_without_its_application_leaves_the_rotation_and_nobody_sees_an_error() {
    run(async {
        let (mut dying, living) = (say_back().await, say_back().await);
        let mesh = mesh(&[&dying, &living], "workers: 1\noutlierDetection: {baseEjectionTime: 60s}\n").await;
        dying.kill().await;
        let mut client = mesh.wire().await;
        for turn in 0..60 {
            let answer = client.ask(with_body("POST", &format!("/{turn}"), "body")).await;
            assert_eq!((answer.status(), answer.text()), (200, format!("/{turn} body")));
        }
        assert_eq!(mesh.frontend.metric(EJECTIONS).await, Some(1.0));
        assert_eq!(mesh.frontend.metric(AGAIN).await, Some(5.0));
    });
}

#[test]
fn calls_of_grpc_are_answered_by_another_too() {
    run(async {
        let serve = async || {
            App::http2(async |request: Request<Incoming>| {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut response = http::Response::new(Full::new(body));
                response.headers_mut().insert("grpc-status", HeaderValue::from_static("0"));
                response
            })
            .await
        };
        let (mut dying, living) = (serve().await, serve().await);
        let mesh = mesh(&[&dying, &living], KEEPS).await;
        dying.kill().await;
        let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
        let (mut sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        for turn in 0..20 {
            let call = Request::post(format!("http://{BACKEND}/pkg.Service/Call/{turn}"));
            let call = call
                .header("content-type", "application/grpc")
                .body(Full::<Bytes>::from(format!("call {turn}")))
                .unwrap();
            let answer = soon("an answer", sender.send_request(call)).await.unwrap();
            assert_eq!(answer.headers()["grpc-status"], "0", "{turn}: {answer:?}");
            let body: Bytes = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("call {turn}"));
        }
        assert_eq!(mesh.frontend.metric(AGAIN).await, Some(10.0));
        // Alone, its end is told as gRPC tells it, and as nothing else.
        drop(mesh);
        let mesh = self::mesh(&[&dying], KEEPS).await;
        let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
        let (mut sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        let call = Request::post(format!("http://{BACKEND}/pkg.Service/Call"));
        let call = call.header("content-type", "application/grpc").body(full("call")).unwrap();
        let answer = soon("an answer", sender.send_request(call)).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["grpc-status"].as_bytes()), (200, &b"14"[..]));
        assert!(!answer.headers().contains_key("proxy-status"), "{answer:?}");
    });
}

#[test]
fn a_body_that_is_not_kept_is_not_sent_again_and_its_client_gets_the_answer() {
    run(async {
        let (mut dying, living) = (say_back().await, say_back().await);
        let mesh = mesh(&[&dying, &living], &KEEPS.replace("budgetPercent", "bufferBytes: 1000, budgetPercent")).await;
        dying.kill().await;
        for len in [1001, 300_000] {
            let mut codes = Vec::new();
            for turn in 0..6 {
                let answer = mesh.wire().await.ask(with_body("POST", &format!("/{turn}"), &"x".repeat(len))).await;
                codes.push(answer.status());
            }
            codes.sort_unstable();
            assert_eq!(codes, [200, 200, 200, 503, 503, 503], "{len}");
            assert_eq!(living.take_seen().len(), 3);
        }
    });
}

#[test]
fn an_application_may_not_say_it_and_its_503_is_an_answer() {
    run(async {
        let (one, other) = (App::http1(|_| CLAIM.to_owned()).await, App::http1(|_| CLAIM.to_owned()).await);
        let mesh = mesh(&[&one, &other], KEEPS).await;
        let mut client = mesh.wire().await;
        for (turn, request) in [get("/get"), with_body("POST", "/post", "body"), get("/get")].into_iter().enumerate() {
            let answer = client.ask(request).await;
            assert_eq!((answer.status(), answer.text().as_str(), answer.field("proxy-status")), (503, "sick", None));
            assert_eq!(one.take_seen().len() + other.take_seen().len(), 1, "{turn}");
        }
        let line = logged_path(&mesh.frontend, "/post").await;
        assert_eq!((line["response_flags"].as_str(), line.get("attempts")), (Some("-"), None), "{line:#}");
    });
}

#[test]
fn an_upstream_without_mutual_tls_is_not_believed() {
    Caller::run(&[Act::Claim, Act::Claim], "retries: {budgetPercent: 100}\n", async |caller| {
        for request in [get("/get"), with_body("POST", "/post", "body")] {
            let answer = caller.wire().await.ask(&request).await;
            assert_eq!((answer.status(), answer.text().as_str(), answer.field("proxy-status")), (503, "sick", None));
            assert_eq!(caller.take_seen().len(), 1);
        }
    });
}

#[test]
fn no_caller_hears_of_it_who_is_no_proxy_of_the_mesh() {
    run(async {
        let mut dying = say_back().await;
        let mesh = mesh(&[&dying], KEEPS).await;
        dying.kill().await;
        for mut client in [mesh.wire().await, mesh.outside().await] {
            let answer = client.ask(with_body("POST", "/alone", "body")).await;
            assert_eq!((answer.status(), answer.text().as_str()), (503, "upstream connect error"));
            assert_eq!(answer.field("proxy-status"), None);
        }
        let line = logged_path(&mesh.frontend, "/alone").await;
        assert_eq!((line["response_flags"].as_str(), line.get("attempts")), (Some("UF"), None), "{line:#}");
    });
}
