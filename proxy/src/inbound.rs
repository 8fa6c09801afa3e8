//! Toward the application: terminate mutual TLS, learn who calls, judge, forward.
//!
//! [`admit`] and [`plan`] decide and do no I/O; [`serve`] carries it out, and [`Side`] once it is known who calls.

pub mod hbone;
mod side;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use meshgate_config::{AppProtocol, InboundListener, OriginalDestination, Snapshot};
use meshgate_identity::alpn::Negotiated;
use meshgate_policy::{Authentication, ConnectionFacts, MtlsMode, RemoteIp, Residual, Verdict};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::access_log::{Line, field};
use crate::connection::{Connection, Direction, Peer, Protocol};
use crate::detect::{self, Beforehand, Detected};
use crate::drain::Phase;
use crate::error::{ErrorKind, ProxyError};
use crate::http::forwarded::Forwarded;
use crate::http::pool::{HttpVersion, Security, Upstream};
use crate::metrics::{Called, Facts, Party, RequestCounters};
use crate::open::{Tls, Told};
use crate::report;
use crate::residuals::Residuals;
use crate::rewind::Rewind;
use crate::stream::Stream;
use crate::worker::{Worker, WorkerRef};
use crate::{drain, orig_dst, socket, tls};

pub use side::{Side, forward};

/// How a connection is taken, given the mTLS mode of its port and its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Terminate TLS; what is inside is told by ALPN.
    Terminate,
    /// Take it as it is.
    Plain(Protocol),
    /// Close it.
    Refuse(&'static str),
    /// It closed by itself.
    Gone,
}

/// Decides how a connection is taken, as Istio's PeerAuthentication has it. In PERMISSIVE mode only TLS that offers one of the
/// mesh's application protocols is ours; other TLS is the application's own and passes as bytes. What a service declares to be
/// TCP, or is by its number, is never parsed as HTTP.
pub fn admit(mode: MtlsMode, detected: Detected, hint: AppProtocol) -> Admission {
    let plain = match detected {
        Detected::Closed => return Admission::Gone,
        _ if hint.is_bytes() => Protocol::Tcp,
        Detected::Http1 => Protocol::Http1,
        Detected::Http2 => Protocol::Http2,
        Detected::Opaque | Detected::TimedOut => declared(Protocol::Tcp, hint),
        Detected::Tls { .. } => Protocol::Tcp,
    };
    match (mode, detected) {
        (MtlsMode::Strict, Detected::Tls { .. }) | (MtlsMode::Permissive, Detected::Tls { mesh: true }) => {
            Admission::Terminate
        }
        (MtlsMode::Strict, _) => Admission::Refuse("plaintext on a port with STRICT mutual TLS"),
        (MtlsMode::Permissive | MtlsMode::Disable, _) => Admission::Plain(plain),
    }
}

/// What a connection is taken for that seems to carry no requests. Where a service says that there are requests, it is not
/// the caller who decides that there are none: as bytes they would pass what looks at requests (an HTTP provider, the
/// headers that are taken out). What is none is answered 400.
fn declared(seen: Protocol, hint: AppProtocol) -> Protocol {
    match (seen, hint) {
        (Protocol::Tcp, AppProtocol::Http) => Protocol::Http1,
        (Protocol::Tcp, AppProtocol::Http2) => Protocol::Http2,
        _ => seen,
    }
}

/// What will be done with the requests of one connection under one configuration.
#[derive(Debug)]
pub struct Plan {
    /// The configuration's generation.
    pub generation: u64,
    /// What the policies still ask of a request.
    pub residual: Residual,
    /// The tokens that requests may show; `None` where none are read.
    pub authentication: Option<Arc<Authentication>>,
    /// The connection may go on as it is: false when mutual TLS has become mandatory and it has none.
    pub admitted: bool,
}

/// Decides what can be decided for a whole connection; `residuals` has what others with equal facts were left.
pub fn plan(snapshot: &Snapshot, facts: &ConnectionFacts<'_>, residuals: &Residuals) -> Plan {
    let strict = snapshot.mtls.mode(facts.destination.port()) == MtlsMode::Strict;
    Plan {
        generation: snapshot.generation,
        residual: residuals.residual(snapshot, facts),
        authentication: (!snapshot.authentication.is_empty()).then(|| Arc::clone(&snapshot.authentication)),
        admitted: facts.peer.is_some() || !strict,
    }
}

