//! Toward the application through tunnels (HBONE): mutual TLS and HTTP/2 as at a gateway, and CONNECT to an address of this pod.
//!
//! The tunnel only says where its bytes are going. Who calls is whose certificate the outer connection showed, and the bytes are
//! served as those of any inbound connection of that caller: detected, judged as requests where they are some, ended when a policy
//! is withdrawn. So there is nothing that is allowed through a tunnel and not beside it. What the CONNECT carries besides
//! (`forwarded`, `baggage`, `traceparent`) is the caller's word and is not read.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use meshgate_config::{Bootstrap, InboundListener, OriginalDestination, Snapshot};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Plan, Side, counters, declared, facts, plan, prefix};
use crate::connection::{Connection, Direction, Peer, Protocol};
use crate::detect::{self, Detected};
use crate::drain::{self, Phase};
use crate::error::{ErrorKind, ProxyError};
use crate::gateway::{self, Door, answer, is_tunnel};
use crate::http::forwarded::Forwarded;
use crate::limits::Permit;
use crate::orig_dst::OwnAddresses;
use crate::rewind::{self, Rewind};
use crate::tcp::Report;
use crate::tunnel::{Held, TunnelStream};
use crate::worker::WorkerRef;
use crate::{open, orig_dst, report, socket};

/// Where a tunnel leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// What was asked for: the address that policies see.
    pub destination: SocketAddr,
    /// How a connection to it would have come in without a tunnel.
    pub listener: InboundListener,
}

/// What a tunnel must not lead to.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// Our own listeners.
    pub listeners: &'a OwnAddresses,
    /// The admin endpoint.
    pub admin: SocketAddr,
}

/// Decides where CONNECT `authority` leads. `local` is the address that the outer connection came to.
///
/// Only this pod's own address is one: the one that was dialled, so that neither another's nor loopback, where an application
/// listens for itself alone, can be reached through us. Of its ports none is our own.
///
/// # Errors
/// [`ErrorKind::BadRequest`] or [`ErrorKind::Loop`].
pub fn target(
    listeners: &[InboundListener],
    own: Own<'_>,
    local: SocketAddr,
    authority: &str,
) -> Result<Target, ProxyError> {
    let refused = |kind, why: &str| Err(ProxyError::new(kind, format!("CONNECT {authority:?}: {why}")));
    let Ok(destination) = authority.parse::<SocketAddr>() else {
        return refused(ErrorKind::BadRequest, "not an IP address and port");
    };
    // Without what an IPv6 address may have beside itself.
    let destination = socket::canonical(SocketAddr::new(destination.ip(), destination.port()));
    if destination.ip() != local.ip() {
        return refused(ErrorKind::BadRequest, "not the address that was connected to");
    }
    let leads_there =
        |listener: &&InboundListener| listener.original_destination == OriginalDestination::Fixed(destination);
    if let Some(listener) = listeners.iter().find(leads_there) {
        return Ok(Target { destination, listener: *listener });
    }
    let is_own =
        own.listeners.is_own(destination, Some(local)) || orig_dst::reaches(own.admin, destination, Some(local));
    if destination.port() == 0 || is_own {
        return refused(ErrorKind::Loop, "a port of this proxy");
    }
    match listeners.iter().find(|listener| listener.original_destination == OriginalDestination::Kernel) {
        Some(listener) => Ok(Target { destination, listener: *listener }),
        None => refused(ErrorKind::BadRequest, "no inbound listener leads there"),
    }
}

/// Where an inbound connection was going that the redirection rules captured on its way to where tunnels come in. Whether they
/// leave that port alone makes no difference, and they cannot for a call of the pod to itself.
pub(super) fn captured(stream: &TcpStream, listener: &InboundListener, bootstrap: &Bootstrap) -> Option<SocketAddr> {
    let tunnels = &bootstrap.hbone.listeners;
    if tunnels.is_empty() || listener.original_destination != OriginalDestination::Kernel {
        return None;
    }
    let was_going = socket::original_destination(stream).ok()?;
    tunnels.iter().any(|own| orig_dst::reaches(*own, was_going, Some(was_going))).then_some(was_going)
}

/// Serves an accepted outer connection to its end. Where it was going, if that is not where it came to, is its destination.
pub async fn serve(worker: &WorkerRef, stream: TcpStream, connection: Connection) {
    let limits = worker.shared.bootstrap.hbone.limits;
    let door = Door { section: "hbone", direction: Direction::Inbound, limits, serve: request };
    gateway::serve_outer(worker, stream, connection, door).await;
}

