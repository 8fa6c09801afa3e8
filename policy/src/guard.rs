//! What many rules ask of a connection in the same words is asked once.
//!
//! A rule whose groups ask either of the connection alone or of the request alone can be made ready for requests once for
//! all connections, behind a guard: the groups about the connection. Where thousands of rules have one guard (one namespace,
//! a thousand paths), a new caller costs one look at it, and not a copy of the rules. Rules that few others are guarded like
//! are better found by the index and reduced.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use crate::model::{AnyCondition, Clause, Rule};
use crate::request::{ConnectionFacts, Protocol};
use crate::residual::ResidualRule;
use crate::set::nobody;

/// A guard is worth it for more rules than these.
const GUARDED: usize = if cfg!(test) { 2 } else { 256 };

/// Which guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guard(u32);

/// The guards of a set's rules.
#[derive(Debug, Default)]
pub(crate) struct Guards {
    /// By the rules' numbers; empty where there are no guards.
    of: Box<[Option<Guard>]>,
    /// For each guard a rule that has it.
    samples: Box<[u32]>,
}

/// Which guards a connection passes.
#[derive(Debug, Default)]
pub(crate) struct Opened(Box<[bool]>);

impl Guards {
    /// Of rules, given in their order.
    pub(crate) fn new<'a>(rules: impl Iterator<Item = &'a Rule> + Clone) -> Guards {
        #[expect(
            clippy::mutable_key_type,
            reason = "only what is asked of connections is hashed, and nothing in that changes"
        )]
        let mut same: HashMap<Asked<'_>, Vec<u32>> = HashMap::new();
        for (number, rule) in (0..).zip(rules.clone()) {
            if is_separable(rule) {
                same.entry(Asked(rule)).or_default().push(number);
            }
        }
        same.retain(|_, rules| rules.len() > GUARDED);
        if same.is_empty() {
            return Guards::default();
        }
        let mut of = vec![None; rules.count()];
        let mut samples = Vec::with_capacity(same.len());
        for (guard, numbers) in (0..).map(Guard).zip(same.into_values()) {
            samples.extend(numbers.first());
            for number in numbers {
                if let Some(of) = of.get_mut(number as usize) {
                    *of = Some(guard);
                }
            }
        }
        Guards { of: of.into(), samples: samples.into() }
    }

    /// The guard of a rule, if it has one.
    pub(crate) fn of(&self, number: u32) -> Option<Guard> {
        self.of.get(number as usize).copied().flatten()
    }

    /// Which of them the connection passes.
    pub(crate) fn open<'a>(&self, rule: impl Fn(u32) -> &'a Rule, facts: &ConnectionFacts<'_>) -> Opened {
        let passes =
            |number: &u32| rule(*number).groups().filter(|group| answers(group)).all(|group| holds(group, facts));
        Opened(self.samples.iter().map(passes).collect())
    }
}

impl Opened {
    /// Whether nothing keeps the rule from matching on this connection.
    pub(crate) fn has(&self, rule: &ResidualRule) -> bool {
        rule.guard.is_none_or(|guard| self.0.get(guard.0 as usize).copied().unwrap_or(false))
    }
}

/// Whether a group asks of the connection alone.
pub(crate) fn answers(group: &[Clause]) -> bool {
    group.iter().flatten().all(|condition| matches!(condition, AnyCondition::Connection(_)))
}

fn holds(group: &[Clause], facts: &ConnectionFacts<'_>) -> bool {
    let condition_holds = |condition: &AnyCondition| match condition {
        AnyCondition::Connection(condition) => condition.holds(facts),
        AnyCondition::Request(_) => false,
    };
    group.iter().any(|clause| clause.iter().all(condition_holds))
}

/// Whether each group asks of one of the two alone, both are asked, and the request is needed for what is asked of it.
fn is_separable(rule: &Rule) -> bool {
    let (mut connection, mut request) = (false, false);
    for group in rule.groups() {
        let open = |condition: &AnyCondition| match condition {
            AnyCondition::Connection(_) => false,
            AnyCondition::Request(condition) => {
                !condition.test.may_be_settled() && condition.settled(&nobody(Protocol::Http)).is_none()
            }
        };
        if answers(group) {
            connection = true;
        } else if group.iter().all(|clause| !clause.is_empty() && clause.iter().all(open)) {
            request = true;
        } else {
            return false;
        }
    }
    connection && request
}

/// A rule as far as it asks of a connection, for comparing.
struct Asked<'a>(&'a Rule);

impl Asked<'_> {
    fn groups(&self) -> impl Iterator<Item = &[Clause]> {
        self.0.groups().filter(|group| answers(group))
    }
}

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for condition in self.groups().flatten().flatten() {
            if let AnyCondition::Connection(condition) = condition {
                (condition.negated, &condition.test).hash(state);
            }
        }
    }
}

impl PartialEq for Asked<'_> {
    fn eq(&self, other: &Self) -> bool {
        let same_condition = |pair: (&AnyCondition, &AnyCondition)| match pair {
            (AnyCondition::Connection(one), AnyCondition::Connection(other)) => {
                one.negated == other.negated && one.test == other.test
            }
            _ => false,
        };
        let same_clause =
            |(one, other): (&Clause, &Clause)| one.len() == other.len() && one.iter().zip(other).all(same_condition);
        let same_group =
            |(one, other): (&[Clause], &[Clause])| one.len() == other.len() && one.iter().zip(other).all(same_clause);
        self.groups().count() == other.groups().count() && self.groups().zip(other.groups()).all(same_group)
    }
}

impl Eq for Asked<'_> {}

#[cfg(test)]
mod tests;
