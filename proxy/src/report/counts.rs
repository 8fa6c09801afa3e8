//! What is counted besides the exchange itself.

use std::time::Duration;

use meshgate_policy::Decision;

use super::describe;
use crate::connection::Direction;
use crate::detect::Detected;
use crate::ext_authz::Failure;
use crate::metrics::{OutcomeLabels, PortLabels, ProviderLabels};
use crate::worker::Worker;

/// Counts a decision.
pub fn count_decision(worker: &Worker, decision: &Decision<'_>) {
    let (verdict, reason) = (describe::verdict(decision.verdict), decision.reason.as_str());
    let policy = decision.rule.map(|rule| rule.policy);
    worker.decisions.count(&worker.shared.metrics, worker.generation(), verdict, reason, policy);
}

/// How asking an external provider went.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its name, as the bootstrap has it.
    pub provider: &'a str,
    /// `allow`, `deny`, `timeout` or `error`.
    pub result: &'static str,
    /// Why there was no answer.
    pub failure: Option<&'a Failure>,
    /// How long it took.
    pub took: Duration,
}

/// Counts a check.
pub fn count_asked(worker: &Worker, asked: &Asked<'_>) {
    let labels = ProviderLabels { provider: asked.provider.to_owned(), result: asked.result };
    worker.shared.metrics.ext_authz.get_or_create(&labels).inc();
}

/// What stands for all ports that nobody has configured: who connects can make up as many as there are.
const OTHER: &str = "other";

/// Counts what a connection turned out to speak; and where that was not found out in time, at which port of the configuration.
pub fn count_detection(worker: &Worker, direction: Direction, detected: Detected, port: Option<u16>) {
    let outcome = match detected {
        Detected::Tls { .. } => "tls",
        Detected::Http1 => "http1",
        Detected::Http2 => "http2",
        Detected::Opaque => "opaque",
        Detected::TimedOut => "timeout",
        Detected::Closed => "closed",
    };
    let direction = direction.as_str();
    let metrics = &worker.shared.metrics;
    metrics.detections.get_or_create(&OutcomeLabels { direction, outcome }).inc();
    if detected == Detected::TimedOut {
        let port = port.map_or_else(|| OTHER.to_owned(), |port| port.to_string());
        metrics.detection_timeouts.get_or_create(&PortLabels { direction, port }).inc();
    }
}
