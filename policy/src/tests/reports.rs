//! What people read: explanations and lints.

use std::sync::Arc;

use serde_json::json;

use super::{Call, dry_run, name, policy, rule, settings, workload};
use crate::istio::peer_authentication;
use crate::lint::{self, Lint};
use crate::{CatchAllDeny, PeerAuthentication, Policy, PolicySet, Settings, Workload};

fn explain(policies: &[Arc<Policy>], call: &Call) -> String {
    call.explain_in(&PolicySet::compile(policies, &workload(), &settings())).to_string()
}

#[test]
fn names_the_part_that_failed() {
    let policies = [
        policy(
            "allow-get",
            json!({"rules": [
                {
                    "from": [{"source": {"principals": ["cluster.local/ns/default/sa/frontend"]}}],
                    "to": [{"operation": {"methods": ["POST"]}}, {"operation": {"methods": ["GET"], "notPaths": ["/a*"]}}],
                },
                {"when": [{"key": "request.headers[x]", "notValues": ["1"]}]},
                {"from": [{"source": {"serviceAccounts": ["other", "third"]}}]},
            ]}),
        ),
        policy("allow-nothing", json!({})),
        Arc::new(Policy::unreadable(name("broken"), Some([("app".to_owned(), "x".to_owned())].into()), "line 3")),
        dry_run("try", json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["8080"]}}]}]})),
    ];
    assert_eq!(
        explain(&policies, &Call::get("/a").header("x", "1")),
        "\
deny: no_allow_matched
dry run of DENY: deny, default/try rule 0
ALLOW default/allow-get
  rule 0: not matched
    to[0].operation.methods: GET not in [POST]
    to[1].operation.notPaths: /a in [/a*]
  rule 1: not matched
    when[0].notValues: 1 in [1]
  rule 2: not matched
    from[0].source.serviceAccounts: cluster.local/ns/default/sa/frontend not in [other, third]
ALLOW default/allow-nothing
  no rules: matches nothing
DENY default/try (dry run)
  rule 0: matched
"
    );
}

#[test]
fn says_what_tcp_does_to_a_rule() {
    let methods = json!({"to": [{"operation": {"methods": ["GET"]}}]});
    assert_eq!(
        explain(&[rule("ALLOW", &methods)], &Call::tcp()),
        "\
deny: no_allow_matched
ALLOW default/p
  rule 0: void
    to[0].operation.methods: needs HTTP: the whole rule is void on a TCP connection
"
    );
    assert_eq!(
        explain(&[rule("DENY", &methods)], &Call::tcp()),
        "\
deny: deny_rule, default/p rule 0
DENY default/p
  rule 0: matched
    to[0].operation.methods: needs HTTP: left out on a TCP connection
"
    );
}

#[test]
fn says_what_a_connection_leaves_open() {
    let methods = json!({"to": [{"operation": {"methods": ["GET"]}}]});
    let set = PolicySet::compile(&[rule("ALLOW", &methods)], &workload(), &settings());
    assert_eq!(
        set.explain(&Call::get("/").facts(), None).to_string(),
        "\
deny: no_allow_matched
ALLOW default/p
  rule 0: needs a request
    to[0].operation.methods: depends on the request
"
    );
}

#[test]
fn is_stable_json() {
    let set = PolicySet::compile(&[rule("DENY", &json!({}))], &workload(), &settings());
    assert_eq!(
        serde_json::to_value(Call::get("/").explain_in(&set)).unwrap(),
        json!({
            "verdict": "deny", "reason": "deny_rule", "family": "istio", "rule": {"policy": "default/p", "rule": 0},
            "target": null,
            "audit": null, "dry_run_allow": null, "dry_run_deny": null,
            "policies": [{
                "policy": "default/p", "family": "istio", "action": "DENY", "dry_run": false, "unreadable": null,
                "rules": [{"rule": 0, "outcome": "matched", "baseline": false, "because": []}],
            }],
        })
    );
}

fn codes(lints: &[Lint]) -> Vec<(&str, &str)> {
    lints.iter().map(|lint| (lint.policy.name.as_str(), lint.code)).collect()
}

fn selecting(action: &str, app: Option<&str>) -> serde_json::Value {
    let selector = app.map(|app| json!({"matchLabels": {"app": app}}));
    json!({"selector": selector, "action": action, "rules": [{}]})
}

