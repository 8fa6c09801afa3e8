//! The page of the metrics: what Prometheus' own tools make of it, and what the documentation says of it.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use meshgate::sandbox::Sidecar;
use meshgate_tests::run;
use tokio::net::TcpStream;

use super::support::app::{App, Frames, Local};
use super::support::mesh::{BACKEND, Mesh, Spec, logged_path, policy};
use super::support::wire::Wire;

/// What Prometheus' lint has against names that are Istio's. There is nothing against any of ours.
const ISTIOS: [&str; 1] = ["istio_request_duration_milliseconds use base unit \"seconds\" instead of \"milliseconds\""];

/// Two messages, of three bytes and of none.
const MESSAGES: &[u8] = b"\0\0\0\0\x03abc\0\0\0\0\0";

/// Answers each gRPC call with two messages and a status.
async fn grpc() -> App {
    App::http2(async |request| {
        let (sender, frames) = Frames::channel();
        let status = if request.uri().path() == "/none" { "5" } else { "0" };
        tokio::task::spawn_local(async move {
            let _ = request.into_body().collect().await;
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))]);
            for frame in [Frame::data(Bytes::from_static(MESSAGES)), Frame::trailers(trailers)] {
                let _ = sender.send(frame).await;
            }
        });
        Response::builder().header("content-type", "application/grpc").body(frames).unwrap()
    })
    .await
}

async fn call(mesh: &Mesh, path: &str) {
    let stream = TcpStream::connect(mesh.frontend.outbound()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(connection);
    let request = Request::post(format!("http://{BACKEND}{path}")).header("content-type", "application/grpc");
    let answer = sender.send_request(request.body(Full::new(Bytes::from_static(MESSAGES))).unwrap()).await.unwrap();
    answer.into_body().collect().await.unwrap();
}

async fn page(sidecar: &Sidecar) -> String {
    sidecar.admin_page("/metrics").await.unwrap()
}

/// A sidecar's page after traffic of every kind.
async fn after_traffic() -> Vec<String> {
    let app = App::ok().await;
    let mesh = Mesh::of(app.address()).await;
    assert_eq!(mesh.get("/").await.to_string(), "200");
    mesh.policies(&policy("none", "DENY", "[{to: [{operation: {paths: [/secret]}}]}]")).await;
    assert!(mesh.get("/secret").await.to_string().starts_with("403"));
    mesh.outside().await.ask("GET / HTTP/1.1\r\nhost: a\r\nhost: \"b\r\n\r\n").await;
    let bytes = App::tcp(async |mut stream| {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let mut spec = Spec::of(&[bytes.address()]).with_virtual();
    spec.port_name = "tcp-any";
    let tcp = Mesh::start(spec).await;
    let mut wire = tcp.virtual_wire().await;
    wire.send("bytes").await;
    assert_eq!(wire.exactly(5).await.unwrap(), b"bytes");
    // While it is open.
    tcp.frontend.until_metric("istio_tcp_sent_bytes_total", |sent| sent == 5.0).await.unwrap();
    let grpc_app = grpc().await;
    let mut spec = Spec::of(&[grpc_app.address()]);
    spec.port_name = "grpc";
    let grpc = Mesh::start(spec).await;
    call(&grpc, "/some").await;
    call(&grpc, "/none").await;
    logged_path(grpc.backend(), "/none").await;
    let sidecars = [&mesh.frontend, mesh.backend(), &tcp.frontend, tcp.backend(), &grpc.frontend, grpc.backend()];
    let mut pages = Vec::new();
    for sidecar in sidecars {
        pages.push(page(sidecar).await);
    }
    pages
}

/// What `promtool check metrics` says of a page, and whether it could be read. The machine has no promtool: `None`.
fn promtool(page: &str) -> Option<(bool, String)> {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "promtool: {error}: install Debian's prometheus");
            eprintln!("*** SKIPPED: promtool: {error}: nobody but ourselves has read the metrics ***");
            return None;
        }
    };
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // 3 is what it ends with when it could read all and did not like all of it.
    Some((matches!(output.status.code(), Some(0 | 3)), said))
}

