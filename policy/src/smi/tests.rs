//! One test for each corner of what TrafficTargets mean.

#![expect(clippy::needless_pass_by_value, reason = "a document reads better in place than behind a reference")]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::lint::Lint;
use crate::model::{Invalid, ObjectName, Policy, Settings, SmiMode, Workload};
use crate::set::PolicySet;
use crate::tests::{Call, name, policy, settings, workload};

fn in_force() -> Settings {
    Settings { smi: SmiMode::TrafficPolicy, ..settings() }
}

pub(crate) fn group(matches: Value) -> Arc<HttpRouteGroup> {
    Arc::new(try_group(matches).unwrap())
}

fn try_group(matches: Value) -> Result<HttpRouteGroup, Vec<Invalid>> {
    http_route_group(serde_json::from_value(json!({"matches": matches})).unwrap())
}

fn route(spec: Value) -> Arc<TcpRoute> {
    Arc::new(tcp_route(serde_json::from_value(spec).unwrap()).unwrap())
}

/// `routes` has the matches `metrics` and `all`; `ports` is the container's port, `other` another, `any` all of them.
fn routes() -> Routes {
    let mut routes = Routes::default();
    let group_of = group(json!([
        {"name": "metrics", "pathRegex": "/metrics", "methods": ["GET"]},
        {"name": "all", "pathRegex": "/all", "methods": ["*"]},
    ]));
    routes.http.insert(name("routes"), group_of);
    routes.http.insert(name("other/elsewhere"), group(json!([{"name": "all"}])));
    for (route_name, spec) in [
        ("ports", json!({"matches": {"ports": [8080]}})),
        ("other", json!({"matches": {"ports": [9090]}})),
        ("any", json!({})),
    ] {
        routes.tcp.insert(name(route_name), route(spec));
    }
    routes
}

fn spec(rules: &Value) -> Value {
    json!({
        "destination": {"kind": "ServiceAccount", "name": "backend", "namespace": "default"},
        "sources": [{"kind": "ServiceAccount", "name": "frontend", "namespace": "default"}],
        "rules": rules,
    })
}

fn try_target(object: &str, spec: Value) -> Result<TrafficTarget, Vec<Invalid>> {
    traffic_target(name(object), serde_json::from_value(spec).unwrap())
}

fn target(object: &str, spec: Value) -> TrafficTarget {
    try_target(object, spec).unwrap()
}

fn composed_with(target: &TrafficTarget, routes: &Routes, part: PathMatch) -> (Vec<Arc<Policy>>, Vec<Lint>) {
    let Composed { policy, findings } = compose(target, routes, part);
    (policy.into_iter().map(Arc::new).collect(), findings)
}

fn composed(target: &TrafficTarget) -> Vec<Arc<Policy>> {
    composed_with(target, &routes(), PathMatch::Prefix).0
}

fn allows(policies: &[Arc<Policy>], call: &Call) -> bool {
    says(policies, &in_force(), call).starts_with("allow")
}

fn says(policies: &[Arc<Policy>], settings: &Settings, call: &Call) -> String {
    let set = PolicySet::compile(policies, &workload(), settings);
    call.decide_in(&set, |decision| {
        let rule = decision.rule.map(|rule| format!(" {rule}")).unwrap_or_default();
        let target = decision.target.map(|rule| format!(" by {rule}")).unwrap_or_default();
        format!("{} {}{rule}{target}", decision.verdict, decision.reason)
    })
}

/// Whether a target with these rules lets a call in.
fn rules_allow(rules: &Value, call: &Call) -> bool {
    allows(&composed(&target("t", spec(rules))), call)
}

fn http(matches: &[&str]) -> Value {
    json!({"kind": "HTTPRouteGroup", "name": "routes", "matches": matches})
}

/// Whether one match of a group lets a call in.
fn match_allows(one: Value, part: PathMatch, call: &Call) -> bool {
    let mut routes = Routes::default();
    routes.http.insert(name("routes"), group(json!([one])));
    let target = target("t", spec(&json!([{"kind": "HTTPRouteGroup", "name": "routes"}])));
    allows(&composed_with(&target, &routes, part).0, call)
}

