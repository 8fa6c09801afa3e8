//! Upstream connections kept for reuse, by worker.
//!
//! A [`Slot`] stands for one way to reach one address: whoever has a plan holds its slots, so that a request takes a connection
//! without a look-up. Two requests may share a connection only when address, protocol, expected identity, server name and
//! source address are all equal ([`Upstream`]), and connections made under an older own certificate are not used again.

mod connecting;
mod exclusive;
mod lease;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use meshgate_config::EndpointLimits;
use meshgate_identity::Expected;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::circuit::{Circuit, Circuits, Use};
use crate::connection::Protocol;
use crate::error::ProxyError;
use crate::http::body::RequestBody;
use crate::http::guard::http1::Signals;
use crate::tunnel::{Far, HBONE_PORT};

pub use connecting::Connecting;
pub use exclusive::{Bell, Http1, Origin};
pub use lease::{Footing, Io, Lease, Switched};

/// Idle connections kept per slot and worker; a burst beyond it closes its connections as it ends.
const IDLE_MAX: usize = 256;

/// Idle connections of a slot that are no spares: who asks now and then, and who asks twice at once, need no new one.
const FEW: usize = 2;

/// Streams on one upstream HTTP/2 connection before another is made: what most servers allow at a time, so that requests do
/// not queue behind others', and few enough that each has its whole flow-control window (see `connection_window`).
pub const STREAMS_MAX: u32 = 100;

/// How an upstream is protected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Security {
    /// Not at all: the local application, or a workload that says it is outside the mesh.
    Plaintext,
    /// Mutual TLS with this identity at the far end.
    Mtls {
        /// Whom we must find there.
        expected: Expected,
        /// The server name sent in the hello: the service's host name.
        server_name: Arc<str>,
    },
}

/// The HTTP version spoken upstream; the downstream's own, so that nothing is lost in translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl From<Protocol> for HttpVersion {
    /// For bytes, of which nobody asks, HTTP/1.1.
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http2 => Self::Http2,
            Protocol::Http1 | Protocol::Tcp => Self::Http1,
        }
    }
}

/// Everything that two requests must have in common to share an upstream connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Where to connect.
    pub address: SocketAddr,
    /// HTTP/1.1 or HTTP/2.
    pub version: HttpVersion,
    /// Plaintext, or whom to expect.
    pub security: Security,
    /// The source address to connect from, where it matters.
    pub source: Option<IpAddr>,
    /// How long connecting and handshake may take together.
    pub connect_timeout: Duration,
    /// The tunnel to go through instead of connecting to the address.
    pub via: Option<Via>,
}

/// A way through a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Via {
    /// Who ends its outer connection.
    pub far: Far,
    /// What it is asked for.
    pub authority: Arc<str>,
}

impl Via {
    /// The way to what listens at `address`, by its own workload, which must be `expected`.
    pub fn to_workload(address: SocketAddr, expected: Expected) -> Self {
        let far = Far::Workload { address: SocketAddr::new(address.ip(), HBONE_PORT), expected };
        Self { far, authority: address.to_string().into() }
    }
}

impl fmt::Display for Upstream {
    /// Its address, or the gateway it is behind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.via {
            Some(Via { far: Far::Gateway(gateway), .. }) => gateway.fmt(f),
            Some(Via { far: Far::Workload { .. }, .. }) | None => self.address.fmt(f),
        }
    }
}

/// The upstream connections of one worker.
#[derive(Debug)]
pub struct Pool {
    slots: RefCell<HashMap<Upstream, Rc<Slot>>>,
    clock: Clock,
    circuits: Arc<Circuits>,
    age: Option<Duration>,
}

/// The time of the last sweep. A connection's rest counts from there, so it may be closed up to one sweep early; in return no
/// request asks the system for the time.
type Clock = Rc<Cell<Instant>>;

impl Default for Pool {
    /// Without limits.
    fn default() -> Self {
        let most = usize::MAX;
        let limits = EndpointLimits { connections: most, requests: most, pending: most };
        Self::new(Arc::new(Circuits::new(limits)), None)
    }
}

