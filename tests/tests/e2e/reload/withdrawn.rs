//! Permission that is withdrawn while it is in use.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;

use super::deny_peer;
use crate::support::app::{App, Frames};
use crate::support::backend::{Backend, FRONTEND, HOST, OTHER, deny_path, mtls, policy, status};
use crate::support::client::{Client, MESH_HTTP2, handshake, tls};
use crate::support::mesh::logged;
use crate::support::soon;
use crate::support::wire::Wire;

/// Answers every request with a beginning, and then waits for the other side to end.
async fn endless(gone: mpsc::UnboundedSender<()>) -> App {
    App::tcp(async move |stream| {
        let mut wire = Wire::over(stream);
        while wire.head().await.is_some() {
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
        }
        gone.send(()).unwrap();
    })
    .await
}

/// The same over HTTP/2.
async fn endless_http2() -> App {
    let open = Rc::<RefCell<Vec<mpsc::Sender<Frame<Bytes>>>>>::default();
    App::http2(async move |_| {
        let (sender, frames) = Frames::channel();
        sender.send(Frame::data(Bytes::from_static(b"first"))).await.unwrap();
        open.borrow_mut().push(sender);
        Response::new(frames)
    })
    .await
}

/// An answer that has begun and goes on.
async fn begun(client: &mut Client, path: &str) -> Incoming {
    let response = soon("an answer", client.send(path)).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let first = soon("the first frame", body.frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "first");
    body
}

/// Denies a path to requests that show this value of `x-role`, and only to them.
fn deny_role(path: &str, role: &str) -> String {
    let to = format!("to: [{{operation: {{paths: [\"{path}\"]}}}}]");
    let when = format!("when: [{{key: \"request.headers[x-role]\", values: [\"{role}\"]}}]");
    policy("deny", &format!("{{action: DENY, rules: [{{{to}, {when}}}]}}"))
}

/// The answer breaks off: it does not look as if it were whole.
async fn breaks_off(body: &mut Incoming) {
    let next = soon("the end of the answer", body.frame()).await;
    assert!(matches!(next, Some(Err(_))), "{next:?}");
}

/// Nothing comes and nothing ends: the connection still answers.
async fn goes_on(backend: &Backend, body: &mut Incoming) {
    // By then whatever the change did has been done.
    logged(&backend.sidecar, |line| line["response_flags"] == "RBAC").await;
    tokio::select! {
        biased;
        next = body.frame() => panic!("{next:?}"),
        () = std::future::ready(()) => {}
    }
}

#[test]
fn answer_in_progress_ends_when_a_policy_forbids_its_caller() {
    meshgate_tests::run(async {
        let (gone, mut goes) = mpsc::unbounded_channel();
        let application = endless(gone).await;
        let backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let inbound = backend.sidecar.inbound();
        let mut forbidden = Client::mesh(inbound, &backend.issue(FRONTEND)).await;
        let mut allowed = Client::mesh(inbound, &backend.issue(OTHER)).await;
        let (mut ending, mut going) = (begun(&mut forbidden, "/ending").await, begun(&mut allowed, "/going").await);

        backend.put("deny.yaml", &deny_peer(FRONTEND)).await;
        breaks_off(&mut ending).await;
        soon("the end of the application's side", goes.recv()).await.unwrap();
        let line = logged(&backend.sidecar, |line| line["path"] == "/ending").await;
        assert_eq!((&line["response_flags"], &line["response_code"]), (&"RBAC".into(), &200.into()), "{line}");
        goes_on(&backend, &mut going).await;
        drop(application);
    });
}

