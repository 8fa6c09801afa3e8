//! The end of a process: what is at it is finished, nothing new is begun, and it does come.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use meshgate::sandbox::{Answer, Caller, Sidecar, request, until};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;

use crate::support::app::{App, full, ok};
use crate::support::backend::{Backend, FRONTEND, HELLO, HOST, counting, ended, pod, service, signal};
use crate::support::client::{Client, MESH_HTTP1, MESH_HTTP2, half_way, handshake, tls};
use crate::support::mesh::{BACKEND, Mesh, Spec};
use crate::support::soon;
use crate::support::wire::Wire;

/// An application whose connections the test takes and answers by hand.
struct ByHand(TcpListener);

impl ByHand {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next request, not answered.
    async fn request(&self) -> Wire {
        let (stream, _) = soon("a connection to the application", self.0.accept()).await.unwrap();
        let mut wire = Wire::over(stream);
        wire.request().await.expect("a request");
        wire
    }

    /// In front of it a sidecar with more lines in its bootstrap file.
    async fn behind(&self, bootstrap: &str) -> Backend {
        Backend::start_with(|_, pod| {
            pod.application = Some(self.address());
            pod.bootstrap = bootstrap.to_owned();
        })
        .await
    }
}

/// Sends a request that will be held, and returns its answer to be and the application's end of it.
async fn hold(backend: &Backend, application: &ByHand) -> (JoinHandle<Answer>, Wire) {
    let inbound = backend.sidecar.inbound();
    let answer = spawn_local(async move { request(inbound, HOST, Method::GET, "/held").await });
    (answer, application.request().await)
}

/// Sends SIGTERM and waits until the process says that it drains.
async fn drain(sidecar: &Sidecar) {
    signal(sidecar, "TERM");
    let draining = async || match request(sidecar.admin(), "admin", Method::GET, "/ready").await {
        Answer::Http { status: 503, body, .. } => Some(body),
        _ => None,
    };
    assert_eq!(until("the drain", draining).await.unwrap(), "not ready: draining\n");
}

