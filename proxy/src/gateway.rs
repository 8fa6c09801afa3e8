//! The edge of a cluster: lets other clusters' workloads reach what is exported, through tunnels whose inside it cannot read.
//!
//! Mutual TLS always, and HTTP/2 in it. CONNECT opens a tunnel to a ready endpoint of an exported service; a GET tells what the
//! caller may call. [`plan`] decides and does no I/O, [`choose`] takes the endpoint, `tunnel` carries the bytes. Who the caller is
//! to the workload, and what it asks of it, is between the two: their own TLS runs inside.

pub mod callers;
pub mod choose;
pub mod compatibility;
pub mod plan;

mod exports;
mod side;
mod tunnel;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use h2::RecvStream;
use h2::server::{self, SendResponse};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, header};
use meshgate_config::TunnelLimits;
use meshgate_identity::SpiffeId;
use meshgate_identity::alpn::Negotiated;
use meshgate_policy::{ConnectionFacts, Protocol, RemoteIp};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::access_log::{Line, field};
use crate::clusters::wire;
use crate::connection::{Connection, Direction};
use crate::detect::{self, Beforehand, Detected};
use crate::drain::{self, Phase};
use crate::error::{ErrorKind, ProxyError};
use crate::http::cork;
use crate::http::guard::http2::{Guarded, Limits, Role};
use crate::http::server::{LOCAL_RESETS, PENDING_RESETS};
use crate::limits::Permits;
use crate::metrics::UNKNOWN;
use crate::open::{Tls, Told};
use crate::sessions::Session;
use crate::tunnel::{FRAME_MAX, Held, Open, SEND_BUFFER, WINDOW, connection_window, pulse};
use crate::worker::WorkerRef;
use crate::{connection, report, socket, throttle, tls};
use callers::{Admitted, Callers};
use choose::Loads;

/// Bytes of a request's head: a CONNECT has little to say.
const HEAD_MAX: u32 = 16 * 1024;

/// Streams that a caller may take back within [`SOON`], more than it let be answered: each has cost a connection to an endpoint
/// (CVE-2023-44487). Beyond it the connection takes no more, and the tunnels in it live on; beyond twice as many, because whoever
/// goes on has not listened, it is closed with ENHANCE_YOUR_CALM.
const TAKEN_BACK_MAX: usize = 100;

/// Resets of any kind, those for its errors too: more than [`TAKEN_BACK_MAX`] lets pass, which knows better what they were.
const RESETS: u32 = 400;

/// What was asked for longer ago held one of the connection's streams for so long, and there are only so many of those. Who gives
/// up on an endpoint that does not answer is not to blame.
const SOON: Duration = Duration::from_secs(1);

/// Lists that one connection may read at a time. A proxy reads one.
const LISTS_MAX: usize = 4;

/// What the workers of a gateway share.
#[derive(Debug, Default)]
pub struct Gateways {
    /// Who is connected.
    pub callers: Callers,
    /// Where tunnels lead.
    pub loads: Loads,
}

/// Who is at the other end of an outer connection.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its identity.
    pub id: SpiffeId,
    /// Its cluster, told by whose roots vouch for it; `None` when nothing tells.
    pub cluster: Option<Arc<str>>,
    /// Its address.
    pub source: IpAddr,
}

/// Serves one request of an outer connection, in a task of its own.
pub(crate) type Serve = fn(Rc<Side>, Request<RecvStream>, SendResponse<Bytes>, Held) -> LocalBoxFuture<'static, ()>;

/// What outer connections of one kind are held to, and what becomes of what is asked in them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door {
    /// The section of the bootstrap that says so.
    pub(crate) section: &'static str,
    pub(crate) direction: Direction,
    pub(crate) limits: TunnelLimits,
    pub(crate) serve: Serve,
}

/// One outer connection.
#[derive(Debug)]
pub struct Side {
    pub(crate) worker: WorkerRef,
    door: Door,
    pub(crate) connection: Connection,
    pub(crate) destination: SocketAddr,
    pub(crate) caller: Caller,
    pub(crate) session: Rc<Session>,
    /// The identity by which the caller's cluster was told.
    told_under: Cell<u64>,
    pub(crate) sni: Option<String>,
    admitted: Admitted,
    /// What the metrics call the caller.
    principal: String,
    /// The log fields of the connection, see [`Line::prefix`].
    prefix: Vec<u8>,
    streams: Open,
    lists: Permits,
    taken_back: Cell<usize>,
}

/// Serves an accepted connection to its end.
pub async fn serve(worker: &WorkerRef, stream: TcpStream, connection: Connection) {
    let limits = worker.shared.bootstrap.gateway.limits;
    let door = Door { section: "gateway", direction: Direction::Gateway, limits, serve: request };
    serve_outer(worker, stream, connection, door).await;
}

/// Serves an outer connection to its end.
pub(crate) async fn serve_outer(worker: &WorkerRef, stream: TcpStream, mut connection: Connection, door: Door) {
    if let Err(error) = try_serve(worker, stream, &mut connection, door).await {
        report::connection_refused(worker, door.direction, &connection, &error);
    }
}

