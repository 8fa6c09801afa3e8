//! A verdict, and which rule gave it.

use std::fmt;

use serde::Serialize;

use crate::model::{Family, ObjectName};

/// Whether the request, or the connection, goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It goes on.
    Allow,
    /// It is refused.
    Deny,
}

/// Why. The words of [`Reason::as_str`] are stable: they are in logs, metrics and the output of `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Allowed: no enforced policy selects the workload.
    NoPolicy,
    /// Allowed: a rule of an ALLOW policy matched.
    AllowRule,
    /// Allowed: no DENY rule matched, and no ALLOW policy is in force.
    NotDenied,
    /// Refused: a rule of a DENY policy matched.
    DenyRule,
    /// Refused: ALLOW policies are in force and none of their rules matched.
    NoAllowMatched,
    /// Refused: an unconditional DENY rule, read as a baseline, and no ALLOW rule matched.
    CatchAllDeny,
    /// Refused: a policy that selects the workload could not be read.
    Unreadable,
    /// Allowed: a TrafficTarget lets it in, and no ALLOW policy is in force.
    TargetRule,
    /// Refused: in traffic policy mode, and no TrafficTarget lets it in.
    NoTargetMatched,
    /// Refused: the provider of a CUSTOM policy said no.
    CustomDenied,
    /// Refused: the provider of a CUSTOM policy is not known, or could not be asked.
    CustomFailed,
    /// Refused: the token is not a good one.
    BadToken,
}

/// A rule, by its policy and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleRef<'a> {
    /// The policy it stands in.
    pub policy: &'a ObjectName,
    /// Its index in `spec.rules`, from 0.
    pub rule: usize,
}

/// What was decided, by which rule, and what policies that decide nothing have to say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What happens.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The family that decided.
    pub family: Family,
    /// The deciding rule. `None` where it was the absence of a match that decided.
    pub rule: Option<RuleRef<'a>>,
    /// The TrafficTarget that lets it in, where an ALLOW policy had to do so as well.
    pub target: Option<RuleRef<'a>>,
    /// The first AUDIT rule that matched.
    pub audit: Option<RuleRef<'a>>,
    /// What the dry-run ALLOW policies alone would say; `None` when there is none.
    pub dry_run_allow: Option<(Verdict, Option<RuleRef<'a>>)>,
    /// What the dry-run DENY policies alone would say; `None` when there is none.
    pub dry_run_deny: Option<(Verdict, Option<RuleRef<'a>>)>,
}

impl<'a> Decision<'a> {
    /// A refusal that comes before any DENY or ALLOW rule is asked: by a provider, or for a bad token.
    pub fn refused(reason: Reason, rule: Option<RuleRef<'a>>) -> Decision<'a> {
        Decision {
            verdict: Verdict::Deny,
            reason,
            family: Family::Istio,
            rule,
            target: None,
            audit: None,
            dry_run_allow: None,
            dry_run_deny: None,
        }
    }
}

impl Verdict {
    /// `allow` or `deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
        }
    }
}

impl Reason {
    /// The stable word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NoPolicy => "no_policy",
            Reason::AllowRule => "allow_rule",
            Reason::NotDenied => "not_denied",
            Reason::DenyRule => "deny_rule",
            Reason::NoAllowMatched => "no_allow_matched",
            Reason::CatchAllDeny => "catch_all_deny",
            Reason::Unreadable => "unreadable",
            Reason::TargetRule => "target_rule",
            Reason::NoTargetMatched => "no_target_matched",
            Reason::CustomDenied => "custom_denied",
            Reason::CustomFailed => "custom_failed",
            Reason::BadToken => "bad_token",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RuleRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.policy, self.rule)
    }
}
