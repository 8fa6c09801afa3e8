//! How much, how many, how long: each has its bound, and others are served meanwhile.

use std::time::Duration;

use meshgate::sandbox::until;
use meshgate_tests::run;
use tokio::time::Instant;

use super::{DOORS, is_refused, knock};
use crate::support::app::App;
use crate::support::mesh::{BACKEND, Mesh, Spec};
use crate::support::soon;

/// Mesh with these lines in both bootstrap files.
async fn with(app: &App, lines: &str) -> Mesh {
    let mut spec = Spec::of(&[app.address()]);
    (spec.frontend, spec.backend) = (lines.to_owned(), lines.to_owned());
    Mesh::start(spec).await
}

#[test]
fn a_head_beyond_its_limits_is_431_and_the_end() {
    run(async {
        let app = App::ok().await;
        let mesh = with(&app, "limits: {requestHeaderBytes: 8192, requestHeaders: 20}\n").await;
        let large = format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\nx: {}\r\n\r\n", "a".repeat(9000));
        is_refused(&mesh, &app, 431, &large).await;
        let many: String = (0..20).map(|number| format!("x-{number}: 1\r\n")).collect();
        is_refused(&mesh, &app, 431, &format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\n{many}\r\n")).await;
        let long = format!("GET /{} HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n", "a".repeat(9000));
        for door in DOORS {
            let answer = knock(&mesh, door).await.ask(&long).await;
            assert!([414, 431].contains(&answer.status()), "{door}: {answer:?}");
        }
        assert_eq!(app.take_seen(), []);
        // Just below them all is well; the name that a request gets is one of its fields.
        let fine = many.replace("x-0: 1\r\n", "").replace("x-1: 1\r\n", "x-request-id: 1\r\n");
        let request = format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\nx: {}\r\n\r\n", "a".repeat(7000));
        for request in [request, format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\n{fine}\r\n")] {
            for door in DOORS {
                assert_eq!(knock(&mesh, door).await.ask(&request).await.status(), 200, "{door}");
            }
        }
    });
}

#[test]
fn a_head_that_comes_too_slowly_is_closed_however_it_trickles() {
    run(async {
        const LIMIT: Duration = Duration::from_millis(500);
        let app = App::ok().await;
        let mesh = with(&app, "timeouts: {requestHeader: 500ms}\n").await;
        for door in DOORS {
            for already_served in [false, true] {
                let mut client = knock(&mesh, door).await;
                if already_served {
                    assert_eq!(client.ask(format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")).await.status(), 200);
                }
                let started = Instant::now();
                client.send("GET / HTTP/1.1\r\nx: ").await;
                // A byte now and then is no progress.
                let trickle = async {
                    let mut tick = tokio::time::interval(LIMIT / 10);
                    loop {
                        tick.tick().await;
                        if !client.try_send("a").await {
                            return;
                        }
                    }
                };
                soon("the close", trickle).await;
                let took = started.elapsed();
                assert!(took > LIMIT / 2 && took < LIMIT * 6, "{door}: {took:?}");
            }
        }
        assert_eq!(mesh.get("/").await.to_string(), "200");
    });
}

#[test]
fn a_connection_that_rests_too_long_is_closed_but_not_one_that_waits_for_its_answer() {
    run(async {
        const IDLE: Duration = Duration::from_millis(300);
        let app = App::tcp(async |stream| {
            let mut wire = crate::support::wire::Wire::over(stream);
            while let Some(request) = wire.request().await {
                if request.target() == "/slow" {
                    // The subject of the test is time itself.
                    tokio::time::sleep(IDLE * 4).await;
                }
                if !wire.try_send(crate::support::app::ok("ok")).await {
                    return;
                }
            }
        })
        .await;
        let mesh = with(&app, "timeouts: {idle: 300ms, requestHeader: 300ms}\n").await;
        for door in DOORS {
            let mut client = knock(&mesh, door).await;
            assert_eq!(client.ask(format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")).await.status(), 200);
            let started = Instant::now();
            assert_eq!(client.rest().await, b"");
            assert!(started.elapsed() >= IDLE / 2, "{door}: {:?}", started.elapsed());
            let mut client = knock(&mesh, door).await;
            assert_eq!(
                client.ask(format!("GET /slow HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")).await.status(),
                200,
                "{door}"
            );
        }
    });
}

#[test]
fn connections_beyond_the_limit_are_refused_and_counted_and_room_comes_back() {
    run(async {
        const LIMIT: usize = 20;
        const MORE: usize = 60;
        let app = App::ok().await;
        let mut spec = Spec::of(&[app.address()]);
        spec.backend = format!("limits: {{connections: {LIMIT}}}\ntimeouts: {{detect: 60s}}\n");
        let mesh = Mesh::start(spec).await;
        let mut clients = Vec::new();
        for _ in 0..LIMIT + MORE {
            clients.push(mesh.outside().await);
        }
        let refused = "mesh_accept_errors_total{direction=\"inbound\",outcome=\"limit\"}";
        mesh.backend().until_metric(refused, |count| count == MORE as f64).await.unwrap();
        let open = "mesh_connections{direction=\"inbound\"}";
        assert_eq!(mesh.backend().metric(open).await, Some(LIMIT as f64));
        assert_eq!(mesh.get("/full").await.to_string(), "503 upstream connect error");
        // Those that got in are served to their end.
        let mut served = 0;
        for client in &mut clients {
            if client.try_send(format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\nconnection: close\r\n\r\n")).await {
                served += usize::from(client.head().await.is_some());
            }
        }
        assert_eq!(served, LIMIT);
        drop(clients);
        until("room", async || (mesh.get("/room").await.to_string() == "200").then_some(())).await.unwrap();
    });
}

#[test]
fn a_silent_http_2_connection_is_closed_and_pings_do_not_keep_it() {
    run(async {
        let app = App::ok().await;
        let mesh = with(&app, "timeouts: {idle: 300ms, requestHeader: 300ms}\n").await;
        for door in DOORS {
            let mut client = knock(&mesh, door).await;
            client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
            let pinging = async {
                let mut tick = tokio::time::interval(Duration::from_millis(50));
                while client.try_send(b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0").await {
                    tick.tick().await;
                }
            };
            soon(&format!("the {door} close"), pinging).await;
        }
    });
}
