//! The way to a workload behind another cluster's gateway, or to one that is reached through tunnels by itself (HBONE).
//!
//! Two sessions, one inside the other: an outer one of mutual TLS and HTTP/2 to the gateway, which carries many tunnels, and in
//! each tunnel (HTTP/2 CONNECT, RFC 9113 section 8.5) an inner one of mutual TLS to the far workload, of which the gateway sees
//! only bytes. Where the workload ends the outer one itself, it has said who it is, and in the tunnel is what its application
//! gets. This is about the outer one, at both ends; the inner is made as over any socket.

pub mod dial;
mod incoming;
pub mod pool;
pub mod pulse;
pub mod stream;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use incoming::Incoming;
use meshgate_config::GatewayAddress;
use meshgate_identity::Expected;
pub use pool::Tunnels;
pub use stream::TunnelStream;

/// Flow-control window of one tunnel, on either side: what may be in flight in it, and so the most of it that waits in our memory
/// when whoever reads is slow. Clusters are further apart than pods: it fills 100 Mbit/s at a round trip of 20 ms.
pub const WINDOW: u32 = 256 * 1024;

/// The greatest DATA frame, on either side. TLS inside a tunnel writes records of 16 KiB and 22 bytes, which HTTP/2's smallest
/// maximum would cut in two; several of them in one frame save a frame header and a wake-up each.
pub const FRAME_MAX: u32 = 64 * 1024;

/// Bytes of one tunnel that wait for the connection to be writable.
pub const SEND_BUFFER: usize = 256 * 1024;

/// Tunnels in one connection before another is made: what gateways allow unless told otherwise.
pub const TUNNELS_MAX: u32 = 100;

/// Why a gateway has no endpoint for a tunnel that it would let through, in an answer of 503.
pub const REASON: &str = "x-meshgate-reason";

/// A value of [`REASON`]: none is ready.
pub const NO_READY_ENDPOINT: &str = "no-ready-endpoint";

/// A value of [`REASON`]: none of those that are ready took the connection.
pub const CONNECT_FAILED: &str = "connect-failed";

/// The window of a whole connection: enough for all its tunnels, so that those that nobody reads from do not stop the others.
/// HTTP/2 allows 2^31 - 1.
pub fn connection_window(tunnels: u32) -> u32 {
    WINDOW.saturating_mul(tunnels).min((1 << 31) - 1)
}

/// Between two looks at what waits in a connection's tunnels, in times that it was driven: a look at a hundred of them costs as much
/// as a small request, and h2 lets tens of thousands of frames wait.
const LOOK_EVERY: usize = 64;

/// Where workloads take tunnels: ztunnel's port, which in the mesh is not a matter of configuration.
pub const HBONE_PORT: u16 = 15008;

/// Who ends an outer connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Far {
    /// Another cluster's gateway; what it leads to shows who it is inside the tunnel.
    Gateway(Arc<GatewayAddress>),
    /// The workload that is meant, or its node's proxy with its certificate.
    Workload {
        /// Where it takes tunnels.
        address: SocketAddr,
        /// Who must answer there.
        expected: Expected,
    },
}

impl Far {
    /// Whom its certificate must name, and by whose word.
    pub fn expected(&self) -> Expected {
        match self {
            Self::Gateway(gateway) => dial::expected(gateway),
            Self::Workload { expected, .. } => expected.clone(),
        }
    }
}

impl fmt::Display for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(gateway) => write!(f, "gateway {gateway}"),
            Self::Workload { address, .. } => write!(f, "workload {address}"),
        }
    }
}

/// What is open on a connection.
#[derive(Debug, Clone, Default)]
pub struct Open(Rc<Tally>);

#[derive(Debug, Default)]
struct Tally {
    count: Cell<usize>,
    driven: Cell<usize>,
    tunnels: RefCell<Vec<Weak<RefCell<Incoming>>>>,
}

/// One that is open.
#[derive(Debug)]
pub struct Held(Open);

impl Open {
    /// One more, until it is dropped.
    pub fn hold(&self) -> Held {
        let Self(tally) = self;
        tally.count.set(tally.count.get() + 1);
        Held(self.clone())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let Self(tally) = self;
        tally.count.get()
    }

    /// To be called whenever the connection has been driven.
    pub fn driven(&self) {
        let Self(tally) = self;
        tally.driven.set(tally.driven.get().wrapping_add(1));
        if !tally.driven.get().is_multiple_of(LOOK_EVERY) {
            return;
        }
        tally.tunnels.borrow_mut().retain(|tunnel| {
            let tunnel = tunnel.upgrade();
            tunnel.inspect(|tunnel| tunnel.borrow_mut().collect()).is_some()
        });
    }
}

impl Held {
    /// This one is a tunnel.
    fn follow(&self, incoming: &Rc<RefCell<Incoming>>) {
        let Self(Open(tally)) = self;
        tally.tunnels.borrow_mut().push(Rc::downgrade(incoming));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Self(Open(tally)) = self;
        tally.count.set(tally.count.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests;
