//! Each lint: that it speaks, and that it is silent on the nearest thing that is meant.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::CatchAllDeny;
use crate::istio::peer_authentication;
use crate::tests::{dry_run, name, policy, rule, settings, workload};

fn codes(lints: &[Lint]) -> Vec<(&str, &str)> {
    lints.iter().map(|lint| (lint.policy.name.as_str(), lint.code)).collect()
}

fn selecting(action: &str, app: Option<&str>) -> serde_json::Value {
    let selector = app.map(|app| json!({"matchLabels": {"app": app}}));
    json!({"selector": selector, "action": action, "rules": [{}]})
}

#[test]
fn an_allow_behind_a_catch_all_deny_is_dead() {
    let workloads = [KnownWorkload::from(("backend-1".to_owned(), workload()))];
    let dead = |deny: Arc<Policy>, allow: Arc<Policy>, workloads: &[KnownWorkload], settings: &Settings| {
        !dead_allows(&[deny, allow], workloads, settings).is_empty()
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
    let lint = dead_allows(&policies, &[], &settings()).remove(0).to_string();
    for part in ["MG001 default/allow: ", "default/deny-all", "`spec: {}`", "`catchAllDeny: baseline`"] {
        assert!(lint.contains(part), "{lint}");
    }
}

#[test]
fn doubtful_policies_are_pointed_out() {
    let policies = [
        rule("ALLOW", &json!({"from": [{"source": {"principals": ["spiffe://cluster.local/ns/a/sa/b"]}}]})),
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
        codes(&all(&policies, &[], &Known::default(), &settings())),
        [("empty", "MG006"), ("p", "MG002"), ("sni", "MG007"), ("tcp", "MG003")]
    );
}

#[test]
fn peer_authentications_without_effect_are_pointed_out() {
    let peer = |object: &str, selector: serde_json::Value| -> Arc<PeerAuthentication> {
        let spec = serde_json::from_value(json!({"selector": selector, "mtls": {"mode": "STRICT"}})).unwrap();
        Arc::new(peer_authentication(name(object), spec, "istio-system").unwrap())
    };
    let objects = [
        peer("istio-system/a", json!({"matchLabels": {"app": "x"}})),
        peer("istio-system/c", json!({})),
        peer("istio-system/b", json!(null)),
        peer("default/e", json!(null)),
        peer("default/f", json!({"matchLabels": {"app": "x"}})),
        peer("default/g", json!({"matchLabels": {"app": "x"}})),
        peer("other/h", json!({"matchLabels": {"app": "x"}})),
    ];
    assert_eq!(
        codes(&all(&[], &objects, &Known::default(), &settings())),
        [("g", "MG005"), ("a", "MG004"), ("c", "MG005"), ("c", "MG017")]
    );
}

/// The codes of what is said of one ALLOW or DENY rule.
fn said(action: &str, written: &serde_json::Value, known: &Known) -> Vec<&'static str> {
    all(&[rule(action, written)], &[], known, &settings()).iter().map(|lint| lint.code).collect()
}

fn from(source: &serde_json::Value) -> serde_json::Value {
    json!({"from": [{"source": source}]})
}

fn to(operation: &serde_json::Value) -> serde_json::Value {
    json!({"to": [{"operation": operation}]})
}

fn known() -> Known {
    let account = |namespace: &str, name: &str| ObjectName { namespace: namespace.into(), name: name.into() };
    let backend =
        KnownWorkload { name: "backend-1".into(), workload: workload(), tcp_ports: BTreeSet::from([3306, 6379]) };
    Known {
        workloads: vec![backend],
        federated: Some(vec!["partner".parse().unwrap()]),
        service_accounts: [account("default", "frontend"), account("shop", "cart")].into(),
        namespaces: ["default".to_owned()].into(),
        num_trusted_proxies: Some(0),
    }
}

#[test]
fn every_code_stands_in_the_catalogue_once_and_in_order() {
    assert!(CATALOGUE.is_sorted_by(|a, b| a.code < b.code));
    let slugs: BTreeSet<_> = CATALOGUE.iter().map(|info| info.slug).collect();
    assert_eq!(slugs.len(), CATALOGUE.len());
    assert_eq!((DEAD_ALLOW, METHOD_IN_LOWER_CASE), ("MG001", "MG016"));
}

