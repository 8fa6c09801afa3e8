//! What one series counts with: relaxed atomics, shared by all workers and read by the admin thread.
//!
//! The one idea: a handle is an `Arc`, looked up once and then only added to. Nothing here knows names or labels.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// What a family can keep.
pub trait Metric: Clone + Default {
    /// A number that has changed when anything was counted since it was last asked for.
    fn activity(&self) -> u64;

    /// Somebody beside the family holds it, and may count at any time.
    fn is_held(&self) -> bool;
}

/// A number that only grows.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.inc_by(1);
    }

    /// So many more.
    pub fn inc_by(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metric for Counter {
    fn activity(&self) -> u64 {
        self.get()
    }

    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// A number that goes up and down.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// It is this now.
    pub fn set(&self, value: u64) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// One more.
    pub fn inc(&self) {
        self.inc_by(1);
    }

    /// One less.
    pub fn dec(&self) {
        self.inc_by(-1);
    }

    /// So many more, or less.
    pub fn inc_by(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metric for Gauge {
    fn activity(&self) -> u64 {
        self.get().cast_unsigned()
    }

    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// The upper bounds of all histograms, in thousandths of their unit: Envoy's, in which Istio's dashboards think. Each is inclusive.
pub const BOUNDS: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// How often values were how large.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; 20],
    /// Thousandths.
    sum: AtomicU64,
}

impl Histogram {
    /// One more, of so many thousandths of the unit: two additions.
    pub fn observe(&self, thousandths: u64) {
        let at = BOUNDS.partition_point(|bound| *bound < thousandths);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(thousandths, Ordering::Relaxed);
    }

    /// One more, in milliseconds.
    pub fn observe_millis(&self, took: Duration) {
        self.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// One more, in bytes.
    pub fn observe_bytes(&self, bytes: u64) {
        self.observe(bytes.saturating_mul(1000));
    }

    /// How many there are in each bucket by itself, and the sum of all in thousandths. The buckets are read one after the other
    /// while they are being added to; their count is what they add up to.
    pub fn read(&self) -> ([u64; 20], u64) {
        let mut buckets = [0; 20];
        for (read, bucket) in buckets.iter_mut().zip(&self.buckets) {
            *read = bucket.load(Ordering::Relaxed);
        }
        (buckets, self.sum.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_is_below_it_and_what_is_beyond_all_has_a_place() {
        let histogram = Histogram::default();
        histogram.observe_millis(Duration::from_micros(500));
        histogram.observe_millis(Duration::from_micros(501));
        histogram.observe_bytes(u64::MAX);
        let (buckets, sum) = histogram.read();
        assert_eq!((buckets[0], buckets[1], buckets[19]), (1, 1, 1));
        assert_eq!(buckets.iter().sum::<u64>(), 3);
        assert_eq!(sum, 1000);
    }
}
