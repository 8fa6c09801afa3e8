//! TrafficTargets: what a caller's sidecar lets out, and what a called one lets in.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use meshgate::sandbox::{POD_PORT, Sidecar};
use meshgate_tests::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::app::{App, Local};
use crate::support::backend::{Backend, FRONTEND, GENERATION, OTHER};
use crate::support::client::{Client, MESH_TCP, handshake, tls};
use crate::support::mesh::{BACKEND, Mesh, Spec, VIRTUAL_PORT, logged};
use crate::support::wire::Wire;
use crate::support::{curl, soon};

const PERMISSIVE: &str = "enablePermissiveTrafficPolicyMode: true";
pub(crate) const STRICT: &str = "enablePermissiveTrafficPolicyMode: false";

pub(crate) fn mode(permissive: &str) -> String {
    format!(
        "apiVersion: config.flomesh.io/v1alpha3\nkind: MeshConfig\nmetadata: {{name: m, namespace: fsm-system}}\n\
         spec: {{traffic: {{{permissive}}}}}\n---\n"
    )
}

/// Lets `frontend` call `backend` by these rules.
pub(crate) fn target(rules: &str) -> String {
    format!(
        "apiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\nmetadata: {{name: t, namespace: default}}\n\
         spec:\n  destination: {{kind: ServiceAccount, name: backend, namespace: default}}\n  \
         sources: [{{kind: ServiceAccount, name: frontend, namespace: default}}]\n  rules: {rules}\n---\n"
    )
}

pub(crate) const GROUP: &str = "[{kind: HTTPRouteGroup, name: routes}]";
const BYTES: &str = "[{kind: TCPRoute, name: bytes}]";
const ROUTES: &str = "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\n\
                      metadata: {name: routes, namespace: default}\n\
                      spec: {matches: [{name: metrics, pathRegex: /metrics$, methods: [GET]}]}\n---\n\
                      apiVersion: specs.smi-spec.io/v1alpha4\nkind: TCPRoute\n\
                      metadata: {name: bytes, namespace: default}\nspec: {}\n---\n";

pub(crate) fn rules(mode_of: &str, targets: &str) -> String {
    format!("{}{targets}{ROUTES}", mode(mode_of))
}

/// Puts rules in force at every sidecar of a mesh.
pub(crate) async fn put(mesh: &Mesh, yaml: &str) {
    let sidecars: Vec<&Sidecar> = mesh.backends.iter().chain([&mesh.frontend]).collect();
    let mut before = Vec::new();
    for sidecar in &sidecars {
        before.push(sidecar.metric(GENERATION).await.unwrap());
    }
    mesh.sandbox.write_resource("smi.yaml", yaml).unwrap();
    for (sidecar, before) in sidecars.into_iter().zip(before) {
        sidecar.until_metric(GENERATION, |now| now > before).await.unwrap();
    }
}

/// That the connection ends in an orderly way, without a byte.
async fn ends_without_a_byte(mut wire: Wire, what: &str) {
    let mut heard = Vec::new();
    let end = soon("the end of the connection", wire.stream().read_to_end(&mut heard)).await;
    assert_eq!((end.map_err(|error| error.to_string()), heard), (Ok(0), vec![]), "{what}");
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")
}

