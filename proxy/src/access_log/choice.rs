//! Which lines are written. What went wrong always is; of the rest there may be a sample.
//!
//! How an exchange ends is only known when it has ended, and by then its request is gone: so a line is begun for each, and thrown
//! away at the end. That saves what it costs to write it, which is most.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use meshgate_config::{AccessLog, LogFilter};

/// A choice among lines, on one worker.
#[derive(Debug)]
pub(super) struct Choice {
    only_errors: bool,
    /// Of 2^64 that went well, how many are written; `None` = all.
    share: Option<u64>,
    random: Cell<u64>,
}

impl Choice {
    pub(super) fn all() -> Self {
        Self { only_errors: false, share: None, random: Cell::new(0) }
    }

    pub(super) fn of(settings: &AccessLog) -> Self {
        // From 0 to 1, as the bootstrap has been checked for. The conversion saturates.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let share = (settings.sample * u64::MAX as f64) as u64;
        Self {
            only_errors: settings.filter == LogFilter::Errors,
            share: (settings.sample < 1.0).then_some(share),
            random: Cell::new(RandomState::new().hash_one(0)),
        }
    }

    /// Whether the line of an exchange is written that went wrong, or well.
    pub(super) fn takes(&self, went_wrong: bool) -> bool {
        went_wrong || !self.only_errors && self.share.is_none_or(|share| self.next() < share)
    }

    /// xorshift64*: which lines are in the sample is nobody's secret.
    fn next(&self) -> u64 {
        let mut state = self.random.get() | 1;
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use meshgate_config::LogFormat;

    use super::*;

    fn choice(filter: LogFilter, sample: f64) -> Choice {
        Choice::of(&AccessLog { path: None, format: LogFormat::Json, filter, sample })
    }

    #[test]
    fn what_went_wrong_is_always_written() {
        for choice in [choice(LogFilter::Errors, 1.0), choice(LogFilter::All, 0.0), choice(LogFilter::Errors, 0.0)] {
            assert!((0..1000).all(|_| choice.takes(true)));
            assert!(!(0..1000).any(|_| choice.takes(false)));
        }
        assert!((0..1000).all(|_| choice(LogFilter::All, 1.0).takes(false)));
    }

    #[test]
    fn a_sample_is_about_as_large_as_was_asked_for() {
        let choice = choice(LogFilter::All, 0.1);
        let taken = (0..100_000).filter(|_| choice.takes(false)).count();
        assert!((9_000..11_000).contains(&taken), "{taken}");
    }
}
