//! WebSocket through a pair of sidecars: who gets a tunnel, when it begins, what ends it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use meshgate::sandbox::{Sidecar, until};
use meshgate_tests::run;
use tokio::sync::mpsc;

use crate::support::app::{App, ok};
use crate::support::backend::signal;
use crate::support::mesh::{BACKEND, Mesh, Spec, logged, logged_path, policy};
use crate::support::soon;
use crate::support::wire::Wire;

/// RFC 6455, section 1.3.
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn asking(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")
}

/// A masked text frame, as clients send them.
fn masked(text: &str) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let payload = text.bytes().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let len = u8::try_from(text.len()).unwrap();
    [0x81, 0x80 | len].into_iter().chain(mask).chain(payload).collect()
}

/// A text frame, as servers send them.
fn unmasked(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap();
    [0x81, len].into_iter().chain(text.bytes()).collect()
}

/// Answers every request with this 101; then it is an echo, which says what it read once the client has ended its direction.
async fn switching(answer: &'static str) -> App {
    App::tcp(async move |stream| {
        let mut wire = Wire::over(stream);
        while wire.head().await.is_some() {
            wire.send(answer).await;
            while let Some(byte) = wire.exactly(1).await {
                if !wire.try_send(byte).await {
                    return;
                }
            }
            wire.try_send("over").await;
        }
    })
    .await
}

/// A tunnel through both sidecars to an echo.
async fn open(mesh: &Mesh, path: &str) -> Wire {
    let mut client = mesh.wire().await;
    let answer = client.ask(asking(path)).await;
    assert_eq!(answer.status(), 101, "{answer:?}");
    echo(&mut client, "hello").await;
    client
}

async fn echo(client: &mut Wire, text: &str) {
    client.send(text).await;
    assert_eq!(client.exactly(text.len()).await.unwrap(), text.as_bytes());
}

async fn tcp(sidecar: &Sidecar, name: &str) -> f64 {
    let page = sidecar.admin_page("/metrics").await.unwrap();
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn frames_pass_both_ways_and_the_log_counts_them() {
    run(async {
        let seen = Rc::new(RefCell::new(None));
        let kept = Rc::clone(&seen);
        let app = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            kept.replace(wire.head().await);
            // The first frame comes in one piece with the 101.
            wire.send([SWITCHING.as_bytes(), &unmasked("welcome")].concat()).await;
            let frame = masked("ping");
            assert_eq!(wire.exactly(frame.len()).await.unwrap(), frame);
            wire.send(unmasked("pong")).await;
            assert_eq!(wire.rest().await, b"");
            // Half of it is over, and the other goes on.
            wire.send(unmasked("bye")).await;
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        let answer = client.ask(asking("/chat")).await;
        assert_eq!(answer.start, "HTTP/1.1 101 Switching Protocols");
        assert_eq!((answer.field("upgrade"), answer.field("connection")), (Some("websocket"), Some("upgrade")));
        assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), (None, None));
        for (sent, expected) in [(None, "welcome"), (Some("ping"), "pong")] {
            if let Some(text) = sent {
                client.send(masked(text)).await;
            }
            let expected = unmasked(expected);
            assert_eq!(client.exactly(expected.len()).await.unwrap(), expected);
        }
        client.end().await;
        assert_eq!(client.rest().await, unmasked("bye"));
        let request = seen.take().unwrap();
        assert_eq!((request.field("upgrade"), request.field("connection")), (Some("websocket"), Some("upgrade")));
        for sidecar in [&mesh.frontend, mesh.backend()] {
            let line = logged_path(sidecar, "/chat").await;
            assert_eq!((line["response_code"].as_u64(), line["response_flags"].as_str()), (Some(101), Some("-")));
            let received = masked("ping").len() as u64;
            let sent = unmasked("welcome").len() + unmasked("pong").len() + unmasked("bye").len();
            assert_eq!(
                (line["bytes_received"].as_u64(), line["bytes_sent"].as_u64()),
                (Some(received), Some(sent as u64))
            );
            assert_eq!(tcp(sidecar, "istio_tcp_received_bytes_total").await, received as f64);
            assert_eq!(tcp(sidecar, "istio_tcp_connections_closed_total").await, 1.0);
        }
    });
}

