//! Opaque TCP through a pair of sidecars: bytes, half-close, server-first protocols, and policies that know no HTTP.

use meshgate_tests::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::app::{App, nobody};
use crate::support::mesh::{Mesh, Spec, VIRTUAL, logged, policy};

const FRONTEND: &str = "cluster.local/ns/default/sa/frontend";

const DISABLE: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                       metadata: {name: off, namespace: default}\nspec: {mtls: {mode: DISABLE}}\n";

/// Sends back what it gets, and ends when its client does.
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
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

/// A mesh whose service is declared as TCP.
fn tcp(app: &App) -> Spec {
    let mut spec = Spec::of(&[app.address()]).with_virtual();
    spec.port_name = "tcp-any";
    spec
}

#[test]
fn bytes_pass_both_ways_over_mutual_tls_and_are_accounted_for() {
    run(async {
        const LEN: usize = 1 << 20;
        let app = echo().await;
        let mesh = Mesh::start(tcp(&app)).await;
        let mut client = mesh.virtual_wire().await;
        let sent: Vec<u8> = (0..LEN).map(|at| (at * 31 % 251) as u8).collect();
        let (mut read, mut write) = client.stream().split();
        let mut received = vec![0; LEN];
        let (wrote, got) = tokio::join!(write.write_all(&sent), read.read_exact(&mut received));
        wrote.unwrap();
        got.unwrap();
        assert!(sent == received, "the bytes that came back are not those sent");
        client.end().await;
        assert_eq!(client.rest().await, b"");
        let line = logged(mesh.backend(), |line| line["protocol"] == "TCP").await;
        assert_eq!(line["peer"], format!("spiffe://{FRONTEND}"));
        assert_eq!((line["bytes_received"].as_u64(), line["bytes_sent"].as_u64()), (Some(1 << 20), Some(1 << 20)));
        assert_eq!((line["response_flags"].as_str(), line.get("response_code")), (Some("-"), None));
        let line = logged(&mesh.frontend, |line| line["protocol"] == "TCP").await;
        assert_eq!(line["upstream_cluster"], "backend.default.svc.cluster.local");
        assert_eq!(line["downstream_local_address"], VIRTUAL);
        let series = format!(
            "istio_tcp_received_bytes_total{{reporter=\"source\",source_principal=\"spiffe://{FRONTEND}\",\
             destination_principal=\"spiffe://cluster.local/ns/default/sa/backend\",\
             destination_service=\"backend.default.svc.cluster.local\",response_flags=\"-\",\
             connection_security_policy=\"unknown\"}}"
        );
        mesh.frontend.until_metric(&series, |bytes| bytes == LEN as f64).await.unwrap();
    });
}

#[test]
fn half_close_passes_in_either_direction_while_the_other_goes_on() {
    run(async {
        // Says how much it got only once the client has ended its direction.
        let counter = App::tcp(async |mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(format!("got {}", all.len()).as_bytes()).await.unwrap();
        })
        .await;
        let mesh = Mesh::start(tcp(&counter)).await;
        let mut client = mesh.virtual_wire().await;
        client.send([b'x'; 5000]).await;
        client.end().await;
        assert_eq!(client.rest().await, b"got 5000");
        drop(mesh);

        // Ends its direction first, and then still listens.
        let (heard, mut hears) = tokio::sync::mpsc::channel(1);
        let closer = App::tcp(async move |mut stream| {
            stream.write_all(b"bye").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            heard.send(all).await.unwrap();
        })
        .await;
        let mesh = Mesh::start(tcp(&closer)).await;
        let mut client = mesh.virtual_wire().await;
        assert_eq!(client.rest().await, b"bye");
        client.send("after the end").await;
        client.end().await;
        assert_eq!(hears.recv().await.unwrap(), b"after the end");
    });
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once_on_a_declared_port() {
    run(async {
        let app = greeter().await;
        let mut spec = tcp(&app);
        // If anybody waited for the client's first bytes, the greeting would not come before the test's patience ends.
        for bootstrap in [&mut spec.frontend, &mut spec.backend] {
            *bootstrap = "timeouts: {detect: 120s}\n".to_owned();
        }
        let mesh = Mesh::start(spec).await;
        let mut client = mesh.virtual_wire().await;
        assert_eq!(client.line().await.unwrap(), "220 hello");
        // In PERMISSIVE mode a plaintext client must be waited for, because it may yet speak TLS; not so where TLS is off.
        mesh.policies(DISABLE).await;
        assert_eq!(mesh.outside().await.line().await.unwrap(), "220 hello");
    });
}

