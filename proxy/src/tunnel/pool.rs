//! Outer connections, by worker and far end: few connections, many tunnels.
//!
//! Each is driven by one task of its worker. It takes tunnels until it has as many as either end allows, is told to go away, is
//! of an older own certificate, or stops answering; those it has then end by themselves.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::client::SendRequest;
use h2::{Reason, client};
use http::{Method, Request, StatusCode, Version, header};
use meshgate_config::Role;
use meshgate_identity::{Identity, PeerRole};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::client::TlsStream;

use super::{Far, Held, Open, TunnelStream, pulse};
use crate::connection::Direction;
use crate::error::{ErrorKind, ProxyError};
use crate::http::cork;
use crate::http::guard::http2::{Guarded, Role as End};
use crate::http::pool::Via;
use crate::sessions::Session;
use crate::stream::Stream;
use crate::tunnel::dial;
use crate::worker::{Worker, WorkerRef};

/// Connections tried for one tunnel. More than one, because a gateway that drains takes no tunnel on a connection that seemed
/// good a moment ago.
const TRIES: usize = 3;

/// Whom one worker has connections to.
#[derive(Debug, Default)]
pub struct Tunnels(RefCell<HashMap<Far, Rc<Connections>>>);

/// Connections to one of them.
#[derive(Debug, Default)]
struct Connections {
    open: RefCell<Vec<Rc<Connection>>>,
    connecting: Cell<bool>,
    connected: Notify,
    failed: RefCell<Failed>,
}

/// Tries that failed: whoever waited for one does not make the same one again.
#[derive(Debug, Default)]
struct Failed {
    times: u64,
    last: Option<(ErrorKind, String)>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Bytes>,
    generation: u64,
    session: Rc<Session>,
    tunnels: Open,
    used: Cell<Instant>,
    closed: Rc<Cell<bool>>,
}

impl Connection {
    fn takes_another(&self, generation: u64) -> bool {
        let max = self.sender.current_max_send_streams().clamp(1, super::TUNNELS_MAX as usize);
        self.generation >= generation && self.session.is_good() && !self.closed.get() && self.tunnels.count() < max
    }

    fn is_idle_since(&self, oldest: Instant) -> bool {
        self.used.get() <= oldest && self.tunnels.count() == 0
    }
}

impl Tunnels {
    /// Closes connections that have had no tunnel for longer than `max`.
    pub fn sweep(&self, max: Duration) {
        let now = Instant::now();
        let Some(oldest) = now.checked_sub(max) else { return };
        self.0.borrow_mut().retain(|_, connections| {
            let mut open = connections.open.borrow_mut();
            for connection in open.iter().filter(|connection| connection.tunnels.count() > 0) {
                connection.used.set(now);
            }
            open.retain(|connection| !connection.closed.get() && !connection.is_idle_since(oldest));
            !open.is_empty() || Rc::strong_count(connections) > 1
        });
    }

    fn to(&self, far: &Far) -> Rc<Connections> {
        let mut all = self.0.borrow_mut();
        if let Some(known) = all.get(far) {
            return Rc::clone(known);
        }
        Rc::clone(all.entry(far.clone()).or_default())
    }
}

