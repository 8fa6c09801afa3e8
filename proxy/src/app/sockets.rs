//! The listeners: those that another process hands over, and new ones for the rest.

use std::io;
use std::net::{SocketAddr, TcpListener};

use meshgate_config::{Bootstrap, InboundListener, OutboundListener};

use super::StartError;
use crate::connection::Direction;
use crate::hand_over::{Kind, Listener, Taking};
use crate::listen::{bind_all, join_all};
use crate::orig_dst::OwnAddresses;
use crate::{runtime, socket};

/// One worker's share of the listeners: one socket of each at least, and more where more were handed over than there are workers.
#[derive(Default)]
pub(super) struct Sockets {
    pub(super) inbound: Vec<(TcpListener, InboundListener)>,
    pub(super) outbound: Vec<(TcpListener, OutboundListener)>,
    pub(super) gateway: Vec<TcpListener>,
    pub(super) compatibility: Vec<TcpListener>,
    pub(super) hbone: Vec<TcpListener>,
}

/// All listeners of the process.
pub(super) struct Bound {
    /// One for each worker.
    pub(super) workers: Vec<Sockets>,
    /// Where they listen.
    pub(super) own: OwnAddresses,
    pub(super) admin: TcpListener,
    /// Copies of all, where they may be handed on.
    pub(super) copies: Vec<Listener>,
}

/// Takes what `taking` has for the bootstrap's listeners, and binds the others. Those that were handed over, or join such, are yet to
/// be [listened](socket::listen) on.
///
/// # Errors
/// [`StartError::Bind`], with the field.
pub(super) fn bind(bootstrap: &Bootstrap, taking: Option<&mut Taking>) -> Result<Bound, StartError> {
    let workers = runtime::worker_count(bootstrap.workers);
    let mut binder =
        Binder { workers, taking, own: Vec::new(), copies: bootstrap.hand_over.socket.as_ref().map(|_| Vec::new()) };
    let mut sockets: Vec<Sockets> = (0..workers).map(|_| Sockets::default()).collect();
    for (index, listener) in bootstrap.inbound.listeners.iter().enumerate() {
        let what = format!("inbound.listeners[{index}].address");
        let bound = binder.bind(what, Kind::Inbound, listener.address)?;
        if listener.transparent {
            make_transparent(&bound).map_err(|source| StartError::Bind {
                what: format!("inbound.listeners[{index}].transparent"),
                address: listener.address,
                source,
            })?;
        }
        share(&mut sockets, bound, |worker, socket| worker.inbound.push((socket, *listener)));
    }
    for (index, listener) in bootstrap.outbound.listeners.iter().enumerate() {
        let what = format!("outbound.listeners[{index}].address");
        let bound = binder.bind(what, Kind::Outbound, listener.address)?;
        share(&mut sockets, bound, |worker, socket| worker.outbound.push((socket, *listener)));
    }
    for (index, address) in bootstrap.gateway.listeners.iter().enumerate() {
        let bound = binder.bind(format!("gateway.listeners[{index}]"), Kind::Gateway, *address)?;
        share(&mut sockets, bound, |worker, socket| worker.gateway.push(socket));
    }
    for (index, address) in bootstrap.gateway.compatibility.iter().enumerate() {
        let bound = binder.bind(format!("gateway.compatibility[{index}]"), Kind::Compatibility, *address)?;
        share(&mut sockets, bound, |worker, socket| worker.compatibility.push(socket));
    }
    for (index, address) in bootstrap.hbone.listeners.iter().enumerate() {
        let bound = binder.bind(format!("hbone.listeners[{index}]"), Kind::Hbone, *address)?;
        share(&mut sockets, bound, |worker, socket| worker.hbone.push(socket));
    }
    let admin = binder.admin(bootstrap.admin.address)?;
    let Binder { own, copies, .. } = binder;
    Ok(Bound { workers: sockets, own: OwnAddresses::new(own), admin, copies: copies.unwrap_or_default() })
}

/// Those that were handed over too: who handed them may have had no use for it. What the kernel finds no such socket for meanwhile
/// it drops, and is sent again.
fn make_transparent(sockets: &[TcpListener]) -> io::Result<()> {
    sockets.iter().try_for_each(socket::make_transparent).map_err(|error| {
        let hint = "IP_TRANSPARENT, which needs CAP_NET_RAW or CAP_NET_ADMIN";
        io::Error::new(error.kind(), format!("{hint}: {error}"))
    })
}

/// Gives every socket to a worker, and every worker its share.
fn share(workers: &mut [Sockets], sockets: Vec<TcpListener>, mut give: impl FnMut(&mut Sockets, TcpListener)) {
    let count = workers.len();
    for (index, socket) in sockets.into_iter().enumerate() {
        if let Some(worker) = workers.get_mut(index % count) {
            give(worker, socket);
        }
    }
}

struct Binder<'a> {
    workers: usize,
    taking: Option<&'a mut Taking>,
    own: Vec<SocketAddr>,
    /// `None` = nobody will ask for them.
    copies: Option<Vec<Listener>>,
}

impl Binder<'_> {
    fn bind(&mut self, what: String, kind: Kind, address: SocketAddr) -> Result<Vec<TcpListener>, StartError> {
        let handed = self.handed(kind, address);
        let bound = match handed.is_empty() {
            true => bind_all(address, self.workers),
            false => join_all(handed, self.workers),
        };
        let noted = bound.and_then(|bound| self.copy(kind, address, &bound).map(|()| bound));
        let bound = noted.map_err(|source| StartError::Bind { what, address, source })?;
        if let Some(Ok(address)) = bound.first().map(TcpListener::local_addr) {
            tracing::info!(%address, direction = direction(kind).as_str(), "listening");
            self.own.push(address);
        }
        Ok(bound)
    }

    fn admin(&mut self, address: SocketAddr) -> Result<TcpListener, StartError> {
        let bound = match self.handed(Kind::Admin, address).pop() {
            Some(handed) => Ok(handed),
            None => socket::bind(address, false).and_then(|socket| socket::listen(&socket).map(|()| socket)),
        };
        let noted = bound.and_then(|bound| self.copy(Kind::Admin, address, [&bound]).map(|()| bound));
        let bound = noted.map_err(|source| StartError::Bind { what: "admin.address".to_owned(), address, source })?;
        if let Ok(address) = bound.local_addr() {
            tracing::info!(%address, "admin: listening");
        }
        Ok(bound)
    }

    fn handed(&mut self, kind: Kind, address: SocketAddr) -> Vec<TcpListener> {
        self.taking.as_mut().map(|taking| taking.take(kind, address)).unwrap_or_default()
    }

    fn copy<'a>(
        &mut self,
        kind: Kind,
        address: SocketAddr,
        sockets: impl IntoIterator<Item = &'a TcpListener>,
    ) -> io::Result<()> {
        let Some(copies) = &mut self.copies else { return Ok(()) };
        for socket in sockets {
            copies.push(Listener { kind, address, socket: socket.try_clone()? });
        }
        Ok(())
    }
}

/// As it is called in the log.
fn direction(kind: Kind) -> Direction {
    match kind {
        Kind::Inbound | Kind::Hbone | Kind::Admin => Direction::Inbound,
        Kind::Outbound => Direction::Outbound,
        Kind::Gateway | Kind::Compatibility => Direction::Gateway,
    }
}
