//! Open connections whose other end is nobody any more: its root was taken out, or its certificate has ended.

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use meshgate::sandbox::{POD_PORT, PodSpec, Sandbox, Sidecar, until};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;

use super::{echo, echoes};
use crate::support::app::{App, Frames, full};
use crate::support::backend::{BACKEND, Backend, FRONTEND, HOST, OTHER, counting, pod, service};
use crate::support::client::{Client, MESH_HTTP1, MESH_HTTP2, MESH_TCP, half_way, handshake, tls};
use crate::support::mesh::logged;
use crate::support::pki::{Authority, Credentials, provider, replace};
use crate::support::soon;
use crate::support::tunnel::Outer;
use crate::support::wire::Wire;

/// From a bundle's change on disk to the end of what rested on it. The files are read within 250 ms; the rest is for a machine that
/// does other things besides.
pub(super) const AT_ONCE: Duration = Duration::from_secs(2);

/// Says `first` and goes on for ever, over HTTP/2.
pub(super) async fn endless() -> App {
    let open = Rc::<RefCell<Vec<mpsc::Sender<Frame<Bytes>>>>>::default();
    App::http2(async move |_| {
        let (sender, frames) = Frames::channel();
        sender.send(Frame::data(Bytes::from_static(b"first"))).await.unwrap();
        open.borrow_mut().push(sender);
        Response::new(frames)
    })
    .await
}

pub(super) async fn begun(client: &mut Client) -> Incoming {
    let response = soon("an answer", client.send("/endless")).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert_eq!(soon("the first frame", body.frame()).await.unwrap().unwrap().into_data().unwrap(), "first");
    body
}

/// A backend that two roots vouch in, whose own certificate is of the second.
struct TwoRoots {
    backend: Backend,
    old: Authority,
    new: Authority,
}

impl TwoRoots {
    async fn start(change: impl FnOnce(&mut PodSpec)) -> Self {
        let new = Authority::new("cluster.local");
        let mut old = None;
        let backend = Backend::start_with(|sandbox, pod| {
            let authority = Authority::of(sandbox);
            replace(&sandbox.path("ca/ca.pem"), &(authority.pem.clone() + &new.pem));
            new.issue(BACKEND).install(sandbox, "backend");
            old = Some(authority);
            change(pod);
        });
        Self { backend: backend.await, old: old.unwrap(), new }
    }

    fn inbound(&self) -> SocketAddr {
        self.backend.sidecar.inbound()
    }

    /// Takes the old root out.
    fn forget(&self) {
        replace(&self.backend.sandbox.path("ca/ca.pem"), &self.new.pem);
    }
}

pub(super) async fn mesh(inbound: SocketAddr, credentials: &Credentials, alpn: &str) -> TlsStream<TcpStream> {
    handshake(inbound, &Arc::new(tls(Some(credentials), alpn))).await.unwrap()
}

