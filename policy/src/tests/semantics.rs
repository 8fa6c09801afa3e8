//! One test for each corner of what a policy means.

use serde_json::{Value, json};

use super::{Call, decide, decide_with, dry_run, matches, name, policy, rule, settings, workload};
use crate::{CatchAllDeny, Policy, PolicySet, Settings, Verdict, Workload};

fn source(field: &str, values: &[&str]) -> Value {
    json!({"from": [{"source": {field: values}}]})
}

fn operation(field: &str, values: &[&str]) -> Value {
    json!({"to": [{"operation": {field: values}}]})
}

fn when(key: &str, values: &[&str], not_values: &[&str]) -> Value {
    json!({"when": [{"key": key, "values": values, "notValues": not_values}]})
}

/// That the rule matches, or does not, whatever its action.
fn check(written: &Value, call: &Call, expected: bool) {
    for action in ["ALLOW", "DENY"] {
        assert_eq!(matches(action, written, call), expected, "{action} {written} on {call:?}");
    }
}

#[test]
fn an_allow_policy_without_rules_matches_nothing_and_still_counts() {
    for spec in [json!({}), json!({"rules": null}), json!({"rules": []}), json!({"action": null})] {
        assert_eq!(decide(&[policy("p", spec)], &Call::get("/")), "deny no_allow_matched");
    }
    assert_eq!(decide(&[policy("p", json!({"action": "AUDIT"}))], &Call::get("/")), "allow no_policy");
}

#[test]
fn an_empty_rule_matches_everything() {
    for written in [json!({}), json!({"from": null, "to": null, "when": []})] {
        check(&written, &Call::get("/"), true);
        check(&written, &Call::tcp().plaintext(), true);
    }
}

#[test]
fn a_field_with_an_empty_list_is_absent() {
    check(&json!({"to": [{"operation": {"methods": [], "paths": ["/a"]}}]}), &Call::get("/a"), true);
}

#[test]
fn deny_without_a_match_leaves_everything_allowed() {
    assert_eq!(decide(&[rule("DENY", &operation("methods", &["POST"]))], &Call::get("/")), "allow not_denied");
}

#[test]
fn root_namespace_policies_add_up_and_are_reported_first() {
    let mesh = policy("istio-system/z", json!({"action": "DENY", "rules": [operation("paths", &["/a"])]}));
    let own = policy("default/a", json!({"action": "DENY", "rules": [{}, operation("paths", &["/b"])]}));
    let foreign = policy("other/a", json!({"action": "DENY", "rules": [{}]}));
    let all = [own, foreign, mesh];
    assert_eq!(decide(&all, &Call::get("/a")), "deny deny_rule istio-system/z rule 0");
    assert_eq!(decide(&all, &Call::get("/b")), "deny deny_rule default/a rule 0");
    assert_eq!(decide(&all[1..], &Call::get("/b")), "allow not_denied");
}

#[test]
fn a_policy_with_a_target_selects_no_workload() {
    let target = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"});
    for spec in [json!({"targetRef": target}), json!({"targetRefs": [target]})] {
        assert_eq!(decide(&[policy("p", spec)], &Call::get("/")), "allow no_policy");
    }
}

#[test]
fn a_policy_for_a_gateway_is_for_the_workloads_that_are_it() {
    let target = |kind: &str, name: &str| json!({"group": "gateway.networking.k8s.io", "kind": kind, "name": name});
    let service = json!({"kind": "Service", "name": "edge"});
    let gateway = |name: &str| Workload {
        labels: [("gateway.networking.k8s.io/gateway-name".to_owned(), name.to_owned())].into(),
        ..workload()
    };
    for (object, spec, expected) in [
        ("p", json!({"targetRef": target("Gateway", "edge")}), true),
        ("p", json!({"targetRefs": [service, target("Gateway", "edge")]}), true),
        ("p", json!({"targetRefs": [target("Gateway", "a"), target("Gateway", "edge")]}), true),
        ("p", json!({"targetRef": target("Gateway", "other")}), false),
        ("p", json!({"targetRef": service}), false),
        ("p", json!({"targetRef": target("GatewayClass", "istio-waypoint")}), false),
        ("other/p", json!({"targetRef": target("Gateway", "edge")}), false),
        ("istio-system/p", json!({"targetRef": target("Gateway", "edge")}), false),
    ] {
        // Without rules: nothing is allowed where it applies.
        let policies = [policy(object, spec.clone())];
        let verdict = |own: &Workload| {
            let set = PolicySet::compile(&policies, own, &settings());
            Call::get("/").decide_in(&set, |decision| decision.verdict == Verdict::Deny)
        };
        assert_eq!(verdict(&gateway("edge")), expected, "{object} {spec}");
        assert!(!verdict(&workload()), "{object} {spec}");
    }
}

