//! The fields of a log line that tell what was decided, and why.

use meshgate_policy::{Decision, Nearest, Reason, Verdict};

use super::Asked;
use crate::access_log::Line;
use crate::balance::Candidate;
use crate::error::{ErrorKind, ProxyError};

/// Writes a decision's fields: verdict, reason, policy, and what audit and dry-run policies would have said.
pub fn decision(decision: &Decision<'_>, line: &mut Line) {
    line.text("verdict", verdict(decision.verdict));
    line.text("reason", decision.reason.as_str());
    if let Some(rule) = &decision.rule {
        line.display("policy", rule);
    }
    if let Some(rule) = &decision.target {
        line.display("target", rule);
    }
    if let Some(rule) = &decision.audit {
        line.display("audit", rule);
    }
    let shadows = [
        ("dry_run_allow", "dry_run_allow_policy", &decision.dry_run_allow),
        ("dry_run_deny", "dry_run_deny_policy", &decision.dry_run_deny),
    ];
    for (name, policy, shadow) in shadows {
        if let Some((would_be, rule)) = shadow {
            line.text(name, verdict(*would_be));
            if let Some(rule) = rule {
                line.display(policy, rule);
            }
        }
    }
}

/// Writes whom it was sent to in the end, and after how many tries.
pub fn upstream(candidate: &Candidate, attempts: u64, line: &mut Line) {
    line.text("upstream_host", candidate.slot().label());
    if let Some(remote) = candidate.remote() {
        line.text("upstream_cluster_key", remote.cluster.as_str());
    }
    if attempts > 1 {
        line.number("attempts", attempts);
    }
}

/// Writes a check's fields.
pub fn asked(asked: &Asked<'_>, line: &mut Line) {
    line.text("ext_authz_provider", asked.provider);
    line.text("ext_authz_result", asked.result);
    if let Some(failure) = asked.failure {
        line.display("ext_authz_error", failure);
    }
    line.millis("ext_authz_duration", asked.took);
}

/// Writes the rule that came nearest to letting in, and the first of its fields that failed.
pub fn nearest(nearest: Option<Nearest<'_>>, line: &mut Line) {
    if let Some(nearest) = nearest {
        line.display("nearest", nearest);
    }
}

/// Writes the verdict that an error stands for, if it is one; and what the upstream's TLS failed of.
pub fn refusal(error: &ProxyError, line: &mut Line) {
    if matches!(error.kind, ErrorKind::UpstreamTls | ErrorKind::GatewayTls) {
        line.display("upstream_transport_failure_reason", error);
    }
    if matches!(error.kind, ErrorKind::OutOfReach | ErrorKind::BackendOutOfReach) {
        line.text("verdict", verdict(Verdict::Deny));
        line.text("reason", Reason::NoTargetMatched.as_str());
    }
}

/// A verdict, as the log and the counters have it.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}
