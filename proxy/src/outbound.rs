//! From the application: which service, which endpoints may be used, which one is next.
//!
//! [`plan`] decides from the snapshot alone; [`crate::route`] turns its decisions into pooled connections, once per service and
//! configuration; [`serve`] and [`forward`] carry them out.

mod hop;
mod plan;
pub mod split;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use http::Response;
use meshgate_config::OutboundListener;
use tokio::net::TcpStream;

use crate::access_log::{Line, field};
use crate::balance::{Caller, Candidate};
use crate::connection::{Connection, Direction, Protocol};
use crate::detect::{self, Detected};
use crate::error::ProxyError;
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
pub(crate) use plan::balance;
pub use plan::{Plan, Wanted, listed, plan};

/// Why nothing is sent where only this cluster refuses.
const NOT_SENT: &str = "not sent to another cluster: this cluster's TrafficTargets refuse it";

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
    let known = plan::beforehand(&snapshot, connection.destination, listener);
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
