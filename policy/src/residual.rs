//! What is left of the policies once a connection's facts are put in.
//!
//! A rule is a conjunction of groups (`from`, `to`, `when`), a group a choice of clauses, a clause a conjunction of
//! conditions. All three levels lie in flat vectors, and a level refers to the one below by a span, so that a rule is
//! tried without following a tree of pointers and made without an allocation of its own. Where many rules of a kind are
//! left, they have an index by what they ask of a request.

use std::ops::Range;
use std::sync::Arc;

use crate::condition::{Condition, RequestTest};
use crate::guard::{self, Guard, Opened};
use crate::index::Index;
use crate::model::{Action, AnyCondition, Clause, Family, Policy};
use crate::request::{ConnectionFacts, Protocol, RequestView};
use crate::set::CompiledRule;

/// Up to so many rules are tried faster than looked up. Tests look up almost everything.
const TRIED: usize = if cfg!(test) { 3 } else { 16 };

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Custom,
    Deny,
    Allow,
    Audit,
    DryRunDeny,
    DryRunAllow,
    /// TrafficTargets.
    Target,
}

/// Some of the kinds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kinds(u8);

/// Rules by what they do, and the vectors they lie in.
#[derive(Debug, Default)]
pub(crate) struct Program {
    custom: Section,
    deny: Section,
    allow: Section,
    audit: Section,
    dry_run_deny: Section,
    dry_run_allow: Section,
    target: Section,
    groups: Vec<Span>,
    clauses: Vec<Span>,
    conditions: Vec<Arc<Condition<RequestTest>>>,
}

/// The rules of one kind that may still match, in the order in which they are tried.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// Nothing follows a rule that always matches.
    rules: Vec<ResidualRule>,
    /// By their places in `rules`.
    index: Option<Box<Index>>,
    /// The unconditional DENY rule that yields to ALLOW rules.
    baseline: Option<u32>,
}

/// A rule of which something is left, or nothing: then it always matches.
#[derive(Clone, Debug)]
pub(crate) struct ResidualRule {
    /// Which of the set's rules.
    pub(crate) number: u32,
    /// Where it stands only on connections for which this guard is open.
    pub(crate) guard: Option<Guard>,
    groups: Span,
}

type Span = Range<u32>;

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

impl Kind {
    const ALL: [Kind; 7] =
        [Kind::Custom, Kind::Deny, Kind::Allow, Kind::Audit, Kind::DryRunDeny, Kind::DryRunAllow, Kind::Target];

    /// Of a policy's rules.
    pub(crate) fn of(policy: &Policy) -> Kind {
        match (policy.action, policy.dry_run) {
            (Action::Allow, _) if policy.family == Family::Smi => Kind::Target,
            (Action::Custom, _) => Kind::Custom,
            (Action::Deny, false) => Kind::Deny,
            (Action::Deny, true) => Kind::DryRunDeny,
            (Action::Allow, false) => Kind::Allow,
            (Action::Allow, true) => Kind::DryRunAllow,
            (Action::Audit, _) => Kind::Audit,
        }
    }

    /// Whether a match lets in.
    pub(crate) fn lets_in(self) -> bool {
        matches!(self, Kind::Allow | Kind::DryRunAllow | Kind::Target)
    }
}

impl Kinds {
    pub(crate) fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    pub(crate) fn set(&mut self, kind: Kind, present: bool) {
        let bit = 1 << kind as u8;
        self.0 = if present { self.0 | bit } else { self.0 & !bit };
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Kinds {
        kinds.into_iter().fold(Kinds::default(), |mut all, kind| {
            all.set(kind, true);
            all
        })
    }
}

impl ResidualRule {
    /// Whether it matches every request. A guarded rule never does.
    pub(crate) fn always(&self) -> bool {
        self.groups.is_empty()
    }
}

impl Section {
    /// In their order.
    pub(crate) fn rules(&self) -> &[ResidualRule] {
        &self.rules
    }

    /// The one that matches every request.
    pub(crate) fn always(&self) -> Option<&ResidualRule> {
        self.rules.last().filter(|rule| rule.always())
    }

