//! The order in which policies decide: DENY, then ALLOW, and AUDIT and dry runs beside them.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use http::HeaderName;

use crate::condition::{Condition, RequestTest};
use crate::custom::{ProviderFault, Standing};
use crate::decision::{Decision, Reason, RuleRef, Verdict};
use crate::guard::Opened;
use crate::model::{Action, Family, Policy, Rule};
use crate::request::{ConnectionFacts, Protocol, RequestView};
use crate::residual::{Kind, Program, ResidualRule, Section};
use crate::set::{Compiled, CompiledRule};

/// The policies of a workload as far as they depend on the request, for one connection. A clone is a reference.
#[derive(Clone)]
pub struct Residual(Arc<Left>);

struct Left {
    compiled: Arc<Compiled>,
    protocol: Protocol,
    /// How the CUSTOM rules stand on this connection.
    custom: Standing,
    /// Beside the rules that all connections share.
    own: Program,
    /// Of the guards of shared rules.
    open: Opened,
}

impl Residual {
    pub(crate) fn new(compiled: Arc<Compiled>, facts: &ConnectionFacts<'_>, own: Program, open: Opened) -> Residual {
        let custom = compiled.asked.standing(facts);
        Residual(Arc::new(Left { compiled, protocol: facts.protocol, custom, own, open }))
    }

    /// The verdict on a request. Does not allocate.
    pub fn decide(&self, request: &RequestView<'_>) -> Decision<'_> {
        let Ok(decision) = self.conclude(|kind| Ok::<_, Infallible>(self.first(kind, request)));
        decision
    }

    /// The headers that any policy of the set asks about: what has to be kept of a request's headers to decide on it again.
    pub fn headers(&self) -> &Arc<[HeaderName]> {
        &self.0.compiled.headers
    }

    /// The verdict on a request of which only the headers named in `kept` are still there. A condition on another header is
    /// taken the way that refuses: as met in a DENY rule, as not met in an ALLOW rule.
    pub fn decide_again(&self, request: &RequestView<'_>, kept: &[HeaderName]) -> Decision<'_> {
        if self.headers().iter().all(|name| kept.contains(name)) {
            return self.decide(request);
        }
        let Left { compiled, protocol, own, open, .. } = &*self.0;
        let Ok(decision) = self.conclude(|kind| {
            let holds = |condition: &Condition<RequestTest>| match condition.header() {
                Some(name) if !kept.contains(name) => !kind.lets_in(),
                _ => condition.holds(request),
            };
            let shared = compiled.shared(*protocol);
            Ok::<_, Infallible>(earlier(own.first_by(kind, open, holds), shared.first_by(kind, open, holds)))
        });
        decision
    }

    /// The verdict on a connection whose requests are not seen. Without a request, a condition that needs one is taken
    /// the way that refuses: as met in a DENY rule, as not met in an ALLOW rule. After a reduction for
    /// [`Protocol::Tcp`](crate::Protocol::Tcp) there is no such condition.
    pub fn decide_connection(&self) -> Decision<'_> {
        let Ok(decision) = self.conclude(|kind| {
            let of = |section: &Section| {
                let rule = if kind.lets_in() { section.always() } else { self.first_open(section) };
                rule.map(|rule| rule.number)
            };
            Ok::<_, Infallible>(earlier(of(self.own(kind)), of(self.shared(kind))))
        });
        decision
    }

    /// The decision on every request there can be, when it is the same for all of them: in its verdict, in the rules
    /// it names, and in what AUDIT and dry-run policies say.
    pub fn fixed(&self) -> Option<Decision<'_>> {
        let decision = self.conclude(|kind| {
            let first = [self.own(kind), self.shared(kind)].into_iter().filter_map(|section| self.first_open(section));
            match first.min_by_key(|rule| rule.number) {
                Some(rule) if !rule.always() => Err(DependsOnRequest),
                first => Ok(first.map(|rule| rule.number)),
            }
        });
        decision.ok()
    }

    /// Whether any request of this connection may have to be asked about.
    pub fn may_ask(&self) -> bool {
        let any = |section: &Section| !section.rules().is_empty();
        self.0.compiled.in_force.has(Kind::Custom) && (any(self.own(Kind::Custom)) || any(self.shared(Kind::Custom)))
    }

    /// The CUSTOM rule that matches, whose provider has to be asked before [`decide`](Residual::decide) is. Does not
    /// allocate.
    pub fn custom(&self, request: &RequestView<'_>) -> Option<Custom<'_>> {
        self.first(Kind::Custom, request).map(|number| self.asking(number))
    }

    /// The CUSTOM rule that matches on a connection whose requests are not seen.
    pub fn custom_connection(&self) -> Option<Custom<'_>> {
        if self.0.custom == Standing::PassedOver {
            return None;
        }
        let first = |section| self.first_open(section).map(|rule| rule.number);
        let number = earlier(first(self.own(Kind::Custom)), first(self.shared(Kind::Custom)))?;
        Some(self.asking(number))
    }

    /// How many rules of its own it keeps in memory, beside those that all residuals of the set share.
    pub fn weight(&self) -> usize {
        self.0.own.len()
    }

    pub(crate) fn compiled(&self) -> &Compiled {
        &self.0.compiled
    }

    /// What this connection leaves of the rules that ask something of it.
    pub(crate) fn own(&self, kind: Kind) -> &Section {
        self.0.own.section(kind)
    }

    /// What every connection leaves of the others.
    pub(crate) fn shared(&self, kind: Kind) -> &Section {
        self.0.compiled.shared(self.0.protocol).section(kind)
    }

