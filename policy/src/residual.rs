//! What is left of the policies once a connection's facts are put in.
//!
//! A rule is a conjunction of groups (`from`, `to`, `when`), a group a choice of clauses, a clause a conjunction of
//! conditions. All three levels lie in flat vectors, and a level refers to the one below by a span, so that a rule is
//! tried without following a tree of pointers and made without an allocation of its own.

use std::ops::Range;
use std::sync::Arc;

use crate::condition::{Condition, RequestTest};
use crate::custom::ProviderFault;
use crate::model::{Action, AnyCondition, Clause, Family, Policy, SmiMode};
use crate::request::{ConnectionFacts, Protocol, RequestView};
use crate::set::{CompiledPolicy, CompiledRule};

/// Rules by what they do, and the vectors they lie in.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) custom: Section,
    pub(crate) deny: Section,
    pub(crate) allow: Section,
    pub(crate) audit: Section,
    pub(crate) dry_run_deny: Section,
    pub(crate) dry_run_allow: Section,
    /// TrafficTargets. In force by the mode alone: without it they decide nothing, and with it their absence does.
    pub(crate) target: Section,
    /// Why the provider of the CUSTOM rules cannot be asked.
    pub(crate) provider_fault: Option<ProviderFault>,
    groups: Vec<Span>,
    clauses: Vec<Span>,
    conditions: Vec<Arc<Condition<RequestTest>>>,
}

/// The rules of one action that may still match, in the order in which they are tried.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// Whether a policy of this kind selects the workload at all, even with no rule left.
    pub(crate) in_force: bool,
    /// Nothing follows a rule that always matches.
    pub(crate) rules: Vec<ResidualRule>,
    /// The unconditional DENY rule that yields to ALLOW rules.
    pub(crate) baseline: Option<ResidualRule>,
}

/// A rule of which something is left, or nothing: then it always matches.
#[derive(Clone, Debug)]
pub(crate) struct ResidualRule {
    pub(crate) policy: Arc<Policy>,
    pub(crate) index: usize,
    groups: Span,
}

type Span = Range<usize>;

/// What a connection leaves of a part of a rule.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Holds for every request.
    Always,
    /// Holds for none.
    Never,
    /// Depends on the request.
    Some,
}

impl ResidualRule {
    /// Whether it matches every request.
    pub(crate) fn always(&self) -> bool {
        self.groups.is_empty()
    }
}

impl Program {
    /// Without any policy.
    pub(crate) fn new(smi: SmiMode) -> Program {
        let target = Section { in_force: smi == SmiMode::TrafficPolicy, ..Section::default() };
        Program { target, ..Program::default() }
    }

    /// Adds what this connection leaves of a policy.
    pub(crate) fn add(&mut self, policy: &CompiledPolicy, facts: &ConnectionFacts<'_>) {
        if policy.source.family == Family::Istio {
            self.section(&policy.source).in_force = true;
        }
        for (index, compiled) in policy.rules.iter().enumerate() {
            if self.section(&policy.source).rules.last().is_some_and(ResidualRule::always) {
                return;
            }
            let start = self.groups.len();
            if self.reduce(compiled, policy.source.action, facts) == Left::Never {
                continue;
            }
            let groups = start..self.groups.len();
            let rule = ResidualRule { policy: Arc::clone(&policy.source), index, groups };
            let section = self.section(&policy.source);
            if compiled.baseline {
                section.baseline.get_or_insert(rule);
            } else {
                section.rules.push(rule);
            }
        }
    }

    /// Whether the rule matches the request.
    pub(crate) fn matches(&self, rule: &ResidualRule, request: &RequestView<'_>) -> bool {
        let holds = |clause: &Span| at(&self.conditions, clause).iter().all(|condition| condition.holds(request));
        at(&self.groups, &rule.groups).iter().all(|group| at(&self.clauses, group).iter().any(holds))
    }

    fn section(&mut self, policy: &Policy) -> &mut Section {
        match (policy.action, policy.dry_run) {
            (Action::Allow, _) if policy.family == Family::Smi => &mut self.target,
            (Action::Custom, _) => &mut self.custom,
            (Action::Deny, false) => &mut self.deny,
            (Action::Deny, true) => &mut self.dry_run_deny,
            (Action::Allow, false) => &mut self.allow,
            (Action::Allow, true) => &mut self.dry_run_allow,
            (Action::Audit, _) => &mut self.audit,
        }
    }