/// Only connects: what is taken in the last instant is served, and its request would be held like the others.
async fn is_refused(address: SocketAddr) {
    let refused = async || {
        let error = TcpStream::connect(address).await.err()?;
        (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    };
    until("connections to be refused", refused).await.unwrap();
}

/// The process has ended by itself, and says that all is well.
async fn ends_well(backend: &mut Backend) {
    let status = ended(&mut backend.sidecar).await;
    let log = backend.sidecar.output();
    assert!(status.success() && !log.contains("panicked"), "{status}; its log: {log}");
}

#[test]
fn request_in_flight_is_answered_before_the_process_ends() {
    meshgate_tests::run(async {
        let application = ByHand::start().await;
        let mut backend = application.behind("").await;
        let (answer, mut held) = hold(&backend, &application).await;
        drain(&backend.sidecar).await;
        is_refused(backend.sidecar.inbound()).await;
        assert!(backend.sidecar.child().try_wait().unwrap().is_none(), "it did not wait");
        held.send(ok("late")).await;
        let Answer::Http { status, headers, body } = answer.await.unwrap() else { panic!("no answer") };
        assert_eq!((status, body.as_str()), (200, "late"));
        assert_eq!(headers.get("connection").unwrap(), "close");
        ends_well(&mut backend).await;
        let log = backend.sidecar.access_log();
        assert_eq!((log.len(), &log[0]["path"], &log[0]["response_code"]), (1, &"/held".into(), &200.into()));
    });
}

#[test]
fn http2_stream_in_flight_is_answered_before_the_process_ends() {
    meshgate_tests::run(async {
        let (release, released) = tokio::sync::watch::channel(false);
        let (arrive, mut arrived) = tokio::sync::mpsc::channel(1);
        let application = App::http2(async move |_| {
            arrive.send(()).await.unwrap();
            released.clone().wait_for(|released| *released).await.unwrap();
            http::Response::new(full("late"))
        });
        let application = application.await;
        let mut backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let config = Arc::new(tls(Some(&backend.issue(FRONTEND)), MESH_HTTP2));
        let mut client = Client::http2(handshake(backend.sidecar.inbound(), &config).await.unwrap()).await;
        let answer = spawn_local(async move { client.get("/held").await });
        arrived.recv().await.unwrap();
        drain(&backend.sidecar).await;
        release.send(true).unwrap();
        assert_eq!(answer.await.unwrap().unwrap(), (200, "late".to_owned()));
        ends_well(&mut backend).await;
    });
}

#[test]
fn idle_kept_alive_connection_is_closed_soon_after_the_drain_begins() {
    meshgate_tests::run(async {
        let application = ByHand::start().await;
        let mut backend = application.behind("").await;
        let mut idle = Client::plain(backend.sidecar.inbound()).await;
        // An application that closes, so that the next request comes on a connection of its own.
        let answered = async { application.request().await.send(ok(HELLO)).await };
        let (answer, ()) = tokio::join!(idle.get("/"), answered);
        assert_eq!(answer.unwrap().0, 200);
        let (answer, mut held) = hold(&backend, &application).await;
        assert!(!idle.is_closed());
        drain(&backend.sidecar).await;
        until("the idle connection's end", async || idle.is_closed().then_some(())).await.unwrap();
        assert!(backend.sidecar.child().try_wait().unwrap().is_none(), "all were closed");
        held.send(ok("late")).await;
        assert_eq!(answer.await.unwrap().to_string(), "200");
        ends_well(&mut backend).await;
    });
}

#[test]
fn outbound_goes_on_while_the_application_finishes() {
    meshgate_tests::run(async {
        let application = ByHand::start().await;
        let mut backend = application.behind("").await;
        let (other_application, hits) = counting().await;
        let (address, mut spec) = (backend.sandbox.next_address(), pod("backend"));
        spec.name = "second".to_owned();
        spec.application = Some(other_application.address());
        let second = backend.sandbox.start(&spec, address).await.unwrap();
        backend.put("workloads.yaml", &service(second.inbound().ip())).await;

        let (answer, mut held) = hold(&backend, &application).await;
        drain(&backend.sidecar).await;
        is_refused(backend.sidecar.inbound()).await;
        // To answer what it is at, the application may need to ask others: on new connections too.
        for asked in 1..3 {
            let answer = request(backend.sidecar.outbound(), HOST, Method::GET, "/").await;
            assert_eq!((answer.to_string().as_str(), hits.get()), ("200", asked));
        }
        held.send(ok("late")).await;
        assert_eq!(answer.await.unwrap().to_string(), "200");
        ends_well(&mut backend).await;
    });
}

#[test]
fn open_tcp_connection_goes_on_until_its_own_end() {
    meshgate_tests::run(async {
        let application = ByHand::start().await;
        let mut backend = application.behind("").await;
        let mut client = TcpStream::connect(backend.sidecar.inbound()).await.unwrap();
        client.write_all(&[1, 2, 3, b'\n']).await.unwrap();
        let (mut server, _) = soon("a connection to the application", application.0.accept()).await.unwrap();
        let mut heard = [0; 4];
        soon("the first bytes", server.read_exact(&mut heard)).await.unwrap();
        drain(&backend.sidecar).await;
        is_refused(backend.sidecar.inbound()).await;
        server.write_all(b"still here").await.unwrap();
        drop(server);
        let mut rest = String::new();
        soon("the rest", client.read_to_string(&mut rest)).await.unwrap();
        assert_eq!(rest, "still here");
        drop(client);
        ends_well(&mut backend).await;
    });
}

#[test]
fn a_tcp_connection_that_the_drain_cuts_is_logged_with_what_it_has_moved() {
    meshgate_tests::run(async {
        let application = ByHand::start().await;
        let mut backend = application.behind("timeouts: {drain: 10m}\n").await;
        let mut client = TcpStream::connect(backend.sidecar.inbound()).await.unwrap();
        client.write_all(&[1, 2, 3, b'\n']).await.unwrap();
        let (mut server, _) = soon("a connection to the application", application.0.accept()).await.unwrap();
        let mut heard = [0; 4];
        soon("the first bytes", server.read_exact(&mut heard)).await.unwrap();
        server.write_all(b"still here").await.unwrap();
        let mut heard = [0; 10];
        soon("the answer", client.read_exact(&mut heard)).await.unwrap();
        drain(&backend.sidecar).await;
        signal(&backend.sidecar, "TERM");
        ends_well(&mut backend).await;
        let log = backend.sidecar.access_log();
        assert_eq!(log.len(), 1, "{log:?}");
        assert_eq!((log[0]["bytes_received"].as_u64(), log[0]["bytes_sent"].as_u64()), (Some(4), Some(10)), "{log:?}");
    });
}

#[test]
fn second_sigterm_cuts_what_is_left() {
    meshgate_tests::run(async {
        let application = ByHand::start().await;
        let mut backend = application.behind("timeouts: {drain: 10m}\n").await;
        let (answer, _held) = hold(&backend, &application).await;
        drain(&backend.sidecar).await;
        signal(&backend.sidecar, "TERM");
        ends_well(&mut backend).await;
        assert_eq!(answer.await.unwrap(), Answer::Closed);
        // That it was cut is not a secret.
        let log = backend.sidecar.access_log();
        assert_eq!((log.len(), &log[0]["path"], &log[0]["response_code"]), (1, &"/held".into(), &0.into()), "{log:?}");
    });
}

#[test]
fn drain_deadline_cuts_what_is_left() {
    meshgate_tests::run(async {
        let application = ByHand::start().await;
        let mut backend = application.behind("timeouts: {drain: 1s}\n").await;
        let (answer, _held) = hold(&backend, &application).await;
        let start = Instant::now();
        signal(&backend.sidecar, "TERM");
        ends_well(&mut backend).await;
        assert!(start.elapsed() >= Duration::from_secs(1), "after {:?} only", start.elapsed());
        assert_eq!(answer.await.unwrap(), Answer::Closed);
        let log = backend.sidecar.output();
        assert!(log.contains("drain deadline reached"), "{log}");
    });
}

#[test]
fn process_without_connections_ends_at_once_on_either_signal() {
    meshgate_tests::run(async {
        for name in ["TERM", "INT"] {
            let mut backend = Backend::start_with(|_, pod| pod.bootstrap = "timeouts: {drain: 10m}\n".to_owned()).await;
            signal(&backend.sidecar, name);
            ends_well(&mut backend).await;
        }
    });
}

const POST: &str = "POST / HTTP/1.1\r\nhost: backend.default.svc.cluster.local\r\ncontent-length: 4\r\n\r\nbody";

/// Long enough to ask within the time that is left to who has not been told yet; the process takes this longer to end.
const GRACE: Duration = Duration::from_secs(1);

#[test]
fn whoever_is_about_to_ask_as_the_drain_begins_is_served_and_told_that_it_was_the_last_time() {
    meshgate_tests::run(async {
        let mut backend = Backend::start_with(|_, pod| pod.bootstrap = "timeouts: {drain: 10m}\n".to_owned()).await;
        let inbound = backend.sidecar.inbound();
        // One that has said nothing, one that has begun to, one that was served before, and one in the middle of its handshake.
        let silent = Wire::connect(inbound).await;
        let mut begun = Wire::connect(inbound).await;
        begun.send(&POST[..9]).await;
        let mut kept = Wire::connect(inbound).await;
        assert_eq!(kept.ask(POST).await.status(), 200);
        let (mut mesh, mut tls) = half_way(inbound, &backend.issue(FRONTEND), MESH_HTTP1).await;
        drain(&backend.sidecar).await;
        let start = Instant::now();
        for (mut wire, rest) in [(silent, POST), (begun, &POST[9..]), (kept, POST)] {
            wire.send(rest).await;
            let answer = wire.answer().await;
            assert_eq!((answer.status(), answer.field("connection")), (200, Some("close")), "{rest:?}");
        }
        tls.writer().write_all(POST.as_bytes()).unwrap();
        let mut rest = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut rest).unwrap();
        }
        mesh.write_all(&rest).await.unwrap();
        let mut answer = Vec::new();
        soon("the last answer", mesh.read_to_end(&mut answer)).await.unwrap();
        let mut answer = answer.as_slice();
        while !answer.is_empty() {
            tls.read_tls(&mut answer).unwrap();
            tls.process_new_packets().unwrap();
        }
        let mut text = String::new();
        tls.reader().read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("connection: close"), "{text}");
        ends_well(&mut backend).await;
        assert!(start.elapsed() < 4 * GRACE, "{:?}", start.elapsed());
    });
}