#[test]
fn a_policy_that_selects_nobody_known() {
    let looked_at = |object: &str, app: &str, known: &Known| {
        codes(&all(&[policy(object, selecting("AUDIT", Some(app)))], &[], known, &settings())).len()
    };
    assert_eq!(looked_at("p", "backnd", &known()), 1);
    assert_eq!(looked_at("istio-system/p", "backnd", &known()), 1);
    assert_eq!(looked_at("p", "backend", &known()), 0);
    assert_eq!(looked_at("elsewhere/p", "backnd", &known()), 0, "nobody is known there");
    assert_eq!(looked_at("p", "backnd", &Known::default()), 0);
}

#[test]
fn principals_of_unknown_trust_domains() {
    for (value, speaks) in [
        ("elsewhere/ns/default/sa/frontend", true),
        ("elsewhere/*", true),
        ("else*", true),
        ("*-where/ns/default/sa/frontend", true),
        ("partner/ns/default/sa/frontend", false),
        ("part*", false),
        ("*-where/ns/default/sa/x", true),
        ("*ner/ns/default/sa/frontend", false),
        ("cluster.local/ns/default/sa/frontend", false),
        ("cluster.local/*", false),
        ("*/ns/default/sa/frontend", false),
        ("*", false),
        ("*/sa/frontend", false),
    ] {
        let written = from(&json!({"principals": [value]}));
        let expected = if speaks { vec![UNKNOWN_TRUST_DOMAIN] } else { vec![] };
        assert_eq!(said("ALLOW", &written, &known()), expected, "{value}");
        assert_eq!(said("ALLOW", &written, &Known { federated: None, ..known() }), [""; 0], "{value}");
    }
    assert_eq!(
        said("ALLOW", &from(&json!({"trustDomains": ["elsewhere", "partner", "p*"]})), &known()),
        [UNKNOWN_TRUST_DOMAIN]
    );
    // The own domain has another name: the literal one means it only in a full principal.
    let renamed = Settings { trust_domain: "td".parse().unwrap(), ..settings() };
    let of = |value: &str| all(&[rule("ALLOW", &from(&json!({"principals": [value]})))], &[], &known(), &renamed).len();
    assert_eq!((of("cluster.local/ns/default/sa/frontend"), of("cluster.local/ns/*")), (0, 1));
}

#[test]
fn paths_with_a_query_or_a_fragment() {
    for (field, value, speaks) in [
        ("paths", "/a?b=c", true),
        ("notPaths", "/a?*", true),
        ("paths", "/a#b", true),
        ("paths", "/a%3Fb", false),
        ("paths", "/a", false),
    ] {
        let expected = if speaks { vec![PATH_WITH_QUERY] } else { vec![] };
        assert_eq!(said("ALLOW", &to(&json!({field: [value]})), &Known::default()), expected, "{field} {value}");
    }
    let key = |value: &str| json!({"when": [{"key": "request.headers[:path]", "values": [value]}]});
    assert_eq!(said("ALLOW", &key("/a?b"), &Known::default()), [""; 0]);
    assert_eq!(said("ALLOW", &key("/a#b"), &Known::default()), [PATH_WITH_QUERY]);
}

#[test]
fn http_fields_on_tcp_ports() {
    let get = |ports: &[&str]| to(&json!({"ports": ports, "methods": ["GET"]}));
    for action in ["ALLOW", "DENY"] {
        assert_eq!(said(action, &get(&["3306", "6379"]), &known()), [HTTP_ON_TCP_PORT]);
        assert_eq!(said(action, &get(&["3306", "8080"]), &known()), [""; 0]);
        assert_eq!(said(action, &to(&json!({"ports": ["3306"]})), &known()), [""; 0]);
        let key = json!({"to": [{"operation": {"methods": ["GET"]}}], "when": [{"key": "destination.port", "values": ["3306"]}]});
        assert_eq!(said(action, &key, &known()), [HTTP_ON_TCP_PORT]);
    }
    let either = json!({"to": [{"operation": {"ports": ["3306"]}}, {"operation": {"methods": ["GET"]}}]});
    assert_eq!(said("ALLOW", &either, &known()), [""; 0], "the second is for all ports");
    assert_eq!(said("ALLOW", &get(&["3306"]), &Known::default()), [""; 0]);
}

