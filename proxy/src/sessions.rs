//! The TLS sessions of a worker's open connections, judged again when the identity changes or a certificate ends.
//!
//! The one idea: what a peer showed is kept once, however many connections it has, and looked at once for all of them: by one task of
//! the worker, with one timer. Connections only read how it stands; who has to be told is woken. So an open connection costs a
//! pointer, and ten thousand of them no timer and no signature until something has changed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use meshgate_identity::{Identity, Lost, PeerChain, PeerRole, Standing};
use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::connection::Direction;
use crate::metrics::{Metrics, OutcomeLabels, RootSeries};
use crate::worker::{Worker, WorkerRef};

/// Between two looks at the wall clock: a certificate ends by it, and a timer does not see it being set.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Chains verified before other tasks have their turn; each takes about a tenth of a millisecond.
const AT_ONCE: usize = 16;

/// Chains that are kept before any is forgotten; then it is twice as many as are in use.
const SWEEP_MIN: usize = 64;

/// Until a connection is told to go that has begun on what is good no more: what it came to ask is under way by then.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// After a defect.
const REST: Duration = Duration::from_secs(1);

/// What the sessions of one kind have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    chain: Rc<PeerChain>,
    /// The root of the certificate that we showed, where a caller goes by it: see [`Identity::root`]. Whom we call needs none:
    /// what we called under an earlier certificate is not used again anyway.
    ours: Option<Arc<str>>,
}

/// What the peers of a worker's open connections showed.
#[derive(Debug, Default)]
pub struct Sessions {
    open: RefCell<HashMap<Kind, Weak<Session>>>,
    /// How many there may be before those that have ended are forgotten.
    sweep_at: Cell<usize>,
    /// When the next of them is to be looked at; `None` = there is none.
    next: Cell<Option<SystemTime>>,
    sooner: Notify,
    /// A connection has begun on what is good no more, and nobody has told it so.
    untold: Cell<bool>,
}

/// The sessions with one peer by one chain of certificates.
#[derive(Debug)]
pub struct Session {
    kind: Kind,
    standing: Cell<Standing>,
    /// Our own certificate is of another root by now. The caller is told to go while the one it believes us by still stands, so that
    /// nothing is in progress on the connection when that one is taken out of the bundles.
    outdated: Cell<bool>,
    /// The root by which the peer is believed; where it is not any more, the last one.
    rests: RefCell<Option<Rests>>,
    changed: Notify,
}

/// Counts a session among those that rest on a root, for as long as it is there.
#[derive(Debug)]
struct Rests {
    root: Arc<str>,
    series: RootSeries,
}

impl Drop for Rests {
    fn drop(&mut self) {
        self.series.sessions.dec();
    }
}

impl Session {
    fn new(kind: Kind, standing: Standing) -> Self {
        let (standing, outdated) = (Cell::new(standing), Cell::new(false));
        Self { kind, standing, outdated, rests: RefCell::default(), changed: Notify::new() }
    }

    /// Whether new work may be begun on it.
    pub fn is_good(&self) -> bool {
        matches!(self.standing.get(), Standing::Good { .. }) && !self.outdated.get()
    }

