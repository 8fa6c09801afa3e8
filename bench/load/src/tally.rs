//! What became of the requests.

use std::io::{Result, Write};
use std::time::Duration;

/// Each answered request: when it was due since the beginning, and its latency; and how many others there were.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    answered: Vec<(Duration, Duration)>,
    /// Without an answer, or with one that is no 2xx.
    pub(crate) failed: u64,
    /// Not sent at all: those before them took too long.
    pub(crate) unsent: u64,
}

impl Tally {
    pub(crate) fn answered(&mut self, due: Duration, latency: Duration) {
        self.answered.push((due, latency));
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.answered.extend(other.answered);
        self.failed += other.failed;
        self.unsent += other.unsent;
    }

    /// Each that was answered on a line of its own, in microseconds.
    pub(crate) fn write(&self, out: &mut impl Write) -> Result<()> {
        self.answered
            .iter()
            .try_for_each(|(due, latency)| writeln!(out, "{}\t{}", due.as_micros(), latency.as_micros()))
    }

    /// One line; latencies in microseconds, counted from when a request was due. The first was due at `begin_unix`.
    pub(crate) fn json(mut self, seconds: f64, begin_unix: Duration) -> String {
        self.answered.sort_unstable_by_key(|(_, latency)| *latency);
        let at = |share: f64| self.at(share).as_secs_f64() * 1e6;
        format!(
            "{{\"answered\": {}, \"failed\": {}, \"unsent\": {}, \"seconds\": {seconds}, \"begin_unix\": {:.6}, \"p50_us\": {:.1}, \"p90_us\": {:.1}, \
             \"p99_us\": {:.1}, \"p999_us\": {:.1}, \"max_us\": {:.1}}}",
            self.answered.len(),
            self.failed,
            self.unsent,
            begin_unix.as_secs_f64(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            at(1.0),
        )
    }

    /// The least latency that this share of all that were answered did not exceed; of sorted ones.
    fn at(&self, share: f64) -> Duration {
        let rank = (self.answered.len() as f64 * share).ceil() as usize;
        self.answered.get(rank.saturating_sub(1)).map_or(Duration::ZERO, |(_, latency)| *latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_latency_that_was_measured() {
        let mut tally = Tally::default();
        for number in (1..=100).rev() {
            tally.answered(Duration::from_millis(number), Duration::from_micros(number));
        }
        tally.failed = 2;
        let mut each = Vec::new();
        tally.write(&mut each).unwrap();
        assert!(each.starts_with(b"100000\t100\n99000\t99\n"));
        let json = tally.json(1.5, Duration::from_millis(7));
        for part in [
            "\"answered\": 100",
            "\"failed\": 2",
            "\"seconds\": 1.5",
            "\"begin_unix\": 0.007000",
            "\"p50_us\": 50.0",
            "\"p99_us\": 99.0",
            "\"max_us\": 100.0",
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
    }

    #[test]
    fn nothing_answered_has_no_latency() {
        assert!(Tally::default().json(1.0, Duration::ZERO).contains("\"p99_us\": 0.0"));
    }
}