#[test]
fn without_a_target_the_mode_decides() {
    assert_eq!(says(&[], &settings(), &Call::get("/")), "allow no_policy");
    assert_eq!(says(&[], &in_force(), &Call::get("/")), "deny no_target_matched");
    assert_eq!(says(&[], &in_force(), &Call::tcp()), "deny no_target_matched");
    let target = composed(&target("t", spec(&json!([http(&["metrics"])]))));
    assert_eq!(says(&target, &settings(), &Call::get("/")), "allow no_policy");
    assert_eq!(says(&target, &in_force(), &Call::get("/metrics")), "allow target_rule default/t rule 0");
}

#[test]
fn a_path_regex_is_anchored_as_the_mesh_is_told() {
    for (pattern, path, prefix, full, search) in [
        ("/metrics", "/metrics", true, true, true),
        ("/metrics", "/metrics-x", true, false, true),
        ("/metrics$", "/metrics-x", false, false, false),
        ("/metrics", "/admin/metrics", false, false, true),
        ("/", "/anything", true, false, true),
        ("", "/anything", true, true, true),
    ] {
        for (part, expected) in [(PathMatch::Prefix, prefix), (PathMatch::Full, full), (PathMatch::Search, search)] {
            let found = match_allows(json!({"name": "a", "pathRegex": pattern}), part, &Call::get(path));
            assert_eq!(found, expected, "{pattern} {part:?} {path}");
        }
    }
}

#[test]
fn the_query_is_no_part_of_the_path() {
    for part in [PathMatch::Prefix, PathMatch::Full, PathMatch::Search] {
        let metrics = json!({"name": "a", "pathRegex": "/metrics"});
        assert!(!match_allows(metrics.clone(), part, &Call::get("/other?x=/metrics")), "{part:?}");
        assert!(match_allows(metrics, part, &Call::get("/metrics?x=1")), "{part:?}");
    }
}

#[test]
fn a_group_with_a_pattern_that_is_not_linear_is_refused_as_a_whole() {
    for pattern in ["(?=a)", r"(a)\1", "(a{1000}){1000}"] {
        let invalid = try_group(json!([{"name": "good"}, {"name": "bad", "pathRegex": pattern}])).unwrap_err();
        assert_eq!(invalid[0].path, "spec.matches[1].pathRegex");
        let invalid = try_group(json!([{"name": "bad", "headers": {"x": pattern}}])).unwrap_err();
        assert_eq!(invalid[0].path, "spec.matches[0].headers[x]");
    }
}

#[test]
fn a_rule_without_matches_means_all_of_the_group() {
    for matches in [json!({"kind": "HTTPRouteGroup", "name": "routes"}), http(&["metrics", "all"])] {
        let rules = json!([matches]);
        assert!(rules_allow(&rules, &Call::get("/metrics")) && rules_allow(&rules, &Call::get("/all")));
    }
    assert!(!rules_allow(&json!([http(&["metrics"])]), &Call::get("/all")));
    let empty = try_target("t", spec(&json!([http(&[])]))).unwrap_err();
    assert_eq!(empty[0].path, "spec.rules[0].matches");
}

#[test]
fn what_is_missing_is_told_and_never_widens() {
    let missing = json!({"kind": "HTTPRouteGroup", "name": "missing"});
    let elsewhere = json!({"kind": "HTTPRouteGroup", "name": "elsewhere"});
    let no_ports = json!({"kind": "TCPRoute", "name": "missing"});
    for (rules, metrics, all, tcp, findings) in [
        (json!([http(&["missing"])]), false, false, false, 1),
        (json!([http(&["missing", "metrics"])]), true, false, false, 1),
        (json!([missing]), false, false, false, 1),
        (json!([elsewhere]), false, false, false, 1),
        (json!([missing, http(&["all"])]), false, true, false, 1),
        (json!([no_ports]), false, false, false, 1),
        (json!([no_ports, http(&["metrics"])]), false, false, false, 1),
        (json!([no_ports, {"kind": "TCPRoute", "name": "ports"}, http(&["metrics"])]), true, false, false, 1),
        (json!([no_ports, {"kind": "TCPRoute", "name": "any"}]), false, false, true, 1),
    ] {
        let target = target("t", spec(&rules));
        let (policies, found) = composed_with(&target, &routes(), PathMatch::Prefix);
        let calls = [Call::get("/metrics"), Call::get("/all"), Call::tcp()];
        assert_eq!(calls.each_ref().map(|call| allows(&policies, call)), [metrics, all, tcp], "{rules}");
        assert_eq!(found.iter().filter(|lint| lint.code == crate::lint::MISSING_ROUTE).count(), findings, "{rules}");
        assert!(!allows(&policies, &Call::get("/")), "{rules}");
    }
}

