//! Istio's standard metrics: what one set of labels counts, and how it stands on the page.
//!
//! The one idea: all metrics of a request have the same labels, so they are one series here and many there; one look-up finds them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};

use super::edge::Edge;
use super::exposition::{Page, Written};
use super::family::{Family, LabelSet, OVERFLOW};
use super::series::{Histogram, Metric};

/// Labels of Istio's request metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestLabels {
    /// Who talks to whom.
    pub edge: Edge,
    /// `http` or `grpc`.
    pub protocol: &'static str,
    /// The status sent downstream; 0 when none was; `None` of what was one series too many.
    pub code: Option<u16>,
    /// The gRPC status by its number, `unknown` where none came; `None` of what is no gRPC, which leaves the label out.
    pub grpc: Option<&'static str>,
    /// Envoy's letters, `-` when the answer is the upstream's own.
    pub flags: &'static str,
}

impl LabelSet for RequestLabels {
    fn overflow() -> Self {
        Self { edge: Edge::overflow(), protocol: OVERFLOW, code: None, grpc: Some(OVERFLOW), flags: OVERFLOW }
    }
}

impl EncodeLabelSet for RequestLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.edge.encode(encoder)?;
        ("request_protocol", self.protocol).encode(encoder.encode_label())?;
        match self.code {
            Some(code) => ("response_code", code).encode(encoder.encode_label())?,
            None => ("response_code", OVERFLOW).encode(encoder.encode_label())?,
        }
        if let Some(status) = self.grpc {
            ("grpc_response_status", status).encode(encoder.encode_label())?;
        }
        ("response_flags", self.flags).encode(encoder.encode_label())
    }
}

/// Labels of Istio's TCP metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TcpLabels {
    /// Who talks to whom.
    pub edge: Edge,
    /// As [`RequestLabels::flags`]. Of what is counted before the end it is `-`.
    pub flags: &'static str,
}

impl LabelSet for TcpLabels {
    fn overflow() -> Self {
        Self { edge: Edge::overflow(), flags: OVERFLOW }
    }
}

impl EncodeLabelSet for TcpLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.edge.encode(encoder)?;
        let protocol = if self.flags == OVERFLOW { OVERFLOW } else { "tcp" };
        ("request_protocol", protocol).encode(encoder.encode_label())?;
        ("response_flags", self.flags).encode(encoder.encode_label())
    }
}

/// What is counted of requests.
#[derive(Debug, Default)]
pub struct RequestSeries {
    requests: AtomicU64,
    /// From the request being read to the end of its answer.
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    request_messages: AtomicU64,
    response_messages: AtomicU64,
}

/// What there is to count of one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Amounts {
    /// From its being read to the end of its answer.
    pub took: std::time::Duration,
    /// Bytes of its body.
    pub received: u64,
    /// Bytes of the answer's.
    pub sent: u64,
    /// gRPC messages each way.
    pub messages: (u64, u64),
}

impl RequestSeries {
    /// One more.
    pub fn count(&self, amounts: &Amounts) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.duration.observe_millis(amounts.took);
        self.request_bytes.observe_bytes(amounts.received);
        self.response_bytes.observe_bytes(amounts.sent);
        if amounts.messages != (0, 0) {
            self.request_messages.fetch_add(amounts.messages.0, Ordering::Relaxed);
            self.response_messages.fetch_add(amounts.messages.1, Ordering::Relaxed);
        }
    }
}

/// What one series of requests has counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestTotals {
    /// How many.
    pub requests: u64,
    /// Of their durations, as [`Histogram::read`]: buckets alone.
    pub durations: [u64; 20],
    /// Bytes of bodies, to the service and from it.
    pub bytes: (u64, u64),
}

impl RequestSeries {
    /// What it has counted; read one after the other while it is added to.
    pub fn totals(&self) -> RequestTotals {
        RequestTotals {
            requests: self.requests.load(Ordering::Relaxed),
            durations: self.duration.read().0,
            bytes: (self.request_bytes.read().1 / 1000, self.response_bytes.read().1 / 1000),
        }
    }
}

/// What one series of TCP connections has counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpTotals {
    /// How many began, and ended.
    pub connections: (u64, u64),
    /// Bytes from the downstream and to it.
    pub bytes: (u64, u64),
}

