//! Counters, read by the admin thread in the text form that Prometheus scrapes.
//!
//! Label values come from configuration, from verified certificates or from this code, never raw from the wire. Series are looked up
//! once a connection or a route (see [`RequestCounters`]) and then only added to. [`Metrics`] is the list of all there are.

pub mod counters;
pub mod edge;
pub mod exposition;
pub mod family;
pub mod istio;
pub mod kept;
pub mod labels;
pub mod process;
pub mod roots;
pub mod series;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshgate_config::MetricsSettings;
use meshgate_identity::{Identity, Lost};
use tokio::time::Instant;

use crate::connection::Direction;
use crate::http::guard::http2::Excess;
pub use counters::{DecisionCounters, Ending, RequestCounters, grpc_status};
pub use edge::{Called, Facts, Party};
use exposition::{Format, Page, Source};
pub(crate) use family::Exposed;
pub use family::Family;
pub use istio::{Amounts, RequestLabels, RequestSeries, RequestTotals, TcpLabels, TcpSeries, TcpTotals};
pub use kept::Kept;
pub use labels::{
    ClusterLabels, DecisionLabels, DirectionLabels, HandshakeLabels, Http2Labels, OutcomeLabels, PortLabels,
    ProbeLabels, ProviderLabels, ReasonLabels, ResultLabels, RetryLabels, StateLabels,
};
pub use roots::{RootSeries, Roots};
pub use series::{Counter, Gauge};

/// What a label is when the fact is not known; Istio's dashboards expect the word.
pub const UNKNOWN: &str = "unknown";

/// The commit that this was built from, where the build says so.
pub const REVISION: &str = match option_env!("MESHGATE_REVISION") {
    Some(revision) => revision,
    None => UNKNOWN,
};

/// Every metric of the process that is counted, and not only looked up when somebody asks. A clone is the same metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    settings: MetricsSettings,
    /// Istio's request metrics.
    pub requests: Family<RequestLabels, Arc<RequestSeries>>,
    /// Istio's TCP metrics.
    pub tcp: Family<TcpLabels, Arc<TcpSeries>>,
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
    pub handshakes: Family<HandshakeLabels, Counter>,
    /// TLS sessions that ended because their peer's certificate is no longer good: by direction, `expired` or `untrusted`.
    pub sessions_ended: Family<OutcomeLabels, Counter>,
    /// What rests on which root.
    pub by_root: Roots,
    /// Connections refused or lost at accept.
    pub accept_errors: Family<OutcomeLabels, Counter>,
    /// Open downstream connections.
    pub connections: Family<DirectionLabels, Gauge>,
    /// HTTP/2 connections ended because of what came on them.
    pub http2_excess: Family<Http2Labels, Counter>,
    /// Endpoints and gateways taken out of rotation.
    pub ejections: Family<ReasonLabels, Counter>,
    /// Endpoints and gateways that are out of rotation now.
    pub ejected: Gauge,
    /// The generation of the configuration in force.
    pub config_generation: Gauge,
    /// When the configuration was last read without a problem, seconds since 1970.
    pub config_last_success: Gauge,
    /// Whether the last reading of it was without a problem.
    pub config_last_ok: Gauge,
    /// Problems in the last reading of the resources; their last good versions, if any, stay in force.
    pub config_problems: Gauge,
    /// Readings of the resources by result.
    pub config_reloads: Family<ResultLabels, Counter>,
    /// Fetches of key sets by result.
    pub jwks_fetches: Family<ResultLabels, Counter>,
    /// Whether a gateway of another cluster answers, by cluster: 1 or 0; absent until it is known.
    pub gateway_up: Family<ClusterLabels, Gauge>,
    /// Failed attempts to ask a gateway.
    pub probe_failures: Family<ProbeLabels, Counter>,
    /// Services that a gateway says it exports to us, where it is asked.
    pub discovered_exports: Family<ClusterLabels, Gauge>,
    /// The generation of the identity in force.
    pub identity_generation: Gauge,
    /// Readings of the identity files by result.
    pub identity_reloads: Family<ResultLabels, Counter>,
    /// Times an authority was asked for our certificate, by result.
    pub certificate_requests: Family<ResultLabels, Counter>,
    /// When the own certificate ends, seconds since 1970.
    pub certificate_expiry: Gauge,
    /// Roots that vouch for peers.
    pub roots: Gauge,
    /// When the first of them ends, seconds since 1970.
    pub root_expiry: Gauge,
    /// Idle upstream connections of all workers, as of each worker's last sweep.
    pub upstream_idle: Gauge,
    /// When the first of the revocation lists in force ends, seconds since 1970; 0 = there is none that ends.
    pub revocation_list_expiry: Gauge,
    /// Access log lines that were dropped because the log could not be written fast enough.
    pub access_log_dropped: Counter,
    /// Spans by what became of them: `exported`, `rejected` by the collector, `failed` to reach it, `queue_full`.
    pub spans: Family<ResultLabels, Counter>,
    /// What the limits of the admin endpoint did: `full`, `displaced`, `slow` or `listeners`.
    pub admin_limited: Family<ReasonLabels, Counter>,
    /// Tasks that ended in a panic: each a defect.
    pub panics: Counter,
    /// Tasks of all workers, as of each worker's last sweep.
    pub tasks: Gauge,
}

