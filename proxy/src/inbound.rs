//! Toward the application: terminate mutual TLS, learn who calls, judge, forward.
//!
//! [`admit`] and [`plan`] decide and do no I/O; [`serve`] and [`forward`] carry it out.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::Response;
use meshgate_config::{AppProtocol, InboundListener, OriginalDestination, Snapshot};
use meshgate_identity::alpn::Negotiated;
use meshgate_policy::{Authentication, ConnectionFacts, MtlsMode, RemoteIp, RequestView, Residual, Token, Verdict};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::access_log::Line;
use crate::connection::{Connection, Direction, Peer, Protocol};
use crate::detect::{self, Detected};
use crate::drain::Phase;
use crate::error::{ErrorKind, ProxyError};
use crate::ext_authz::{self, Change, Question, Subject};
use crate::http::authentication::authenticate;
use crate::http::body::ResponseBody;
use crate::http::forward::forward as forward_http;
use crate::http::headers;
use crate::http::layers::{self, Exchange, Refused};
use crate::http::pool::{HttpVersion, Security, Slot, Upstream};
use crate::http::server::{self, Reporting};
use crate::metrics::{RequestCounters, RequestLabels, UNKNOWN};
use crate::report;
use crate::residuals::Residuals;
use crate::rewind::Rewind;
use crate::stream::Stream;
use crate::worker::{Worker, WorkerRef};
use crate::{drain, orig_dst, socket, tcp, tls};

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
/// TCP is never parsed as HTTP.
pub fn admit(mode: MtlsMode, detected: Detected, hint: AppProtocol) -> Admission {
    let plain = match detected {
        Detected::Closed => return Admission::Gone,
        _ if hint == AppProtocol::Tcp => Protocol::Tcp,
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

/// One inbound connection, once it is known who calls and what they speak.
#[derive(Debug)]
pub struct Side {
    worker: WorkerRef,
    connection: Connection,
    destination: SocketAddr,
    peer: Peer,
    protocol: Protocol,
    slot: Rc<Slot>,
    reporting: Rc<Reporting>,
    plan: RefCell<Rc<Plan>>,
}

/// Serves an accepted connection to its end.
///
/// # Errors
/// Why it could not be served; the caller logs it.
pub async fn serve(worker: &WorkerRef, stream: TcpStream, mut connection: Connection, listener: &InboundListener) {
    if let Err(error) = try_serve(worker, stream, &mut connection, listener).await {
        report::connection_refused(worker, Direction::Inbound, &connection, &error);
    }
}

async fn try_serve(
    worker: &WorkerRef,
    stream: TcpStream,
    connection: &mut Connection,
    listener: &InboundListener,
) -> Result<(), ProxyError> {
    let shared = &worker.shared;
    let destination = orig_dst::of(&stream, listener.original_destination, &shared.own)?
        .ok_or_else(|| ProxyError::new(ErrorKind::Internal, "inbound listener without original destination"))?;
    connection.destination = Some(destination);
    let timeouts = &shared.bootstrap.timeouts;
    let snapshot = worker.snapshot();
    let mode = snapshot.mtls.mode(destination.port());
    let hint = hint(&snapshot, destination);
    let detected = if mode == MtlsMode::Disable && hint == AppProtocol::Tcp {
        Detected::Opaque
    } else {
        drain::before(worker, Phase::Draining, detect::detect(&stream, timeouts.detect))
            .await
            .unwrap_or(Ok(Detected::Closed))
            .map_err(|error| ProxyError::new(ErrorKind::DownstreamGone, "while detecting").caused_by(error))?
    };
    report::count_detection(worker, Direction::Inbound, detected);
    match admit(mode, detected, hint) {
        Admission::Gone => Ok(()),
        Admission::Refuse(why) => Err(ProxyError::new(ErrorKind::DownstreamTls, why)),
        Admission::Plain(protocol) => {
            let side = Side::new(worker, &snapshot, *connection, listener, destination, Peer::default(), protocol);
            side.run(Stream::new(stream)).await;
            Ok(())
        }
        Admission::Terminate => {
            let identity = Arc::clone(&worker.identity.borrow());
            let accepting = tls::accept::accept(stream, &identity, timeouts.tls_handshake);
            let Some(outcome) = drain::before(worker, Phase::Draining, accepting).await else { return Ok(()) };
            let result = if outcome.is_ok() { "ok" } else { "error" };
            shared.metrics.handshake(Direction::Inbound, result);
            let accepted = outcome?;
            let mut stream = Rewind::new(accepted.stream);
            let protocol = match accepted.negotiated {
                _ if hint == AppProtocol::Tcp => Protocol::Tcp,
                Negotiated::Http1 => Protocol::Http1,
                Negotiated::Http2 => Protocol::Http2,
                Negotiated::Tcp if hint == AppProtocol::Auto => Protocol::Tcp,
                Negotiated::Tcp | Negotiated::Unstated => {
                    match drain::before(worker, Phase::Draining, stream.detect(timeouts.detect)).await {
                        Some(protocol) => declared(protocol, hint),
                        None => return Ok(()),
                    }
                }
            };
            let side = Side::new(worker, &snapshot, *connection, listener, destination, accepted.peer, protocol);
            side.run(stream).await;
            Ok(())
        }
    }
}

/// What a service says is spoken at this address.
fn hint(snapshot: &Snapshot, destination: SocketAddr) -> AppProtocol {
    snapshot.services.endpoint(destination).map_or(AppProtocol::Auto, |(port, _)| port.app_protocol)
}

impl Side {
    fn new(
        worker: &WorkerRef,
        snapshot: &Snapshot,
        connection: Connection,
        listener: &InboundListener,
        destination: SocketAddr,
        peer: Peer,
        protocol: Protocol,
    ) -> Rc<Self> {
        let service = snapshot.services.endpoint(destination).map(|(port, _)| port.host.clone());
        let labels = labels(worker, &peer, service, protocol);
        let slot = worker.pool.slot(&upstream(worker, listener, destination, protocol));
        let facts = facts(worker, snapshot, &connection, destination, &peer, protocol);
        let plan = RefCell::new(Rc::new(plan(snapshot, &facts, &worker.residuals)));
        tracing::debug!(remote = %connection.remote, %destination, ?protocol, peer = ?peer.id, plan = ?plan.borrow(), "inbound");
        let counters = Rc::new(RequestCounters::new(labels));
        let reporting = Rc::new(Reporting { prefix: prefix(&connection, destination, &peer), counters });
        Rc::new(Self { worker: Rc::clone(worker), connection, destination, peer, protocol, slot, reporting, plan })
    }

    async fn run<I: AsyncRead + AsyncWrite + Unpin + 'static>(self: Rc<Self>, stream: I) {
        if self.protocol == Protocol::Tcp {
            return self.run_tcp(stream).await;
        }
        let layers = layers::inbound(&self.worker, &self);
        let allowed = || self.plan().allows_anything();
        server::serve(&self.worker, stream, self.protocol, &self.reporting, layers, allowed).await;
    }

    async fn run_tcp<I: AsyncRead + AsyncWrite + Unpin + 'static>(self: Rc<Self>, stream: I) {
        let mut report = tcp::Report::begin(
            &self.worker,
            Direction::Inbound,
            &self.reporting.prefix,
            self.reporting.counters.tcp_labels(),
        );
        let plan = self.plan();
        let question = plan.residual.custom_connection().filter(|_| plan.admitted);
        let question = question.map(|custom| Question::new(&custom));
        if let Some(question) = &question
            && !ext_authz::about_connection(&self.worker, &self.subject(), question, &mut report).await
        {
            report.refused();
            return;
        }
        let decision = plan.residual.decide_connection();
        report.decision(&decision);
        report.nearest(|| plan.residual.nearest(&decision, &self.facts(&self.worker.snapshot()), None));
        if decision.verdict == Verdict::Deny || !plan.admitted {
            report.refused();
            return;
        }
        let allowed = || {
            let plan = self.plan();
            // A connection is asked about once. Where another provider has to be asked by now, nobody has said yes to it.
            let asked = question.as_ref().map(Question::provider);
            let custom = plan.residual.custom_connection();
            plan.admitted
                && custom.is_none_or(|custom| custom.fault.is_none() && Some(custom.provider) == asked)
                && plan.residual.decide_connection().verdict == Verdict::Allow
        };
        let application = std::iter::once(Rc::clone(&self.slot));
        tcp::forward(&self.worker, stream, application, report, allowed).await;
    }

    /// The plan under the configuration in force now.
    fn plan(&self) -> Rc<Plan> {
        let current = self.worker.generation();
        if self.plan.borrow().generation != current {
            let snapshot = self.worker.snapshot();
            let facts = self.facts(&snapshot);
            let fresh = Rc::new(plan(&snapshot, &facts, &self.worker.residuals));
            self.plan.replace(fresh);
        }
        Rc::clone(&self.plan.borrow())
    }

    /// What has to be asked about a request before it is authorized. The plan that says so is kept with the request, which
    /// is judged by it to its end. Costs a look at an empty list where no CUSTOM policy applies.
    pub fn question(&self, exchange: &mut Exchange) -> Option<Question> {
        let plan = exchange.plan.insert(self.plan());
        if !plan.residual.may_ask() || !plan.admitted {
            return None;
        }
        exchange.request.headers_mut().remove(&ext_authz::FAILURE_MODE_ALLOWED);
        // A provider would take a caller's word for a token's; what the provider says there goes with the tokens' own layer.
        if let Some(rules) = &plan.authentication {
            rules.remove_reserved(exchange.request.headers_mut());
        }
        let custom = plan.residual.custom(&self.view(&exchange.request, None))?;
        Some(Question::new(&custom))
    }

    /// The layer of the CUSTOM policies, for a request that one of them asks about.
    ///
    /// # Errors
    /// As [`ext_authz::about_request`].
    pub async fn ask(&self, question: Question, exchange: Exchange) -> Result<(Exchange, Vec<Change>), Refused> {
        ext_authz::about_request(&self.worker, &self.subject(), question, exchange).await
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            peer: self.peer.id.as_ref(),
            source: self.connection.remote,
            destination: self.destination,
            sni: self.peer.sni.as_deref(),
        }
    }

    fn facts(&self, snapshot: &Snapshot) -> ConnectionFacts<'_> {
        facts(&self.worker, snapshot, &self.connection, self.destination, &self.peer, self.protocol)
    }

    /// The layer of the tokens.
    ///
    /// # Errors
    /// A token is there and not good.
    pub fn authenticate(&self, mut exchange: Exchange) -> Result<Exchange, Refused> {
        let plan = exchange.plan.clone().unwrap_or_else(|| self.plan());
        match &plan.authentication {
            None => Ok(exchange),
            Some(rules) => {
                exchange.request.body_mut().reserve(rules);
                authenticate(&self.worker, rules, plan.generation, self.scheme(), exchange)
            }
        }
    }

    /// The layer of the policies.
    ///
    /// # Errors
    /// A policy, or the mTLS mode, refuses the request.
    pub fn authorize(&self, mut exchange: Exchange) -> Result<Exchange, Refused> {
        let plan = exchange.plan.take().unwrap_or_else(|| self.plan());
        if !plan.admitted {
            let error = ProxyError::new(ErrorKind::DownstreamTls, "mutual TLS has become mandatory on this port");
            return Err(Refused::unsent(error, exchange));
        }
        let view = self.view(&exchange.request, exchange.token.as_deref());
        let decision = plan.residual.decide(&view);
        exchange.report.decision(&decision);
        match decision.verdict {
            Verdict::Allow => Ok(exchange),
            Verdict::Deny => {
                let facts = || self.facts(&self.worker.snapshot());
                exchange.report.nearest(|| plan.residual.nearest(&decision, &facts(), Some(&view)));
                Err(Refused::denied(exchange))
            }
        }
    }

    /// The request as the policies see it: as it will be forwarded.
    fn view<'a, B>(&self, request: &'a http::Request<B>, token: Option<&'a Token>) -> RequestView<'a> {
        let uri = request.uri();
        RequestView {
            method: request.method().as_str(),
            path: uri.path(),
            path_and_query: uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
            host: headers::host(request).unwrap_or_default(),
            scheme: self.scheme(),
            headers: request.headers(),
            token,
            remote_ip: self.remote_ip(request.headers()),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.peer.id.is_some() { "https" } else { "http" }
    }

    fn remote_ip(&self, headers: &http::HeaderMap) -> std::net::IpAddr {
        let hops = self.worker.shared.bootstrap.authorization.num_trusted_proxies;
        headers::forwarded_for(headers, hops).unwrap_or(self.connection.remote.ip())
    }
}

