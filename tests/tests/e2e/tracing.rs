//! Traces: what a pair of sidecars makes of what the caller says, and what a collector hears of it.

mod failure;
mod foreign;

use std::time::Duration;

use meshgate_tests::run;
use tokio::time::Instant;

use crate::support::app::{App, ok};
use crate::support::backend::{ended, signal};
use crate::support::collector::{Asked, Collector, Otlp, Seen};
use crate::support::mesh::{BACKEND, Mesh, Spec, logged_path, policy};
use crate::support::pki::{Authority, uri};
use crate::support::wire::Message;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A request of the frontend's application.
fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\nuser-agent: test\r\n{headers}\r\n")
}

/// A mesh both of whose sidecars have these lines.
async fn mesh(application: &App, bootstrap: &str) -> Mesh {
    let spec = Spec::of(&[application.address()]);
    Mesh::start(Spec { backend: bootstrap.to_owned(), frontend: bootstrap.to_owned(), ..spec }).await
}

/// The only request that was seen.
fn only(app: &App) -> Message {
    let mut seen = app.take_seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

/// What an application is told by `traceparent`: the trace, the span and the flags.
fn told(request: &Message) -> (String, String, String) {
    let text = request.field("traceparent").unwrap_or_else(|| panic!("{request:?}"));
    let parts: Vec<_> = text.split('-').map(str::to_owned).collect();
    let [version, trace, span, flags] = parts.try_into().unwrap();
    assert_eq!(version, "00");
    (trace, span, flags)
}

fn is_error(seen: &Seen) -> bool {
    seen.span.status.as_ref().is_some_and(|status| status.code == 2)
}

#[test]
fn a_trace_goes_from_the_caller_through_both_sidecars_to_the_application() {
    run(async {
        for (otlp, path) in
            [(Otlp::Http, "/v1/traces"), (Otlp::Grpc, "/opentelemetry.proto.collector.trace.v1.TraceService/Export")]
        {
            let (app, collector) = (App::ok().await, Collector::start(otlp).await);
            let mesh = mesh(&app, &collector.bootstrap(", sample: 0, headers: {x-tenant: shop}")).await;
            let mut wire = mesh.wire().await;
            let headers =
                format!("traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=1\r\ntracestate: b=2\r\nbaggage: k=v\r\n");
            assert_eq!(wire.ask(get("/items?secret=1", &headers)).await.status(), 200);
            let (client, server) = collector.pair("/items").await;
            let seen = only(&app);
            assert_eq!(told(&seen), (TRACE.to_owned(), server.id(), "01".to_owned()));
            assert_eq!((seen.all("tracestate"), seen.field("baggage")), (vec!["a=1", "b=2"], Some("k=v")));
            assert_eq!((client.trace().as_str(), server.trace().as_str()), (TRACE, TRACE));
            assert_eq!((client.parent().as_str(), server.parent()), (SPAN, client.id()));
            assert_eq!((client.span.trace_state.as_str(), client.span.flags), ("a=1,b=2", 0x301));
            assert!(!is_error(&client) && !is_error(&server));
            assert!(client.span.start_time_unix_nano < client.span.end_time_unix_nano);
            assert!(client.span.start_time_unix_nano <= server.span.start_time_unix_nano);
            for (seen, reporter, service) in
                [(&client, "source", "frontend.default"), (&server, "destination", "backend.default")]
            {
                assert_eq!(seen.span.name, format!("GET {BACKEND}"));
                assert_eq!(seen.resource("service.name"), service);
                for (key, value) in [
                    ("http.request.method", "GET"),
                    ("url.path", "/items"),
                    ("server.address", BACKEND),
                    ("network.protocol.version", "1.1"),
                    ("http.response.status_code", "200"),
                    ("http.response.body.size", "2"),
                    ("user_agent.original", "test"),
                    ("response_flags", "-"),
                    ("reporter", reporter),
                    ("source_workload_namespace", "default"),
                    ("source_principal", "spiffe://cluster.local/ns/default/sa/frontend"),
                    ("destination_service", BACKEND),
                    ("destination_principal", "spiffe://cluster.local/ns/default/sa/backend"),
                    ("guid:x-request-id", seen_id(&seen_request(&mesh, "/items?secret=1").await)),
                ] {
                    assert_eq!(seen.at(key), value, "{reporter} {key}");
                }
            }
            assert_eq!(seen_request(&mesh, "/items?secret=1").await["trace_id"], TRACE);
            assert_eq!(client.at("network.peer.address"), mesh.backend().inbound().ip().to_string());
            assert_eq!(client.at("url.full"), format!("http://{BACKEND}/items"));
            let is_right = |asked: &Asked| asked.path == path && asked.headers["x-tenant"] == "shop";
            assert!(collector.asked().iter().all(is_right), "{:?}", collector.asked());
            // A connection for each sidecar, and no more for a second batch.
            assert_eq!(wire.ask(get("/again", &headers)).await.status(), 200);
            collector.pair("/again").await;
            assert_eq!(collector.app.connections(), 2);
            mesh.frontend
                .until_metric("mesh_trace_spans_total{result=\"exported\"}", |spans| spans == 2.0)
                .await
                .unwrap();
        }
    });
}

/// The log line of a request, whose path it has as it came.
async fn seen_request(mesh: &Mesh, path: &str) -> serde_json::Value {
    logged_path(mesh.backend(), path).await
}

fn seen_id(line: &serde_json::Value) -> &str {
    line["request_id"].as_str().unwrap()
}

#[test]
fn who_calls_decides_and_what_it_does_not_want_recorded_is_passed_on_untouched() {
    run(async {
        let (app, collector) = (App::ok().await, Collector::start(Otlp::Http).await);
        let mesh = mesh(&app, &collector.bootstrap(", sample: 1")).await;
        let mut wire = mesh.wire().await;
        let unsampled = format!("00-{TRACE}-{SPAN}-00");
        let single = format!("{TRACE}-{SPAN}-0");
        for (name, value) in [("traceparent", unsampled.as_str()), ("b3", "0"), ("b3", &single), ("x-b3-sampled", "0")]
        {
            let headers = format!("{name}: {value}\r\ntracestate: a=1\r\n");
            assert_eq!(wire.ask(get("/no", &headers)).await.status(), 200);
            let seen = only(&app);
            assert_eq!((seen.field(name), seen.field("tracestate")), (Some(value), Some("a=1")));
            let others =
                ["traceparent", "b3", "x-b3-sampled", "x-b3-traceid"].into_iter().filter(|other| *other != name);
            assert!(others.into_iter().all(|other| seen.field(other).is_none()), "{seen:?}");
        }
        // It comes last, and alone.
        assert_eq!(wire.ask(get("/yes", "")).await.status(), 200);
        let (client, server) = collector.pair("/yes").await;
        assert_eq!(collector.spans().len(), 2);
        assert_eq!((client.parent().as_str(), server.parent()), ("", client.id()), "it begins here");
        assert_eq!(told(&only(&app)), (client.trace(), server.id(), "01".to_owned()));
    });
}

#[test]
fn a_trace_in_b3_stays_one_in_b3() {
    run(async {
        let (app, collector) = (App::ok().await, Collector::start(Otlp::Grpc).await);
        let mesh = mesh(&app, &collector.bootstrap(", sample: 0")).await;
        let mut wire = mesh.wire().await;
        assert_eq!(wire.ask(get("/single", &format!("b3: {TRACE}-{SPAN}-1\r\n"))).await.status(), 200);
        let (client, server) = collector.pair("/single").await;
        assert_eq!((client.trace().as_str(), client.parent().as_str(), server.parent()), (TRACE, SPAN, client.id()));
        let seen = only(&app);
        let expected = format!("{TRACE}-{}-1-{}", server.id(), client.id());
        assert_eq!((seen.field("b3"), seen.field("traceparent")), (Some(expected.as_str()), None));
        // Half a trace's number is a whole one for older ones.
        let half = &TRACE[16..];
        let headers = format!("x-b3-traceid: {half}\r\nx-b3-spanid: {SPAN}\r\nx-b3-sampled: 1\r\n");
        assert_eq!(wire.ask(get("/multi", &headers)).await.status(), 200);
        let (client, server) = collector.pair("/multi").await;
        assert_eq!(server.trace(), format!("{}{half}", "0".repeat(16)));
        let seen = only(&app);
        let names = ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled"];
        let (server, client) = (server.id(), client.id());
        assert_eq!(names.map(|name| seen.field(name).unwrap()), [half, &server, &client, "1"]);
        assert_eq!(seen.field("traceparent"), None);
    });
}

#[test]
fn without_traces_headers_are_as_they_came_whatever_is_in_them() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let mut wire = mesh.wire().await;
        let came = [("traceparent", "nonsense"), ("tracestate", "a=1"), ("b3", "-"), ("x-b3-sampled", "maybe")];
        let headers: String = came.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        assert_eq!(wire.ask(get("/", &headers)).await.status(), 200);
        let seen = only(&app);
        assert!(came.iter().all(|(name, value)| seen.field(name) == Some(value)), "{seen:?}");
        assert_eq!(wire.ask(get("/", "")).await.status(), 200);
        let seen = only(&app);
        assert!(came.iter().all(|(name, _)| seen.field(name).is_none()), "{seen:?}");
    });
}

