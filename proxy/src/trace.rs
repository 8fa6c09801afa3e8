//! Takes part in traces: one span a request at each proxy, in the trace of whoever called, sent to a collector over OTLP.
//!
//! The one idea: whether a trace is recorded is decided once, by whoever begins it. Who calls with a decision is followed, either way, and
//! one that says no finds its headers untouched. Only where there is no trace yet do we throw a die, and whatever comes of it is written
//! into the request, so that nobody behind us throws another.
//!
//! `context` is what a request says of its trace, W3C's and B3's way; [`Span`] what is recorded; `export` what becomes of it. A request
//! never waits for any of it: a queue that is full drops, and counts. TCP connections make no spans: there is nowhere to carry a trace in.

pub mod context;
mod export;
mod otlp;
mod span;
mod transport;

use std::sync::Arc;

use http::HeaderMap;
use meshgate_config::TracingSettings;
use tokio::sync::{Notify, mpsc};

use crate::metrics::{Counter, Metrics, ResultLabels};
use crate::random::Random;
use context::{Caller, Ours};

pub use export::{Exporter, Exporting};
pub use span::{Kind, Span};

/// A worker's end: begins spans, and hands over what has ended.
#[derive(Debug)]
pub struct Tracer {
    share: Share,
    queue: mpsc::Sender<Box<Span>>,
    /// Told when there is a batch.
    full: Arc<Notify>,
    batch: usize,
    dropped: Counter,
    high: Random,
    low: Random,
}

/// Which part of the traces that begin here is recorded. As OpenTelemetry's samplers do, it goes by the trace's own number, so that
/// whoever has the same share comes to the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    None,
    /// Whose last 64 bits are below this.
    Below(u64),
    All,
}

impl Share {
    fn of(sample: f64) -> Self {
        if sample >= 1.0 {
            return Self::All;
        }
        // 2^64 times the part; what is too small to count is none.
        match (sample * 18_446_744_073_709_551_616.0) as u64 {
            0 => Self::None,
            below => Self::Below(below),
        }
    }

    fn takes(self, trace: u128) -> bool {
        match self {
            Self::None => false,
            // The cut is meant: the last 64 bits.
            Self::Below(below) => (trace as u64) < below,
            Self::All => true,
        }
    }
}

impl Tracer {
    fn new(settings: &TracingSettings, queue: mpsc::Sender<Box<Span>>, full: Arc<Notify>, metrics: &Metrics) -> Self {
        let dropped = metrics.spans.get_or_create(&ResultLabels { result: "queue_full" }).clone();
        let (share, batch) = (Share::of(settings.sample), settings.batch);
        Self { share, queue, full, batch, dropped, high: Random::default(), low: Random::default() }
    }

    /// What a request brings of a trace decides; its headers are changed to what the next is to know of it. `None` where nothing is recorded.
    pub fn begin(&self, headers: &mut HeaderMap) -> Option<Box<Span>> {
        let caller = Caller::read(headers);
        let sampled = caller.sampled();
        if sampled == Some(false) || (sampled.is_none() && self.share == Share::None) {
            return None;
        }
        let parent = caller.ids();
        let trace = parent.map_or_else(|| self.trace_id(), |(trace, _)| trace);
        if sampled.is_none() && !self.share.takes(trace) {
            // Nothing is recorded here, so the next one's parent stays whoever it was.
            let span = parent.map_or_else(|| self.span_id(), |(_, span)| span);
            caller.write(headers, &Ours { trace, span, parent: None, sampled: false });
            return None;
        }
        let (span, parent) = (self.span_id(), parent.map(|(_, span)| span));
        caller.write(headers, &Ours { trace, span, parent, sampled: true });
        Some(Box::new(Span::new(trace, span, parent, caller.flags(), context::state(headers))))
    }

    /// Takes what has ended. Never waits.
    pub fn end(&self, span: Box<Span>) {
        if self.queue.try_send(span).is_err() {
            self.dropped.inc();
        }
        if self.queue.max_capacity() - self.queue.capacity() >= self.batch {
            self.full.notify_one();
        }
    }

    /// All zeros are no trace (W3C Trace Context, 3.2.2.3).
    fn trace_id(&self) -> u128 {
        (u128::from(self.high.next()) << 64 | u128::from(self.low.next())).max(1)
    }

    fn span_id(&self) -> u64 {
        self.low.next().max(1)
    }
}

#[cfg(test)]
mod tests;
