//! Upstream connections kept for reuse, by worker.
//!
//! A [`Slot`] stands for one way to reach one address: whoever has a plan holds its slots, so that a request takes a connection
//! without a look-up. Two requests may share a connection only when address, protocol, expected identity, server name and
//! source address are all equal ([`Upstream`]), and connections made under an older own certificate are not used again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use meshgate_identity::Expected;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::http::body::{Progress, RequestBody};
use crate::tunnel::{Far, HBONE_PORT};

/// Idle connections kept per slot and worker; a burst beyond it closes its connections as it ends.
const IDLE_MAX: usize = 256;

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
}

/// The time of the last sweep. A connection's rest counts from there, so it may be closed up to one sweep early; in return no
/// request asks the system for the time.
type Clock = Rc<Cell<Instant>>;

impl Default for Pool {
    fn default() -> Self {
        Self { slots: RefCell::default(), clock: Rc::new(Cell::new(Instant::now())) }
    }
}

impl Pool {
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
            retired: Cell::new(0),
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

    /// Closes connections idle for longer than `max`, and forgets slots that nobody holds and that have none.
    pub fn sweep(&self, max: Duration) {
        let now = Instant::now();
        self.clock.set(now);
        let Some(oldest) = now.checked_sub(max) else { return };
        self.slots.borrow_mut().retain(|_, slot| {
            slot.idle.borrow_mut().retain(|idle| idle.since > oldest && !idle.sender.is_closed());
            slot.shared.borrow_mut().retain(|shared| !shared.sender.is_closed() && !shared.is_idle_since(oldest));
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
    /// How often its connections were retired.
    retired: Cell<u64>,
}

/// Where the count of retirements stands in the generation of a connection; certificates do not change as often.
const RETIRED_AT: u32 = 32;

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    generation: u64,
    since: Instant,
}

#[derive(Debug)]
struct SharedH2 {
    sender: http2::SendRequest<RequestBody>,
    generation: u64,
    used: Instant,
    streams: Rc<()>,
}

impl SharedH2 {
    fn is_idle_since(&self, oldest: Instant) -> bool {
        self.used <= oldest && self.in_use() == 0
    }

    fn in_use(&self) -> usize {
        Rc::strong_count(&self.streams) - 1
    }

    fn takes_another(&self, generation: u64) -> bool {
        self.generation == generation && !self.sender.is_closed() && self.in_use() < STREAMS_MAX as usize
    }
}

/// What a request for an HTTP/2 connection gets.
pub enum CheckoutH2 {
    /// A stream on a connection that is there.
    Ready(http2::SendRequest<RequestBody>, Lease),
    /// No connection takes another stream, and nobody is making one: the caller must, and then call [`Connecting::done`].
    Connect(Connecting),
}

/// The right to make a slot's HTTP/2 connection. Dropped without a connection, it wakes the next who waits.
pub struct Connecting(Rc<Slot>);

impl Slot {
    /// What this slot connects to.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Where it is as the access log has it, written once instead of once a request.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The generation of connections made now, under own certificate `identity`; those of others are not used again.
    pub fn generation(&self, identity: u64) -> u64 {
        identity.wrapping_add(self.retired.get() << RETIRED_AT)
    }

    /// An idle HTTP/1.1 connection, the most recently used first, of this [`Slot::generation`].
    pub fn checkout(self: &Rc<Self>, generation: u64) -> Option<(http1::SendRequest<RequestBody>, u64)> {
        let mut idle = self.idle.borrow_mut();
        while let Some(last) = idle.pop() {
            if last.generation == generation && !last.sender.is_closed() {
                return Some((last.sender, last.generation));
            }
        }
        None
    }

    /// A stream on one of the slot's HTTP/2 connections; waits while somebody else connects.
    pub async fn checkout_h2(self: &Rc<Self>, generation: u64) -> CheckoutH2 {
        loop {
            // Registered before the look, so that a connection made in between is not missed.
            let connected = self.connected.notified();
            if let Some(shared) = self.shared.borrow_mut().iter_mut().find(|shared| shared.takes_another(generation)) {
                shared.used = self.clock.get();
                return CheckoutH2::Ready(shared.sender.clone(), Lease::stream(&shared.streams));
            }
            if !self.connecting.replace(true) {
                return CheckoutH2::Connect(Connecting(Rc::clone(self)));
            }
            connected.await;
        }
    }
}

impl Connecting {
    /// Shares the connection that was made.
    pub fn done(self, sender: &http2::SendRequest<RequestBody>, generation: u64) -> Lease {
        let streams = Rc::new(());
        let lease = Lease::stream(&streams);
        let shared = SharedH2 { sender: sender.clone(), generation, used: self.0.clock.get(), streams };
        let mut all = self.0.shared.borrow_mut();
        // Those of an older certificate end with their last stream.
        all.retain(|known| known.generation == generation && !known.sender.is_closed());
        all.push(shared);
        drop(all);
        lease
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.connected.notify_waiters();
    }
}

/// The use of an upstream connection by one request.
#[derive(Debug)]
pub struct Lease(Kind);

#[derive(Debug)]
enum Kind {
    Whole { slot: Rc<Slot>, sender: http1::SendRequest<RequestBody>, generation: u64, progress: Option<Rc<Progress>> },
    Stream { _held: Rc<()> },
}

impl Lease {
    /// An HTTP/1.1 connection, which can carry the next request once this one's body has gone up and its answer has come down.
    pub fn whole(
        slot: &Rc<Slot>,
        sender: http1::SendRequest<RequestBody>,
        generation: u64,
        progress: Option<Rc<Progress>>,
    ) -> Self {
        Self(Kind::Whole { slot: Rc::clone(slot), sender, generation, progress })
    }

    fn stream(streams: &Rc<()>) -> Self {
        Self(Kind::Stream { _held: Rc::clone(streams) })
    }

    /// Gives the connection back for the next request. A connection whose request is still going up is closed instead: what
    /// is left of that body must not be read as a request.
    pub fn release(self) {
        let Kind::Whole { slot, sender, generation, progress } = self.0 else { return };
        let sent = progress.is_none_or(|progress| progress.ended.get());
        let mut idle = slot.idle.borrow_mut();
        let is_current = generation >> RETIRED_AT == slot.retired.get();
        if sent && is_current && !sender.is_closed() && idle.len() < IDLE_MAX {
            idle.push(Idle { sender, generation, since: slot.clock.get() });
        }
    }
}