#[test]
fn a_tunnel_keeps_its_place_among_its_endpoints_until_it_ends() {
    run(async {
        for limit in ["endpointRequests", "endpointConnections"] {
            let app = switching(SWITCHING).await;
            let spec = Spec { frontend: format!("limits: {{{limit}: 1}}\n"), ..Spec::of(&[app.address()]) };
            let mesh = Mesh::start(spec).await;
            for _ in 0..2 {
                let client = open(&mesh, "/one").await;
                assert_eq!(mesh.wire().await.ask(asking("/two")).await.status(), 503, "{limit}");
                drop(client);
                let again = async || (mesh.wire().await.ask(asking("/three")).await.status() == 101).then_some(());
                until("the place", again).await.unwrap();
                // The last one has let go of it, too.
                let again = async || (mesh.wire().await.ask(asking("/four")).await.status() == 101).then_some(());
                until("the place again", again).await.unwrap();
                let free = async || {
                    (tcp(&mesh.frontend, "istio_tcp_connections_opened_total").await
                        == tcp(&mesh.frontend, "istio_tcp_connections_closed_total").await)
                        .then_some(())
                };
                until("all to end", free).await.unwrap();
            }
        }
    });
}

#[test]
fn what_comes_before_the_101_reaches_no_application_and_there_is_no_tunnel() {
    run(async {
        // Bytes of any protocol, bytes that are no HTTP, a request: whoever waits sends none of them (RFC 6455, section 4.1).
        for early in ["early", "\u{1}\n\u{2}\n", &get("/secret"), "\r\n"] {
            let (said, mut heard) = mpsc::unbounded_channel::<Vec<u8>>();
            let app = App::tcp(async move |stream| {
                let mut wire = Wire::over(stream);
                wire.head().await;
                wire.send(SWITCHING).await;
                said.send(wire.rest().await).unwrap();
            })
            .await;
            let mesh = Mesh::of(app.address()).await;
            let mut client = mesh.wire().await;
            client.send(asking("/early") + early).await;
            let answer = client.answer().await;
            assert_eq!((answer.status(), answer.field("connection")), (400, Some("close")), "{early:?}");
            assert_eq!(client.rest().await, b"");
            assert_eq!(soon("the end of it", heard.recv()).await.unwrap(), b"");
            assert_eq!(logged_path(&mesh.frontend, "/early").await["response_code"], 400);
            assert_eq!(tcp(&mesh.frontend, "istio_tcp_connections_opened_total").await, 0.0);
        }
    });
}

