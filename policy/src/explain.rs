//! The verdict for one request, and why, rule by rule.
//!
//! The rules are walked condition by condition over the same compiled structures that [`PolicySet::reduce`] works on,
//! slowly and in full, so that the part of a rule that failed can be named. For people, and as JSON for machines.

mod text;

use serde::Serialize;

use crate::condition::{Condition, ConnectionTest};
use crate::custom::Standing;
use crate::decision::{Decision, Reason, RuleRef, Verdict};
use crate::eval::Custom;
use crate::model::{Action, AnyCondition, Clause, Family, Policy, Rule};
use crate::request::{ConnectionFacts, Protocol, RequestView};
use crate::set::{CompiledRule, PolicySet};

/// What was decided and what every policy that selects the workload had to say. `Display` is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What happens.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The family that decided.
    pub family: Family,
    /// The deciding rule; `None` where it was the absence of a match that decided.
    pub rule: Option<RuleName>,
    /// The TrafficTarget that lets it in, where an ALLOW policy had to do so as well.
    pub target: Option<RuleName>,
    /// The CUSTOM rule that asks a provider first; the verdict is the one after a yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<Asks>,
    /// The first AUDIT rule that matched.
    pub audit: Option<RuleName>,
    /// What the dry-run ALLOW policies alone would say.
    pub dry_run_allow: Option<WouldBe>,
    /// What the dry-run DENY policies alone would say.
    pub dry_run_deny: Option<WouldBe>,
    /// The rule that came nearest to letting in, where none did.
    pub nearest: Option<NearestMiss>,
    /// In the order in which their rules are reported.
    pub policies: Vec<PolicyExplanation>,
}

/// A [`RuleRef`] that owns its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleName {
    /// `namespace/name`
    pub policy: String,
    /// Its index, from 0.
    pub rule: usize,
}

/// A provider that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asks {
    /// Its name, as the policy has it.
    pub provider: String,
    /// The rule that asks.
    pub rule: RuleName,
    /// Why it cannot be asked: then the verdict is a refusal.
    pub fault: Option<String>,
}

/// A rule that did not match, and the first of its fields that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NearestMiss {
    /// The rule.
    pub rule: RuleName,
    /// `to[0].operation.methods`
    pub field: String,
}

/// What a dry run says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WouldBe {
    /// What would happen.
    pub verdict: Verdict,
    /// The rule that would decide.
    pub rule: Option<RuleName>,
}

/// What one policy had to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyExplanation {
    /// `AuthorizationPolicy` or `TrafficTarget`
    pub kind: &'static str,
    /// `namespace/name`
    pub policy: String,
    /// Where it comes from.
    pub family: Family,
    /// What a match means.
    pub action: Action,
    /// Whether it is only tried out.
    pub dry_run: bool,
    /// Why it could not be read, if so.
    pub unreadable: Option<String>,
    /// Every rule; a policy without rules matches nothing.
    pub rules: Vec<RuleExplanation>,
}

/// What one rule had to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleExplanation {
    /// Its index, from 0.
    pub rule: usize,
    /// Whether it matched.
    pub outcome: Outcome,
    /// An unconditional DENY rule that yields to ALLOW rules.
    pub baseline: bool,
    /// What made it so: where the rule did not match, the first condition that failed in each alternative of the first
    /// part that failed; where it matched on TCP, the fields that were left out.
    pub because: Vec<Finding>,
}

/// Whether a rule matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did.
    Matched,
    /// It did not.
    NotMatched,
    /// An ALLOW rule that needs HTTP, or a CUSTOM rule whose provider does, on a TCP connection.
    Void,
    /// No request was given, and it depends on one.
    NeedsRequest,
}

/// One field of a rule and what was found there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `to[0].operation.methods`
    pub field: String,
    /// `GET not in [POST]`
    pub found: String,
}

impl PolicySet {
    /// Decides, and says why. Without a request on an HTTP connection the verdict is that of
    /// [`Residual::decide_connection`](crate::Residual::decide_connection).
    pub fn explain(&self, facts: &ConnectionFacts<'_>, request: Option<&RequestView<'_>>) -> Explanation {
        let residual = self.reduce(facts);
        let custom = request.map_or_else(|| residual.custom_connection(), |request| residual.custom(request));
        let decision = match custom {
            Some(Custom { rule, fault: Some(_), .. }) => Decision::refused(Reason::CustomFailed, Some(rule)),
            _ => request.map_or_else(|| residual.decide_connection(), |request| residual.decide(request)),
        };
        let would_be =
            |(verdict, rule): (Verdict, Option<RuleRef<'_>>)| WouldBe { verdict, rule: rule.map(RuleName::from) };
        let walk = Walk { facts, request, custom: self.compiled.asked.standing(facts) };
        let nearest = residual.nearest(&decision, facts, request);
        Explanation {
            verdict: decision.verdict,
            reason: decision.reason,
            family: decision.family,
            rule: decision.rule.map(RuleName::from),
            target: decision.target.map(RuleName::from),
            asks: custom.map(Asks::from),
            audit: decision.audit.map(RuleName::from),
            dry_run_allow: decision.dry_run_allow.map(would_be),
            dry_run_deny: decision.dry_run_deny.map(would_be),
            nearest: nearest.map(|miss| NearestMiss { rule: RuleName::from(miss.rule), field: miss.field.to_string() }),
            policies: self.compiled.policies().map(|(policy, rules)| walk.policy(policy, rules)).collect(),
        }
    }
}

/// What the rules are held against.
struct Walk<'a> {
    facts: &'a ConnectionFacts<'a>,
    request: Option<&'a RequestView<'a>>,
    custom: Standing,
}

