//! From the application: which service, which endpoints may be used, which one is next.
//!
//! [`plan`] decides from the snapshot alone; [`crate::route`] turns its decisions into pooled connections, once per service and
//! configuration; [`serve`] and [`forward`] carry them out.

mod hop;
pub mod split;

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::Response;
use meshgate_config::{Endpoint, OriginalDestination, OutboundListener, ServicePort, Snapshot, TrafficPolicy};
use meshgate_policy::SmiMode;
use tokio::net::TcpStream;

use crate::access_log::{Line, field};
use crate::balance::{Caller, Candidate, Family};
use crate::connection::{Connection, Direction, Protocol};
use crate::detect::{self, Beforehand, Detected};
use crate::error::{ErrorKind, ProxyError};
use crate::http::body::ResponseBody;
use crate::http::forward::forward as forward_http;
use crate::http::headers;
use crate::http::layers::{self, Exchange, Refused};
use crate::http::pool::{HttpVersion, Security};
use crate::http::server::{self, Reporting};
use crate::open::Told;
use crate::report;
use crate::route::{Route, still_permits};
use crate::stream::Stream;
use crate::worker::WorkerRef;
use crate::{orig_dst, socket, tcp};

pub use hop::{Hop, Standing, eligible, standing};

/// The port of a Host without one.
const HTTP_PORT: u16 = 80;

/// Why nothing is sent where only this cluster refuses.
const NOT_SENT: &str = "not sent to another cluster: this cluster's TrafficTargets refuse it";

/// Endpoints that a log line lists.
const LISTED: usize = 8;

/// What will be done with what goes to one destination.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Balance over a service's endpoints.
    Service {
        /// The service and its port.
        service: Arc<ServicePort>,
        /// Which of its addresses are meant.
        family: Family,
        /// Those that may be used.
        endpoints: Vec<Hop>,
        /// Those left out, because nobody could say whom to expect there.
        left_out: Vec<Arc<Endpoint>>,
        /// Those left out, because no TrafficTarget lets this workload call them.
        out_of_reach: Vec<Arc<Endpoint>>,
    },
    /// Balance over the backends of a service's TrafficSplits.
    Split(Box<split::Fork>),
    /// One endpoint that was called by its own address.
    Endpoint {
        /// A service that it belongs to.
        service: Arc<ServicePort>,
        /// The endpoint.
        hop: Hop,
    },
    /// On to where it was going, as it is: nothing in the mesh.
    Passthrough(SocketAddr),
    /// Nowhere.
    Refuse {
        /// The service that was meant, if that much is known.
        service: Option<Arc<ServicePort>>,
        /// Why, for the caller.
        kind: ErrorKind,
        /// Why, for the log.
        detail: String,
    },
}

/// Where a connection or request wants to go.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The address before redirection.
    pub destination: Option<SocketAddr>,
    /// The Host, when it speaks HTTP.
    pub host: Option<&'a str>,
}

/// Decides where something goes: by virtual address and port first, since that is what the application connected to; then by
/// Host; then by an endpoint's own address; else as the traffic policy says.
pub fn plan(snapshot: &Snapshot, namespace: &str, unknown: TrafficPolicy, wanted: Wanted<'_>) -> Plan {
    let family = Family::of(wanted.destination);
    if let Some(service) = wanted.destination.and_then(|address| snapshot.services.by_address(address)) {
        return split::plan(service, family);
    }
    if let Some((name, port)) = wanted.host.map(split_host) {
        let port = port.or(wanted.destination.map(|address| address.port())).unwrap_or(HTTP_PORT);
        if let Some(service) = snapshot.services.by_host(name, port, namespace) {
            return split::plan(service, family);
        }
    }
    let Some(address) = wanted.destination else {
        let detail = match wanted.host {
            Some(host) => format!("no service for host {host:?}"),
            None => "neither an original destination nor a Host".to_owned(),
        };
        return Plan::Refuse { service: None, kind: ErrorKind::NoRoute, detail };
    };
    if let Some((service, endpoint)) = snapshot.services.endpoint(address) {
        return match standing(&service, &endpoint) {
            Standing::Usable(hop) => Plan::Endpoint { service, hop },
            Standing::OutOfReach => out_of_reach(service, &[endpoint]),
            Standing::Unidentified => no_identity(service, &[endpoint]),
        };
    }
    // Passed through, it would come without an identity to who refuses just that.
    if snapshot.smi == SmiMode::TrafficPolicy && snapshot.services.knows(address.ip()) {
        let detail = format!("{address} is no port of the service or workload there, and TrafficTargets are in force");
        return Plan::Refuse { service: None, kind: ErrorKind::OutOfReach, detail };
    }
    match unknown {
        TrafficPolicy::AllowAny => Plan::Passthrough(address),
        TrafficPolicy::RegistryOnly => {
            let detail = format!("{address} is no service, and outbound.trafficPolicy is REGISTRY_ONLY");
            Plan::Refuse { service: None, kind: ErrorKind::NoRoute, detail }
        }
    }
}

