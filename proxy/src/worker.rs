//! What a worker thread owns, and what it shares with the others.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use meshgate_config::{Bootstrap, Snapshot};
use meshgate_identity::Identity;
use meshgate_policy::jwt::VerifiedTokens;
use tokio::sync::{Notify, watch};

use crate::access_log::Sink;
use crate::balance::{Cursors, Ledgers};
use crate::changes::Changes;
use crate::circuit::Circuits;
use crate::clusters::Clusters;
use crate::drain::{Drain, Phase};
use crate::gateway::Gateways;
use crate::http::pool::Pool;
use crate::http::request_id::RequestIds;
use crate::http::retry::Budgets;
use crate::jwks::Keys;
use crate::limits::{Doors, Permits};
use crate::memory;
use crate::metrics::{DecisionCounters, Kept, Metrics};
use crate::open::{Open, Registry};
use crate::orig_dst::OwnAddresses;
use crate::readiness::Readiness;
use crate::report::refusals::{Refusals, Ring};
use crate::residuals::Residuals;
use crate::resolve::Resolver;
use crate::route::Routes;
use crate::sessions::Sessions;
use crate::tls;
use crate::trace::Tracer;
use crate::tunnel::Tunnels;
use crate::turns::Turns;

/// Between two looks, at the end, at whether other workers have connections left.
const OTHERS: Duration = Duration::from_millis(20);

/// As many looks at spare upstream connections in the time that they are kept. When one was last used is known to a look, so it may go
/// that much sooner.
const SPARE_LOOKS: u32 = 3;

/// Shared by all threads of the process; everything in it is either fixed or atomic.
#[derive(Debug)]
pub struct Shared {
    /// Settings, fixed for the life of the process.
    pub bootstrap: Bootstrap,
    /// Counters.
    pub metrics: Metrics,
    /// What `/ready` answers.
    pub readiness: Readiness,
    /// Whose turn it is at each service, and how its endpoints behaved.
    pub ledgers: Ledgers,
    /// What each service may spend on trying again.
    pub retry_budgets: Budgets,
    /// Where each TrafficSplit's turns stand, by its name and the root's port.
    pub splits: Cursors,
    /// Gateways of other clusters.
    pub clusters: Clusters,
    /// What the workers of a gateway share.
    pub gateways: Gateways,
    /// Our own listeners, which must never be dialled.
    pub own: OwnAddresses,
    /// The downstream connections that are open.
    pub open: Registry,
    /// How many downstream connections there may be.
    pub permits: Permits,
    /// Whether the last identity that was read, or handed over, was not usable.
    pub identity_refused: AtomicBool,
    /// Told when the admin endpoint was asked to end the process.
    pub quit: Notify,
    /// Told when the admin endpoint was asked to take no more inbound connections.
    pub drain_listeners: Notify,
    /// How many of those a listener or a peer may have.
    pub doors: Doors,
    /// What the workers refused last.
    pub refusals: Refusals,
    /// How many requests there may be.
    pub requests: Permits,
    /// How much each endpoint has.
    pub circuits: Arc<Circuits>,
}

impl Shared {
    /// What a process starts with: nothing has happened yet.
    pub fn new(bootstrap: Bootstrap, own: OwnAddresses, readiness: Readiness) -> Self {
        let metrics = Metrics::new(bootstrap.metrics);
        Self {
            ledgers: Ledgers::new(bootstrap.outlier_detection, &metrics),
            metrics,
            readiness,
            retry_budgets: Budgets::new(bootstrap.retries),
            splits: Cursors::default(),
            clusters: Clusters::default(),
            gateways: Gateways::default(),
            own,
            open: Registry::default(),
            permits: Permits::new(bootstrap.limits.connections),
            identity_refused: AtomicBool::new(false),
            quit: Notify::new(),
            drain_listeners: Notify::new(),
            doors: Doors::new(bootstrap.limits.connections_per_listener, bootstrap.limits.connections_per_peer),
            refusals: Refusals::default(),
            requests: Permits::new(bootstrap.limits.requests_in_flight),
            circuits: Arc::new(Circuits::new(bootstrap.limits.endpoint)),
            bootstrap,
        }
    }
}