#[test]
fn http2_streams_in_progress_end_when_a_policy_forbids_their_caller() {
    meshgate_tests::run(async {
        let application = endless_http2().await;
        let backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let mesh = async |id| {
            let config = Arc::new(tls(Some(&backend.issue(id)), MESH_HTTP2));
            Client::http2(handshake(backend.sidecar.inbound(), &config).await.unwrap()).await
        };
        let (mut forbidden, mut allowed) = (mesh(FRONTEND).await, mesh(OTHER).await);
        let mut ending = [begun(&mut forbidden, "/one").await, begun(&mut forbidden, "/two").await];
        let mut going = begun(&mut allowed, "/going").await;

        backend.put("deny.yaml", &deny_peer(FRONTEND)).await;
        for body in &mut ending {
            breaks_off(body).await;
        }
        for path in ["/one", "/two"] {
            let line = logged(&backend.sidecar, |line| line["path"] == path).await;
            assert_eq!(line["response_flags"], "RBAC", "{line}");
        }
        goes_on(&backend, &mut going).await;
    });
}

#[test]
fn plaintext_answer_in_progress_ends_when_mutual_tls_becomes_mandatory() {
    meshgate_tests::run(async {
        let (gone, _goes) = mpsc::unbounded_channel();
        let application = endless(gone).await;
        let backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let mut plain = Client::plain(backend.sidecar.inbound()).await;
        let mut mesh = Client::mesh(backend.sidecar.inbound(), &backend.issue(FRONTEND)).await;
        let (mut ending, mut going) = (begun(&mut plain, "/ending").await, begun(&mut mesh, "/going").await);
        backend.put("strict.yaml", &mtls("STRICT")).await;
        breaks_off(&mut ending).await;
        goes_on(&backend, &mut going).await;
    });
}

#[test]
fn idle_connection_without_any_permission_left_is_closed() {
    meshgate_tests::run(async {
        let backend = Backend::start("").await;
        let mut client = Client::mesh(backend.sidecar.inbound(), &backend.issue(FRONTEND)).await;
        assert_eq!(client.get("/").await.unwrap().0, 200);
        // Something is left.
        backend.put("deny.yaml", &deny_path("/a")).await;
        assert_eq!(client.get("/").await.unwrap().0, 200);
        backend.put("deny.yaml", &deny_peer(FRONTEND)).await;
        let closed = async || client.is_closed().then_some(());
        meshgate::sandbox::until("the end of the connection", closed).await.unwrap();
    });
}

#[test]
fn only_the_answer_ends_that_a_policy_forbids() {
    meshgate_tests::run(async {
        let (gone, mut goes) = mpsc::unbounded_channel();
        let application = endless(gone).await;
        let backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let credentials = backend.issue(FRONTEND);
        let mut clients = [
            Client::mesh(backend.sidecar.inbound(), &credentials).await,
            Client::mesh(backend.sidecar.inbound(), &credentials).await,
        ];
        let [one, other] = &mut clients;
        let (mut ending, mut going) = (begun(one, "/ending").await, begun(other, "/going").await);

        backend.put("deny.yaml", &deny_path("/elsewhere")).await;
        assert_eq!(status(&backend.get("/elsewhere").await), 403);
        backend.put("deny.yaml", &deny_path("/ending")).await;
        breaks_off(&mut ending).await;
        soon("the end of the application's side", goes.recv()).await.unwrap();
        let line = logged(&backend.sidecar, |line| line["path"] == "/ending").await;
        assert_eq!((&line["response_flags"], &line["response_code"]), (&"RBAC".into(), &200.into()), "{line}");
        let details = line["response_code_details"].as_str().unwrap();
        assert!(details.starts_with("permission withdrawn: deny_rule") && details.contains("deny"), "{line}");
        goes_on(&backend, &mut going).await;
        drop(application);
    });
}

