//! What the application hears about who called, from where and which request it is; and what it must not hear.

use std::sync::Arc;

use meshgate_tests::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::app::App;
use crate::support::client::{MESH_HTTP1, handshake, tls};
use crate::support::mesh::{BACKEND, Mesh, Spec, logged_path, policy};
use crate::support::pki::Authority;
use crate::support::soon;
use crate::support::wire::Message;

const GATEWAY: &str = "spiffe://cluster.local/ns/ingress/sa/gateway";
const FRONTEND: &str = "spiffe://cluster.local/ns/default/sa/frontend";
const SPOOF: &str = "By=spiffe://a;URI=spiffe://cluster.local/ns/default/sa/admin";

async fn mesh(app: &App, headers: &str) -> Mesh {
    let mut spec = Spec::of(&[app.address()]);
    spec.backend = format!("headers: {headers}\n");
    Mesh::start(spec).await
}

fn get(fields: &str) -> String {
    format!("GET /told HTTP/1.1\r\nhost: {BACKEND}\r\nconnection: close\r\n{fields}\r\n")
}

/// What the application saw of a request that a mesh peer sent with these fields.
async fn asked_by(mesh: &Mesh, app: &App, id: &str, fields: &str) -> Message {
    let credentials = Authority::of(&mesh.sandbox).issue(id);
    let config = Arc::new(tls(Some(&credentials), MESH_HTTP1));
    let mut stream = handshake(mesh.backend().inbound(), &config).await.unwrap();
    stream.write_all(get(fields).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon("the answer", stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    app.take_seen().remove(0)
}

#[test]
fn the_application_is_told_of_its_callers_certificate_and_of_what_a_trusted_peer_says_of_others() {
    run(async {
        let app = App::ok().await;
        let mesh = mesh(&app, &format!("{{forwardClientCert: APPEND_FORWARD, trustedPeers: [\"{GATEWAY}\"]}}")).await;
        let own = |seen: &Message| seen.field("x-forwarded-client-cert").unwrap_or_default().to_owned();

        let through = asked_by(&mesh, &app, GATEWAY, &format!("x-forwarded-client-cert: {SPOOF}\r\n")).await;
        let (before, last) = own(&through).split_once(",By=").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!(before, SPOOF);
        assert!(last.starts_with("spiffe://cluster.local/ns/default/sa/backend;Hash="), "{last}");
        assert!(last.ends_with(&format!(";Subject=\"\";URI={GATEWAY}")), "{last}");

        let direct = asked_by(&mesh, &app, FRONTEND, &format!("x-forwarded-client-cert: {SPOOF}\r\n")).await;
        assert!(own(&direct).starts_with("By=spiffe://cluster.local/ns/default/sa/backend;Hash="), "{direct:?}");
        assert!(own(&direct).ends_with(&format!(";URI={FRONTEND}")) && !own(&direct).contains("admin"), "{direct:?}");

        // From outside of the mesh nothing is said, whatever was; and nobody's other spellings count.
        let fields = format!("x-forwarded-client-cert: {SPOOF}\r\nx_forwarded_client_cert: {SPOOF}\r\n");
        assert_eq!(mesh.outside().await.ask(get(&fields)).await.status(), 200);
        assert!(!format!("{:?}", app.take_seen()).contains("admin"));
        let spelled = asked_by(&mesh, &app, GATEWAY, &format!("x_forwarded-client_cert: {SPOOF}\r\n")).await;
        assert!(!format!("{spelled:?}").contains("admin"), "{spelled:?}");

        // The application's own sidecar tells nobody what the application says about others.
        assert_eq!(mesh.wire().await.ask(get(&format!("x-forwarded-client-cert: {SPOOF}\r\n"))).await.status(), 200);
        let paired = app.take_seen().remove(0);
        assert!(own(&paired).ends_with(&format!(";URI={FRONTEND}")) && !own(&paired).contains("admin"), "{paired:?}");
    });
}

#[test]
fn policies_see_the_client_certificate_header_as_the_application_will() {
    run(async {
        let app = App::ok().await;
        let mesh = mesh(&app, "{forwardClientCert: SANITIZE_SET}").await;
        let rules = "[{when: [{key: 'request.headers[x-forwarded-client-cert]', values: ['*sa/frontend']}]}]";
        mesh.policies(&policy("told", "ALLOW", rules)).await;
        let spoof = "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/default/sa/frontend\r\n";
        assert_eq!(mesh.wire().await.ask(get("")).await.status(), 200);
        assert_eq!(mesh.outside().await.ask(get(spoof)).await.status(), 403);
    });
}

#[test]
fn by_default_nobody_is_told_anything() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let seen = asked_by(&mesh, &app, FRONTEND, &format!("x-forwarded-client-cert: {SPOOF}\r\n")).await;
        assert_eq!(seen.field("x-forwarded-client-cert"), None);
    });
}

