//! `GET /edges`: who talks to whom, as far as this proxy sees it.
//!
//! The one idea: nothing is counted for it. It is the traffic metrics once more, added up over everything but the caller, the service
//! that is called and the side that says so; the numbers only grow, as long as their series are kept (`metrics.idle`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::metrics::{Facts, Metrics, Party, RequestLabels, RequestTotals, TcpLabels, TcpTotals, UNKNOWN, series};
use crate::report::refusals::is_refusal;

/// One arrow of the picture.
#[derive(Debug, Serialize)]
pub(super) struct Edge {
    /// `source`, `destination` or `gateway`: on which side it was seen.
    reporter: &'static str,
    source: Source,
    destination: Destination,
    /// `mutual_tls`, `plaintext`, `mixed` or `unknown`.
    security: &'static str,
    protocols: BTreeSet<&'static str>,
    requests: Requests,
    latency: Latency,
    /// Bytes from the caller and to it: bodies of requests and answers, and all of TCP.
    bytes: Bytes,
    tcp: Tcp,
    #[serde(skip)]
    seen: BTreeSet<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Source {
    namespace: String,
    workload: String,
    principal: String,
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Destination {
    /// The host name of the service; `unknown` for what goes to no service.
    service: String,
    name: String,
    namespace: String,
    /// Workloads that answered.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    workloads: BTreeSet<String>,
}

/// Requests by how they ended. `total` is the sum of the five classes; refusals are counted among these as well.
#[derive(Debug, Default, Serialize)]
struct Requests {
    total: u64,
    /// 1xx, 2xx, 3xx; of gRPC status 0.
    ok: u64,
    client_errors: u64,
    server_errors: u64,
    /// No answer was sent.
    unanswered: u64,
    /// Of series beyond `metrics.maxSeries`, nobody knows how they ended.
    unclassified: u64,
    /// For what the caller is or sent: by a policy, a token, a provider, a limit or the form of the request.
    refused: u64,
}

#[derive(Debug, Default, Serialize)]
struct Latency {
    /// Milliseconds; interpolated within a bucket, as Prometheus' `histogram_quantile` does. `null` without requests.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// How many requests took at most the milliseconds of [`Page::bounds_ms`], and longer than the bucket before.
    buckets: [u64; 20],
}

#[derive(Debug, Default, Serialize)]
struct Bytes {
    received: u64,
    sent: u64,
}

#[derive(Debug, Default, Serialize)]
struct Tcp {
    opened: u64,
    closed: u64,
    refused: u64,
}

/// The page.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    /// Upper bounds of all buckets of latency but the last, which has none.
    pub(super) bounds_ms: Vec<f64>,
    pub(super) edges: Vec<Edge>,
}

type Key = (Source, String, String, &'static str);

/// The page.
pub(super) fn page(metrics: &Metrics) -> Page {
    let mut edges = BTreeMap::<Key, Edge>::new();
    for (labels, series) in metrics.requests.all() {
        of(&mut edges, labels.edge.facts()).requests(&labels, &series.totals());
    }
    for (labels, series) in metrics.tcp.all() {
        of(&mut edges, labels.edge.facts()).tcp(&labels, series.totals());
    }
    Page { bounds_ms: bounds(), edges: edges.into_values().map(Edge::finished).collect() }
}

/// The edge of a series; a new one begins empty.
fn of<'a>(edges: &'a mut BTreeMap<Key, Edge>, facts: &Facts) -> &'a mut Edge {
    let source = Source::of(&facts.source);
    // What goes to no service is told apart by where it goes.
    let workload = if facts.service.host == UNKNOWN { full_name(&facts.destination) } else { String::new() };
    let key = (source.clone(), facts.service.host.clone(), workload, facts.reporter);
    let edge = edges.entry(key).or_insert_with(|| Edge::new(source, facts));
    if facts.destination.workload != UNKNOWN {
        edge.destination.workloads.insert(full_name(&facts.destination));
    }
    edge
}

fn full_name(party: &Party) -> String {
    format!("{}/{}", party.namespace, party.workload)
}

impl Source {
    fn of(party: &Party) -> Self {
        Self {
            namespace: party.namespace.clone(),
            workload: party.workload.clone(),
            principal: party.principal.clone(),
            cluster: party.cluster.clone(),
        }
    }
}