impl Pool {
    /// Without connections; each takes new requests until it has this `age`.
    pub fn new(circuits: Arc<Circuits>, age: Option<Duration>) -> Self {
        Self { slots: RefCell::default(), clock: Rc::new(Cell::new(Instant::now())), circuits, age }
    }

    /// The slot of an upstream; made when it is new.
    pub fn slot(&self, upstream: &Upstream) -> Rc<Slot> {
        if let Some(slot) = self.slots.borrow().get(upstream) {
            return Rc::clone(slot);
        }
        let slot = Rc::new(Slot {
            label: upstream.to_string(),
            upstream: upstream.clone(),
            idle: RefCell::default(),
            shared: RefCell::default(),
            connecting: Cell::new(false),
            connected: Notify::new(),
            clock: Rc::clone(&self.clock),
            http1_alone: Cell::new(false),
            retired: Cell::new(0),
            circuit: self.circuits.of(upstream),
            age: self.age,
        });
        self.slots.borrow_mut().insert(upstream.clone(), Rc::clone(&slot));
        slot
    }

    /// Uses no connection through tunnels to `far` again: it is about to go, and waits for those that are open. What they are at
    /// they finish.
    pub fn retire(&self, far: &Far) {
        let slots = self.slots.borrow();
        for slot in slots.values().filter(|slot| slot.upstream.via.as_ref().is_some_and(|via| via.far == *far)) {
            slot.retired.set(slot.retired.get() + 1);
            slot.idle.borrow_mut().clear();
            slot.shared.borrow_mut().retain(|shared| shared.in_use() > 0);
        }
    }

    /// HTTP/1 connections that wait for a request.
    pub fn idle(&self) -> usize {
        self.slots.borrow().values().map(|slot| slot.idle.borrow().len()).sum()
    }

    /// Closes the HTTP/1 connections of each slot that were not needed for as long as `max`, but for a few. The one that was used
    /// last is used next, so they are those that have been idle for so long.
    pub fn let_go_of_spares(&self, max: Duration) {
        let now = Instant::now();
        self.clock.set(now);
        let Some(oldest) = now.checked_sub(max) else { return };
        for slot in self.slots.borrow().values() {
            let mut idle = slot.idle.borrow_mut();
            let spare = idle.iter().take_while(|idle| idle.since <= oldest).count();
            let few = idle.len().saturating_sub(FEW);
            idle.drain(..spare.min(few));
        }
    }

    /// Closes connections idle for longer than `max`, and forgets slots that nobody holds and that have none.
    pub fn sweep(&self, max: Duration) {
        let now = Instant::now();
        self.clock.set(now);
        let Some(oldest) = now.checked_sub(max) else { return };
        self.slots.borrow_mut().retain(|_, slot| {
            slot.idle.borrow_mut().retain(|idle| idle.since > oldest && idle.connection.is_fresh(now));
            slot.shared.borrow_mut().retain(|shared| shared.is_wanted(now, oldest));
            Rc::strong_count(slot) > 1 || !slot.idle.borrow().is_empty() || !slot.shared.borrow().is_empty()
        });
    }
}

/// One upstream and its connections.
#[derive(Debug)]
pub struct Slot {
    upstream: Upstream,
    label: String,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<SharedH2>>,
    connecting: Cell<bool>,
    connected: Notify,
    clock: Clock,
    /// Spoken to in HTTP/2, it turned out not to know it.
    http1_alone: Cell<bool>,
    /// How often its connections were retired.
    retired: Cell<u64>,
    circuit: Arc<Circuit>,
    /// How old its connections may become.
    age: Option<Duration>,
}

/// Connections end up to one part in so many before their age, so that those made together do not end together.
const JITTER: u32 = 10;

/// Where the count of retirements stands in the generation of a connection; certificates do not change as often.
const RETIRED_AT: u32 = 32;

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: Instant,
}

#[derive(Debug)]
struct SharedH2 {
    sender: http2::SendRequest<RequestBody>,
    origin: Origin,
    retires: Option<Instant>,
    used: Instant,
    streams: Rc<()>,
}

