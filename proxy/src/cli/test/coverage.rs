//! Which rules the cases matched at least once.
//!
//! By the name of the policy: one that stands in the resources of several tests is one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshgate_policy::Policy;
use meshgate_policy::explain::Outcome;

use crate::judge::Answer;

/// By `namespace/name`.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    policies: BTreeMap<String, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Whether it selects the workload of any case.
    asked: bool,
    /// Index to whether it ever matched.
    rules: BTreeMap<usize, bool>,
}

/// What is left untested, in words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Rules that some case was held against.
    pub(super) rules: usize,
    /// Of these, those that matched.
    pub(super) matched: usize,
    /// `namespace/name rule N`
    pub(super) never_matched: BTreeSet<String>,
    /// Policies that select the workload of no case.
    pub(super) never_asked: BTreeSet<String>,
}

impl Coverage {
    /// These policies are there.
    pub(super) fn knows(&mut self, policies: &[Arc<Policy>]) {
        for policy in policies {
            self.policies.entry(policy.name().to_string()).or_default();
        }
    }

    /// A case was judged.
    pub(super) fn saw(&mut self, answer: &Answer) {
        for policy in answer.explanation.iter().flat_map(|explanation| &explanation.policies) {
            let seen = self.policies.entry(policy.policy.clone()).or_default();
            seen.asked = true;
            for rule in &policy.rules {
                *seen.rules.entry(rule.rule).or_default() |= rule.outcome == Outcome::Matched;
            }
        }
    }

    /// Over all cases so far.
    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for (name, seen) in &self.policies {
            if !seen.asked {
                summary.never_asked.insert(name.clone());
            }
            for (rule, matched) in &seen.rules {
                summary.rules += 1;
                if *matched {
                    summary.matched += 1;
                } else {
                    summary.never_matched.insert(format!("{name} rule {rule}"));
                }
            }
        }
        summary
    }
}