fn request(
    outer: Rc<gateway::Side>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    held: Held,
) -> LocalBoxFuture<'static, ()> {
    async move {
        let (head, recv) = request.into_parts();
        let mut tunnel = Tunnel::asked_for(outer, &head);
        let admitted = match tunnel.admit(is_tunnel(&head)) {
            Ok(admitted) => admitted,
            Err(refused) => return answer(respond, tunnel.refuse(refused), None),
        };
        // Whoever has gone needs no answer.
        if let Ok(send) = respond.send_response(Response::new(()), false) {
            tunnel.serve(admitted, Rewind::new(TunnelStream::new(send, recv, held))).await;
        }
    }
    .boxed_local()
}

/// One tunnel that was asked for.
struct Tunnel {
    outer: Rc<gateway::Side>,
    authority: String,
    peer: Peer,
    asked: Instant,
    /// Its place among what is open.
    held: open::Held,
}

/// One that is let in, for as long as the permits are held.
struct Admitted {
    target: Target,
    _permits: [Permit; 2],
}

/// Why there is none.
enum Refused {
    /// No policy would let anything of this caller in there.
    Denied(Box<Target>),
    Failed(ProxyError),
}

impl From<ProxyError> for Refused {
    fn from(error: ProxyError) -> Self {
        Self::Failed(error)
    }
}

impl Tunnel {
    fn asked_for(outer: Rc<gateway::Side>, head: &Parts) -> Self {
        let authority = head.uri.authority().map(ToString::to_string).unwrap_or_default();
        let session = Some(Rc::clone(&outer.session));
        let peer = Peer { id: Some(outer.caller.id.clone()), sni: outer.sni.clone(), client_cert: None, session };
        let held = outer.enter_tunnel();
        Self { outer, authority, peer, asked: Instant::now(), held }
    }

    fn admit(&mut self, is_tunnel: bool) -> Result<Admitted, Refused> {
        let shared = &self.outer.worker.shared;
        if !is_tunnel {
            return Err(ProxyError::new(ErrorKind::BadRequest, "nothing but CONNECT is answered here").into());
        }
        let of_caller = self.outer.tunnel()?;
        // To the application it is a connection like any other.
        let of_all = shared.permits.take();
        let of_all = of_all.ok_or_else(|| ProxyError::new(ErrorKind::TooMany, "limits.connections reached"))?;
        let bootstrap = &shared.bootstrap;
        let own = Own { listeners: &shared.own, admin: bootstrap.admin.address };
        let target = target(&bootstrap.inbound.listeners, own, self.outer.destination, &self.authority)?;
        let (identity, shown) = (self.outer.worker.identity.borrow(), self.outer.session.certificates().first());
        self.peer.client_cert = Forwarded::element(&bootstrap.headers, identity.svid().id(), shown)?;
        drop(identity);
        if !self.may_be_let_in(target) {
            return Err(Refused::Denied(Box::new(target)));
        }
        Ok(Admitted { target, _permits: [of_caller, of_all] })
    }

    /// Whether the policies leave open that something is allowed, whatever is spoken.
    fn may_be_let_in(&self, target: Target) -> bool {
        let snapshot = self.outer.worker.snapshot();
        let is_bytes = snapshot.services.app_protocol(target.destination).is_bytes();
        self.plan(&snapshot, target, Protocol::Tcp).allows_anything()
            || !is_bytes && self.plan(&snapshot, target, Protocol::Http2).allows_anything()
    }

    fn plan(&self, snapshot: &Snapshot, target: Target, protocol: Protocol) -> Plan {
        let (worker, connection) = (&self.outer.worker, self.connection(target));
        let facts = facts(worker, snapshot, &connection, target.destination, &self.peer, protocol);
        plan(snapshot, &facts, &worker.residuals)
    }

    fn connection(&self, target: Target) -> Connection {
        Connection {
            remote: self.outer.connection.remote,
            destination: Some(target.destination),
            place: Arc::clone(self.held.place()),
        }
    }

    /// Writes down why there is none, and says how it is answered.
    fn refuse(&self, refused: Refused) -> StatusCode {
        let worker = &self.outer.worker;
        let (snapshot, target) = (
            worker.snapshot(),
            match &refused {
                Refused::Denied(target) => Some(**target),
                Refused::Failed(_) => None,
            },
        );
        let destination = target.map_or(self.outer.destination, |target| target.destination);
        let counters = counters(worker, &snapshot, &self.outer.connection, destination, &self.peer);
        let prefix = prefix(&self.outer.connection, destination, &self.peer);
        let mut report = Report::begin(worker, self.held.place(), &prefix, &counters);
        report.authority(&self.authority);
        let status = match refused {
            Refused::Denied(target) => {
                let plan = self.plan(&snapshot, *target, Protocol::Tcp);
                report.decision(&plan.residual.decide_connection());
                report.refused();
                StatusCode::FORBIDDEN
            }
            Refused::Failed(error) => {
                report.failed(&error);
                error.kind.status()
            }
        };
        report.answered(status.as_u16());
        status
    }

