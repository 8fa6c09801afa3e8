//! The edge of a cluster, as a process: tunnels that it cannot look into, and plain HTTP for those that know no tunnels.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Version};
use meshgate::clusters::Clusters;
use meshgate::orig_dst::OwnAddresses;
use meshgate::sandbox::{Answer, request, until};
use meshgate::stream::Stream;
use meshgate::tunnel::{Open, TunnelStream, dial};
use meshgate_config::GatewayAddress;
use meshgate_identity::{ClientAlpn, Expected, Identity, Sources, SpiffeId};
use meshgate_tests::run;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Duration;

use crate::support::app::App;
use crate::support::mesh::{Mesh, logged_path};
use crate::support::wire::Wire;

const EXPORTS: &str = r#"apiVersion: flomesh.io/v1alpha1
kind: ServiceExport
metadata: {namespace: default, name: backend}
spec:
  serviceAccountName: backend
  rules: [{portNumber: 80, path: /one/backend, pathType: Prefix}]
"#;

const LONG: Duration = Duration::from_secs(20);

/// A gateway before the usual mesh; its process ends when dropped.
struct Edge {
    mesh: Mesh,
    address: IpAddr,
    log: PathBuf,
    child: Child,
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Edge {
    async fn before(app: &App) -> Self {
        let mut mesh = Mesh::of(app.address()).await;
        let address = mesh.sandbox.next_address();
        mesh.sandbox.write_resource("exports.yaml", EXPORTS).unwrap();
        mesh.sandbox.issue("gateway", "gateway").unwrap();
        let bootstrap = mesh.sandbox.path("gateway.yaml");
        let text = format!(
            "role: gateway\ntrustDomain: cluster.local\nclusterKey: default/default/default/one\n\
             workload: {{name: gateway, namespace: default, serviceAccount: gateway, labels: {{app: gateway}}}}\n\
             identity: {{certificate: identities/gateway.pem, key: identities/gateway-key.pem, trustBundle: ca/ca.pem}}\n\
             resources: {{directory: resources}}\nadmin: {{address: '{address}:15000'}}\n\
             gateway: {{listeners: ['{address}:15443'], compatibility: ['{address}:8080']}}\n\
             accessLog: {{path: logs/gateway.access.log}}\n"
        );
        fs::write(&bootstrap, text).unwrap();
        let output = File::create(mesh.sandbox.path("logs/gateway.log")).unwrap();
        let mut command = Command::new(crate::binary());
        command.args(["run", "--bootstrap"]).arg(&bootstrap).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap();
        let log = mesh.sandbox.path("logs/gateway.access.log");
        let edge = Self { mesh, address, log, child };
        let ready = async || {
            let answer = request(SocketAddr::new(address, 15000), "localhost", Method::GET, "/ready").await;
            matches!(answer, Answer::Http { status: 200, .. }).then_some(())
        };
        if let Err(error) = until("a gateway", ready).await {
            panic!("{error}: {}", fs::read_to_string(edge.mesh.sandbox.path("logs/gateway.log")).unwrap());
        }
        edge
    }

    fn tunnels(&self) -> SocketAddr {
        SocketAddr::new(self.address, 15443)
    }

    fn plain(&self) -> SocketAddr {
        SocketAddr::new(self.address, 8080)
    }

    async fn logged(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let lines = || fs::read_to_string(&self.log).unwrap_or_default();
        let found = async || {
            let lines = lines();
            let mut lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| wanted(line))
        };
        until("a line of the gateway", found).await.unwrap_or_else(|error| panic!("{error}: {}", lines()))
    }

    /// As the frontend.
    fn identity(&self) -> Identity {
        let path = |file: &str| self.mesh.sandbox.path(file);
        Identity::load(&Sources {
            id: id("frontend"),
            certificate: path("identities/frontend.pem"),
            key: path("identities/frontend-key.pem"),
            trust_bundle: path("ca/ca.pem"),
            federated: Default::default(),
            clusters: Default::default(),
            cluster: None,
            crl: Vec::new(),
            require_crl: false,
        })
        .unwrap()
    }
}

fn id(account: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/default/sa/{account}").parse().unwrap()
}