#[test]
fn idle_connections_hold_up_the_end_for_a_moment_only() {
    meshgate_tests::run(async {
        let mut backend = Backend::start_with(|_, pod| pod.bootstrap = "timeouts: {drain: 10m}\n".to_owned()).await;
        let (mut wires, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let mut kept = Wire::connect(backend.sidecar.inbound()).await;
            assert_eq!(kept.ask(POST).await.status(), 200);
            wires.push(kept);
            let config = Arc::new(tls(Some(&backend.issue(FRONTEND)), MESH_HTTP2));
            clients.push(Client::http2(handshake(backend.sidecar.inbound(), &config).await.unwrap()).await);
        }
        let start = Instant::now();
        signal(&backend.sidecar, "TERM");
        ends_well(&mut backend).await;
        assert!(start.elapsed() < 3 * GRACE, "{:?}", start.elapsed());
    });
}

/// Nothing of a request has come yet, so there is nothing to finish.
async fn does_not_hold_up(first: &[u8], seen: &str) {
    let timeouts = "timeouts: {drain: 10m, detect: 10m, tlsHandshake: 10m, requestHeader: 10m}\n";
    let mut backend = Backend::start_with(|_, pod| pod.bootstrap = timeouts.to_owned()).await;
    let mut client = TcpStream::connect(backend.sidecar.inbound()).await.unwrap();
    client.write_all(first).await.unwrap();
    backend.sidecar.until_metric(seen, |count| count >= 1.0).await.unwrap();
    signal(&backend.sidecar, "TERM");
    ends_well(&mut backend).await;
}