#[test]
fn a_tcp_route_restricts_the_ports_of_http_routes_and_lets_no_bytes_in_beside_them() {
    let tcp = |name: &str| json!({"kind": "TCPRoute", "name": name});
    for (rules, http_in, tcp_in) in [
        (json!([tcp("ports"), http(&["metrics"])]), true, false),
        (json!([http(&["metrics"]), tcp("other")]), false, false),
        (json!([http(&["metrics"]), tcp("other"), tcp("ports")]), true, false),
        (json!([http(&["metrics"]), tcp("any")]), true, false),
    ] {
        assert_eq!(rules_allow(&rules, &Call::get("/metrics")), http_in, "{rules}");
        assert_eq!(rules_allow(&rules, &Call::tcp()), tcp_in, "{rules}");
    }
}

#[test]
fn a_tcp_route_alone_lets_bytes_in_and_no_requests() {
    for (route, tcp_in) in [("ports", true), ("other", false), ("any", true)] {
        let rules = json!([{"kind": "TCPRoute", "name": route}]);
        assert_eq!(rules_allow(&rules, &Call::tcp()), tcp_in, "{route}");
        assert!(!rules_allow(&rules, &Call::get("/metrics")), "{route}");
    }
}

#[test]
fn http_routes_let_no_bytes_in() {
    assert!(!match_allows(json!({"name": "everything"}), PathMatch::Prefix, &Call::tcp()));
    assert!(!rules_allow(&json!([http(&["all"])]), &Call::tcp()));
}

#[test]
fn a_port_is_the_containers_or_the_services() {
    let rules = json!([{"kind": "TCPRoute", "name": "other"}]);
    assert!(!rules_allow(&rules, &Call::tcp().through(80)));
    assert!(rules_allow(&rules, &Call::tcp().through(9090)));
    let mut with_port = spec(&json!([http(&["metrics"])]));
    for (port, expected) in [(8080, true), (80, true), (9090, false)] {
        with_port["destination"]["port"] = json!(port);
        let found = allows(&composed(&target("t", with_port.clone())), &Call::get("/metrics").through(80));
        assert_eq!(found, expected, "{port}");
    }
}

#[test]
fn targets_add_up_each_for_its_own_sources() {
    let mut of_other = spec(&json!([http(&["all"])]));
    of_other["sources"][0]["name"] = json!("other");
    let policies =
        [composed(&target("a", spec(&json!([http(&["metrics"])])))), composed(&target("b", of_other))].concat();
    let other = |call: Call| call.by("cluster.local/ns/default/sa/other");
    for (call, expected) in [
        (Call::get("/metrics"), true),
        (Call::get("/all"), false),
        (other(Call::get("/metrics")), false),
        (other(Call::get("/all")), true),
    ] {
        assert_eq!(allows(&policies, &call), expected, "{call:?}");
    }
    assert_eq!(says(&policies, &in_force(), &other(Call::get("/all"))), "allow target_rule default/b rule 0");
}

