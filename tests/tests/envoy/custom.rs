//! CUSTOM policies beside Envoy's ext_authz filter over HTTP, configured as istiod does it, with one provider for both.

#![expect(clippy::needless_pass_by_value, reason = "values are written where they are used, with json!")]

use std::fmt::Write;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::binary;
use crate::call::{Call, What};
use crate::compare::{Set, compare};
use crate::people::{FRONTEND, NOBODY};
use crate::policies::{Document, PROVIDER};
use crate::profile::DEFAULT;
use crate::support::app::App;

/// Policies, a call, and what both answer to it.
type Row = (Vec<Value>, Call, &'static str);

/// Answers with the status that the request's `x-say` wants, if it is shown that; otherwise 401. A yes comes with a header.
async fn provider() -> App {
    App::http1(|check| {
        let status = check.field("x-say").unwrap_or("401");
        format!("HTTP/1.1 {status} x\r\nx-from-provider: {status}\r\nlocation: /\r\ncontent-length: 0\r\n\r\n")
    })
    .await
}

fn custom(rules: Value) -> Value {
    json!({"action": "CUSTOM", "provider": {"name": PROVIDER}, "rules": rules})
}

fn to(operation: Value) -> Value {
    json!([{"to": [{"operation": operation}]}])
}

fn action(action: &str, rules: Value) -> Value {
    json!({"action": action, "rules": rules})
}

fn says(who: &'static str, path: &str, status: &str) -> Call {
    Call::http1(who, &format!("GET {path} HTTP/1.1\r\nhost: h\r\nx-say: {status}"))
}

fn rows() -> Vec<Row> {
    const NO: &str = "403, but by no policy";
    let admin = || vec![custom(to(json!({"paths": ["/admin*"]})))];
    let all = || vec![custom(json!([{}]))];
    let and = |mut policies: Vec<Value>, more: Value| {
        policies.push(more);
        policies
    };
    let from = |field: &str, value: &str| vec![custom(json!([{"from": [{"source": {field: [value]}}]}]))];
    let told = |value: &str| json!([{"when": [{"key": "request.headers[x-from-provider]", "values": [value]}]}]);
    let when = |key: &str, value: &str| vec![custom(json!([{"when": [{"key": key, "values": [value]}]}]))];
    let http2 = What::Http2 {
        method: "GET",
        authority: "h".into(),
        path: "/admin".into(),
        headers: vec![("x-say", "403"), ("content-type", "application/grpc")],
    };
    vec![
        (admin(), says(NOBODY, "/admin", "200"), "allowed /admin"),
        (admin(), says(NOBODY, "/admin", "403"), NO),
        (admin(), says(NOBODY, "/admin", "401"), "401"),
        (admin(), says(NOBODY, "/admin", "302"), "302"),
        (admin(), says(NOBODY, "/admin", "404"), "404"),
        (admin(), says(NOBODY, "/admin", "429"), "429"),
        (admin(), says(NOBODY, "/admin", "201"), "201"),
        (admin(), says(NOBODY, "/admin", "500"), NO),
        (admin(), says(NOBODY, "/admin", "503"), NO),
        (admin(), Call::get(NOBODY, "/admin"), "401"),
        (admin(), says(NOBODY, "/x/../admin", "403"), NO),
        (admin(), says(NOBODY, "/%61dmin", "403"), NO),
        (admin(), says(NOBODY, "/public", "403"), "allowed /public"),
        (admin(), Call { who: FRONTEND, source: 1, sni: None, what: http2 }, "grpc 7"),
        (all(), says(FRONTEND, "/", "200"), "allowed /"),
        (all(), says(FRONTEND, "/", "403"), NO),
        // On a port that nobody declares the caller's bytes make it TCP, and must not get it past the provider.
        (all(), Call::tcp(FRONTEND), "allowed, here closed"),
        (from("ipBlocks", "10.0.0.0/8"), says(NOBODY, "/", "403"), "allowed /"),
        (from("ipBlocks", "127.0.0.0/8"), says(NOBODY, "/", "403"), NO),
        (from("notIpBlocks", "127.0.0.0/8"), says(NOBODY, "/", "403"), "allowed /"),
        (from("notIpBlocks", "10.0.0.0/8"), says(NOBODY, "/", "403"), NO),
        (vec![custom(to(json!({"hosts": ["H"]})))], says(NOBODY, "/", "403"), NO),
        (vec![custom(to(json!({"notHosts": ["h"]})))], says(NOBODY, "/", "403"), "allowed /"),
        (vec![custom(to(json!({"ports": ["80"]})))], says(NOBODY, "/", "403"), "allowed /"),
        (when("request.headers[x-say]", "403"), says(NOBODY, "/", "403"), NO),
        (when("request.headers[x-say]", "402"), says(NOBODY, "/", "403"), "allowed /"),
        (vec![custom(to(json!({"methods": ["POST"]})))], says(NOBODY, "/", "403"), "allowed /"),
        (vec![custom(to(json!({"notPaths": ["/public"]})))], says(NOBODY, "/public", "403"), "allowed /public"),
        (vec![custom(to(json!({"notPaths": ["/public"]})))], says(NOBODY, "/other", "403"), NO),
        (and(all(), action("DENY", json!([{}]))), says(NOBODY, "/", "200"), "403"),
        (and(all(), action("ALLOW", json!([]))), says(NOBODY, "/", "200"), "403"),
        (and(all(), action("ALLOW", json!([{}]))), says(NOBODY, "/", "200"), "allowed /"),
        (and(all(), action("DENY", json!([{}]))), says(NOBODY, "/", "401"), "401"),
        (and(all(), action("ALLOW", told("200"))), says(NOBODY, "/", "200"), "allowed /"),
        (and(all(), action("DENY", told("200"))), says(NOBODY, "/", "200"), "403"),
        (and(admin(), custom(to(json!({"paths": ["/b"]})))), says(NOBODY, "/b", "401"), "401"),
    ]
}

#[test]
fn a_provider_is_asked_by_both_about_the_same() {
    let Some(envoy) = binary::envoy() else { return };
    let rows = rows();
    let verdicts = meshgate_tests::run(async {
        let provider = provider().await;
        let address: SocketAddr = provider.address();
        let sets = rows.iter().map(|(policies, call, _)| Set {
            profile: DEFAULT,
            documents: ["p0", "p1"]
                .iter()
                .zip(policies)
                .map(|(name, spec)| Document::new(name, spec.clone()))
                .collect(),
            authentication: None,
            provider: Some(address),
            calls: vec![call.clone()],
        });
        compare(&envoy, sets.collect()).await
    });
    let mut wrong = String::new();
    for (verdicts, (.., expected)) in verdicts.iter().zip(&rows) {
        let (envoy, ours) = expected.split_once(", here ").unwrap_or((expected, expected));
        if verdicts.envoy.to_string() != envoy || verdicts.ours.to_string() != ours {
            writeln!(wrong, "{expected} expected of {verdicts}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{} questions", rows.len());
}
