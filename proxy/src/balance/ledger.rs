//! What is remembered of every service: whose turn it is and how its endpoints behaved, by all workers and across reloads.
//!
//! The one idea: a route looks its service up here once, when it is made, and from then on touches atomics only. What has gone
//! from the configuration is forgotten after a while, so that an endpoint that comes back is not a stranger.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshgate_config::{ClusterKey, GatewayAddress, OutlierDetection};
use tokio::time::{Instant, MissedTickBehavior};

use super::family::Family;
use super::health::{Common, Health, Reason};
use super::outlier;
use crate::http::pool::Security;
use crate::metrics::Metrics;
use crate::outbound::Hop;
use crate::worker::Shared;

/// How long the health of something is remembered that nobody uses any more.
const REMEMBERED: Duration = Duration::from_secs(600);

/// At the latest after this, an ejection that is over is ended.
const TICK: Duration = Duration::from_secs(1);

/// Which endpoint of a service. Neither its share nor the spelling of its name is a part: changing those changes nobody's health.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The other cluster it is in, if it is.
    pub cluster: Option<ClusterKey>,
    /// What stands before it there.
    pub gateway: Option<Arc<GatewayAddress>>,
    /// Where it is, if it can be dialled.
    pub address: Option<SocketAddr>,
    /// Who must answer there.
    pub security: Security,
}

impl Key {
    /// What a hop's endpoint is remembered by.
    pub fn of(hop: &Hop) -> Self {
        let gateway = hop.remote.as_ref().and_then(|remote| remote.gateway.clone());
        Self {
            cluster: hop.remote.as_ref().map(|remote| remote.cluster.clone()),
            address: gateway.is_none().then_some(hop.address),
            gateway,
            security: hop.security.clone(),
        }
    }
}

impl fmt::Display for Key {
    /// For the log, as an [`Endpoint`](meshgate_config::Endpoint) is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.gateway, &self.cluster, &self.address) {
            (Some(gateway), ..) => gateway.fmt(f),
            (None, Some(cluster), Some(address)) => write!(f, "{cluster} ({address})"),
            (None, Some(cluster), None) => cluster.fmt(f),
            (None, None, Some(address)) => address.fmt(f),
            (None, None, None) => f.write_str("-"),
        }
    }
}

/// Everything that is remembered.
#[derive(Debug)]
pub struct Ledgers {
    common: Arc<Common>,
    services: Mutex<HashMap<(String, u16, Family), Arc<Ledger>>>,
    gateways: Mutex<HashMap<Arc<GatewayAddress>, Entry>>,
    compared: Mutex<Option<Instant>>,
}

/// What is remembered of one service port and family of addresses.
#[derive(Debug)]
pub struct Ledger {
    turns: AtomicUsize,
    common: Arc<Common>,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// The newest configuration under which a route was made.
    generation: u64,
    entries: HashMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    health: Arc<Health>,
    /// The newest configuration that had it.
    generation: u64,
    unused: Option<Instant>,
}

impl Entry {
    fn new(health: Arc<Health>) -> Self {
        Self { health, generation: 0, unused: None }
    }

    /// Whether it is still to be remembered; also ends what is over.
    fn tick(&mut self, now: Instant) -> bool {
        self.health.rejoin(now);
        let is_used = Arc::strong_count(&self.health) > 1;
        let since = self.unused.take().unwrap_or(now);
        self.unused = (!is_used).then_some(since);
        is_used || now.saturating_duration_since(since) < REMEMBERED
    }
}

impl Ledgers {
    /// Nothing is known of anybody.
    pub fn new(settings: OutlierDetection, metrics: &Metrics) -> Self {
        let common = Common {
            settings,
            version: 0.into(),
            ejections: metrics.ejections.clone(),
            ejected: metrics.ejected.clone(),
        };
        Self {
            common: Arc::new(common),
            services: Mutex::default(),
            gateways: Mutex::default(),
            compared: Mutex::default(),
        }
    }

    /// The ledger of a service port; a new one begins at the first endpoint.
    pub fn of(&self, host: &str, port: u16, family: Family) -> Arc<Ledger> {
        let new = || Arc::new(Ledger { turns: 0.into(), common: Arc::clone(&self.common), book: Mutex::default() });
        Arc::clone(locked(&self.services).entry((host.to_owned(), port, family)).or_insert_with(new))
    }

    /// The health of a gateway, as tries to reach it have shown, whatever the service behind it.
    pub fn gateway(&self, address: &Arc<GatewayAddress>) -> Arc<Health> {
        let new = || Entry::new(Health::new(&address.to_string(), &self.common, None));
        Arc::clone(&locked(&self.gateways).entry(Arc::clone(address)).or_insert_with(new).health)
    }