#[test]
fn a_server_that_speaks_first_is_heard_after_the_detect_time_out_on_any_other_port() {
    run(async {
        let app = greeter().await;
        let mut spec = tcp(&app);
        spec.port_name = "";
        spec.frontend = "timeouts: {detect: 100ms}\n".to_owned();
        // Longer than the frontend's TLS hello takes on a busy machine: it must not be taken for silence.
        spec.backend = "timeouts: {detect: 1s}\n".to_owned();
        let mesh = Mesh::start(spec).await;
        let mut client = mesh.virtual_wire().await;
        assert_eq!(client.line().await.unwrap(), "220 hello");
        let timed_out = "mesh_detections_total{direction=\"outbound\",outcome=\"timeout\"}";
        assert_eq!(mesh.frontend.metric(timed_out).await, Some(1.0));
        assert_eq!(mesh.outside().await.line().await.unwrap(), "220 hello");
    });
}

#[test]
fn policies_decide_before_the_application_is_connected_to() {
    run(async {
        let app = greeter().await;
        let mesh = Mesh::start(tcp(&app)).await;
        let from = |principal: &str| format!("from: [{{source: {{principals: [\"{principal}\"]}}}}]");
        let http_only = "to: [{operation: {methods: [GET]}}]";
        for (name, policies, allowed) in [
            ("allow-frontend", policy("p", "ALLOW", &format!("[{{{}}}]", from(FRONTEND))), true),
            (
                "allow-other",
                policy("p", "ALLOW", &format!("[{{{}}}]", from("cluster.local/ns/default/sa/other"))),
                false,
            ),
            ("allow-http-only", policy("p", "ALLOW", &format!("[{{{}, {http_only}}}]", from(FRONTEND))), false),
            ("deny-frontend", policy("p", "DENY", &format!("[{{{}}}]", from(FRONTEND))), false),
            ("deny-other", policy("p", "DENY", &format!("[{{{}}}]", from("cluster.local/ns/default/sa/other"))), true),
            ("deny-http-only", policy("p", "DENY", &format!("[{{{http_only}}}]")), false),
            ("deny-port", policy("p", "DENY", "[{to: [{operation: {ports: [\"8080\"]}}]}]"), false),
            ("deny-other-port", policy("p", "DENY", "[{to: [{operation: {ports: [\"9\"], methods: [GET]}}]}]"), true),
        ] {
            mesh.policies(&policies).await;
            let before = app.connections();
            let mut client = mesh.virtual_wire().await;
            if allowed {
                assert_eq!(client.line().await.as_deref(), Some("220 hello"), "{name}");
            } else {
                // A greeting would show that the application was connected to before anybody decided.
                assert_eq!(client.rest().await, b"", "{name}");
            }
            assert_eq!(app.connections() - before, usize::from(allowed), "{name}");
        }
        let line = logged(mesh.backend(), |line| line["response_flags"] == "RBAC").await;
        assert_eq!((line["verdict"].as_str(), line["reason"].as_str()), (Some("deny"), Some("no_allow_matched")));
        assert!(line.get("upstream_host").is_none(), "{line:#}");
    });
}

#[test]
fn a_refused_plaintext_client_gets_no_byte_either() {
    run(async {
        let app = greeter().await;
        let mesh = Mesh::start(tcp(&app)).await;
        mesh.policies(&policy("mesh-only", "ALLOW", "[{from: [{source: {principals: [\"*\"]}}]}]")).await;
        let mut client = mesh.outside().await;
        client.send("plaintext").await;
        assert_eq!(client.rest().await, b"");
        assert_eq!(app.connections(), 0);
        assert_eq!(mesh.virtual_wire().await.line().await.unwrap(), "220 hello");
    });
}

