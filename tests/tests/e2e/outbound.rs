//! From the caller's application: which service is meant, which endpoint is next, and where nothing may go.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use http::Method;
use meshgate::sandbox::{Answer, OUTBOUND_PORT, POD_PORT, Sandbox, request};
use meshgate_tests::run;

use crate::support::app::{App, nobody, ok};
use crate::support::mesh::{BACKEND, Mesh, Spec, VIRTUAL_PORT, logged, logged_path, pod};
use crate::support::wire::Wire;

/// As the frontend, to any host.
async fn call(mesh: &Mesh, host: &str) -> String {
    request(mesh.frontend.outbound(), host, Method::GET, "/").await.to_string()
}

/// Adds a service whose only pods are `endpoints`, and waits until the frontend knows it.
async fn add_service(mesh: &Mesh, name: &str, pods: &str, endpoints: &[SocketAddr]) {
    let port = endpoints[0].port();
    let addresses: Vec<String> = endpoints.iter().map(|endpoint| format!("\"{}\"", endpoint.ip())).collect();
    let before = mesh.frontend.metric("mesh_config_generation").await.unwrap();
    let yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{ports: [{{name: http, port: 80, targetPort: {port}}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: {port}}}]\nendpoints: [{{addresses: [{}]}}]\n{pods}",
        addresses.join(", ")
    );
    mesh.sandbox.write_resource(&format!("{name}.yaml"), &yaml).unwrap();
    mesh.frontend.until_metric("mesh_config_generation", |now| now > before).await.unwrap();
}

#[test]
fn a_service_is_found_by_every_spelling_of_its_name() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        for host in [
            "backend",
            "backend.default",
            "backend.default.svc",
            BACKEND,
            "backend.default.svc.cluster.local.",
            "backend:80",
            "backend.default.svc.cluster.local:80",
            "BACKEND.Default.SVC.Cluster.Local",
            "Backend:80",
        ] {
            assert_eq!(call(&mesh, host).await, "200", "{host}");
        }
        assert_eq!(app.take_seen().len(), 9);
    });
}

#[test]
fn a_host_that_is_no_service_goes_nowhere() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        for host in ["nobody", "backend.other", "backend.default.svc.other", "backend:81", "a.backend", "example.com"] {
            assert_eq!(call(&mesh, host).await, "503 no route to this host", "{host}");
        }
        // An address is no service either, even the application's own.
        assert_eq!(call(&mesh, &app.address().to_string()).await, "503 no route to this host");
        let line = logged(&mesh.frontend, |line| line["authority"] == "nobody").await;
        assert_eq!((line["response_code"].as_u64(), line["response_flags"].as_str()), (Some(503), Some("NR")));
        assert!(line["response_code_details"].as_str().unwrap().contains("nobody"), "{line:#}");
        assert_eq!(app.connections(), 0);
    });
}

#[test]
fn the_virtual_address_decides_whatever_host_is_named() {
    run(async {
        let app = App::http1(|request| ok(request.field("host").unwrap())).await;
        let mesh = Mesh::start(Spec::of(&[app.address()]).with_virtual()).await;
        for host in ["example.com", "frontend", BACKEND] {
            let mut client = mesh.virtual_wire().await;
            let answer = client.ask(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, host));
        }
        logged(&mesh.frontend, |line| line["authority"] == "example.com" && line["upstream_cluster"] == BACKEND).await;
    });
}