    fn first(&self, kind: Kind, request: &RequestView<'_>) -> Option<u32> {
        let Left { compiled, protocol, own, open, .. } = &*self.0;
        if !compiled.in_force.has(kind) {
            return None;
        }
        let own = own.first(kind, request, u32::MAX, open);
        compiled.shared(*protocol).first(kind, request, own.unwrap_or(u32::MAX), open).or(own)
    }

    /// The first rule that may match on this connection.
    fn first_open<'a>(&self, section: &'a Section) -> Option<&'a ResidualRule> {
        section.rules().iter().find(|rule| self.0.open.has(rule))
    }

    fn rule(&self, number: u32) -> RuleRef<'_> {
        self.0.compiled.rule(number).name()
    }

    fn asking(&self, number: u32) -> Custom<'_> {
        let rule = self.0.compiled.rule(number);
        let provider = rule.policy.provider.as_deref().unwrap_or_default();
        Custom { provider, rule: rule.name(), fault: self.0.custom.fault() }
    }

    /// Asks the kinds in order; `first` finds the first rule of a kind that matches.
    fn conclude<E>(&self, first: impl Fn(Kind) -> Result<Option<u32>, E>) -> Result<Decision<'_>, E> {
        let in_force = self.0.compiled.in_force;
        let (verdict, reason, rule) = match first(Kind::Deny)? {
            Some(rule) => (Verdict::Deny, self.0.compiled.rule(rule).refusal(), Some(rule)),
            None => match first(Kind::Allow)? {
                Some(rule) => (Verdict::Allow, Reason::AllowRule, Some(rule)),
                None => self.unmatched(),
            },
        };
        let (family, verdict, reason, rule, target) = match (verdict, in_force.has(Kind::Target)) {
            (Verdict::Deny, _) | (Verdict::Allow, false) => (Family::Istio, verdict, reason, rule, None),
            (Verdict::Allow, true) => match (first(Kind::Target)?, reason) {
                (None, _) => (Family::Smi, Verdict::Deny, Reason::NoTargetMatched, None, None),
                (Some(target), Reason::AllowRule) => (Family::Istio, verdict, reason, rule, Some(target)),
                (Some(target), _) => (Family::Smi, verdict, Reason::TargetRule, Some(target), None),
            },
        };
        let would_allow = || first(Kind::DryRunAllow);
        let would_deny = || match (first(Kind::DryRunDeny)?, self.shared(Kind::DryRunDeny).baseline()) {
            (None, Some(baseline)) if first(Kind::Allow)?.is_none() && would_allow()?.is_none() => Ok(Some(baseline)),
            (rule, _) => Ok(rule),
        };
        let name = |rule: Option<u32>| rule.map(|number| self.rule(number));
        Ok(Decision {
            verdict,
            reason,
            family,
            rule: name(rule),
            target: name(target),
            audit: name(first(Kind::Audit)?),
            dry_run_allow: self.dry_run(Kind::DryRunAllow, would_allow, Verdict::Allow, Verdict::Deny)?,
            dry_run_deny: self.dry_run(Kind::DryRunDeny, would_deny, Verdict::Deny, Verdict::Allow)?,
        })
    }

    /// The verdict when no rule of a DENY and none of an ALLOW policy matched.
    fn unmatched(&self) -> (Verdict, Reason, Option<u32>) {
        let in_force = self.0.compiled.in_force;
        // A rule without conditions asks nothing of a connection.
        if let Some(baseline) = self.shared(Kind::Deny).baseline() {
            (Verdict::Deny, Reason::CatchAllDeny, Some(baseline))
        } else if in_force.has(Kind::Allow) {
            (Verdict::Deny, Reason::NoAllowMatched, None)
        } else if in_force.has(Kind::Deny) {
            (Verdict::Allow, Reason::NotDenied, None)
        } else {
            (Verdict::Allow, Reason::NoPolicy, None)
        }
    }

    /// What the dry-run policies of one action alone would say.
    fn dry_run<E>(
        &self,
        kind: Kind,
        find: impl FnOnce() -> Result<Option<u32>, E>,
        matched: Verdict,
        otherwise: Verdict,
    ) -> Result<Option<(Verdict, Option<RuleRef<'_>>)>, E> {
        if !self.0.compiled.in_force.has(kind) {
            return Ok(None);
        }
        let rule = find()?;
        let verdict = if rule.is_some() { matched } else { otherwise };
        Ok(Some((verdict, rule.map(|number| self.rule(number)))))
    }
}

/// The earlier of two rules, as far as there are any.
fn earlier(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    [one, other].into_iter().flatten().min()
}

/// An external provider that must be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Custom<'a> {
    /// The provider's name, as the policy has it.
    pub provider: &'a str,
    /// The rule that asks for it.
    pub rule: RuleRef<'a>,
    /// Why it cannot be asked: then the request is refused, [`Reason::CustomFailed`].
    pub fault: Option<ProviderFault>,
}

/// In short: the whole would be all policies.
impl fmt::Debug for Residual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Residual")
            .field("own_rules", &self.weight())
            .field("fixed", &self.fixed())
            .finish_non_exhaustive()
    }
}

/// Why [`Residual::fixed`] has no answer.
struct DependsOnRequest;

impl<'a> CompiledRule<'a> {
    pub(crate) fn name(&self) -> RuleRef<'a> {
        RuleRef { policy: &self.policy.name, rule: self.index }
    }

    /// What to say when this rule refuses.
    fn refusal(&self) -> Reason {
        if self.policy.unreadable.is_some() { Reason::Unreadable } else { Reason::DenyRule }
    }
}

impl Policy {
    /// Whether the rule, of this policy, refuses everything because it was written without any condition.
    pub(crate) fn is_catch_all(&self, rule: &Rule) -> bool {
        self.action == Action::Deny && self.unreadable.is_none() && rule.is_unconditional()
    }
}