/// Which of a service's endpoints are tried.
pub(crate) fn balance(service: Arc<ServicePort>, family: Family) -> Plan {
    let mut endpoints = Vec::with_capacity(service.endpoints.len());
    let (mut left_out, mut forbidden) = (Vec::new(), Vec::new());
    for endpoint in eligible(&service.endpoints, family) {
        match standing(&service, endpoint) {
            Standing::Usable(hop) => endpoints.push(hop),
            Standing::OutOfReach => forbidden.push(Arc::clone(endpoint)),
            Standing::Unidentified => left_out.push(Arc::clone(endpoint)),
        }
    }
    if !endpoints.is_empty() {
        return Plan::Service { service, family, endpoints, left_out, out_of_reach: forbidden };
    }
    // Never everybody, because nobody is left.
    if !forbidden.is_empty() {
        return out_of_reach(service, &forbidden);
    }
    if !left_out.is_empty() {
        return no_identity(service, &left_out);
    }
    let detail = format!("{}:{} has no ready endpoint ({} not ready)", service.host, service.port, service.not_ready);
    Plan::Refuse { service: Some(service), kind: ErrorKind::NoEndpoint, detail }
}

fn out_of_reach(service: Arc<ServicePort>, endpoints: &[Arc<Endpoint>]) -> Plan {
    let (host, port) = (&service.host, service.port);
    let detail = format!("no TrafficTarget lets this workload call {host}:{port}: left out {}", listed(endpoints));
    Plan::Refuse { service: Some(service), kind: ErrorKind::OutOfReach, detail }
}

/// Endpoints for the log; of many, the first.
pub fn listed(endpoints: &[impl Display]) -> String {
    let shown: Vec<_> = endpoints.iter().take(LISTED).map(ToString::to_string).collect();
    let rest = match endpoints.len().checked_sub(LISTED) {
        Some(more @ 1..) => format!(" and {more} more"),
        _ => String::new(),
    };
    format!("{}{rest}", shown.join(", "))
}

fn no_identity(service: Arc<ServicePort>, endpoints: &[Arc<Endpoint>]) -> Plan {
    let detail = format!("nothing says which service account to expect at {}", listed(endpoints));
    Plan::Refuse { service: Some(service), kind: ErrorKind::NoEndpoint, detail }
}

/// A Host's name and port. IPv6 literals keep their brackets; they name no service.
fn split_host(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port.parse().ok()),
        _ => (host, None),
    }
}

/// One outbound connection.
#[derive(Debug)]
pub struct Side {
    worker: WorkerRef,
    connection: Connection,
    version: HttpVersion,
    reporting: Rc<Reporting>,
    last: RefCell<Option<Last>>,
}

/// The last request's route; most connections only ever use one.
#[derive(Debug)]
struct Last {
    host: String,
    route: Rc<Route>,
}