#[test]
fn only_the_http2_stream_ends_that_a_policy_forbids() {
    meshgate_tests::run(async {
        let application = endless_http2().await;
        let backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let config = Arc::new(tls(Some(&backend.issue(FRONTEND)), MESH_HTTP2));
        let mut client = Client::http2(handshake(backend.sidecar.inbound(), &config).await.unwrap()).await;
        let (mut ending, mut going) = (begun(&mut client, "/ending").await, begun(&mut client, "/going").await);

        backend.put("deny.yaml", &deny_path("/elsewhere")).await;
        assert_eq!(soon("an answer", client.send("/elsewhere")).await.unwrap().status(), 403);
        backend.put("deny.yaml", &deny_path("/ending")).await;
        breaks_off(&mut ending).await;
        let line = logged(&backend.sidecar, |line| line["path"] == "/ending").await;
        assert_eq!(line["response_flags"], "RBAC", "{line}");
        goes_on(&backend, &mut going).await;
        // The connection takes new requests.
        let mut more = begun(&mut client, "/more").await;
        goes_on(&backend, &mut more).await;
    });
}

#[test]
fn http2_requests_without_an_answer_yet_end_when_a_policy_forbids_them() {
    meshgate_tests::run(async {
        let (arrived, mut arrives) = mpsc::unbounded_channel();
        let application = App::http2(async move |request| {
            arrived.send(()).unwrap();
            // Neither reads nor answers.
            let _held = request;
            std::future::pending::<Response<Frames>>().await
        })
        .await;
        let backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let config = Arc::new(tls(Some(&backend.issue(FRONTEND)), MESH_HTTP2));
        let mut client = Client::http2(handshake(backend.sidecar.inbound(), &config).await.unwrap()).await;
        let change = async {
            soon("the request", arrives.recv()).await.unwrap();
            backend.put("deny.yaml", &deny_path("/waiting")).await;
        };
        let (answer, ()) = tokio::join!(client.send("/waiting"), change);
        assert!(answer.is_err(), "{answer:?}");
        assert!(!client.is_closed());
        let line = logged(&backend.sidecar, |line| line["path"] == "/waiting").await;
        assert_eq!((&line["response_flags"], &line["response_code"]), (&"RBAC".into(), &0.into()), "{line}");
    });
}

#[test]
fn upload_in_progress_ends_when_a_policy_forbids_it_and_never_looks_whole() {
    meshgate_tests::run(async {
        let (ended, mut ends) = mpsc::unbounded_channel();
        let application = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            wire.head().await.unwrap();
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            ended.send(wire.rest().await).unwrap();
        })
        .await;
        let backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let mut wire = Wire::connect(backend.sidecar.inbound()).await;
        wire.send(format!("POST /up HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"))
            .await;
        assert_eq!(wire.head().await.unwrap().status(), 200);
        backend.put("deny.yaml", &deny_path("/up")).await;
        let taken = String::from_utf8(soon("the end of the upload", ends.recv()).await.unwrap()).unwrap();
        assert!(!taken.contains("0\r\n"), "{taken:?}");
        let line = logged(&backend.sidecar, |line| line["path"] == "/up").await;
        assert_eq!(line["response_flags"], "RBAC", "{line}");
    });
}

#[test]
fn an_answer_in_progress_is_judged_by_the_headers_that_a_policy_asked_about_before() {
    meshgate_tests::run(async {
        let application = endless_http2().await;
        let backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let config = Arc::new(tls(Some(&backend.issue(FRONTEND)), MESH_HTTP2));
        let mut client = Client::http2(handshake(backend.sidecar.inbound(), &config).await.unwrap()).await;
        // Of these nothing is known about x-role: a change that needs it ends what it may concern, and nothing else.
        let (mut unknown, mut going) = (begun(&mut client, "/unknown").await, begun(&mut client, "/going").await);
        backend.put("deny.yaml", &deny_role("/unknown", "guest")).await;
        breaks_off(&mut unknown).await;
        goes_on(&backend, &mut going).await;
        // Of this it is known.
        let mut known = begun(&mut client, "/known").await;
        backend.put("deny.yaml", &deny_role("/known", "guest")).await;
        assert_eq!(soon("an answer", client.send("/known")).await.unwrap().status(), 200);
        goes_on(&backend, &mut known).await;
    });
}
