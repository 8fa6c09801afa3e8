//! Counters, exposed in Prometheus text form by the admin thread.
//!
//! Label values come from configuration, from verified certificates or from this code, never raw from the wire. Counters are
//! looked up once a connection (see [`RequestCounters`]) and then only incremented.

use std::cell::RefCell;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::connection::Direction;
use crate::http::guard::http2::Excess;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What a label is when the fact is not known; Istio's dashboards expect the word.
pub const UNKNOWN: &str = "unknown";

/// Labels of Istio's standard request metrics that this proxy knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `source` at the caller's side, `destination` at the service's.
    pub reporter: &'static str,
    /// The caller's SPIFFE ID, or `unknown`.
    pub source_principal: String,
    /// The called workload's SPIFFE ID, or `unknown`.
    pub destination_principal: String,
    /// Fully qualified host name of the service, or `unknown`.
    pub destination_service: String,
    /// `http` or `tcp`.
    pub request_protocol: &'static str,
    /// The status sent downstream; 0 when none was.
    pub response_code: u16,
    /// Envoy's letters, `-` when the answer is the upstream's own.
    pub response_flags: &'static str,
    /// `mutual_tls` or `none`; `unknown` at the source's side.
    pub connection_security_policy: &'static str,
}

/// Labels of the TCP metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TcpLabels {
    /// As [`RequestLabels::reporter`].
    pub reporter: &'static str,
    /// As [`RequestLabels::source_principal`].
    pub source_principal: String,
    /// As [`RequestLabels::destination_principal`].
    pub destination_principal: String,
    /// As [`RequestLabels::destination_service`].
    pub destination_service: String,
    /// As [`RequestLabels::response_flags`].
    pub response_flags: &'static str,
    /// As [`RequestLabels::connection_security_policy`].
    pub connection_security_policy: &'static str,
}

/// Labels of the decision counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DecisionLabels {
    /// `allow` or `deny`.
    pub decision: &'static str,
    /// Why, as in the access log.
    pub reason: &'static str,
}

/// Labels of counters by direction and outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// What happened.
    pub outcome: &'static str,
}

/// Labels of the counter of connections that said nothing in time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PortLabels {
    /// `inbound`, `outbound` or `gateway`.
    pub direction: &'static str,
    /// The port it was going to, where it is one of the configuration's; else `other`.
    pub port: String,
}

/// Labels of gauges by direction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DirectionLabels {
    /// `inbound` or `outbound`.
    pub direction: &'static str,
}

/// Labels of counters by result alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabels {
    /// `ok` or `error`.
    pub result: &'static str,
}

/// Labels of the counter of external checks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProviderLabels {
    /// The provider's name, as the bootstrap has it.
    pub provider: String,
    /// `allow`, `deny`, `timeout` or `error`.
    pub result: &'static str,
}

/// Labels of what is known of another cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClusterLabels {
    /// Its key.
    pub cluster: String,
}

/// Labels of the counter of failed attempts to ask a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProbeLabels {
    /// Its cluster's key.
    pub cluster: String,
    /// Why: `unreachable`, `identity`, `loop`, `silent`, `broken`, `protocol`, `status` or `list`.
    pub reason: &'static str,
}

/// Labels of counters by reason alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// Why.
    pub reason: &'static str,
}

/// Labels of the counter of HTTP/2 connections that were ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Http2Labels {
    /// Who was at the other end: `downstream` or `upstream`; `gateway` or `caller` of an outer connection.
    pub peer: &'static str,
    /// What there was too much of: `control_frames`, `resets`, `header_block` or `heads`; `preface` where there was none.
    pub reason: &'static str,
}

/// Labels of the counter of tries beyond the first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RetryLabels {
    /// How the try before ended: `unsent`, `unprocessed`, `lost`, `timeout` or `answer`.
    pub reason: &'static str,
    /// `answered`, `failed`, `cancelled`; `no_budget` when there was none.
    pub outcome: &'static str,
}

type UnsignedGauge = Gauge<u64, AtomicU64>;

/// A gauge that several raise and lower.
pub type SignedGauge = Gauge<i64, AtomicI64>;

