mod webhook;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{Action, ObjectName};

fn read(annotations: &[(&str, &str)], spec: Value) -> Result<crate::Policy, Vec<String>> {
    let name = ObjectName { namespace: "default".into(), name: "p".into() };
    let annotations: BTreeMap<_, _> =
        annotations.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let spec: AuthorizationPolicySpec = serde_json::from_value(spec).map_err(|error| vec![error.to_string()])?;
    authorization_policy(name, &annotations, spec)
        .map_err(|all| all.into_iter().map(|invalid| invalid.to_string()).collect())
}

/// The paths of what is wrong, or the error of deserialization.
fn wrong(spec: Value) -> Vec<String> {
    let messages = read(&[], spec).err().unwrap_or_default();
    messages.into_iter().map(|message| message.split(": ").next().unwrap().to_owned()).collect()
}

fn in_rule(rule: &Value) -> Vec<String> {
    wrong(json!({"action": "DENY", "rules": [rule]}))
}

#[test]
fn the_shape_is_exact() {
    for (spec, said) in [
        (json!({"rulez": []}), "unknown field `rulez`"),
        (json!({"action": "allow"}), "unknown variant `allow`, expected one of `ALLOW`, `DENY`, `AUDIT`, `CUSTOM`"),
        (json!({"rules": [{"to": [{"operation": {"notPath": ["/"]}}]}]}), "unknown field `notPath`"),
        (json!({"rules": [{"to": [{"operation": {"ports": [80]}}]}]}), "invalid type: integer `80`, expected a string"),
        (json!({"selector": {"matchExpressions": []}}), "unknown field `matchExpressions`"),
    ] {
        let message = read(&[], spec).unwrap_err().remove(0);
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn a_policy_may_not_be_half_understood() {
    for (spec, paths) in [
        (json!({"action": "CUSTOM", "provider": {"name": "x"}}), vec!["spec.rules"]),
        (json!({"action": "CUSTOM", "rules": [{}]}), vec!["spec.provider.name"]),
        (json!({"action": "CUSTOM", "provider": {"name": ""}, "rules": [{}]}), vec!["spec.provider.name"]),
        (json!({"provider": {"name": "x"}}), vec!["spec.provider"]),
        (json!({"action": "DENY"}), vec!["spec.rules"]),
        (json!({"action": "DENY", "rules": []}), vec!["spec.rules"]),
        (json!({"rules": [null, {}, null]}), vec!["spec.rules[0]", "spec.rules[2]"]),
        (json!({"rules": vec![json!({}); 513]}), vec!["spec.rules"]),
        (json!({"selector": {"matchLabels": {"": "a"}}}), vec!["spec.selector.matchLabels[]"]),
        (json!({"selector": {"matchLabels": {"a": "b*"}}}), vec!["spec.selector.matchLabels[a]"]),
        (json!({"selector": {"matchLabels": {"a": "x".repeat(64)}}}), vec!["spec.selector.matchLabels[a]"]),
        (json!({"selector": {}, "targetRef": {"kind": "Service", "name": "a"}}), vec!["spec"]),
        (json!({"targetRef": {"kind": "Service"}}), vec!["spec.targetRef.name"]),
        (json!({"targetRef": {"kind": "Service", "name": "a", "namespace": "b"}}), vec!["spec.targetRef.namespace"]),
        (json!({"targetRefs": [{"kind": "Pod", "name": "a"}]}), vec!["spec.targetRefs[0].kind"]),
        (
            json!({"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "x"}]}),
            vec!["spec.targetRefs[0].name"],
        ),
        (json!({"targetRefs": vec![json!({"kind": "Service", "name": "a"}); 17]}), vec!["spec.targetRefs"]),
    ] {
        assert_eq!(wrong(spec.clone()), paths, "{spec}");
    }
}

#[test]
fn every_value_is_checked() {
    let source = |field: &str, values: Value| json!({"from": [{"source": {field: values}}]});
    let operation = |field: &str, values: Value| json!({"to": [{"operation": {field: values}}]});
    let when = |key: &str, values: Value| json!({"when": [{"key": key, "values": values}]});
    let from = |field: &str, index: usize| vec![format!("spec.rules[0].from[0].source.{field}[{index}]")];
    let to = |field: &str, index: usize| vec![format!("spec.rules[0].to[0].operation.{field}[{index}]")];
    let at = |path: &str| vec![format!("spec.rules[0].{path}")];
    for (rule, paths) in [
        (json!({"from": []}), at("from")),
        (json!({"to": []}), at("to")),
        (json!({"from": [null]}), at("from[0].source")),
        (json!({"from": [{}]}), at("from[0].source")),
        (json!({"from": [{"source": {}}]}), at("from[0].source")),
        (json!({"to": [{"operation": null}]}), at("to[0].operation")),
        (json!({"to": [{"operation": {"paths": []}}]}), at("to[0].operation")),
        (json!({"from": vec![json!({"source": {"namespaces": ["a"]}}); 513]}), at("from")),
        (source("principals", json!(["a", ""])), from("principals", 1)),
        (source("requestPrincipals", json!([""])), from("requestPrincipals", 0)),
        (source("serviceAccounts", json!(["a/b/c"])), from("serviceAccounts", 0)),
        (source("serviceAccounts", json!(["a", "/b"])), from("serviceAccounts", 1)),
        (source("notServiceAccounts", json!(["a/"])), from("notServiceAccounts", 0)),
        (source("serviceAccounts", json!(["a*"])), from("serviceAccounts", 0)),
        (source("serviceAccounts", json!(["a".repeat(321)])), from("serviceAccounts", 0)),
        (source("serviceAccounts", json!(vec!["a"; 17])), at("from[0].source.serviceAccounts")),
        (json!({"from": [{"source": {"serviceAccounts": ["a"], "notNamespaces": ["b"]}}]}), at("from[0].source")),
        (source("trustDomains", json!(["a/b"])), from("trustDomains", 0)),
        (source("trustDomains", json!(["*a*"])), from("trustDomains", 0)),
        (source("trustDomains", json!(["a*b"])), from("trustDomains", 0)),
        (source("ipBlocks", json!(["10.0.0.0/8", "10.0.0.0/33"])), from("ipBlocks", 1)),
        (source("remoteIpBlocks", json!(["frontend"])), from("remoteIpBlocks", 0)),
        (operation("ports", json!(["80", "65536"])), to("ports", 1)),
        (operation("ports", json!(["+80"])), to("ports", 0)),
        (operation("notPorts", json!(["http"])), to("notPorts", 0)),
        (operation("paths", json!(["/a{"])), to("paths", 0)),
        (operation("paths", json!(["/{**}/{*}"])), to("paths", 0)),
        (operation("notPaths", json!(["/a*/{*}"])), to("notPaths", 0)),
        (json!({"when": [null]}), at("when[0]")),
        (json!({"when": [{"values": ["a"]}]}), at("when[0].key")),
        (when("source.user", json!(["a"])), at("when[0].key")),
        (json!({"when": [{"key": "source.ip"}]}), at("when[0]")),
        (json!({"when": [{"key": "source.ip", "values": [], "notValues": null}]}), at("when[0]")),
        (when("source.ip", json!(["x"])), at("when[0].values[0]")),
        (when("destination.port", json!(["x"])), at("when[0].values[0]")),
        (when("request.headers[]", json!(["x"])), at("when[0].key")),
        (when("request.auth.claims[a]", json!([""])), at("when[0].values[0]")),
    ] {
        assert_eq!(in_rule(&rule), paths, "{rule}");
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let spec = json!({"action": "DENY", "provider": {"name": "x"}, "rules": [
        {"from": [{"source": {"ipBlocks": ["x"]}}], "to": [{"operation": {"ports": ["x", "y"]}}]},
        null,
    ]});
    assert_eq!(wrong(spec).len(), 5);
}

#[test]
fn the_dry_run_annotation_is_a_go_boolean() {
    let dry_run = |value: &str, action: &str| {
        read(&[("istio.io/dry-run", value)], json!({"action": action, "rules": [{}]})).map(|policy| policy.dry_run())
    };
    for value in ["1", "t", "T", "true", "TRUE", "True"] {
        assert_eq!(dry_run(value, "ALLOW"), Ok(true), "{value}");
    }
    for value in ["0", "f", "F", "false", "FALSE", "False"] {
        assert_eq!(dry_run(value, "DENY"), Ok(false), "{value}");
    }
    for value in ["", "yes", "tRUE", " true"] {
        assert!(dry_run(value, "ALLOW").is_err(), "{value}");
    }
    assert!(dry_run("true", "AUDIT").is_err());
    assert!(dry_run("true", "CUSTOM").unwrap_err().iter().any(|message| message.contains("can be tried out")));
    assert_eq!(read(&[], json!({})).unwrap().action(), Action::Allow);
}

#[test]
fn peer_authentication_is_checked_too() {
    let wrong = |spec: Value| -> Vec<String> {
        let spec: Result<PeerAuthenticationSpec, _> = serde_json::from_value(spec);
        let name = ObjectName { namespace: "default".into(), name: "p".into() };
        match spec {
            Err(error) => vec![error.to_string()],
            Ok(spec) => {
                let all = peer_authentication(name, spec, "istio-system").err().unwrap_or_default();
                all.into_iter().map(|invalid| invalid.path).collect()
            }
        }
    };
    let selector = json!({"matchLabels": {"app": "x"}});
    let port = |port: &str| json!({"selector": selector, "portLevelMtls": {port: {"mode": "STRICT"}}});
    assert_eq!(wrong(json!({})), Vec::<String>::new());
    assert_eq!(wrong(port("8080")), Vec::<String>::new());
    assert_eq!(wrong(port("0")), ["spec.portLevelMtls[0]"]);
    assert_eq!(wrong(port("65536")), ["spec.portLevelMtls[65536]"]);
    assert_eq!(wrong(port("http")), ["spec.portLevelMtls[http]"]);
    assert_eq!(wrong(json!({"selector": selector, "portLevelMtls": {}})), ["spec.portLevelMtls"]);
    assert_eq!(wrong(json!({"portLevelMtls": {"80": {}}})), ["spec.portLevelMtls"]);
    assert_eq!(wrong(json!({"selector": {"matchLabels": {"a": "*"}}})), ["spec.selector.matchLabels[a]"]);
    assert!(wrong(json!({"mtls": {"mode": "strict"}}))[0].contains("expected one of `UNSET`, `DISABLE`, `PERMISSIVE`"));
    assert!(wrong(json!({"mtlz": {}}))[0].contains("unknown field `mtlz`"));
}
