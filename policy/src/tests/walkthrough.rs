//! Access control between two services, step by step, with exact verdicts.

use std::sync::Arc;

use serde_json::json;

use super::{Call, decide, decide_with, dry_run, policy, settings, workload};
use crate::{CatchAllDeny, Policy, PolicySet, Verdict};

fn deny_all() -> Arc<Policy> {
    policy(
        "deny-all-backend",
        json!({"selector": {"matchLabels": {"app": "backend"}}, "action": "DENY", "rules": [{}]}),
    )
}

fn allow_nothing() -> Arc<Policy> {
    policy("allow-nothing", json!({}))
}

fn allow_get_spec(action: &str) -> serde_json::Value {
    json!({
        "selector": {"matchLabels": {"app": "backend"}},
        "action": action,
        "rules": [{
            "from": [{"source": {"principals": ["cluster.local/ns/default/sa/frontend"]}}],
            "to": [{"operation": {"methods": ["GET"], "paths": ["/api/v1/data"]}}],
        }],
    })
}

fn allow_get() -> Arc<Policy> {
    policy("allow-frontend-get-data", allow_get_spec("ALLOW"))
}

/// The requests of steps A4 to A7 and a plaintext one, with what a rule for the first of them makes of each.
fn requests() -> Vec<(Call, bool)> {
    vec![
        (Call::get("/api/v1/data"), true),
        (Call::http("POST", "/api/v1/data"), false),
        (Call::get("/api/v1/other"), false),
        (Call::get("/api/v1/data").by("cluster.local/ns/default/sa/other"), false),
        (Call::get("/api/v1/data").plaintext(), false),
    ]
}

#[test]
fn a1_nothing_in_force() {
    assert_eq!(decide(&[], &Call::get("/")), "allow no_policy");
}

#[test]
fn a2_deny_all() {
    assert_eq!(decide(&[deny_all()], &Call::get("/")), "deny deny_rule default/deny-all-backend rule 0");
}

#[test]
fn a3_deny_comes_before_allow() {
    let verdict = decide(&[deny_all(), allow_get()], &Call::get("/api/v1/data"));
    assert_eq!(verdict, "deny deny_rule default/deny-all-backend rule 0");
}

#[test]
fn a4_to_a8_allow_nothing_and_one_exception() {
    for (call, allowed) in requests() {
        let expected =
            if allowed { "allow allow_rule default/allow-frontend-get-data rule 0" } else { "deny no_allow_matched" };
        assert_eq!(decide(&[allow_nothing(), allow_get()], &call), expected, "{call:?}");
    }
}

#[test]
fn a9_a_catch_all_deny_as_baseline() {
    let baseline = crate::Settings { catch_all_deny: CatchAllDeny::Baseline, ..settings() };
    for (call, allowed) in requests() {
        let expected = if allowed {
            "allow allow_rule default/allow-frontend-get-data rule 0"
        } else {
            "deny catch_all_deny default/deny-all-backend rule 0"
        };
        assert_eq!(decide_with(&[deny_all(), allow_get()], &baseline, &call), expected, "{call:?}");
    }
}

#[test]
fn a10_audit_and_dry_run_are_reported_and_decide_nothing() {
    let audit = policy("audit", allow_get_spec("AUDIT"));
    let would_deny = dry_run("would-deny", allow_get_spec("DENY"));
    let would_allow = dry_run("would-allow", allow_get_spec("ALLOW"));
    let policies = [allow_nothing(), allow_get(), audit, would_deny, would_allow];
    let set = PolicySet::compile(&policies, &workload(), &settings());
    Call::get("/api/v1/data").decide_in(&set, |decision| {
        assert_eq!(decision.verdict, Verdict::Allow);
        assert_eq!(decision.audit.unwrap().to_string(), "default/audit rule 0");
        let (verdict, rule) = decision.dry_run_deny.unwrap();
        assert_eq!((verdict, rule.unwrap().to_string()), (Verdict::Deny, "default/would-deny rule 0".to_owned()));
        let (verdict, rule) = decision.dry_run_allow.unwrap();
        assert_eq!((verdict, rule.unwrap().to_string()), (Verdict::Allow, "default/would-allow rule 0".to_owned()));
    });
    Call::http("POST", "/api/v1/data").decide_in(&set, |decision| {
        assert_eq!((decision.verdict, decision.audit), (Verdict::Deny, None));
        assert_eq!(decision.dry_run_deny, Some((Verdict::Allow, None)));
        assert_eq!(decision.dry_run_allow, Some((Verdict::Deny, None)));
    });
}