#[test]
fn names_that_do_not_exist() {
    for (source, speaks) in [
        (json!({"principals": ["cluster.local/ns/default/sa/fronted"]}), true),
        (json!({"principals": ["cluster.local/ns/defualt/sa/*"]}), true),
        (json!({"notPrincipals": ["cluster.local/ns/default/sa/fronted"]}), true),
        (json!({"serviceAccounts": ["fronted"]}), true),
        (json!({"namespaces": ["defualt"]}), true),
        (json!({"principals": ["cluster.local/ns/default/sa/frontend", "cluster.local/ns/shop/sa/cart"]}), false),
        (json!({"principals": ["cluster.local/ns/default/sa/default", "cluster.local/ns/default/sa/fr*"]}), false),
        (json!({"principals": ["partner/ns/other/sa/whoever"]}), false),
        (json!({"serviceAccounts": ["frontend", "shop/cart", "backend"]}), false),
        (json!({"namespaces": ["default", "shop", "def*"]}), false),
    ] {
        let found = said("DENY", &from(&source), &known());
        assert_eq!(found, if speaks { vec![UNKNOWN_NAME] } else { vec![] }, "{source}");
        assert_eq!(said("DENY", &from(&source), &Known::default()), [""; 0], "{source}");
    }
}

#[test]
fn allow_rules_that_say_only_who_the_caller_is_not() {
    let when = |written: serde_json::Value| json!({"when": [written]});
    for (written, speaks) in [
        (from(&json!({"notNamespaces": ["x"]})), true),
        (from(&json!({"notPrincipals": ["x"], "ipBlocks": ["10.0.0.0/8"]})), true),
        (when(json!({"key": "source.namespace", "notValues": ["x"]})), true),
        (json!({"from": [{"source": {"namespaces": ["x"]}}, {"source": {"notNamespaces": ["y"]}}]}), true),
        (from(&json!({"notNamespaces": ["x"], "principals": ["*"]})), false),
        (from(&json!({"notNamespaces": ["x"], "requestPrincipals": ["*"]})), false),
        (from(&json!({"notIpBlocks": ["10.0.0.0/8"]})), false),
        (
            json!({"from": [{"source": {"notNamespaces": ["x"]}}], "when": [{"key": "source.principal", "values": ["*"]}]}),
            false,
        ),
        (json!({}), false),
    ] {
        let expected = if speaks { vec![ALLOW_BY_ABSENCE] } else { vec![] };
        assert_eq!(said("ALLOW", &written, &Known::default()), expected, "{written}");
        assert_eq!(said("DENY", &written, &Known::default()), [""; 0], "{written}");
    }
}

#[test]
fn remote_ip_where_no_proxy_is_trusted() {
    let written = from(&json!({"remoteIpBlocks": ["10.0.0.0/8"]}));
    assert_eq!(said("ALLOW", &written, &known()), [REMOTE_IP_WITHOUT_PROXIES]);
    for num_trusted_proxies in [Some(1), None] {
        assert_eq!(said("ALLOW", &written, &Known { num_trusted_proxies, ..known() }), [""; 0]);
    }
    assert_eq!(said("ALLOW", &from(&json!({"ipBlocks": ["10.0.0.0/8"]})), &known()), [""; 0]);
}

#[test]
fn hosts_with_a_port_or_without_but_not_both() {
    for (hosts, speaks) in [
        (json!(["a.example"]), true),
        (json!(["a.example:*"]), true),
        (json!(["A.example", "a.example:*"]), false),
        (json!(["a.example*"]), false),
        (json!(["*"]), false),
        (json!(["*.example"]), false),
        (json!(["a.example:8080"]), false),
    ] {
        let written = to(&json!({"hosts": hosts, "ports": ["80"]}));
        let expected = if speaks { vec![HOST_WITHOUT_PORT_FORM] } else { vec![] };
        assert_eq!(said("DENY", &written, &Known::default()), expected, "{hosts}");
        assert_eq!(said("ALLOW", &written, &Known::default()), [""; 0], "{hosts}");
    }
}

#[test]
fn methods_in_small_letters() {
    for (method, speaks) in
        [("get", true), ("Post", true), ("p*", true), ("GET", false), ("PROPFIND", false), ("*", false)]
    {
        let expected = if speaks { vec![METHOD_IN_LOWER_CASE] } else { vec![] };
        assert_eq!(said("ALLOW", &to(&json!({"methods": [method]})), &Known::default()), expected, "{method}");
    }
}