#[test]
fn behind_an_upgrade_that_is_declined_the_next_request_is_judged_like_any_other() {
    run(async {
        let app = App::http1(|request| match request.target() {
            "/chat" => "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_owned(),
            target => ok(target),
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("secret", "DENY", "[{to: [{operation: {paths: [/secret]}}]}]")).await;
        let mut client = mesh.wire().await;
        // All of it before there is any answer: a proxy that takes the connection for a tunnel passes it all on.
        client.send(format!("{}{}{}", asking("/chat"), get("/secret"), get("/after"))).await;
        let declined = client.answer().await;
        assert_eq!((declined.status(), declined.text().as_str()), (403, "no"));
        assert_eq!(client.answer().await.text(), "RBAC: access denied");
        assert_eq!(client.answer().await.text(), "/after");
        let seen: Vec<String> = app.take_seen().into_iter().map(|request| request.start).collect();
        assert_eq!(seen, ["GET /chat HTTP/1.1", "GET /after HTTP/1.1"]);
        // The connection that was asked to change is not used for another.
        assert_eq!(app.connections(), 2);
    });
}

#[test]
fn a_101_for_anything_but_what_was_asked_is_a_502() {
    run(async {
        for answer in [
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket, h2c\r\nconnection: upgrade\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ] {
            let app = switching(answer).await;
            let mesh = Mesh::of(app.address()).await;
            let mut client = mesh.wire().await;
            assert_eq!(client.ask(asking("/chat")).await.status(), 502, "{answer}");
            assert_eq!(logged_path(mesh.backend(), "/chat").await["response_flags"], "UPE");
        }
        // And one that nobody asked for at all.
        let app = switching(SWITCHING).await;
        let mesh = Mesh::of(app.address()).await;
        assert_eq!(mesh.wire().await.ask(get("/chat")).await.status(), 502);
    });
}

#[test]
fn what_is_no_proper_upgrade_is_refused_and_a_protocol_that_is_not_allowed_is_not_asked_for() {
    run(async {
        let app = App::http1(|request| ok(request.field("upgrade").unwrap_or("none"))).await;
        let mesh = Mesh::of(app.address()).await;
        let base = asking("/");
        for bad in [
            base.replace("GET", "POST").replace("\r\n\r\n", "\r\ncontent-length: 0\r\n\r\n"),
            base.replace("\r\n\r\n", "\r\ncontent-length: 4\r\n\r\nbody"),
            base.replace("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            base.replace("Connection: keep-alive, Upgrade", "Connection: keep-alive"),
        ] {
            let mut client = mesh.wire().await;
            assert_eq!(client.ask(&bad).await.status(), 400, "{bad}");
            assert_eq!(client.rest().await, b"", "{bad}");
        }
        assert_eq!(app.take_seen(), []);
        let mut client = mesh.wire().await;
        for (asked, told) in [
            (base.replace("Upgrade: websocket", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"), "none"),
            (base.replace("Upgrade: websocket", "Upgrade: TLS/1.2"), "none"),
            (base.replace("Upgrade: websocket", "Upgrade: h2c, websocket"), "websocket"),
            (base.replace("HTTP/1.1", "HTTP/1.0"), "none"),
        ] {
            assert_eq!(client.ask(&asked).await.text(), told, "{asked}");
        }
        for request in app.take_seen() {
            assert_eq!(request.field("http2-settings"), None);
        }
    });
}

#[test]
fn an_upgrade_is_judged_by_its_head_like_any_request() {
    run(async {
        let app = switching(SWITCHING).await;
        let mesh = Mesh::of(app.address()).await;
        let when =
            "[{to: [{operation: {methods: [GET]}}], when: [{key: \"request.headers[upgrade]\", values: [websocket]}]}]";
        mesh.policies(&policy("no-websocket", "DENY", when)).await;
        let mut client = mesh.wire().await;
        assert_eq!(client.ask(asking("/chat")).await.text(), "RBAC: access denied");
        assert_eq!(app.connections(), 0);
    });
}

#[test]
fn a_tunnel_ends_when_its_permission_is_withdrawn_and_not_for_another_change() {
    run(async {
        let app = switching(SWITCHING).await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = open(&mesh, "/chat").await;
        mesh.policies(&policy("other", "DENY", "[{to: [{operation: {paths: [/other]}}]}]")).await;
        echo(&mut client, "still").await;
        mesh.policies(&policy("chat", "DENY", "[{to: [{operation: {paths: [/chat]}}]}]")).await;
        assert_eq!(client.rest().await, b"");
        let line = logged_path(mesh.backend(), "/chat").await;
        assert_eq!((line["response_code"].as_u64(), line["response_flags"].as_str()), (Some(101), Some("RBAC")));
        let details = line["response_code_details"].as_str().unwrap();
        assert!(details.starts_with("permission withdrawn"), "{details}");
        assert_eq!(line["bytes_received"].as_u64(), Some(10));
    });
}

#[test]
fn a_tunnel_in_which_nothing_moves_ends() {
    run(async {
        let app = switching(SWITCHING).await;
        let spec = Spec { backend: "timeouts: {idle: 300ms}\n".to_owned(), ..Spec::of(&[app.address()]) };
        let mesh = Mesh::start(spec).await;
        let mut client = open(&mesh, "/chat").await;
        assert_eq!(client.rest().await, b"");
        assert_eq!(logged_path(mesh.backend(), "/chat").await["response_flags"], "SI");
    });
}

#[test]
fn a_tunnel_lives_through_the_drain_and_ends_with_it() {
    run(async {
        let app = switching(SWITCHING).await;
        let spec = Spec { backend: "timeouts: {drain: 1s}\n".to_owned(), ..Spec::of(&[app.address()]) };
        let mut mesh = Mesh::start(spec).await;
        let mut client = open(&mesh, "/chat").await;
        signal(mesh.backend(), "TERM");
        until("the drain", async || tokio::net::TcpStream::connect(mesh.backend().inbound()).await.err().map(drop))
            .await
            .unwrap();
        echo(&mut client, "still").await;
        assert_eq!(client.rest().await, b"");
        let line = logged_path(mesh.backend(), "/chat").await;
        assert_eq!((line["response_flags"].as_str(), line["bytes_received"].as_u64()), (Some("-"), Some(10)));
        assert!(crate::support::backend::ended(&mut mesh.backends[0]).await.success());
    });
}

#[test]
fn either_side_that_breaks_ends_the_tunnel_for_the_other() {
    run(async {
        let (gone, mut ended) = mpsc::unbounded_channel::<()>();
        let app = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            let Some(request) = wire.head().await else { return };
            wire.send(SWITCHING).await;
            if request.target() == "/application" {
                // Unread bytes at a close are a reset.
                wire.stream().readable().await.unwrap();
                return;
            }
            wire.rest().await;
            gone.send(()).unwrap();
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        assert_eq!(client.ask(asking("/application")).await.status(), 101);
        client.send("unread").await;
        assert_eq!(client.rest().await, b"");
        let mut client = mesh.wire().await;
        assert_eq!(client.ask(asking("/client")).await.status(), 101);
        drop(client);
        soon("the end at the application", ended.recv()).await.unwrap();
    });
}

#[test]
fn a_client_that_goes_before_the_101_takes_its_request_with_it() {
    run(async {
        let (gone, mut ended) = mpsc::unbounded_channel::<()>();
        let app = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            wire.head().await;
            wire.rest().await;
            gone.send(()).unwrap();
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        client.send(asking("/chat")).await;
        until("the request", async || (app.connections() == 1).then_some(())).await.unwrap();
        drop(client);
        soon("the end at the application", ended.recv()).await.unwrap();
        let line = logged(&mesh.frontend, |line| line["path"] == "/chat").await;
        assert_eq!(line["response_flags"], "DC");
    });
}

#[test]
fn many_bytes_pass_whole_in_both_directions_at_once() {
    run(async {
        const BYTES: usize = 4 * 1024 * 1024;
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            wire.head().await;
            wire.send(SWITCHING).await;
            let (mut read, mut write) = wire.into_stream().into_split();
            // Its client has been known to go.
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        assert_eq!(client.ask(asking("/bulk")).await.status(), 101);
        assert_eq!(client.buffered(), 0);
        let (mut read, mut write) = client.into_stream().into_split();
        let sent: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
        let expected = sent.clone();
        let sending = tokio::task::spawn_local(async move {
            tokio::io::AsyncWriteExt::write_all(&mut write, &sent).await.unwrap();
            tokio::io::AsyncWriteExt::shutdown(&mut write).await.unwrap();
        });
        let mut got = Vec::new();
        let reading = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut got);
        tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap().unwrap();
        assert!(got == expected, "{} of {BYTES} bytes", got.len());
        sending.await.unwrap();
    });
}

#[test]
fn no_protocol_is_allowed_where_none_is_configured() {
    run(async {
        let app = App::http1(|request| ok(request.field("upgrade").unwrap_or("none"))).await;
        let spec = Spec { backend: "http: {upgrades: []}\n".to_owned(), ..Spec::of(&[app.address()]) };
        let mesh = Mesh::start(spec).await;
        assert_eq!(mesh.wire().await.ask(asking("/")).await.text(), "none");
    });
}
