//! How busy an endpoint is, and how long it takes: what is drawn by lot between two goes by.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// After as long without an answer, a latency counts half.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// What an endpoint that failed is taken to need at least: refusing quickly must not look like being fast.
const FAILED: Duration = Duration::from_secs(1);

/// What an endpoint with requests in progress is taken to need that has never answered, in microseconds: it is not known to be
/// slow, but one answer should be waited for.
const UNANSWERED: f32 = 1_000_000.0;

/// The load of one endpoint by all workers of this process.
#[derive(Debug)]
pub struct Load {
    made: Instant,
    in_progress: AtomicU32,
    /// When it was last observed, in milliseconds since it was made (wrapping), above the bits of an `f32` of microseconds.
    /// In one word, so that they belong together without a lock. 0 = nothing was.
    latency: AtomicU64,
}

impl Load {
    /// Nothing in progress, nothing known.
    pub fn new(now: Instant) -> Self {
        Self { made: now, in_progress: AtomicU32::new(0), latency: AtomicU64::new(0) }
    }

    /// A request begins.
    pub fn begin(&self) {
        self.in_progress.fetch_add(1, Ordering::Relaxed);
    }

    /// A request has ended.
    pub fn end(&self) {
        self.in_progress.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests in progress.
    pub fn in_progress(&self) -> u32 {
        self.in_progress.load(Ordering::Relaxed)
    }

    /// An answer took as long as `latency`. A peak counts at once, and what is lower by and by (Finagle's peak EWMA).
    pub fn observe(&self, latency: Duration, failed: bool, now: Instant) {
        let sample = if failed { latency.max(FAILED) } else { latency }.as_secs_f32() * 1e6;
        // Another thread's observation in between is not lost.
        let _ = self.latency.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |known| {
            let stamp = self.stamp(now);
            let decayed = self.decayed(known, stamp);
            let kept = decay(stamp.wrapping_sub((known >> 32) as u32));
            let next =
                if known == 0 || sample >= decayed { sample } else { latency_of(known) * kept + sample * (1.0 - kept) };
            Some(u64::from(stamp) << 32 | u64::from(next.max(1.0).to_bits()))
        });
    }

    /// How long the next request will have to wait, as far as one can tell; to be compared only.
    pub fn cost(&self, now: Instant) -> f32 {
        let pending = self.in_progress();
        match self.latency.load(Ordering::Relaxed) {
            0 if pending == 0 => 0.0,
            0 => UNANSWERED * pending as f32,
            known => self.decayed(known, self.stamp(now)) * (pending + 1) as f32,
        }
    }

    fn decayed(&self, known: u64, stamp: u32) -> f32 {
        latency_of(known) * decay(stamp.wrapping_sub((known >> 32) as u32))
    }

    #[expect(clippy::cast_possible_truncation, reason = "it wraps")]
    fn stamp(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.made).as_millis() as u32
    }
}

fn latency_of(known: u64) -> f32 {
    f32::from_bits((known & u64::from(u32::MAX)) as u32)
}

/// What is left of a latency after so many milliseconds. Another worker's clock may have been read a moment later.
fn decay(millis: u32) -> f32 {
    let millis = if millis > u32::MAX / 2 { 0 } else { millis };
    (-(millis as f32) / (HALF_LIFE.as_millis() as f32)).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_by_half_in_ten_seconds() {
        let start = Instant::now();
        let load = Load::new(start);
        assert_eq!(load.cost(start), 0.0);
        load.observe(10 * MS, false, start);
        load.observe(100 * MS, false, start + MS);
        assert!((load.cost(start + MS) - 100_000.0).abs() < 10.0, "{}", load.cost(start));
        load.observe(10 * MS, false, start + 2 * MS);
        assert!(load.cost(start + 2 * MS) > 99_000.0, "one fast answer does not make it fast");
        let later = load.cost(start + HALF_LIFE);
        assert!((49_000.0..51_000.0).contains(&later), "{later}");
        for n in 0..4000 {
            load.observe(10 * MS, false, start + n * 10 * MS);
        }
        let settled = load.cost(start + 40_000 * MS);
        assert!((9_900.0..16_000.0).contains(&settled), "{settled}");
    }

    #[test]
    fn requests_in_progress_multiply_and_failing_fast_is_not_being_fast() {
        let start = Instant::now();
        let (busy, failing, fresh) = (Load::new(start), Load::new(start), Load::new(start));
        busy.observe(10 * MS, false, start);
        busy.begin();
        busy.begin();
        assert!((busy.cost(start) - 30_000.0).abs() < 10.0);
        failing.observe(MS, true, start);
        assert!(failing.cost(start) > busy.cost(start));
        fresh.begin();
        assert!(fresh.cost(start) > busy.cost(start), "what has not answered yet gets one request, not all");
        busy.end();
        assert_eq!(busy.in_progress(), 1);
    }
}