    /// Why it is over, if it is: what is at work on it has to end.
    pub fn over(&self) -> Option<&'static str> {
        match self.standing.get() {
            Standing::Over(Lost::Revoked) => Some("the peer's certificate has been revoked"),
            Standing::Over(Lost::Expired) => Some("the peer's certificate has expired"),
            Standing::Over(Lost::Untrusted) => Some("nobody vouches for the peer's certificate any more"),
            Standing::Good { .. } | Standing::Expired { .. } => None,
        }
    }

    /// What the peer showed, leaf first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        self.kind.chain.certificates()
    }

    /// Returns when no new work may be begun. Cancel-safe.
    pub async fn not_good(&self) {
        self.until(|| !self.is_good()).await;
    }

    /// Returns when it is over. Cancel-safe.
    pub async fn ended(&self) {
        self.until(|| self.over().is_some()).await;
    }

    async fn until(&self, reached: impl Fn() -> bool) {
        loop {
            // Registered before the look, so that no change slips between.
            let changed = self.changed.notified();
            if reached() {
                return;
            }
            changed.await;
        }
    }

    fn direction(&self) -> Direction {
        match self.kind.chain.role() {
            PeerRole::Caller => Direction::Inbound,
            PeerRole::Server(_) => Direction::Outbound,
        }
    }

    /// Notes by which root the peer is believed, if it is.
    fn rest(&self, identity: &Identity, metrics: &Metrics) {
        let Some((domain, root)) = identity.root_behind(&self.kind.chain, SystemTime::now()) else { return };
        let mut rests = self.rests.borrow_mut();
        if rests.as_ref().is_none_or(|rests| rests.root != root) {
            let series = metrics.by_root.series(self.direction(), &domain, &root);
            series.sessions.inc();
            *rests = Some(Rests { root, series });
        }
    }

    fn is_due(&self, now: SystemTime) -> bool {
        match self.standing.get() {
            Standing::Good { until } | Standing::Expired { until } => until <= now,
            Standing::Over(_) => false,
        }
    }

    /// Judges it; says whether whoever depends on it has to be told.
    fn look(&self, identity: &Identity, grace: Duration, metrics: &Metrics) -> bool {
        if self.over().is_some() {
            return false;
        }
        let (was_good, standing) = (self.is_good(), identity.standing(&self.kind.chain, SystemTime::now(), grace));
        self.standing.set(standing);
        self.outdated.set(self.kind.ours.is_some() && self.kind.ours.as_ref() != identity.root());
        if let Standing::Over(lost) = standing {
            let labels = OutcomeLabels { direction: self.direction().as_str(), outcome: lost.as_str() };
            metrics.sessions_ended.get_or_create(&labels).inc();
        }
        if let Standing::Good { .. } = standing {
            self.rest(identity, metrics);
        }
        let changed = was_good != self.is_good() || self.over().is_some();
        if changed {
            let (role, outdated) = (self.kind.chain.role(), self.outdated.get());
            tracing::debug!(?standing, ?role, outdated, "a peer's session is not good any more");
            self.changed.notify_waiters();
        }
        changed
    }
}