impl Edge {
    fn new(source: Source, facts: &Facts) -> Self {
        let service = &facts.service;
        Self {
            reporter: facts.reporter,
            source,
            destination: Destination {
                service: service.host.clone(),
                name: service.name.clone(),
                namespace: service.namespace.clone(),
                workloads: BTreeSet::new(),
            },
            security: UNKNOWN,
            protocols: BTreeSet::new(),
            requests: Requests::default(),
            latency: Latency::default(),
            bytes: Bytes::default(),
            tcp: Tcp::default(),
            seen: BTreeSet::new(),
        }
    }

    fn requests(&mut self, labels: &RequestLabels, totals: &RequestTotals) {
        self.seen.insert(security(labels.edge.facts()));
        self.protocols.insert(labels.protocol);
        let (count, counts) = (totals.requests, &mut self.requests);
        counts.total += count;
        *match (labels.code, labels.grpc) {
            (None, _) => &mut counts.unclassified,
            (Some(0), _) => &mut counts.unanswered,
            (Some(500..), _) => &mut counts.server_errors,
            (Some(400..500), _) => &mut counts.client_errors,
            (Some(_), None | Some("0")) => &mut counts.ok,
            // Of gRPC's statuses those that OpenTelemetry takes for the server's fault; without any the call was broken off.
            (Some(_), Some("2" | "4" | "12" | "13" | "14" | "15" | UNKNOWN)) => &mut counts.server_errors,
            (Some(_), Some(_)) => &mut counts.client_errors,
        } += count;
        if is_refusal(labels.flags) {
            counts.refused += count;
        }
        for (sum, bucket) in self.latency.buckets.iter_mut().zip(totals.durations) {
            *sum += bucket;
        }
        self.bytes.received += totals.bytes.0;
        self.bytes.sent += totals.bytes.1;
    }

    fn tcp(&mut self, labels: &TcpLabels, totals: TcpTotals) {
        self.seen.insert(security(labels.edge.facts()));
        self.protocols.insert("tcp");
        self.tcp.opened += totals.connections.0;
        self.tcp.closed += totals.connections.1;
        if is_refusal(labels.flags) {
            self.tcp.refused += totals.connections.1;
        }
        self.bytes.received += totals.bytes.0;
        self.bytes.sent += totals.bytes.1;
    }

    fn finished(mut self) -> Self {
        let bounds = bounds();
        self.latency.p50_ms = quantile(&self.latency.buckets, &bounds, 0.5);
        self.latency.p99_ms = quantile(&self.latency.buckets, &bounds, 0.99);
        let (secure, plain) = (self.seen.contains("mutual_tls"), self.seen.contains("plaintext"));
        self.security = match (secure, plain) {
            (true, true) => "mixed",
            (true, false) => "mutual_tls",
            (false, true) => "plaintext",
            (false, false) => UNKNOWN,
        };
        self
    }
}

/// How the traffic was protected. Istio leaves it open at the source's side; but there nothing goes to a workload under an identity
/// that has not proved it.
fn security(facts: &Facts) -> &'static str {
    let destination = &facts.destination;
    match facts.security {
        "mutual_tls" => "mutual_tls",
        "none" => "plaintext",
        _ if facts.reporter == "source" && destination.principal != UNKNOWN => "mutual_tls",
        _ if facts.reporter == "source" && destination.workload != UNKNOWN => "plaintext",
        _ => UNKNOWN,
    }
}

#[allow(clippy::cast_precision_loss, reason = "bounds are far below 2^52")]
fn bounds() -> Vec<f64> {
    series::BOUNDS.iter().map(|bound| *bound as f64 / 1000.0).collect()
}

/// What that share of the values is at most, in milliseconds, given how many lie below each bound and not below the one before.
#[allow(clippy::cast_precision_loss, reason = "an estimate anyway")]
pub(crate) fn quantile(buckets: &[u64], bounds_ms: &[f64], share: f64) -> Option<f64> {
    let total: u64 = buckets.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = share * total as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for (count, upper) in buckets.iter().zip(bounds_ms) {
        let count = *count as f64;
        if count > 0.0 && below + count >= rank {
            return Some(lower + (upper - lower) * ((rank - below) / count));
        }
        (below, lower) = (below + count, *upper);
    }
    // Beyond all bounds nothing is known but that.
    Some(lower)
}

#[cfg(test)]
mod tests;