#[test]
fn nonsense_begins_a_new_trace_and_a_long_one_costs_no_more() {
    run(async {
        let (app, collector) = (App::ok().await, Collector::start(Otlp::Http).await);
        let mesh = mesh(&app, &collector.bootstrap(", sample: 1")).await;
        let mut wire = mesh.wire().await;
        let long = "a".repeat(10_000);
        let twice = format!("traceparent: 00-{TRACE}-{SPAN}-01\r\n").repeat(2);
        for (number, headers) in
            [format!("traceparent: {long}\r\n"), twice, format!("b3: {long}\r\n"), format!("tracestate: {long}\r\n")]
                .iter()
                .enumerate()
        {
            let path = format!("/{number}{long}");
            let headers = format!("{headers}x-padding: {long}\r\n");
            assert_eq!(wire.ask(get(&path, &headers)).await.status(), 200);
            let (client, server) = collector.pair(&path[..256]).await;
            assert_eq!((client.parent().as_str(), server.parent()), ("", client.id()));
            assert_ne!(client.trace(), TRACE);
            assert_eq!(told(&only(&app)), (client.trace(), server.id(), "01".to_owned()));
        }
        for seen in collector.spans() {
            assert!(prost::Message::encoded_len(&seen.span) < 4096, "{seen:#?}");
        }
    });
}