impl TcpSeries {
    /// As [`RequestSeries::totals`].
    pub fn totals(&self) -> TcpTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TcpTotals {
            connections: (read(&self.opened), read(&self.closed)),
            bytes: (read(&self.received), read(&self.sent)),
        }
    }
}

/// What is counted of TCP connections.
#[derive(Debug, Default)]
pub struct TcpSeries {
    opened: AtomicU64,
    closed: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl TcpSeries {
    /// One more is open.
    pub fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// One has ended.
    pub fn closed(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more bytes came from the downstream, and went to it.
    pub fn moved(&self, received: u64, sent: u64) {
        if received > 0 {
            self.received.fetch_add(received, Ordering::Relaxed);
        }
        if sent > 0 {
            self.sent.fetch_add(sent, Ordering::Relaxed);
        }
    }
}

impl Metric for Arc<RequestSeries> {
    fn activity(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn is_held(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl Metric for Arc<TcpSeries> {
    fn activity(&self) -> u64 {
        [&self.opened, &self.closed, &self.received, &self.sent]
            .iter()
            .fold(0, |sum: u64, counter| sum.wrapping_add(counter.load(Ordering::Relaxed)))
    }

    fn is_held(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

/// Names and help texts of the request metrics, in the order of the page.
pub const REQUEST_METRICS: [(&str, &str); 6] = [
    ("istio_requests_total", "Requests"),
    ("istio_request_duration_milliseconds", "From a request being read to the end of its answer"),
    ("istio_request_bytes", "Bytes of requests' bodies"),
    ("istio_response_bytes", "Bytes of answers' bodies"),
    ("istio_request_messages_total", "Messages of gRPC requests"),
    ("istio_response_messages_total", "Messages of gRPC answers"),
];

/// Names and help texts of the TCP metrics, in the order of the page.
pub const TCP_METRICS: [(&str, &str); 4] = [
    ("istio_tcp_connections_opened_total", "TCP connections opened"),
    ("istio_tcp_connections_closed_total", "TCP connections closed"),
    ("istio_tcp_received_bytes_total", "Bytes received from the downstream on TCP connections"),
    ("istio_tcp_sent_bytes_total", "Bytes sent to the downstream on TCP connections"),
];

/// One of the things that a request counts.
type Of<T> = fn(&RequestSeries) -> &T;

/// Writes the request metrics.
///
/// # Errors
/// The page cannot be written.
pub fn write_requests(family: &Family<RequestLabels, Arc<RequestSeries>>, page: &mut Page<'_>) -> fmt::Result {
    let all: Vec<_> = family.all().into_iter().map(|(labels, series)| (Written::of(labels), series)).collect();
    let [requests, duration, request_bytes, response_bytes, request_messages, response_messages] = REQUEST_METRICS;
    let histograms: [(_, Of<Histogram>); 3] = [
        (duration, |series| &series.duration),
        (request_bytes, |series| &series.request_bytes),
        (response_bytes, |series| &series.response_bytes),
    ];
    let counters: [(_, Of<AtomicU64>, bool); 3] = [
        (requests, |series| &series.requests, false),
        (request_messages, |series| &series.request_messages, true),
        (response_messages, |series| &series.response_messages, true),
    ];
    for ((name, help), of, only_some) in counters {
        let mut metric = page.counter(name, help)?;
        for (labels, series) in &all {
            let value = of(series).load(Ordering::Relaxed);
            if value > 0 || !only_some {
                metric.of(labels)?.count(value)?;
            }
        }
    }
    for ((name, help), of) in histograms {
        let mut metric = page.histogram(name, help)?;
        for (labels, series) in &all {
            metric.of(labels)?.buckets(of(series))?;
        }
    }
    Ok(())
}

/// Writes the TCP metrics.
///
/// # Errors
/// The page cannot be written.
pub fn write_tcp(family: &Family<TcpLabels, Arc<TcpSeries>>, page: &mut Page<'_>) -> fmt::Result {
    let all = family.all();
    let counters: [fn(&TcpSeries) -> &AtomicU64; 4] =
        [|series| &series.opened, |series| &series.closed, |series| &series.received, |series| &series.sent];
    for ((name, help), of) in TCP_METRICS.into_iter().zip(counters) {
        let mut metric = page.counter(name, help)?;
        for (labels, series) in &all {
            metric.of(&**labels)?.count(of(series).load(Ordering::Relaxed))?;
        }
    }
    Ok(())
}
