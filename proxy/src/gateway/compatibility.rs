//! Plain HTTP from clusters that know no tunnels: an export is a path, as FSM's own gateways have it.
//!
//! Off unless a listener is given. Nobody knows who calls here, and that is what the policies, the log and the workload are told:
//! requests go on as the gateway's own workload, over mutual TLS. What is exported to some clusters only is not offered, because
//! nobody knows the caller's cluster either. Providers are not asked and tokens not read here; where a CUSTOM policy would have to be
//! asked, the request is refused.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use meshgate_config::{Export, ExportedPort, Exports, ServicePort, Snapshot};
use meshgate_policy::Residual;
use tokio::net::TcpStream;

use super::plan::{lets_in, unasked};
use crate::access_log::{Line, field};
use crate::balance::{Caller, Family};
use crate::connection::{Connection, Direction, Protocol};
use crate::detect::{self, Beforehand, Detected};
use crate::error::{ErrorKind, ProxyError};
use crate::http::body::ResponseBody;
use crate::http::forward::forward as forward_http;
use crate::http::layers::{self, Exchange, Refused, Why};
use crate::http::pool::HttpVersion;
use crate::http::server::{self, Reporting};
use crate::http::standing::{Head, InProgress};
use crate::http::{headers, view};
use crate::metrics::{Called, Facts, RequestCounters};
use crate::open::Told;
use crate::report;
use crate::worker::WorkerRef;
use crate::{outbound, socket};

/// What the log has in place of a caller's identity.
const UNAUTHENTICATED: &str = "unauthenticated";

/// How requests come.
const SCHEME: &str = "http";

/// One connection of somebody.
#[derive(Debug)]
pub struct Side {
    worker: WorkerRef,
    connection: Connection,
    destination: SocketAddr,
    version: HttpVersion,
    reporting: Rc<Reporting>,
    /// The counters of the last request's service; most connections only ever use one.
    last: RefCell<Option<(String, Rc<RequestCounters>)>>,
}

/// Where a request goes.
#[derive(Debug)]
struct Found {
    port: Arc<ServicePort>,
    /// The path it goes on with, where that is another one.
    rewritten: Option<String>,
}

/// Serves an accepted connection to its end.
pub async fn serve(worker: &WorkerRef, stream: TcpStream, mut connection: Connection) {
    if let Err(error) = try_serve(worker, stream, &mut connection).await {
        report::connection_refused(worker, Direction::Gateway, &connection, &error);
    }
}

async fn try_serve(worker: &WorkerRef, stream: TcpStream, connection: &mut Connection) -> Result<(), ProxyError> {
    let gone = |error| ProxyError::new(ErrorKind::DownstreamGone, "while it was accepted").caused_by(error);
    let destination = stream.local_addr().map(socket::canonical).map_err(gone)?;
    connection.destination = Some(destination);
    let known = Beforehand::at(destination);
    let Some((detected, stream)) = detect::first_bytes(worker, Direction::Gateway, stream, known).await? else {
        return Ok(());
    };
    let protocol = match detected {
        Detected::Closed => return Ok(()),
        Detected::Http1 => Protocol::Http1,
        Detected::Http2 => Protocol::Http2,
        Detected::Tls { .. } | Detected::Opaque | Detected::TimedOut => {
            return Err(ProxyError::new(ErrorKind::BadRequest, "no plain HTTP"));
        }
    };
    connection.place.tell(Told { protocol: Some(protocol), destination: Some(destination), ..Told::default() });
    let side = Rc::new(Side::new(worker, connection.clone(), destination, protocol));
    let layers = layers::compatibility(worker, &side);
    let onward = |in_progress: &InProgress| {
        let ended = in_progress.withdraw(|head| side.refusal(head));
        // HTTP/1 has no other end in the middle of an answer.
        if ended && protocol != Protocol::Http2 { server::Onward::End } else { server::Onward::GoOn }
    };
    server::serve(worker, stream, protocol, &side.reporting, layers, onward).await;
    Ok(())
}

impl Side {
    fn new(worker: &WorkerRef, connection: Connection, destination: SocketAddr, protocol: Protocol) -> Self {
        let prefix = Line::prefix(|line| {
            line.text(field!("direction"), Direction::Gateway.as_str());
            line.address(field!("downstream_remote_address"), connection.remote);
            line.address(field!("downstream_local_address"), destination);
            line.text(field!("peer_identity"), UNAUTHENTICATED);
        });
        let counters = Rc::new(RequestCounters::new(Facts { security: "none", ..Facts::unknown("gateway") }));
        let reporting = Rc::new(Reporting { prefix, counters, place: Arc::clone(&connection.place) });
        Self {
            worker: Rc::clone(worker),
            connection,
            destination,
            version: protocol.into(),
            reporting,
            last: RefCell::default(),
        }
    }

    /// What the policies of the gateway's own workload leave open for a caller without an identity.
    fn residual(&self, snapshot: &Snapshot) -> Residual {
        let facts = super::facts(self.destination, None, self.connection.remote.ip(), None);
        self.worker.residuals.residual(snapshot, &facts)
    }