/// What became of a clause or a group.
enum Found {
    Holds,
    Depends(Vec<Finding>),
    Fails(Vec<Finding>),
}

impl Walk<'_> {
    fn policy<'r>(&self, policy: &Policy, rules: impl Iterator<Item = CompiledRule<'r>>) -> PolicyExplanation {
        PolicyExplanation {
            kind: policy.kind(),
            policy: policy.name.to_string(),
            family: policy.family,
            action: policy.action,
            dry_run: policy.dry_run,
            unreadable: policy.unreadable.clone(),
            rules: match policy.action == Action::Custom && self.custom == Standing::PassedOver {
                true => rules.map(|rule| without_provider(rule.index)).collect(),
                false => rules.map(|rule| self.rule(rule)).collect(),
            },
        }
    }

    fn rule(&self, compiled: CompiledRule<'_>) -> RuleExplanation {
        let (outcome, because) = self.outcome(compiled.rule, compiled.policy.action);
        RuleExplanation { rule: compiled.index, outcome, baseline: compiled.baseline, because }
    }

    fn outcome(&self, rule: &Rule, action: Action) -> (Outcome, Vec<Finding>) {
        let left_out = self.without_http(rule, "needs HTTP: left out on a TCP connection");
        if action == Action::Allow && !left_out.is_empty() {
            let void = "needs HTTP: the whole rule is void on a TCP connection";
            return (Outcome::Void, self.without_http(rule, void));
        }
        let mut depends = None;
        for group in rule.groups() {
            match self.group(group) {
                Found::Fails(because) => return (Outcome::NotMatched, because),
                Found::Depends(because) => depends = depends.or(Some(because)),
                Found::Holds => {}
            }
        }
        depends.map_or((Outcome::Matched, left_out), |because| (Outcome::NeedsRequest, because))
    }

    /// The fields that have nothing to look at on this connection.
    fn without_http(&self, rule: &Rule, found: &str) -> Vec<Finding> {
        let conditions =
            rule.conditions().filter(|condition| self.facts.protocol == Protocol::Tcp && condition.http_only());
        conditions.map(|condition| Finding { field: condition.field().to_string(), found: found.to_owned() }).collect()
    }

    fn group(&self, group: &[Clause]) -> Found {
        let (mut depends, mut fails) = (Vec::new(), Vec::new());
        for clause in group {
            match self.clause(clause) {
                Found::Holds => return Found::Holds,
                Found::Depends(because) => depends.extend(because),
                Found::Fails(because) => fails.extend(because),
            }
        }
        if depends.is_empty() { Found::Fails(fails) } else { Found::Depends(depends) }
    }

    fn clause(&self, clause: &Clause) -> Found {
        let mut depends = Vec::new();
        for condition in clause {
            let (holds, found) = match condition {
                AnyCondition::Connection(condition) if matches!(condition.test, ConnectionTest::Nothing) => {
                    let (field, found) = (condition.field.to_string(), condition.values.join(", "));
                    (Some(false), Finding { field, found })
                }
                AnyCondition::Connection(condition) => {
                    (Some(condition.holds(self.facts)), finding(condition, Some(condition.test.seen(self.facts))))
                }
                AnyCondition::Request(condition) => {
                    let holds = condition.settled(self.facts).or(self.request.map(|request| condition.holds(request)));
                    (holds, finding(condition, condition.test.seen(self.facts, self.request)))
                }
            };
            match holds {
                Some(true) => {}
                Some(false) => return Found::Fails(vec![found]),
                None => depends.push(found),
            }
        }
        if depends.is_empty() { Found::Holds } else { Found::Depends(depends) }
    }
}

/// A rule whose provider cannot be asked about a TCP connection.
fn without_provider(index: usize) -> RuleExplanation {
    let found = "its provider speaks HTTP: ignored on a TCP connection".to_owned();
    let because = vec![Finding { field: "provider".to_owned(), found }];
    RuleExplanation { rule: index, outcome: Outcome::Void, baseline: false, because }
}

/// Words a condition that does not hold, or that `seen` is missing for.
fn finding<T>(condition: &Condition<T>, seen: Option<String>) -> Finding {
    let values = condition.values.join(", ");
    let found = match seen {
        Some(seen) if condition.negated => format!("{seen} in [{values}]"),
        Some(seen) => format!("{seen} not in [{values}]"),
        None => "depends on the request".to_owned(),
    };
    Finding { field: condition.field.to_string(), found }
}

impl From<Custom<'_>> for Asks {
    fn from(custom: Custom<'_>) -> Asks {
        let fault = custom.fault.map(|fault| fault.to_string());
        Asks { provider: custom.provider.to_owned(), rule: custom.rule.into(), fault }
    }
}

impl From<RuleRef<'_>> for RuleName {
    fn from(rule: RuleRef<'_>) -> RuleName {
        RuleName { policy: rule.policy.to_string(), rule: rule.rule }
    }
}