/// Every metric of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests by Istio's labels.
    pub requests: Family<RequestLabels, Counter>,
    /// TCP connections opened.
    pub tcp_opened: Family<TcpLabels, Counter>,
    /// TCP connections closed.
    pub tcp_closed: Family<TcpLabels, Counter>,
    /// Bytes sent to the downstream on TCP connections.
    pub tcp_sent: Family<TcpLabels, Counter>,
    /// Bytes received from the downstream on TCP connections.
    pub tcp_received: Family<TcpLabels, Counter>,
    /// Verdicts of the policy engine.
    pub decisions: Family<DecisionLabels, Counter>,
    /// Checks by external authorization.
    pub ext_authz: Family<ProviderLabels, Counter>,
    /// Tries beyond the first.
    pub retries: Family<RetryLabels, Counter>,
    /// Requests that were not tried again because their service's budget was used up.
    pub retry_budget_exhausted: Counter,
    /// What accepted connections turned out to speak.
    pub detections: Family<OutcomeLabels, Counter>,
    /// Of those the ones that said nothing in time.
    pub detection_timeouts: Family<PortLabels, Counter>,
    /// TLS handshakes by result.
    pub handshakes: Family<OutcomeLabels, Counter>,
    /// TLS sessions that ended because their peer's certificate is no longer good: by direction, `expired` or `untrusted`.
    pub sessions_ended: Family<OutcomeLabels, Counter>,
    /// Connections refused or lost at accept.
    pub accept_errors: Family<OutcomeLabels, Counter>,
    /// Open downstream connections.
    pub connections: Family<DirectionLabels, SignedGauge>,
    /// HTTP/2 connections ended because of what came on them.
    pub http2_excess: Family<Http2Labels, Counter>,
    /// Endpoints and gateways taken out of rotation.
    pub ejections: Family<ReasonLabels, Counter>,
    /// Endpoints and gateways that are out of rotation now.
    pub ejected: SignedGauge,
    /// The generation of the configuration in force.
    pub config_generation: UnsignedGauge,
    /// Problems in the last reading of the resources; their last good versions, if any, stay in force.
    pub config_problems: UnsignedGauge,
    /// Readings of the resources by result.
    pub config_reloads: Family<ResultLabels, Counter>,
    /// Fetches of key sets by result.
    pub jwks_fetches: Family<ResultLabels, Counter>,
    /// Whether a gateway of another cluster answers, by cluster: 1 or 0; absent until it is known.
    pub gateway_up: Family<ClusterLabels, UnsignedGauge>,
    /// Failed attempts to ask a gateway.
    pub probe_failures: Family<ProbeLabels, Counter>,
    /// Services that a gateway says it exports to us, where it is asked.
    pub discovered_exports: Family<ClusterLabels, UnsignedGauge>,
    /// The generation of the identity in force.
    pub identity_generation: UnsignedGauge,
    /// Readings of the identity files by result.
    pub identity_reloads: Family<ResultLabels, Counter>,
    /// When the own certificate ends, seconds since 1970.
    pub certificate_expiry: UnsignedGauge,
    /// When the first of the revocation lists in force ends, seconds since 1970; 0 = there is none that ends.
    pub list_expiry: UnsignedGauge,
    /// Access log lines that were dropped because the log could not be written fast enough.
    pub access_log_dropped: Counter,
    /// Tasks that ended in a panic: each a defect.
    pub panics: Counter,
    /// Tasks of all workers, as of each worker's last sweep.
    pub tasks: SignedGauge,
}

impl Metrics {
    /// All metrics in the text exposition format.
    pub fn render(&self) -> String {
        let mut registry = Registry::default();
        self.register(&mut registry);
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = text::encode(&mut out, &registry);
        out
    }

    /// Notes when the own certificate ends.
    pub fn set_certificate_expiry(&self, not_after: SystemTime) {
        let seconds = not_after.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.certificate_expiry.set(seconds);
    }

    /// Counts one HTTP/2 connection that is ended.
    pub fn http2_excess(&self, peer: &'static str, excess: Excess) {
        let reason = excess.as_str();
        tracing::debug!(peer, reason, "HTTP/2 connection ended: too much of it");
        self.http2_excess.get_or_create(&Http2Labels { peer, reason }).inc();
    }