    /// The layer of the policies. They see the path as it came, which is also what decides where it goes.
    ///
    /// # Errors
    /// A policy refuses the request.
    pub fn authorize(&self, exchange: &mut Exchange) -> Result<(), Why> {
        let residual = self.residual(&self.worker.snapshot());
        let view = view::of(&exchange.request, SCHEME, self.connection.remote.ip());
        let decision = unasked(&residual, |residual| residual.decide(&view));
        exchange.report.decision(&decision);
        if !lets_in(&decision) {
            return Err(Why::Denied);
        }
        let head = Head::keep(&exchange.request, residual.headers(), None, self.connection.remote.ip());
        exchange.report.let_in(head);
        Ok(())
    }

    /// Why a request that was let in would no longer be.
    fn refusal(&self, head: &Head) -> Option<String> {
        let snapshot = self.worker.snapshot();
        let path = head.uri.path();
        if find(&snapshot.exports, path).is_none() {
            return Some(format!("{path} is exported no more"));
        }
        let residual = self.residual(&snapshot);
        let decision = unasked(&residual, |residual| head.decide_again(residual, SCHEME));
        (!lets_in(&decision)).then(|| decision.reason.to_string())
    }

    /// The counters of requests to a service.
    fn counters(&self, service: &ServicePort) -> Rc<RequestCounters> {
        let mut last = self.last.borrow_mut();
        match &*last {
            Some((of, counters)) if *of == service.host => Rc::clone(counters),
            _ => {
                let facts = Facts { service: Called::of(Some(service)), ..self.reporting.counters.facts().clone() };
                let counters = Rc::new(RequestCounters::new(facts));
                *last = Some((service.host.clone(), Rc::clone(&counters)));
                counters
            }
        }
    }
}

/// The last layer: to a workload, as the gateway's own.
///
/// # Errors
/// No export has the path, or its workload could not be reached or broke off.
pub async fn forward(side: Rc<Side>, exchange: Box<Exchange>) -> Result<Response<ResponseBody>, Refused> {
    let snapshot = side.worker.snapshot();
    let Some(found) = find(&snapshot.exports, exchange.request.uri().path()) else {
        return Err(Refused::unsent(ProxyError::new(ErrorKind::NotExported, "no export has this path"), *exchange));
    };
    let Exchange { mut request, token, mut report, plan } = *exchange;
    let rewritten = found.rewritten.map_or(Ok(()), |path| rewrite(&side, &mut request, &path));
    let service = outbound::balance(found.port, Family::Any);
    let route = side.worker.routes.route(&side.worker, service, snapshot.generation, side.version);
    if let Some(service) = route.service() {
        report.destination(&side.counters(service), &service.host);
    }
    report.left_out(route.left_out());
    let caller = Caller { source: side.connection.remote.ip(), headers: Some(request.headers()) };
    let candidates = rewritten.and_then(|()| route.candidates(caller));
    match candidates {
        Ok(candidates) => forward_http(&side.worker, candidates, route.terms(), request, report).await,
        Err(error) => Err(Refused::unsent(error, Exchange { request, token, report, plan })),
    }
}

/// What has a path: of all exports that are meant for everybody, the one whose own path covers most of it.
fn find(exports: &Exports, path: &str) -> Option<Found> {
    let open = exports.iter().filter(|export| export.target_clusters.is_empty());
    let ports = open.flat_map(|export| export.ports.iter().map(move |exported| (export, exported)));
    let matching = ports.filter(|(_, exported)| covers(exported, path));
    // Of equals the first by name.
    let best = matching.reduce(|best, next| if weight(next.1) > weight(best.1) { next } else { best });
    best.map(|(export, exported)| Found { port: Arc::clone(&exported.port), rewritten: rewritten(export, path) })
}

fn prefix(exported: &ExportedPort) -> &str {
    exported.path.strip_suffix('/').unwrap_or(&exported.path)
}

/// `/a/b` covers `/a/b` and `/a/b/c`, and not `/a/bc`: elements are compared whole.
fn covers(exported: &ExportedPort, path: &str) -> bool {
    if exported.exact {
        return exported.path == path;
    }
    path.strip_prefix(prefix(exported)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn weight(exported: &ExportedPort) -> (usize, bool) {
    (prefix(exported).len(), exported.exact)
}

/// The first match of the export's expression replaced; without one the path stays as it is, the export's own part included.
fn rewritten(export: &Export, path: &str) -> Option<String> {
    let rewrite = export.path_rewrite.as_ref()?;
    match rewrite.from.replacen(path, 1, rewrite.to.as_str()) {
        std::borrow::Cow::Borrowed(_) => None,
        std::borrow::Cow::Owned(rewritten) => Some(rewritten),
    }
}

/// What an expression makes of a path is no path that anybody has looked at: it is made normal like one that comes in.
fn rewrite<B>(side: &Side, request: &mut Request<B>, path: &str) -> Result<(), ProxyError> {
    let level = side.worker.shared.bootstrap.authorization.path_normalization;
    headers::replace_path(request, path, level)
}

#[cfg(test)]
mod tests;