    /// Why a service's endpoint is out of rotation, if it is, for people: by its own record, or by its gateway's.
    pub fn ejected(&self, host: &str, port: u16, hop: &Hop) -> Option<String> {
        let (key, now) = (Key::of(hop), Instant::now());
        let is_its = |ledger: &(&(String, u16, Family), &Arc<Ledger>)| ledger.0.0 == host && ledger.0.1 == port;
        // One for each family of addresses by which it has been called.
        let ledgers: Vec<_> =
            locked(&self.services).iter().filter(is_its).map(|(_, ledger)| Arc::clone(ledger)).collect();
        let own = |ledger: &Arc<Ledger>| Some(Arc::clone(&locked(&ledger.book).entries.get(&key)?.health));
        let gateway = key.gateway.as_ref().and_then(|at| Some(Arc::clone(&locked(&self.gateways).get(at)?.health)));
        let gateway = || Some(format!("its gateway: {}", gateway?.out(now)?));
        ledgers.iter().filter_map(own).find_map(|health| health.out(now)).or_else(gateway)
    }

    /// Forgets service ports for which `keep` is false.
    pub fn retain(&self, keep: impl Fn(&str, u16) -> bool) {
        locked(&self.services).retain(|(host, port, _), _| keep(host, *port));
    }

    /// Ends ejections that are over, compares rates of success once an interval, and forgets who is long gone.
    pub fn tick(&self, now: Instant) {
        let mut compared = locked(&self.compared);
        let since = *compared.get_or_insert(now);
        let is_due = now.saturating_duration_since(since) >= self.common.settings.interval;
        if is_due {
            *compared = Some(now);
        } else if self.common.ejected.get() == 0 {
            return;
        }
        locked(&self.gateways).retain(|_, entry| {
            if is_due {
                entry.health.behaved();
            }
            entry.tick(now)
        });
        let services: Vec<_> = locked(&self.services).values().map(Arc::clone).collect();
        for service in services {
            service.tick(now, is_due);
        }
    }
}

impl Ledger {
    /// The number of the next turn.
    pub fn turn(&self) -> usize {
        // Relaxed: only the count itself matters. Wrapping at 2^64 skips once in an age of the universe.
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// Greater whenever anything, of whatever service, has left or joined a rotation.
    pub fn version(&self) -> u64 {
        self.common.version.load(Ordering::Acquire)
    }

    /// The health of each of the endpoints that a configuration has.
    pub fn enrol(self: &Arc<Self>, name: &str, generation: u64, keys: impl Iterator<Item = Key>) -> Vec<Arc<Health>> {
        let mut book = locked(&self.book);
        book.generation = book.generation.max(generation);
        let health = |key: Key| {
            let new =
                |key: &Key| Entry::new(Health::new(&format!("{name} {key}"), &self.common, Some(Arc::downgrade(self))));
            let entry = book.entries.entry(key).or_insert_with_key(new);
            entry.generation = entry.generation.max(generation);
            Arc::clone(&entry.health)
        };
        keys.map(health).collect()
    }

    /// Takes an endpoint out of rotation, unless too many are.
    pub(super) fn eject(&self, health: &Health, reason: Reason, now: Instant) {
        // Held until it is out, so that two at once do not both find room for one.
        let book = locked(&self.book);
        let current = book.entries.values().filter(|entry| entry.generation == book.generation);
        let (all, out) =
            current.fold((0, 0), |(all, out), entry| (all + 1, out + usize::from(entry.health.is_ejected())));
        if out < self.room(all) {
            health.leave(reason, now);
        }
    }

    /// How many of `all` may be out at once: the share that the operator says, but one of several in any case unless that share
    /// is 0, and never all.
    fn room(&self, all: usize) -> usize {
        match self.common.settings.max_ejection_percent as usize {
            0 => 0,
            percent => (all * percent / 100).max(1).min(all.saturating_sub(1)),
        }
    }

    fn tick(&self, now: Instant, compare: bool) {
        let mut book = locked(&self.book);
        book.entries.retain(|_, entry| entry.tick(now));
        if !compare {
            return;
        }
        let current = book.entries.values().filter(|entry| entry.generation == book.generation);
        let current: Vec<_> = current.map(|entry| Arc::clone(&entry.health)).collect();
        // Ejecting takes the lock again.
        drop(book);
        let counts: Vec<_> = current.iter().map(|health| health.take_rated()).collect();
        let (below, least) = outlier::below(&counts, &self.common.settings);
        current.iter().for_each(|health| health.behaved());
        for (at, rate) in below {
            if let Some(health) = current.get(at) {
                self.eject(health, Reason::SuccessRate { rate, least }, now);
            }
        }
    }
}

/// Looks after the ledgers for the life of the process, on the main thread.
pub async fn keep(shared: Arc<Shared>) {
    let settings = &shared.bootstrap.outlier_detection;
    let period = TICK.min(settings.base_ejection_time).min(settings.interval).max(Duration::from_millis(10));
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = tick.tick().await;
        shared.ledgers.tick(now);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while holding one of these locks leaves a valid map.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