/// Opens a tunnel before the deadline.
///
/// # Errors
/// About the gateway: [`ErrorKind::GatewayFailed`], [`ErrorKind::GatewayTls`], [`ErrorKind::Loop`]. From it:
/// [`ErrorKind::TunnelRefused`], [`ErrorKind::TunnelNoEndpoint`]. About a workload: [`ErrorKind::ConnectFailed`],
/// [`ErrorKind::ConnectTimeout`], [`ErrorKind::UpstreamTls`]. Nothing of a request was sent in any of them.
pub async fn open(worker: &WorkerRef, via: &Via, deadline: Instant) -> Result<TunnelStream, ProxyError> {
    let connections = worker.tunnels.to(&via.far);
    let generation = worker.identity.borrow().generation();
    let mut last = None;
    for _ in 0..TRIES {
        let late = || error(ErrorKind::GatewayFailed, via, "no connection in time");
        let found = timeout_at(deadline, connections.connection(worker, via, generation));
        let (connection, held) = found.await.map_err(|_| late())??;
        match timeout_at(deadline, connect(worker, via, &connection, held)).await {
            Ok(Ok(tunnel)) => return Ok(tunnel),
            Ok(Err(Unopened::Refused(error))) => return Err(error),
            Ok(Err(Unopened::NotHere(why))) => {
                connection.closed.set(true);
                last = Some(why);
            }
            // The gateway itself is asked whether it lives by PING; who is slow here is whoever it connects to.
            Err(_) => {
                let kind = match via.far {
                    Far::Gateway(_) => ErrorKind::TunnelNoEndpoint,
                    Far::Workload { .. } => ErrorKind::ConnectTimeout,
                };
                return Err(error(kind, via, "no answer to CONNECT in time"));
            }
        }
    }
    let failed = error(ErrorKind::GatewayFailed, via, "its connections end as soon as they are used");
    Err(match last {
        Some(why) => failed.caused_by(why),
        None => failed,
    })
}

impl Connections {
    /// A connection that takes another tunnel; waits while one is made.
    async fn connection(
        self: &Rc<Self>,
        worker: &WorkerRef,
        via: &Via,
        generation: u64,
    ) -> Result<(Rc<Connection>, Held), ProxyError> {
        let seen = self.failed.borrow().times;
        loop {
            // Registered before the look, so that a connection made in between is not missed.
            let connected = self.connected.notified();
            if let Some(found) = self.open.borrow().iter().find(|known| known.takes_another(generation)) {
                return Ok((Rc::clone(found), found.tunnels.hold()));
            }
            if let Failed { times, last: Some((kind, detail)) } = &*self.failed.borrow()
                && *times != seen
            {
                return Err(ProxyError::new(*kind, detail.clone()));
            }
            if !self.connecting.replace(true) {
                // A task of its own: whoever asked first may go away, and the others wait for the same.
                let (connecting, worker, via) = (Connecting(Rc::clone(self)), Rc::clone(worker), via.clone());
                tokio::task::spawn_local(async move { connecting.connect(&worker, &via).await });
            }
            connected.await;
        }
    }
}

/// Between two looks at whether a connection still takes tunnels.
const LOOK: Duration = Duration::from_secs(1);

/// Returns when the other end takes no more tunnels here (GOAWAY); those that it has go on.
async fn going_away(connection: Weak<Connection>) {
    loop {
        sleep(LOOK).await;
        // Nobody but who opens tunnels may keep it open.
        let Some(connection) = connection.upgrade() else { return std::future::pending().await };
        let looked = poll_fn(|cx| Poll::Ready(connection.sender.clone().poll_ready(cx)));
        if let Poll::Ready(Err(_)) = looked.await {
            return;
        }
    }
}

/// The right to connect. Dropped, it wakes those who wait.
struct Connecting(Rc<Connections>);

impl Connecting {
    async fn connect(self, worker: &WorkerRef, via: &Via) {
        let Self(connections) = &self;
        match establish(worker, via).await {
            Ok(connection) => {
                let mut open = connections.open.borrow_mut();
                // Those of an older certificate end with their last tunnel.
                open.retain(|known| known.generation == connection.generation && !known.closed.get());
                open.push(connection);
            }
            Err(error) => {
                let mut failed = connections.failed.borrow_mut();
                *failed = Failed { times: failed.times + 1, last: Some((error.kind, error.detail_with_cause())) };
            }
        }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        let Self(connections) = self;
        connections.connecting.set(false);
        connections.connected.notify_waiters();
    }
}

