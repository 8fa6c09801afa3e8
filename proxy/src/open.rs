//! The open downstream connections: the drain waits for them, and whoever looks at a running proxy sees them.
//!
//! The one idea: a connection has one [`Place`] that its worker alone writes to, by plain stores, and that others may read at any
//! moment. The list of places is behind a lock that a worker takes when a connection begins and ends; a reader holds it for a piece
//! of the list at a time (`PIECE`). A request takes no lock and touches nothing that it would not touch anyway: the numbers that
//! are shown are the ones that the connection works with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use meshgate_identity::SpiffeId;
use rustls::{CipherSuite, CommonState, ProtocolVersion};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connection::{Direction, Protocol};

/// Places that a reader takes out of a worker's list at a time: some microseconds, which a connection that begins may have to wait.
const PIECE: usize = 256;

/// The open connections of all workers.
#[derive(Debug, Default)]
pub struct Registry {
    workers: Mutex<Vec<Arc<Places>>>,
    numbers: Arc<AtomicU64>,
}

/// Those of one worker, by number.
type Places = Mutex<BTreeMap<u64, Arc<Place>>>;

/// The open connections of one worker, as it holds them.
#[derive(Debug, Clone)]
pub struct Open(Rc<Own>);

#[derive(Debug)]
struct Own {
    places: Arc<Places>,
    numbers: Arc<AtomicU64>,
    changed: Notify,
}

/// Where connections come in.
#[derive(Debug)]
pub struct Entrance {
    /// The address of the listener.
    pub listener: SocketAddr,
    /// Which way they go.
    pub direction: Direction,
}

/// What is known of one open connection.
#[derive(Debug)]
pub struct Place {
    number: u64,
    entrance: Arc<Entrance>,
    remote: SocketAddr,
    begun: Instant,
    told: OnceLock<Told>,
    /// Of bytes that are only moved: where to, and how many.
    onward: OnceLock<Box<Onward>>,
    requests: AtomicU32,
    in_flight: AtomicU32,
}

/// What turns out before the first message.
#[derive(Debug, Default)]
pub struct Told {
    /// Where it was going before redirection; of a tunnel, what was asked for.
    pub destination: Option<SocketAddr>,
    /// What it speaks.
    pub protocol: Option<Protocol>,
    /// The authenticated other end.
    pub peer: Option<SpiffeId>,
    /// Of its TLS session, if that is ours.
    pub tls: Option<Tls>,
    /// The number of the connection that it is a tunnel in.
    pub within: Option<u64>,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy)]
pub struct Tls {
    /// The protocol's version.
    pub version: ProtocolVersion,
    /// The cipher suite.
    pub cipher: CipherSuite,
}

#[derive(Debug)]
struct Onward {
    to: SocketAddr,
    received: AtomicU64,
    sent: AtomicU64,
}

/// A connection that is open for as long as this is held.
#[derive(Debug)]
pub struct Held {
    own: Rc<Own>,
    place: Arc<Place>,
}

/// Which connections are looked for, and how many.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only those with a higher number.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
    /// Only those whose peer's SPIFFE ID has this in it.
    pub principal: Option<String>,
    /// Only those that go this way.
    pub direction: Option<Direction>,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The connections, in the order in which they were accepted.
    pub places: Vec<Arc<Place>>,
    /// As many were wanted, whatever the limit; those before [`Wanted::after`] are not among them.
    pub matching: usize,
    /// As many are open.
    pub total: usize,
}

impl Registry {
    /// The list of one more worker.
    pub fn worker(&self) -> Open {
        let places = Arc::<Places>::default();
        locked(&self.workers).push(Arc::clone(&places));
        Open(Rc::new(Own { places, numbers: Arc::clone(&self.numbers), changed: Notify::new() }))
    }