#[test]
fn round_robin_is_exact_over_endpoints_connections_and_workers() {
    run(async {
        let (a, b, c) = (App::ok().await, App::ok().await, App::ok().await);
        let mut spec = Spec::of(&[a.address(), b.address(), c.address()]);
        spec.frontend = "workers: 2\n".to_owned();
        let mesh = Mesh::start(spec).await;
        let mut clients = Vec::new();
        for _ in 0..10 {
            clients.push(mesh.wire().await);
        }
        for turn in 0..300 {
            let answer = clients[turn % 10].ask(format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")).await;
            assert_eq!(answer.status(), 200);
        }
        let counts = [&a, &b, &c].map(|app| app.take_seen().len());
        assert_eq!(counts, [100, 100, 100]);
    });
}

#[test]
fn an_endpoint_that_is_down_costs_no_request() {
    run(async {
        let (a, b, c) = (App::ok().await, App::ok().await, App::ok().await);
        let mut mesh = Mesh::start(Spec::of(&[a.address(), b.address(), c.address()])).await;
        mesh.backends[1].kill();
        let mut client = mesh.wire().await;
        for turn in 0..30 {
            let method = if turn % 2 == 0 { "GET" } else { "POST" };
            let request = format!("{method} /{turn} HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-length: 4\r\n\r\nbody");
            assert_eq!(client.ask(request).await.status(), 200, "request {turn}");
        }
        // Each exactly once, with its body: trying the next endpoint must not lose or repeat anything.
        let mut seen: Vec<_> = a.take_seen().into_iter().chain(c.take_seen()).collect();
        seen.sort_by_key(|request| request.target()[1..].parse::<u32>().unwrap());
        let targets: Vec<_> = seen.iter().map(|request| request.target().to_owned()).collect();
        assert_eq!(targets, (0..30).map(|turn| format!("/{turn}")).collect::<Vec<_>>());
        assert!(seen.iter().all(|request| request.text() == "body"));
        assert_eq!(b.connections(), 0);
    });
}

#[test]
fn all_endpoints_down_is_a_503_at_once() {
    run(async {
        let app = App::ok().await;
        let mut mesh = Mesh::start(Spec::of(&[app.address(), app.address()])).await;
        mesh.backends.iter_mut().for_each(meshgate::sandbox::Sidecar::kill);
        assert_eq!(mesh.get("/all-down").await.to_string(), "503 upstream connect error");
        let line = logged_path(&mesh.frontend, "/all-down").await;
        assert_eq!(line["response_flags"], "UF");
        assert!(line["duration"].as_f64().unwrap() < 2000.0, "{line:#}");
    });
}

#[test]
fn an_endpoint_that_nobody_vouches_for_gets_nothing() {
    run(async {
        let (app, stranger) = (App::ok().await, App::ok().await);
        let mesh = Mesh::of(app.address()).await;
        add_service(&mesh, "alone", "", &[stranger.address()]).await;
        assert_eq!(call(&mesh, "alone").await, "503 no usable endpoint");
        let line = logged(&mesh.frontend, |line| line["authority"] == "alone").await;
        assert_eq!(line["response_flags"], "UH");
        assert!(line["response_code_details"].as_str().unwrap().contains("which service account"), "{line:#}");
        // Beside one that is known, it is left out.
        let unknown = SocketAddr::new("127.0.0.99".parse().unwrap(), POD_PORT);
        add_service(&mesh, "mixed", "", &[mesh.backend().inbound(), unknown]).await;
        for _ in 0..6 {
            assert_eq!(call(&mesh, "mixed").await, "200");
        }
        assert_eq!(stranger.connections(), 0);
    });
}

#[test]
fn an_endpoint_with_another_identity_than_its_pods_is_refused() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        // The cluster says that somebody else's pod is where the backend's sidecar answers.
        let address = mesh.backend().inbound();
        let before = mesh.frontend.metric("mesh_config_generation").await.unwrap();
        let service = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: backend, namespace: default}}\n\
             spec: {{selector: {{app: backend}}, ports: [{{name: http, port: 80, targetPort: {POD_PORT}}}]}}\n"
        );
        let pods = pod("backend-0", "backend", address.ip(), "")
            .replace("serviceAccountName: backend", "serviceAccountName: bank");
        mesh.sandbox.write_resource("workloads.yaml", &(service + &pods)).unwrap();
        mesh.frontend.until_metric("mesh_config_generation", |now| now > before).await.unwrap();
        assert_eq!(call(&mesh, "backend").await, "503 upstream identity not accepted");
        let line = logged(&mesh.frontend, |line| line["response_flags"] == "TLS_FAILURE").await;
        let details = line["response_code_details"].as_str().unwrap();
        assert!(details.contains("spiffe://cluster.local/ns/default/sa/bank"), "{line:#}");
        assert_eq!(app.connections(), 0);
    });
}

