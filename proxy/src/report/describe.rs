//! The fields of a log line that tell what was decided, and why.

use meshgate_policy::{Decision, Nearest, Reason, RuleRef, Verdict};

use super::Asked;
use crate::access_log::{Field, Line, field};
use crate::balance::Candidate;
use crate::error::{ErrorKind, ProxyError};

/// Writes a decision's fields: verdict, reason, policy, and what audit and dry-run policies would have said.
pub fn decision(decision: &Decision<'_>, line: &mut Line) {
    line.word(field!("verdict"), verdict(decision.verdict));
    line.word(field!("reason"), decision.reason.as_str());
    if let Some(rule) = &decision.rule {
        by(field!("policy"), rule, line);
    }
    if let Some(rule) = &decision.target {
        by(field!("target"), rule, line);
    }
    if let Some(rule) = &decision.audit {
        by(field!("audit"), rule, line);
    }
    let shadows = [
        (field!("dry_run_allow"), field!("dry_run_allow_policy"), &decision.dry_run_allow),
        (field!("dry_run_deny"), field!("dry_run_deny_policy"), &decision.dry_run_deny),
    ];
    for (name, policy, shadow) in shadows {
        if let Some((would_be, rule)) = shadow {
            line.word(name, verdict(*would_be));
            if let Some(rule) = rule {
                by(policy, rule, line);
            }
        }
    }
}

/// A rule as its `Display` has it.
fn by(name: Field, rule: &RuleRef<'_>, line: &mut Line) {
    let (policy, mut number) = (rule.policy, itoa::Buffer::new());
    line.joined(name, [&policy.namespace, "/", &policy.name, " rule ", number.format(rule.rule)]);
}

/// Writes whom it was sent to in the end, and after how many tries.
pub fn upstream(candidate: &Candidate, attempts: u64, line: &mut Line) {
    line.text(field!("upstream_host"), candidate.slot().label());
    if let Some(remote) = candidate.remote() {
        line.text(field!("upstream_cluster_key"), remote.cluster.as_str());
    }
    if attempts > 1 {
        line.number(field!("attempts"), attempts);
    }
}

/// Writes a check's fields.
pub fn asked(asked: &Asked<'_>, line: &mut Line) {
    line.text(field!("ext_authz_provider"), asked.provider);
    line.word(field!("ext_authz_result"), asked.result);
    if let Some(failure) = asked.failure {
        line.display(field!("ext_authz_error"), failure);
    }
    line.millis(field!("ext_authz_duration"), asked.took);
}

/// Writes the rule that came nearest to letting in, and the first of its fields that failed.
pub fn nearest(nearest: Option<Nearest<'_>>, line: &mut Line) {
    if let Some(nearest) = nearest {
        line.display(field!("nearest"), nearest);
    }
}

/// Writes the verdict that an error stands for, if it is one; and what the upstream's TLS failed of.
pub fn refusal(error: &ProxyError, line: &mut Line) {
    if matches!(error.kind, ErrorKind::UpstreamTls | ErrorKind::GatewayTls) {
        line.display(field!("upstream_transport_failure_reason"), error);
    }
    if matches!(error.kind, ErrorKind::OutOfReach | ErrorKind::BackendOutOfReach) {
        line.word(field!("verdict"), verdict(Verdict::Deny));
        line.word(field!("reason"), Reason::NoTargetMatched.as_str());
    }
}

/// A verdict, as the log and the counters have it.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

#[cfg(test)]
mod tests {
    use meshgate_policy::ObjectName;

    use super::*;

    #[test]
    fn a_rule_is_written_as_it_is_displayed() {
        let policy = ObjectName { namespace: "shop\"".to_owned(), name: "allow".to_owned() };
        let rule = RuleRef { policy: &policy, rule: 12 };
        let displayed = Line::prefix(|line| line.display(field!("policy"), rule));
        assert_eq!(Line::prefix(|line| by(field!("policy"), &rule, line)), displayed);
    }
}