#[test]
fn values_are_alternatives_and_fields_add_up() {
    let written = json!({
        "from": [{"source": {"namespaces": ["a"]}}, {"source": {"namespaces": ["default"], "ipBlocks": ["10.0.0.0/24"]}}],
        "to": [{"operation": {"methods": ["PUT", "GET"], "paths": ["/a", "/b"]}}, {"operation": {"methods": ["DELETE"]}}],
        "when": [{"key": "request.headers[x]", "values": ["1"]}, {"key": "destination.port", "values": ["8080"]}],
    });
    let call = |method, path| Call::http(method, path).header("x", "1");
    check(&written, &call("GET", "/b"), true);
    check(&written, &call("DELETE", "/c"), true);
    check(&written, &call("GET", "/c"), false);
    check(&written, &call("GET", "/b").connecting_from("10.0.1.1"), false);
    check(&written, &Call::get("/b"), false);
    check(&written, &call("GET", "/b").by("cluster.local/ns/a/sa/x").connecting_from("192.0.2.1"), true);
}

#[test]
fn values_and_not_values_must_both_hold() {
    let written = when("request.headers[x]", &["a*"], &["ab"]);
    check(&written, &Call::get("/").header("x", "a"), true);
    check(&written, &Call::get("/").header("x", "ab"), false);
    check(&written, &Call::get("/").header("x", "b"), false);
    let written = json!({"to": [{"operation": {"paths": ["/a*"], "notPaths": ["/a/x"]}}]});
    check(&written, &Call::get("/a/y"), true);
    check(&written, &Call::get("/a/x"), false);
}

#[test]
fn without_an_identity_no_value_matches_and_every_not_form_holds() {
    for (field, not_field, value) in [
        ("principals", "notPrincipals", "*"),
        ("namespaces", "notNamespaces", "*"),
        ("serviceAccounts", "notServiceAccounts", "frontend"),
        ("trustDomains", "notTrustDomains", "*"),
    ] {
        check(&source(field, &[value]), &Call::get("/"), true);
        check(&source(not_field, &[value]), &Call::get("/"), false);
        check(&source(field, &[value]), &Call::get("/").plaintext(), false);
        check(&source(not_field, &[value]), &Call::get("/").plaintext(), true);
    }
}

#[test]
fn identities() {
    for (field, value, peer, expected) in [
        ("principals", "cluster.local/ns/default/sa/frontend", "cluster.local/ns/default/sa/frontend", true),
        ("principals", "cluster.local/ns/default/sa/*", "cluster.local/ns/default/sa/frontend", true),
        ("principals", "*/sa/frontend", "other/ns/default/sa/frontend", true),
        ("principals", "spiffe://cluster.local/ns/default/sa/frontend", "cluster.local/ns/default/sa/frontend", false),
        ("principals", "cluster.local/ns/default/sa/Frontend", "cluster.local/ns/default/sa/frontend", false),
        ("principals", "cluster.local/ns/default/sa/frontend", "other/ns/default/sa/frontend", false),
        ("namespaces", "default", "other/ns/default/sa/frontend", true),
        ("namespaces", "de*lt", "cluster.local/ns/default/sa/frontend", true),
        ("namespaces", "fault", "cluster.local/ns/default/sa/frontend", false),
        ("serviceAccounts", "default/frontend", "other/ns/default/sa/frontend", true),
        ("serviceAccounts", "frontend", "cluster.local/ns/other/sa/frontend", false),
        ("serviceAccounts", "fronten.", "cluster.local/ns/default/sa/frontend", false),
        ("trustDomains", "cluster.local", "cluster.local/ns/default/sa/frontend", true),
        ("trustDomains", "*.local", "cluster.local/ns/default/sa/frontend", true),
        ("trustDomains", "cluster", "cluster.local/ns/default/sa/frontend", false),
    ] {
        check(&source(field, &[value]), &Call::get("/").by(peer), expected);
    }
}

