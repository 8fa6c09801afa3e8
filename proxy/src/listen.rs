//! Binds the listeners and accepts: one task a connection, one permit each, and no spin when descriptors run out.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::CatchUnwind;
use pin_project_lite::pin_project;
use tokio::net::{TcpListener, TcpStream};

use crate::connection::{Connection, Direction};
use crate::drain::Phase;
use crate::limits::{PeerPermit, Permit, Permits};
use crate::metrics::{DirectionLabels, Gauge, OutcomeLabels};
use crate::open::{Entrance, Held};
use crate::socket;
use crate::throttle;
use crate::worker::WorkerRef;

/// How long accepting rests after an error that will not go away by itself, such as too many open files; doubled up to
/// [`BACKOFF_MAX`] while it goes on. Connections wait in the kernel's queue meanwhile: a tenth of a second is not missed there, and
/// ten failing calls a second cost nothing.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(100);

/// Listens on `address` once for each of `workers`, so that the kernel spreads connections over them. With port 0 all get the
/// same port.
///
/// # Errors
/// The operating system's. A port that another process listens on is an error even if that process would share it.
pub fn bind_all(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // Sharing a port is meant between our workers, not with a second copy of us: a socket that does not share finds out.
    drop(socket::bind(address, false)?);
    let first = socket::bind(address, true)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    while sockets.len() < workers {
        sockets.push(socket::bind(address, true)?);
    }
    // Before any worker runs: "ready" must not be said before connections are taken.
    sockets.iter().try_for_each(socket::listen)?;
    Ok(sockets)
}

/// The sockets `handed` by another process, and as many more at the same address as there are more `workers`. None is closed: what
/// waits in its queue would be reset. The new ones do not listen yet, and so get nothing that this process might not live to serve.
///
/// # Errors
/// The operating system's.
pub fn join_all(mut handed: Vec<std::net::TcpListener>, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let Some(address) = handed.first().map(std::net::TcpListener::local_addr).transpose()? else { return Ok(handed) };
    while handed.len() < workers {
        handed.push(socket::bind(address, true)?);
    }
    Ok(handed)
}

/// Accepts until the drain reaches `until`, or another process has the listener; each connection is served in a task of its own by `serve`.
pub async fn accept_loop<F, S>(worker: WorkerRef, listener: TcpListener, direction: Direction, until: Phase, serve: F)
where
    F: Fn(WorkerRef, TcpStream, Connection) -> S,
    S: Future<Output = ()> + 'static,
{
    let mut drain = worker.drain.clone();
    let mut backoff = BACKOFF_MIN;
    let Ok(address) = listener.local_addr() else { return };
    let entrance = Arc::new(Entrance { listener: address, direction });
    let gauge = worker.shared.metrics.connections.get_or_create(&DirectionLabels { direction: direction.as_str() });
    let door = Door { permits: worker.shared.doors.listener(address), direction, entrance, gauge };
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.closed(until) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                backoff = BACKOFF_MIN;
                start(&worker, stream, remote, &door, &serve);
            }
            Err(error) if is_of_one_connection(&error) => count_error(&worker, direction, "aborted"),
            Err(error) => {
                count_error(&worker, direction, "exhausted");
                tracing::error!(%error, "cannot accept connections; trying again in {backoff:?}");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
    // The kernel has completed these already: closing the listener on them would reset them.
    while let Some(Ok((stream, remote))) = listener.accept().now_or_never() {
        start(&worker, stream, remote, &door, &serve);
    }
}

/// Where connections come in.
struct Door {
    permits: Permits,
    direction: Direction,
    entrance: Arc<Entrance>,
    /// Those that are open.
    gauge: Gauge,
}

impl Door {
    /// What a connection holds while it is open, where there is room for it.
    fn admit(&self, worker: &WorkerRef, remote: SocketAddr) -> Option<(Permit, Permit, PeerPermit)> {
        let shared = &worker.shared;
        let refuse = |outcome, limit| {
            count_error(worker, self.direction, outcome);
            if let Some(left_out) = throttle::admit() {
                tracing::warn!(%remote, left_out, "connection refused: {limit} reached");
            }
        };
        let Some(permit) = shared.permits.take() else {
            refuse("limit", "limits.connections");
            return None;
        };
        let Some(own) = self.permits.take() else {
            refuse("listener_limit", "limits.connectionsPerListener");
            return None;
        };
        let Some(peer) = shared.doors.peer(remote.ip(), self.direction) else {
            refuse("peer_limit", "limits.connectionsPerPeer");
            return None;
        };
        Some((permit, own, peer))
    }
}

fn start<F, S>(worker: &WorkerRef, stream: TcpStream, remote: SocketAddr, door: &Door, serve: &F)
where
    F: Fn(WorkerRef, TcpStream, Connection) -> S,
    S: Future<Output = ()> + 'static,
{
    let remote = socket::canonical(remote);
    let Some(permits) = door.admit(worker, remote) else { return };
    let open = worker.open.enter(&door.entrance, remote);
    let connection = Connection { remote, destination: None, place: Arc::clone(open.place()) };
    let gauge = door.gauge.clone();
    gauge.inc();
    let task = AssertUnwindSafe(serve(Rc::clone(worker), stream, connection)).catch_unwind();
    tokio::task::spawn_local(Served { task, worker: Rc::clone(worker), gauge, held: (permits, open) });
}

pin_project! {
    /// The task of a connection. Written out, because an async block has room for what it was given and for what it awaits, and
    /// here these are the same and nearly all that a resting connection consists of.
    struct Served<F> {
        #[pin]
        task: CatchUnwind<AssertUnwindSafe<F>>,
        worker: WorkerRef,
        gauge: Gauge,
        // Given back when the task is dropped, which is as soon as it has ended.
        held: ((Permit, Permit, PeerPermit), Held),
    }
}

impl<F: Future<Output = ()>> Future for Served<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let ended = ready!(this.task.poll(cx));
        // A panic ends this connection and is counted; every other goes on.
        if ended.is_err() {
            this.worker.shared.metrics.panics.inc();
            tracing::error!(remote = %this.held.1.place().remote(), "a connection's task panicked");
        }
        this.gauge.dec();
        Poll::Ready(())
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn count_error(worker: &WorkerRef, direction: Direction, outcome: &'static str) {
    let labels = OutcomeLabels { direction: direction.as_str(), outcome };
    worker.shared.metrics.accept_errors.get_or_create(&labels).inc();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inbound, outbound};

    fn size_of_task<L, F: Future<Output = ()>>(_: impl FnOnce(WorkerRef, TcpStream, Connection, Rc<L>) -> F) -> usize {
        size_of::<Served<F>>()
    }

    /// It is most of what a resting connection consists of that is ours. With what tokio puts around it, and rounded up by the
    /// allocator, each comes to 1,536 bytes.
    #[test]
    fn the_task_of_a_connection_is_small() {
        let (inbound, outbound) = (size_of_task(inbound::serve), size_of_task(outbound::serve));
        assert!(inbound <= 1408 && outbound <= 1168, "{inbound}, {outbound}");
    }
}