    /// Counts one TLS handshake.
    pub fn handshake(&self, direction: Direction, outcome: &'static str) {
        self.handshakes.get_or_create(&OutcomeLabels { direction: direction.as_str(), outcome }).inc();
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("istio_requests", "Requests", self.requests.clone());
        registry.register("istio_tcp_connections_opened", "TCP connections opened", self.tcp_opened.clone());
        registry.register("istio_tcp_connections_closed", "TCP connections closed", self.tcp_closed.clone());
        registry.register("istio_tcp_sent_bytes", "Bytes sent on TCP connections", self.tcp_sent.clone());
        registry.register("istio_tcp_received_bytes", "Bytes received on TCP connections", self.tcp_received.clone());
        registry.register("mesh_policy_decisions", "Verdicts of the policy engine", self.decisions.clone());
        registry.register("mesh_ext_authz_requests", "Checks by external authorization", self.ext_authz.clone());
        registry.register("mesh_retries", "Tries beyond the first", self.retries.clone());
        registry.register(
            "mesh_retry_budget_exhausted",
            "Requests not tried again for want of budget",
            self.retry_budget_exhausted.clone(),
        );
        registry.register("mesh_detections", "What connections turned out to speak", self.detections.clone());
        registry.register(
            "mesh_detection_timeouts",
            "Connections that said nothing in time",
            self.detection_timeouts.clone(),
        );
        registry.register("mesh_tls_handshakes", "TLS handshakes by result", self.handshakes.clone());
        registry.register(
            "mesh_tls_sessions_ended",
            "TLS sessions whose peer is not good any more",
            self.sessions_ended.clone(),
        );
        registry.register("mesh_accept_errors", "Connections refused or lost at accept", self.accept_errors.clone());
        registry.register("mesh_connections", "Open downstream connections", self.connections.clone());
        registry.register("mesh_http2_excess", "HTTP/2 connections ended for floods", self.http2_excess.clone());
        registry.register("mesh_endpoint_ejections", "Endpoints taken out of rotation", self.ejections.clone());
        registry.register("mesh_endpoints_ejected", "Endpoints out of rotation now", self.ejected.clone());
        registry.register("mesh_config_generation", "Generation in force", self.config_generation.clone());
        registry.register("mesh_config_problems", "Problems in the last reading", self.config_problems.clone());
        registry.register("mesh_config_reloads", "Readings of the resources", self.config_reloads.clone());
        registry.register("mesh_jwks_fetches", "Fetches of key sets", self.jwks_fetches.clone());
        registry.register("mesh_gateway_up", "Whether a gateway answers", self.gateway_up.clone());
        registry.register(
            "mesh_gateway_probe_failures",
            "Failed attempts to ask a gateway",
            self.probe_failures.clone(),
        );
        registry.register(
            "mesh_discovered_exports",
            "Services that a gateway exports",
            self.discovered_exports.clone(),
        );
        registry.register("mesh_identity_generation", "Generation in force", self.identity_generation.clone());
        registry.register("mesh_identity_reloads", "Readings of the identity files", self.identity_reloads.clone());
        registry.register(
            "mesh_certificate_expiry_timestamp_seconds",
            "When the own certificate ends",
            self.certificate_expiry.clone(),
        );
        registry.register("mesh_revocation_list_expiry_timestamp_seconds", "First to end", self.list_expiry.clone());
        registry.register("mesh_access_log_dropped", "Access log lines dropped", self.access_log_dropped.clone());
        registry.register(
            "mesh_tasks",
            "Tasks of the workers: connections, requests and what they wait for",
            self.tasks.clone(),
        );
        registry.register("mesh_panics", "Tasks that ended in a panic", self.panics.clone());
    }
}

/// The request counters of one connection: all labels but status and flags are fixed, and few pairs of those occur, so a
/// short list beats a map behind a lock.
#[derive(Debug)]
pub struct RequestCounters {
    labels: RequestLabels,
    found: RefCell<Vec<(u16, &'static str, Counter)>>,
}

impl RequestCounters {
    /// Counters for requests that share `labels`; its code and flags are ignored.
    pub fn new(labels: RequestLabels) -> Self {
        Self { labels, found: RefCell::default() }
    }

    /// The same labels, as the TCP metrics have them.
    pub fn tcp_labels(&self) -> TcpLabels {
        let labels = self.labels.clone();
        TcpLabels {
            reporter: labels.reporter,
            source_principal: labels.source_principal,
            destination_principal: labels.destination_principal,
            destination_service: labels.destination_service,
            response_flags: "-",
            connection_security_policy: labels.connection_security_policy,
        }
    }

    /// Counts one request.
    pub fn count(&self, metrics: &Metrics, code: u16, flags: &'static str) {
        let mut found = self.found.borrow_mut();
        let known = found.iter().find(|(known_code, known_flags, _)| *known_code == code && *known_flags == flags);
        if let Some((_, _, counter)) = known {
            counter.inc();
            return;
        }
        let labels = RequestLabels { response_code: code, response_flags: flags, ..self.labels.clone() };
        let counter = metrics.requests.get_or_create_owned(&labels);
        counter.inc();
        found.push((code, flags, counter));
    }
}

/// The decision counters of one worker, kept like [`RequestCounters`].
#[derive(Debug, Default)]
pub struct DecisionCounters(RefCell<Vec<(DecisionLabels, Counter)>>);

impl DecisionCounters {
    /// Counts one decision.
    pub fn count(&self, metrics: &Metrics, labels: DecisionLabels) {
        let mut found = self.0.borrow_mut();
        if let Some((_, counter)) = found.iter().find(|(known, _)| *known == labels) {
            counter.inc();
            return;
        }
        let counter = metrics.decisions.get_or_create_owned(&labels);
        counter.inc();
        found.push((labels, counter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_code_and_flags_under_istios_name() {
        let metrics = Metrics::default();
        let counters = RequestCounters::new(RequestLabels {
            reporter: "destination",
            source_principal: "spiffe://td/ns/a/sa/b".into(),
            destination_principal: UNKNOWN.into(),
            destination_service: UNKNOWN.into(),
            request_protocol: "http",
            response_code: 0,
            response_flags: "-",
            connection_security_policy: "mutual_tls",
        });
        counters.count(&metrics, 200, "-");
        counters.count(&metrics, 200, "-");
        counters.count(&metrics, 503, "UF");
        let text = metrics.render();
        let value = |code: &str| {
            let line = text.lines().find(|line| line.starts_with("istio_requests_total{") && line.contains(code));
            line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
        };
        assert_eq!(value("response_code=\"200\",response_flags=\"-\"").as_deref(), Some("2"), "{text}");
        assert_eq!(value("response_code=\"503\",response_flags=\"UF\"").as_deref(), Some("1"), "{text}");
    }
}
