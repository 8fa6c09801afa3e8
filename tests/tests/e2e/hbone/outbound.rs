//! What goes out through tunnels, where a workload says that it takes them.

use meshgate_tests::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::app::{App, ok};
use crate::support::client::Client;
use crate::support::mesh::{BACKEND, Mesh, Spec, logged, logged_path, policy};
use crate::support::wire::Wire;

const HANDSHAKES: &str = "mesh_tls_handshakes_total{direction=\"inbound\",outcome=\"ok\"}";

/// A mesh whose backends take tunnels.
fn tunnels(app: &App) -> Spec {
    let mut spec = Spec::of(&[app.address()]).with_virtual();
    (spec.tunnels, spec.port_name) = (true, "unsaid");
    // Each worker has outer connections of its own.
    spec.frontend = "workers: 1\n".to_owned();
    spec
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")
}

#[test]
fn requests_to_who_takes_tunnels_share_one_outer_connection_and_are_judged_inside() {
    run(async {
        let app = App::http1(|request| ok(request.target())).await;
        let mut spec = tunnels(&app);
        let deny = policy("no-secret", "DENY", "[{to: [{operation: {paths: [\"/secret\"]}}]}]");
        spec.policies = Box::leak(deny.into_boxed_str());
        let mesh = Mesh::start(spec).await;
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(mesh.wire().await);
        }
        // All at once: each needs a way of its own.
        for client in &mut clients {
            client.send(get("/open")).await;
        }
        for client in &mut clients {
            let answer = client.answer().await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, "/open"));
            assert_eq!(client.ask(get("/secret")).await.status(), 403);
        }
        assert_eq!(mesh.backend().metric(HANDSHAKES).await, Some(1.0));
        let line = logged_path(mesh.backend(), "/open").await;
        assert_eq!(line["peer"], "spiffe://cluster.local/ns/default/sa/frontend");
        assert_eq!(line["downstream_local_address"], mesh.backend().inbound().to_string());
        let line = logged_path(&mesh.frontend, "/open").await;
        assert_eq!(line["upstream_host"], mesh.backend().inbound().to_string());
    });
}

#[test]
fn bytes_and_http_2_go_the_same_way() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            let all = wire.rest().await;
            let _ = wire.try_send(format!("got {}", all.len())).await;
        })
        .await;
        let mesh = Mesh::start(tunnels(&app)).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut client = mesh.virtual_wire().await;
            client.send(b"\x01").await;
            client.send(vec![b'x'; 1 << 20]).await;
            held.push(client);
        }
        for client in &mut held {
            client.end().await;
            assert_eq!(client.rest().await, b"got 1048577");
        }
        assert_eq!(mesh.backend().metric(HANDSHAKES).await, Some(1.0));
        logged(mesh.backend(), |line| line["protocol"] == "TCP").await;
        drop(mesh);
        let app = App::http2(async |request| {
            http::Response::new(crate::support::app::full(match request.uri().path() {
                "/two" => "two",
                _ => "else",
            }))
        })
        .await;
        let mesh = Mesh::start(tunnels(&app)).await;
        let stream = tokio::net::TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
        let mut client = Client::http2(stream).await;
        assert_eq!(client.get("/two").await.unwrap(), (200, "two".to_owned()));
    });
}

#[test]
fn whoever_is_not_the_workload_that_is_meant_gets_nothing() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::start(tunnels(&app)).await;
        assert_eq!(mesh.get("/").await.to_string(), "200");
        let before = mesh.frontend.metric("mesh_config_generation").await.unwrap();
        let path = mesh.sandbox.path("resources").join("workloads.yaml");
        let workloads = std::fs::read_to_string(path).unwrap();
        // Somebody else's pod is said to be where the backend answers.
        let workloads = workloads.replace("serviceAccountName: backend", "serviceAccountName: bank");
        mesh.sandbox.write_resource("workloads.yaml", &workloads).unwrap();
        mesh.frontend.until_metric("mesh_config_generation", |now| now > before).await.unwrap();
        app.take_seen();
        assert_eq!(mesh.get("/impostor").await.to_string(), "503 upstream identity not accepted");
        let line = logged_path(&mesh.frontend, "/impostor").await;
        assert_eq!(line["response_flags"], "TLS_FAILURE", "{line:#}");
        assert!(line["response_code_details"].as_str().unwrap().contains("sa/bank"), "{line:#}");
        assert_eq!(app.take_seen().len(), 0);
    });
}

#[test]
fn where_no_tunnel_is_had_nothing_goes_another_way() {
    run(async {
        let app = App::ok().await;
        let mut spec = tunnels(&app);
        // Says that it takes tunnels, and does not.
        spec.tunnels = false;
        spec.labels = ", networking.istio.io/tunnel: http";
        let mesh = Mesh::start(spec).await;
        assert_eq!(mesh.get("/nobody").await.to_string(), "503 upstream connect error");
        assert_eq!((app.connections(), mesh.backend().metric(HANDSHAKES).await), (0, None));
        drop(mesh);
        // Takes them, and lets nobody in.
        let mut spec = tunnels(&app);
        let none = policy("none", "ALLOW", "[]");
        spec.policies = Box::leak(none.into_boxed_str());
        let mesh = Mesh::start(spec).await;
        assert_eq!(mesh.get("/refused").await.to_string(), "503 upstream connect error");
        let line = logged_path(&mesh.frontend, "/refused").await;
        assert!(line["response_code_details"].as_str().unwrap().contains("answered 403"), "{line:#}");
        assert_eq!(app.connections(), 0);
    });
}

#[test]
fn a_workload_that_goes_away_takes_its_tunnels_along_and_is_found_again() {
    run(async {
        let app = App::tcp(async |mut stream| {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
        .await;
        let mut mesh = Mesh::start(tunnels(&app)).await;
        let mut client = mesh.virtual_wire().await;
        client.stream().write_all(b"\x01x\n").await.unwrap();
        client.stream().read_exact(&mut [0; 3]).await.unwrap();
        mesh.backends[0].kill();
        assert_eq!(client.rest().await, b"");
    });
}