impl Metrics {
    /// Nothing has been counted yet.
    pub fn new(settings: MetricsSettings) -> Self {
        let metrics = Self { settings, ..Self::default() };
        metrics.requests.limit(settings.max_series);
        metrics.tcp.limit(settings.max_series);
        metrics.each(|_, _, metric| metric.limit(settings.max_series));
        metrics.begin();
        metrics
    }

    /// Series of which few can be are there before anything is counted: of one that begins with 1 Prometheus sees no increase.
    fn begin(&self) {
        for result in ["ok", "error"] {
            let labels = ResultLabels { result };
            let read = [&self.config_reloads, &self.identity_reloads, &self.certificate_requests, &self.jwks_fetches];
            for family in read {
                family.get_or_create(&labels);
            }
        }
        for result in ["exported", "rejected", "failed", "queue_full"] {
            self.spans.get_or_create(&ResultLabels { result });
        }
        for direction in [Direction::Inbound, Direction::Outbound].map(Direction::as_str) {
            for outcome in [Lost::Expired, Lost::Untrusted, Lost::Revoked].map(Lost::as_str) {
                self.sessions_ended.get_or_create(&OutcomeLabels { direction, outcome });
            }
        }
    }

    /// Whether traffic is counted.
    pub fn enabled(&self) -> bool {
        self.settings.enabled
    }

    /// All metrics, as text.
    pub fn render(&self) -> String {
        exposition::page(Format::Text, self.clone())
    }

    /// Forgets series in which nothing has been counted for as long as `metrics.idle` says.
    pub fn forget_idle(&self, now: Instant) {
        let idle = self.settings.idle;
        self.requests.forget_idle(now, idle);
        self.tcp.forget_idle(now, idle);
        self.decisions.forget_idle(now, idle);
        self.detection_timeouts.forget_idle(now, idle);
        self.by_root.forget_idle(now, idle);
    }

    /// Notes the identity in force.
    pub fn identity(&self, identity: &Identity) {
        self.identity_generation.set(identity.generation());
        self.certificate_expiry.set(seconds(identity.svid().not_after()));
        let bundles = identity.bundles();
        self.roots.set(bundles.ends().count() as u64);
        self.root_expiry.set(bundles.ends().min().map_or(0, seconds));
        self.by_root.identity(identity);
    }

    /// Notes how the last reading of the resources went.
    pub fn config(&self, problems: usize) {
        self.config_problems.set(problems as u64);
        self.config_last_ok.set(u64::from(problems == 0));
        if problems == 0 {
            self.config_last_success.set(seconds(SystemTime::now()));
        }
    }

    /// Counts one HTTP/2 connection that is ended.
    pub fn http2_excess(&self, peer: &'static str, excess: Excess) {
        let reason = excess.as_str();
        tracing::debug!(peer, reason, "HTTP/2 connection ended: too much of it");
        self.http2_excess.get_or_create(&Http2Labels { peer, reason }).inc();
    }

    /// Counts one TLS handshake; of one that failed why, see [`HandshakeLabels::reason`].
    pub fn handshake(&self, direction: Direction, failure: Option<&'static str>) {
        let (outcome, reason) = failure.map_or(("ok", "-"), |reason| ("error", reason));
        self.handshakes.get_or_create(&HandshakeLabels { direction: direction.as_str(), outcome, reason }).inc();
    }

