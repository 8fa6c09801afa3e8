//! A metric with labels: its series, of which there are only so many, and which go when nothing is counted in them.
//!
//! The one idea: who counts holds its series, and a series that somebody holds stays. So none is lost by being forgotten, and none
//! is counted twice. What is one too many goes to a single series whose labels all say `overflow`.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use tokio::time::Instant;

use super::exposition::Page;
use super::series::{Counter, Gauge, Metric};

/// What stands in every label of what was one series too many.
pub const OVERFLOW: &str = "overflow";

/// See `metrics.maxSeries`; here for what is made without a bootstrap.
const MAX: usize = 500;

/// The labels that tell a family's series from each other.
pub trait LabelSet: EncodeLabelSet + Clone + Eq + Hash {
    /// Of what was one series too many.
    fn overflow() -> Self;
}

/// Series by their labels. A clone is the same family.
#[derive(Debug)]
pub struct Family<L, M>(Arc<Mutex<Kept<L, M>>>);

#[derive(Debug)]
struct Kept<L, M> {
    max: usize,
    series: HashMap<Arc<L>, Entry<M>>,
    overflow: Option<(Arc<L>, Entry<M>)>,
}

#[derive(Debug, Default)]
struct Entry<M> {
    metric: M,
    /// What [`Metric::activity`] was at the last look.
    seen: u64,
    /// Since when it is the same.
    since: Option<Instant>,
}

impl<M: Metric> Entry<M> {
    fn is_idle(&mut self, now: Instant, idle: Duration) -> bool {
        let activity = self.metric.activity();
        if self.metric.is_held() || activity != self.seen || self.since.is_none() {
            self.seen = activity;
            self.since = Some(now);
        }
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= idle)
    }
}

impl<L, M> Default for Family<L, M> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Kept { max: MAX, series: HashMap::new(), overflow: None })))
    }
}

impl<L, M> Clone for Family<L, M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: LabelSet, M: Metric> Family<L, M> {
    /// The series of these labels; of what is one too many, the one of all that are.
    pub fn get_or_create(&self, labels: &L) -> M {
        let mut kept = self.locked();
        if let Some(entry) = kept.series.get(labels) {
            return entry.metric.clone();
        }
        if kept.series.len() >= kept.max {
            let new = || (Arc::new(L::overflow()), Entry::default());
            return kept.overflow.get_or_insert_with(new).1.metric.clone();
        }
        kept.series.entry(Arc::new(labels.clone())).or_default().metric.clone()
    }

    /// Forgets a series.
    pub fn remove(&self, labels: &L) {
        self.locked().series.remove(labels);
    }

    /// There are no more than so many series from now on, beside the one of what is too many.
    pub fn limit(&self, max: usize) {
        self.locked().max = max;
    }

    /// Forgets the series that nobody holds and in which nothing was counted for `idle`, as of each such look.
    pub fn forget_idle(&self, now: Instant, idle: Duration) {
        let mut kept = self.locked();
        kept.series.retain(|_, entry| !entry.is_idle(now, idle));
        if kept.overflow.as_mut().is_some_and(|(_, entry)| entry.is_idle(now, idle)) {
            kept.overflow = None;
        }
    }

    /// All series with their labels. Nobody waits for as long as it takes to write them down.
    pub fn all(&self) -> Vec<(Arc<L>, M)> {
        let kept = self.locked();
        let overflow = kept.overflow.iter().map(|(labels, entry)| (labels, entry));
        kept.series.iter().chain(overflow).map(|(labels, entry)| (Arc::clone(labels), entry.metric.clone())).collect()
    }

    fn locked(&self) -> MutexGuard<'_, Kept<L, M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands on the page under one name.
pub trait Exposed {
    /// Writes it.
    ///
    /// # Errors
    /// The page cannot be written.
    fn write(&self, name: &str, help: &str, page: &mut Page<'_>) -> fmt::Result;

    /// See [`Family::limit`].
    fn limit(&self, _max: usize) {}
}

impl Exposed for Counter {
    fn write(&self, name: &str, help: &str, page: &mut Page<'_>) -> fmt::Result {
        page.counter(name, help)?.count(self.get())
    }
}

impl Exposed for Gauge {
    fn write(&self, name: &str, help: &str, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(name, help)?.level(self.get())
    }
}

impl<L: LabelSet> Exposed for Family<L, Counter> {
    fn write(&self, name: &str, help: &str, page: &mut Page<'_>) -> fmt::Result {
        let mut metric = page.counter(name, help)?;
        self.all().iter().try_for_each(|(labels, counter)| metric.of(&**labels)?.count(counter.get()))
    }

    fn limit(&self, max: usize) {
        Family::limit(self, max);
    }
}

impl<L: LabelSet> Exposed for Family<L, Gauge> {
    fn write(&self, name: &str, help: &str, page: &mut Page<'_>) -> fmt::Result {
        let mut metric = page.gauge(name, help)?;
        self.all().iter().try_for_each(|(labels, gauge)| metric.of(&**labels)?.level(gauge.get()))
    }

    fn limit(&self, max: usize) {
        Family::limit(self, max);
    }
}

#[cfg(test)]
mod tests;
