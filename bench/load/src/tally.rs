//! What became of the requests.

use std::time::Duration;

/// Each answered request's latency, and how many others there were.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    latencies: Vec<Duration>,
    /// Without an answer, or with one that is no 2xx.
    pub(crate) failed: u64,
    /// Not sent at all: those before them took too long.
    pub(crate) unsent: u64,
}

impl Tally {
    pub(crate) fn answered(&mut self, latency: Duration) {
        self.latencies.push(latency);
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.failed += other.failed;
        self.unsent += other.unsent;
    }

    /// One line; latencies in microseconds, counted from when a request was due.
    pub(crate) fn json(mut self, seconds: f64) -> String {
        self.latencies.sort_unstable();
        let at = |share: f64| self.at(share).as_secs_f64() * 1e6;
        format!(
            "{{\"answered\": {}, \"failed\": {}, \"unsent\": {}, \"seconds\": {seconds}, \"p50_us\": {:.1}, \"p90_us\": {:.1}, \
             \"p99_us\": {:.1}, \"p999_us\": {:.1}, \"max_us\": {:.1}}}",
            self.latencies.len(),
            self.failed,
            self.unsent,
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            at(1.0),
        )
    }

    /// The least latency that this share of all that were answered did not exceed; of sorted ones.
    fn at(&self, share: f64) -> Duration {
        let rank = (self.latencies.len() as f64 * share).ceil() as usize;
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_latency_that_was_measured() {
        let mut tally = Tally::default();
        for number in (1..=100).rev() {
            tally.answered(Duration::from_micros(number));
        }
        tally.failed = 2;
        let json = tally.json(1.5);
        for part in [
            "\"answered\": 100",
            "\"failed\": 2",
            "\"seconds\": 1.5",
            "\"p50_us\": 50.0",
            "\"p99_us\": 99.0",
            "\"max_us\": 100.0",
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
    }

    #[test]
    fn nothing_answered_has_no_latency() {
        assert!(Tally::default().json(1.0).contains("\"p99_us\": 0.0"));
    }
}
