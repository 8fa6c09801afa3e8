//! What happened on each edge of late: the difference between two states of numbers that only grow.
//!
//! Rates are worked out over [`WINDOW`], as the live page has them; where nothing happened in it, success and latency are those since
//! the proxy's start, and are shown as such.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::state::{Destination, Edge, Requests, Source, State};
use crate::admin::edges::quantile;

/// Long enough that a caller of one request in some seconds is seen to call.
const WINDOW: Duration = Duration::from_secs(10);

/// The states of late.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<(Instant, HashMap<Key, Numbers>)>);

type Key = (String, Source, String, String);

#[derive(Debug, Clone, Default)]
struct Numbers {
    requests: Requests,
    opened: u64,
    refused: u64,
    buckets: Vec<u64>,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) from: String,
    pub(super) to: String,
    /// `mutual_tls`, `plaintext`, `mixed` or `unknown`.
    pub(super) security: String,
    /// Requests and TCP connections a second; `None` before there are two states.
    pub(super) rate: Option<f64>,
    /// The share of requests that went well, from 0 to 1; `None` without requests.
    pub(super) success: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// Whether success and latency are those of late, and not since the start.
    pub(super) is_of_late: bool,
    /// Requests and TCP connections since the start, and those of them that were refused.
    pub(super) total: u64,
    pub(super) refused: u64,
}

impl History {
    /// Takes a state of this moment, and says what its edges do.
    pub(super) fn rows(&mut self, state: &State, now: Instant) -> Vec<Row> {
        while self.0.len() > 1 && self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        let before = self.0.front();
        let bounds = &state.edges.bounds_ms;
        let row = |edge: &Edge| {
            let all = Numbers::of(edge);
            // One that was not there has begun since; one whose numbers have become less was forgotten meanwhile.
            let was = before.map(|(at, edges)| (now.duration_since(*at), edges.get(&key(edge))));
            let late = was.map(|(span, was)| (span, all.since(was)));
            Row::new(edge, &all, late, bounds)
        };
        let rows = state.edges.edges.iter().map(row).collect();
        self.0.push_back((now, state.edges.edges.iter().map(|edge| (key(edge), Numbers::of(edge))).collect()));
        rows
    }

    /// Forgets all: what comes next is another process.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn key(edge: &Edge) -> Key {
    let Destination { service, workloads } = &edge.destination;
    // What goes to no service is told apart by where it goes.
    let workload = if service == "unknown" { workloads.join(",") } else { String::new() };
    (edge.reporter.clone(), edge.source.clone(), service.clone(), workload)
}

impl Numbers {
    fn of(edge: &Edge) -> Self {
        Self {
            requests: edge.requests,
            opened: edge.tcp.opened,
            refused: edge.requests.refused + edge.tcp.refused,
            buckets: edge.latency.buckets.clone(),
        }
    }

    fn since(&self, was: Option<&Self>) -> Self {
        let none = Self::default();
        let was =
            was.filter(|was| was.requests.total <= self.requests.total && was.opened <= self.opened).unwrap_or(&none);
        let buckets = self.buckets.iter().enumerate();
        let before = |index| was.buckets.get(index).copied().unwrap_or_default();
        Self {
            requests: Requests {
                total: self.requests.total - was.requests.total,
                ok: self.requests.ok.saturating_sub(was.requests.ok),
                refused: self.requests.refused.saturating_sub(was.requests.refused),
            },
            opened: self.opened - was.opened,
            refused: self.refused.saturating_sub(was.refused),
            buckets: buckets.map(|(index, now)| now.saturating_sub(before(index))).collect(),
        }
    }
}

impl Row {
    #[allow(clippy::cast_precision_loss, reason = "rates and shares are read by people")]
    fn new(edge: &Edge, all: &Numbers, late: Option<(Duration, Numbers)>, bounds: &[f64]) -> Self {
        let rate = late
            .as_ref()
            .map(|(span, late)| (late.requests.total + late.opened) as f64 / span.as_secs_f64().max(f64::EPSILON));
        let late = late.map(|(_, late)| late).filter(|late| late.requests.total > 0);
        let is_of_late = late.is_some();
        let shown = late.as_ref().unwrap_or(all);
        let requests = shown.requests;
        Self {
            from: caller(&edge.source.namespace, &edge.source.workload, &edge.source.principal),
            to: to(edge),
            security: edge.security.clone(),
            rate,
            success: (requests.total > 0).then(|| requests.ok as f64 / requests.total as f64),
            p50_ms: quantile(&shown.buckets, bounds, 0.5),
            p99_ms: quantile(&shown.buckets, bounds, 0.99),
            is_of_late,
            total: all.requests.total + all.opened,
            refused: all.refused,
        }
    }
}

/// Who calls: its workload, else the last part of its identity.
pub(super) fn caller(namespace: &str, workload: &str, principal: &str) -> String {
    let account = principal.rsplit('/').next().unwrap_or_default();
    match (workload, account) {
        ("unknown" | "", "unknown" | "") => "unknown".to_owned(),
        ("unknown" | "", account) => format!("{namespace}/{account}"),
        (workload, _) => format!("{namespace}/{workload}"),
    }
}

/// Who is called: the service, else the workloads.
fn to(edge: &Edge) -> String {
    let Destination { service, workloads } = &edge.destination;
    match (service.as_str(), workloads.first()) {
        ("unknown" | "", Some(first)) => first.clone(),
        ("unknown" | "", None) => "unknown".to_owned(),
        (service, _) => service.to_owned(),
    }
}
