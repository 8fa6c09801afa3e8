//! More than there is room for: what is refused, how fast, and that room comes back.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use meshgate::sandbox::until;
use meshgate_tests::run;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::support::app::{App, ok};
use crate::support::mesh::{BACKEND, Mesh, Spec, logged, logged_path};
use crate::support::soon;
use crate::support::wire::{Message, Wire};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")
}

async fn mesh(app: &App, backend: &str) -> Mesh {
    let mut spec = Spec::of(&[app.address()]);
    spec.backend = backend.to_owned();
    Mesh::start(spec).await
}

/// Answers when it is told to, and counts what waits.
struct Gate {
    open: Rc<Cell<bool>>,
    waiting: Rc<Cell<usize>>,
    app: App,
}

impl Gate {
    async fn closed() -> Self {
        let (open, waiting) = (Rc::<Cell<bool>>::default(), Rc::<Cell<usize>>::default());
        let (opened, waits) = (Rc::clone(&open), Rc::clone(&waiting));
        let app = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            while wire.request().await.is_some() {
                waits.set(waits.get() + 1);
                until("the gate", async || opened.get().then_some(())).await.unwrap();
                if !wire.try_send(ok("through")).await {
                    return;
                }
            }
        })
        .await;
        Self { open, waiting, app }
    }

    async fn until_waiting(&self, number: usize) {
        until("requests to arrive", async || (self.waiting.get() == number).then_some(())).await.unwrap();
    }
}

async fn send(mesh: &Mesh, path: &str) -> Wire {
    let mut client = mesh.outside().await;
    client.send(get(path)).await;
    client
}

/// What is beyond a limit of two is refused at once, and room comes back.
async fn takes_two(limits: &str, detail: &str) {
    let gate = Gate::closed().await;
    let mesh = mesh(&gate.app, limits).await;
    let mut in_time = [send(&mesh, "/1").await, send(&mesh, "/2").await];
    gate.until_waiting(2).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let mut client = mesh.outside().await;
        let started = Instant::now();
        let answer = client.ask(get("/surplus")).await;
        slowest = slowest.max(started.elapsed());
        assert_eq!((answer.status(), answer.text().as_str()), (503, "overloaded"), "{limits}");
    }
    // Nobody waits for a turn. The bound is generous: the machine is not only ours.
    assert!(slowest < Duration::from_millis(500), "{limits}: {slowest:?}");
    let line = logged_path(mesh.backend(), "/surplus").await;
    assert_eq!(line["response_flags"], "UO", "{limits}");
    assert!(line["response_code_details"].as_str().unwrap().contains(detail), "{line:#}");
    gate.open.set(true);
    for client in &mut in_time {
        assert_eq!(client.answer().await.text(), "through", "{limits}");
    }
    assert_eq!(mesh.outside().await.ask(get("/room")).await.text(), "through", "{limits}");
}

#[test]
fn an_endpoint_gets_no_more_requests_than_it_may_and_the_surplus_hears_so_at_once() {
    run(takes_two("limits: {endpointRequests: 2}\n", "limits.endpointRequests"));
}

#[test]
fn an_endpoint_gets_no_more_connections_than_it_may_and_the_surplus_hears_so_at_once() {
    // One worker: a connection that rests in another worker's pool counts as well, and is nobody else's.
    run(takes_two("workers: 1\nlimits: {endpointConnections: 2}\n", "limits.endpointConnections"));
}

#[test]
fn a_proxy_takes_no_more_requests_than_it_may_and_the_surplus_hears_so_at_once() {
    run(takes_two("limits: {requestsInFlight: 2}\n", "limits.requestsInFlight"));
}

#[test]
fn what_one_endpoint_has_no_room_for_goes_to_another() {
    run(async {
        let (gate, other) = (Gate::closed().await, App::http1(|_| ok("other")).await);
        let mut spec = Spec::of(&[gate.app.address(), other.address()]);
        spec.frontend = "limits: {endpointRequests: 1}\n".to_owned();
        let mesh = Mesh::start(spec).await;
        let mut held: Vec<(Wire, Option<Message>)> = Vec::new();
        // Until one hangs at the gate.
        while gate.waiting.get() == 0 {
            let mut client = mesh.wire().await;
            client.send(get("/")).await;
            let answered = async { Some(client.answer().await) };
            let hangs = until("it to arrive", async || (gate.waiting.get() > 0).then_some(()));
            let answer = tokio::select! {
                answer = answered => answer,
                _ = hangs => None,
            };
            held.push((client, answer));
        }
        for _ in 0..10 {
            assert_eq!(mesh.wire().await.ask(get("/")).await.text(), "other");
        }
    });
}

