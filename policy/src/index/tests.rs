use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::model::AnyCondition;
use crate::tests::{Call, policy, settings, workload};
use crate::{Policy, PolicySet};

/// An index of the policies' rules by what they ask of a connection, and the rules to try on this one.
fn tried(rules: &[Value], call: &Call) -> Vec<u32> {
    let written: Vec<Arc<Policy>> = vec![policy("p", json!({"rules": rules}))];
    let set = PolicySet::compile(&written, &workload(), &settings());
    let groups = |number| {
        let rule = set.compiled.rule(number).rule;
        rule.groups().map(|group| group.iter().map(|clause| clause.iter().map(AnyCondition::ask_connection)))
    };
    let index = Index::new(set.compiled.numbers(), groups);
    let mut found = Vec::new();
    index.candidates(&call.facts(), |rules| found.extend_from_slice(rules));
    found.sort_unstable();
    found
}

fn from(source: &Value) -> Value {
    json!({"from": [{"source": source}]})
}

#[test]
fn finds_each_form_of_each_attribute_and_nothing_else() {
    let call = Call::get("/").connecting_from("10.1.2.3");
    for (there, elsewhere) in [
        (
            json!({"principals": ["cluster.local/ns/default/sa/frontend"]}),
            json!({"principals": ["cluster.local/ns/default/sa/x"]}),
        ),
        (json!({"principals": ["cluster.local/ns/def*"]}), json!({"principals": ["cluster.local/ns/x*"]})),
        (json!({"principals": ["*/sa/frontend"]}), json!({"principals": ["*/sa/x"]})),
        (json!({"serviceAccounts": ["frontend"]}), json!({"serviceAccounts": ["x/frontend"]})),
        (json!({"namespaces": ["default"]}), json!({"namespaces": ["x"]})),
        (json!({"namespaces": ["de*t"]}), json!({"namespaces": ["x*t"]})),
        (json!({"trustDomains": ["*.local"]}), json!({"trustDomains": ["x"]})),
        (json!({"ipBlocks": ["10.1.2.3"]}), json!({"ipBlocks": ["10.1.2.4"]})),
        (json!({"ipBlocks": ["10.1.0.0/16"]}), json!({"ipBlocks": ["10.2.0.0/16", "::/0"]})),
        (json!({"ipBlocks": ["0.0.0.0/0"]}), json!({"ipBlocks": ["::/0"]})),
    ] {
        assert_eq!(tried(&[from(&elsewhere), from(&there)], &call), [1], "{there} {elsewhere}");
    }
    let when = |key: &str, value: &str| json!({"when": [{"key": key, "values": [value]}]});
    for (key, there, elsewhere) in [
        ("destination.port", "8080", "80"),
        ("destination.ip", "10.0.0.0/24", "10.0.1.0/24"),
        ("connection.sni", "outbound_*", "x*"),
    ] {
        assert_eq!(tried(&[when(key, elsewhere), when(key, there)], &call), [1], "{key}");
    }
}

#[test]
fn always_tries_what_asks_for_nothing_certain() {
    let rules = [
        from(&json!({"notPrincipals": ["x"]})),
        from(&json!({"principals": ["*"]})),
        from(&json!({"remoteIpBlocks": ["10.0.0.1"]})),
        json!({"from": [{"source": {"namespaces": ["x"]}}, {"source": {"notNamespaces": ["x"]}}]}),
        json!({}),
        from(&json!({"namespaces": ["x"]})),
    ];
    assert_eq!(tried(&rules, &Call::get("/")), [0, 1, 2, 3, 4]);
    assert_eq!(tried(&rules, &Call::get("/").plaintext()), [0, 1, 2, 3, 4]);
}

#[test]
fn takes_the_group_whose_texts_fewest_rules_share() {
    let rule = |port: usize| {
        json!({
            "from": [{"source": {"namespaces": ["default"]}}],
            "to": [{"operation": {"ports": [port.to_string()]}}, {"operation": {"ports": [(port + 1).to_string()]}}],
        })
    };
    let rules: Vec<_> = (0..20).map(|n| rule(8070 + 2 * n)).collect();
    assert_eq!(tried(&rules, &Call::get("/")), [5]);
}
