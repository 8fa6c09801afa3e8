//! Keeps a session with one gateway, and says whether it is up.
//!
//! The one idea: one lost session is no verdict. A gateway is down when a session could not be had twice in a row, the second
//! time at once after the first; from then on it is tried again within two seconds, so that its return is seen soon.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use meshgate_config::Discovered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::lookup::Lookup;
use super::session::{self, Failure, Heard};
use super::{Clusters, Gateway};
use crate::error::ProxyError;
use crate::http::guard::http2::{Guarded, Limits, Role};
use crate::metrics::{ClusterLabels, Metrics, ProbeLabels};
use crate::throttle;

/// Between tries: doubled with each failure that follows.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A session that lasted for so long was one, and its end is news.
const STOOD: Duration = Duration::from_secs(2);

/// How sessions are made.
pub(super) trait Dial {
    /// What they are made on.
    type Stream: AsyncRead + AsyncWrite + Unpin;

    /// A session's beginning, within a time.
    async fn dial(&mut self) -> Result<Self::Stream, ProxyError>;

    /// Returns when a session that was dialled last is not to be used any longer. Cancel-safe.
    async fn outdated(&mut self);
}

/// What keeps asking one gateway.
pub(super) struct Probe<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) clusters: &'a Clusters,
    pub(super) metrics: &'a Metrics,
    pub(super) lookup: Lookup<'a>,
    /// Takes what the gateway says of its exports.
    pub(super) discovered: &'a watch::Sender<Option<Discovered>>,
}

impl Probe<'_> {
    /// Asks for as long as it is polled.
    pub(super) async fn run(&self, mut dial: impl Dial) {
        let mut failures = 0_u32;
        loop {
            let heard_first = Cell::new(None);
            let failure = match self.session(&mut dial, &heard_first).await {
                Ok(()) => {
                    failures = 0;
                    continue;
                }
                Err(failure) => failure,
            };
            if heard_first.get().is_some_and(|at: Instant| at.elapsed() >= STOOD) {
                failures = 0;
            }
            failures = failures.saturating_add(if failure.is_refusal { 2 } else { 1 });
            self.failed(&failure, failures > 1);
            if let Some(again) = failures.checked_sub(2) {
                sleep(jittered(PAUSE_MIN.saturating_mul(1 << again.min(10)).min(PAUSE_MAX))).await;
            }
        }
    }

    /// One session from beginning to end; it ends without a failure when another is to be made.
    async fn session(&self, dial: &mut impl Dial, first: &Cell<Option<Instant>>) -> Result<(), Failure> {
        let stream = dial.dial().await?;
        let watch = |excess| self.metrics.http2_excess("gateway", excess);
        let stream = Guarded::new(stream, Role::Client, &Limits::default(), watch);
        let listening = session::listen(stream, self.gateway.address(), |heard| {
            if first.get().is_none() {
                first.set(Some(Instant::now()));
            }
            self.heard(heard);
        });
        tokio::select! {
            ended = listening => ended,
            () = dial.outdated() => Ok(()),
        }
    }

    fn heard(&self, heard: Heard) {
        let mut error = None;
        match heard {
            Heard::Heartbeat => return self.is_up(true, "it answers"),
            Heard::List(list) => {
                if let Some((count, why)) = list.left_out {
                    error = Some(format!("left out {count} of its services: {why}"));
                }
                self.gateway.update(|seen| seen.ready = Some(list.ready));
                self.discovered.send_if_modified(|known| {
                    let is_news = known.as_ref() != Some(&list.discovered);
                    *known = Some(list.discovered);
                    is_news
                });
            }
            Heard::Mute(why) => {
                self.gateway.update(|seen| seen.ready = None);
                error = Some(why);
            }
        }
        self.is_up(true, "it answers");
        let is_news = error != self.gateway.told().error;
        if let Some(error) = error.as_ref().filter(|_| is_news)
            && throttle::admit().is_some()
        {
            tracing::warn!(gateway = %self.gateway.address(), "{error}");
        }
        self.gateway.tell(|told| told.error = error);
    }

    fn failed(&self, failure: &Failure, is_final: bool) {
        let Failure { reason, text, is_refusal } = failure;
        let address = self.gateway.address();
        let labels = ProbeLabels { cluster: address.cluster.to_string(), reason };
        self.metrics.probe_failures.get_or_create(&labels).inc();
        self.lookup.hurry();
        let was_down = self.gateway.is_down();
        let is_news = self.gateway.told().error.as_ref() != Some(text);
        self.gateway.tell(|told| told.error = Some(text.clone()));
        if is_final {
            self.is_up(false, text);
        }
        // Who is refused for another reason than before is somebody else than before.
        if *is_refusal && was_down && is_news && throttle::admit().is_some() {
            tracing::warn!(gateway = %address, "still refused: {text}");
        } else {
            tracing::debug!(gateway = %address, reason, "asking failed: {text}");
        }
    }

    /// Notes whether it answers, and says so when that is news.
    fn is_up(&self, up: bool, why: &str) {
        if self.gateway.seen().up == Some(up) {
            return;
        }
        let address = self.gateway.address();
        self.gateway.update(|seen| seen.up = Some(up));
        self.gateway.tell(|told| {
            told.since = Some(SystemTime::now());
            if up {
                told.error = None;
            }
        });
        let any = self.clusters.is_up(&address.cluster) == Some(true);
        let labels = ClusterLabels { cluster: address.cluster.to_string() };
        self.metrics.gateway_up.get_or_create(&labels).set(u64::from(any));
        match up {
            true => tracing::info!(gateway = %address, "gateway is up"),
            false => tracing::warn!(gateway = %address, "gateway is down: {why}"),
        }
    }
}

/// Between half and all of it, by chance, so that a mesh does not come back in step. The standard library seeds each of these
/// at random, and no more is needed here.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let chance = RandomState::new().build_hasher().finish() % 1000;
    pause.mul_f64(0.5 + f64::from(u32::try_from(chance).unwrap_or(0)) / 2000.0)
}

#[cfg(test)]
mod tests;