#[test]
fn prometheus_reads_the_page_and_has_nothing_against_our_names() {
    run(async {
        for page in after_traffic().await {
            assert!(page.contains("# TYPE istio_requests_total counter"), "{page}");
            let Some((readable, said)) = promtool(&page) else { return };
            assert!(readable, "{said}\n{page}");
            let ours: Vec<_> = said.lines().filter(|line| !ISTIOS.contains(line)).collect();
            assert!(ours.is_empty(), "{ours:?}");
        }
        // It does complain where there is something to complain of.
        let Some((readable, _)) = promtool("mesh_x{a=\"b} 1\n") else { return };
        assert!(!readable);
    });
}

/// The page as somebody gets it who accepts this: its type and its text.
async fn accepting(sidecar: &Sidecar, accept: &str) -> (String, String) {
    let request = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n\r\n");
    let answer = Wire::connect(sidecar.admin()).await.ask(request).await;
    (answer.field("content-type").unwrap().to_owned(), answer.text())
}

/// What a page has values of, and what it says that they are, counters without the suffix that one of the formats leaves out.
fn series_and_types(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter(|line| !line.starts_with("# HELP ") && *line != "# EOF");
    let lines = lines.map(|line| match line.strip_prefix("# ") {
        Some(comment) => comment.replace("_total counter", " counter"),
        None => line.rsplit_once(' ').unwrap().0.to_owned(),
    });
    lines.collect()
}

#[test]
fn both_formats_have_the_same_series_and_each_says_what_it_is() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.get("/").await;
        mesh.backend().until_metric("istio_requests_total", |count| count == 1.0).await.unwrap();
        let (open_type, open) = accepting(mesh.backend(), "application/openmetrics-text;version=1.0.0,*/*;q=0.1").await;
        let (text_type, text) = accepting(mesh.backend(), "*/*").await;
        assert_eq!(open_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        assert_eq!(text_type, "text/plain; version=0.0.4; charset=utf-8");
        assert!(open.ends_with("\n# EOF\n") && !text.contains("# EOF"));
        assert!(open.contains("\n# TYPE istio_request_bytes histogram\n"), "{open}");
        assert!(open.starts_with("# HELP istio_requests Requests.\n# TYPE istio_requests counter\n"), "{open}");
        assert!(
            text.starts_with("# HELP istio_requests_total Requests.\n# TYPE istio_requests_total counter\n"),
            "{text}"
        );
        assert_eq!(series_and_types(&open), series_and_types(&text));
    });
}

/// The names of a page's metrics.
fn names(page: &str) -> BTreeSet<&str> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[test]
fn the_documentation_names_just_the_metrics_that_there_are() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let page = page(&mesh.frontend).await;
        let text = include_str!("../../../docs/metrics.md");
        let cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
        let documented = cells.flat_map(|cell| cell.split('`').map(|part| part.trim_end_matches('`')));
        let is_metric = |name: &&str| ["istio_", "mesh_", "process_"].iter().any(|family| name.starts_with(family));
        let documented: BTreeSet<_> = documented.filter(is_metric).collect();
        assert_eq!(documented, names(&page));
    });
}

#[test]
fn calls_count_with_their_messages_and_their_status() {
    run(async {
        let app = grpc().await;
        let mut spec = Spec::of(&[app.address()]);
        spec.port_name = "grpc";
        let mesh = Mesh::start(spec).await;
        call(&mesh, "/some").await;
        call(&mesh, "/some").await;
        call(&mesh, "/none").await;
        for (sidecar, reporter) in [(&mesh.frontend, "source"), (mesh.backend(), "destination")] {
            for (status, calls) in [("0", 2.0), ("5", 1.0)] {
                let labels =
                    format!("{{reporter=\"{reporter}\",request_protocol=\"grpc\",grpc_response_status=\"{status}\"}}");
                let metric = |name: &str| format!("{name}{labels}");
                let count = sidecar.until_metric(&metric("istio_requests_total"), |count| count >= calls).await;
                assert_eq!(count.unwrap(), calls);
                for name in ["istio_request_messages_total", "istio_response_messages_total"] {
                    assert_eq!(sidecar.metric(&metric(name)).await, Some(2.0 * calls), "{reporter} {name}");
                }
                let bytes = metric("istio_request_bytes_sum");
                assert_eq!(sidecar.metric(&bytes).await, Some(MESSAGES.len() as f64 * calls));
            }
            let line = logged_path(sidecar, "/none").await;
            assert_eq!(line["grpc_status"], "5", "{line:#}");
        }
    });
}

