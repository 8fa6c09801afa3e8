//! What a request leaves behind: a line in the access log, a count in the metrics.

use meshgate_tests::run;

use super::get;
use crate::support::app::{App, ok};
use crate::support::mesh::{BACKEND, Mesh, logged, logged_path, policy};

const FRONTEND_ID: &str = "spiffe://cluster.local/ns/default/sa/frontend";
const BACKEND_ID: &str = "spiffe://cluster.local/ns/default/sa/backend";

#[test]
fn a_line_says_who_called_what_was_decided_and_what_became_of_it() {
    run(async {
        let app = App::http1(|_| ok("answer")).await;
        let mesh = Mesh::of(app.address()).await;
        let rules = format!("[{{from: [{{source: {{principals: [\"{}\"]}}}}]}}]", &FRONTEND_ID["spiffe://".len()..]);
        mesh.policies(&policy("frontend", "ALLOW", &rules)).await;
        let mut client = mesh.wire().await;
        client
            .ask(format!(
                "POST /logged?q=1 HTTP/1.1\r\nhost: {BACKEND}\r\nuser-agent: tester/1\r\nx-request-id: r-1\r\n\
                 x-forwarded-for: 192.0.2.1\r\ncontent-length: 3\r\n\r\nabc"
            ))
            .await;
        let line = logged_path(mesh.backend(), "/logged?q=1").await;
        for (field, expected) in [
            ("direction", "inbound"),
            ("peer", FRONTEND_ID),
            ("requested_server_name", BACKEND),
            ("method", "POST"),
            ("authority", BACKEND),
            ("protocol", "HTTP/1.1"),
            ("user_agent", "tester/1"),
            ("request_id", "r-1"),
            ("x_forwarded_for", "192.0.2.1"),
            ("verdict", "allow"),
            ("reason", "allow_rule"),
            ("policy", "default/frontend rule 0"),
            ("upstream_host", &app.address().to_string()),
            ("downstream_local_address", &mesh.backend().inbound().to_string()),
            ("response_flags", "-"),
        ] {
            assert_eq!(line[field], expected, "{field} in {line:#}");
        }
        for (field, expected) in [("response_code", 200), ("bytes_received", 3), ("bytes_sent", 6)] {
            assert_eq!(line[field], expected, "{field} in {line:#}");
        }
        let duration = line["duration"].as_f64().unwrap();
        assert!(duration > 0.0 && duration < 20_000.0, "{line:#}");
        let line = logged_path(&mesh.frontend, "/logged?q=1").await;
        assert_eq!((line["direction"].as_str(), line["upstream_cluster"].as_str()), (Some("outbound"), Some(BACKEND)));
        assert_eq!(line["upstream_host"], mesh.backend().inbound().to_string());
        assert!(line.get("verdict").is_none(), "nobody decides at the caller's side: {line:#}");
    });
}

#[test]
fn a_refused_request_is_logged_with_the_rule_that_refused_it() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy(
            "no-get",
            "DENY",
            "[{to: [{operation: {methods: [POST]}}]}, {to: [{operation: {methods: [GET]}}]}]",
        ))
        .await;
        mesh.get("/refused").await;
        let line = logged_path(mesh.backend(), "/refused").await;
        for (field, expected) in [
            ("verdict", "deny"),
            ("reason", "deny_rule"),
            ("policy", "default/no-get rule 1"),
            ("response_flags", "RBAC"),
            ("peer", FRONTEND_ID),
        ] {
            assert_eq!(line[field], expected, "{field} in {line:#}");
        }
        assert_eq!((line["response_code"].as_u64(), line["bytes_sent"].as_u64()), (Some(403), Some(19)));
        assert!(line.get("upstream_host").is_none(), "{line:#}");
        mesh.policies(&policy("none", "ALLOW", "[]")).await;
        mesh.get("/by-default").await;
        let line = logged_path(mesh.backend(), "/by-default").await;
        assert_eq!((line["reason"].as_str(), line.get("policy")), (Some("no_allow_matched"), None), "{line:#}");
        assert!(line.get("nearest").is_none(), "{line:#}");
        let post =
            "[{to: [{operation: {methods: [PUT], paths: [/x]}}, {operation: {methods: [POST], paths: [/near]}}]}]";
        mesh.policies(&policy("post", "ALLOW", post)).await;
        mesh.get("/near").await;
        let line = logged_path(mesh.backend(), "/near").await;
        assert_eq!(line["nearest"], "default/post rule 0: to[1].operation.methods", "{line:#}");
        // An anonymous caller is not given the name of another.
        mesh.outside().await.ask(get("/anonymous")).await;
        let line = logged_path(mesh.backend(), "/anonymous").await;
        assert!(line.get("peer").is_none(), "{line:#}");
    });
}

#[test]
fn what_a_caller_sends_cannot_forge_a_line_or_a_field() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let forged = r#"/x","peer":"spiffe://cluster.local/ns/default/sa/admin","y":"\u0022"#;
        let mut client = mesh.outside().await;
        // Whether such a target is refused or passed on is not what this test is about.
        let request = "GET /?',\\u0022{} HTTP/1.1\r\nhost: a\r\nx-request-id: \"},{\r\nuser-agent: \u{e9}\t\"\r\n\r\n";
        assert!([200, 400].contains(&client.ask(request).await.status()));
        client = mesh.outside().await;
        client
            .ask(format!("GET /agent HTTP/1.1\r\nhost: a\r\nuser-agent: {}\r\n\r\n", forged.replace('/', "{\"a\":\"}")))
            .await;
        let line = logged_path(mesh.backend(), "/agent").await;
        assert_eq!(line["user_agent"], forged.replace('/', "{\"a\":\"}"));
        let text = std::fs::read_to_string(mesh.sandbox.path("logs/backend-0.access.log")).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{text}");
        assert!(mesh.backend().access_log().iter().all(|line| line.get("peer").is_none()), "{text}");
        assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..0x7f).contains(&byte)), "{text}");
    });
}

#[test]
fn a_request_is_counted_once_on_each_side_under_istios_labels() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.get("/").await;
        mesh.get("/").await;
        let inbound = format!(
            "istio_requests_total{{reporter=\"destination\",source_principal=\"{FRONTEND_ID}\",\
             destination_principal=\"{BACKEND_ID}\",destination_service=\"{BACKEND}\",request_protocol=\"http\",\
             response_code=\"200\",response_flags=\"-\",connection_security_policy=\"mutual_tls\"}}"
        );
        let outbound = format!(
            "istio_requests_total{{reporter=\"source\",source_principal=\"{FRONTEND_ID}\",\
             destination_principal=\"{BACKEND_ID}\",destination_service=\"{BACKEND}\",request_protocol=\"http\",\
             response_code=\"200\",response_flags=\"-\",connection_security_policy=\"unknown\"}}"
        );
        logged(&mesh.frontend, |line| line["path"] == "/").await;
        let found = mesh.frontend.until_metric(&outbound, |count| count >= 2.0).await;
        assert_eq!(found.unwrap(), 2.0);
        let found = mesh.backend().until_metric(&inbound, |count| count >= 2.0).await;
        assert_eq!(found.unwrap(), 2.0);
        // An anonymous caller's request is counted as what it is.
        mesh.outside().await.ask(get("/")).await;
        let anonymous = inbound.replace(FRONTEND_ID, "unknown").replace("mutual_tls", "none");
        mesh.backend().until_metric(&anonymous, |count| count == 1.0).await.unwrap();
    });
}