#[test]
fn connection_that_said_nothing_does_not_hold_up_the_end() {
    meshgate_tests::run(does_not_hold_up(b"", "mesh_connections{direction=\"inbound\"}"));
}

#[test]
fn handshake_left_half_way_does_not_hold_up_the_end() {
    let name = ServerName::try_from(HOST).unwrap();
    let mut connection = ClientConnection::new(Arc::new(tls(None, MESH_HTTP2)), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    let seen = "mesh_detections_total{direction=\"inbound\",outcome=\"tls\"}";
    meshgate_tests::run(does_not_hold_up(&hello, seen));
}

#[test]
fn unready_first_and_closed_later_when_a_delay_is_set() {
    meshgate_tests::run(async {
        let mut backend = Backend::start_with(|_, pod| pod.bootstrap = "timeouts: {drainDelay: 3s}\n".to_owned()).await;
        let start = Instant::now();
        drain(&backend.sidecar).await;
        // Whoever has not been told yet still calls.
        assert_eq!(backend.get("/").await.to_string(), "200");
        assert!(start.elapsed() < Duration::from_secs(3), "too late to tell");
        ends_well(&mut backend).await;
        assert!(start.elapsed() >= Duration::from_secs(3), "after {:?} only", start.elapsed());
    });
}

#[test]
fn second_signal_ends_the_delay() {
    meshgate_tests::run(async {
        let mut backend =
            Backend::start_with(|_, pod| pod.bootstrap = "timeouts: {drainDelay: 10m}\n".to_owned()).await;
        drain(&backend.sidecar).await;
        signal(&backend.sidecar, "INT");
        ends_well(&mut backend).await;
    });
}

/// Worker threads that are there.
fn workers(sidecar: &Sidecar) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", sidecar.pid())).unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("worker-")).count()
}

#[test]
fn outbound_of_every_worker_goes_on_while_one_has_a_connection_left() {
    meshgate_tests::run(async {
        let application = ByHand::start().await;
        let mut backend = application.behind("workers: 4\n").await;
        let (other_application, _) = counting().await;
        let (address, mut spec) = (backend.sandbox.next_address(), pod("backend"));
        spec.name = "second".to_owned();
        spec.application = Some(other_application.address());
        let second = backend.sandbox.start(&spec, address).await.unwrap();
        backend.put("workloads.yaml", &service(second.inbound().ip())).await;
        let (answer, mut held) = hold(&backend, &application).await;
        drain(&backend.sidecar).await;
        is_refused(backend.sidecar.inbound()).await;
        // The kernel spreads them over all workers that listen.
        for _ in 0..40 {
            assert_eq!(request(backend.sidecar.outbound(), HOST, Method::GET, "/").await.to_string(), "200");
        }
        assert_eq!(workers(&backend.sidecar), 4, "some have gone");
        held.send(ok("late")).await;
        assert_eq!(answer.await.unwrap().to_string(), "200");
        ends_well(&mut backend).await;
    });
}