async fn try_serve(
    worker: &WorkerRef,
    stream: TcpStream,
    connection: &mut Connection,
    door: Door,
) -> Result<(), ProxyError> {
    let shared = &worker.shared;
    let timeouts = &shared.bootstrap.timeouts;
    let destination = came_to(&stream, connection)?;
    connection.destination = Some(destination);
    let known = Beforehand::at(destination);
    let Some((detected, stream)) = detect::first_bytes(worker, door.direction, stream, known).await? else {
        return Ok(());
    };
    match detected {
        Detected::Closed => return Ok(()),
        Detected::Tls { .. } => {}
        _ => return Err(ProxyError::new(ErrorKind::DownstreamTls, "plaintext where tunnels come in")),
    }
    worker.handshakes.turn().await;
    let identity = Arc::clone(&worker.identity.borrow());
    let accepting = tls::accept::accept(stream, &identity, timeouts.tls_handshake);
    let Some(outcome) = drain::before(worker, Phase::Draining, accepting).await else { return Ok(()) };
    shared.metrics.handshake(door.direction, outcome.as_ref().err().map(|failed| failed.reason));
    let mut accepted = outcome?;
    accepted.enter(worker, &identity)?;
    if accepted.negotiated != Negotiated::Http2 {
        return Err(ProxyError::new(ErrorKind::DownstreamTls, "tunnels come in HTTP/2 alone"));
    }
    let (Some(id), Some(session)) = (accepted.peer.id, accepted.peer.session) else {
        return Err(ProxyError::new(ErrorKind::Internal, "a handshake without an identity"));
    };
    let cluster = identity.cluster_of(session.certificates());
    let callers = &shared.gateways.callers;
    let TunnelLimits { connections_per_caller, tunnels_per_caller, .. } = door.limits;
    let admitted = callers.admit(cluster.as_ref(), &id, connections_per_caller, tunnels_per_caller);
    let Some(admitted) = admitted else {
        if let Some(left_out) = throttle::admit() {
            let section = door.section;
            tracing::warn!(peer = %id, left_out, "connection refused: {section}.connectionsPerCaller reached");
        }
        return Err(ProxyError::new(ErrorKind::TooMany, format!("{id} has too many connections")));
    };
    tell(connection, &id, Tls::of(accepted.stream.get_ref().1));
    let caller = Caller { id, cluster, source: connection.remote.ip() };
    let side = Side {
        worker: Rc::clone(worker),
        door,
        connection: connection.clone(),
        destination,
        prefix: prefix(connection, destination, &caller),
        principal: callers.name(&caller.id).unwrap_or_else(|| UNKNOWN.to_owned()),
        caller,
        session,
        told_under: Cell::new(identity.generation()),
        sni: accepted.peer.sni,
        admitted,
        streams: Open::default(),
        lists: Permits::new(LISTS_MAX),
        taken_back: Cell::new(0),
    };
    tracing::debug!(remote = %connection.remote, caller = ?side.caller, section = door.section, "outer connection");
    run(Rc::new(side), accepted.stream).await
}

/// Says what has turned out of an outer connection.
fn tell(connection: &Connection, id: &SpiffeId, tls: Option<Tls>) {
    let (destination, protocol) = (connection.destination, Some(connection::Protocol::Http2));
    connection.place.tell(Told { destination, protocol, peer: Some(id.clone()), tls, within: None });
}

/// Where a connection was going; to a listener of ours, unless something else is known already.
fn came_to(stream: &TcpStream, connection: &Connection) -> Result<SocketAddr, ProxyError> {
    let gone = |error| ProxyError::new(ErrorKind::DownstreamGone, "while it was accepted").caused_by(error);
    match connection.destination {
        Some(destination) => Ok(destination),
        None => stream.local_addr().map(socket::canonical).map_err(gone),
    }
}

fn prefix(connection: &Connection, destination: SocketAddr, caller: &Caller) -> Vec<u8> {
    Line::prefix(|line| {
        line.text(field!("direction"), Direction::Gateway.as_str());
        line.address(field!("downstream_remote_address"), connection.remote);
        line.address(field!("downstream_local_address"), destination);
        line.text(field!("peer"), caller.id.as_str());
        if let Some(cluster) = &caller.cluster {
            line.text(field!("peer_cluster"), cluster.as_bytes());
        }
    })
}

pub(crate) fn builder(tunnels: u32) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(connection_window(tunnels))
        .max_frame_size(FRAME_MAX)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEAD_MAX)
        .max_concurrent_streams(tunnels)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_RESETS));
    builder
}