/// The outer session, counted.
async fn dialled(
    worker: &Worker,
    far: &Far,
    identity: &Identity,
    patience: Duration,
) -> Result<TlsStream<Stream>, ProxyError> {
    let (dialled, direction) = match far {
        Far::Gateway(gateway) => {
            let gateway = worker.shared.clusters.gateway(gateway);
            (dial::dial(&gateway, identity, &worker.shared.own, patience).await, Direction::Gateway)
        }
        Far::Workload { address, expected } => {
            (dial::dial_workload(*address, expected, identity, patience).await, Direction::Outbound)
        }
    };
    let failure = dialled.as_ref().err().map(|error| match error.kind {
        ErrorKind::UpstreamTls | ErrorKind::GatewayTls => "identity",
        ErrorKind::ConnectTimeout => "timeout",
        _ => "closed",
    });
    worker.shared.metrics.handshake(direction, failure);
    dialled
}

async fn establish(worker: &WorkerRef, via: &Via) -> Result<Rc<Connection>, ProxyError> {
    let identity = Arc::clone(&worker.identity.borrow());
    let generation = identity.generation();
    let patience = worker.shared.bootstrap.timeouts.connect;
    let deadline = Instant::now() + patience;
    let stream = dialled(worker, &via.far, &identity, patience).await?;
    let late = |_| error(ErrorKind::GatewayFailed, via, "no HTTP/2 in time");
    let role = PeerRole::Server(via.far.expected());
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let session = worker.sessions.enter(worker, &identity, certificates, role);
    let (limits, shared) = (worker.shared.bootstrap.limits.http2, Arc::clone(&worker.shared));
    let watch = move |excess| shared.metrics.http2_excess("gateway", excess);
    let (stream, cork) = cork::cork(Guarded::new(stream, End::Client, &limits, watch));
    let (sender, mut connection) = timeout_at(deadline, builder().handshake(stream))
        .await
        .map_err(late)?
        .map_err(|cause| error(ErrorKind::GatewayFailed, via, "HTTP/2").caused_by(cause))?;
    let (tunnels, closed) = (Open::default(), Rc::new(Cell::new(false)));
    let rests_on = Rc::clone(&session);
    let made =
        Connection { sender, generation, session, tunnels: tunnels.clone(), used: Cell::new(Instant::now()), closed };
    let (far, closed) = (via.far.clone(), Rc::clone(&made.closed));
    let made = Rc::new(made);
    let (worker, watched) = (Rc::clone(worker), Rc::downgrade(&made));
    tokio::task::spawn_local(async move {
        let lost = pulse::lost(connection.ping_pong(), || tunnels.count() > 0);
        let driving = poll_fn(|cx| {
            let ended = connection.poll_unpin(cx);
            tunnels.driven();
            match ended {
                Poll::Ready(ended) => Poll::Ready(ended.map_err(io::Error::other)),
                Poll::Pending => cork.poll_pending(cx).map(Err),
            }
        });
        let retired = async {
            tokio::select! {
                () = going_away(watched) => {}
                () = rests_on.not_good() => {}
            }
            tracing::debug!(%far, tunnels = tunnels.count(), "outer connection is about to go");
            closed.set(true);
            worker.pool.retire(&far);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            ended = driving => match ended {
                Ok(()) => tracing::debug!(%far, "outer connection ended"),
                Err(error) => tracing::debug!(%far, %error, "outer connection ended"),
            },
            () = lost => tracing::warn!(%far, tunnels = tunnels.count(), "no answer on an outer connection; its tunnels end"),
            () = rests_on.ended() => tracing::debug!(%far, why = rests_on.over(), "outer connection cut"),
            () = retired => {}
        }
        closed.set(true);
    });
    Ok(made)
}

pub(super) fn builder() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(super::WINDOW)
        .initial_connection_window_size(super::connection_window(super::TUNNELS_MAX))
        .max_frame_size(super::FRAME_MAX)
        .max_send_buffer_size(super::SEND_BUFFER)
        .initial_max_send_streams(super::TUNNELS_MAX as usize)
        // An answer to CONNECT has a few short headers.
        .max_header_list_size(16 * 1024)
        .enable_push(false);
    builder
}