#[test]
fn the_far_workload_sees_the_original_caller_through_the_tunnel() {
    run(async {
        let app = App::ok().await;
        let edge = Edge::before(&app).await;
        let address = edge.tunnels();
        let gateway = Clusters::default().gateway(&Arc::new(GatewayAddress {
            cluster: "default/default/default/one".parse().unwrap(),
            host: address.ip().to_string().into(),
            ip: Some(address.ip()),
            port: address.port(),
            identity: id("gateway"),
        }));
        let identity = edge.identity();
        let outer = dial::dial(&gateway, &identity, &OwnAddresses::default(), LONG).await.unwrap();
        let (sender, connection) = h2::client::handshake::<_>(outer).await.unwrap();
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        let connect = async |authority: &str| {
            let request = Request::builder().method(Method::CONNECT).uri(authority).version(Version::HTTP_2);
            let mut ready = sender.clone().ready().await.unwrap();
            let (answer, send) = ready.send_request(request.body(()).unwrap(), false).unwrap();
            (answer.await.unwrap(), send)
        };
        let (missing, _): (_, h2::SendStream<Bytes>) = connect("frontend.default.svc.clusterset.local:80").await;
        assert_eq!(missing.status(), 404);
        let (answer, send) = connect("backend.default.svc.clusterset.local:80").await;
        assert_eq!(answer.status(), 200);
        let tunnel = Stream::tunnel(TunnelStream::new(send, answer.into_body(), Open::default().hold()));
        let config = identity.client_config(&Expected::from(id("backend")), ClientAlpn::Http1);
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut inner = connector.connect("backend.default".try_into().unwrap(), tunnel).await.unwrap();
        inner.write_all(b"GET /inner HTTP/1.1\r\nHost: backend\r\nConnection: close\r\n\r\n").await.unwrap();
        inner.flush().await.unwrap();
        let mut text = String::new();
        let _ = inner.read_to_string(&mut text).await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        drop(inner);
        let far = logged_path(edge.mesh.backend(), "/inner").await;
        assert_eq!(far["peer"], id("frontend").as_str());
        let line = edge.logged(|line| line["upstream_cluster"] == "backend.default.svc.cluster.local").await;
        assert_eq!(
            (line["direction"].as_str(), line["peer"].as_str()),
            (Some("gateway"), Some(id("frontend").as_str()))
        );
        assert!(!fs::read_to_string(&edge.log).unwrap().contains("/inner"));
        // Whoever does not prove who it is gets no byte.
        let plain = request(edge.tunnels(), "backend", Method::GET, "/one/backend").await;
        assert!(matches!(plain, Answer::Closed), "{plain}");
    });
}

#[test]
fn plain_http_goes_by_whole_elements_of_the_path_and_its_callers_are_nobody() {
    run(async {
        let app = App::ok().await;
        let edge = Edge::before(&app).await;
        for (path, expected) in [
            ("/one/backend/get", "200"),
            ("/one/backend", "200"),
            ("/one//backend/./x", "200"),
            ("/one/backend-two", "404 no route to this host"),
            ("/one", "404 no route to this host"),
            ("/one/backend/../other", "404 no route to this host"),
        ] {
            assert_eq!(request(edge.plain(), "anybody", Method::GET, path).await.to_string(), expected, "{path}");
        }
        let mut wire = Wire::connect(edge.plain()).await;
        wire.send("GET /one/backend/last HTTP/1.1\r\nHost: a\r\nX-Forwarded-Client-Cert: By=me\r\n\r\n").await;
        assert_eq!(wire.answer().await.status(), 200);
        let seen = format!("{:?}", app.take_seen().last().unwrap()).to_ascii_lowercase();
        assert!(seen.contains("/one/backend/last") && !seen.contains("by=me"), "{seen}");
        let far = logged_path(edge.mesh.backend(), "/one/backend/last").await;
        assert_eq!(far["peer"], id("gateway").as_str());
        let line = edge.logged(|line| line["path"] == "/one/backend/last").await;
        assert_eq!((line["peer_identity"].as_str(), line["peer"].as_str()), (Some("unauthenticated"), None));
        let deny = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: known, namespace: default}\n\
                    spec: {selector: {matchLabels: {app: gateway}}, rules: [{from: [{source: {principals: ['*']}}]}]}\n";
        edge.mesh.sandbox.write_resource("known.yaml", deny).unwrap();
        let refused = async || {
            let answer = request(edge.plain(), "anybody", Method::GET, "/one/backend").await;
            (answer.to_string().starts_with("403")).then_some(())
        };
        until("a refusal", refused).await.unwrap();
    });
}

/// `meshgate import` as the frontend, whose bootstrap has these lines about the gateway's cluster.
fn imported(edge: &Edge, cluster: &str, from: &str) -> (i32, String, String) {
    let bootstrap = edge.mesh.sandbox.path("importer.yaml");
    let text = format!(
        "trustDomain: cluster.local\nclusterKey: default/default/default/two\n\
         workload: {{name: frontend, namespace: default, serviceAccount: frontend}}\n\
         identity: {{certificate: identities/frontend.pem, key: identities/frontend-key.pem, trustBundle: ca/ca.pem}}\n\
         resources: {{directory: resources}}\nmulticluster: {{clusters: [{cluster}]}}\n"
    );
    fs::write(&bootstrap, text).unwrap();
    let mut command = Command::new(crate::binary());
    let output = command.args(["import", "--from-gateway", from, "--bootstrap"]).arg(&bootstrap).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!err.contains("panicked"), "{err}");
    (output.status.code().unwrap(), out, err)
}