#[test]
fn only_trusted_peers_say_where_a_request_came_from() {
    run(async {
        let app = App::ok().await;
        let spec =
            format!("{{forwardedFor: APPEND, trustedPeers: [\"{GATEWAY}\"]}}\nauthorization: {{numTrustedProxies: 1}}");
        let mesh = mesh(&app, &spec).await;
        let rules = "[{from: [{source: {remoteIpBlocks: [\"192.0.2.0/24\"]}}]}]";
        mesh.policies(&policy("address", "ALLOW", rules)).await;
        let fields = "x-forwarded-for: 192.0.2.1\r\nx-real-ip: 192.0.2.9\r\n";
        let seen = asked_by(&mesh, &app, GATEWAY, fields).await;
        let list = seen.field("x-forwarded-for").unwrap();
        assert!(list.starts_with("192.0.2.1, 127."), "{list}");
        assert_eq!(seen.field("x-real-ip"), Some("192.0.2.9"));

        // Whom nobody trusts is judged by its own address.
        assert_eq!(mesh.outside().await.ask(get(fields)).await.status(), 403);
        mesh.policies("").await;
        assert_eq!(mesh.outside().await.ask(get(fields)).await.status(), 200);
        let seen = app.take_seen().remove(0);
        let list = seen.field("x-forwarded-for").unwrap();
        assert!(list.starts_with("127.") && !list.contains(','), "{list}");
        assert_eq!(seen.field("x-real-ip"), None);
    });
}

#[test]
fn a_request_keeps_its_name_and_its_trace_all_the_way() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let carried = [
            ("x-request-id", "6f1e-a"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
            ("tracestate", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
            ("baggage", "userId=alice"),
            ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0"),
            ("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"),
            ("x-b3-spanid", "e457b5a2e4d86bd1"),
            ("x-b3-sampled", "0"),
        ];
        let fields: String = carried.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        assert_eq!(mesh.wire().await.ask(get(&fields)).await.status(), 200);
        let seen = app.take_seen().remove(0);
        for (name, value) in carried {
            assert_eq!(seen.field(name), Some(value), "{name}");
        }
        for sidecar in [&mesh.frontend, mesh.backend()] {
            assert_eq!(logged_path(sidecar, "/told").await["request_id"], "6f1e-a");
        }
    });
}

#[test]
fn a_request_without_a_name_gets_one_that_both_sidecars_log() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let odd = format!("x-request-id: {}\r\n", "x".repeat(129));
        for (index, fields) in ["", &odd, "x-request-id: a\r\nx-request-id: b\r\n"].into_iter().enumerate() {
            let request = get(fields).replace("/told", &format!("/{index}"));
            assert_eq!(mesh.wire().await.ask(request).await.status(), 200);
            let seen = app.take_seen().remove(0);
            let id = seen.field("x-request-id").unwrap();
            assert_eq!(id.len(), 36, "{id}");
            for sidecar in [&mesh.frontend, mesh.backend()] {
                assert_eq!(logged_path(sidecar, &format!("/{index}")).await["request_id"], id);
            }
        }
        // Whoever does not want it can say so.
        let mesh = self::mesh(&app, "{requestId: false}").await;
        assert_eq!(mesh.outside().await.ask(get("")).await.status(), 200);
        assert_eq!(app.take_seen().remove(0).field("x-request-id"), None);
    });
}
