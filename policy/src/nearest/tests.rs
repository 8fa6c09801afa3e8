use serde_json::{Value, json};

use crate::tests::{Call, policy, settings, workload};
use crate::{CatchAllDeny, PolicySet, Settings};

fn nearest_with(rules: &[Value], settings: &Settings, call: &Call) -> Option<String> {
    let deny = policy("deny", json!({"action": "DENY", "rules": [{}]}));
    let mut policies = vec![policy("p", json!({"rules": rules}))];
    if settings.catch_all_deny == CatchAllDeny::Baseline {
        policies.push(deny);
    }
    let residual = PolicySet::compile(&policies, &workload(), settings).reduce(&call.facts());
    let request = (!call.is_tcp()).then(|| call.request());
    let decision = request.as_ref().map_or_else(|| residual.decide_connection(), |request| residual.decide(request));
    residual.nearest(&decision, &call.facts(), request.as_ref()).map(|miss| miss.to_string())
}

fn nearest(rules: &[Value], call: &Call) -> Option<String> {
    nearest_with(rules, &settings(), call)
}

fn rule(account: &str, method: &str, path: &str) -> Value {
    json!({
        "from": [{"source": {"serviceAccounts": [account]}}],
        "to": [{"operation": {"methods": [method], "paths": [path]}}],
    })
}

#[test]
fn is_the_rule_that_failed_in_the_fewest_conditions() {
    let rules = [rule("frontend", "POST", "/x"), rule("frontend", "POST", "/a"), rule("other", "GET", "/a")];
    let found = nearest(&rules, &Call::get("/a"));
    assert_eq!(found.as_deref(), Some("default/p rule 1: to[0].operation.methods"));
}

#[test]
fn is_the_better_of_two_alternatives_of_a_rule() {
    let either = json!({"to": [
        {"operation": {"methods": ["POST"], "paths": ["/b"]}},
        {"operation": {"methods": ["GET"], "paths": ["/b"]}},
    ]});
    assert_eq!(nearest(&[either], &Call::get("/a")).as_deref(), Some("default/p rule 0: to[1].operation.paths"));
}

#[test]
fn names_the_caller_where_no_rule_is_for_it() {
    let rules = [rule("other", "POST", "/a"), rule("third", "GET", "/a")];
    let found = nearest(&rules, &Call::get("/a"));
    assert_eq!(found.as_deref(), Some("default/p rule 1: from[0].source.serviceAccounts"));
}

#[test]
fn is_found_by_what_the_request_has_among_many() {
    let rules: Vec<_> = (0..400).map(|n| rule("frontend", "POST", &format!("/{n}"))).collect();
    let found = nearest(&rules, &Call::get("/399"));
    assert_eq!(found.as_deref(), Some("default/p rule 399: to[0].operation.methods"));
}

#[test]
fn names_the_field_that_tcp_has_nothing_for() {
    let found = nearest(&[rule("frontend", "GET", "/a")], &Call::tcp());
    assert_eq!(found.as_deref(), Some("default/p rule 0: to[0].operation.methods"));
}

#[test]
fn is_asked_for_only_where_a_match_was_wanting() {
    let rules = [rule("frontend", "GET", "/a")];
    assert_eq!(nearest(&rules, &Call::get("/a")), None);
    let baseline = Settings { catch_all_deny: CatchAllDeny::Baseline, ..settings() };
    let found = nearest_with(&rules, &baseline, &Call::get("/b"));
    assert_eq!(found.as_deref(), Some("default/p rule 0: to[0].operation.paths"));
    assert_eq!(nearest(&[], &Call::get("/a")), None, "there is no rule to be near to");
}