/// One worker's own things. A connection, its upstream connections and its tasks never leave their worker.
#[derive(Debug)]
pub struct Worker {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Snapshot>>,
    /// The identity in force.
    pub identity: watch::Receiver<Arc<Identity>>,
    /// The keys of tokens.
    pub keys: Keys,
    /// Tokens that were found good.
    pub tokens: RefCell<VerifiedTokens>,
    /// Upstream connections.
    pub pool: Pool,
    /// What the peers of its connections showed.
    pub sessions: Sessions,
    /// Connections to other clusters' gateways.
    pub tunnels: Tunnels,
    /// Routes under the current configuration.
    pub routes: Routes,
    /// What it refused last.
    pub refusals: Arc<Ring>,
    /// Counters of its callers.
    pub counters: Kept,
    /// Counters of policy decisions.
    pub decisions: DecisionCounters,
    /// Addresses of providers that are no mesh services.
    pub resolver: Resolver,
    /// TLS client configurations by expected identity.
    pub client_tls: tls::connect::Configs,
    /// The access log.
    pub access_log: Sink,
    /// Takes part in traces; `None` = in none.
    pub tracer: Option<Tracer>,
    /// Open downstream connections.
    pub open: Open,
    /// How far the end has come.
    pub drain: Drain,
    /// What the policies leave open on its connections.
    pub residuals: Residuals,
    /// Names its requests.
    pub request_ids: RequestIds,
    /// Wakes its connections when the configuration has changed.
    pub changes: Changes,
    /// When handshakes as the server begin.
    pub handshakes: Turns,
}

impl Worker {
    /// A worker without connections.
    pub fn new(
        shared: Arc<Shared>,
        config: watch::Receiver<Arc<Snapshot>>,
        identity: watch::Receiver<Arc<Identity>>,
        keys: Keys,
        access_log: Sink,
        tracer: Option<Tracer>,
        drain: Drain,
    ) -> Self {
        let (refusals, open) = (shared.refusals.ring(), shared.open.worker());
        let pool = Pool::new(Arc::clone(&shared.circuits), shared.bootstrap.timeouts.upstream_age);
        Self {
            shared,
            config,
            identity,
            keys,
            tokens: RefCell::default(),
            pool,
            sessions: Sessions::default(),
            tunnels: Tunnels::default(),
            routes: Routes::default(),
            refusals,
            counters: Kept::default(),
            decisions: DecisionCounters::default(),
            resolver: Resolver::default(),
            client_tls: tls::connect::Configs::default(),
            access_log,
            tracer,
            open,
            drain,
            residuals: Residuals::default(),
            request_ids: RequestIds::default(),
            changes: Changes::default(),
            handshakes: Turns::default(),
        }
    }

    /// Runs until the drain is over: no connection left on any worker, or time is. Closes idle upstream connections every `sweep`,
    /// or more often where they may not become as old as that, and spare ones sooner; and tells the open ones of each new configuration.
    pub async fn until_drained(&self, sweep: Duration) {
        let timeouts = &self.shared.bootstrap.timeouts;
        let sweep = timeouts.upstream_age.map_or(sweep, |age| sweep.min(age / 2));
        let mut tick = tokio::time::interval(sweep);
        let mut spares = tokio::time::interval(timeouts.upstream_spare / SPARE_LOOKS);
        let (mut draining, mut ended) = (self.drain.clone(), self.drain.clone());
        let drained = async {
            draining.reached(Phase::Leaving).await;
            loop {
                self.open.none_left().await;
                // What is left on other workers may need to call somebody, and the kernel may give that call to this one.
                if self.shared.permits.used() == 0 {
                    return;
                }
                tokio::time::sleep(OTHERS).await;
            }
        };
        let mut drained = std::pin::pin!(drained);
        let mut config = self.config.clone();
        let (mut tasks, mut rests) = (0, 0);
        loop {
            tokio::select! {
                biased;
                () = ended.reached(Phase::Ended) => break,
                () = drained.as_mut() => break,
                // Without a sender nothing changes any more; that happens only as the process ends.
                Ok(()) = config.changed() => self.changes.announce(),
                _ = spares.tick() => {
                    self.pool.let_go_of_spares(timeouts.upstream_spare);
                    memory::give_back();
                }
                _ = tick.tick() => {
                    let idle = self.shared.bootstrap.timeouts.upstream_idle;
                    self.pool.sweep(idle);
                    self.tunnels.sweep(idle);
                    self.routes.let_go();
                    self.counters.let_go();
                    rests = self.count_idle(rests);
                    tasks = self.count_tasks(tasks);
                    self.shared.circuits.sweep();
                }
            }
        }
    }

    /// Tells how many tasks there are now, after so many at the last count.
    fn count_tasks(&self, before: i64) -> i64 {
        let now = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.shared.metrics.tasks.inc_by(now - before);
        now
    }

    /// Tells how many upstream connections are unused, after so many at the last count.
    fn count_idle(&self, before: i64) -> i64 {
        let now = i64::try_from(self.pool.idle()).unwrap_or(i64::MAX);
        self.shared.metrics.upstream_idle.inc_by(now - before);
        now
    }

    /// The configuration in force now. Taken once a connection and once a request, never in the middle of either.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.config.borrow())
    }

    /// The generation of the configuration in force now.
    pub fn generation(&self) -> u64 {
        self.config.borrow().generation
    }
}

impl AsRef<Sink> for Worker {
    fn as_ref(&self) -> &Sink {
        &self.access_log
    }
}

/// A worker as its tasks hold it.
pub type WorkerRef = Rc<Worker>;