/// Sends back what it gets.
async fn echo() -> App {
    App::tcp(async |mut stream| {
        let (mut reader, mut writer) = stream.split();
        // How a client's connection ends is the client's affair.
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await
}

#[test]
fn closes_without_a_byte_when_no_target_reaches_the_service() {
    run(async {
        let app = App::ok().await;
        let mut spec = Spec::of(&[app.address()]).with_virtual();
        spec.frontend = "authorization: {smi: trafficPolicy}\n".to_owned();
        let mesh = Mesh::start(spec).await;
        put(&mesh, ROUTES).await;
        let body =
            "POST /b HTTP/1.1\r\nhost: backend\r\ncontent-length: 40000\r\n\r\n".to_owned() + &"x".repeat(40_000);
        for request in [get("/a").as_str(), &body, "GET /h2c HTTP/1.1\r\nhost: backend\r\nupgrade: h2c\r\n\r\n"] {
            let mut wire = mesh.wire().await;
            wire.send(request).await;
            ends_without_a_byte(wire, "by Host").await;
        }
        for bytes in [get("/a").as_str(), &body, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01", "\x00\x01"] {
            let mut wire = mesh.virtual_wire().await;
            wire.send(bytes).await;
            ends_without_a_byte(wire, "by address").await;
        }
        ends_without_a_byte(mesh.virtual_wire().await, "by address, for a client that waits").await;
        assert_eq!(app.connections(), 0);
        for protocol in ["HTTP/1.1", "TCP"] {
            let line = logged(&mesh.frontend, |line| line["protocol"] == protocol).await;
            assert_eq!((&line["verdict"], &line["reason"]), (&"deny".into(), &"no_target_matched".into()), "{line:#}");
            assert_eq!(
                (&line["response_flags"], &line["upstream_cluster"]),
                (&"RBAC".into(), &BACKEND.into()),
                "{line:#}"
            );
            let details = if protocol == "TCP" { "connection_termination_details" } else { "response_code_details" };
            let left_out = mesh.backend().inbound().to_string();
            assert!(line[details].as_str().unwrap().contains(&left_out), "{line:#}");
        }
        // curl's word for it.
        let url = format!("http://{}/", mesh.frontend.outbound());
        if let Some(output) = curl(&["-s", "-H", &format!("host: {BACKEND}"), &url]).await {
            assert_eq!(output.status.code(), Some(52), "{output:?}");
        }
    });
}

#[test]
fn answers_over_http_2_where_bytes_were_sent_before() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        put(&mesh, &rules(STRICT, "")).await;
        let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        for (kind, status, grpc) in [("text/plain", 403, None), ("application/grpc", 200, Some("7"))] {
            let request = Request::post(format!("http://{BACKEND}/")).header("content-type", kind);
            let sending = sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap());
            let answer = soon("an answer", sending).await.unwrap();
            let found = answer.headers().get("grpc-status").map(|value| value.to_str().unwrap());
            assert_eq!((answer.status().as_u16(), found), (status, grpc), "{kind}");
        }
        assert_eq!(app.connections(), 0);
    });
}

/// A mesh where connections to [`VIRTUAL_PORT`] of the frontend were going to a port of the backend's pod.
async fn toward_the_pod(app: &App, port: u16) -> (Mesh, SocketAddr) {
    let mut spec = Spec::of(&[app.address()]);
    // Sandboxes hand out their addresses in order: the frontend's, then the backend's.
    let mut mesh = Mesh::start(spec.clone()).await;
    let (frontend, pod) = (mesh.frontend.outbound().ip(), SocketAddr::new(mesh.backend().inbound().ip(), port));
    spec.outbound.push((VIRTUAL_PORT, pod));
    mesh.frontend.kill();
    let pod = meshgate::sandbox::PodSpec {
        name: "frontend".to_owned(),
        service_account: "frontend".to_owned(),
        app: "frontend".to_owned(),
        outbound: spec.outbound,
        ..Default::default()
    };
    mesh.frontend = mesh.sandbox.start(&pod, frontend).await.unwrap();
    (mesh, SocketAddr::new(frontend, VIRTUAL_PORT))
}

#[test]
fn a_pods_own_address_is_no_way_around() {
    run(async {
        let app = App::ok().await;
        let (mesh, listener) = toward_the_pod(&app, POD_PORT).await;
        assert_eq!(Wire::connect(listener).await.ask(get("/metrics")).await.status(), 200);
        put(&mesh, &rules(STRICT, "")).await;
        for bytes in [get("/metrics").as_str(), "\x00\x01"] {
            let mut wire = Wire::connect(listener).await;
            wire.send(bytes).await;
            ends_without_a_byte(wire, "a pod's address").await;
        }
        put(&mesh, &rules(STRICT, &target(GROUP))).await;
        assert_eq!(Wire::connect(listener).await.ask(get("/metrics")).await.status(), 200);
    });
}

