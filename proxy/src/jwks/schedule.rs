//! When a key set is fetched next: Istio's intervals, with some chance in them so that a mesh does not ask in step.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// After the first failure; doubled with each that follows.
const RETRY_MIN: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(60 * 60);

/// Between two fetches that are asked for by tokens with unknown keys: whoever makes up key ids gets no more than that.
const HURRY_AFTER: Duration = Duration::from_secs(30);

/// The times of one key set.
#[derive(Debug)]
pub(super) struct Schedule {
    due: Instant,
    tried: bool,
    failures: u32,
    hurried: Option<Instant>,
}

impl Schedule {
    /// Due at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now, tried: false, failures: 0, hurried: None }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn was_tried(&self) -> bool {
        self.tried
    }

    pub(super) fn succeeded(&mut self, now: Instant, refresh: Duration) {
        self.tried = true;
        self.failures = 0;
        self.due = now + shortened(refresh);
    }

    /// Returns the time until the next try.
    pub(super) fn failed(&mut self, now: Instant) -> Duration {
        self.tried = true;
        let pause = shortened(RETRY_MIN.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX));
        self.failures = self.failures.saturating_add(1);
        self.due = now + pause;
        pause
    }

    /// Makes it due at once, unless that has happened a short while ago.
    pub(super) fn hurry(&mut self, now: Instant) {
        if self.hurried.is_none_or(|last| now.duration_since(last) >= HURRY_AFTER) {
            self.hurried = Some(now);
            self.due = self.due.min(now);
        }
    }
}

/// Up to a tenth shorter, by chance: the standard library seeds each of these at random, and no more is needed here.
fn shortened(pause: Duration) -> Duration {
    let chance = RandomState::new().build_hasher().finish() % 1000;
    pause - pause.mul_f64(f64::from(u32::try_from(chance).unwrap_or(0)) / 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roughly(pause: Duration, whole: Duration) -> bool {
        pause <= whole && pause >= whole.mul_f64(0.9)
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_ever_more_seldom() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = schedule.failed(now);
            assert!(roughly(pause, Duration::from_secs(minutes * 60)), "{minutes}: {pause:?}");
            assert_eq!(schedule.due(), now + pause);
        }
        schedule.succeeded(now, Duration::from_secs(1200));
        assert!(roughly(schedule.due() - now, Duration::from_secs(1200)));
        assert!(roughly(schedule.failed(now), RETRY_MIN));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_brings_one_early_fetch_in_thirty_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut schedule = Schedule::new(start);
        schedule.succeeded(start, Duration::from_secs(1200));
        for (seconds, is_due) in [(1, true), (2, false), (30, false), (31, true), (60, false), (61, true)] {
            schedule.hurry(at(seconds));
            assert_eq!(schedule.due() == at(seconds), is_due, "{seconds}");
            schedule.succeeded(at(seconds), Duration::from_secs(1200));
        }
    }
}