#[test]
fn a_pod_outside_of_the_mesh_is_called_in_plaintext() {
    run(async {
        let (app, plain) = (App::ok().await, App::http1(|_| ok("plain")).await);
        let mesh = Mesh::of(app.address()).await;
        let labels = ", security.istio.io/tlsMode: disabled";
        let pods = pod("plain", "plain", plain.address().ip(), labels);
        add_service(&mesh, "plain", &pods, &[plain.address()]).await;
        let answer = request(mesh.frontend.outbound(), "plain", Method::GET, "/").await;
        assert!(matches!(&answer, Answer::Http { status: 200, body, .. } if body == "plain"), "{answer:?}");
        assert_eq!(plain.take_seen().len(), 1);
    });
}

/// A mesh where connections to one more port of the frontend were going to `destination`, which is no service.
async fn toward(destination: SocketAddr, registry_only: bool) -> (Mesh, SocketAddr) {
    let (_held, nobody) = nobody();
    let mut spec = Spec::of(&[nobody]);
    spec.outbound.push((VIRTUAL_PORT, destination));
    spec.registry_only = registry_only;
    let mesh = Mesh::start(spec).await;
    let listener = SocketAddr::new(mesh.frontend.outbound().ip(), VIRTUAL_PORT);
    (mesh, listener)
}

#[test]
fn an_unknown_destination_is_passed_through_as_it_is_where_any_is_allowed() {
    run(async {
        let app = App::http1(|request| ok(request.field("host").unwrap())).await;
        let (mesh, listener) = toward(app.address(), false).await;
        let answer = Wire::connect(listener).await.ask("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "example.com"));
        let line = logged(&mesh.frontend, |line| line["authority"] == "example.com").await;
        assert_eq!(line["upstream_host"], app.address().to_string());
        assert!(line.get("upstream_cluster").is_none(), "{line:#}");
        // Neither HTTP nor for the mesh: the application reads it as it was sent, up to the blank line it waits for.
        let mut opaque = Wire::connect(listener).await;
        assert_eq!(opaque.ask("any thing\r\nhost: opaque\r\n\r\n").await.text(), "opaque");
        opaque.end().await;
        opaque.rest().await;
        assert_eq!(app.take_seen()[1].start, "any thing");
        logged(&mesh.frontend, |line| line["protocol"] == "TCP").await;
    });
}

#[test]
fn an_unknown_destination_is_refused_where_only_the_registry_counts() {
    run(async {
        let app = App::ok().await;
        let (mesh, listener) = toward(app.address(), true).await;
        let answer = Wire::connect(listener).await.ask("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
        assert_eq!((answer.status(), answer.text().as_str()), (503, "no route to this host"));
        let line = logged(&mesh.frontend, |line| line["authority"] == "example.com").await;
        assert_eq!(line["response_flags"], "NR");
        assert!(line["response_code_details"].as_str().unwrap().contains("REGISTRY_ONLY"), "{line:#}");
        let mut opaque = Wire::connect(listener).await;
        opaque.send("\x00\x01\x02").await;
        assert_eq!(opaque.rest().await, b"");
        let line = logged(&mesh.frontend, |line| line["protocol"] == "TCP").await;
        assert_eq!(line["response_flags"], "NR");
        assert_eq!(app.connections(), 0);
    });
}

#[test]
fn an_application_may_call_its_own_service() {
    run(async {
        let own = App::http1(|_| ok("myself")).await;
        let mut spec = Spec::of(&[own.address()]);
        spec.frontend_application = Some(own.address());
        let mesh = Mesh::start(spec).await;
        let answer = mesh.wire().await.ask("GET /self HTTP/1.1\r\nhost: frontend\r\n\r\n").await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "myself"));
        let line = logged(&mesh.frontend, |line| line["direction"] == "inbound").await;
        assert_eq!(line["peer"], "spiffe://cluster.local/ns/default/sa/frontend");
    });
}