#[test]
fn both_ends_are_named_by_what_the_configuration_knows_of_them() {
    run(async {
        let app = App::ok().await;
        let mut spec = Spec::of(&[app.address()]);
        spec.labels = ", version: v7";
        let mesh = Mesh::start(spec).await;
        mesh.get("/").await;
        let both = "source_workload_namespace=\"default\",source_principal=\"spiffe://cluster.local/ns/default/sa/frontend\",\
                    destination_workload_namespace=\"default\",destination_app=\"backend\",\
                    destination_principal=\"spiffe://cluster.local/ns/default/sa/backend\",\
                    destination_service_name=\"backend\",destination_service_namespace=\"default\",response_code=\"200\"";
        let own = "source_app=\"frontend\",source_canonical_service=\"frontend\",source_workload=\"frontend\"";
        let source = format!("istio_requests_total{{reporter=\"source\",destination_version=\"v7\",{own},{both}}}");
        mesh.frontend.until_metric(&source, |count| count == 1.0).await.unwrap();
        // Here everybody has an address of the loopback interface, from which nobody calls: only the caller's identity tells.
        let destination = format!("istio_requests_total{{reporter=\"destination\",source_app=\"unknown\",{both}}}");
        mesh.backend().until_metric(&destination, |count| count == 1.0).await.unwrap();
    });
}

#[test]
fn callers_beyond_the_bound_count_together() {
    run(async {
        let app = App::http1(|request| {
            let status = request.start.split('/').nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("200");
            format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")
        })
        .await;
        let mesh =
            Mesh::start(Spec { backend: "metrics: {maxSeries: 3}\n".to_owned(), ..Spec::of(&[app.address()]) }).await;
        for status in 201..=210 {
            mesh.get(&format!("/{status}")).await;
        }
        let overflow = "istio_requests_total{response_code=\"overflow\",source_principal=\"overflow\"}";
        mesh.backend().until_metric(overflow, |count| count == 7.0).await.unwrap();
        assert_eq!(mesh.backend().metric("istio_requests_total").await, Some(10.0));
        mesh.frontend.until_metric("istio_requests_total", |count| count == 10.0).await.unwrap();
        assert_eq!(mesh.frontend.metric(overflow).await, None);
    });
}

#[test]
fn a_log_of_errors_has_no_line_of_what_went_well_and_text_has_envoys_layout() {
    run(async {
        let app = App::ok().await;
        let log = |more: &str| format!("accessLog: {{path: logs/shaped.log, {more}}}\n");
        let mesh =
            Mesh::start(Spec { backend: log("filter: errors, format: text"), ..Spec::of(&[app.address()]) }).await;
        mesh.policies(&policy("none", "DENY", "[{to: [{operation: {paths: [/secret]}}]}]")).await;
        for path in ["/fine", "/secret", "/fine"] {
            mesh.get(path).await;
        }
        let read = || std::fs::read_to_string(mesh.sandbox.path("logs/shaped.log")).unwrap_or_default();
        let text = meshgate::sandbox::until("a line", async || Some(read()).filter(|text| text.ends_with('\n'))).await;
        let text = text.unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("\"GET /secret HTTP/"), "{text}");
        assert!(text.contains("\" 403 RBAC "), "{text}");
        assert!(text.contains("policy=\"default/none rule 0\""), "{text}");
    });
}

#[test]
fn the_last_refusals_say_who_was_refused_by_which_policy_and_only_on_this_machine_under_its_own_name() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("none", "DENY", "[{to: [{operation: {paths: [/secret]}}]}]")).await;
        mesh.get("/fine").await;
        mesh.get("/secret").await;
        let page = meshgate::sandbox::until("the refusal", async || {
            let page = mesh.backend().admin_page("/refusals").await.unwrap();
            let all: Vec<serde_json::Value> = serde_json::from_str(&page).unwrap();
            (!all.is_empty()).then_some(all)
        });
        let all = page.await.unwrap();
        assert_eq!(all.len(), 1);
        for (field, expected) in [
            ("reporter", "destination"),
            ("source_principal", "spiffe://cluster.local/ns/default/sa/frontend"),
            ("destination_service", BACKEND),
            ("flags", "RBAC"),
            ("reason", "deny_rule"),
            ("policy", "default/none rule 0"),
        ] {
            assert_eq!(all[0][field], expected, "{field} in {:#}", all[0]);
        }
        let answer = Wire::connect(mesh.backend().admin())
            .await
            .ask("GET /refusals HTTP/1.1\r\nhost: evil.example\r\n\r\n")
            .await;
        assert_eq!(answer.status(), 403);
    });
}