#[test]
fn a_source_is_an_identity_of_the_own_trust_domain_or_an_alias() {
    let policies = composed(&target("t", spec(&json!([http(&["metrics"])]))));
    let mut aliased = in_force();
    aliased.trust_domain = "new-td".parse().unwrap();
    aliased.trust_domain_aliases = vec!["old-td".parse().unwrap()];
    let by = |peer: &str| Call::get("/metrics").by(peer);
    for (peer, plain, with_alias) in [
        ("cluster.local/ns/default/sa/frontend", true, false),
        ("new-td/ns/default/sa/frontend", false, true),
        ("old-td/ns/default/sa/frontend", false, true),
        ("cluster.local/ns/other/sa/frontend", false, false),
        ("cluster.local/ns/default/sa/frontends", false, false),
        ("cluster.local/sa/frontend", false, false),
    ] {
        assert_eq!(says(&policies, &in_force(), &by(peer)).starts_with("allow"), plain, "{peer}");
        assert_eq!(says(&policies, &aliased, &by(peer)).starts_with("allow"), with_alias, "{peer}");
    }
    assert!(!allows(&policies, &Call::get("/metrics").plaintext()));
}

#[test]
fn a_cluster_of_another_trust_domain_is_meant_only_by_sameness() {
    let policies = composed(&target("t", spec(&json!([http(&["metrics"])]))));
    let same = Settings { trust_domain_aliases: vec!["west.example".parse().unwrap()], ..in_force() };
    let by = |peer: &str| Call::get("/metrics").by(peer);
    for (peer, without, with) in [
        ("cluster.local/ns/default/sa/frontend", true, true),
        ("west.example/ns/default/sa/frontend", false, true),
        ("west.example/ns/other/sa/frontend", false, false),
        ("west.example/ns/default/sa/backend", false, false),
        ("east.example/ns/default/sa/frontend", false, false),
        ("west.example.evil/ns/default/sa/frontend", false, false),
    ] {
        for (settings, expected) in [(&in_force(), without), (&same, with)] {
            assert_eq!(says(&policies, settings, &by(peer)).starts_with("allow"), expected, "{peer} {settings:?}");
        }
    }
    // An AuthorizationPolicy that names our own domain means the same ones, and one that names the other domain alone too.
    for named in ["cluster.local", "west.example"] {
        let principal = format!("{named}/ns/default/sa/frontend");
        let rules = json!([{"from": [{"source": {"principals": [principal]}}]}]);
        let istio = vec![policy("p", json!({"action": "ALLOW", "rules": rules}))];
        for (peer, with) in [("cluster.local", true), ("west.example", true), ("east.example", false)] {
            let call = by(&format!("{peer}/ns/default/sa/frontend"));
            let permissive = |settings: &Settings| Settings { smi: SmiMode::Permissive, ..settings.clone() };
            assert_eq!(says(&istio, &permissive(&same), &call).starts_with("allow"), with, "{named} {peer}");
            assert_eq!(
                says(&istio, &permissive(&in_force()), &call).starts_with("allow"),
                named == peer,
                "{named} {peer}"
            );
        }
    }
}

#[test]
fn a_method_is_exact_and_a_star_is_every_one_but_connect() {
    for (methods, method, expected) in [
        (json!(["GET"]), "GET", true),
        (json!(["GET"]), "HEAD", false),
        (json!(["GET"]), "get", false),
        (json!(["get"]), "GET", false),
        (json!(["*"]), "TRACE", true),
        (json!(["*"]), "PURGE", true),
        (json!(["*"]), "CONNECT", false),
        (json!(["*", "CONNECT"]), "CONNECT", true),
        (json!(["CONNECT"]), "GET", false),
        (Value::Null, "PATCH", true),
        (Value::Null, "CONNECT", false),
    ] {
        let found = match_allows(json!({"name": "a", "methods": methods}), PathMatch::Prefix, &Call::http(method, "/"));
        assert_eq!(found, expected, "{methods} {method}");
    }
    assert_eq!(try_group(json!([{"methods": []}])).unwrap_err()[0].path, "spec.matches[0].methods");
    assert_eq!(try_group(json!([{"methods": ["A B"]}])).unwrap_err()[0].path, "spec.matches[0].methods[0]");
}