#[test]
fn what_a_gateway_exports_is_imported_by_command() {
    run(async {
        let app = App::ok().await;
        let edge = Edge::before(&app).await;
        let (host, at) = (edge.address, edge.tunnels());
        let peer = |account: &str| {
            format!(
                "{{clusterKey: default/default/default/one, gateway: {{host: {host}, port: 15443, serviceAccount: {account}}}}}"
            )
        };
        let (status, import, complaints) = imported(&edge, &peer("default/gateway"), &at.to_string());
        assert_eq!((status, complaints.as_str()), (0, ""), "{import}");
        for line in [
            "kind: ServiceImport",
            "  namespace: default",
            "  name: backend",
            "  serviceAccountName: backend",
            "  - port: 80",
            "    - clusterKey: default/default/default/one",
            &format!("        ip: {host}"),
            "        port: 15443",
            "        path: /one/backend",
        ] {
            assert!(import.lines().any(|found| found == line), "{line}: {import}");
        }
        let by_key = imported(&edge, &peer("default/gateway"), &format!("default/default/default/one={at}"));
        assert_eq!(by_key, (0, import, String::new()));
        let elsewhere = peer("default/gateway").replace("/one", "/three");
        let western =
            peer("default/gateway").replace("gateway:", "trustDomain: west, trustBundle: ca/ca.pem, gateway:");
        for (cluster, from, said) in [
            (peer("default/other"), at.to_string(), "spiffe://cluster.local/ns/default/sa/other"),
            (elsewhere, at.to_string(), "it is the gateway of \"default/default/default/one\""),
            (western, at.to_string(), "vouch for west only"),
            (String::new(), at.to_string(), "say whose it is"),
            (peer("default/gateway"), format!("default/default/default/one={host}:9"), "cannot connect"),
        ] {
            let (status, import, complaints) = imported(&edge, &cluster, &from);
            assert_eq!((status, import.as_str()), (2, ""), "{cluster}: {complaints}");
            assert!(complaints.contains(said), "{said}: {complaints}");
        }
    });
}

#[test]
fn plain_http_that_means_to_be_read_differently_reaches_nothing_else() {
    run(async {
        let app = App::ok().await;
        let edge = Edge::before(&app).await;
        for (line, fields, expected, path) in [
            ("GET http://elsewhere/one/backend/absolute HTTP/1.1", "", 200, "/one/backend/absolute"),
            ("GET /other/%2e%2e/one/backend/dots HTTP/1.1", "", 200, "/one/backend/dots"),
            ("GET /one/backend/..%2f..%2fother HTTP/1.1", "", 200, "/one/backend/..%2f..%2fother"),
            ("GET /one/backend/%2e%2e/other HTTP/1.1", "", 404, ""),
            ("GET /one/backend;x HTTP/1.1", "", 404, ""),
            ("GET /one/backend%2fx HTTP/1.1", "", 404, ""),
            ("GET /one%2fbackend/x HTTP/1.1", "", 404, ""),
            ("GET /meshgate/v1/exports HTTP/1.1", "", 404, ""),
            ("CONNECT backend.default.svc.clusterset.local:80 HTTP/1.1", "", 405, ""),
            ("GET /one/backend/hosts HTTP/1.1", "Host: b\r\n", 400, ""),
            (
                "GET /one/backend/up HTTP/1.1",
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
                200,
                "/one/backend/up",
            ),
        ] {
            app.take_seen();
            let mut wire = Wire::connect(edge.plain()).await;
            wire.send(format!("{line}\r\nHost: a\r\n{fields}\r\n")).await;
            assert_eq!(wire.answer().await.status(), expected, "{line}");
            let seen = app.take_seen();
            assert_eq!(seen.len(), usize::from(expected == 200), "{line}");
            let seen = format!("{seen:?}").to_ascii_lowercase();
            assert!(seen.contains(path) && !seen.contains("h2c") && !seen.contains("http2-settings"), "{line}: {seen}");
        }
        // Each of several on one connection goes where its own path says.
        let mut wire = Wire::connect(edge.plain()).await;
        let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.send([ask("/one/backend/1"), ask("/nowhere"), ask("/one/backend/2")].concat()).await;
        for expected in [200, 404, 200] {
            assert_eq!(wire.answer().await.status(), expected);
        }
    });
}