#[test]
fn only_the_mesh_form_of_an_identity_has_a_namespace() {
    for peer in ["cluster.local/ns/evil/sa/x/ns/prod/sa/y", "cluster.local/a/ns/prod/sa/y", "cluster.local/prod"] {
        check(&source("namespaces", &["prod"]), &Call::get("/").by(peer), false);
        check(&source("serviceAccounts", &["prod/y"]), &Call::get("/").by(peer), false);
    }
}

#[test]
fn a_trust_domain_has_all_its_names() {
    let aliased = Settings {
        trust_domain: "new".parse().unwrap(),
        trust_domain_aliases: vec!["old".parse().unwrap()],
        ..settings()
    };
    let decide = |field: &str, value: &str, peer: &str| {
        let verdict = decide_with(&[rule("DENY", &source(field, &[value]))], &aliased, &Call::get("/").by(peer));
        verdict.starts_with("deny")
    };
    for (value, peer, expected) in [
        ("old/ns/a/sa/b", "new/ns/a/sa/b", true),
        ("new/ns/a/sa/b", "old/ns/a/sa/b", true),
        ("cluster.local/ns/a/sa/b", "old/ns/a/sa/b", true),
        ("cluster.local/ns/a/sa/b", "cluster.local/ns/a/sa/b", false),
        ("other/ns/a/sa/b", "new/ns/a/sa/b", false),
    ] {
        assert_eq!(decide("principals", value, peer), expected, "{value} on {peer}");
        assert_eq!(decide("notPrincipals", value, peer), !expected, "not {value} on {peer}");
    }
    assert!(decide("trustDomains", "old", "new/ns/a/sa/b"));
    assert!(!decide("trustDomains", "cluster.local", "new/ns/a/sa/b"));
}

#[test]
fn addresses_and_ports() {
    let call = Call { remote_ip: [192, 0, 2, 7].into(), ..Call::get("/") };
    for (written, expected) in [
        (source("ipBlocks", &["10.0.0.9/28"]), true),
        (source("notIpBlocks", &["10.0.0.9/28"]), false),
        (source("remoteIpBlocks", &["192.0.2.0/24"]), true),
        (source("remoteIpBlocks", &["10.0.0.1"]), false),
        (when("remote.ip", &["192.0.2.7"], &[]), true),
        (when("source.ip", &["10.0.0.1"], &[]), true),
        (when("destination.ip", &["10.0.0.2"], &[]), true),
        (when("destination.port", &["80"], &[]), false),
        (operation("ports", &["80", "8080"]), true),
        (operation("notPorts", &["8080"]), false),
        (source("ipBlocks", &["::/0"]), false),
    ] {
        check(&written, &call, expected);
    }
    check(&source("ipBlocks", &["10.0.0.0/8"]), &call.clone().connecting_from("::ffff:10.0.0.1"), true);
    let fixed = Call { fixed_remote_ip: Some([198, 51, 100, 1].into()), ..call };
    check(&source("remoteIpBlocks", &["198.51.100.1"]), &fixed, true);
    check(&source("remoteIpBlocks", &["192.0.2.7"]), &fixed, false);
}

