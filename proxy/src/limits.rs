//! How many downstream connections and requests there may be: in all, of one listener, of one peer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connection::Direction;

/// Permits for connections or requests, counted over all workers.
#[derive(Debug, Clone)]
pub struct Permits {
    used: Arc<AtomicUsize>,
    max: usize,
}

/// One permit; gives itself back.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Permits {
    /// At most `max` at a time.
    pub fn new(max: usize) -> Self {
        Self { used: Arc::default(), max }
    }

    /// A permit, if one is left.
    pub fn take(&self) -> Option<Permit> {
        // Relaxed: the count guards no other memory.
        let taken = self.used.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(&self.used));
        (taken < self.max).then_some(permit)
    }

    /// As [`Permits::take`], for who gives it back with [`Permits::leave`]; says whether there was one.
    pub fn enter(&self) -> bool {
        let room = self.used.fetch_add(1, Ordering::Relaxed) < self.max;
        if !room {
            self.leave();
        }
        room
    }

    /// Gives a permit back.
    pub fn leave(&self) {
        self.used.fetch_sub(1, Ordering::Relaxed);
    }

    /// Permits in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many connections one listener, and one peer's address, may have open.
#[derive(Debug)]
pub struct Doors {
    per_listener: usize,
    per_peer: usize,
    listeners: Mutex<HashMap<SocketAddr, Permits>>,
    peers: Arc<Mutex<Peers>>,
}

type Peers = HashMap<IpAddr, usize>;

/// A connection's place among its peer's; gives itself back.
#[derive(Debug)]
pub struct PeerPermit(Option<(Arc<Mutex<Peers>>, IpAddr)>);

impl Doors {
    /// Nobody has come yet.
    pub fn new(per_listener: usize, per_peer: usize) -> Self {
        Self { per_listener, per_peer, listeners: Mutex::default(), peers: Arc::default() }
    }

    /// The permits of the listener at `address`, which workers share.
    pub fn listener(&self, address: SocketAddr) -> Permits {
        locked(&self.listeners).entry(address).or_insert_with(|| Permits::new(self.per_listener)).clone()
    }

    /// A permit for one more connection from this peer, if it may have one. What comes from the local application is not
    /// counted: all of it has one address, and is one party.
    pub fn peer(&self, address: IpAddr, direction: Direction) -> Option<PeerPermit> {
        if direction == Direction::Outbound {
            return Some(PeerPermit(None));
        }
        let mut peers = locked(&self.peers);
        let count = peers.entry(address).or_default();
        if *count >= self.per_peer {
            return None;
        }
        *count += 1;
        Some(PeerPermit(Some((Arc::clone(&self.peers), address))))
    }
}

impl Drop for PeerPermit {
    fn drop(&mut self) {
        let Some((peers, address)) = &self.0 else { return };
        let mut peers = locked(peers);
        if let Some(count) = peers.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                peers.remove(address);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counts are whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_its_share_and_is_forgotten_when_it_is_gone() {
        let doors = Doors::new(9, 2);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = doors.peer(one, Direction::Inbound).unwrap();
        let second = doors.peer(one, Direction::Gateway).unwrap();
        assert!(doors.peer(one, Direction::Inbound).is_none());
        assert!(doors.peer(other, Direction::Inbound).is_some());
        assert!(doors.peer(one, Direction::Outbound).is_some());
        drop(first);
        assert!(doors.peer(one, Direction::Inbound).is_some());
        drop(second);
        assert!(locked(&doors.peers).is_empty());
    }

    #[test]
    fn a_listeners_workers_share_its_permits() {
        let doors = Doors::new(1, 9);
        let (one, other) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let _held = doors.listener(one).take().unwrap();
        assert!(doors.listener(one).take().is_none());
        assert!(doors.listener(other).take().is_some());
    }

    #[test]
    fn refuses_beyond_the_maximum_and_takes_back() {
        let permits = Permits::new(2);
        let first = permits.take();
        let _second = permits.take();
        assert!(first.is_some());
        assert!(permits.take().is_none());
        assert_eq!(permits.used(), 2);
        drop(first);
        assert!(permits.take().is_some());
    }
}