#[test]
fn another_port_of_a_pod_is_not_passed_through_to() {
    run(async {
        let app = App::ok().await;
        let (mesh, listener) = toward_the_pod(&app, meshgate::sandbox::ADMIN_PORT).await;
        assert_eq!(Wire::connect(listener).await.ask(get("/ready")).await.status(), 200, "in permissive mode it is");
        put(&mesh, &rules(STRICT, &target(GROUP))).await;
        let mut wire = Wire::connect(listener).await;
        wire.send("GET /ready HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
        ends_without_a_byte(wire, "another port").await;
    });
}

#[test]
fn the_called_side_decides_whatever_the_caller_sends() {
    run(async {
        let backend = Backend::start(&rules(STRICT, &target(GROUP))).await;
        let inbound = backend.sidecar.inbound();
        let mut frontend = Client::mesh(inbound, &backend.issue(FRONTEND)).await;
        let mut other = Client::mesh(inbound, &backend.issue(OTHER)).await;
        let mut foreign = Client::plain(inbound).await;
        let cases: [(&mut Client, &[(&str, u16)]); 3] = [
            (
                &mut frontend,
                &[
                    ("/metrics", 200),
                    ("/metrics?x=1", 200),
                    ("/metrics-x", 403),
                    ("/other?x=/metrics", 403),
                    ("/x/../metrics", 200),
                    ("//metrics", 200),
                    ("/metrics/../admin", 403),
                ],
            ),
            (&mut other, &[("/metrics", 403)]),
            (&mut foreign, &[("/metrics", 403)]),
        ];
        for (client, requests) in cases {
            for (path, expected) in requests {
                let (status, body) = client.get(path).await.unwrap();
                assert_eq!(status, *expected, "{path}");
                assert!(status == 200 || body == "RBAC: access denied", "{path}: {body}");
            }
        }
        assert_eq!(backend.hits(), 4);
        let line = logged(&backend.sidecar, |line| line["path"] == "/metrics" && line["response_code"] == 200).await;
        assert_eq!((&line["reason"], &line["policy"]), (&"target_rule".into(), &"default/t rule 0".into()), "{line:#}");
        // The same request as bytes: routes of HTTP let none in.
        let config = Arc::new(tls(Some(&backend.issue(FRONTEND)), MESH_TCP));
        let mut bytes = handshake(inbound, &config).await.unwrap();
        // The connection may already be on its way down.
        let _ = bytes.write_all(get("/metrics").as_bytes()).await;
        let end = soon("the end of the connection", bytes.read(&mut [0; 16])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        assert_eq!(backend.hits(), 4);
    });
}

#[test]
fn what_is_missing_never_widens() {
    run(async {
        let backend = Backend::start(&rules(STRICT, &target(GROUP))).await;
        let mut client = Client::mesh(backend.sidecar.inbound(), &backend.issue(FRONTEND)).await;
        assert_eq!(client.get("/metrics").await.unwrap().0, 200);
        for missing in [
            "[{kind: HTTPRouteGroup, name: missing}]",
            "[{kind: HTTPRouteGroup, name: routes, matches: [missing]}]",
            "[{kind: TCPRoute, name: missing}, {kind: HTTPRouteGroup, name: routes}]",
            "[{kind: UDPRoute, name: missing}]",
        ] {
            backend.put("policy.yaml", &rules(STRICT, &target(missing))).await;
            let mut client = Client::mesh(backend.sidecar.inbound(), &backend.issue(FRONTEND)).await;
            for path in ["/metrics", "/"] {
                assert_eq!(client.get(path).await.unwrap().0, 403, "{missing} {path}");
            }
        }
    });
}

#[test]
fn a_broken_target_keeps_its_last_good_version_and_lets_nobody_in_without_one() {
    run(async {
        let backend = Backend::start(&rules(STRICT, &target(GROUP))).await;
        let mut frontend = Client::mesh(backend.sidecar.inbound(), &backend.issue(FRONTEND)).await;
        backend.put("policy.yaml", &rules(STRICT, &target(GROUP).replace("sources:", "sauces:"))).await;
        let broken = target(GROUP).replace("name: t,", "name: u,").replace("name: frontend,", "nam: other,");
        backend.put("broken.yaml", &broken).await;
        let mut other = Client::mesh(backend.sidecar.inbound(), &backend.issue(OTHER)).await;
        assert_eq!((frontend.get("/metrics").await.unwrap().0, other.get("/metrics").await.unwrap().0), (200, 403));
        let log = backend.sidecar.output();
        assert!(log.contains("policy.yaml:") && log.contains("TrafficTarget default/t: spec.sauces"), "{log}");
    });
}

#[test]
fn the_mode_flips_on_connections_that_are_open_at_the_called_side() {
    run(async {
        let application = echo().await;
        let backend = Backend::start(&rules(PERMISSIVE, "")).await;
        let echoing = Backend::start_with(|sandbox, pod| {
            sandbox.write_resource("policy.yaml", &rules(PERMISSIVE, "")).unwrap();
            pod.application = Some(application.address());
        })
        .await;
        let mut client = Client::mesh(backend.sidecar.inbound(), &backend.issue(FRONTEND)).await;
        let config = Arc::new(tls(Some(&echoing.issue(FRONTEND)), MESH_TCP));
        let mut bytes = handshake(echoing.sidecar.inbound(), &config).await.unwrap();
        bytes.write_all(b"\x01\n").await.unwrap();
        soon("the echo", bytes.read_exact(&mut [0; 2])).await.unwrap();
        assert_eq!(client.get("/other").await.unwrap().0, 200);

        backend.put("policy.yaml", &rules(STRICT, &target(GROUP))).await;
        assert_eq!((client.get("/metrics").await.unwrap().0, client.get("/other").await.unwrap().0), (200, 403));
        backend.put("policy.yaml", &rules(PERMISSIVE, &target(GROUP))).await;
        assert_eq!(client.get("/other").await.unwrap().0, 200);
        backend.put("policy.yaml", &rules(STRICT, "")).await;
        // Refused, or cut off, as nothing is allowed on the connection any more.
        let last = client.get("/metrics").await.map(|(status, _)| status);
        assert!(matches!(last, Ok(403) | Err(_)), "{last:?}");
        assert_eq!(backend.hits(), 3);
        echoing.put("policy.yaml", &rules(STRICT, &target(BYTES))).await;
        bytes.write_all(b"\x02\n").await.unwrap();
        soon("the echo", bytes.read_exact(&mut [0; 2])).await.unwrap();
        echoing.put("policy.yaml", &rules(STRICT, &target(GROUP))).await;
        let end = soon("the end of the connection", bytes.read(&mut [0])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    });
}

#[test]
fn the_mode_flips_on_connections_that_are_open_at_the_calling_side() {
    run(async {
        let (app, application) = (App::ok().await, echo().await);
        let mesh = Mesh::start(Spec::of(&[app.address()]).with_virtual()).await;
        let mut spec = Spec::of(&[application.address()]).with_virtual();
        spec.port_name = "tcp-echo";
        let echoing = Mesh::start(spec).await;
        let (mut by_host, mut by_address) = (mesh.wire().await, mesh.virtual_wire().await);
        let mut bytes = echoing.virtual_wire().await;
        assert_eq!((by_host.ask(get("/")).await.status(), by_address.ask(get("/")).await.status()), (200, 200));
        bytes.send("\x01\n").await;
        assert_eq!(bytes.exactly(2).await.as_deref(), Some(&b"\x01\n"[..]));
        put(&mesh, &rules(STRICT, "")).await;
        for wire in [&mut by_host, &mut by_address] {
            wire.send(get("/")).await;
        }
        ends_without_a_byte(by_host, "by Host").await;
        ends_without_a_byte(by_address, "by address").await;
        put(&echoing, &rules(STRICT, "")).await;
        assert_eq!(bytes.rest().await, b"");
    });
}
