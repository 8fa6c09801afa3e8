use serde_json::{Value, json};

use super::*;
use crate::tests::{Call, policy, settings, workload};
use crate::{PolicySet, Verdict};

/// The numbers of the rules that have a guard, and how many guards there are.
fn guarded(rules: &[Value]) -> (Vec<u32>, usize) {
    let policy = policy("p", json!({"rules": rules}));
    let guards = Guards::new(policy.rules.iter());
    let numbers = (0..).take(rules.len()).filter(|number| guards.of(*number).is_some());
    (numbers.collect(), guards.samples.len())
}

fn rule(source: &Value, operation: &Value) -> Value {
    json!({"from": [{"source": source}], "to": [{"operation": operation}]})
}

#[test]
fn many_rules_with_one_source_have_one_guard() {
    let (one, two) = (json!({"namespaces": ["default"]}), json!({"namespaces": ["other"]}));
    let path = |n: usize| json!({"paths": [format!("/{n}")]});
    let rules: Vec<_> = (0..8).map(|n| rule(if n % 2 == 0 { &one } else { &two }, &path(n))).collect();
    assert_eq!(guarded(&rules), ((0..8).collect(), 2));
    assert_eq!(guarded(&rules[..4]), (vec![], 0), "of each there are few");
}

#[test]
fn what_asks_of_both_at_once_has_none() {
    let source = json!({"namespaces": ["default"]});
    for (source, operation) in [
        (&source, json!({"paths": ["/a"], "ports": ["80"]})),
        (&source, json!({"ports": ["80"]})),
        (&json!({"namespaces": ["default"], "remoteIpBlocks": ["10.0.0.1"]}), json!({"paths": ["/a"]})),
        (&json!({"notRequestPrincipals": ["*"]}), json!({"paths": ["/a"]})),
    ] {
        let rules = vec![rule(source, &operation); 5];
        assert_eq!(guarded(&rules), (vec![], 0), "{operation}");
    }
    let same = vec![rule(&source, &json!({"paths": ["/a"]})); 5];
    assert_eq!(guarded(&same).1, 1);
    let negated = rule(&json!({"notNamespaces": ["default"]}), &json!({"paths": ["/a"]}));
    assert_eq!(guarded(&[same.clone(), vec![negated; 5]].concat()).1, 2);
}

#[test]
fn a_closed_guard_keeps_its_rules_from_matching() {
    let rules: Vec<_> =
        (0..30).map(|n| rule(&json!({"namespaces": ["default"]}), &json!({"paths": [format!("/{n}")]}))).collect();
    let set = PolicySet::compile(&[policy("p", json!({"rules": rules}))], &workload(), &settings());
    let (inside, outside) = (Call::get("/7"), Call::get("/7").by("cluster.local/ns/other/sa/frontend"));
    for (call, verdict) in [(&inside, Verdict::Allow), (&outside, Verdict::Deny)] {
        let residual = set.reduce(&call.facts());
        assert_eq!(residual.weight(), 0, "nothing was copied for the caller");
        assert_eq!(residual.decide(&call.request()).verdict, verdict);
    }
    let refused = set.reduce(&outside.facts());
    assert_eq!(refused.fixed().map(|decision| decision.verdict), Some(Verdict::Deny), "nothing is left to ask");
}
