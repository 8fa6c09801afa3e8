//! Keeps a flood of faults from becoming a flood of log lines: each is a blocking write on the thread that moves the bytes.
//!
//! Nothing is lost by it. Every exchange has its line in the access log and its count in the metrics; these lines are for
//! whoever reads along.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Lines each thread may write in a [`WINDOW`]: enough to see what is wrong, and with how many.
const LINES: u32 = 10;

/// See [`LINES`].
const WINDOW: Duration = Duration::from_secs(1);

thread_local! {
    static THROTTLE: Throttle = const { Throttle { opened: Cell::new(None), asked: Cell::new(0), left_out: Cell::new(0) } };
}

struct Throttle {
    opened: Cell<Option<Instant>>,
    asked: Cell<u32>,
    left_out: Cell<u64>,
}

/// Whether this thread may write another line: if so, how many it has left out since its last one.
pub fn admit() -> Option<u64> {
    THROTTLE.with(Throttle::admit)
}

impl Throttle {
    fn admit(&self) -> Option<u64> {
        let now = Instant::now();
        if self.opened.get().is_none_or(|opened| now.duration_since(opened) >= WINDOW) {
            self.opened.set(Some(now));
            self.asked.set(0);
        }
        self.asked.set(self.asked.get().saturating_add(1));
        if self.asked.get() <= LINES {
            return Some(self.left_out.take());
        }
        self.left_out.set(self.left_out.get() + 1);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_becomes_a_few_lines_and_the_next_says_how_many_are_missing() {
        let admitted = (0..1000).filter_map(|_| admit()).collect::<Vec<_>>();
        assert_eq!(admitted, [0; LINES as usize]);
        tokio::time::advance(WINDOW).await;
        assert_eq!(admit(), Some(1000 - u64::from(LINES)));
        assert_eq!(admit(), Some(0));
    }
}