/// The last layer: to the application.
///
/// # Errors
/// The application could not be reached or broke off.
pub async fn forward(side: Rc<Side>, exchange: Exchange) -> Result<Response<ResponseBody>, Refused> {
    let slot = Rc::clone(&side.slot);
    forward_http(&side.worker, std::iter::once(slot), exchange.request, exchange.report).await
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
    ConnectionFacts {
        peer: peer.id.as_ref(),
        source_ip: connection.remote.ip(),
        remote_ip: if per_request { RemoteIp::PerRequest } else { RemoteIp::Fixed(connection.remote.ip()) },
        destination,
        service_port: snapshot.services.endpoint(destination).map(|(port, _)| port.port),
        sni: peer.sni.as_deref(),
        protocol: protocol.for_policy(),
    }
}

/// The application, where it really listens. Under redirection the connection must come from the address that the rules
/// know, or it would be redirected again.
fn upstream(worker: &Worker, listener: &InboundListener, destination: SocketAddr, protocol: Protocol) -> Upstream {
    let redirected = listener.original_destination == OriginalDestination::Kernel;
    let address = listener.application.unwrap_or(destination);
    let source = if address.is_ipv4() { socket::INBOUND_SOURCE_V4 } else { socket::INBOUND_SOURCE_V6 };
    Upstream {
        address,
        version: if protocol == Protocol::Http2 { HttpVersion::Http2 } else { HttpVersion::Http1 },
        security: Security::Plaintext,
        source: redirected.then_some(source),
        connect_timeout: worker.shared.bootstrap.timeouts.connect_local,
    }
}

fn labels(worker: &Worker, peer: &Peer, service: Option<String>, protocol: Protocol) -> RequestLabels {
    RequestLabels {
        reporter: "destination",
        source_principal: peer.id.as_ref().map_or_else(|| UNKNOWN.to_owned(), ToString::to_string),
        destination_principal: worker.identity.borrow().svid().id().to_string(),
        destination_service: service.unwrap_or_else(|| UNKNOWN.to_owned()),
        request_protocol: protocol.as_str(),
        response_code: 0,
        response_flags: report::NO_FLAGS,
        connection_security_policy: if peer.id.is_some() { "mutual_tls" } else { "none" },
    }
}

fn prefix(connection: &Connection, destination: SocketAddr, peer: &Peer) -> Vec<u8> {
    Line::prefix(|line| {
        line.text("direction", Direction::Inbound.as_str());
        line.address("downstream_remote_address", connection.remote);
        line.address("downstream_local_address", destination);
        if let Some(peer) = &peer.id {
            line.text("peer", peer.as_str());
        }
        if let Some(sni) = &peer.sni {
            line.text("requested_server_name", sni);
        }
    })
}

#[cfg(test)]
mod tests;
