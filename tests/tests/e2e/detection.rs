//! What a connection speaks, found out by its first bytes: in pieces, too late, not at all, and where its port says enough.

use std::sync::Arc;
use std::time::Duration;

use meshgate_tests::run;
use rustls::ClientConnection;
use tokio::io::AsyncWriteExt;

use crate::support::app::App;
use crate::support::client::tls;
use crate::support::mesh::{Mesh, Spec, VIRTUAL_PORT, policy};
use crate::support::pki::Authority;
use crate::support::wire::Wire;

const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                      metadata: {name: strict, namespace: default}\nspec: {mtls: {mode: STRICT}}\n";

/// Nobody waits as long as this for first bytes and is still there when the test's patience ends.
const NEVER: &str = "timeouts: {detect: 120s}\n";

/// Sends back what it gets.
async fn echo() -> App {
    App::tcp(async |mut stream| {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await
}

/// Greets, and then waits for the client's end.
async fn greeter() -> App {
    App::tcp(async |mut stream| {
        let _ = stream.write_all(b"220 hello\r\n").await;
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
    })
    .await
}

/// A mesh whose service says nothing of what is spoken.
fn undeclared(app: &App, bootstrap: &str) -> Spec {
    let mut spec = Spec::of(&[app.address()]).with_virtual();
    spec.port_name = "";
    spec.frontend = bootstrap.to_owned();
    spec.backend = bootstrap.to_owned();
    spec
}

#[test]
fn who_begins_like_something_and_stops_is_heard_once_the_time_is_over() {
    run(async {
        let app = echo().await;
        let mut spec = undeclared(&app, "timeouts: {detect: 100ms}\n");
        // Longer than the frontend's TLS hello takes on a busy machine: it must not be taken for silence.
        spec.backend = "timeouts: {detect: 1s}\n".to_owned();
        let mesh = Mesh::start(spec).await;
        for first in ["G", "GET", "PRI", "STATUS", "\x16"] {
            for mut client in [mesh.virtual_wire().await, mesh.outside().await] {
                client.send(first).await;
                // The client says no more until it has an answer.
                assert_eq!(client.exactly(first.len()).await.as_deref(), Some(first.as_bytes()), "{first:?}");
                client.send(" and the rest\r\n").await;
                assert_eq!(client.line().await.as_deref(), Some(" and the rest"), "{first:?}");
            }
        }
        let timed_out = |direction: &str, port: u16| {
            format!("mesh_detection_timeouts_total{{direction=\"{direction}\",port=\"{port}\"}}")
        };
        mesh.frontend.until_metric(&timed_out("outbound", 80), |count| count == 5.0).await.unwrap();
        let port = meshgate::sandbox::POD_PORT;
        mesh.backend().until_metric(&timed_out("inbound", port), |count| count == 5.0).await.unwrap();
    });
}

#[test]
fn who_has_said_all_is_not_waited_for() {
    run(async {
        let app = echo().await;
        let mesh = Mesh::start(undeclared(&app, NEVER)).await;
        for mut client in [mesh.virtual_wire().await, mesh.outside().await] {
            client.send("STATUS").await;
            client.end().await;
            assert_eq!(client.rest().await, b"STATUS");
        }
    });
}

#[test]
fn a_port_that_is_opaque_by_its_number_is_not_waited_at() {
    run(async {
        let app = greeter().await;
        // One of a service that says nothing, and one of nobody the mesh knows.
        let unknown = app.address();
        let ports = format!("{NEVER}detection: {{opaquePorts: [80, {}]}}\n", unknown.port());
        let mut spec = undeclared(&app, &ports);
        spec.outbound.push((15103, unknown));
        let mesh = Mesh::start(spec).await;
        for port in [VIRTUAL_PORT, 15103] {
            let mut client = Wire::connect((mesh.frontend.outbound().ip(), port).into()).await;
            assert_eq!(client.line().await.as_deref(), Some("220 hello"), "{port}");
        }
        // It is no less protected for that: mutual TLS is still looked for, and what needs requests refuses.
        mesh.policies(STRICT).await;
        assert_eq!(mesh.virtual_wire().await.line().await.as_deref(), Some("220 hello"));
        let mut outside = mesh.outside().await;
        outside.send("x\r\n").await;
        assert_eq!(outside.rest().await, b"");
        mesh.policies(&policy("get", "ALLOW", "[{to: [{operation: {methods: [GET]}}]}]")).await;
        let before = app.connections();
        let mut refused = mesh.virtual_wire().await;
        refused.send("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
        assert_eq!(refused.rest().await, b"");
        assert_eq!(app.connections(), before);
    });
}

#[test]
fn a_port_may_have_a_time_of_its_own() {
    run(async {
        let app = greeter().await;
        let mut spec = undeclared(&app, NEVER);
        spec.frontend = format!("{NEVER}detection: {{portTimeouts: {{\"80\": 100ms}}}}\n");
        let mesh = Mesh::start(spec).await;
        assert_eq!(mesh.virtual_wire().await.line().await.as_deref(), Some("220 hello"));
    });
}

#[test]
fn who_is_silent_and_then_sends_a_request_does_not_get_past_a_policy_about_requests() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::start(undeclared(&app, "timeouts: {detect: 100ms}\n")).await;
        mesh.policies(&policy("get", "ALLOW", "[{to: [{operation: {methods: [GET]}}]}]")).await;
        let get = "GET / HTTP/1.1\r\nhost: backend\r\n\r\n";
        assert_eq!(mesh.outside().await.ask(get).await.status(), 200);
        app.take_seen();
        let mut late = mesh.outside().await;
        let timed_out = "mesh_detections_total{direction=\"inbound\",outcome=\"timeout\"}";
        mesh.backend().until_metric(timed_out, |count| count >= 1.0).await.unwrap();
        // Refused already, or as soon as it speaks.
        late.try_send(get).await;
        assert_eq!(late.rest().await, b"");
        for first in ["get / HTTP/1.1\r\nhost: backend\r\n\r\n", "X_Y / HTTP/1.1\r\nhost: backend\r\n\r\n"] {
            let mut other = mesh.outside().await;
            other.send(first).await;
            assert_eq!(other.rest().await, b"", "{first:?}");
        }
        assert!(app.take_seen().is_empty());
    });
}

#[test]
fn a_client_hello_may_come_in_any_pieces() {
    run(async {
        let app = echo().await;
        let mesh = Mesh::start(undeclared(&app, NEVER)).await;
        mesh.policies(STRICT).await;
        let frontend = Authority::of(&mesh.sandbox).issue("spiffe://cluster.local/ns/default/sa/frontend");
        let mut config = tls(Some(&frontend), "istio");
        // As long as one with post-quantum key shares, and more: beyond any segment.
        config.alpn_protocols.extend((0..8).map(|_| vec![b'x'; 250]));
        let config = Arc::new(config);
        for first in [1, 4, 5, 1460] {
            let mut hello = Vec::new();
            let name = "backend".try_into().unwrap();
            ClientConnection::new(Arc::clone(&config), name).unwrap().write_tls(&mut hello).unwrap();
            assert!(hello.len() > 1500);
            let mut client = mesh.outside().await;
            client.stream().set_nodelay(true).unwrap();
            client.send(&hello[..first]).await;
            // So that it is a segment by itself.
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.send(&hello[first..]).await;
            let answer = client.exactly(6).await.unwrap();
            // A handshake record with a ServerHello in it (RFC 8446, sections 4 and 5.1).
            assert_eq!((answer[0], answer[5]), (0x16, 2), "{first}");
        }
    });
}
