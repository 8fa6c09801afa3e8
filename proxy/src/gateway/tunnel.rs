//! One tunnel: judged, connected to an endpoint, and then bytes both ways until either side ends it, or it is no longer allowed.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use meshgate_config::{Endpoint, EndpointIdentity, Snapshot};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::plan::{self, Own, Target};
use super::{Side, answer, choose};
use crate::balance::Family;
use crate::connection::Protocol;
use crate::copy::Copy;
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::{Called, Facts, Party, RequestCounters, UNKNOWN};
use crate::open::{Held as HeldPlace, Told};
use crate::socket;
use crate::stream::Stream;
use crate::tcp::{self, Report};
use crate::tunnel::{CONNECT_FAILED, Held, NO_READY_ENDPOINT, TunnelStream};

/// What a CONNECT asked for, kept to be judged by again.
struct Call {
    side: Rc<Side>,
    authority: String,
    headers: HeaderMap,
    /// Its place among what is open.
    held: HeldPlace,
}

/// Why there is no tunnel.
enum Refused {
    /// A policy said no.
    Denied,
    Failed(ProxyError),
}

/// Serves one CONNECT.
pub(super) async fn serve(side: Rc<Side>, head: Parts, recv: RecvStream, mut respond: SendResponse<Bytes>, held: Held) {
    let asked = Instant::now();
    let authority = head.uri.authority().map(ToString::to_string).unwrap_or_default();
    let call = Call { side: Rc::clone(&side), authority, headers: head.headers, held: side.enter_tunnel() };
    let _permit = match side.tunnel() {
        Ok(permit) => permit,
        Err(error) => return refuse(&mut call.report(None), &Refused::Failed(error), respond),
    };
    let (mut report, target) = call.judge();
    let target = match target {
        Ok(target) => target,
        Err(refused) => return refuse(&mut report, &refused, respond),
    };
    let opened = tokio::select! {
        biased;
        _ = poll_fn(|cx| respond.poll_reset(cx)) => {
            side.took_back(asked);
            report.failed(&ProxyError::new(ErrorKind::DownstreamGone, "taken back before it was answered"));
            return;
        }
        opened = connect(&side, &target) => opened,
    };
    let (stream, endpoint) = match opened {
        Ok(opened) => opened,
        Err(error) => return refuse(&mut report, &Refused::Failed(error), respond),
    };
    side.came_to_something();
    report.upstream_address(endpoint.address);
    call.tell();
    let Ok(send) = respond.send_response(Response::new(()), false) else {
        report.failed(&ProxyError::new(ErrorKind::DownstreamGone, "before it was answered"));
        return;
    };
    report.answered(200);
    let _load = side.worker.shared.gateways.loads.add(endpoint.address);
    let judged = Cell::new(u64::MAX);
    let allowed = || {
        let current = side.worker.generation();
        judged.replace(current) == current || call.is_allowed()
    };
    let copy = Copy::new(TunnelStream::new(send, recv, held), Stream::new(stream));
    tcp::run(&side.worker, copy, report, allowed).await;
}

/// Connects to the first endpoint that takes a connection.
async fn connect(side: &Side, target: &Target) -> Result<(TcpStream, Arc<Endpoint>), ProxyError> {
    let shared = &side.worker.shared;
    let (service, port) = (&target.port.service, target.port.port);
    let turn = shared.ledgers.of(&target.port.host, port, Family::Any).turn();
    let endpoints = choose::order(&target.export, &target.port, side.caller.source, turn, &shared.gateways.loads);
    let none = || ProxyError::new(ErrorKind::NoEndpoint, format!("{service}:{port} has no ready endpoint"));
    let deadline = Instant::now() + shared.bootstrap.timeouts.connect;
    let mut failed = None;
    for (tried, endpoint) in endpoints.iter().enumerate() {
        let address = endpoint.address;
        if shared.own.is_own(address, Some(side.destination)) {
            failed = Some(ProxyError::new(ErrorKind::Loop, format!("{address} is an own listener")));
            continue;
        }
        // One that is silent leaves some of the time for the next.
        let (now, left) = (Instant::now(), u32::try_from(endpoints.len().saturating_sub(tried)).unwrap_or(1));
        let until = now + deadline.saturating_duration_since(now).checked_div(left).unwrap_or_default();
        match timeout_at(until, socket::connect(address, None)).await {
            Ok(Ok(stream)) => return Ok((stream, Arc::clone(endpoint))),
            Ok(Err(error)) => {
                failed = Some(ProxyError::new(ErrorKind::ConnectFailed, address.to_string()).caused_by(error));
            }
            Err(_) => failed = Some(ProxyError::new(ErrorKind::ConnectTimeout, format!("{address}: too slow"))),
        }
        failed.iter().for_each(ProxyError::log);
    }
    Err(failed.unwrap_or_else(none))
}