#[test]
fn an_allow_behind_a_catch_all_deny_is_dead() {
    let workloads = [("backend-1".to_owned(), workload())];
    let dead = |deny: Arc<Policy>, allow: Arc<Policy>, workloads: &[(String, Workload)], settings: &Settings| {
        !lint::dead_allows(&[deny, allow], workloads, settings).is_empty()
    };
    let allow = || policy("allow", selecting("ALLOW", Some("backend")));
    for (deny, known, expected) in [
        (policy("deny", selecting("DENY", Some("backend"))), false, true),
        (policy("deny", selecting("DENY", None)), false, true),
        (policy("istio-system/deny", selecting("DENY", None)), false, true),
        (policy("other/deny", selecting("DENY", None)), true, false),
        (policy("deny", selecting("DENY", Some("frontend"))), true, false),
        (policy("deny", json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["80"]}}]}]})), true, false),
        (dry_run("deny", selecting("DENY", None)), true, false),
    ] {
        let workloads = if known { &workloads[..] } else { &[] };
        assert_eq!(dead(Arc::clone(&deny), allow(), workloads, &settings()), expected, "{deny:?}");
        let baseline = Settings { catch_all_deny: CatchAllDeny::Baseline, ..settings() };
        assert!(!dead(deny, allow(), workloads, &baseline));
    }
    // The selectors do not say it, but among the workloads there are it is so.
    let everywhere = policy("allow", selecting("ALLOW", None));
    let deny = policy("deny", selecting("DENY", Some("backend")));
    assert!(dead(Arc::clone(&deny), Arc::clone(&everywhere), &workloads, &settings()));
    assert!(!dead(deny, everywhere, &[], &settings()));
}

#[test]
fn the_message_about_a_dead_allow_names_both_and_the_ways_out() {
    let policies = [policy("deny-all", selecting("DENY", None)), policy("allow", selecting("ALLOW", None))];
    let lint = lint::dead_allows(&policies, &[], &settings()).remove(0).to_string();
    for part in ["MG001 default/allow: ", "default/deny-all", "`spec: {}`", "`catchAllDeny: baseline`"] {
        assert!(lint.contains(part), "{lint}");
    }
}

#[test]
fn doubtful_policies_are_pointed_out() {
    let policies = [
        rule("ALLOW", &json!({"from": [{"source": {"notPrincipals": ["spiffe://cluster.local/ns/a/sa/b"]}}]})),
        policy("sni", json!({"rules": [{"when": [{"key": "connection.sni", "values": ["a.example", "A.example"]}]}]})),
        policy(
            "tcp",
            json!({"action": "DENY", "rules": [
                {"to": [{"operation": {"methods": ["GET"]}}, {"operation": {"ports": ["80"]}}]},
                {"to": [{"operation": {"methods": ["GET"], "ports": ["80"]}}]},
                {"from": [{"source": {"namespaces": ["a"]}}], "to": [{"operation": {"methods": ["GET"]}}]},
            ]}),
        ),
        policy("empty", json!({"selector": {}})),
        Arc::new(Policy::unreadable(name("unreadable"), Some([].into()), "")),
    ];
    assert_eq!(
        codes(&lint::all(&policies, &[], &[], &settings())),
        [("empty", "MG006"), ("p", "MG002"), ("sni", "MG007"), ("tcp", "MG003")]
    );
}

#[test]
fn peer_authentications_without_effect_are_pointed_out() {
    let peer = |object: &str, selector: serde_json::Value| -> Arc<PeerAuthentication> {
        let spec = serde_json::from_value(json!({"selector": selector, "mtls": {"mode": "STRICT"}})).unwrap();
        Arc::new(peer_authentication(name(object), spec, "istio-system").unwrap())
    };
    let all = [
        peer("istio-system/a", json!({"matchLabels": {"app": "x"}})),
        peer("istio-system/c", json!({})),
        peer("istio-system/b", json!(null)),
        peer("default/e", json!(null)),
        peer("default/f", json!({"matchLabels": {"app": "x"}})),
        peer("default/g", json!({"matchLabels": {"app": "x"}})),
        peer("other/h", json!({"matchLabels": {"app": "x"}})),
    ];
    let expected = [("g", "MG005"), ("a", "MG004"), ("c", "MG005"), ("c", "MG017")];
    assert_eq!(codes(&lint::all(&[], &all, &[], &settings())), expected);
}