#[test]
fn an_endpoint_that_takes_no_connections_is_tried_by_one_request_at_a_time() {
    run(async {
        const CONNECT: Duration = Duration::from_millis(800);
        // Its queue is full, so that the kernel answers nothing to who comes now.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener: TcpListener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut fill = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            fill.push(stream);
        }
        let mut spec = Spec::of(&[address]);
        spec.backend = "timeouts: {connectLocal: 800ms}\n".to_owned();
        let mesh = Mesh::start(spec).await;
        let answer = mesh.outside().await.ask(get("/first")).await;
        assert_eq!((answer.status(), answer.text().as_str()), (503, "upstream connect error"));
        let ask = async |path: String| {
            let mut client = mesh.outside().await;
            let started = Instant::now();
            let answer = client.ask(get(&path)).await;
            (answer.text(), started.elapsed())
        };
        let path = |number| format!("/{number}");
        let all = tokio::join!(ask(path(1)), ask(path(2)), ask(path(3)), ask(path(4)), ask(path(5)));
        let all = [all.0, all.1, all.2, all.3, all.4];
        let waited = all.iter().filter(|(text, took)| text == "upstream connect error" && *took >= CONNECT);
        let at_once = all.iter().filter(|(text, took)| text == "overloaded" && *took < CONNECT / 2);
        assert_eq!((waited.count(), at_once.count()), (1, 4), "{all:?}");
        // When it takes connections again, so do we.
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(async move {
                    let mut wire = Wire::over(stream);
                    while wire.request().await.is_some() && wire.try_send(ok("back")).await {}
                });
            }
        });
        drop(fill);
        until("it to be back", async || (mesh.outside().await.ask(get("/")).await.text() == "back").then_some(()))
            .await
            .unwrap();
    });
}

#[test]
fn a_peer_and_a_listener_have_their_share_and_the_application_is_one_party() {
    run(async {
        const LIMIT: usize = 10;
        for (limits, outcome, outbound_too) in
            [("connectionsPerPeer: 10", "peer_limit", false), ("connectionsPerListener: 10", "listener_limit", true)]
        {
            let app = App::ok().await;
            let mut spec = Spec::of(&[app.address()]);
            spec.backend = format!("limits: {{{limits}}}\ntimeouts: {{detect: 60s}}\n");
            spec.frontend = spec.backend.clone();
            let mesh = Mesh::start(spec).await;
            let refused =
                |direction| format!("mesh_accept_errors_total{{direction=\"{direction}\",outcome=\"{outcome}\"}}");
            let mut inside = Vec::new();
            for _ in 0..LIMIT + 5 {
                inside.push(mesh.outside().await);
            }
            mesh.backend().until_metric(&refused("inbound"), |count| count == 5.0).await.unwrap();
            let mut outside = Vec::new();
            for _ in 0..LIMIT + 5 {
                outside.push(mesh.wire().await);
            }
            let open = "mesh_connections{direction=\"outbound\"}";
            let most = if outbound_too { LIMIT } else { LIMIT + 5 };
            mesh.frontend.until_metric(open, |count| count == most as f64).await.unwrap();
            drop(inside);
            until("room", async || {
                let mut client = mesh.outside().await;
                client.try_send(get("/")).await.then_some(())?;
                (client.head().await?.status() == 200).then_some(())
            })
            .await
            .unwrap();
        }
    });
}

#[test]
fn an_upstream_connection_that_is_old_enough_is_not_used_again() {
    run(async {
        for age in ["1s", "\"off\""] {
            let app = App::ok().await;
            let mesh = mesh(&app, &format!("workers: 1\ntimeouts: {{upstreamAge: {age}}}\n")).await;
            let mut client = mesh.outside().await;
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(2500) {
                assert_eq!(client.ask(get("/")).await.text(), "ok");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let connections = app.connections();
            assert!(
                if age == "1s" { (2..=4).contains(&connections) } else { connections == 1 },
                "{age}: {connections}"
            );
        }
    });
}

#[test]
fn a_handshake_that_stops_is_closed_within_its_time() {
    run(async {
        const LIMIT: Duration = Duration::from_millis(700);
        let app = App::ok().await;
        let mesh = mesh(&app, "timeouts: {tlsHandshake: 700ms}\n").await;
        let config = crate::support::client::tls(None, crate::support::client::MESH_HTTP1);
        let name = rustls::pki_types::ServerName::try_from(BACKEND).unwrap();
        let mut session = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        let mut client = mesh.outside().await;
        let started = Instant::now();
        client.send(&hello).await;
        // The server's half of it, and then the end.
        soon("the close", client.rest()).await;
        let took = started.elapsed();
        assert!(took >= LIMIT && took < LIMIT + Duration::from_secs(1), "{took:?}");
        let line = logged(mesh.backend(), |line| line["response_flags"] == "DOWNSTREAM_TLS").await;
        assert!(line["connection_termination_details"].as_str().unwrap().contains("too long"), "{line:#}");
    });
}