async fn run<I: AsyncRead + AsyncWrite + Unpin>(side: Rc<Side>, stream: I) -> Result<(), ProxyError> {
    let bootstrap = &side.worker.shared.bootstrap;
    let broke = |detail| ProxyError::new(ErrorKind::DownstreamGone, detail);
    let limits = Limits { resets: bootstrap.limits.http2.resets.max(RESETS), ..bootstrap.limits.http2 };
    let shared = Arc::clone(&side.worker.shared);
    let watch = move |excess| shared.metrics.http2_excess("caller", excess);
    let (stream, cork) = cork::cork(Guarded::new(stream, Role::Server, &limits, watch));
    let handshake = builder(side.door.limits.tunnels_per_connection).handshake(stream);
    let mut connection = match timeout(bootstrap.timeouts.request_header, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(broke("HTTP/2").caused_by(error)),
        Err(_) => return Err(broke("no HTTP/2 in time")),
    };
    let mut lost = pin!(pulse::lost(connection.ping_pong(), || side.streams.count() > 0));
    let (idle, mut drain) = (bootstrap.timeouts.idle, side.worker.drain.clone());
    let (mut next, mut resting) = (Phase::Draining, None);
    let mut timer = pin!(sleep_until(Instant::now() + idle));
    let mut changes = side.worker.changes.follow();
    side.judge_again()?;
    loop {
        tokio::select! {
            biased;
            accepted = poll_fn(|cx| {
                let accepted = connection.poll_accept(cx);
                side.streams.driven();
                match accepted {
                    Poll::Ready(accepted) => Poll::Ready(accepted.map(|accepted| accepted.map_err(io::Error::other))),
                    Poll::Pending => cork.poll_pending(cx).map(|error| Some(Err(error))),
                }
            }) => match accepted {
                Some(Ok((request, respond))) => start(&side, request, respond),
                Some(Err(error)) => {
                    tracing::debug!(peer = %side.caller.id, %error, "outer connection ended");
                    return Ok(());
                }
                None => return Ok(()),
            },
            () = changes.changed() => if !side.judge_again()? {
                connection.graceful_shutdown();
            },
            () = lost.as_mut() => return Err(broke("no answer to PING")),
            () = drain.reached(next) => {
                if next == Phase::Ended {
                    return Ok(());
                }
                connection.graceful_shutdown();
                next = Phase::Ended;
            }
            () = timer.as_mut() => {
                // Rests from one look to the next, so for up to twice as long.
                match resting {
                    _ if side.streams.count() > 0 => resting = None,
                    None => resting = Some(()),
                    Some(()) => return Ok(()),
                }
                timer.as_mut().reset(Instant::now() + idle);
            }
        }
        side.calm(&mut connection);
    }
}

/// Serves one request in a task of its own; a panic there ends that one.
fn start(side: &Rc<Side>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let (side, held) = (Rc::clone(side), side.streams.hold());
    tokio::task::spawn_local(async move {
        let (worker, place) = (Rc::clone(&side.worker), Arc::clone(&side.connection.place));
        place.request_begins();
        let serving = (side.door.serve)(side, request, respond, held);
        if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
            worker.shared.metrics.panics.inc();
            tracing::error!("a tunnel's task panicked");
        }
        place.request_ends();
    });
}

/// What is asked of a gateway.
fn request(
    side: Rc<Side>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    held: Held,
) -> LocalBoxFuture<'static, ()> {
    async move {
        let (head, recv) = request.into_parts();
        if is_tunnel(&head) {
            tunnel::serve(side, head, recv, respond, held).await;
        } else if head.method == Method::GET && head.uri.path() == wire::PATH {
            exports::serve(side, recv, respond, held).await;
        } else if head.method == Method::GET {
            answer(respond, StatusCode::NOT_FOUND, None);
        } else {
            answer(respond, StatusCode::METHOD_NOT_ALLOWED, None);
        }
    }
    .boxed_local()
}

/// Whether a request asks for a tunnel; an extended CONNECT (RFC 8441) asks for something else.
pub(crate) fn is_tunnel(head: &Parts) -> bool {
    head.method == Method::CONNECT && head.extensions.get::<h2::ext::Protocol>().is_none()
}

/// Answers with a status alone.
pub(crate) fn answer(mut respond: SendResponse<Bytes>, status: StatusCode, reason: Option<&'static str>) {
    let mut response = Response::builder().status(status);
    if let Some(reason) = reason {
        response = response.header(crate::tunnel::REASON, reason);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response = response.header(header::ALLOW, "CONNECT, GET");
    }
    if let Ok(response) = response.body(()) {
        // Whoever has gone needs no answer.
        let _ = respond.send_response(response, true);
    }
}

/// What the policies that apply to the gateway are told of a connection to itself, which is always one of requests.
fn facts<'a>(
    destination: SocketAddr,
    peer: Option<&'a SpiffeId>,
    source_ip: IpAddr,
    sni: Option<&'a str>,
) -> ConnectionFacts<'a> {
    ConnectionFacts {
        peer,
        source_ip,
        remote_ip: RemoteIp::Fixed(source_ip),
        destination,
        service_port: None,
        opaque_port: false,
        sni,
        protocol: Protocol::Http,
    }
}

#[cfg(test)]
mod tests;