#[test]
fn what_is_refused_says_by_whom_and_what_fails_is_an_error() {
    run(async {
        let app = App::http1(|request| match request.target() {
            "/broken" => "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "/none" => "HTTP/1.1 404 None\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "/nonsense" => "nonsense\r\n\r\n".to_owned(),
            _ => ok("ok"),
        })
        .await;
        let collector = Collector::start(Otlp::Http).await;
        let mesh = mesh(&app, &collector.bootstrap(", sample: 1")).await;
        mesh.policies(&policy("deny-it", "DENY", "[{to: [{operation: {paths: [/secret]}}]}]")).await;
        for (path, status, flags, is_fault) in [
            ("/secret", "403", ["-", "RBAC"], false),
            ("/none", "404", ["-", "-"], false),
            ("/broken", "500", ["-", "-"], true),
        ] {
            assert_eq!(mesh.wire().await.ask(get(path, "")).await.status().to_string(), status);
            let (client, server) = collector.pair(path).await;
            for (seen, flags) in [(&client, flags[0]), (&server, flags[1])] {
                assert_eq!(
                    (seen.at("http.response.status_code").as_str(), seen.at("response_flags").as_str()),
                    (status, flags)
                );
                assert_eq!(is_error(seen), is_fault, "{path}");
                assert_eq!(seen.at("error.type"), if is_fault { status } else { "" });
            }
            let (reason, policy) = (server.at("reason"), server.at("policy"));
            if path == "/secret" {
                assert_eq!((reason.as_str(), policy.contains("deny-it")), ("deny_rule", true), "{reason} {policy}");
            } else {
                assert_eq!((reason.as_str(), policy.as_str()), ("", ""));
            }
        }
        let _ = mesh.wire().await.ask(get("/nonsense", "")).await;
        let (client, server) = collector.pair("/nonsense").await;
        assert!(is_error(&client) && is_error(&server), "{server:#?}");
        assert_ne!(server.at("response_flags"), "-");
        // A method is the caller's word, and a name is not.
        let odd = format!("PROPFIND /odd HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n");
        assert_eq!(mesh.wire().await.ask(odd).await.status(), 200);
        let (client, _) = collector.pair("/odd").await;
        let method = (client.at("http.request.method"), client.at("http.request.method_original"));
        assert_eq!(
            (client.span.name, method),
            (format!("HTTP {BACKEND}"), ("_OTHER".to_owned(), "PROPFIND".to_owned()))
        );
    });
}

#[test]
fn the_last_spans_are_sent_before_the_process_ends() {
    run(async {
        let (app, collector) = (App::ok().await, Collector::start(Otlp::Http).await);
        let hour = collector.bootstrap(", sample: 1").replace("50ms", "1h");
        let mut mesh = mesh(&app, &hour).await;
        assert_eq!(mesh.get("/last").await.to_string(), "200");
        logged_path(mesh.backend(), "/last").await;
        signal(mesh.backend(), "TERM");
        assert!(ended(&mut mesh.backends[0]).await.success());
        assert_eq!(collector.until(1).await[0].at("url.path"), "/last");
    });
}

#[test]
fn over_https_the_collector_must_be_the_one_that_the_roots_vouch_for() {
    run(async {
        let (app, authority) = (App::ok().await, Authority::new("otlp.example"));
        let credentials = authority.issue_with("spiffe://otlp.example/x", |params| {
            params.subject_alt_names =
                vec![uri("https://otlp.example/"), rcgen::SanType::IpAddress([127, 0, 0, 1].into())];
        });
        let folder = tempfile::tempdir().unwrap();
        for otlp in [Otlp::Http, Otlp::Grpc] {
            let collector = Collector::tls(otlp, &credentials).await;
            for (pem, result) in [(&authority.pem, "exported"), (&Authority::new("otlp.example").pem, "failed")] {
                let file = folder.path().join(result);
                std::fs::write(&file, pem).unwrap();
                let fields = format!(", sample: 1, trustBundle: {}", file.display());
                let mut mesh = mesh(&app, &collector.bootstrap(&fields).replace("http://", "https://")).await;
                let before = collector.spans().len();
                assert_eq!(mesh.get("/").await.to_string(), "200");
                if result == "exported" {
                    collector.until(before + 2).await;
                } else {
                    // At its end it tries once more, and says what came of it.
                    logged_path(mesh.backend(), "/").await;
                    signal(mesh.backend(), "TERM");
                    assert!(ended(&mut mesh.backends[0]).await.success());
                    assert!(mesh.backend().output().contains("spans are lost"), "{}", mesh.backend().output());
                    assert_eq!(collector.spans().len(), before);
                }
            }
        }
    });
}
