//! Tunnels between Envoy and ours, either way.

use std::net::SocketAddr;

use meshgate::sandbox::{HBONE_PORT, POD_PORT, Subnet};
use meshgate_tests::run;
use serde_json::{Value, json};

use super::config::{self, Speaks};
use super::{ISTIO, counter, echoing, folder, grpc, issue, roots};
use crate::binary::envoy;
use crate::envoy::{Envoy, at};
use crate::support::app::{App, ok};
use crate::support::backend::{BACKEND, FRONTEND, mtls};
use crate::support::mesh::{Mesh, Spec, logged, logged_path, policy};
use crate::support::wire::Wire;

#[test]
fn what_comes_through_envoys_tunnels_is_served_and_judged_as_who_it_comes_from() {
    run(async {
        let Some(binary) = envoy() else { return };
        let apps = [App::http1(|request| ok(&request.text())).await, echoing().await, counter().await];
        let mut spec = Spec::of(&apps.each_ref().map(App::address));
        (spec.port_name, spec.tunnels) = ("unsaid", true);
        let mesh = Mesh::start(spec).await;
        let only = r#"[{from: [{source: {principals: ["cluster.local/ns/default/sa/istio"]}}]}]"#;
        let secret = r#"[{to: [{operation: {paths: ["/secret"]}}]}]"#;
        let policies = [mtls("STRICT") + "---\n", policy("only", "ALLOW", only), policy("secret", "DENY", secret)];
        mesh.policies(&policies.concat()).await;
        let subnets = vec![Subnet::claim().unwrap()];
        let (mut listeners, mut clusters) = (Vec::<Value>::new(), Vec::<Value>::new());
        // Each pod's; the first's as somebody else; and at the first pod's tunnels, the second's address.
        let pods = &mesh.backends;
        let other = "spiffe://cluster.local/ns/default/sa/other";
        let ways = [(0, 0, ISTIO), (1, 1, ISTIO), (2, 2, ISTIO), (0, 0, other), (0, 1, ISTIO)];
        for (index, (pod, asked_for, own)) in ways.into_iter().enumerate() {
            let name = format!("way-{index}");
            let own = issue(&mesh.sandbox, own);
            let tls = config::to_workload(&own, &roots(&mesh.sandbox), &["h2"], BACKEND, "");
            clusters.push(config::cluster(&name, pods[pod].hbone(), Speaks::Http2, Some(tls)));
            let filter = config::through_tunnel(&name, pods[asked_for].inbound());
            listeners.push(config::from_application(&name, at(&subnets, index), &filter));
        }
        let resources = json!({"listeners": listeners, "clusters": clusters});
        let envoy = Envoy::launch(&binary, &folder(&mesh.sandbox), subnets, &resources).await;

        let large = "x".repeat(1 << 20);
        let mut client = Wire::connect(envoy.address(0)).await;
        for body in ["small", &large, "", "again"] {
            let head = format!("POST /http1 HTTP/1.1\r\nhost: backend\r\ncontent-length: {}\r\n\r\n", body.len());
            let answer = client.ask(head + body).await;
            assert!(answer.status() == 200 && answer.text() == *body, "{}", answer.start);
        }
        assert_eq!(client.ask("GET /secret HTTP/1.1\r\nhost: backend\r\n\r\n").await.status(), 403);
        assert_eq!(logged_path(&pods[0], "/secret").await["peer"], ISTIO);
        assert!(apps[0].take_seen().iter().all(|request| request.target() == "/http1"));

        grpc(envoy.address(1), "backend").await;
        assert_eq!(logged_path(&pods[1], "/pkg.Service/Chat").await["peer"], ISTIO);

        // Bytes show no path, so that what forbids one forbids them all.
        let mut client = Wire::connect(envoy.address(2)).await;
        client.send(b"\x01\n").await;
        assert_eq!(client.rest().await, b"");
        logged(&pods[2], |line| line["response_flags"] == "RBAC").await;
        mesh.policies(&policies[..2].concat()).await;
        let mut client = Wire::connect(envoy.address(2)).await;
        client.send(b"\x01").await;
        client.send(&large).await;
        client.end().await;
        let heard = String::from_utf8(client.rest().await).unwrap();
        assert_eq!(heard, "got 1048577", "{:#?}", pods[2].access_log());
        let line = logged(&pods[2], |line| line["protocol"] == "TCP" && line["response_flags"] == "-").await;
        assert_eq!((&line["peer"], &line["bytes_received"]), (&ISTIO.into(), &((1 << 20) + 1).into()), "{line:#}");

        let before = (apps[0].connections(), apps[1].connections());
        for (index, status) in [(3, 403), (4, 400)] {
            let mut client = Wire::connect(envoy.address(index)).await;
            client.send("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
            assert_eq!(client.rest().await, b"", "way {index}");
            logged(&pods[0], |line| line["response_code"] == status && line["authority"].is_string()).await;
        }
        assert_eq!((apps[0].connections(), apps[1].connections()), before);
    });
}

#[test]
fn an_envoy_that_ends_tunnels_is_reached_through_them_and_knows_us() {
    run(async {
        let Some(binary) = envoy() else { return };
        let apps = [App::http1(|request| ok(&request.text())).await, echoing().await, counter().await];
        let mut spec = Spec::of(&[]);
        spec.outbound.push((15201, "10.96.1.3:80".parse().unwrap()));
        spec.frontend = "workers: 1\n".to_owned();
        let mesh = Mesh::start(spec).await;
        let subnets = vec![Subnet::claim().unwrap()];
        let (mut listeners, mut clusters) = (Vec::<Value>::new(), Vec::<Value>::new());
        let mut resources = Vec::new();
        let says =
            ["annotations: {ambient.istio.io/redirection: enabled}", "labels: {networking.istio.io/tunnel: http}"];
        let whom = [(0, FRONTEND), (1, FRONTEND), (2, FRONTEND), (0, ISTIO)];
        for (index, (app, caller)) in whom.into_iter().enumerate() {
            let (name, ip) = (format!("pod-{index}"), at(&subnets, index).ip());
            let own = issue(&mesh.sandbox, &format!("spiffe://cluster.local/ns/default/sa/{name}"));
            let tls = config::from_workloads(&own, &roots(&mesh.sandbox), &["h2"]);
            let (tunnels, inner) = (SocketAddr::new(ip, HBONE_PORT), SocketAddr::new(ip, POD_PORT));
            listeners.push(config::tunnels_end(&name, tunnels, &tls, inner, caller));
            clusters.push(config::cluster(&format!("{name}-app"), apps[app].address(), Speaks::Tcp, None));
            resources.push(format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
                 spec: {{clusterIP: 10.96.1.{}, ports: [{{name: unsaid, port: 80, targetPort: {POD_PORT}}}]}}\n---\n\
                 apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {{name: {name}, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}\n\
                 addressType: IPv4\nports: [{{name: unsaid, port: {POD_PORT}}}]\nendpoints: [{{addresses: [\"{ip}\"]}}]\n---\n\
                 apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, {}}}\n\
                 spec: {{serviceAccountName: {name}}}\nstatus: {{podIP: {ip}}}\n",
                index + 1,
                says[index % 2],
            ));
        }
        let config = json!({"listeners": listeners, "clusters": clusters});
        let _envoy = Envoy::launch(&binary, &folder(&mesh.sandbox), subnets, &config).await;
        let before = mesh.frontend.metric("mesh_config_generation").await.unwrap();
        mesh.sandbox.write_resource("istio.yaml", &resources.join("---\n")).unwrap();
        mesh.frontend.until_metric("mesh_config_generation", |now| now > before).await.unwrap();

        let large = "x".repeat(1 << 20);
        let mut client = mesh.wire().await;
        for body in ["small", &large, "", "again"] {
            let head = format!("POST /http1 HTTP/1.1\r\nhost: pod-0\r\ncontent-length: {}\r\n\r\n", body.len());
            let answer = client.ask(head + body).await;
            assert!(answer.status() == 200 && answer.text() == *body, "{}", answer.start);
        }
        grpc(mesh.frontend.outbound(), "pod-1").await;
        let mut client = Wire::connect(SocketAddr::new(mesh.frontend.outbound().ip(), 15201)).await;
        client.send(b"\x01").await;
        client.send(&large).await;
        client.end().await;
        assert_eq!(client.rest().await, b"got 1048577");
        let reached = apps[0].connections();
        let mut client = mesh.wire().await;
        assert_eq!(client.ask("GET /refused HTTP/1.1\r\nhost: pod-3\r\n\r\n").await.status(), 503);
        let line = logged_path(&mesh.frontend, "/refused").await;
        assert!(line["response_code_details"].as_str().unwrap().contains("answered 403"), "{line:#}");
        assert_eq!(apps[0].connections(), reached);
        // One for each pod that was asked for, whatever number of tunnels was in it.
        let handshakes = mesh.frontend.metric("mesh_tls_handshakes_total{direction=\"outbound\",outcome=\"ok\"}").await;
        assert_eq!(handshakes, Some(4.0));
    });
}