impl Plan {
    /// Whether there is anything that the connection may still do.
    pub fn allows_anything(&self) -> bool {
        self.admitted && self.residual.fixed().is_none_or(|decision| decision.verdict == Verdict::Allow)
    }
}

/// Serves an accepted connection to its end.
///
/// # Errors
/// Why it could not be served; the caller logs it.
pub async fn serve(worker: WorkerRef, stream: TcpStream, mut connection: Connection, listener: Rc<InboundListener>) {
    // In a box of its own: what it takes to get this far, the configuration of that moment among it, is gone while it is served.
    let opening = Box::pin(open(&worker, stream, &mut connection, &listener));
    match opening.await {
        Ok(None) => {}
        Ok(Some((side, Opened::Plain(stream)))) => side.run(stream).await,
        Ok(Some((side, Opened::Tls(stream)))) => side.run(stream).await,
        Err(error) => report::connection_refused(&worker, Direction::Inbound, &connection, &error),
    }
}

/// What the bytes of a connection come from, once it is known what they are.
enum Opened {
    Plain(Stream),
    Tls(Rewind<Box<TlsStream<Stream>>>),
}

/// All that comes before the first message; `None` when the connection has ended by itself or with the drain.
async fn open(
    worker: &WorkerRef,
    stream: TcpStream,
    connection: &mut Connection,
    listener: &InboundListener,
) -> Result<Option<(Rc<Side>, Opened)>, ProxyError> {
    let shared = &worker.shared;
    if let Some(tunnels) = hbone::captured(&stream, listener, &shared.bootstrap) {
        hbone::serve(worker, stream, Connection { destination: Some(tunnels), ..connection.clone() }).await;
        return Ok(None);
    }
    let destination = orig_dst::of(&stream, listener.original_destination, &shared.own)?
        .ok_or_else(|| ProxyError::new(ErrorKind::Internal, "inbound listener without original destination"))?;
    connection.destination = Some(destination);
    let timeouts = &shared.bootstrap.timeouts;
    let snapshot = worker.snapshot();
    let mode = snapshot.mtls.mode(destination.port());
    let hint = snapshot.services.app_protocol(destination);
    // No hint spares the look for a mesh client's TLS; where mutual TLS is disabled there is none to look for.
    let said = (mode == MtlsMode::Disable && hint.is_bytes()).then_some(Detected::Opaque);
    let is_declared = listener.original_destination != OriginalDestination::Kernel
        || snapshot.services.endpoint(destination).is_some();
    let known = Beforehand { said, port: Some(destination.port()), is_declared };
    let Some((detected, stream)) = detect::first_bytes(worker, Direction::Inbound, stream, known).await? else {
        return Ok(None);
    };
    match admit(mode, detected, hint) {
        Admission::Gone => Ok(None),
        Admission::Refuse(why) => Err(ProxyError::new(ErrorKind::DownstreamTls, why)),
        Admission::Plain(protocol) => {
            tell(connection, protocol, &Peer::default(), None);
            let side =
                Side::new(worker, &snapshot, connection.clone(), listener, destination, Peer::default(), protocol);
            Ok(Some((side, Opened::Plain(stream))))
        }
        Admission::Terminate => {
            worker.handshakes.turn().await;
            let identity = Arc::clone(&worker.identity.borrow());
            let accepting = tls::accept::accept(stream, &identity, timeouts.tls_handshake);
            let Some(outcome) = drain::before(worker, Phase::Draining, accepting).await else { return Ok(None) };
            shared.metrics.handshake(Direction::Inbound, outcome.as_ref().err().map(|failed| failed.reason));
            let mut accepted = outcome?;
            accepted.enter(worker, &identity)?;
            let shown = accepted.peer.session.as_ref().and_then(|session| session.certificates().first());
            accepted.peer.client_cert = Forwarded::element(&shared.bootstrap.headers, identity.svid().id(), shown)?;
            let tls = Tls::of(accepted.stream.get_ref().1);
            let mut stream = Rewind::new(Box::new(accepted.stream));
            let protocol = match accepted.negotiated {
                _ if hint.is_bytes() => Protocol::Tcp,
                Negotiated::Http1 => Protocol::Http1,
                Negotiated::Http2 => Protocol::Http2,
                Negotiated::Tcp if hint == AppProtocol::Auto => Protocol::Tcp,
                Negotiated::Tcp | Negotiated::Unstated => {
                    let detecting = stream.detect(detect::deadline(worker, Some(destination.port())));
                    match drain::before(worker, Phase::Draining, detecting).await {
                        Some(protocol) => declared(protocol, hint),
                        None => return Ok(None),
                    }
                }
            };
            tell(connection, protocol, &accepted.peer, tls);
            let side = Side::new(worker, &snapshot, connection.clone(), listener, destination, accepted.peer, protocol);
            Ok(Some((side, Opened::Tls(stream))))
        }
    }
}