impl Sessions {
    /// The session of a handshake that has just succeeded under `identity`.
    pub fn enter(
        &self,
        worker: &Worker,
        identity: &Identity,
        certificates: &[CertificateDer<'static>],
        role: PeerRole,
    ) -> Rc<Session> {
        let ours = identity.root().filter(|_| role == PeerRole::Caller).cloned();
        let kind = Kind { chain: Rc::new(PeerChain::new(certificates, role)), ours };
        let known = self.open.borrow().get(&kind).and_then(Weak::upgrade);
        let known = known.filter(|known| known.over().is_none());
        let session = known.unwrap_or_else(|| self.begin(worker, identity, kind));
        if let Some(rests) = &*session.rests.borrow() {
            rests.series.handshakes.inc();
        }
        if !session.is_good() {
            self.untold.set(true);
            self.look_at(SystemTime::now() + TOLD_AFTER);
        }
        session
    }

    fn begin(&self, worker: &Worker, identity: &Identity, kind: Kind) -> Rc<Session> {
        let now = SystemTime::now();
        let standing = Standing::Good { until: identity.next_end(&kind.chain, now) };
        let session = Rc::new(Session::new(kind, standing));
        session.rest(identity, &worker.shared.metrics);
        // Those that are known have been looked at since; this one was verified by what is out of force by now.
        let current = worker.identity.borrow();
        if current.generation() != identity.generation() {
            session.look(&current, worker.shared.bootstrap.timeouts.expired_peer, &worker.shared.metrics);
        }
        drop(current);
        self.keep(&session);
        self.remind(&session);
        session
    }

    fn keep(&self, session: &Rc<Session>) {
        let mut open = self.open.borrow_mut();
        // A peer may show its certificate with something else each time: what it has left behind must not add up.
        if open.len() >= self.sweep_at.get() {
            open.retain(|_, session| session.strong_count() > 0);
            self.sweep_at.set((2 * open.len()).max(SWEEP_MIN));
        }
        open.insert(session.kind.clone(), Rc::downgrade(session));
    }

    /// Sees to it that a session is looked at in time.
    fn remind(&self, session: &Session) {
        if let Standing::Good { until } | Standing::Expired { until } = session.standing.get() {
            self.look_at(until);
        }
    }

    /// At the latest.
    fn look_at(&self, at: SystemTime) {
        if self.next.get().is_none_or(|next| at < next) {
            self.next.set(Some(at));
            self.sooner.notify_one();
        }
    }

    /// Until the next look.
    fn pause(&self) -> Duration {
        let next = self.next.get().map(|next| next.duration_since(SystemTime::now()).unwrap_or_default());
        next.map_or(LOOK_MAX, |pause| pause.min(LOOK_MAX))
    }

    /// Looks at those that are due, or at all; the others of the worker have their turn in between.
    async fn look(&self, worker: &Worker, identity: &Identity, all: bool) {
        let now = SystemTime::now();
        if !all && self.next.get().is_none_or(|next| next > now) {
            return;
        }
        let mut open = Vec::new();
        self.open.borrow_mut().retain(|_, session| match session.upgrade() {
            Some(session) => {
                open.push(session);
                true
            }
            None => false,
        });
        self.next.set(None);
        let untold = self.untold.take();
        let (grace, metrics) = (worker.shared.bootstrap.timeouts.expired_peer, &worker.shared.metrics);
        for some in open.chunks(AT_ONCE) {
            let mut changed = false;
            for session in some.iter().filter(|session| all || session.is_due(now)) {
                changed |= session.look(identity, grace, metrics);
            }
            if changed {
                worker.changes.announce();
            }
            tokio::task::yield_now().await;
        }
        open.iter().for_each(|session| self.remind(session));
        if all || untold {
            // Of an identity more may matter than who is good: at a gateway, of which cluster a caller is.
            worker.changes.announce();
        }
    }
}

/// Looks after the sessions of a worker for as long as it is polled.
pub async fn keep(worker: WorkerRef) {
    while AssertUnwindSafe(follow(&worker)).catch_unwind().await.is_err() {
        worker.shared.metrics.panics.inc();
        tracing::error!("the watch over peers' certificates panicked");
        sleep(REST).await;
    }
}

async fn follow(worker: &Worker) {
    let mut identity = worker.identity.clone();
    // What was missed, if this is not the first time.
    identity.mark_changed();
    loop {
        let all = tokio::select! {
            biased;
            changed = identity.changed() => match changed {
                Ok(()) => true,
                // It can't change any more; that happens only as the process ends.
                Err(_) => return,
            },
            () = worker.sessions.sooner.notified() => false,
            () = sleep(worker.sessions.pause()) => false,
        };
        let current = Arc::clone(&identity.borrow_and_update());
        worker.sessions.look(worker, &current, all).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: usize) -> Rc<Session> {
        let certificate = CertificateDer::from(number.to_be_bytes().to_vec());
        let chain = Rc::new(PeerChain::new(&[certificate], PeerRole::Caller));
        Rc::new(Session::new(Kind { chain, ours: None }, Standing::Good { until: SystemTime::now() }))
    }

    #[test]
    fn what_has_ended_does_not_add_up() {
        let sessions = Sessions::default();
        let held: Vec<_> = (0..100).map(session).collect();
        held.iter().for_each(|session| sessions.keep(session));
        for number in 100..10_000 {
            sessions.keep(&session(number));
        }
        let open = sessions.open.borrow();
        assert!(open.len() <= 201, "{}", open.len());
        assert_eq!(open.values().filter(|session| session.strong_count() > 0).count(), 100);
    }

    #[tokio::test]
    async fn whoever_waits_for_the_end_is_told_of_it_and_of_nothing_else() {
        let session = session(1);
        let mut ended = std::pin::pin!(session.ended());
        assert!(ended.as_mut().now_or_never().is_none());
        session.standing.set(Standing::Expired { until: SystemTime::now() });
        session.changed.notify_waiters();
        assert!(session.not_good().now_or_never().is_some());
        assert!(ended.as_mut().now_or_never().is_none());
        session.standing.set(Standing::Over(Lost::Expired));
        session.changed.notify_waiters();
        ended.await;
    }
}
