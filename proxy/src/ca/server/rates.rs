//! How many certificates there are a second: for one identity, and for all.
//!
//! Buckets that fill steadily: a workload that was scaled up comes with many pods at once, and has room for that; who asks all the time
//! gets what drips in.

use std::collections::HashMap;

use meshgate_identity::SpiffeId;
use tokio::time::Instant;

/// How many seconds' worth may come at once.
const BURST_SECONDS: f64 = 10.0;

/// Identities of which something is remembered, before those with a full bucket are forgotten.
const REMEMBERED: usize = 10_000;

/// So many a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate(f64);

impl Rate {
    pub(super) fn a_second(number: u32) -> Self {
        Self(f64::from(number))
    }

    fn most(self) -> f64 {
        self.0 * BURST_SECONDS
    }
}

/// How much is left, as of when.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: Rate, at: Instant) -> Self {
        Self { left: rate.most(), at }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let came = now.saturating_duration_since(self.at).as_secs_f64() * rate.0;
        *self = Self { left: (self.left + came).min(rate.most()), at: now };
    }
}

/// All buckets.
#[derive(Debug)]
pub(super) struct Rates {
    one: Rate,
    all: Rate,
    by_identity: HashMap<SpiffeId, Bucket>,
    total: Option<Bucket>,
}

impl Rates {
    pub(super) fn new(one: Rate, all: Rate) -> Self {
        Self { one, all, by_identity: HashMap::new(), total: None }
    }

    /// Takes one for this identity.
    ///
    /// # Errors
    /// Whose bucket is empty. An identity's own is asked first, so that one of them does not empty everybody's.
    pub(super) fn take(&mut self, id: &SpiffeId, now: Instant) -> Result<(), &'static str> {
        if self.by_identity.len() >= REMEMBERED && !self.by_identity.contains_key(id) {
            let (rate, most) = (self.one, self.one.most());
            self.by_identity.retain(|_, bucket| {
                bucket.fill(rate, now);
                bucket.left < most
            });
        }
        let own = self.by_identity.entry(id.clone()).or_insert_with(|| Bucket::full(self.one, now));
        own.fill(self.one, now);
        let total = self.total.get_or_insert_with(|| Bucket::full(self.all, now));
        total.fill(self.all, now);
        if own.left < 1.0 {
            return Err("for this identity");
        }
        if total.left < 1.0 {
            return Err("in total");
        }
        own.left -= 1.0;
        total.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_identity_has_its_own_share_and_all_have_one_in_common() {
        let id = |name: &str| format!("spiffe://td/ns/default/sa/{name}").parse::<SpiffeId>().unwrap();
        let mut rates = Rates::new(Rate::a_second(1), Rate::a_second(2));
        let taken = |rates: &mut Rates, name: &str, times: usize| {
            (0..times).filter(|_| rates.take(&id(name), Instant::now()).is_ok()).count()
        };
        assert_eq!(taken(&mut rates, "one", 50), 10);
        assert_eq!(rates.take(&id("one"), Instant::now()), Err("for this identity"));
        assert_eq!(taken(&mut rates, "two", 50), 10);
        assert_eq!(rates.take(&id("three"), Instant::now()), Err("in total"));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(taken(&mut rates, "one", 50), 3);
        assert_eq!(taken(&mut rates, "three", 50), 3);
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert_eq!(taken(&mut rates, "one", 50), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_not_come_for_long_is_forgotten() {
        let mut rates = Rates::new(Rate::a_second(10), Rate::a_second(1_000_000));
        for number in 0..3 * REMEMBERED {
            tokio::time::advance(Duration::from_millis(1)).await;
            let id = format!("spiffe://td/ns/default/sa/{number}").parse().unwrap();
            rates.take(&id, Instant::now()).unwrap();
        }
        assert!(rates.by_identity.len() <= REMEMBERED, "{}", rates.by_identity.len());
    }
}