    /// The unconditional DENY rule that yields to ALLOW rules.
    pub(crate) fn baseline(&self) -> Option<u32> {
        self.baseline
    }

    /// Hands over rules that may match the request, more likely ones first.
    pub(crate) fn likely(&self, request: &RequestView<'_>, mut each: impl FnMut(&ResidualRule)) {
        match &self.index {
            Some(index) => index.candidates(request, |places| {
                places.iter().filter_map(|place| self.rules.get(*place as usize)).for_each(&mut each);
            }),
            None => self.rules.iter().for_each(each),
        }
    }
}

impl Program {
    pub(crate) fn section(&self, kind: Kind) -> &Section {
        match kind {
            Kind::Custom => &self.custom,
            Kind::Deny => &self.deny,
            Kind::Allow => &self.allow,
            Kind::Audit => &self.audit,
            Kind::DryRunDeny => &self.dry_run_deny,
            Kind::DryRunAllow => &self.dry_run_allow,
            Kind::Target => &self.target,
        }
    }

    fn section_mut(&mut self, kind: Kind) -> &mut Section {
        match kind {
            Kind::Custom => &mut self.custom,
            Kind::Deny => &mut self.deny,
            Kind::Allow => &mut self.allow,
            Kind::Audit => &mut self.audit,
            Kind::DryRunDeny => &mut self.dry_run_deny,
            Kind::DryRunAllow => &mut self.dry_run_allow,
            Kind::Target => &mut self.target,
        }
    }

    /// How many rules are left, of all kinds.
    pub(crate) fn len(&self) -> usize {
        Kind::ALL.into_iter().map(|kind| self.section(kind).rules.len()).sum()
    }

    /// Adds what this connection leaves of a rule that comes after all that were added before. What a guard answers is left
    /// out.
    pub(crate) fn add(
        &mut self,
        number: u32,
        compiled: CompiledRule<'_>,
        facts: &ConnectionFacts<'_>,
        guard: Option<Guard>,
    ) {
        let kind = Kind::of(compiled.policy);
        if self.section(kind).always().is_some() {
            return;
        }
        let start = position(&self.groups);
        if self.reduce(compiled, facts, guard.is_some()) == Left::Never {
            return;
        }
        let rule = ResidualRule { number, guard, groups: start..position(&self.groups) };
        let section = self.section_mut(kind);
        if compiled.baseline {
            section.baseline.get_or_insert(number);
        } else {
            section.rules.push(rule);
        }
    }

    /// Makes the index, once all rules were added.
    pub(crate) fn finish(&mut self) {
        for kind in Kind::ALL {
            let rules = &self.section(kind).rules;
            if rules.len() > TRIED {
                let index = Index::new(0..position(rules), |place| self.groups_of(at(rules, &(place..place + 1))));
                let section = self.section_mut(kind);
                section.index = Some(Box::new(index));
                // It is kept for as long as connections are; of a few rules the rest is not worth the moving.
                section.rules.shrink_to_fit();
                self.groups.shrink_to_fit();
                self.clauses.shrink_to_fit();
                self.conditions.shrink_to_fit();
            }
        }
    }

    /// The first rule of a kind, among those with a number below `before`, that matches the request.
    pub(crate) fn first(&self, kind: Kind, request: &RequestView<'_>, before: u32, open: &Opened) -> Option<u32> {
        let section = self.section(kind);
        let Some(index) = &section.index else {
            let mut earlier = section.rules.iter().take_while(|rule| rule.number < before);
            return earlier.find(|rule| open.has(rule) && self.matches(rule, request)).map(|rule| rule.number);
        };
        let matches = |place: u32| {
            let rule = section.rules.get(place as usize);
            rule.is_some_and(|rule| rule.number < before && open.has(rule) && self.matches(rule, request))
        };
        let place = index.first(request, matches)?;
        section.rules.get(place as usize).map(|rule| rule.number)
    }

