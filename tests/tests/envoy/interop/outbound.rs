//! Ours calls an Istio sidecar.

use std::net::SocketAddr;

use meshgate::sandbox::{POD_PORT, Subnet};
use meshgate_tests::run;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::config::{self, Mode, Speaks, inbound};
use super::{SEEN_CALLER, counter, echoing, folder, goes_away_early, grpc, issue, roots, rude};
use crate::binary::envoy;
use crate::envoy::{Envoy, at};
use crate::support::app::{App, ok};
use crate::support::backend::FRONTEND;
use crate::support::mesh::{Mesh, Spec, logged_path, pod};
use crate::support::wire::{Message, Wire};

/// The first port of the frontend at which connections count as redirected from a service's cluster address.
const FIRST_PORT: u16 = 15201;

/// A pod behind an Istio sidecar, and the service that it is alone in.
struct Istio<'a> {
    name: &'static str,
    mode: Mode,
    application: &'a App,
    speaks: Speaks,
    /// Whose certificate it shows; its pod's account has its name.
    account: &'static str,
}

impl Istio<'_> {
    fn cluster_ip(index: usize) -> String {
        format!("10.96.1.{}", index + 1)
    }

    fn resources(&self, index: usize, address: SocketAddr) -> String {
        let name = self.name;
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{clusterIP: {}, selector: {{app: {name}}}, ports: [{{name: unsaid, port: 80, targetPort: {POD_PORT}}}]}}\n{}",
            Self::cluster_ip(index),
            pod(name, name, address.ip(), "")
        )
    }
}