#[test]
fn hosts_are_compared_whole_and_without_regard_to_case() {
    for (value, host, expected) in [
        ("example.com", "example.com", true),
        ("Example.COM", "eXample.com", true),
        ("example.com", "example.com:80", false),
        ("example.com:*", "example.com:80", true),
        ("example.com", "example.com.", false),
        ("*.example.com", "a.EXAMPLE.com", true),
        ("*", "", true),
    ] {
        check(&operation("hosts", &[value]), &Call::get("/").host(host), expected);
    }
    check(&when("request.headers[:authority]", &["a.b"], &[]), &Call::get("/").host("A.b"), false);
    check(&when("request.headers[Host]", &["A.b"], &[]), &Call::get("/").host("A.b"), true);
}

#[test]
fn methods_paths_and_pseudo_headers() {
    for (written, call, expected) in [
        (operation("methods", &["GET"]), Call::http("get", "/"), false),
        (operation("methods", &["*"]), Call::http("X", "/"), true),
        (operation("paths", &["/a"]), Call::get("/a?b"), true),
        (operation("paths", &["/a"]), Call::get("/a/"), false),
        (operation("paths", &["/a*"]), Call::get("/ab"), true),
        (operation("paths", &["*.html"]), Call::get("/x/y.html?z"), true),
        (operation("paths", &["/A"]), Call::get("/a"), false),
        (operation("paths", &["/a/{*}/c"]), Call::get("/a/b/c"), true),
        (operation("paths", &["/a/{**}"]), Call::get("/a"), false),
        (when("request.headers[:path]", &["/a?b"], &[]), Call::get("/a?b"), true),
        (when("request.headers[:path]", &["/a"], &[]), Call::get("/a?b"), false),
        (when("request.headers[:method]", &["GET"], &[]), Call::get("/"), true),
        (when("request.headers[:scheme]", &["https"], &[]), Call::get("/"), true),
        (when("request.headers[:scheme]", &["https"], &[]), Call::get("/").plaintext(), false),
    ] {
        check(&written, &call, expected);
    }
}

#[test]
fn no_character_steps_out_of_a_refusing_template() {
    let call = Call::get("/admin/[x");
    let template = ["/admin/{**}"];
    assert!(matches("DENY", &operation("paths", &template), &call));
    assert!(!matches("ALLOW", &operation("paths", &template), &call));
    assert!(!matches("ALLOW", &operation("notPaths", &template), &call));
    assert!(matches("DENY", &operation("notPaths", &template), &call));
}

#[test]
fn header_values_are_trimmed_and_absence_is_no_value() {
    let named = |values: &[&str], not_values: &[&str]| when("request.headers[X-Role]", values, not_values);
    check(&named(&["user"], &[]), &Call::get("/").header("x-role", " user\t"), true);
    check(&named(&["User"], &[]), &Call::get("/").header("x-role", "user"), false);
    check(&named(&["*"], &[]), &Call::get("/").header("x-role", ""), true);
    check(&named(&["*"], &[]), &Call::get("/"), false);
    check(&named(&[], &["*"]), &Call::get("/"), true);
    check(&named(&["a", "b"], &[]), &Call::get("/").header("x-role", "a,b"), false);
    check(&named(&["user"], &[]), &Call::get("/").header("x_role", "user"), false);
}

#[test]
fn of_a_repeated_header_one_line_refuses_and_all_lines_let_in() {
    let call = Call::get("/").header("x-role", "user").header("x-role", "admin");
    let values = |values: &[&str]| when("request.headers[x-role]", values, &[]);
    assert!(matches("DENY", &values(&["admin"]), &call));
    assert!(!matches("ALLOW", &values(&["admin"]), &call));
    assert!(matches("ALLOW", &values(&["admin", "user"]), &call));
    // A DENY of everybody but admins is not left by adding a line that says admin.
    let not_values = |values: &[&str]| when("request.headers[x-role]", &[], values);
    assert!(matches("DENY", &not_values(&["admin"]), &call));
    assert!(!matches("ALLOW", &not_values(&["admin"]), &call));
    assert!(!matches("DENY", &not_values(&["admin", "user"]), &call));
}

