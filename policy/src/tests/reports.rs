//! What people read: explanations.

use std::sync::Arc;

use serde_json::json;

use super::{Call, dry_run, name, policy, rule, settings, workload};
use crate::{Policy, PolicySet};

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
nearest: default/allow-get rule 0: to[0].operation.methods
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
nearest: default/p rule 0: to[0].operation.methods
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
nearest: default/p rule 0: to[0].operation.methods
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
            "audit": null, "dry_run_allow": null, "dry_run_deny": null, "nearest": null,
            "policies": [{
                "kind": "AuthorizationPolicy", "policy": "default/p", "family": "istio", "action": "DENY", "dry_run": false, "unreadable": null,
                "rules": [{"rule": 0, "outcome": "matched", "baseline": false, "because": []}],
            }],
        })
    );
}