/// The end of what is read, within a time from `start`.
pub(super) async fn ends(stream: &mut (impl AsyncReadExt + Unpin), start: Instant, within: Duration) {
    let end = soon("the end of the connection", stream.read(&mut [0])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert!(start.elapsed() < within, "after {:?} only", start.elapsed());
}

const ENDED: &str = "mesh_tls_sessions_ended_total{direction=\"inbound\",outcome=";

#[test]
fn open_tcp_connection_ends_when_its_root_is_taken_out_and_no_other() {
    meshgate_tests::run(async {
        let application = echo().await;
        let roots = TwoRoots::start(|pod| pod.application = Some(application.address())).await;
        let mut ending = mesh(roots.inbound(), &roots.old.issue(FRONTEND), MESH_TCP).await;
        let mut going = mesh(roots.inbound(), &roots.new.issue(OTHER), MESH_TCP).await;
        echoes(&mut ending).await.unwrap();
        echoes(&mut going).await.unwrap();
        let start = Instant::now();
        roots.forget();
        ends(&mut ending, start, AT_ONCE).await;
        let line = logged(&roots.backend.sidecar, |line| line["peer"] == FRONTEND).await;
        assert_eq!(line["response_flags"], "DOWNSTREAM_TLS", "{line}");
        let why = line["connection_termination_details"].as_str().unwrap();
        assert!(why.contains("nobody vouches for the peer's certificate any more"), "{line}");
        echoes(&mut going).await.unwrap();
        let metric = format!("{ENDED}\"untrusted\"}}");
        roots.backend.sidecar.until_metric(&metric, |count| count == 1.0).await.unwrap();
    });
}

#[test]
fn http_answer_in_progress_and_idle_connection_end_when_their_root_is_taken_out() {
    meshgate_tests::run(async {
        let application = endless().await;
        let roots = TwoRoots::start(|pod| pod.application = Some(application.address())).await;
        let (gone, stays) = (roots.old.issue(FRONTEND), roots.new.issue(OTHER));
        let mut ending = Client::http2(mesh(roots.inbound(), &gone, MESH_HTTP2).await).await;
        let mut going = Client::http2(mesh(roots.inbound(), &stays, MESH_HTTP2).await).await;
        let (mut broken, mut whole) = (begun(&mut ending).await, begun(&mut going).await);
        let mut idle = mesh(roots.inbound(), &gone, MESH_HTTP1).await;
        let start = Instant::now();
        roots.forget();
        ends(&mut idle, start, AT_ONCE).await;
        let next = soon("the end of the answer", broken.frame()).await;
        assert!(matches!(next, Some(Err(_))), "{next:?}");
        assert!(ending.send("/again").await.is_err());
        let line = logged(&roots.backend.sidecar, |line| line["peer"] == FRONTEND).await;
        let why = line["response_code_details"].as_str().unwrap();
        assert!(why.contains("nobody vouches for the peer's certificate any more"), "{line}");
        tokio::select! {
            biased;
            next = whole.frame() => panic!("{next:?}"),
            () = std::future::ready(()) => {}
        }
        drop(begun(&mut going).await);
    });
}

#[test]
fn tunnels_and_what_is_in_them_end_when_the_root_of_their_caller_is_taken_out() {
    meshgate_tests::run(async {
        let application = endless().await;
        let roots = TwoRoots::start(|pod| {
            pod.application = Some(application.address());
            pod.hbone = Some("");
        })
        .await;
        let (hbone, target) = (roots.backend.sidecar.hbone(), roots.inbound().to_string());
        let ending = Outer::connect(hbone, &roots.old.issue(FRONTEND)).await;
        let going = Outer::connect(hbone, &roots.new.issue(OTHER)).await;
        let mut idle = ending.open(&target).await.unwrap();
        let mut inside = Client::http2(ending.open(&target).await.unwrap()).await;
        let mut whole = Client::http2(going.open(&target).await.unwrap()).await;
        let (mut broken, _whole) = (begun(&mut inside).await, begun(&mut whole).await);
        let start = Instant::now();
        roots.forget();
        ends(&mut idle, start, AT_ONCE).await;
        let next = soon("the end of the answer", broken.frame()).await;
        assert!(matches!(next, Some(Err(_))), "{next:?}");
        until("the end of the outer connection", async || ending.is_closed().then_some(())).await.unwrap();
        drop(begun(&mut whole).await);
    });
}

/// A handshake that is half way, and what the client would send then.
pub(super) async fn about_to_ask(inbound: SocketAddr, credentials: &Credentials, alpn: &str) -> (TcpStream, Vec<u8>) {
    let (stream, mut client) = half_way(inbound, credentials, alpn).await;
    client.writer().write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    let mut rest = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut rest).unwrap();
    }
    (stream, rest)
}