/// Why there is no tunnel.
enum Unopened {
    /// This connection does not take it; another may.
    NotHere(h2::Error),
    /// The far end said no.
    Refused(ProxyError),
}

async fn connect(worker: &Worker, via: &Via, connection: &Connection, held: Held) -> Result<TunnelStream, Unopened> {
    let request = request(worker, via).map_err(Unopened::Refused)?;
    let mut sender = connection.sender.clone().ready().await.map_err(Unopened::NotHere)?;
    let (answer, send) = sender.send_request(request, false).map_err(Unopened::NotHere)?;
    let answer = answer.await.map_err(|cause| match cause.reason() {
        // Told before it looked at it (RFC 9113, sections 6.8 and 8.7).
        Some(Reason::REFUSED_STREAM | Reason::NO_ERROR) => Unopened::NotHere(cause),
        _ if cause.is_go_away() => Unopened::NotHere(cause),
        _ => Unopened::Refused(error(ErrorKind::GatewayFailed, via, "CONNECT").caused_by(cause)),
    })?;
    connection.used.set(Instant::now());
    let (head, recv) = answer.into_parts();
    if head.status.is_success() {
        return Ok(TunnelStream::new(send, recv, held));
    }
    let reason = head.headers.get(super::REASON).and_then(|reason| reason.to_str().ok());
    let kind = refusal(head.status, reason);
    let detail = format!("answered {}{}", head.status, reason.map(|reason| format!(" ({reason})")).unwrap_or_default());
    Err(Unopened::Refused(error(kind, via, &detail)))
}

/// Whose fault it is that there is no tunnel: the caller's, of what is behind the gateway, or the gateway's own.
fn refusal(status: StatusCode, reason: Option<&str>) -> ErrorKind {
    match reason {
        _ if status.is_client_error() || status == StatusCode::LOOP_DETECTED => ErrorKind::TunnelRefused,
        Some(super::NO_READY_ENDPOINT | super::CONNECT_FAILED) => ErrorKind::TunnelNoEndpoint,
        _ => ErrorKind::GatewayFailed,
    }
}

/// A gateway that passes something on says so (RFC 7239), for the next to find loops by.
fn request(worker: &Worker, via: &Via) -> Result<Request<()>, ProxyError> {
    let bootstrap = &worker.shared.bootstrap;
    let mut request = Request::builder().method(Method::CONNECT).uri(&*via.authority).version(Version::HTTP_2);
    if bootstrap.role == Role::Gateway {
        request = request.header(header::FORWARDED, format!("by=\"{}\"", bootstrap.cluster_key));
    }
    request.body(()).map_err(|cause| error(ErrorKind::Internal, via, "not an authority").caused_by(cause))
}

fn error(kind: ErrorKind, via: &Via, what: &str) -> ProxyError {
    let kind = match (&via.far, kind) {
        // There is nobody behind it to blame instead, and whoever it does not let in has no connection.
        (Far::Workload { .. }, ErrorKind::GatewayFailed | ErrorKind::TunnelRefused | ErrorKind::TunnelNoEndpoint) => {
            ErrorKind::ConnectFailed
        }
        (_, kind) => kind,
    };
    ProxyError::new(kind, format!("{} through {}: {what}", via.authority, via.far))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_refusal_from_a_gateway_that_failed_and_from_a_service_without_endpoints() {
        let kind = |status: u16, reason| refusal(StatusCode::from_u16(status).unwrap(), reason);
        for status in [400, 403, 404, 405, 429, 508] {
            assert_eq!(kind(status, None), ErrorKind::TunnelRefused, "{status}");
        }
        assert_eq!(kind(503, Some(super::super::NO_READY_ENDPOINT)), ErrorKind::TunnelNoEndpoint);
        assert_eq!(kind(503, Some(super::super::CONNECT_FAILED)), ErrorKind::TunnelNoEndpoint);
        assert_eq!(kind(503, None), ErrorKind::GatewayFailed);
        assert_eq!(kind(500, Some("else")), ErrorKind::GatewayFailed);
    }
}
