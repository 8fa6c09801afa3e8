//! CUSTOM policies: which rule asks, whom, and when nobody can be asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Call, policy, settings, try_policy, workload};
use crate::{Policy, PolicySet, Provider, ProviderKind, Providers, Settings, lint};

#[allow(clippy::needless_pass_by_value, reason = "so that rules are written in place")]
fn custom(name: &str, provider: &str, rules: Value) -> Arc<Policy> {
    policy(name, json!({"action": "CUSTOM", "provider": {"name": provider}, "rules": rules}))
}

fn paths(path: &str) -> Value {
    json!([{"to": [{"operation": {"paths": [path]}}]}])
}

/// A mesh with the providers `http`, `grpc` and `open`.
fn mesh() -> Settings {
    let provider = |name: &str, kind, fail_open| (name.to_owned(), Provider { kind, fail_open });
    let all = [
        provider("http", ProviderKind::Http, false),
        provider("grpc", ProviderKind::Grpc, false),
        provider("open", ProviderKind::Http, true),
    ];
    Settings { providers: Providers::Known(BTreeMap::from(all)), ..settings() }
}

/// `grpc default/p rule 0`, with the fault behind it, or nothing.
fn asks(policies: &[Arc<Policy>], call: &Call) -> String {
    let residual = PolicySet::compile(policies, &workload(), &mesh()).reduce(&call.facts());
    let custom = if call.tcp { residual.custom_connection() } else { residual.custom(&call.request()) };
    assert!(custom.is_none() || residual.may_ask());
    custom.map_or_else(String::new, |custom| match custom.fault {
        Some(fault) => format!("{} {}: {fault}", custom.provider, custom.rule),
        None => format!("{} {}", custom.provider, custom.rule),
    })
}

#[test]
fn only_the_requests_that_a_rule_matches_are_asked_about() {
    let all = [custom("p", "http", paths("/admin*")), policy("deny", json!({"action": "DENY", "rules": [{}]}))];
    assert_eq!(asks(&all, &Call::get("/admin/x")), "http default/p rule 0");
    assert_eq!(asks(&all, &Call::get("/")), "");
    let elsewhere = custom("other/p", "http", json!([{}]));
    assert_eq!(asks(&[elsewhere], &Call::get("/")), "");
}

#[test]
fn an_unknown_provider_and_two_of_them_cannot_be_asked() {
    let unknown = "nobody default/p rule 0: no extension provider of this name is configured";
    assert_eq!(asks(&[custom("p", "nobody", paths("/a"))], &Call::get("/a")), unknown);
    let two = [custom("p", "http", paths("/a")), custom("q", "grpc", paths("/b"))];
    let fault = "the CUSTOM policies of this workload name different providers";
    assert_eq!(asks(&two, &Call::get("/a")), format!("http default/p rule 0: {fault}"));
    assert_eq!(asks(&two, &Call::get("/b")), format!("grpc default/q rule 0: {fault}"));
    assert_eq!(asks(&two, &Call::get("/")), "");
    assert_eq!(
        asks(&[custom("p", "http", paths("/a")), custom("q", "http", paths("/b"))], &Call::get("/b")),
        "http default/q rule 0"
    );
}

#[test]
fn on_tcp_an_http_provider_is_not_asked_and_a_grpc_provider_is_asked_more() {
    let opaque = Call { opaque_port: true, ..Call::tcp() };
    assert_eq!(asks(&[custom("p", "http", json!([{}]))], &opaque), "");
    assert_eq!(asks(&[custom("p", "grpc", json!([{}]))], &opaque), "grpc default/p rule 0");
    // Only the caller's bytes say that there are no requests: whoever can choose that must not pass for it.
    let undeclared = asks(&[custom("p", "http", paths("/a"))], &Call::tcp());
    assert!(
        undeclared.starts_with("http default/p rule 0: the provider speaks HTTP, and this connection"),
        "{undeclared}"
    );
    assert_eq!(asks(&[custom("p", "grpc", paths("/a"))], &Call::tcp()), "grpc default/p rule 0");
    let port = json!([{"to": [{"operation": {"paths": ["/a"], "ports": ["1"]}}]}]);
    assert_eq!(asks(&[custom("p", "grpc", port)], &Call::tcp()), "");
    assert!(asks(&[custom("p", "nobody", paths("/a"))], &Call::tcp()).starts_with("nobody default/p rule 0: "));
}