#[test]
fn server_names_are_lowered_and_patterns_are_not() {
    let call = Call { sni: Some("API.example".into()), ..Call::get("/") };
    check(&when("connection.sni", &["api.*"], &[]), &call, true);
    check(&when("connection.sni", &["API.example"], &[]), &call, false);
    check(&when("connection.sni", &["*"], &[]), &call.plaintext(), false);
}

#[test]
fn without_a_token_and_metadata_nothing_matches() {
    for key in [
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.claims[a][b]",
        "experimental.envoy.filters.a.b[c]",
    ] {
        check(&when(key, &["*"], &[]), &Call::get("/"), false);
        check(&when(key, &[], &["*"]), &Call::get("/"), true);
    }
    check(&source("requestPrincipals", &["*"]), &Call::get("/"), false);
    check(&source("notRequestPrincipals", &["*"]), &Call::get("/"), true);
}

#[test]
fn on_tcp_an_allow_rule_with_an_http_field_is_void_and_a_deny_rule_loses_the_field() {
    let mixed = json!({"to": [{"operation": {"ports": ["8080"]}}, {"operation": {"methods": ["GET"]}}]});
    for (written, allow, deny) in [
        (operation("methods", &["GET"]), false, true),
        (operation("notPaths", &["/a"]), false, true),
        (source("requestPrincipals", &["*"]), false, true),
        (when("request.headers[x]", &["a"], &[]), false, true),
        (when("request.auth.claims[x]", &["a"], &[]), false, true),
        (json!({"to": [{"operation": {"methods": ["GET"], "ports": ["80"]}}]}), false, false),
        (json!({"to": [{"operation": {"methods": ["GET"], "ports": ["8080"]}}]}), false, true),
        (mixed, false, true),
        (operation("ports", &["8080"]), true, true),
        (source("remoteIpBlocks", &["10.0.0.1"]), true, true),
        (when("experimental.envoy.filters.a[b]", &["x"], &[]), false, false),
        (when("connection.sni", &["outbound_*"], &[]), true, true),
    ] {
        assert_eq!(matches("ALLOW", &written, &Call::tcp()), allow, "ALLOW {written}");
        assert_eq!(matches("DENY", &written, &Call::tcp()), deny, "DENY {written}");
    }
}

#[test]
fn a_dry_run_never_decides_nor_makes_default_deny() {
    for (spec, verdict) in [
        (json!({"action": "DENY", "rules": [{}]}), Verdict::Deny),
        (json!({"action": "ALLOW"}), Verdict::Deny),
        (json!({"action": "ALLOW", "rules": [{}]}), Verdict::Allow),
    ] {
        let set = PolicySet::compile(&[dry_run("p", spec.clone())], &workload(), &settings());
        Call::get("/").decide_in(&set, |decision| {
            assert_eq!(decision.verdict, Verdict::Allow);
            let would_be = decision.dry_run_allow.or(decision.dry_run_deny).unwrap().0;
            assert_eq!(would_be, verdict, "{spec}");
            assert!(decision.dry_run_allow.is_none() || decision.dry_run_deny.is_none());
        });
    }
}

#[test]
fn an_unreadable_policy_refuses_what_it_selects() {
    let labels = |app: &str| Some([("app".to_owned(), app.to_owned())].into());
    let allow = policy("allow", json!({"rules": [{}]}));
    for (object, selector, refused) in [
        ("default/broken", None, true),
        ("istio-system/broken", None, true),
        ("other/broken", None, false),
        ("default/broken", labels("backend"), true),
        ("default/broken", labels("frontend"), false),
    ] {
        let broken = std::sync::Arc::new(Policy::unreadable(name(object), selector, "line 3: no"));
        let baseline = Settings { catch_all_deny: CatchAllDeny::Baseline, ..settings() };
        let verdict = decide_with(&[broken, std::sync::Arc::clone(&allow)], &baseline, &Call::get("/"));
        let expected = format!("deny unreadable {object} rule 0");
        assert_eq!(verdict, if refused { &expected } else { "allow allow_rule default/allow rule 0" });
    }
}