    /// All but Istio's, with name and help text, in the order of the page.
    fn each(&self, mut with: impl FnMut(&str, &str, &dyn Exposed)) {
        with("mesh_policy_decisions_total", "Verdicts of the policy engine", &self.decisions);
        with("mesh_ext_authz_requests_total", "Checks by external authorization", &self.ext_authz);
        with("mesh_retries_total", "Tries beyond the first", &self.retries);
        with(
            "mesh_retry_budget_exhausted_total",
            "Requests not tried again for want of budget",
            &self.retry_budget_exhausted,
        );
        with("mesh_detections_total", "What connections turned out to speak", &self.detections);
        with("mesh_detection_timeouts_total", "Connections that said nothing in time", &self.detection_timeouts);
        with("mesh_tls_handshakes_total", "TLS handshakes by result", &self.handshakes);
        with("mesh_tls_sessions_ended_total", "TLS sessions whose peer is not good any more", &self.sessions_ended);
        self.by_root.each(&mut with);
        with("mesh_accept_errors_total", "Connections refused or lost at accept", &self.accept_errors);
        with("mesh_connections", "Open downstream connections", &self.connections);
        with(
            "mesh_upstream_idle_connections",
            "Unused HTTP/1 upstream connections kept for reuse",
            &self.upstream_idle,
        );
        with("mesh_http2_excess_total", "HTTP/2 connections ended for floods", &self.http2_excess);
        with("mesh_endpoint_ejections_total", "Endpoints taken out of rotation", &self.ejections);
        with("mesh_endpoints_ejected", "Endpoints out of rotation now", &self.ejected);
        self.each_of_control(with);
    }

    /// Those of what is configured, and of the process.
    fn each_of_control(&self, mut with: impl FnMut(&str, &str, &dyn Exposed)) {
        with("mesh_config_generation", "Generation of the configuration in force", &self.config_generation);
        with(
            "mesh_config_last_success_timestamp_seconds",
            "When the configuration was last read without a problem",
            &self.config_last_success,
        );
        with("mesh_config_last_reload_ok", "Whether the last reading was without a problem", &self.config_last_ok);
        with("mesh_config_problems", "Problems in the last reading", &self.config_problems);
        with("mesh_config_reloads_total", "Readings of the resources", &self.config_reloads);
        with("mesh_jwks_fetches_total", "Fetches of key sets", &self.jwks_fetches);
        with("mesh_gateway_up", "Whether a gateway answers", &self.gateway_up);
        with("mesh_gateway_probe_failures_total", "Failed attempts to ask a gateway", &self.probe_failures);
        with("mesh_discovered_exports", "Services that a gateway exports", &self.discovered_exports);
        with("mesh_identity_generation", "Generation of the identity in force", &self.identity_generation);
        with("mesh_identity_reloads_total", "Readings of the identity files", &self.identity_reloads);
        with(
            "mesh_certificate_requests_total",
            "Times an authority was asked for our certificate",
            &self.certificate_requests,
        );
        with("mesh_certificate_expiry_timestamp_seconds", "When the own certificate ends", &self.certificate_expiry);
        with("mesh_trust_roots", "Roots that vouch for peers", &self.roots);
        with("mesh_trust_root_expiry_timestamp_seconds", "When the first of the roots ends", &self.root_expiry);
        with(
            "mesh_revocation_list_expiry_timestamp_seconds",
            "When the first of the revocation lists ends",
            &self.revocation_list_expiry,
        );
        with("mesh_access_log_dropped_total", "Access log lines dropped", &self.access_log_dropped);
        with("mesh_trace_spans_total", "Spans by what became of them", &self.spans);
        with(
            "mesh_admin_limited_total",
            "Connections and followers of the admin endpoint beyond its limits",
            &self.admin_limited,
        );
        with("mesh_tasks", "Tasks of the workers: connections, requests and what they wait for", &self.tasks);
        with("mesh_panics_total", "Tasks that ended in a panic", &self.panics);
    }
}

impl Source for Metrics {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        istio::write_requests(&self.requests, page)?;
        istio::write_tcp(&self.tcp, page)?;
        let version = env!("CARGO_PKG_VERSION");
        let build = [("component", "proxy"), ("tag", version)];
        page.gauge("istio_build", "What this is")?.of(&build)?.level(1_u64)?;
        let build = [("version", version), ("revision", REVISION)];
        page.gauge("mesh_build_info", "Version and commit of this binary")?.of(&build)?.level(1_u64)?;
        let mut written = Ok(());
        self.each(|name, help, metric| written = written.and_then(|()| metric.write(name, help, page)));
        written
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests;