#[test]
fn a_rule_may_look_at_nothing_that_a_token_or_a_certificate_says() {
    let wrong = |rule: Value| -> Vec<String> {
        let spec = json!({"action": "CUSTOM", "provider": {"name": "x"}, "rules": [rule]});
        try_policy("p", &[], spec).err().unwrap_or_default().into_iter().map(|invalid| invalid.path).collect()
    };
    for field in ["principals", "requestPrincipals", "namespaces", "trustDomains", "serviceAccounts"] {
        for name in [field.to_owned(), format!("not{}{}", field[..1].to_uppercase(), &field[1..])] {
            let found = wrong(json!({"from": [{"source": {&name: ["a"]}}]}));
            assert_eq!(found, [format!("spec.rules[0].from[0].source.{name}")]);
        }
    }
    for key in [
        "source.namespace",
        "source.principal",
        "source.serviceAccount",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.claims[a]",
        "experimental.envoy.filters.x[y]",
    ] {
        assert_eq!(wrong(json!({"when": [{"key": key, "values": ["a"]}]})), ["spec.rules[0].when[0].values"], "{key}");
    }
    let source = json!({"ipBlocks": ["10.0.0.1"], "notRemoteIpBlocks": ["10.0.0.1"]});
    let operation = json!({"paths": ["/"], "notHosts": ["a"], "methods": ["GET"], "ports": ["80"]});
    assert_eq!(wrong(json!({"from": [{"source": source}], "to": [{"operation": operation}]})), Vec::<String>::new());
    for (key, value) in [
        ("request.headers[x]", "a"),
        ("source.ip", "10.0.0.1"),
        ("remote.ip", "10.0.0.1"),
        ("destination.ip", "10.0.0.1"),
        ("destination.port", "80"),
        ("connection.sni", "a"),
    ] {
        assert_eq!(wrong(json!({"when": [{"key": key, "notValues": [value]}]})), Vec::<String>::new(), "{key}");
    }
}

#[test]
fn an_explanation_says_who_is_asked() {
    let explain = |policies: &[Arc<Policy>], call: &Call| {
        call.explain_in(&PolicySet::compile(policies, &workload(), &mesh())).to_string()
    };
    let all = [custom("p", "http", paths("/a"))];
    let text = "\
allow: no_policy
asks provider \"http\" first, default/p rule 0: this is the verdict if it says yes
CUSTOM default/p
  rule 0: matched
";
    assert_eq!(explain(&all, &Call::get("/a")), text);
    assert!(!explain(&all, &Call::get("/b")).contains("asks"));
    let opaque = Call { opaque_port: true, ..Call::tcp() };
    assert!(explain(&all, &Call::tcp()).starts_with("deny: custom_failed, default/p rule 0\n"));
    assert!(explain(&all, &opaque).contains("void\n    provider: its provider speaks HTTP"));
    let text = explain(&[custom("p", "nobody", paths("/a"))], &Call::get("/a"));
    assert!(text.starts_with("deny: custom_failed, default/p rule 0\ncannot ask provider \"nobody\""), "{text}");
}

#[test]
fn doubtful_providers_are_found() {
    let lints = |policies: &[Arc<Policy>], settings: &Settings| -> Vec<String> {
        let found = lint::all(
            policies,
            &[],
            &lint::Known { workloads: vec![("backend".to_owned(), workload()).into()], ..Default::default() },
            settings,
        );
        found.into_iter().map(|lint| format!("{} {}", lint.code, lint.policy)).collect()
    };
    assert_eq!(lints(&[custom("p", "nobody", json!([{}]))], &mesh()), ["MG040 default/p"]);
    assert_eq!(lints(&[custom("p", "nobody", json!([{}]))], &settings()), Vec::<String>::new());
    let two = [custom("p", "http", json!([{}])), custom("istio-system/q", "grpc", json!([{}]))];
    assert_eq!(lints(&two, &mesh()), ["MG041 default/p", "MG041 istio-system/q"]);
    let apart = [custom("p", "http", json!([{}])), custom("other/q", "grpc", json!([{}]))];
    assert_eq!(lints(&apart, &mesh()), Vec::<String>::new());
    assert_eq!(lints(&[custom("p", "open", json!([{}]))], &mesh()), ["MG042 default/p"]);
}