#[test]
fn a_handshake_during_which_its_root_is_taken_out_comes_to_nothing() {
    meshgate_tests::run(async {
        let (application, hits) = counting().await;
        let roots = TwoRoots::start(|pod| pod.application = Some(application.address())).await;
        let gone = roots.old.issue(FRONTEND);
        let mut idle = mesh(roots.inbound(), &gone, MESH_HTTP1).await;
        let mut late = Vec::new();
        for alpn in [MESH_HTTP1, MESH_TCP] {
            late.push(about_to_ask(roots.inbound(), &gone, alpn).await);
        }
        roots.forget();
        ends(&mut idle, Instant::now(), AT_ONCE).await;
        for (mut stream, rest) in late {
            stream.write_all(&rest).await.unwrap();
            let end = tokio::time::timeout(AT_ONCE, stream.read_to_end(&mut Vec::new())).await;
            assert!(end.is_ok(), "it is still open");
        }
        assert_eq!(hits.get(), 0);
    });
}

#[test]
fn connections_go_on_when_a_root_is_added_and_the_own_certificate_is_renewed() {
    meshgate_tests::run(async {
        let application = echo().await;
        let roots = TwoRoots::start(|pod| pod.application = Some(application.address())).await;
        let mut going = mesh(roots.inbound(), &roots.old.issue(FRONTEND), MESH_TCP).await;
        echoes(&mut going).await.unwrap();
        let third = Authority::new("cluster.local");
        let all = roots.old.pem.clone() + &roots.new.pem + &third.pem;
        replace(&roots.backend.sandbox.path("ca/ca.pem"), &all);
        roots.new.issue(BACKEND).install(&roots.backend.sandbox, "backend");
        roots.backend.sidecar.until_metric("mesh_identity_generation", |now| now >= 2.0).await.unwrap();
        // One of the other root is let in only after all the open ones were looked at.
        let mut another = mesh(roots.inbound(), &third.issue(OTHER), MESH_TCP).await;
        echoes(&mut another).await.unwrap();
        echoes(&mut going).await.unwrap();
    });
}

/// Ends on a full second, as certificates do, at least so long from now.
fn in_seconds(seconds: u64) -> SystemTime {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    SystemTime::UNIX_EPOCH + Duration::from_secs(now + seconds + 1)
}

fn ending_at(authority: &Authority, id: &str, end: SystemTime) -> Credentials {
    authority.issue_with(id, |params| params.not_after = end.into())
}

/// The grace of these tests.
const GRACE: Duration = Duration::from_secs(2);

const SHORT_GRACE: &str = "timeouts: {expiredPeer: 2s}\n";

#[test]
fn tcp_connection_outlives_its_certificate_by_the_grace_and_no_longer() {
    meshgate_tests::run(async {
        let application = echo().await;
        let backend = Backend::start_with(|_, pod| {
            pod.application = Some(application.address());
            pod.bootstrap = SHORT_GRACE.to_owned();
        });
        let backend = backend.await;
        let end = in_seconds(3);
        let credentials = ending_at(&backend.authority(), FRONTEND, end);
        let mut ending = mesh(backend.sidecar.inbound(), &credentials, MESH_TCP).await;
        let mut going = mesh(backend.sidecar.inbound(), &backend.issue(OTHER), MESH_TCP).await;
        echoes(&mut ending).await.unwrap();
        echoes(&mut going).await.unwrap();
        ends(&mut ending, Instant::now(), Duration::from_secs(10)).await;
        let after = SystemTime::now().duration_since(end).expect("not before the certificate's end");
        assert!(after >= GRACE && after < GRACE + Duration::from_secs(3), "{after:?} after the certificate's end");
        let line = logged(&backend.sidecar, |line| line["peer"] == FRONTEND).await;
        assert_eq!(line["connection_termination_details"], "mutual TLS required: the peer's certificate has expired");
        echoes(&mut going).await.unwrap();
    });
}

