//! How many requests of a service may be tried again: a share of what it is sent, and a few in any case.
//!
//! What a request adds is one count; clock and lock are for those that failed. Tries again are few where little fails, and where
//! much fails they must not make it worse.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meshgate_config::Retries;
use meshgate_policy::ObjectName;
use tokio::time::Instant;

/// For how long a request counts. What was not used by then is forgotten: an hour without a failure must not pay for a storm.
const WINDOW: Duration = Duration::from_secs(10);

/// The budget of one service port, shared by all workers.
#[derive(Debug)]
pub struct Budget {
    /// Those that have not been looked at yet.
    requests: AtomicU64,
    share: f64,
    per_second: f64,
    saved: Mutex<Saved>,
}

#[derive(Debug)]
struct Saved {
    at: Instant,
    /// Tries that the share of requests pays for.
    shared: f64,
    /// Tries that there are in any case.
    spare: f64,
}

impl Budget {
    /// Nothing has been spent yet.
    pub fn new(percent: u32, min_per_second: u32) -> Self {
        let per_second = f64::from(min_per_second);
        let saved = Saved { at: Instant::now(), shared: 0.0, spare: per_second };
        Self { requests: AtomicU64::new(0), share: f64::from(percent) / 100.0, per_second, saved: Mutex::new(saved) }
    }

    /// Counts a request.
    pub fn request(&self) {
        // Relaxed: only the count itself matters.
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Pays for one more try; false when there is nothing left to pay with.
    pub fn withdraw(&self) -> bool {
        let now = Instant::now();
        // A panic while holding this lock leaves valid numbers.
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(saved.at);
        saved.at = now;
        let window = WINDOW.as_secs_f64();
        let seconds = since.as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "2^52 requests in ten seconds do not happen")]
        let earned = self.requests.swap(0, Ordering::Relaxed) as f64 * self.share;
        // Of requests in a longer time than the window, those of the window; they came when nobody looked.
        let earned = if seconds > window { earned * window / seconds } else { earned };
        saved.shared = saved.shared * (1.0 - seconds / window).max(0.0) + earned;
        saved.spare = (saved.spare + seconds * self.per_second).min(self.per_second);
        let Saved { shared, spare, .. } = &mut *saved;
        for left in [shared, spare] {
            if *left >= 1.0 {
                *left -= 1.0;
                return true;
            }
        }
        false
    }
}

/// The budgets of all service ports. Looked up when a route is made, never per request.
#[derive(Debug)]
pub struct Budgets {
    settings: Retries,
    budgets: Mutex<HashMap<(ObjectName, u16), Arc<Budget>>>,
}

impl Budgets {
    /// None has been asked for yet.
    pub fn new(settings: Retries) -> Self {
        Self { settings, budgets: Mutex::default() }
    }

    /// The budget of a service port.
    pub fn of(&self, service: &ObjectName, port: u16) -> Arc<Budget> {
        // A panic while holding this lock leaves a valid map.
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Budget::new(self.settings.budget_percent, self.settings.budget_min_per_second));
        Arc::clone(budgets.entry((service.clone(), port)).or_insert_with(new))
    }

    /// Forgets the budgets of service ports for which `keep` is false.
    pub fn retain(&self, keep: impl Fn(&ObjectName, u16) -> bool) {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.retain(|(service, port), _| keep(service, *port));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn spend(budget: &Budget) -> usize {
        std::iter::repeat_with(|| budget.withdraw()).take_while(|paid| *paid).count()
    }

    fn requests(budget: &Budget, count: usize) {
        (0..count).for_each(|_| budget.request());
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_of_the_requests_may_be_tried_again() {
        let budget = Budget::new(20, 0);
        assert_eq!(spend(&budget), 0);
        requests(&budget, 100);
        assert_eq!(spend(&budget), 20);
        requests(&budget, 4);
        assert_eq!(spend(&budget), 0);
        requests(&budget, 1);
        assert_eq!(spend(&budget), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_may_be_tried_again_each_second_whatever_the_share() {
        let budget = Budget::new(0, 3);
        assert_eq!(spend(&budget), 3);
        advance(Duration::from_millis(400)).await;
        assert_eq!(spend(&budget), 1);
        // They do not add up over quiet seconds.
        advance(Duration::from_secs(60)).await;
        assert_eq!(spend(&budget), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_of_long_ago_pay_for_nothing() {
        let budget = Budget::new(100, 0);
        requests(&budget, 100);
        assert!(budget.withdraw());
        advance(Duration::from_secs(5)).await;
        assert_eq!(spend(&budget), 49);
        requests(&budget, 100);
        assert!(budget.withdraw());
        advance(WINDOW).await;
        assert_eq!(spend(&budget), 0);
        // A hundred seconds of requests that nobody looked at count for ten.
        requests(&budget, 100);
        advance(10 * WINDOW).await;
        assert_eq!(spend(&budget), 10);
    }

    #[test]
    fn all_workers_share_one_budget_per_service_port_that_outlives_a_reload() {
        let settings = Retries {
            attempts: 3,
            per_try_timeout: None,
            budget_percent: 0,
            budget_min_per_second: 4,
            buffer_bytes: 0,
        };
        let budgets = Budgets::new(settings);
        let name = ObjectName { namespace: "a".into(), name: "b".into() };
        let budget = budgets.of(&name, 80);
        // Paused time would be another clock on each thread; a second does not pass in between.
        let paid: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| usize::from(budgets.of(&name, 80).withdraw()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(paid, 4);
        budgets.retain(|_, port| port == 80);
        assert!(Arc::ptr_eq(&budget, &budgets.of(&name, 80)));
        assert!(!Arc::ptr_eq(&budget, &budgets.of(&name, 81)));
        budgets.retain(|_, _| false);
        assert!(!Arc::ptr_eq(&budget, &budgets.of(&name, 80)));
    }
}