#[test]
fn a_header_matches_in_full_whatever_the_case_of_its_name() {
    let call = |lines: &[&'static str]| lines.iter().fold(Call::get("/"), |call, line| call.header("x-debug", line));
    for (pattern, lines, expected) in [
        ("1", &["1"] as &[_], true),
        ("1", &["12"], false),
        (".*2", &["12"], true),
        (".*", &[], false),
        (".*", &[""], true),
        ("", &[], false),
        ("1", &[" 1 "], true),
        ("1", &["1", "1"], false),
        ("1,2", &["1", "2"], true),
        ("1,2,3", &["1", "2", "3"], true),
        ("(1,?)+", &["1", "1"], true),
    ] {
        for headers in [json!({"X-Debug": pattern}), json!([{"x-debug": pattern}])] {
            let found = match_allows(json!({"name": "a", "headers": headers}), PathMatch::Prefix, &call(lines));
            assert_eq!(found, expected, "{headers} {lines:?}");
        }
    }
    let invalid = try_group(json!([{"headers": {"a b": "1"}}])).unwrap_err();
    assert_eq!(invalid[0].to_string(), "spec.matches[0].headers[a b]: \"a b\" is not a header's name");
}

#[test]
fn all_headers_of_a_match_and_one_of_the_matches_must_fit() {
    let both = json!({"name": "a", "headers": {"x-a": "1", "x-b": "2"}});
    assert!(match_allows(both.clone(), PathMatch::Prefix, &Call::get("/").header("x-a", "1").header("x-b", "2")));
    assert!(!match_allows(both, PathMatch::Prefix, &Call::get("/").header("x-a", "1")));
}

#[test]
fn a_target_of_another_namespace_is_ignored() {
    let rules = json!([{"kind": "HTTPRouteGroup", "name": "elsewhere"}]);
    for namespace in ["other", "istio-system"] {
        let (policies, found) =
            composed_with(&target(&format!("{namespace}/t"), spec(&rules)), &routes(), PathMatch::Prefix);
        assert!(policies.is_empty());
        assert_eq!(found[0].code, crate::lint::FOREIGN_NAMESPACE);
        // Nor is an account of the same name in another namespace meant.
        let mut own = spec(&rules);
        own["destination"]["namespace"] = json!(namespace);
        let policies = composed(&target(&format!("{namespace}/t"), own));
        assert!(!allows(&policies, &Call::get("/")), "{namespace}");
    }
}

#[test]
fn a_namespace_left_out_is_the_targets_own() {
    let mut short = spec(&json!([http(&["metrics"])]));
    short["destination"].as_object_mut().unwrap().remove("namespace");
    short["sources"][0].as_object_mut().unwrap().remove("namespace");
    assert!(allows(&composed(&target("t", short)), &Call::get("/metrics")));
}

#[test]
fn a_udp_route_lets_nothing_in_and_takes_nothing_away() {
    let udp = json!({"kind": "UDPRoute", "name": "dns"});
    assert!(!rules_allow(&json!([udp]), &Call::tcp()) && !rules_allow(&json!([udp]), &Call::get("/")));
    assert!(rules_allow(&json!([udp, http(&["metrics"])]), &Call::get("/metrics")));
    let (policies, found) =
        composed_with(&target("t", spec(&json!([udp, http(&["metrics"])]))), &routes(), PathMatch::Prefix);
    assert_eq!(found[0].message, "rules[0]: UDP does not pass through the proxy: it lets nothing in");
    assert_eq!(says(&policies, &in_force(), &Call::get("/metrics")), "allow target_rule default/t rule 1");
}

#[test]
fn misspelt_fields_kinds_and_empty_lists_are_errors() {
    let read = |spec: Value| serde_json::from_value::<TrafficTargetSpec>(spec).map_err(|error| error.to_string());
    let mut unknown = spec(&json!([]));
    unknown["sorces"] = json!([]);
    assert!(read(unknown).unwrap_err().contains("sorces"));
    assert!(read(spec(&json!([{"kind": "TCPRoutes", "name": "a"}]))).unwrap_err().contains("TCPRoutes"));
    let mut user = spec(&json!([]));
    user["sources"][0]["kind"] = json!("User");
    assert!(read(user).unwrap_err().contains("User"));
    let empty = json!({"destination": {"kind": "ServiceAccount", "name": ""}});
    let paths: Vec<_> = try_target("t", empty).unwrap_err().into_iter().map(|invalid| invalid.path).collect();
    assert_eq!(paths, ["spec.sources", "spec.rules", "spec.destination.name"]);
    let twice = try_group(json!([{"name": "a"}, {"name": "a"}])).unwrap_err();
    assert_eq!(twice[0].path, "spec.matches[1].name");
    let ports = |ports: Value| tcp_route(serde_json::from_value(json!({"matches": {"ports": ports}})).unwrap());
    assert_eq!(ports(json!([])).unwrap_err()[0].path, "spec.matches.ports");
    assert_eq!(ports(json!([80, 0])).unwrap_err()[0].path, "spec.matches.ports[1]");
    assert!(serde_json::from_value::<TcpRouteSpec>(json!({"matches": {"ports": [70000]}})).is_err());
}

#[test]
fn a_request_must_pass_both_families() {
    let metrics = composed(&target("t", spec(&json!([http(&["metrics"])])))).remove(0);
    let deny = policy("deny", json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/metrics/x"]}}]}]}));
    let allow = policy("allow", json!({"rules": [{"to": [{"operation": {"paths": ["/metrics", "/all"]}}]}]}));
    let all = [metrics, deny, allow];
    for (path, expected) in [
        ("/metrics", "allow allow_rule default/allow rule 0 by default/t rule 0"),
        ("/metrics/x", "deny deny_rule default/deny rule 0"),
        ("/metrics/y", "deny no_allow_matched"),
        ("/all", "deny no_target_matched"),
    ] {
        assert_eq!(says(&all, &in_force(), &Call::get(path)), expected, "{path}");
    }
}

#[test]
fn reach_is_whom_a_caller_may_ask_for_anything() {
    let own = |account: &str| Workload { service_account: account.into(), ..workload() };
    let reach = |rules: Value, account: &str| {
        Reach::of(&own(account), &composed(&target("t", spec(&rules))), SmiMode::TrafficPolicy)
    };
    let metrics = json!([http(&["metrics"])]);
    assert!(reach(metrics.clone(), "frontend").includes("default", "backend", "here"));
    assert!(!reach(metrics.clone(), "frontend").includes("other", "backend", "here"));
    assert!(!reach(metrics.clone(), "frontend").includes("default", "frontend", "here"));
    assert!(!reach(metrics.clone(), "other").includes("default", "backend", "here"));
    assert!(!reach(json!([http(&["missing"])]), "frontend").includes("default", "backend", "here"));
    assert!(
        !reach(json!([{"kind": "TCPRoute", "name": "missing"}, http(&["all"])]), "frontend")
            .includes("default", "backend", "here")
    );
    assert!(!Reach::of(&own("frontend"), &[], SmiMode::TrafficPolicy).includes("default", "backend", "here"));
    assert!(Reach::of(&own("frontend"), &[], SmiMode::Permissive).includes("default", "backend", "here"));
}

#[test]
fn a_target_may_be_about_some_clusters_only() {
    let rules = json!([http(&["metrics"])]);
    let only = |clusters: &[&str]| target("t", spec(&rules)).only_in(clusters.iter().map(|one| (*one).into()));
    let reach = |all: &[TrafficTarget]| {
        let policies: Vec<_> = all.iter().flat_map(composed).collect();
        Reach::of(&Workload { service_account: "frontend".into(), ..workload() }, &policies, SmiMode::TrafficPolicy)
    };
    let one = reach(&[only(&["one", "two"])]);
    for (cluster, expected) in [("one", true), ("two", true), ("three", false)] {
        assert_eq!(one.includes("default", "backend", cluster), expected, "{cluster}");
        assert_eq!(one.includes_any("default", cluster), expected, "{cluster}");
        assert!(!one.includes_any("other", cluster), "{cluster}");
    }
    let added = reach(&[only(&["one"]), only(&["three"])]);
    assert!(added.includes("default", "backend", "three") && !added.includes("default", "backend", "two"));
    assert!(reach(&[only(&["one"]), only(&[])]).includes("default", "backend", "two"));
    let policy = composed(&only(&["one"])).remove(0);
    assert!(policy.applies_in("one") && !policy.applies_in("two"));
}

#[test]
fn explain_tells_what_is_missing() {
    let policies = composed(&target("t", spec(&json!([http(&["missing"]), http(&["metrics"])]))));
    let set = PolicySet::compile(&policies, &workload(), &in_force());
    let text = Call::get("/other").explain_in(&set).to_string();
    assert_eq!(
        text,
        "deny: no_target_matched\n\
         nearest: default/t rule 1: matches[metrics].pathRegex\n\
         TrafficTarget default/t\n  \
         rule 0: not matched\n    \
         rule: HTTPRouteGroup default/routes has none of the matches\n  \
         rule 1: not matched\n    \
         matches[metrics].pathRegex: /other not in [/metrics]\n"
    );
}

fn accounts(names: &[&str]) -> std::collections::BTreeSet<ObjectName> {
    names.iter().map(|text| name(text)).collect()
}

fn codes(targets: &[&TrafficTarget], known: &[&str], mode: SmiMode) -> Vec<String> {
    let (routes, accounts) = (routes(), accounts(known));
    let around = lint::Surroundings { routes: &routes, accounts: &accounts, mode, path_match: PathMatch::Prefix };
    lint::targets(targets, &around).iter().map(|lint| format!("{} {}", lint.code, lint.policy.name)).collect()
}

#[test]
fn lints_of_targets() {
    let narrow = target("narrow", spec(&json!([http(&["metrics"])])));
    let wide = target("wide", spec(&json!([{"kind": "HTTPRouteGroup", "name": "routes"}])));
    let same = target("same", spec(&json!([http(&["metrics"])])));
    let ports = target("ports", spec(&json!([http(&["metrics"]), {"kind": "TCPRoute", "name": "ports"}])));
    let mut of_other = spec(&json!([http(&["metrics"])]));
    of_other["sources"][0]["name"] = json!("other");
    let other = target("other", of_other);
    let quiet = |targets: &[&TrafficTarget]| codes(targets, &["backend"], SmiMode::TrafficPolicy);
    assert_eq!(quiet(&[&narrow]), [""; 0]);
    assert_eq!(quiet(&[&narrow, &wide]), ["MG021 narrow"]);
    assert_eq!(quiet(&[&same, &narrow]), ["MG021 same"]);
    assert_eq!(quiet(&[&narrow, &ports, &other]), [""; 0]);
    assert_eq!(codes(&[&narrow], &["frontend"], SmiMode::TrafficPolicy), ["MG023 narrow"]);
    assert_eq!(codes(&[&narrow], &[], SmiMode::TrafficPolicy), [""; 0]);
    assert_eq!(codes(&[&narrow], &["backend"], SmiMode::Permissive), ["MG024 narrow"]);
}

#[test]
fn lints_of_paths_that_admit_more_than_they_seem_to() {
    let accounts = accounts(&[]);
    for (pattern, prefix, full, search) in [
        ("/metrics", 1, 0, 1),
        ("/metrics$", 0, 0, 1),
        ("^/metrics$", 0, 0, 0),
        ("/metrics(/.*)?$", 0, 0, 1),
        ("/", 0, 0, 1),
        ("/api/", 0, 0, 1),
        (".*", 0, 0, 1),
        ("/v1.0/.*", 1, 1, 2),
        (r"/v1\.0/.*", 0, 0, 1),
        ("/v[1.0]/.*", 0, 0, 1),
        ("/a.json", 2, 1, 2),
    ] {
        for (path_match, expected) in
            [(PathMatch::Prefix, prefix), (PathMatch::Full, full), (PathMatch::Search, search)]
        {
            let mut routes = Routes::default();
            routes.http.insert(name("routes"), group(json!([{"name": "a", "pathRegex": pattern}])));
            let mode = SmiMode::TrafficPolicy;
            let found = lint::groups(&lint::Surroundings { routes: &routes, accounts: &accounts, mode, path_match });
            assert_eq!(found.len(), expected, "{pattern} {path_match:?}: {found:?}");
            assert!(found.iter().all(|lint| lint.code == crate::lint::WIDE_PATH && lint.policy == name("routes")));
        }
    }
}