#[test]
fn http_connections_are_told_to_go_when_their_certificate_ends_and_finish_what_they_are_at() {
    meshgate_tests::run(async {
        let (release, released) = tokio::sync::watch::channel(false);
        let application = App::http2(async move |_| {
            released.clone().wait_for(|released| *released).await.unwrap();
            Response::new(full("late"))
        });
        let application = application.await;
        let backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let end = in_seconds(3);
        let credentials = ending_at(&backend.authority(), FRONTEND, end);
        let inbound = backend.sidecar.inbound();
        let mut held = Client::http2(mesh(inbound, &credentials, MESH_HTTP2).await).await;
        let mut idle = mesh(inbound, &credentials, MESH_HTTP1).await;
        let answer = tokio::task::spawn_local(async move { (held.get("/held").await, held) });
        // The idle one goes at the certificate's end, and not before.
        ends(&mut idle, Instant::now(), Duration::from_secs(8)).await;
        assert!(SystemTime::now() >= end, "before the certificate's end");
        release.send(true).unwrap();
        let (answer, held) = answer.await.unwrap();
        assert_eq!(answer.unwrap(), (200, "late".to_owned()));
        until("the end of the connection", async || held.is_closed().then_some(())).await.unwrap();
    });
}

/// A called workload that is no sidecar of ours: it accepts with these credentials, says `first`, and waits for the end.
pub(crate) async fn server(address: SocketAddr, credentials: &Credentials, ended: mpsc::UnboundedSender<()>) {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth();
    let mut config = config.with_cert_resolver(credentials.resolver());
    config.alpn_protocols = vec![MESH_HTTP1.into(), MESH_TCP.into()];
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind(address).await.unwrap());
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, ended) = (acceptor.clone(), ended.clone());
            tokio::task::spawn_local(async move {
                // Who does not come to speak is not what this is about.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
                let _ = ended.send(());
            });
        }
    });
}

/// A caller with a sidecar, and the address of the one service that it knows.
async fn caller(change: impl FnOnce(&mut Sandbox, &mut PodSpec)) -> (Sandbox, Sidecar, SocketAddr) {
    let mut sandbox = Sandbox::new(crate::binary()).unwrap();
    let (address, called) = (sandbox.next_address(), SocketAddr::new(sandbox.next_address(), POD_PORT));
    sandbox.write_resource("workloads.yaml", &service(called.ip())).unwrap();
    let mut spec = PodSpec { outbound: vec![(15101, called)], ..pod("frontend") };
    change(&mut sandbox, &mut spec);
    let sidecar = sandbox.start(&spec, address).await.unwrap();
    (sandbox, sidecar, called)
}

/// An answer and a stream of bytes in progress, both from the service.
async fn calls(sidecar: &Sidecar) -> (Wire, TcpStream) {
    let mut http = Wire::connect(sidecar.outbound()).await;
    http.send(format!("GET /endless HTTP/1.1\r\nhost: {HOST}\r\n\r\n")).await;
    assert_eq!(http.head().await.unwrap().status(), 200);
    let mut tcp = TcpStream::connect((sidecar.outbound().ip(), 15101)).await.unwrap();
    tcp.write_all(&[1, 2, 3, b'\n']).await.unwrap();
    soon("the first bytes", tcp.read_exact(&mut [0; 5])).await.unwrap();
    (http, tcp)
}

#[test]
fn what_is_in_progress_with_a_server_ends_when_its_root_is_taken_out() {
    meshgate_tests::run(async {
        let new = Authority::new("cluster.local");
        let mut old = None;
        let (sandbox, sidecar, called) = caller(|sandbox, _| {
            let authority = Authority::of(sandbox);
            replace(&sandbox.path("ca/ca.pem"), &(authority.pem.clone() + &new.pem));
            new.issue(FRONTEND).install(sandbox, "frontend");
            old = Some(authority);
        })
        .await;
        let (ended, mut ends_heard) = mpsc::unbounded_channel();
        server(called, &old.unwrap().issue(BACKEND), ended).await;
        let (mut http, mut tcp) = calls(&sidecar).await;
        let start = Instant::now();
        replace(&sandbox.path("ca/ca.pem"), &new.pem);
        let rest = async { tcp.read_to_end(&mut Vec::new()).await };
        assert!(soon("the end of the bytes", rest).await.is_ok_and(|len| len > 0));
        let rest = String::from_utf8(http.rest().await).unwrap();
        assert!(start.elapsed() < AT_ONCE, "after {:?} only", start.elapsed());
        assert!(!rest.contains("0\r\n\r\n"), "it looks whole: {rest:?}");
        for _ in 0..2 {
            soon("the end at the server", ends_heard.recv()).await.unwrap();
        }
        let line = logged(&sidecar, |line| line["protocol"] == "TCP").await;
        assert_eq!(line["response_flags"], "TLS_FAILURE", "{line}");
    });
}