/// A mesh whose frontend is ours, and an Envoy with a listener for each pod.
async fn start(binary: &std::path::Path, pods: &[Istio<'_>]) -> (Mesh, Envoy) {
    let mut spec = Spec::of(&[]);
    for index in 0..pods.len() {
        let port = FIRST_PORT + u16::try_from(index).unwrap();
        spec.outbound.push((port, format!("{}:80", Istio::cluster_ip(index)).parse().unwrap()));
    }
    let mesh = Mesh::start(spec).await;
    let subnets = vec![Subnet::claim().unwrap()];
    let roots = roots(&mesh.sandbox);
    let nowhere = json!({"name": "nowhere", "type": "STATIC", "load_assignment": {"cluster_name": "nowhere"}});
    let (mut listeners, mut clusters) = (Vec::<Value>::new(), vec![nowhere]);
    let mut resources = Vec::new();
    for (index, pod) in pods.iter().enumerate() {
        let (name, address) = (pod.name, at(&subnets, index));
        let own = issue(&mesh.sandbox, &format!("spiffe://cluster.local/ns/default/sa/{}", pod.account));
        listeners.push(inbound(name, address, pod.mode, |alpn| config::from_workloads(&own, &roots, alpn)));
        clusters.push(config::cluster(&format!("{name}-app"), pod.application.address(), pod.speaks, None));
        resources.push(pod.resources(index, address));
    }
    let envoy = json!({"listeners": listeners, "clusters": clusters});
    let envoy = Envoy::launch(binary, &folder(&mesh.sandbox), subnets, &envoy).await;
    let before = mesh.frontend.metric("mesh_config_generation").await.unwrap();
    mesh.sandbox.write_resource("istio.yaml", &resources.join("---\n")).unwrap();
    mesh.frontend.until_metric("mesh_config_generation", |now| now > before).await.unwrap();
    (mesh, envoy)
}

/// A connection that the frontend's application thinks goes to the cluster address of the service at this place.
async fn connect(mesh: &Mesh, index: usize) -> Wire {
    let port = FIRST_PORT + u16::try_from(index).unwrap();
    Wire::connect(SocketAddr::new(mesh.frontend.outbound().ip(), port)).await
}

#[test]
fn it_takes_us_for_one_of_its_mesh_in_every_protocol_whether_mutual_tls_is_asked_for_or_only_taken() {
    run(async {
        let Some(binary) = envoy() else { return };
        let web = App::http1(|request| ok(&request.text())).await;
        let (chat, bytes) = (echoing().await, counter().await);
        let pod = |name, mode, application, speaks| Istio { name, mode, application, speaks, account: name };
        let pods = [
            pod("web-strict", Mode::Strict, &web, Speaks::Http1),
            pod("web-permissive", Mode::Permissive, &web, Speaks::Http1),
            pod("chat-strict", Mode::Strict, &chat, Speaks::Http2),
            pod("chat-permissive", Mode::Permissive, &chat, Speaks::Http2),
            pod("bytes-strict", Mode::Strict, &bytes, Speaks::Tcp),
            pod("bytes-permissive", Mode::Permissive, &bytes, Speaks::Tcp),
            Istio { account: "somebody-else", ..pod("impostor", Mode::Permissive, &web, Speaks::Http1) },
        ];
        let (mesh, _envoy) = start(&binary, &pods).await;
        let uri = format!("URI={FRONTEND}");
        let large = "x".repeat(1 << 20);
        for name in ["web-strict", "web-permissive"] {
            let mut client = mesh.wire().await;
            for body in ["small", &large, "", "again"] {
                let length = body.len();
                let head = format!("POST /{name} HTTP/1.1\r\nhost: {name}\r\ncontent-length: {length}\r\n\r\n");
                let answer = client.ask(head + body).await;
                assert!(answer.status() == 200 && answer.text() == *body, "{name}: {}", answer.start);
            }
            let seen: Vec<Message> = web.take_seen();
            assert_eq!(seen.len(), 4);
            for request in seen {
                let caller = request.field(SEEN_CALLER).expect("who calls").to_owned();
                assert!(
                    caller.split([';', ',']).filter(|part| part.starts_with("URI=")).eq([&uri]),
                    "{name}: {caller}"
                );
            }
        }
        for name in ["chat-strict", "chat-permissive"] {
            let caller = grpc(mesh.frontend.outbound(), name).await.expect("who calls");
            assert!(caller.contains(&uri), "{name}: {caller}");
        }
        for (index, name) in [(4, "bytes-strict"), (5, "bytes-permissive")] {
            let mut client = connect(&mesh, index).await;
            // No words of HTTP in it.
            client.send(b"\x01").await;
            client.send(&large).await;
            client.end().await;
            assert_eq!(client.rest().await, b"got 1048577", "{name}");
        }
        let mut client = mesh.wire().await;
        let answer = client.ask("GET /refused HTTP/1.1\r\nhost: impostor\r\n\r\n").await;
        assert_eq!((answer.status(), web.take_seen().len()), (503, 0));
        let line = logged_path(&mesh.frontend, "/refused").await;
        assert!(line["response_code_details"].as_str().unwrap().contains("sa/somebody-else"), "{line:#}");
    });
}

#[test]
fn an_application_that_speaks_first_is_heard_through_it() {
    run(async {
        let Some(binary) = envoy() else { return };
        let app = App::tcp(async |mut stream| {
            let _ = stream.write_all(b"220 hello\r\n").await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        })
        .await;
        let pod = |name, mode| Istio { name, mode, application: &app, speaks: Speaks::Tcp, account: name };
        let pods = [pod("strict", Mode::Strict), pod("permissive", Mode::Permissive)];
        let (mesh, _envoy) = start(&binary, &pods).await;
        for index in 0..2 {
            let mut client = connect(&mesh, index).await;
            assert_eq!(client.line().await.unwrap(), "220 hello");
            client.end().await;
            assert_eq!(client.rest().await, b"");
        }
    });
}

#[test]
fn who_goes_away_early_on_either_side_is_gone_on_the_other() {
    run(async {
        let Some(binary) = envoy() else { return };
        let (app, mut goes) = rude().await;
        let pods =
            [Istio { name: "web", mode: Mode::Strict, application: &app, speaks: Speaks::Http1, account: "web" }];
        let (mesh, _envoy) = start(&binary, &pods).await;
        goes_away_early(mesh.frontend.outbound(), "web", &mut goes).await;
    });
}
