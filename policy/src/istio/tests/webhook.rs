//! What Istio's webhook and schema reject, one row for each of their rules, and beside it what they must not.
//!
//! Each row has the document and the fields that we name. After `ValidateAuthorizationPolicy`, `ValidatePeerAuthentication`
//! and what they call, and after the schema and the CEL rules of the two resource definitions.

#![allow(clippy::needless_pass_by_value, reason = "what json! makes is given as it is")]

use serde_json::{Value, json};

use super::super::*;
use super::{in_rule, read, wrong};
use crate::ObjectName;

/// The fields that are named, or the beginning of what deserialization says.
type Row = (&'static str, Value, &'static [&'static str]);

fn source(fields: Value) -> Value {
    json!({"from": [{"source": fields}]})
}

fn operation(fields: Value) -> Value {
    json!({"to": [{"operation": fields}]})
}

fn when(key: &str, values: Value) -> Value {
    json!({"when": [{"key": key, "values": values}]})
}

fn target(kind: &str, group: &str) -> Value {
    json!({"targetRefs": [{"kind": kind, "group": group, "name": "x"}]})
}

fn labels(key: &str, value: &str) -> Value {
    json!({"selector": {"matchLabels": {key: value}}})
}

fn peer(spec: Value) -> Result<(), Vec<String>> {
    let spec: PeerAuthenticationSpec = serde_json::from_value(spec).map_err(|error| vec![error.to_string()])?;
    let name = ObjectName { namespace: "default".into(), name: "p".into() };
    let read = peer_authentication(name, spec, "istio-system");
    read.map(|_| ()).map_err(|all| all.into_iter().map(|invalid| invalid.path).collect())
}

#[test]
fn what_a_policy_is_attached_to() {
    let many: serde_json::Map<_, _> = (0..4097).map(|number| (format!("l{number}"), json!("x"))).collect();
    let rows: [Row; 18] = [
        ("selector and targetRef", json!({"selector": {}, "targetRef": {"kind": "Service", "name": "x"}}), &["spec"]),
        (
            "selector and targetRefs",
            json!({"selector": {}, "targetRefs": [{"kind": "Service", "name": "x"}]}),
            &["spec"],
        ),
        ("selector and targetRefs that are empty", json!({"selector": {}, "targetRefs": []}), &["spec"]),
        (
            "targetRef and targetRefs",
            json!({"targetRef": {"kind": "Service", "name": "x"}, "targetRefs": [{"kind": "Service", "name": "x"}]}),
            &["spec"],
        ),
        ("no name", json!({"targetRef": {"kind": "Service"}}), &["spec.targetRef.name"]),
        ("an empty name", json!({"targetRefs": [{"kind": "Service", "name": ""}]}), &["spec.targetRefs[0].name"]),
        (
            "a long name",
            json!({"targetRefs": [{"kind": "Service", "name": "x".repeat(254)}]}),
            &["spec.targetRefs[0].name"],
        ),
        ("no kind", json!({"targetRef": {"name": "x"}}), &["spec.targetRef.kind"]),
        (
            "another namespace",
            json!({"targetRef": {"kind": "Service", "name": "x", "namespace": "default"}}),
            &["spec.targetRef.namespace"],
        ),
        ("a kind that cannot be", target("Deployment", "apps"), &["spec.targetRefs[0].kind"]),
        ("a Gateway of Istio", target("Gateway", "networking.istio.io"), &["spec.targetRefs[0].kind"]),
        ("a Service of a group", target("Service", "networking.istio.io"), &["spec.targetRefs[0].kind"]),
        ("an empty label", labels("", "x"), &["spec.selector.matchLabels[]"]),
        ("* in a label's name", labels("a*", "x"), &["spec.selector.matchLabels[a*]"]),
        ("* in a label's value", labels("a", "*"), &["spec.selector.matchLabels[a]"]),
        ("a long value", labels("a", &"x".repeat(64)), &["spec.selector.matchLabels[a]"]),
        ("many labels", json!({"selector": {"matchLabels": many}}), &["spec.selector.matchLabels"]),
        (
            "many targets",
            json!({"targetRefs": vec![json!({"kind": "Service", "name": "x"}); 17]}),
            &["spec.targetRefs"],
        ),
    ];
    for (what, spec, fields) in rows {
        assert_eq!(wrong(spec), fields, "{what}");
    }
    for spec in [
        json!({}),
        json!({"selector": {}}),
        json!({"selector": {"matchLabels": {}}}),
        labels("app.kubernetes.io/name", &"x".repeat(63)),
        labels("a", ""),
        target("Service", ""),
        target("Service", "core"),
        target("ServiceEntry", "networking.istio.io"),
        target("Gateway", "gateway.networking.k8s.io"),
        json!({"targetRefs": vec![json!({"kind": "Service", "name": "x".repeat(253), "namespace": ""}); 16]}),
    ] {
        assert_eq!(wrong(spec.clone()), [""; 0], "{spec}");
    }
}

#[test]
fn what_an_action_needs() {
    let rows: [Row; 6] = [
        ("DENY without rules", json!({"action": "DENY"}), &["spec.rules"]),
        ("a provider without CUSTOM", json!({"action": "DENY", "rules": [{}], "provider": {}}), &["spec.provider"]),
        ("a provider by default", json!({"provider": {"name": "x"}}), &["spec.provider"]),
        (
            "no such action",
            json!({"action": "REJECT"}),
            &["unknown variant `REJECT`, expected one of `ALLOW`, `DENY`, \
                                                          `AUDIT`, `CUSTOM`"],
        ),
        (
            "an empty action",
            json!({"action": ""}),
            &["unknown variant ``, expected one of `ALLOW`, `DENY`, `AUDIT`, \
                                                     `CUSTOM`"],
        ),
        ("many rules", json!({"rules": vec![json!({}); 513]}), &["spec.rules"]),
    ];
    for (what, spec, fields) in rows {
        assert_eq!(wrong(spec), fields, "{what}");
    }
    for spec in [
        json!({"action": "ALLOW", "rules": vec![json!({}); 512]}),
        json!({"action": "ALLOW", "rules": []}),
        json!({"action": "AUDIT"}),
        json!({"action": "DENY", "rules": [{}]}),
    ] {
        assert_eq!(wrong(spec.clone()), [""; 0], "{spec}");
    }
}

#[test]
fn what_custom_may_not_ask() {
    let custom = |rule: Value| json!({"action": "CUSTOM", "provider": {"name": "x"}, "rules": [rule]});
    let mut refused = vec![
        json!({"action": "CUSTOM"}),
        json!({"action": "CUSTOM", "provider": {"name": "x"}}),
        json!({"action": "CUSTOM", "rules": [{}]}),
        json!({"action": "CUSTOM", "provider": {}, "rules": [{}]}),
        json!({"action": "CUSTOM", "provider": {"name": ""}, "rules": [{}]}),
        custom(json!({"when": [null]})),
    ];
    for field in ["namespaces", "serviceAccounts", "trustDomains", "principals", "requestPrincipals"] {
        let not = format!("not{}{}", field[..1].to_uppercase(), &field[1..]);
        refused.extend([field, &not].map(|field| custom(source(json!({field: ["x"]})))));
    }
    for key in [
        "source.namespace",
        "source.serviceAccount",
        "source.trustDomain",
        "source.principal",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "request.auth.claims[a]",
    ] {
        refused.push(custom(when(key, json!(["x"]))));
    }
    for spec in refused {
        assert!(read(&[], spec.clone()).is_err(), "{spec}");
    }
}

#[test]
fn what_a_source_may_say() {
    let here = "spec.rules[0].from[0].source";
    for (fields, field) in [
        (json!({"serviceAccounts": ["a"], "principals": ["x"]}), ""),
        (json!({"serviceAccounts": ["a"], "notPrincipals": ["x"]}), ""),
        (json!({"notServiceAccounts": ["a"], "namespaces": ["x"]}), ""),
        (json!({"notServiceAccounts": ["a"], "notNamespaces": ["x"]}), ""),
        (json!({"serviceAccounts": [], "principals": ["x"]}), ""),
        (json!({"serviceAccounts": ["a"], "namespaces": []}), ""),
        (json!({"serviceAccounts": vec!["a"; 17]}), ".serviceAccounts"),
        (json!({"serviceAccounts": ["a".repeat(321)]}), ".serviceAccounts[0]"),
        (json!({"serviceAccounts": ["\u{e9}".repeat(161)]}), ".serviceAccounts[0]"),
        (json!({"notServiceAccounts": ["a/b/c"]}), ".notServiceAccounts[0]"),
        (json!({"serviceAccounts": ["/"]}), ".serviceAccounts[0]"),
        (json!({"serviceAccounts": ["*"]}), ".serviceAccounts[0]"),
        (json!({"trustDomains": ["a/"]}), ".trustDomains[0]"),
        (json!({"trustDomains": ["**"]}), ".trustDomains[0]"),
        (json!({"notTrustDomains": ["a*b"]}), ".notTrustDomains[0]"),
        (json!({"ipBlocks": ["10.0.0.0/33"]}), ".ipBlocks[0]"),
        (json!({"ipBlocks": ["10.0.0.0/08"]}), ".ipBlocks[0]"),
        (json!({"ipBlocks": ["010.0.0.1"]}), ".ipBlocks[0]"),
        (json!({"notIpBlocks": ["10.0.0.0/-1"]}), ".notIpBlocks[0]"),
        (json!({"remoteIpBlocks": ["10.0.0.1:80"]}), ".remoteIpBlocks[0]"),
        (json!({"notRemoteIpBlocks": ["::1/129"]}), ".notRemoteIpBlocks[0]"),
        (json!({"principals": []}), ""),
        (json!({}), ""),
    ] {
        assert_eq!(in_rule(&source(fields.clone())), [format!("{here}{field}")], "{fields}");
    }
    for field in [
        "principals",
        "requestPrincipals",
        "namespaces",
        "serviceAccounts",
        "trustDomains",
        "ipBlocks",
        "remoteIpBlocks",
    ] {
        let not = format!("not{}{}", field[..1].to_uppercase(), &field[1..]);
        for field in [field, &not] {
            assert_eq!(in_rule(&source(json!({field: [""]}))), [format!("{here}.{field}[0]")]);
        }
    }
    for fields in [
        json!({"serviceAccounts": vec!["ns/a"; 16], "trustDomains": ["*"]}),
        json!({"serviceAccounts": ["a".repeat(320)]}),
        json!({"principals": ["*"], "namespaces": ["a*b"], "requestPrincipals": ["*"]}),
        json!({"trustDomains": ["*", "a*", "*a", "a"]}),
        json!({"ipBlocks": ["10.0.0.1", "10.0.0.1/8", "0.0.0.0/0", "::/0", "::ffff:10.0.0.1"]}),
        json!({"principals": [], "namespaces": ["x"]}),
    ] {
        assert_eq!(in_rule(&source(fields.clone())), [""; 0], "{fields}");
    }
}

#[test]
fn what_an_operation_may_say() {
    let here = "spec.rules[0].to[0].operation";
    for (fields, field) in [
        (json!({}), ""),
        (json!({"methods": [], "notPaths": []}), ""),
        (json!({"ports": ["65536"]}), ".ports[0]"),
        (json!({"ports": ["-1"]}), ".ports[0]"),
        (json!({"ports": ["+80"]}), ".ports[0]"),
        (json!({"ports": ["0x50"]}), ".ports[0]"),
        (json!({"notPorts": ["80-90"]}), ".notPorts[0]"),
        (json!({"notPorts": ["80 "]}), ".notPorts[0]"),
        (json!({"paths": ["/{a}"]}), ".paths[0]"),
        (json!({"paths": ["/a}"]}), ".paths[0]"),
        (json!({"paths": ["/{*}x"]}), ".paths[0]"),
        (json!({"paths": ["/{**}/{**}"]}), ".paths[0]"),
        (json!({"paths": ["/{*}/a*"]}), ".paths[0]"),
        (json!({"notPaths": ["/{**}/a b"]}), ".notPaths[0]"),
    ] {
        assert_eq!(in_rule(&operation(fields.clone())), [format!("{here}{field}")], "{fields}");
    }
    for field in ["hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths"] {
        assert_eq!(in_rule(&operation(json!({field: ["x", ""]}))).last(), Some(&format!("{here}.{field}[1]")));
        let said = in_rule(&operation(json!({field: [80]}))).remove(0);
        assert!(said.starts_with("invalid type"), "{field}: {said}");
    }
    for fields in [
        json!({"ports": ["0", "80", "080", "65535"]}),
        json!({"paths": ["*", "/a*", "*/a", "a", "/a b", "/{*}", "/{*}/", "/a/{**}", "/{**}/a", "/{*}/a/{**}/b"]}),
        json!({"methods": ["*", "get", "G*"], "hosts": ["*", "a:*", "*.a"], "paths": []}),
    ] {
        assert_eq!(in_rule(&operation(fields.clone())), [""; 0], "{fields}");
    }
}

#[test]
fn what_a_condition_may_ask() {
    for (rule, field) in [
        (json!({"when": [{}]}), "when[0].key"),
        (json!({"when": [{"key": "", "values": ["a"]}]}), "when[0].key"),
        (json!({"when": [{"key": "source.ip"}]}), "when[0]"),
        (json!({"when": [{"key": "source.ip", "values": []}]}), "when[0]"),
        (when("Source.ip", json!(["10.0.0.1"])), "when[0].key"),
        (when("source.ip ", json!(["10.0.0.1"])), "when[0].key"),
        (when("destination.labels[a]", json!(["a"])), "when[0].key"),
        (when("destination.namespace", json!(["a"])), "when[0].key"),
        (when("destination.name", json!(["a"])), "when[0].key"),
        (when("destination.user", json!(["a"])), "when[0].key"),
        (when("request.headers", json!(["a"])), "when[0].key"),
        (when("request.headers[]", json!(["a"])), "when[0].key"),
        (when("request.auth.claims", json!(["a"])), "when[0].key"),
        (when("request.auth.claims[]", json!(["a"])), "when[0].key"),
        (when("request.auth.issuer", json!(["a"])), "when[0].key"),
        (when("experimental.envoy.filters.x", json!(["a"])), "when[0].key"),
        (when("remote.ip", json!(["a"])), "when[0].values[0]"),
        (when("destination.ip", json!(["10.0.0.0/8", "x"])), "when[0].values[1]"),
        (when("destination.port", json!(["65536"])), "when[0].values[0]"),
        (when("source.serviceAccount", json!(["a/b/c"])), "when[0].values[0]"),
        (when("source.serviceAccount", json!(vec!["a"; 17])), "when[0].values"),
        (when("source.trustDomain", json!(["a*b"])), "when[0].values[0]"),
        (json!({"when": [{"key": "source.ip", "notValues": ["x"]}]}), "when[0].notValues[0]"),
    ] {
        assert_eq!(in_rule(&rule), [format!("spec.rules[0].{field}")], "{rule}");
    }
    for key in [
        "request.headers[a]",
        "source.namespace",
        "source.serviceAccount",
        "source.principal",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "request.auth.claims[a][b]",
        "connection.sni",
        "experimental.envoy.filters.x[y]",
    ] {
        assert_eq!(in_rule(&when(key, json!([""]))), ["spec.rules[0].when[0].values[0]"], "{key}");
        assert_eq!(in_rule(&when(key, json!(["a"]))), [""; 0], "{key}");
    }
}

#[test]
fn what_a_rule_may_be() {
    for (rule, field) in [
        (json!(null), ""),
        (json!({"from": []}), ".from"),
        (json!({"to": []}), ".to"),
        (json!({"from": [null]}), ".from[0].source"),
        (json!({"from": [{"source": null}]}), ".from[0].source"),
        (json!({"to": [null]}), ".to[0].operation"),
        (json!({"to": [{}]}), ".to[0].operation"),
        (json!({"when": [null]}), ".when[0]"),
        (json!({"from": vec![json!({"source": {"namespaces": ["a"]}}); 513]}), ".from"),
    ] {
        assert_eq!(in_rule(&rule), [format!("spec.rules[0]{field}")], "{rule}");
    }
    for rule in [
        json!({}),
        json!({"when": []}),
        json!({"from": vec![json!({"source": {"namespaces": ["a"]}}); 512]}),
        json!({"to": vec![json!({"operation": {"ports": ["1"]}}); 513]}),
    ] {
        assert_eq!(in_rule(&rule), [""; 0]);
    }
}

#[test]
fn what_is_a_string_in_the_schema_is_no_number() {
    for (spec, said) in [
        (json!({"selector": {"matchLabels": {"version": 1}}}), "integer `1`"),
        (json!({"selector": {"matchLabels": {"on": true}}}), "boolean `true`"),
        (json!({"rules": [operation(json!({"ports": [80]}))]}), "integer `80`"),
        (json!({"rules": [operation(json!({"methods": [false]}))]}), "boolean `false`"),
        (json!({"rules": [source(json!({"notNamespaces": [1.5]}))]}), "floating point `1.5`"),
        (json!({"rules": [when("source.ip", json!([10]))]}), "integer `10`"),
        (json!({"rules": [when("source.ip", json!([null]))]}), "null"),
        (json!({"targetRef": {"kind": "Service", "name": 1}}), "integer `1`"),
    ] {
        let message = read(&[], spec).unwrap_err().remove(0);
        assert!(message.starts_with(&format!("invalid type: {said}, expected a string")), "{message}");
    }
}

#[test]
fn what_a_peer_authentication_may_say() {
    let selected = |ports: Value| json!({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": ports});
    let strict = json!({"mode": "STRICT"});
    for (spec, field) in [
        (json!({"portLevelMtls": {"80": strict}}), "spec.portLevelMtls"),
        (json!({"selector": {}, "portLevelMtls": {"80": strict}}), "spec.portLevelMtls"),
        (json!({"selector": {"matchLabels": {}}, "portLevelMtls": {"80": strict}}), "spec.portLevelMtls"),
        (selected(json!({})), "spec.portLevelMtls"),
        (selected(json!({"0": strict})), "spec.portLevelMtls[0]"),
        (selected(json!({"65536": strict})), "spec.portLevelMtls[65536]"),
        (selected(json!({"-1": strict})), "spec.portLevelMtls[-1]"),
        (selected(json!({"+80": strict})), "spec.portLevelMtls[+80]"),
        (selected(json!({"http": strict})), "spec.portLevelMtls[http]"),
        (selected(json!({"": strict})), "spec.portLevelMtls[]"),
        (selected(json!({"080": strict, "80": strict})), "spec.portLevelMtls[80]"),
        (json!({"selector": {"matchLabels": {"": "b"}}}), "spec.selector.matchLabels[]"),
        (json!({"selector": {"matchLabels": {"a": "b*"}}}), "spec.selector.matchLabels[a]"),
        (json!({"selector": {"matchLabels": {"a": "b".repeat(64)}}}), "spec.selector.matchLabels[a]"),
    ] {
        assert_eq!(peer(spec.clone()), Err(vec![field.to_owned()]), "{spec}");
    }
    for (spec, said) in [
        (json!({"mtls": {"mode": "strict"}}), "unknown variant `strict`"),
        (json!({"mtls": {"mode": ""}}), "unknown variant ``"),
        (json!({"selector": {"matchLabels": {"a": 1}}}), "invalid type: integer `1`, expected a string"),
        (json!({"targetRef": {"kind": "Service", "name": "a"}}), "unknown field `targetRef`"),
    ] {
        assert!(peer(spec.clone()).unwrap_err()[0].starts_with(said), "{spec}");
    }
    for spec in [
        json!({}),
        json!({"selector": {}}),
        json!({"mtls": {}}),
        json!({"mtls": {"mode": "UNSET"}}),
        selected(json!({"1": strict, "65535": {}, "8080": {"mode": "DISABLE"}})),
    ] {
        assert_eq!(peer(spec.clone()), Ok(()), "{spec}");
    }
}