/// Says what has turned out of a connection.
fn tell(connection: &Connection, protocol: Protocol, peer: &Peer, tls: Option<Tls>) {
    let (destination, peer) = (connection.destination, peer.id.clone());
    connection.place.tell(Told { destination, protocol: Some(protocol), peer, tls, within: None });
}

fn facts<'a>(
    worker: &Worker,
    snapshot: &Snapshot,
    connection: &Connection,
    destination: SocketAddr,
    peer: &'a Peer,
    protocol: Protocol,
) -> ConnectionFacts<'a> {
    let per_request = protocol != Protocol::Tcp && worker.shared.bootstrap.authorization.num_trusted_proxies > 0;
    let service = snapshot.services.endpoint(destination);
    ConnectionFacts {
        peer: peer.id.as_ref(),
        source_ip: connection.remote.ip(),
        remote_ip: if per_request { RemoteIp::PerRequest } else { RemoteIp::Fixed(connection.remote.ip()) },
        destination,
        service_port: service.as_ref().map(|(port, _)| port.port),
        opaque_port: service.is_some_and(|(port, _)| port.app_protocol == AppProtocol::Tcp),
        sni: peer.sni.as_deref(),
        protocol: protocol.for_policy(),
    }
}

/// The application, where it really listens. Under redirection the connection must come from the address that the rules
/// know, or it would be redirected again.
/// What comes in HTTP/1 for a port that is declared to be HTTP/2 reaches it so.
fn upstream(
    worker: &Worker,
    listener: &InboundListener,
    destination: SocketAddr,
    protocol: Protocol,
    hint: AppProtocol,
) -> Upstream {
    let redirected = listener.original_destination == OriginalDestination::Kernel;
    let address = listener.application.unwrap_or(destination);
    let source = socket::inbound_source(address.ip());
    Upstream {
        address,
        version: match protocol == Protocol::Http2 || hint == AppProtocol::Http2 {
            true => HttpVersion::Http2,
            false => HttpVersion::Http1,
        },
        security: Security::Plaintext,
        source: redirected.then_some(source),
        connect_timeout: worker.shared.bootstrap.timeouts.connect_local,
        via: None,
    }
}

/// Where what a caller asks for is counted.
fn counters(
    worker: &Worker,
    snapshot: &Snapshot,
    connection: &Connection,
    destination: SocketAddr,
    peer: &Peer,
) -> Rc<RequestCounters> {
    let (bootstrap, source) = (&worker.shared.bootstrap, connection.remote.ip());
    let identity = worker.identity.borrow();
    let under = (snapshot.generation, identity.generation());
    worker.counters.of(under, Some((peer.id.clone(), source, destination)), || {
        let service = snapshot.services.endpoint(destination);
        Facts {
            reporter: report::DESTINATION,
            source: Party::at(snapshot, bootstrap, source, peer.id.as_ref()),
            destination: Party::own(bootstrap, identity.svid().id()),
            service: Called::of(service.as_ref().map(|(port, _)| &**port)),
            security: if peer.id.is_some() { "mutual_tls" } else { "none" },
        }
    })
}

fn prefix(connection: &Connection, destination: SocketAddr, peer: &Peer) -> Vec<u8> {
    Line::prefix(|line| {
        line.text(field!("direction"), Direction::Inbound.as_str());
        line.address(field!("downstream_remote_address"), connection.remote);
        line.address(field!("downstream_local_address"), destination);
        if let Some(peer) = &peer.id {
            line.text(field!("peer"), peer.as_str());
        }
        if let Some(sni) = &peer.sni {
            line.text(field!("requested_server_name"), sni);
        }
    })
}

#[cfg(test)]
mod tests;
