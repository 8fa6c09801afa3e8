//! The order in which policies decide: DENY, then ALLOW, and AUDIT and dry runs beside them.

use std::convert::Infallible;
use std::sync::Arc;

use crate::custom::ProviderFault;
use crate::decision::{Decision, Reason, RuleRef, Verdict};
use crate::model::{Action, Family, Policy, Rule};
use crate::request::RequestView;
use crate::residual::{Program, ResidualRule, Section};

/// The policies of a workload as far as they depend on the request, for one connection. A clone is a reference.
#[derive(Clone, Debug)]
pub struct Residual {
    program: Arc<Program>,
}

impl Residual {
    pub(crate) fn new(program: Program) -> Residual {
        Residual { program: Arc::new(program) }
    }

    /// The verdict on a request. Does not allocate.
    pub fn decide(&self, request: &RequestView<'_>) -> Decision<'_> {
        let Ok(decision) = self.conclude(|section, _| {
            Ok::<_, Infallible>(section.rules.iter().find(|rule| self.program.matches(rule, request)))
        });
        decision
    }

    /// The verdict on a connection whose requests are not seen. Without a request, a condition that needs one is taken
    /// the way that refuses: as met in a DENY rule, as not met in an ALLOW rule. After a reduction for
    /// [`Protocol::Tcp`](crate::Protocol::Tcp) there is no such condition.
    pub fn decide_connection(&self) -> Decision<'_> {
        let Ok(decision) = self.conclude(|section, action| {
            let met = action != Action::Allow;
            Ok::<_, Infallible>(section.rules.iter().find(|rule| met || rule.always()))
        });
        decision
    }

    /// The decision on every request there can be, when it is the same for all of them: in its verdict, in the rules
    /// it names, and in what AUDIT and dry-run policies say.
    pub fn fixed(&self) -> Option<Decision<'_>> {
        let decision = self.conclude(|section, _| match section.rules.first() {
            Some(rule) if !rule.always() => Err(DependsOnRequest),
            first => Ok(first),
        });
        decision.ok()
    }

    /// Whether any request of this connection may have to be asked about.
    pub fn may_ask(&self) -> bool {
        !self.program.custom.rules.is_empty()
    }

    /// The CUSTOM rule that matches, whose provider has to be asked before [`decide`](Residual::decide) is. Does not
    /// allocate.
    pub fn custom(&self, request: &RequestView<'_>) -> Option<Custom<'_>> {
        self.program.custom.rules.iter().find(|rule| self.program.matches(rule, request)).map(|rule| self.ask(rule))
    }

    /// The CUSTOM rule that matches on a connection whose requests are not seen.
    pub fn custom_connection(&self) -> Option<Custom<'_>> {
        self.program.custom.rules.first().map(|rule| self.ask(rule))
    }

    fn ask<'a>(&'a self, rule: &'a ResidualRule) -> Custom<'a> {
        let provider = rule.policy.provider.as_deref().unwrap_or_default();
        Custom { provider, rule: rule.name(), fault: self.program.provider_fault }
    }

    /// Asks the sections in order; `first` finds the first rule of a section that matches.
    fn conclude<E>(
        &self,
        first: impl Fn(&Section, Action) -> Result<Option<&ResidualRule>, E>,
    ) -> Result<Decision<'_>, E> {
        let Program { deny, allow, audit, dry_run_deny, dry_run_allow, target, .. } = &*self.program;
        let (verdict, reason, rule) = match first(deny, Action::Deny)? {
            Some(rule) => (Verdict::Deny, rule.refusal(), Some(rule)),
            None => match first(allow, Action::Allow)? {
                Some(rule) => (Verdict::Allow, Reason::AllowRule, Some(rule)),
                None => unmatched(deny, allow),
            },
        };
        let (family, verdict, reason, rule, target) = match (verdict, target.in_force) {
            (Verdict::Deny, _) | (Verdict::Allow, false) => (Family::Istio, verdict, reason, rule, None),
            (Verdict::Allow, true) => match (first(target, Action::Allow)?, reason) {
                (None, _) => (Family::Smi, Verdict::Deny, Reason::NoTargetMatched, None, None),
                (Some(target), Reason::AllowRule) => (Family::Istio, verdict, reason, rule, Some(target)),
                (Some(target), _) => (Family::Smi, verdict, Reason::TargetRule, Some(target), None),
            },
        };
        let would_allow = || first(dry_run_allow, Action::Allow);
        let would_deny = || match (first(dry_run_deny, Action::Deny)?, &dry_run_deny.baseline) {
            (None, Some(baseline)) if first(allow, Action::Allow)?.is_none() && would_allow()?.is_none() => {
                Ok(Some(baseline))
            }
            (rule, _) => Ok(rule),
        };
        Ok(Decision {
            verdict,
            reason,
            family,
            rule: rule.map(ResidualRule::name),
            target: target.map(ResidualRule::name),
            audit: first(audit, Action::Audit)?.map(ResidualRule::name),
            dry_run_allow: dry_run(dry_run_allow, would_allow, Verdict::Allow, Verdict::Deny)?,
            dry_run_deny: dry_run(dry_run_deny, would_deny, Verdict::Deny, Verdict::Allow)?,
        })
    }
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

/// Why [`Residual::fixed`] has no answer.
struct DependsOnRequest;

impl ResidualRule {
    fn name(&self) -> RuleRef<'_> {
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

/// The verdict when no rule of a DENY and none of an ALLOW policy matched.
fn unmatched<'a>(deny: &'a Section, allow: &Section) -> (Verdict, Reason, Option<&'a ResidualRule>) {
    if let Some(baseline) = &deny.baseline {
        (Verdict::Deny, Reason::CatchAllDeny, Some(baseline))
    } else if allow.in_force {
        (Verdict::Deny, Reason::NoAllowMatched, None)
    } else if deny.in_force {
        (Verdict::Allow, Reason::NotDenied, None)
    } else {
        (Verdict::Allow, Reason::NoPolicy, None)
    }
}

/// What the dry-run policies of one action alone would say.
fn dry_run<'a, E>(
    section: &Section,
    find: impl FnOnce() -> Result<Option<&'a ResidualRule>, E>,
    matched: Verdict,
    otherwise: Verdict,
) -> Result<Option<(Verdict, Option<RuleRef<'a>>)>, E> {
    if !section.in_force {
        return Ok(None);
    }
    let rule = find()?;
    let verdict = if rule.is_some() { matched } else { otherwise };
    Ok(Some((verdict, rule.map(ResidualRule::name))))
}