#[test]
fn as_a_baseline_only_the_unconditional_deny_yields() {
    let baseline = Settings { catch_all_deny: CatchAllDeny::Baseline, ..settings() };
    let deny = policy("deny", json!({"action": "DENY", "rules": [{}, operation("paths", &["/x"])]}));
    let allow = policy("allow", json!({"rules": [{}]}));
    let decide = |policies: &[_], call: &Call| decide_with(policies, &baseline, call);
    assert_eq!(decide(&[deny.clone(), allow.clone()], &Call::get("/")), "allow allow_rule default/allow rule 0");
    assert_eq!(decide(&[deny.clone(), allow.clone()], &Call::get("/x")), "deny deny_rule default/deny rule 1");
    assert_eq!(decide(std::slice::from_ref(&deny), &Call::get("/")), "deny catch_all_deny default/deny rule 0");
    // Widened by TCP is not the same as written without conditions.
    assert_eq!(decide(&[deny, allow], &Call::tcp()), "deny deny_rule default/deny rule 1");
}

#[test]
fn fixed_is_known_when_no_request_matters() {
    let facts_only = rule("ALLOW", &source("namespaces", &["default"]));
    let set = PolicySet::compile(&[facts_only], &workload(), &settings());
    let call = Call::get("/");
    assert_eq!(set.reduce(&call.facts()).fixed().unwrap().verdict, Verdict::Allow);
    assert_eq!(set.reduce(&call.plaintext().facts()).fixed().unwrap().verdict, Verdict::Deny);
    let by_method = rule(
        "ALLOW",
        &json!({"from": [{"source": {"namespaces": ["default"]}}], "to": [{"operation": {"methods": ["GET"]}}]}),
    );
    let set = PolicySet::compile(&[by_method], &workload(), &settings());
    assert_eq!(set.reduce(&Call::get("/").facts()).fixed(), None);
    assert_eq!(set.reduce(&Call::get("/").plaintext().facts()).fixed().unwrap().verdict, Verdict::Deny);
}

#[test]
fn without_a_request_doubt_refuses() {
    let set = |action| PolicySet::compile(&[rule(action, &operation("methods", &["GET"]))], &workload(), &settings());
    for action in ["ALLOW", "DENY"] {
        assert_eq!(set(action).reduce(&Call::get("/").facts()).decide_connection().verdict, Verdict::Deny, "{action}");
    }
}

#[test]
fn a_header_that_was_not_kept_is_taken_the_way_that_refuses() {
    let about = |name: &str, path: &str| {
        let key = format!("request.headers[{name}]");
        let to = json!([{"operation": {"paths": [path]}}]);
        json!({"to": to, "when": [{"key": key, "values": ["1"]}]})
    };
    let deny = rule("DENY", &about("a", "/deny"));
    let allow = policy("allow", json!({"rules": [about("b", "/allow"), operation("paths", &["/free", "/deny"])]}));
    let set = PolicySet::compile(&[deny, allow], &workload(), &settings());
    let again = |path: &str, kept: &[&'static str]| {
        let call = Call::get(path).header("b", "1");
        let kept: Vec<_> = kept.iter().map(|name| http::HeaderName::from_static(name)).collect();
        set.reduce(&call.facts()).decide_again(&call.request(), &kept).verdict
    };
    for (path, kept, expected) in [
        ("/free", &[][..], Verdict::Allow),
        ("/deny", &[], Verdict::Deny),
        ("/deny", &["b"], Verdict::Deny),
        ("/deny", &["a"], Verdict::Allow),
        ("/allow", &["a"], Verdict::Deny),
        ("/allow", &["b"], Verdict::Allow),
        ("/allow", &["a", "b"], Verdict::Allow),
    ] {
        assert_eq!(again(path, kept), expected, "{path} {kept:?}");
    }
    let mut names: Vec<_> =
        set.reduce(&Call::get("/").facts()).headers().iter().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);
}