    /// Looks for some.
    pub fn find(&self, wanted: &Wanted) -> Found {
        let workers = locked(&self.workers).clone();
        let mut found = Found { places: Vec::new(), matching: 0, total: 0 };
        for places in &workers {
            found.total += locked(places).len();
            let mut kept = 0;
            let mut after = wanted.after;
            loop {
                let piece: Vec<_> = {
                    let places = locked(places);
                    let later = places.range((Bound::Excluded(after), Bound::Unbounded));
                    later.take(PIECE).map(|(_, place)| Arc::clone(place)).collect()
                };
                let Some(last) = piece.last() else { break };
                after = last.number;
                for place in piece.into_iter().filter(|place| wanted.covers(place)) {
                    found.matching += 1;
                    if kept < wanted.limit {
                        kept += 1;
                        found.places.push(place);
                    }
                }
            }
        }
        found.places.sort_by_key(|place| place.number);
        found.places.truncate(wanted.limit);
        found
    }
}

impl Wanted {
    fn covers(&self, place: &Place) -> bool {
        let peer = || place.told().and_then(|told| told.peer.as_ref());
        self.direction.is_none_or(|direction| direction == place.entrance.direction)
            && self.principal.as_deref().is_none_or(|part| peer().is_some_and(|peer| peer.as_str().contains(part)))
    }
}

impl Open {
    /// One more connection.
    pub fn enter(&self, entrance: &Arc<Entrance>, remote: SocketAddr) -> Held {
        let own = &self.0;
        let number = own.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let place = Arc::new(Place {
            number,
            entrance: Arc::clone(entrance),
            remote,
            begun: Instant::now(),
            told: OnceLock::new(),
            onward: OnceLock::new(),
            requests: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
        });
        locked(&own.places).insert(number, Arc::clone(&place));
        Held { own: Rc::clone(own), place }
    }

    /// A tunnel in a connection of this worker.
    pub fn enter_within(&self, outer: &Place) -> Held {
        self.enter(&outer.entrance, outer.remote)
    }

    /// Returns when no connection is open.
    pub async fn none_left(&self) {
        loop {
            let changed = self.0.changed.notified();
            if locked(&self.0.places).is_empty() {
                return;
            }
            changed.await;
        }
    }
}

impl Held {
    /// What is known of it.
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        locked(&self.own.places).remove(&self.place.number);
        self.own.changed.notify_waiters();
    }
}

impl Place {
    /// Counted from 1 over all workers.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where it came in.
    pub fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// Who connected.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// When it was accepted, or the tunnel asked for.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// What turned out before the first message; `None` until then.
    pub fn told(&self) -> Option<&Told> {
        self.told.get()
    }

    /// Says what has turned out; the first word counts.
    pub fn tell(&self, told: Told) {
        // Nothing else turns out later.
        let _ = self.told.set(told);
    }

    /// Its bytes are only moved from now on.
    pub fn leads_to(&self, to: SocketAddr) {
        let onward = Onward { to, received: AtomicU64::new(0), sent: AtomicU64::new(0) };
        // The first address is where it got through.
        let _ = self.onward.set(Box::new(onward));
    }

    /// So many bytes have come from the downstream, and gone to it.
    pub fn moved(&self, received: u64, sent: u64) {
        if let Some(onward) = self.onward.get() {
            onward.received.store(received, Ordering::Relaxed);
            onward.sent.store(sent, Ordering::Relaxed);
        }
    }

    /// Of bytes that are only moved: where to, how many from the downstream, how many to it.
    pub fn onward(&self) -> Option<(SocketAddr, u64, u64)> {
        let onward = self.onward.get()?;
        Some((onward.to, onward.received.load(Ordering::Relaxed), onward.sent.load(Ordering::Relaxed)))
    }

    /// Requests so far.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests whose answers have not ended.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A request has begun; the number that it has. Only its worker may say so: nobody else's count is to get lost in between.
    pub fn request_begins(&self) -> u32 {
        let number = self.requests().wrapping_add(1).max(1);
        self.requests.store(number, Ordering::Relaxed);
        self.in_flight.store(self.in_flight() + 1, Ordering::Relaxed);
        number
    }