fn refuse(report: &mut Report, refused: &Refused, respond: SendResponse<Bytes>) {
    let (status, reason) = match refused {
        Refused::Denied => {
            report.refused();
            (StatusCode::FORBIDDEN, None)
        }
        Refused::Failed(error) => {
            report.failed(error);
            let reason = match error.kind {
                ErrorKind::NoEndpoint => Some(NO_READY_ENDPOINT),
                ErrorKind::ConnectFailed | ErrorKind::ConnectTimeout => Some(CONNECT_FAILED),
                _ => None,
            };
            (error.kind.status(), reason)
        }
    };
    report.answered(status.as_u16());
    answer(respond, status, reason);
}

impl Call {
    /// What it leads to under the configuration in force.
    fn target(&self, snapshot: &Snapshot) -> Result<Target, ProxyError> {
        let identity = self.side.worker.identity.borrow();
        let own = Own { id: identity.svid().id(), cluster: &self.side.worker.shared.bootstrap.cluster_key };
        plan::plan(snapshot, own, &self.side.caller, &self.authority, &self.headers)
    }

    /// Whether it would be let in under the configuration in force.
    fn is_allowed(&self) -> bool {
        let snapshot = self.side.worker.snapshot();
        let residual = self.side.residual(&snapshot);
        self.target(&snapshot).is_ok()
            && plan::lets_in(&plan::decide(&residual, &self.side.caller, &self.authority, &self.headers))
    }

    /// Says what others may know of it.
    fn tell(&self) {
        let (outer, peer) = (&self.side.connection.place, Some(self.side.caller.id.clone()));
        let (protocol, within) = (Some(Protocol::Tcp), Some(outer.number()));
        self.held.place().tell(Told { protocol, peer, within, ..Told::default() });
    }

    /// Judges it for the first time; the report begins with what that comes to.
    ///
    /// Policies come first: whom they do not let in is told so whether there is such a service or not.
    fn judge(&self) -> (Report, Result<Target, Refused>) {
        let snapshot = self.side.worker.snapshot();
        let target = self.target(&snapshot);
        let mut report = self.report(target.as_ref().ok());
        let residual = self.side.residual(&snapshot);
        let decision = plan::decide(&residual, &self.side.caller, &self.authority, &self.headers);
        report.decision(&decision);
        if !plan::lets_in(&decision) {
            if residual.may_ask() {
                report.because("a CUSTOM policy selects the gateway, and nobody can be asked about a tunnel");
            }
            return (report, Err(Refused::Denied));
        }
        (report, target.map_err(Refused::Failed))
    }

    fn report(&self, target: Option<&Target>) -> Report {
        let side = &self.side;
        let expected = target.and_then(|target| target.port.endpoints.first()).map(|endpoint| &endpoint.identity);
        let source = Party {
            principal: side.principal.clone(),
            cluster: side.caller.cluster.as_deref().unwrap_or(UNKNOWN).to_owned(),
            ..Party::default()
        };
        let facts = Facts {
            reporter: "gateway",
            source,
            destination: match expected {
                Some(EndpointIdentity::Mesh(id)) => Party::proved(id),
                _ => Party::default(),
            },
            service: Called::of(target.map(|target| &*target.port)),
            security: "mutual_tls",
        };
        let counters = Rc::new(RequestCounters::new(facts));
        let mut report = Report::begin(&side.worker, self.held.place(), &side.prefix, &counters);
        report.rests_on(ErrorKind::DownstreamTls, Some(&side.session));
        report.authority(&self.authority);
        if let Some(target) = target {
            report.service(&target.port.host);
        }
        report
    }
}