#[test]
fn the_proxy_never_calls_itself() {
    run(async {
        // A spelling of the backend's own listener that the bootstrap's check does not see through. Sandboxes hand out their
        // addresses in order, and the frontend comes first.
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let address = sandbox.next_address();
        let IpAddr::V4(v4) = address else { panic!("sandboxes are IPv4") };
        let pod = meshgate::sandbox::PodSpec {
            name: "looping".to_owned(),
            service_account: "looping".to_owned(),
            app: "looping".to_owned(),
            application: Some(SocketAddr::new(v4.to_ipv6_mapped().into(), POD_PORT)),
            // Through its own outbound listener, and on to the same again.
            outbound: vec![
                (VIRTUAL_PORT, SocketAddr::new(address, VIRTUAL_PORT)),
                (15102, SocketAddr::new(address, OUTBOUND_PORT)),
            ],
            ..Default::default()
        };
        let looping = sandbox.start(&pod, address).await.unwrap();
        let counts = async || {
            let page = looping.admin_page("/metrics").await.unwrap();
            let detections = page.lines().filter(|line| line.starts_with("mesh_detections_total"));
            detections
                .map(|line| line.rsplit_once(' ').unwrap())
                .map(|(series, count)| (series.to_owned(), count.to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        for port in [POD_PORT, VIRTUAL_PORT, 15102] {
            let mut client = Wire::connect(SocketAddr::new(address, port)).await;
            let answer = client.ask("GET / HTTP/1.1\r\nhost: looping.example\r\n\r\n").await;
            assert_eq!((answer.status(), answer.text().as_str()), (508, "loop detected"), "port {port}");
            let mut opaque = Wire::connect(SocketAddr::new(address, port)).await;
            opaque.send("\x00\x01").await;
            assert_eq!(opaque.rest().await, b"", "port {port}");
        }
        logged(&looping, |line| line["response_flags"] == "LOOP" && line["protocol"] == "TCP").await;
        // One connection in, none of the proxy's own: nothing went round even once.
        let series = |direction: &str, outcome: &str| {
            format!("mesh_detections_total{{direction=\"{direction}\",outcome=\"{outcome}\"}}")
        };
        let expected =
            [("inbound", "http1", 1), ("inbound", "opaque", 1), ("outbound", "http1", 2), ("outbound", "opaque", 2)];
        let expected = expected.map(|(direction, outcome, count)| (series(direction, outcome), count.to_string()));
        assert_eq!(counts().await, BTreeMap::from(expected));
    });
}

#[test]
fn endpoints_that_are_not_ready_get_nothing() {
    run(async {
        let (a, b) = (App::ok().await, App::ok().await);
        let mesh = Mesh::start(Spec::of(&[a.address(), b.address()])).await;
        let (ready, not_ready) = (mesh.backends[0].inbound(), mesh.backends[1].inbound());
        let before = mesh.frontend.metric("mesh_config_generation").await.unwrap();
        let slice = |ready_now: bool| {
            format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {{name: backend, namespace: default, labels: {{kubernetes.io/service-name: backend}}}}\n\
                 addressType: IPv4\nports: [{{name: http, port: {POD_PORT}}}]\nendpoints:\n\
                 - {{addresses: [\"{}\"], conditions: {{ready: {ready_now}}}}}\n\
                 - {{addresses: [\"{}\"], conditions: {{ready: false}}}}\n",
                ready.ip(),
                not_ready.ip()
            )
        };
        mesh.sandbox.write_resource("slice.yaml", &slice(true)).unwrap();
        mesh.frontend.until_metric("mesh_config_generation", |now| now > before).await.unwrap();
        for _ in 0..4 {
            assert_eq!(call(&mesh, "backend").await, "200");
        }
        assert_eq!((a.take_seen().len(), b.take_seen().len()), (4, 0));
        mesh.sandbox.write_resource("slice.yaml", &slice(false)).unwrap();
        mesh.frontend.until_metric("mesh_config_generation", |now| now > before + 1.0).await.unwrap();
        assert_eq!(call(&mesh, "backend").await, "503 no usable endpoint");
        let line = logged(&mesh.frontend, |line| line["response_flags"] == "UH").await;
        assert!(line["response_code_details"].as_str().unwrap().contains("2 not ready"), "{line:#}");
    });
}