#[test]
fn a_connection_to_a_server_whose_certificate_has_ended_is_not_used_again_and_ends_after_the_grace() {
    meshgate_tests::run(async {
        let (sandbox, sidecar, called) = caller(|_, pod| pod.bootstrap = SHORT_GRACE.to_owned()).await;
        let (ended, mut ends_heard) = mpsc::unbounded_channel();
        let end = in_seconds(3);
        server(called, &ending_at(&Authority::of(&sandbox), BACKEND, end), ended).await;
        let (mut http, mut tcp) = calls(&sidecar).await;
        http.rest().await;
        soon("the end of the bytes", tcp.read_to_end(&mut Vec::new())).await.unwrap();
        let after = SystemTime::now().duration_since(end).expect("not before the certificate's end");
        assert!(after >= GRACE && after < GRACE + Duration::from_secs(3), "{after:?} after the certificate's end");
        for _ in 0..2 {
            soon("the end at the server", ends_heard.recv()).await.unwrap();
        }
    });
}

/// What openssl says about a request of its own: whether it was a new session, and the answer. It remembers what it is given to
/// remember in `session`, and asks for that again when it is there. `None` on a machine without it.
fn s_client(address: SocketAddr, credentials: &Credentials, folder: &Path) -> Option<String> {
    let file = |name: &str| folder.join(name);
    std::fs::write(file("cert.pem"), &credentials.certificate_pem).unwrap();
    std::fs::write(file("key.pem"), &credentials.key_pem).unwrap();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-tls1_3", "-ign_eof", "-alpn", MESH_HTTP1, "-connect", &address.to_string()]);
    command.arg("-cert").arg(file("cert.pem")).arg("-key").arg(file("key.pem")).arg("-sess_out").arg(file("session"));
    if file("session").exists() {
        command.arg("-sess_in").arg(file("session"));
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    // One that is refused may be gone before it has been told what to ask.
    let _ = write!(child.stdin.take().unwrap(), "GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    Some(String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned())
}

#[test]
fn openssl_has_no_session_to_ask_for_again_and_is_out_with_its_root() {
    meshgate_tests::run(async {
        let (application, _) = counting().await;
        let roots = TwoRoots::start(|pod| pod.application = Some(application.address())).await;
        let (folder, credentials) = (tempfile::tempdir().unwrap(), roots.old.issue(FRONTEND));
        let ask = async || {
            let (address, credentials, folder) = (roots.inbound(), credentials.clone(), folder.path().to_owned());
            let asking = tokio::task::spawn_blocking(move || s_client(address, &credentials, &folder));
            soon("the end of openssl", asking).await.unwrap()
        };
        for _ in 0..2 {
            let Some(said) = ask().await else {
                // Straight to the descriptor: the harness keeps what eprintln! writes in a test that passes.
                let _ = std::io::stderr().write_all(b"\n*** SKIPPED: sessions of openssl: there is no openssl ***\n");
                return;
            };
            assert!(said.contains("HTTP/1.1 200") && said.contains("New, TLSv1.3"), "{said}");
            assert!(!said.contains("Reused") && !said.contains("New Session Ticket"), "{said}");
            assert!(!folder.path().join("session").exists(), "it was given something to remember");
        }
        roots.forget();
        roots.backend.sidecar.until_metric("mesh_identity_generation", |now| now >= 2.0).await.unwrap();
        let said = ask().await.unwrap();
        assert!(!said.contains("HTTP/1.1"), "{said}");
    });
}