/// Serves an accepted connection to its end.
pub async fn serve(worker: WorkerRef, stream: TcpStream, mut connection: Connection, listener: Rc<OutboundListener>) {
    // In a box of its own: what it takes to get this far is gone while it is served.
    let opening = Box::pin(open(&worker, stream, &mut connection, &listener));
    match opening.await {
        Ok(None) => {}
        Ok(Some(Opened { side, protocol: Protocol::Tcp, stream })) => {
            // In a box of its own, so that a connection that speaks HTTP has no room for it.
            Box::pin(side.run_tcp(stream)).await;
        }
        Ok(Some(Opened { side, protocol, stream })) => {
            let layers = layers::outbound(&worker, &side);
            // No policy is asked on this side.
            server::serve(&worker, stream, protocol, &side.reporting, layers, |_| server::Onward::GoOn).await;
        }
        Err(error) => report::connection_refused(&worker, Direction::Outbound, &connection, &error),
    }
}

/// All that comes before the first message; `None` when the connection has ended by itself or with the drain.
async fn open(
    worker: &WorkerRef,
    stream: TcpStream,
    connection: &mut Connection,
    listener: &OutboundListener,
) -> Result<Option<Opened>, ProxyError> {
    let shared = &worker.shared;
    connection.destination = orig_dst::of(&stream, listener.original_destination, &shared.own)?.map(socket::canonical);
    let snapshot = worker.snapshot();
    if connection.destination.is_some_and(|address| split::is_closed(&snapshot, address)) {
        // Whatever it would speak, it hears nothing.
        let side = Side::new(worker, connection, Protocol::Tcp);
        return Ok(Some(Opened { side, protocol: Protocol::Tcp, stream: Stream::new(stream) }));
    }
    let known = beforehand(&snapshot, connection.destination, listener);
    let Some((detected, stream)) = detect::first_bytes(worker, Direction::Outbound, stream, known).await? else {
        return Ok(None);
    };
    let protocol = match detected {
        Detected::Closed => return Ok(None),
        Detected::Http1 => Protocol::Http1,
        Detected::Http2 => Protocol::Http2,
        Detected::Tls { .. } | Detected::Opaque | Detected::TimedOut => Protocol::Tcp,
    };
    Ok(Some(Opened { side: Side::new(worker, connection, protocol), protocol, stream }))
}

/// A connection of which it is known what it speaks.
struct Opened {
    side: Rc<Side>,
    protocol: Protocol,
    stream: Stream,
}

/// What is said of where a connection is going, a service's address or one of its endpoints'.
fn beforehand(snapshot: &Snapshot, destination: Option<SocketAddr>, listener: &OutboundListener) -> Beforehand {
    let Some(address) = destination else { return Beforehand::default() };
    let services = &snapshot.services;
    Beforehand {
        said: services.app_protocol(address).is_bytes().then_some(Detected::Opaque),
        port: Some(address.port()),
        is_declared: listener.original_destination != OriginalDestination::Kernel || services.is_declared(address),
    }
}

impl Side {
    fn new(worker: &WorkerRef, connection: &Connection, protocol: Protocol) -> Rc<Self> {
        let destination = connection.destination;
        connection.place.tell(Told { destination, protocol: Some(protocol), ..Told::default() });
        let under = (worker.generation(), worker.identity.borrow().generation());
        let nowhere = || report::source_facts(worker, None, &Security::Plaintext);
        let counters = worker.counters.of(under, None, nowhere);
        let prefix = Line::prefix(|line| {
            line.text(field!("direction"), Direction::Outbound.as_str());
            line.address(field!("downstream_remote_address"), connection.remote);
            if let Some(destination) = destination {
                line.address(field!("downstream_local_address"), destination);
            }
        });
        Rc::new(Self {
            worker: Rc::clone(worker),
            connection: connection.clone(),
            version: protocol.into(),
            reporting: Rc::new(Reporting { prefix, counters, place: Arc::clone(&connection.place) }),
            last: RefCell::default(),
        })
    }

    fn plan(&self, host: Option<&str>) -> (Plan, u64) {
        let snapshot = self.worker.snapshot();
        let bootstrap = &self.worker.shared.bootstrap;
        let wanted = Wanted { destination: self.connection.destination, host };
        let plan = plan(&snapshot, &bootstrap.workload.namespace, bootstrap.outbound.traffic_policy, wanted);
        tracing::debug!(remote = %self.connection.remote, ?wanted, ?plan, "outbound");
        (plan, snapshot.generation)
    }