    /// Serves what comes out of it as what came in beside it.
    async fn serve(self, Admitted { target, _permits }: Admitted, mut stream: Rewind<TunnelStream>) {
        let (worker, outer) = (&self.outer.worker, &self.outer);
        let snapshot = worker.snapshot();
        let protocol = match snapshot.services.app_protocol(target.destination) {
            hint if hint.is_bytes() => Protocol::Tcp,
            hint => {
                let port = target.destination.port();
                let looking = stream.look(detect::deadline(worker, Some(port)));
                let Some(detected) = drain::before(worker, Phase::Draining, looking).await else { return };
                report::count_detection(worker, Direction::Inbound, detected, Some(port));
                if detected == Detected::Closed && stream.is_empty() {
                    return outer.took_back(self.asked);
                }
                declared(rewind::protocol(detected), hint)
            }
        };
        outer.came_to_something();
        let within = outer.connection.place.number();
        let (destination, peer) = (Some(target.destination), self.peer.id.clone());
        self.held.place().tell(open::Told {
            destination,
            protocol: Some(protocol),
            peer,
            tls: None,
            within: Some(within),
        });
        let (connection, destination) = (self.connection(target), target.destination);
        let side = Side::new(worker, &snapshot, connection, &target.listener, destination, self.peer.clone(), protocol);
        side.run(stream).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> InboundListener {
        let original_destination = OriginalDestination::Kernel;
        let address = "0.0.0.0:15006".parse().unwrap();
        InboundListener { address, original_destination, application: None, transparent: false }
    }

    fn fixed(to: &str) -> InboundListener {
        InboundListener {
            address: to.parse().unwrap(),
            original_destination: OriginalDestination::Fixed(to.parse().unwrap()),
            application: Some("127.0.0.1:3000".parse().unwrap()),
            transparent: false,
        }
    }

    fn ask(listeners: &[InboundListener], local: &str, authority: &str) -> Result<Target, ErrorKind> {
        let own = ["0.0.0.0:15006", "127.0.0.1:15001", "0.0.0.0:15008", "[::]:15008"];
        let listening = OwnAddresses::new(own.map(|own| own.parse().unwrap()));
        let own = Own { listeners: &listening, admin: "0.0.0.0:15000".parse().unwrap() };
        target(listeners, own, local.parse().unwrap(), authority).map_err(|error| error.kind)
    }

    #[test]
    fn a_tunnel_leads_to_the_address_that_was_dialled_and_to_no_other() {
        for (local, authority) in [
            ("10.1.2.3:15008", "10.1.2.3:8080"),
            ("10.1.2.3:15008", "[::ffff:10.1.2.3]:8080"),
            ("[fd00::3]:15008", "[fd00::3]:8080"),
            ("[fd00::3]:15008", "[fd00:0:0:0::3]:8080"),
        ] {
            let Target { destination, listener } = ask(&[kernel()], local, authority).unwrap();
            let local: SocketAddr = local.parse().unwrap();
            assert_eq!((destination.ip(), destination.port(), listener), (local.ip(), 8080, kernel()), "{authority}");
        }
        for authority in [
            "10.1.2.4:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "0.0.0.0:8080",
            "169.254.169.254:80",
            "backend:8080",
            "backend.default.svc.cluster.local:8080",
            "10.1.2.3",
            "10.1.2.3:",
            "10.1.2.3:99999",
            "010.1.2.3:8080",
            "user@10.1.2.3:8080",
            "10.1.2.3:8080 ",
            "",
        ] {
            assert_eq!(ask(&[kernel()], "10.1.2.3:15008", authority), Err(ErrorKind::BadRequest), "{authority:?}");
        }
    }

    #[test]
    fn none_of_our_own_ports_is_behind_a_tunnel() {
        for port in [15006, 15008, 15000, 0] {
            let authority = format!("10.1.2.3:{port}");
            assert_eq!(ask(&[kernel()], "10.1.2.3:15008", &authority), Err(ErrorKind::Loop), "{port}");
            let authority = format!("[::ffff:10.1.2.3]:{port}");
            assert_eq!(ask(&[kernel()], "10.1.2.3:15008", &authority), Err(ErrorKind::Loop), "{port}");
        }
    }

    #[test]
    fn without_redirection_only_what_a_listener_leads_to_is() {
        let listeners = [fixed("10.1.2.3:8080"), fixed("10.1.2.3:9090")];
        for (port, listener) in [(8080, listeners[0]), (9090, listeners[1])] {
            let target = ask(&listeners, "10.1.2.3:15008", &format!("10.1.2.3:{port}")).unwrap();
            assert_eq!(target.listener, listener);
        }
        assert_eq!(ask(&listeners, "10.1.2.3:15008", "10.1.2.3:8081"), Err(ErrorKind::BadRequest));
        assert_eq!(ask(&[], "10.1.2.3:15008", "10.1.2.3:8081"), Err(ErrorKind::BadRequest));
    }
}
