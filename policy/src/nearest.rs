//! What would have matched: the rule that let a request in but for the fewest conditions.
//!
//! Asked only after a refusal for want of a match, and bounded: a refused caller cannot make it expensive.

use crate::condition::Condition;
use crate::decision::{Decision, Reason, RuleRef};
use crate::eval::Residual;
use crate::field::Field;
use crate::model::{AnyCondition, Clause, Rule};
use crate::request::{ConnectionFacts, RequestView};
use crate::residual::Kind;

/// So many rules are looked at.
const LOOKS_MAX: usize = 64;

/// A rule that did not match, and the first of its fields that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearest<'a> {
    /// The rule.
    pub rule: RuleRef<'a>,
    /// Where in the rule; `Display` writes `to[0].operation.methods`.
    pub field: &'a Field,
}

impl std::fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.field)
    }
}

impl Residual {
    /// The rule that failed in the fewest conditions, where a request was refused because no ALLOW rule, or no
    /// TrafficTarget, matched; of several the first. At most 64 rules are looked at: first those that ask for something
    /// the request has, then those that the caller's identity leaves, and all rules only where it leaves none. `facts` are
    /// those the residual was made for. Does not allocate.
    pub fn nearest<'a>(
        &'a self,
        decision: &Decision<'_>,
        facts: &ConnectionFacts<'_>,
        request: Option<&RequestView<'_>>,
    ) -> Option<Nearest<'a>> {
        let kind = match decision.reason {
            Reason::NoAllowMatched | Reason::CatchAllDeny => Kind::Allow,
            Reason::NoTargetMatched => Kind::Target,
            _ => return None,
        };
        let mut search = Search { residual: self, facts, request, left: LOOKS_MAX, best: None };
        let sections = [self.own(kind), self.shared(kind)];
        if let Some(request) = request {
            sections.iter().for_each(|section| section.likely(request, |rule| search.look_at(rule.number)));
        }
        sections
            .iter()
            .flat_map(|section| section.rules())
            .take(LOOKS_MAX)
            .for_each(|rule| search.look_at(rule.number));
        if search.best.is_none() {
            let numbers = self.compiled().numbers();
            let wanted = numbers.filter(|number| Kind::of(self.compiled().rule(*number).policy) == kind);
            wanted.take(LOOKS_MAX).for_each(|number| search.look_at(number));
        }
        search.best.map(|best| Nearest { rule: self.compiled().rule(best.number).name(), field: best.field })
    }
}

struct Search<'a, 'b> {
    residual: &'a Residual,
    facts: &'b ConnectionFacts<'b>,
    request: Option<&'b RequestView<'b>>,
    left: usize,
    best: Option<Miss<'a>>,
}

#[derive(Clone, Copy)]
struct Miss<'a> {
    failed: usize,
    number: u32,
    field: &'a Field,
}

impl<'a> Search<'a, '_> {
    fn look_at(&mut self, number: u32) {
        let Some(left) = self.left.checked_sub(1) else { return };
        self.left = left;
        if let Some((failed, field)) = self.rule(self.residual.compiled().rule(number).rule) {
            let nearer = self.best.is_none_or(|best| (failed, number) < (best.failed, best.number));
            if nearer {
                self.best = Some(Miss { failed, number, field });
            }
        }
    }

    /// How many conditions failed, in the best alternative of each part, and the first of them.
    fn rule(&self, rule: &'a Rule) -> Option<(usize, &'a Field)> {
        let failed = rule.groups().filter_map(|group| self.group(group));
        failed.reduce(|(sum, first), (failed, _)| (sum + failed, first))
    }

    fn group(&self, group: &'a [Clause]) -> Option<(usize, &'a Field)> {
        let mut best: Option<(usize, &'a Field)> = None;
        for clause in group {
            // A clause that holds is no miss.
            let (failed, field) = self.clause(clause)?;
            if best.is_none_or(|(fewest, _)| failed < fewest) {
                best = Some((failed, field));
            }
        }
        best
    }

    fn clause(&self, clause: &'a Clause) -> Option<(usize, &'a Field)> {
        let mut failed = clause.iter().filter(|condition| !self.holds(condition)).map(AnyCondition::field);
        let first = failed.next()?;
        Some((1 + failed.count(), first))
    }

    fn holds(&self, condition: &AnyCondition) -> bool {
        match condition {
            AnyCondition::Connection(condition) => condition.holds(self.facts),
            AnyCondition::Request(condition) => {
                // On TCP an ALLOW rule is void for a field that needs HTTP.
                let void = self.request.is_none() && condition.test.http_only();
                let settled = || Condition::settled(condition, self.facts);
                !void && settled().or(self.request.map(|request| condition.holds(request))).unwrap_or(false)
            }
        }
    }
}

#[cfg(test)]
mod tests;
