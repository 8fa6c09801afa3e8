//! Other clusters' gateways: where they are, whether they answer, and what is ready behind them.
//!
//! The one idea: what is known of a gateway is kept apart from what is known of each service behind it, and what is not known is
//! not bad. The data path reads ([`Gateway`]); one task for each gateway, on the main thread, writes ([`Watchers`]).

mod lines;
pub mod list;
mod lookup;
mod probe;

pub(crate) use probe::jittered;
mod session;
mod watchers;
pub mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use meshgate_config::{ClusterKey, GatewayAddress};
use tokio::sync::watch;

pub use lines::{Lines, TooLong};
pub use list::{List, ListError};
pub use watchers::Watchers;

/// All gateways that are known; shared by all threads.
#[derive(Debug, Default)]
pub struct Clusters {
    gateways: Mutex<HashMap<Arc<GatewayAddress>, Arc<Gateway>>>,
    version: Arc<AtomicU64>,
}

/// One gateway as it was last seen.
#[derive(Debug)]
pub struct Gateway {
    address: Arc<GatewayAddress>,
    seen: watch::Sender<Seen>,
    told: Mutex<Told>,
    version: Arc<AtomicU64>,
}

/// What has been seen of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether it answers; `None` until the first try has ended.
    pub up: Option<bool>,
    /// Where its host is, as last looked up; empty = ask for what the configuration says.
    pub addresses: Vec<SocketAddr>,
    /// Ready endpoints by authority (`name.namespace.svc.clusterset.local:port`), as it last said; `None` = it has never said.
    pub ready: Option<Arc<HashMap<Arc<str>, u32>>>,
}

/// What there is to tell an operator about a gateway, and nothing goes by.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// When it last began, or ceased, to answer.
    pub since: Option<SystemTime>,
    /// Why it could not be asked, or what was wrong with what it said, last time; `None` once all is well again.
    pub error: Option<String>,
}

impl Clusters {
    /// A gateway; known from now on.
    pub fn gateway(&self, address: &Arc<GatewayAddress>) -> Arc<Gateway> {
        let mut gateways = self.gateways();
        let gateway = gateways.entry(Arc::clone(address)).or_insert_with(|| {
            let (address, version) = (Arc::clone(address), Arc::clone(&self.version));
            Arc::new(Gateway { address, seen: watch::Sender::new(Seen::default()), told: Mutex::default(), version })
        });
        Arc::clone(gateway)
    }

    /// All of them, by cluster, host and port.
    pub fn all(&self) -> Vec<Arc<Gateway>> {
        let mut all: Vec<_> = self.gateways().values().cloned().collect();
        all.sort_by(|one, other| one.address.cmp(&other.address));
        all
    }

    /// Forgets all but these, and those that somebody holds: there must never be two of one gateway.
    fn retain(&self, wanted: impl Fn(&GatewayAddress) -> bool) {
        self.gateways().retain(|address, gateway| wanted(address) || Arc::strong_count(gateway) > 1);
    }

    /// Whether a gateway of this cluster answers; `None` while that is not known of any, and none does.
    fn is_up(&self, cluster: &ClusterKey) -> Option<bool> {
        let gateways = self.gateways();
        gateways
            .values()
            .filter(|gateway| gateway.address.cluster == *cluster)
            .filter_map(|gateway| gateway.seen().up)
            .max()
    }

    /// Greater whenever something that was seen has changed.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn gateways(&self) -> MutexGuard<'_, HashMap<Arc<GatewayAddress>, Arc<Gateway>>> {
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    /// Which one.
    pub fn address(&self) -> &Arc<GatewayAddress> {
        &self.address
    }

    /// Whether it is known not to answer.
    pub fn is_down(&self) -> bool {
        self.seen().up == Some(false)
    }

    /// Ready endpoints behind it for an authority; `None` while it has not said. What it does not export has none.
    pub fn ready(&self, authority: &str) -> Option<u32> {
        Some(self.seen().ready.as_ref()?.get(authority).copied().unwrap_or(0))
    }

    /// Where to connect, in the order to try; empty when its name has no address.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let seen = self.seen();
        if !seen.addresses.is_empty() {
            return seen.addresses.clone();
        }
        let address = |ip| SocketAddr::new(ip, self.address.port);
        self.address.ip.map(address).into_iter().collect()
    }

    /// As [`Clusters::version`].
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Changes what has been seen; nobody is told when it comes to the same.
    pub fn update(&self, change: impl FnOnce(&mut Seen)) {
        let changed = self.seen.send_if_modified(|seen| {
            let before = seen.clone();
            change(seen);
            *seen != before
        });
        if changed {
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// All that has been seen.
    pub fn seen(&self) -> watch::Ref<'_, Seen> {
        self.seen.borrow()
    }

    /// What there is to tell besides.
    pub fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