    fn reduce(&mut self, compiled: &CompiledRule, action: Action, facts: &ConnectionFacts<'_>) -> Left {
        if facts.protocol == Protocol::Tcp && action == Action::Allow && compiled.rule.needs_http() {
            return Left::Never;
        }
        let (groups, clauses, conditions) = (self.groups.len(), self.clauses.len(), self.conditions.len());
        let mut left = Left::Always;
        for group in compiled.rule.groups() {
            match self.reduce_group(group, facts) {
                Left::Always => {}
                Left::Some => left = Left::Some,
                Left::Never => {
                    left = Left::Never;
                    break;
                }
            }
        }
        if left != Left::Some {
            self.groups.truncate(groups);
            self.clauses.truncate(clauses);
            self.conditions.truncate(conditions);
        }
        left
    }

    /// What it adds to the vectors counts only if something is left of the group; the same goes for a clause.
    fn reduce_group(&mut self, group: &[Clause], facts: &ConnectionFacts<'_>) -> Left {
        let start = self.clauses.len();
        for clause in group {
            if self.reduce_clause(clause, facts) == Left::Always {
                return Left::Always;
            }
        }
        if self.clauses.len() == start {
            return Left::Never;
        }
        self.groups.push(start..self.clauses.len());
        Left::Some
    }

    fn reduce_clause(&mut self, clause: &Clause, facts: &ConnectionFacts<'_>) -> Left {
        let start = self.conditions.len();
        for condition in clause {
            let holds = match condition {
                AnyCondition::Connection(condition) => condition.holds(facts),
                AnyCondition::Request(condition) => condition.settled(facts).unwrap_or_else(|| {
                    self.conditions.push(Arc::clone(condition));
                    true
                }),
            };
            if !holds {
                return Left::Never;
            }
        }
        if self.conditions.len() == start {
            return Left::Always;
        }
        self.clauses.push(start..self.conditions.len());
        Left::Some
    }
}

/// The part of a vector that a span of the same program stands for.
#[expect(clippy::indexing_slicing, reason = "a span and its vector are made together, above; refusing beats guessing")]
fn at<'a, T>(items: &'a [T], span: &Span) -> &'a [T] {
    &items[span.clone()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::PolicySet;
    use crate::tests::{Call, policy, settings, workload};

    fn reduced(rules: &serde_json::Value, call: &Call) -> Program {
        let set = PolicySet::compile(&[policy("p", json!({"rules": rules}))], &workload(), &settings());
        let mut program = Program::default();
        set.policies.iter().for_each(|policy| program.add(policy, &call.facts()));
        program
    }

    #[test]
    fn keeps_only_what_depends_on_the_request() {
        let from = |namespace: &str| json!([{"source": {"namespaces": [namespace], "remoteIpBlocks": ["10.0.0.1"]}}]);
        let to = json!([{"operation": {"methods": ["GET"], "paths": ["/a"]}}, {"operation": {"methods": ["PUT"], "ports": ["1"]}}]);
        let rules = json!([{"from": from("other"), "to": to}, {"to": to, "from": from("default")}]);
        let program = reduced(&rules, &Call::get("/"));
        assert_eq!(program.allow.rules.len(), 1);
        assert_eq!(program.allow.rules[0].index, 1);
        let kept: Vec<_> = program.clauses.iter().map(|clause| at(&program.conditions, clause).len()).collect();
        assert_eq!((program.groups.len(), kept), (2, vec![1, 2]));
    }

    #[test]
    fn keeps_nothing_of_a_rule_that_cannot_match_or_always_does() {
        let late = json!({"when": [
            {"key": "request.headers[x]", "values": ["1"]},
            {"key": "destination.port", "values": ["1"]},
        ]});
        let either = json!({"to": [{"operation": {"methods": ["GET"]}}, {"operation": {"ports": ["8080"]}}]});
        let program = reduced(&json!([late, either, {}, late]), &Call::get("/"));
        assert_eq!(program.allow.rules.iter().map(|rule| rule.index).collect::<Vec<_>>(), [1]);
        assert!(program.allow.rules[0].always());
        assert!(program.groups.is_empty() && program.clauses.is_empty() && program.conditions.is_empty());
    }
}
