//! A collector that shares no code with us: Google's gRPC and Python's HTTP server, with OpenTelemetry's definitions as Google compiled them.

use meshgate::sandbox::until;
use serde_json::Value;

use super::*;
use crate::support::foreign::Foreign;

#[test]
fn googles_grpc_and_opentelemetrys_definitions_understand_us() {
    run(async {
        for protocol in ["grpc", "http/protobuf"] {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/tracing/collector.py");
            let Some(foreign) = Foreign::start("a collector that is not ours", script, &[protocol]) else { return };
            let app = App::ok().await;
            let port = foreign.port;
            let bootstrap =
                format!("tracing: {{endpoint: \"http://127.0.0.1:{port}\", protocol: {protocol}, interval: 50ms}}\n");
            let mesh = mesh(&app, &bootstrap).await;
            let headers = format!("traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=1\r\n");
            assert_eq!(mesh.wire().await.ask(get("/foreign", &headers)).await.status(), 200);
            let lines =
                || foreign.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
            let spans = until("two spans", async || Some(lines()).filter(|lines| lines.len() == 2)).await.unwrap();
            let of =
                |kind: &str| spans.iter().find(|span| span["kind"] == kind).unwrap_or_else(|| panic!("{spans:#?}"));
            let (client, server) = (of("SPAN_KIND_CLIENT"), of("SPAN_KIND_SERVER"));
            assert_eq!((client["trace"].as_str(), client["parent"].as_str()), (Some(TRACE), Some(SPAN)));
            assert_eq!((&server["parent"], &server["trace"]), (&client["id"], &client["trace"]));
            for span in [client, server] {
                assert_eq!(span["name"], format!("GET {BACKEND}"));
                assert_eq!((span["status"].as_str(), span["state"].as_str()), (Some("STATUS_CODE_UNSET"), Some("a=1")));
                assert_eq!(span["attributes"]["url.path"], "/foreign");
                assert_eq!(span["attributes"]["http.response.status_code"], 200);
            }
            assert_eq!(server["resource"]["service.name"], "backend.default");
        }
    });
}