    /// A request has ended. Only its worker may say so.
    pub fn request_ends(&self) {
        self.in_flight.store(self.in_flight().saturating_sub(1), Ordering::Relaxed);
    }

    /// One that is in no list.
    #[cfg(test)]
    pub fn testing() -> Arc<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let entrance = Arc::new(Entrance { listener: address, direction: Direction::Inbound });
        Arc::clone(Registry::default().worker().enter(&entrance, address).place())
    }
}

impl Tls {
    /// Of a session whose handshake is done.
    pub fn of(session: &CommonState) -> Option<Self> {
        let cipher = session.negotiated_cipher_suite()?.suite();
        Some(Self { version: session.protocol_version()?, cipher })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The lists are whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use futures_util::FutureExt;

    use super::*;

    fn entrance(direction: Direction) -> Arc<Entrance> {
        Arc::new(Entrance { listener: "127.0.0.1:15006".parse().unwrap(), direction })
    }

    fn remote(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn peer(name: &str) -> Told {
        let id = format!("spiffe://cluster.local/ns/default/sa/{name}");
        Told { peer: Some(id.parse().unwrap()), ..Told::default() }
    }

    #[test]
    fn pages_follow_each_other_through_all_workers_and_leave_none_out() {
        let registry = Registry::default();
        let workers = [registry.worker(), registry.worker()];
        let entrance = entrance(Direction::Inbound);
        let held: Vec<_> =
            (0..1000).map(|port| workers[usize::from(port) % 2].enter(&entrance, remote(port))).collect();
        let (mut after, mut seen) = (0, Vec::new());
        loop {
            let found = registry.find(&Wanted { after, limit: 300, ..Wanted::default() });
            assert_eq!((found.total, found.matching), (1000, 1000 - seen.len()));
            let Some(last) = found.places.last() else { break };
            after = last.number();
            seen.extend(found.places.iter().map(|place| place.remote().port()));
        }
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
        drop(held);
        assert_eq!(registry.find(&Wanted { limit: 1, ..Wanted::default() }).total, 0);
    }

    #[test]
    fn only_those_of_a_principal_or_a_direction_are_found() {
        let registry = Registry::default();
        let worker = registry.worker();
        let (inbound, outbound) = (entrance(Direction::Inbound), entrance(Direction::Outbound));
        let (one, other) = (worker.enter(&inbound, remote(1)), worker.enter(&inbound, remote(2)));
        let _third = worker.enter(&outbound, remote(3));
        one.place().tell(peer("frontend"));
        other.place().tell(peer("batch"));
        let found = |wanted: Wanted| {
            let found = registry.find(&Wanted { limit: 9, ..wanted });
            assert_eq!((found.matching, found.total), (found.places.len(), 3));
            found.places.iter().map(|place| place.remote().port()).collect::<Vec<_>>()
        };
        assert_eq!(found(Wanted { principal: Some("sa/batch".to_owned()), ..Wanted::default() }), [2]);
        assert_eq!(found(Wanted { direction: Some(Direction::Outbound), ..Wanted::default() }), [3]);
        assert_eq!(found(Wanted { after: 1, ..Wanted::default() }), [2, 3]);
    }

    #[test]
    fn the_drain_waits_for_the_last_connection() {
        let worker = Registry::default().worker();
        let held = worker.enter(&entrance(Direction::Gateway), remote(1));
        let mut none_left = std::pin::pin!(worker.none_left());
        assert!(none_left.as_mut().now_or_never().is_none());
        drop(held);
        assert!(none_left.now_or_never().is_some());
    }

    /// What an idle connection may cost is a budget of 20 KiB, and this is to be no part of it that shows.
    #[test]
    fn a_place_is_small() {
        assert!(size_of::<Place>() <= 192, "{}", size_of::<Place>());
    }
}