/// A POST to the admin endpoint.
async fn post(sidecar: &Sidecar, host: &str, path: &str) -> Answer {
    request(sidecar.admin(), host, Method::POST, path).await
}

#[test]
fn post_to_quitquitquit_drains_where_that_is_wanted() {
    meshgate_tests::run(async {
        let application = ByHand::start().await;
        let mut backend = application.behind("").await;
        let file = backend.sidecar.bootstrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("admin: {address: "), "{text}");
        assert_eq!(post(&backend.sidecar, "localhost", "/quitquitquit").await.to_string(), "403 admin.quit is not set");
        std::fs::write(&file, text.replace("admin: {", "admin: {quit: true, ")).unwrap();
        backend.sidecar.restart().await.unwrap();
        for (host, method, expected) in [("evil.example", Method::POST, 403), ("localhost", Method::GET, 405)] {
            let answer = request(backend.sidecar.admin(), host, method, "/quitquitquit").await;
            assert!(matches!(answer, Answer::Http { status, .. } if status == expected), "{answer}");
        }
        let (answer, mut held) = hold(&backend, &application).await;
        // Twice is once: what is held is not cut.
        for _ in 0..2 {
            assert_eq!(post(&backend.sidecar, "localhost", "/quitquitquit").await.to_string(), "200");
        }
        is_refused(backend.sidecar.inbound()).await;
        held.send(ok("late")).await;
        assert_eq!(answer.await.unwrap().to_string(), "200");
        ends_well(&mut backend).await;
    });
}

/// Requests in all; the figure of a release is 50,000.
const UNDER_LOAD: usize = 3_000;

#[test]
fn sigterm_under_load_fails_no_request_and_the_process_ends_in_time() {
    sigterm_under_load(false);
}

#[test]
fn sigterm_under_load_through_tunnels_fails_no_request_either() {
    sigterm_under_load(true);
}

fn sigterm_under_load(tunnels: bool) {
    meshgate_tests::run(async {
        let (one, other) = (App::ok().await, App::ok().await);
        let mut spec = Spec::of(&[one.address(), other.address()]);
        spec.tunnels = tunnels;
        let mut mesh = Mesh::start(spec).await;
        let (asked, failed) = (Rc::new(Cell::new(0)), Rc::<Cell<Option<Answer>>>::default());
        let clients: Vec<_> = (0..16)
            .map(|client| {
                let (asked, failed, outbound) = (Rc::clone(&asked), Rc::clone(&failed), mesh.frontend.outbound());
                spawn_local(async move {
                    let mut kept = Caller::connect(outbound).await.unwrap();
                    while asked.get() < UNDER_LOAD {
                        asked.set(asked.get() + 1);
                        // A POST is never sent twice.
                        let method = if asked.get() % 2 == 0 { Method::GET } else { Method::POST };
                        let answer = match client % 2 {
                            0 => kept.request(BACKEND, method, "/").await,
                            _ => request(outbound, BACKEND, method, "/").await,
                        };
                        if !matches!(answer, Answer::Http { status: 200, .. }) {
                            failed.set(Some(answer));
                        }
                    }
                })
            })
            .collect();
        until("half of the load", async || (asked.get() > UNDER_LOAD / 2).then_some(())).await.unwrap();
        let start = Instant::now();
        signal(&mesh.backends[0], "TERM");
        let child = mesh.backends[0].child();
        let status = until("the end of the process", async || child.try_wait().unwrap()).await.unwrap();
        let took = start.elapsed();
        assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
        for client in clients {
            client.await.unwrap();
        }
        let failed = failed.take();
        assert!(failed.is_none(), "{failed:?}");
        println!("{} requests, ended within {took:?}", asked.get());
    });
}
