//! Explanations as people read them.

use std::fmt;

use crate::model::Family;

use super::{Asks, Explanation, Finding, Outcome, PolicyExplanation, RuleName, WouldBe};

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Matched => "matched",
            Outcome::NotMatched => "not matched",
            Outcome::Void => "void",
            Outcome::NeedsRequest => "needs a request",
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.policy, self.rule)
    }
}

impl fmt::Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asks { provider, rule, fault } = self;
        match fault {
            Some(fault) => write!(f, "cannot ask provider {provider:?}, {rule}: {fault}"),
            None => write!(f, "asks provider {provider:?} first, {rule}: this is the verdict if it says yes"),
        }
    }
}

impl fmt::Display for WouldBe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "{}, {rule}", self.verdict),
            None => write!(f, "{}, no rule matched", self.verdict),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.verdict, self.reason)?;
        if let Some(rule) = &self.rule {
            write!(f, ", {rule}")?;
        }
        writeln!(f)?;
        if let Some(asks) = &self.asks {
            writeln!(f, "{asks}")?;
        }
        if let Some(rule) = &self.target {
            writeln!(f, "TrafficTarget: {rule}")?;
        }
        if let Some(rule) = &self.audit {
            writeln!(f, "audit: {rule}")?;
        }
        if let Some(would_be) = &self.dry_run_allow {
            writeln!(f, "dry run of ALLOW: {would_be}")?;
        }
        if let Some(would_be) = &self.dry_run_deny {
            writeln!(f, "dry run of DENY: {would_be}")?;
        }
        if let Some(miss) = &self.nearest {
            writeln!(f, "nearest: {}: {}", miss.rule, miss.field)?;
        }
        self.policies.iter().try_for_each(|policy| policy.fmt(f))
    }
}

impl fmt::Display for PolicyExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dry_run = if self.dry_run { " (dry run)" } else { "" };
        match self.family {
            Family::Istio => writeln!(f, "{} {}{dry_run}", self.action, self.policy)?,
            Family::Smi => writeln!(f, "{} {}", self.kind, self.policy)?,
        }
        if let Some(why) = &self.unreadable {
            writeln!(f, "  could not be read: {why}")?;
        }
        if self.rules.is_empty() {
            writeln!(f, "  no rules: matches nothing")?;
        }
        for rule in &self.rules {
            let baseline = if rule.baseline { ", yields to ALLOW rules" } else { "" };
            writeln!(f, "  rule {}: {}{baseline}", rule.rule, rule.outcome.as_str())?;
            for Finding { field, found } in &rule.because {
                writeln!(f, "    {field}: {found}")?;
            }
        }
        Ok(())
    }
}
