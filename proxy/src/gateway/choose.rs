//! In which order the ready endpoints of an exported port are tried for one tunnel.
//!
//! A tunnel carries many requests of one caller, so this spreads callers' connections; requests are spread by whoever sees them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use meshgate_config::{Balancer, Endpoint, EndpointIdentity, Export, ServicePort};

use crate::balance::Family;
use crate::outbound::eligible;

/// Endpoints tried for one tunnel.
const TRIES: usize = 3;

/// Tunnels open now, by endpoint; shared by all workers.
#[derive(Debug, Clone, Default)]
pub struct Loads(Arc<Mutex<HashMap<SocketAddr, Arc<AtomicUsize>>>>);

/// One tunnel to an endpoint.
#[derive(Debug)]
pub struct Load {
    loads: Loads,
    address: SocketAddr,
    count: Arc<AtomicUsize>,
}

impl Loads {
    /// One more, until it is dropped.
    pub fn add(&self, address: SocketAddr) -> Load {
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = Arc::clone(loads.entry(address).or_default());
        count.fetch_add(1, Ordering::Relaxed);
        Load { loads: self.clone(), address, count }
    }

    fn of(&self, endpoints: &[&Arc<Endpoint>]) -> Vec<usize> {
        let loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let load = |endpoint: &&Arc<Endpoint>| loads.get(&endpoint.address).map_or(0, |n| n.load(Ordering::Relaxed));
        endpoints.iter().map(load).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut loads = self.loads.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            loads.remove(&self.address);
        }
    }
}

/// The endpoints that tunnels may lead to. TLS inside a tunnel needs a workload that speaks it.
pub fn ready(port: &ServicePort) -> Vec<&Arc<Endpoint>> {
    let mut endpoints = eligible(&port.endpoints, Family::Any);
    endpoints.retain(|endpoint| endpoint.remote.is_none() && endpoint.identity != EndpointIdentity::Plaintext);
    endpoints
}

/// What to try for a caller, the best first; `turn` counts the tunnels to this port.
pub fn order(export: &Export, port: &ServicePort, caller: IpAddr, turn: usize, loads: &Loads) -> Vec<Arc<Endpoint>> {
    let mut endpoints = ready(port);
    let by_caller = export.session_sticky || matches!(export.balancer, Balancer::RingHash(_));
    if by_caller {
        // The highest of the hashes: when endpoints come and go, only those callers move whose own went, or that the new one gets.
        endpoints.sort_by_cached_key(|endpoint| std::cmp::Reverse(hash(caller, endpoint.address)));
    } else {
        let next = turn.checked_rem(endpoints.len()).unwrap_or_default();
        endpoints.rotate_left(next);
    }
    if !by_caller && matches!(export.balancer, Balancer::LeastRequest | Balancer::PeakEwma) {
        let mut loaded: Vec<_> = loads.of(&endpoints).into_iter().zip(endpoints).collect();
        loaded.sort_by_key(|(load, _)| *load);
        endpoints = loaded.into_iter().map(|(_, endpoint)| endpoint).collect();
    }
    endpoints.into_iter().take(TRIES).cloned().collect()
}

fn hash(caller: IpAddr, endpoint: SocketAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    (caller, endpoint).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