    /// The route of a request; the last one's while host and configuration stay the same.
    fn route(&self, host: &str) -> Rc<Route> {
        if let Some(last) = &*self.last.borrow()
            && last.host == host
            && last.route.generation == self.worker.generation()
        {
            return Rc::clone(&last.route);
        }
        let (plan, generation) = self.plan(Some(host));
        let route = self.worker.routes.route(&self.worker, plan, generation, self.version);
        *self.last.borrow_mut() = Some(Last { host: host.to_owned(), route: Rc::clone(&route) });
        route
    }

    async fn run_tcp(&self, stream: Stream) {
        let (plan, generation) = self.plan(None);
        let root = self.worker.routes.route(&self.worker, plan, generation, self.version);
        let (route, split) = root.branch(None);
        let mut report =
            tcp::Report::begin(&self.worker, &self.connection.place, &self.reporting.prefix, route.counters());
        if let Some(host) = route.host() {
            report.service(host);
        }
        report.split(split);
        report.left_out(route.left_out());
        let candidates = match route.candidates(Caller { source: self.connection.remote.ip(), headers: None }) {
            Ok(candidates) => candidates,
            Err(error) => {
                report.failed(&error);
                drop(report);
                return tcp::hang_up(stream).await;
            }
        };
        let candidates = match route.elsewhere().permitted(candidates, None) {
            Ok(candidates) => candidates,
            Err(refusal) => {
                report.decision(&refusal.decision);
                report.nearest(|| refusal.nearest(None));
                report.because(NOT_SENT);
                report.refused();
                drop(report);
                return tcp::hang_up(stream).await;
            }
        };
        let made_under = Cell::new(generation);
        let tried = RefCell::new(None);
        // Asked at the beginning, too, when the plan is fresh.
        let allowed = || {
            let current = self.worker.generation();
            made_under.replace(current) == current
                || !self.plan(None).0.is_out_of_reach()
                    && split.is_none_or(|_| self.still_reaches(route))
                    && tried.borrow().as_deref().is_none_or(|to| self.still_permits(route, to))
        };
        let candidates = candidates.inspect(|candidate| *tried.borrow_mut() = Some(Rc::clone(candidate)));
        tcp::forward(&self.worker, stream, candidates, report, allowed).await;
    }

    /// Whether this cluster still lets a connection go to an endpoint in another one.
    fn still_permits(&self, route: &Route, to: &Candidate) -> bool {
        let (snapshot, identity) = (self.worker.snapshot(), self.worker.identity.borrow());
        route.service().is_none_or(|service| still_permits(&snapshot, identity.svid().id(), service, to))
    }
}

/// The last layer: to the next endpoint of the service.
///
/// # Errors
/// There is no service or endpoint, or none of those tried could be reached.
pub async fn forward(side: Rc<Side>, exchange: Box<Exchange>) -> Result<Response<ResponseBody>, Refused> {
    let Exchange { request, token, mut report, plan } = *exchange;
    let root = side.route(headers::host(&request).unwrap_or_default());
    let view = root.looks_at_requests().then(|| side.view(&request));
    let (route, split) = root.branch(view.as_ref());
    if let Some(host) = route.host() {
        report.destination(route.counters(), host);
    }
    report.split(split);
    report.left_out(route.left_out());
    let caller = Caller { source: side.connection.remote.ip(), headers: Some(request.headers()) };
    let candidates = match route.candidates(caller) {
        Ok(candidates) => candidates,
        Err(error) => return Err(Refused::unsent(error, Exchange { request, token, report, plan })),
    };
    let view = (!route.elsewhere().is_empty()).then(|| side.view(&request));
    match route.elsewhere().permitted(candidates, view.as_ref()) {
        Ok(candidates) => forward_http(&side.worker, candidates, route.terms(), request, report).await,
        Err(refusal) => {
            report.decision(&refusal.decision);
            report.nearest(|| refusal.nearest(view.as_ref()));
            report.because(NOT_SENT);
            report.upstream(&refusal.candidate);
            Err(Refused::denied(Exchange { request, token, report, plan }))
        }
    }
}

#[cfg(test)]
mod tests;