    /// The first rule of a kind that matches, as `holds` has it for each condition; tries them all, without the index.
    pub(crate) fn first_by(
        &self,
        kind: Kind,
        open: &Opened,
        holds: impl Fn(&Condition<RequestTest>) -> bool,
    ) -> Option<u32> {
        let mut rules = self.section(kind).rules.iter();
        rules.find(|rule| open.has(rule) && self.matches_by(rule, &holds)).map(|rule| rule.number)
    }

    /// Whether the rule matches the request.
    fn matches(&self, rule: &ResidualRule, request: &RequestView<'_>) -> bool {
        self.matches_by(rule, |condition| condition.holds(request))
    }

    fn matches_by(&self, rule: &ResidualRule, holds: impl Fn(&Condition<RequestTest>) -> bool) -> bool {
        let all = |clause: &Span| at(&self.conditions, clause).iter().all(|condition| holds(condition));
        at(&self.groups, &rule.groups).iter().all(|group| at(&self.clauses, group).iter().any(all))
    }

    /// What a rule asks of a request, as the index wants it.
    fn groups_of<'a>(
        &'a self,
        rule: &'a [ResidualRule],
    ) -> impl Iterator<Item = impl Iterator<Item = impl Iterator<Item = Option<crate::index::Ask<'a>>>>> {
        let asks = |clause: &'a Span| at(&self.conditions, clause).iter().map(|condition| condition.ask());
        let groups = rule.iter().flat_map(|rule| at(&self.groups, &rule.groups));
        groups.map(move |group| at(&self.clauses, group).iter().map(asks))
    }

    fn reduce(&mut self, compiled: CompiledRule<'_>, facts: &ConnectionFacts<'_>, guarded: bool) -> Left {
        if facts.protocol == Protocol::Tcp && compiled.policy.action == Action::Allow && compiled.rule.needs_http() {
            return Left::Never;
        }
        let (groups, clauses, conditions) = (self.groups.len(), self.clauses.len(), self.conditions.len());
        let mut left = Left::Always;
        for group in compiled.rule.groups().filter(|group| !(guarded && guard::answers(group))) {
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
        let start = position(&self.clauses);
        for clause in group {
            if self.reduce_clause(clause, facts) == Left::Always {
                return Left::Always;
            }
        }
        let end = position(&self.clauses);
        if end == start {
            return Left::Never;
        }
        self.groups.push(start..end);
        Left::Some
    }

    fn reduce_clause(&mut self, clause: &Clause, facts: &ConnectionFacts<'_>) -> Left {
        let start = position(&self.conditions);
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
        let end = position(&self.conditions);
        if end == start {
            return Left::Always;
        }
        self.clauses.push(start..end);
        Left::Some
    }
}

/// Where the next item of a vector will stand.
#[expect(clippy::expect_used, reason = "four thousand million conditions would not fit in memory")]
fn position<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).expect("fewer items than memory has room for")
}

/// The part of a vector that a span of the same program stands for.
#[expect(clippy::indexing_slicing, reason = "a span and its vector are made together, above; refusing beats guessing")]
fn at<'a, T>(items: &'a [T], span: &Span) -> &'a [T] {
    &items[span.start as usize..span.end as usize]
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
        let numbers = set.compiled.numbers();
        numbers.for_each(|number| program.add(number, set.compiled.rule(number), &call.facts(), None));
        program
    }

    #[test]
    fn keeps_only_what_depends_on_the_request() {
        let from = |namespace: &str| json!([{"source": {"namespaces": [namespace], "remoteIpBlocks": ["10.0.0.1"]}}]);
        let to = json!([{"operation": {"methods": ["GET"], "paths": ["/a"]}}, {"operation": {"methods": ["PUT"], "ports": ["1"]}}]);
        let rules = json!([{"from": from("other"), "to": to}, {"to": to, "from": from("default")}]);
        let program = reduced(&rules, &Call::get("/"));
        assert_eq!(program.allow.rules.len(), 1);
        assert_eq!(program.allow.rules[0].number, 1);
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
        assert_eq!(program.allow.rules.iter().map(|rule| rule.number).collect::<Vec<_>>(), [1]);
        assert!(program.allow.rules[0].always());
        assert!(program.groups.is_empty() && program.clauses.is_empty() && program.conditions.is_empty());
    }
}
