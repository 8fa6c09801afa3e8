//! Whether an endpoint, or a gateway, is in rotation: what its answers have shown.
//!
//! The one idea: the path only counts, in atomics, and notices the rare moment when a count means something; then the slow part
//! decides, under a lock. An ejection ends by the clock of the main thread ([`super::ledger::keep`]), so that nothing on the path
//! looks at a clock. After it comes probation: the endpoint has its whole share again, the first failure takes it out at once,
//! the first success clears it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use meshgate_config::OutlierDetection;
use tokio::time::Instant;

use super::ledger::Ledger;
use super::load::Load;
use crate::metrics::{Counter, Family, Gauge, ReasonLabels};

/// Why something was taken out of rotation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// So many failures in a row.
    Consecutive(u32),
    /// It failed again as soon as it was back.
    Probation,
    /// It succeeds less often than the others.
    SuccessRate {
        /// Its rate, in percent.
        rate: f64,
        /// What would have done.
        least: f64,
    },
}

impl Reason {
    /// As the metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Consecutive(_) => "consecutive_failures",
            Self::Probation => "probation",
            Self::SuccessRate { .. } => "success_rate",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consecutive(failures) => write!(f, "{failures} failures in a row"),
            Self::Probation => f.write_str("failed again as soon as it was back"),
            Self::SuccessRate { rate, least } => {
                write!(f, "succeeds at {rate:.1}%, where {least:.1}% is to be expected")
            }
        }
    }
}

/// What every health needs to know of the process.
#[derive(Debug)]
pub struct Common {
    /// The operator's settings.
    pub settings: OutlierDetection,
    /// Greater whenever something has left or joined a rotation.
    pub version: AtomicU64,
    /// Counts ejections.
    pub ejections: Family<ReasonLabels, Counter>,
    /// How many are out now.
    pub ejected: Gauge,
}

/// The health of an endpoint of one service, or of a gateway whatever the service; shared by all workers.
#[derive(Debug)]
// A cache line of its own: it is written for every request, by whichever core has it.
#[repr(align(64))]
pub struct Health {
    /// Failures in a row.
    row: AtomicU32,
    ejected: AtomicBool,
    probation: AtomicBool,
    /// Since the last look at the rates: successes above all, 32 bits each.
    window: AtomicU64,
    /// How busy it is.
    pub load: Load,
    name: Box<str>,
    common: Arc<Common>,
    /// The service of whose endpoints it is one; of a gateway none.
    among: Option<Weak<Ledger>>,
    term: Mutex<Term>,
}

#[derive(Debug, Default)]
struct Term {
    until: Option<Instant>,
    /// Why it is out, or was last.
    reason: Option<Reason>,
    /// How often it was out, less the intervals in which it has behaved since.
    times: u32,
}

impl Health {
    /// Of something of which nothing bad is known. `among` is the service it is one endpoint of.
    pub fn new(name: &str, common: &Arc<Common>, among: Option<Weak<Ledger>>) -> Arc<Self> {
        Arc::new(Self {
            row: AtomicU32::new(0),
            ejected: AtomicBool::new(false),
            probation: AtomicBool::new(false),
            window: AtomicU64::new(0),
            load: Load::new(Instant::now()),
            name: name.into(),
            common: Arc::clone(common),
            among,
            term: Mutex::default(),
        })
    }

    /// Whether it is out of rotation.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Acquire)
    }

    /// Why it is out of rotation, and for how long, for people; `None` where it is in.
    pub fn out(&self, now: Instant) -> Option<String> {
        let term = self.term();
        let (until, reason) = term.until.zip(term.reason)?;
        let left = until.saturating_duration_since(now).as_secs_f32().ceil();
        Some(format!("{reason}, for {left}s more"))
    }

    /// It did what was asked of it.
    pub fn succeeded(&self) {
        if self.row.load(Ordering::Relaxed) != 0 {
            self.row.store(0, Ordering::Relaxed);
        }
        if self.probation.load(Ordering::Relaxed) && self.probation.swap(false, Ordering::Relaxed) {
            tracing::info!(endpoint = %self.name, "answers again");
        }
    }

    /// It did not. Takes it out of rotation if that was once too often.
    pub fn failed(&self) {
        let row = self.row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let threshold = self.common.settings.consecutive_failures;
        if self.is_ejected() {
            return;
        }
        if self.probation.load(Ordering::Relaxed) {
            self.eject(Reason::Probation, Instant::now());
        } else if threshold > 0 && row >= threshold {
            self.eject(Reason::Consecutive(row), Instant::now());
        }
    }

    /// One more answer for the comparison of rates.
    pub fn rated(&self, success: bool) {
        if self.common.settings.success_rate_stdev_factor > 0 {
            self.window.fetch_add(1 | u64::from(success) << 32, Ordering::Relaxed);
        }
    }

    /// Successes and all since it was last asked.
    pub fn take_rated(&self) -> (u32, u32) {
        let window = self.window.swap(0, Ordering::Relaxed);
        ((window >> 32) as u32, (window & u64::from(u32::MAX)) as u32)
    }

    /// Takes it out of rotation, unless too many of its service are out already.
    pub fn eject(&self, reason: Reason, now: Instant) {
        let Some(among) = &self.among else {
            return self.leave(reason, now);
        };
        // Of a service that is gone, nobody is asked any more.
        if let Some(service) = among.upgrade() {
            service.eject(self, reason, now);
        }
    }

    /// Leaves the rotation for a while. Who calls this has made sure that it may.
    pub fn leave(&self, reason: Reason, now: Instant) {
        let mut term = self.term();
        if self.is_ejected() {
            return;
        }
        term.times = term.times.saturating_add(1);
        term.reason = Some(reason);
        let settings = &self.common.settings;
        let time = settings.base_ejection_time.saturating_mul(term.times).min(settings.max_ejection_time);
        // Beyond what a clock can tell is for ever; a later look would find the same.
        term.until = Some(now.checked_add(time).unwrap_or_else(|| now + Duration::from_secs(u64::from(u32::MAX))));
        self.row.store(0, Ordering::Relaxed);
        self.ejected.store(true, Ordering::Release);
        self.common.ejected.inc();
        self.common.ejections.get_or_create(&ReasonLabels { reason: reason.label() }).inc();
        self.common.version.fetch_add(1, Ordering::Release);
        tracing::info!(endpoint = %self.name, %reason, ?time, "out of rotation");
    }

    /// Joins the rotation again, on probation, if its time is over.
    pub fn rejoin(&self, now: Instant) {
        let mut term = self.term();
        if term.until.is_none_or(|until| until > now) {
            return;
        }
        term.until = None;
        self.row.store(0, Ordering::Relaxed);
        self.probation.store(true, Ordering::Relaxed);
        self.ejected.store(false, Ordering::Release);
        self.common.ejected.dec();
        self.common.version.fetch_add(1, Ordering::Release);
        tracing::info!(endpoint = %self.name, "in rotation again, on probation");
    }

    /// An interval is over in which it was not out: its next time out is shorter by one.
    pub fn behaved(&self) {
        if !self.is_ejected() {
            let mut term = self.term();
            term.times = term.times.saturating_sub(1);
        }
    }

    fn term(&self) -> MutexGuard<'_, Term> {
        // A panic while holding this lock leaves a valid term.
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        if self.is_ejected() {
            self.common.ejected.dec();
        }
    }
}
