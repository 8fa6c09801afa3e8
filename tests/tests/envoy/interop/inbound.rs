//! An Istio sidecar calls ours.

use std::net::SocketAddr;

use meshgate::sandbox::{Sandbox, Subnet};
use meshgate_tests::run;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::config::{self, Speaks};
use super::{ISTIO, counter, echoing, folder, goes_away_early, grpc, issue, roots, rude};
use crate::binary::envoy;
use crate::envoy::{Envoy, at};
use crate::support::app::{App, ok};
use crate::support::backend::{BACKEND, mtls};
use crate::support::mesh::{Mesh, Spec, logged, logged_path, policy};
use crate::support::wire::Wire;

/// As istiod writes it, with the subset left empty.
const SNI: &str = "outbound_.80_._.backend.default.svc.cluster.local";

/// Where an Envoy's listeners lead: each to one of our pods, in one protocol.
struct Way {
    to: SocketAddr,
    speaks: Speaks,
    /// Its own identity.
    own: &'static str,
    /// Whom it believes to be there.
    expected: &'static str,
}

impl Way {
    fn to(address: SocketAddr, speaks: Speaks) -> Self {
        Self { to: address, speaks, own: ISTIO, expected: BACKEND }
    }
}

async fn istio(binary: &std::path::Path, sandbox: &Sandbox, ways: &[Way]) -> Envoy {
    let subnets = vec![Subnet::claim().unwrap()];
    let roots = roots(sandbox);
    let (mut listeners, mut clusters) = (Vec::<Value>::new(), Vec::<Value>::new());
    for (index, Way { to, speaks, own, expected }) in ways.iter().enumerate() {
        let name = format!("way-{index}");
        let tls = config::to_workload(&issue(sandbox, own), &roots, speaks.alpn(), expected, SNI);
        clusters.push(config::cluster(&name, *to, *speaks, Some(tls)));
        let filter = match speaks {
            Speaks::Tcp => config::tcp_proxy(&name),
            _ => config::requests(&name, &json!({})),
        };
        listeners.push(config::from_application(&name, at(&subnets, index), &filter));
    }
    let resources = json!({"listeners": listeners, "clusters": clusters});
    Envoy::launch(binary, &folder(sandbox), subnets, &resources).await
}

#[test]
fn it_is_known_and_served_in_every_protocol_whether_mutual_tls_is_asked_for_or_only_taken() {
    run(async {
        let Some(binary) = envoy() else { return };
        let apps = [App::http1(|request| ok(&request.text())).await, echoing().await, counter().await];
        for mode in ["STRICT", "PERMISSIVE"] {
            let mut spec = Spec::of(&apps.each_ref().map(App::address));
            spec.port_name = "unsaid";
            let mesh = Mesh::start(spec).await;
            let only = r#"[{from: [{source: {principals: ["cluster.local/ns/default/sa/istio"]}}]}]"#;
            mesh.policies(&(mtls(mode) + "---\n" + &policy("only-istio", "ALLOW", only))).await;
            let speaks = [Speaks::Http1, Speaks::Http2, Speaks::Tcp];
            let mut ways: Vec<_> =
                mesh.backends.iter().zip(speaks).map(|(pod, speaks)| Way::to(pod.inbound(), speaks)).collect();
            let other = "spiffe://cluster.local/ns/default/sa/other";
            ways.push(Way { own: other, ..Way::to(mesh.backend().inbound(), Speaks::Http1) });
            ways.push(Way { expected: other, ..Way::to(mesh.backend().inbound(), Speaks::Http1) });
            let envoy = istio(&binary, &mesh.sandbox, &ways).await;

            let large = "x".repeat(1 << 20);
            let mut client = Wire::connect(envoy.address(0)).await;
            for body in ["small", &large, "", "again"] {
                let head = format!("POST /http1 HTTP/1.1\r\nhost: backend\r\ncontent-length: {}\r\n\r\n", body.len());
                let answer = client.ask(head + body).await;
                assert!(answer.status() == 200 && answer.text() == *body, "{mode}: {}", answer.start);
            }
            assert!(apps[0].connections() <= 2, "{mode}: connections are kept");
            let line = logged_path(mesh.backend(), "/http1").await;
            assert_eq!((line["peer"].as_str(), line["requested_server_name"].as_str()), (Some(ISTIO), Some(SNI)));

            grpc(envoy.address(1), "backend").await;
            assert_eq!(logged_path(&mesh.backends[1], "/pkg.Service/Chat").await["peer"], ISTIO);

            let mut client = Wire::connect(envoy.address(2)).await;
            client.send(&large).await;
            client.end().await;
            assert_eq!(client.rest().await, b"got 1048576", "{mode}");
            let line = logged(&mesh.backends[2], |line| line["protocol"] == "TCP").await;
            assert_eq!((line["peer"].as_str(), line["bytes_received"].as_u64()), (Some(ISTIO), Some(1 << 20)));

            // Whom no policy lets in, and one that expects somebody else here.
            let get = "GET /refused HTTP/1.1\r\nhost: backend\r\n\r\n";
            assert_eq!(Wire::connect(envoy.address(3)).await.ask(get).await.status(), 403, "{mode}");
            assert_eq!(logged_path(mesh.backend(), "/refused").await["peer"], other);
            assert_eq!(Wire::connect(envoy.address(4)).await.ask(get).await.status(), 503, "{mode}");
            let none_came = apps[0].take_seen().iter().all(|request| request.target() == "/http1");
            assert!(none_came, "{mode}");
        }
    });
}

#[test]
fn an_application_that_speaks_first_is_heard_at_once_because_the_sidecar_says_that_there_are_bytes() {
    run(async {
        let Some(binary) = envoy() else { return };
        let app = App::tcp(async |mut stream| {
            let _ = stream.write_all(b"220 hello\r\n").await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        })
        .await;
        let mut spec = Spec::of(&[app.address()]);
        spec.port_name = "unsaid";
        // Who waits for a caller's first bytes does so for longer than this test has patience.
        spec.backend = "timeouts: {detect: 120s}\n".to_owned();
        let mesh = Mesh::start(spec).await;
        let envoy = istio(&binary, &mesh.sandbox, &[Way::to(mesh.backend().inbound(), Speaks::Tcp)]).await;
        let mut client = Wire::connect(envoy.address(0)).await;
        assert_eq!(client.line().await.unwrap(), "220 hello");
        client.end().await;
        assert_eq!(client.rest().await, b"");
    });
}

#[test]
fn who_goes_away_early_on_either_side_is_gone_on_the_other() {
    run(async {
        let Some(binary) = envoy() else { return };
        let (app, mut goes) = rude().await;
        let mesh = Mesh::of(app.address()).await;
        let envoy = istio(&binary, &mesh.sandbox, &[Way::to(mesh.backend().inbound(), Speaks::Http1)]).await;
        goes_away_early(envoy.address(0), "backend", &mut goes).await;
    });
}