#[test]
fn a_declared_port_is_never_parsed_as_http() {
    run(async {
        let app = echo().await;
        let mesh = Mesh::start(tcp(&app)).await;
        let request = b"GET / HTTP/1.1\r\n\r\n";
        for mut client in [mesh.virtual_wire().await, mesh.outside().await] {
            client.send(request).await;
            client.end().await;
            assert_eq!(client.rest().await, request);
        }
    });
}

#[test]
fn an_application_that_is_down_closes_the_connection_and_is_logged() {
    run(async {
        let (_held, address) = nobody();
        let mut spec = Spec::of(&[address]).with_virtual();
        spec.port_name = "tcp";
        let mesh = Mesh::start(spec).await;
        let mut client = mesh.virtual_wire().await;
        client.send("hello?").await;
        assert_eq!(client.rest().await, b"");
        let line = logged(mesh.backend(), |line| line["protocol"] == "TCP").await;
        assert_eq!(line["response_flags"], "UF");
        assert!(line["connection_termination_details"].as_str().unwrap().contains(&address.to_string()), "{line:#}");
    });
}

#[test]
fn one_dead_endpoint_of_two_costs_no_connection() {
    run(async {
        let app = greeter().await;
        let mut spec = Spec::of(&[app.address(), app.address()]).with_virtual();
        spec.port_name = "tcp";
        let mut mesh = Mesh::start(spec).await;
        mesh.backends[0].kill();
        for _ in 0..4 {
            assert_eq!(mesh.virtual_wire().await.line().await.as_deref(), Some("220 hello"));
        }
        let alive = mesh.backends[1].inbound().to_string();
        let line = logged(&mesh.frontend, |line| line["attempts"] == 2).await;
        assert_eq!(
            (line["upstream_host"].as_str(), line["response_flags"].as_str()),
            (Some(alive.as_str()), Some("-"))
        );
    });
}

#[test]
fn connections_are_tried_no_more_often_than_the_bootstrap_says() {
    run(async {
        let app = greeter().await;
        let mut spec = Spec::of(&[app.address(), app.address()]).with_virtual();
        spec.port_name = "tcp";
        spec.frontend = "workers: 1\nretries: {attempts: 1}\n".to_owned();
        let mut mesh = Mesh::start(spec).await;
        mesh.backends[0].kill();
        let mut greeted = 0;
        for _ in 0..4 {
            greeted += usize::from(mesh.virtual_wire().await.line().await.is_some());
        }
        assert_eq!(greeted, 2);
        let dead = mesh.backends[0].inbound().to_string();
        let line = logged(&mesh.frontend, |line| line["response_flags"] == "UF").await;
        assert_eq!((line["upstream_host"].as_str(), line.get("attempts")), (Some(dead.as_str()), None), "{line:#}");
    });
}

#[test]
fn an_application_that_breaks_off_breaks_its_client_off() {
    run(async {
        let app = App::tcp(async |mut stream| {
            stream.read_u8().await.unwrap();
            stream.write_all(b"part").await.unwrap();
            // A close with linger 0 is a reset.
            stream.set_zero_linger().unwrap();
        })
        .await;
        let mesh = Mesh::start(tcp(&app)).await;
        let mut client = mesh.virtual_wire().await;
        client.send("x").await;
        assert!(b"part".starts_with(&client.rest().await));
        let line = logged(mesh.backend(), |line| line["protocol"] == "TCP").await;
        assert_eq!(line["response_flags"], "UC", "{line:#}");
    });
}

#[test]
fn an_idle_connection_is_closed_after_the_idle_time() {
    run(async {
        let app = greeter().await;
        let mut spec = tcp(&app);
        spec.backend = "timeouts: {idle: 200ms}\n".to_owned();
        let mesh = Mesh::start(spec).await;
        let mut client = mesh.virtual_wire().await;
        assert_eq!(client.rest().await, b"220 hello\r\n");
        let line = logged(mesh.backend(), |line| line["protocol"] == "TCP").await;
        assert_eq!(line["response_flags"], "SI", "{line:#}");
    });
}