impl SharedH2 {
    /// Whether it is in use, or may be again.
    fn is_wanted(&self, now: Instant, oldest: Instant) -> bool {
        let rests = self.in_use() == 0 && (self.used <= oldest || self.retires.is_some_and(|retires| retires <= now));
        !self.sender.is_closed() && !rests
    }

    fn in_use(&self) -> usize {
        Rc::strong_count(&self.streams) - 1
    }

    fn takes_another(&self, generation: u64, now: Instant) -> bool {
        self.origin.generation == generation
            && self.origin.is_good()
            && !self.sender.is_closed()
            && self.in_use() < STREAMS_MAX as usize
            && self.retires.is_none_or(|retires| now < retires)
    }
}

/// What a request for an HTTP/2 connection gets.
pub enum CheckoutH2 {
    /// A stream on a connection that is there.
    Ready(http2::SendRequest<RequestBody>, Lease),
    /// No connection takes another stream, and nobody is making one: the caller must, and then call [`Connecting::done`].
    Connect(Connecting),
    /// There is none to wait for, or too many wait.
    Refused(ProxyError),
}

impl Slot {
    /// What this slot connects to.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Where it is as the access log has it, written once instead of once a request.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether it does not know HTTP/2, though that is what came for it.
    pub fn is_http1_alone(&self) -> bool {
        self.http1_alone.get()
    }

    /// It does not know HTTP/2.
    pub fn speaks_http1_alone(&self) {
        self.http1_alone.set(true);
    }

    /// The generation of connections made now, under own certificate `identity`; those of others are not used again.
    pub fn generation(&self, identity: u64) -> u64 {
        identity.wrapping_add(self.retired.get() << RETIRED_AT)
    }

    /// What its endpoint has.
    pub fn circuit(&self) -> &Arc<Circuit> {
        &self.circuit
    }

    /// An idle HTTP/1.1 connection, the most recently used first, of this [`Slot::generation`].
    pub fn checkout(self: &Rc<Self>, generation: u64) -> Option<Http1> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut connection, .. }) = idle.pop() {
            if connection.origin.generation == generation && connection.is_fresh(self.clock.get()) {
                connection.busy = true;
                return Some(connection);
            }
        }
        None
    }

    /// A new HTTP/1.1 connection, about to carry its first request; `task` drives it, and `bell` wakes that.
    pub fn connected(
        &self,
        sender: http1::SendRequest<RequestBody>,
        signals: Rc<Signals>,
        origin: Origin,
        task: AbortHandle,
        bell: Arc<Bell>,
    ) -> Http1 {
        Http1 { sender, signals, origin, retires: self.retires(), task, bell, busy: true }
    }

    /// Until when a connection made now takes requests.
    fn retires(&self) -> Option<Instant> {
        let age = self.age?;
        // As random as it has to be: every hasher of this kind has keys of its own.
        let early = (age / JITTER).mul_f64(RandomState::new().hash_one(0) as f64 / u64::MAX as f64);
        Some(Instant::now() + (age - early))
    }

    /// A stream on one of the slot's HTTP/2 connections; waits while somebody else connects.
    pub async fn checkout_h2(self: &Rc<Self>, generation: u64) -> CheckoutH2 {
        let mut waits: Option<Use> = None;
        loop {
            // Registered before the look, so that a connection made in between is not missed.
            let connected = self.connected.notified();
            let now = self.clock.get();
            if let Some(shared) =
                self.shared.borrow_mut().iter_mut().find(|shared| shared.takes_another(generation, now))
            {
                shared.used = now;
                return CheckoutH2::Ready(shared.sender.clone(), Lease::stream(&shared.streams));
            }
            let has_waited = waits.is_some();
            let waiting = match waits.take().map_or_else(|| self.circuit.wait(), Ok) {
                Ok(_) if has_waited && self.circuit.is_silent() => Err(self.circuit.in_vain()),
                waiting => waiting,
            };
            let waiting = match waiting {
                Ok(waiting) => waiting,
                Err(error) => return CheckoutH2::Refused(error),
            };
            if !self.connecting.replace(true) {
                return CheckoutH2::Connect(Connecting { slot: Rc::clone(self), _waits: waiting });
            }
            waits = Some(waiting);
            connected.await;
        }
    }
}

#[cfg(test)]
mod tests;
