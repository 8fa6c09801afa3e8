//! What a described case comes to, as the proxy would decide it: from a [`Snapshot`], without a socket.
//!
//! The steps are those of the inbound side, by the same code where there is code to share: mutual TLS by the port's
//! mode, then the request made sound, then the provider of a CUSTOM policy (whose answer the case assumes), then the
//! policies. An [`Answer`] says which of them decided, and why.

mod answer;
pub mod calling;
mod text;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{Method, Request, Version, header};
use meshgate_config::{AppProtocol, Snapshot, WorkloadRecord};
use meshgate_policy::normalize::{Level, PathError};
use meshgate_policy::{ConnectionFacts, MtlsMode, RemoteIp, RequestView, Residual, Token};

pub use answer::{Answer, Assumed, Outcome, PathSeen};

use crate::case::{Case, CaseError, Port, Protocol, ProviderAnswer, Scheme};
use crate::error::{ErrorKind, ProxyError};
use crate::http::headers::{self, ClientCert};
use crate::http::view;

/// Where nothing is said of the caller or the address called.
const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Where nothing is said of the port, and services do not tell.
const HTTP_PORT: u16 = 80;

/// From what a case is judged.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// The configuration in force.
    pub snapshot: &'a Snapshot,
    /// The workload called, where the resources have it.
    pub workload: Option<&'a WorkloadRecord>,
    /// How far paths are normalized.
    pub level: Level,
    /// How many proxies in front append to `x-forwarded-for`.
    pub trusted_proxies: u32,
}

impl Judge<'_> {
    /// Decides. What the case does not give: plaintext from 127.0.0.1, to the workload's address and the one port that
    /// services have for it (else port 80), `GET /` without a Host, and a provider that allows.
    ///
    /// # Errors
    /// A field that has no meaning here.
    pub fn judge(&self, case: &Case) -> Result<Answer, CaseError> {
        case.check()?;
        if case.to.is_some() {
            let message = "is what a workload calls, and here it is asked what it is called with".to_owned();
            return Err(CaseError { field: "to", message });
        }
        let destination = SocketAddr::new(self.address(case), self.port(case)?);
        let mode = self.snapshot.mtls.mode(destination.port());
        let mut answer = Answer::new(case, destination, mode);
        if mode == MtlsMode::Strict && case.id().is_none() {
            answer.refuse_plaintext();
            return Ok(answer);
        }
        let tls_is_not_ours = mode == MtlsMode::Disable && case.id().is_some();
        let tcp_is_said = self.hint(destination).is_bytes() && case.protocol != Some(Protocol::Tcp);
        if tls_is_not_ours {
            answer.note("mutual TLS is disabled on this port: TLS passes as bytes, and the policies see no identity");
        } else if tcp_is_said {
            answer.note(unread(self.hint(destination)));
        }
        let tcp = case.protocol == Some(Protocol::Tcp) || tls_is_not_ours || tcp_is_said;
        if !tcp {
            answer.method = Some(case.method.as_ref().map_or("GET", Method::as_str).to_owned());
        }
        let hint = self.hint(destination);
        if tcp && !tls_is_not_ours && matches!(hint, AppProtocol::Http | AppProtocol::Http2) {
            let why = "not a request, on a port that a service declares to carry requests";
            answer.refuse_malformed("", &ProxyError::new(ErrorKind::BadRequest, why));
            return Ok(answer);
        }
        let request = if tcp { Ok(None) } else { sound(case, self.level).map(Some) };
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                answer.refuse_malformed(asked(case), &error);
                return Ok(answer);
            }
        };
        let source_ip = case.source_ip.unwrap_or(SOMEWHERE);
        let forwarded = request.as_ref().and_then(|request| self.forwarded_for(request));
        let facts = ConnectionFacts {
            peer: case.id().filter(|_| !tls_is_not_ours),
            source_ip,
            remote_ip: RemoteIp::Fixed(case.remote_ip.or(forwarded).unwrap_or(source_ip)),
            destination,
            service_port: self.service_port(case, destination),
            opaque_port: self.hint(destination) == AppProtocol::Tcp,
            sni: case.sni.as_deref().filter(|_| !tls_is_not_ours),
            protocol: if tcp { meshgate_policy::Protocol::Tcp } else { meshgate_policy::Protocol::Http },
        };
        let token = case.token.clone().map(Token::new);
        let view = request.as_ref().map(|request| seen(case, request, &facts, token.as_ref()));
        if let Some(view) = &view {
            answer.path = Some(PathSeen::new(asked(case), view.path_and_query));
        }
        self.decide(&mut answer, &facts, view.as_ref(), case.provider.unwrap_or_default());
        Ok(answer)
    }

    /// Asks the provider, as far as it is assumed, and the policies.
    fn decide(
        &self,
        answer: &mut Answer,
        facts: &ConnectionFacts<'_>,
        view: Option<&RequestView<'_>>,
        provider: ProviderAnswer,
    ) {
        let residual = self.snapshot.inbound_policy.reduce(facts);
        let custom = view.map_or_else(|| Residual::custom_connection(&residual), |view| residual.custom(view));
        answer.explained(self.snapshot.inbound_policy.explain(facts, view));
        if let Some(custom) = custom.filter(|custom| custom.fault.is_none()) {
            answer.assumed(&custom, provider);
        }
    }

    fn forwarded_for(&self, request: &Request<()>) -> Option<IpAddr> {
        headers::forwarded_for(request.headers(), self.trusted_proxies)
    }

    fn address(&self, case: &Case) -> IpAddr {
        let own = || self.workload.and_then(|record| record.addresses.first()).copied();
        case.destination.map(|address| address.ip()).or_else(own).unwrap_or(SOMEWHERE)
    }

    fn port(&self, case: &Case) -> Result<u16, CaseError> {
        match (&case.port, case.destination) {
            (Some(Port::Number(number)), _) => Ok(*number),
            (Some(Port::Name(name)), _) => self.named_port(name),
            (None, Some(destination)) => Ok(destination.port()),
            (None, None) => Ok(self.only_port().unwrap_or(HTTP_PORT)),
        }
    }

    /// By what the workload calls it, else by what a service calls it.
    fn named_port(&self, name: &str) -> Result<u16, CaseError> {
        let error = |message| Err(CaseError { field: "port", message });
        let Some(record) = self.workload else {
            return error(format!("`{name}` is a name, and without a workload that is known there is none with it"));
        };
        let mut known = record.ports.clone();
        for (port, _, name) in record.service_ports(self.snapshot) {
            known.entry(name.unwrap_or_default().to_owned()).or_insert(port);
        }
        if let Some(port) = known.get(name) {
            return Ok(*port);
        }
        let named: Vec<_> = known.iter().filter(|(name, _)| !name.is_empty()).collect();
        let known: Vec<_> = named.iter().map(|(name, port)| format!("{name} ({port})")).collect();
        let known = if known.is_empty() { "none has a name".to_owned() } else { known.join(", ") };
        error(format!("{} has no port `{name}`: {known}", record.name))
    }

    /// The port that all services have for the workload.
    fn only_port(&self) -> Option<u16> {
        let mut ports = self.workload?.service_ports(self.snapshot).map(|(port, ..)| port);
        let first = ports.next()?;
        ports.all(|port| port == first).then_some(first)
    }

    fn service_port(&self, case: &Case, destination: SocketAddr) -> Option<u16> {
        case.service_port.or_else(|| Some(self.snapshot.services.endpoint(destination)?.0.port))
    }

    fn hint(&self, destination: SocketAddr) -> AppProtocol {
        self.snapshot.services.app_protocol(destination)
    }
}

/// Why nothing is read as a request where an [`AppProtocol`] is bytes.
fn unread(hint: AppProtocol) -> &'static str {
    match hint {
        AppProtocol::Opaque => {
            "no service says what this port is, and `detection.opaquePorts` has it: nothing on it is read as a request"
        }
        _ => "the service says that this port is TCP: nothing on it is read as a request",
    }
}

/// The request as the proxy makes it sound before anybody looks at it.
fn sound(case: &Case, level: Level) -> Result<Request<()>, ProxyError> {
    let bad = |error: http::Error| ProxyError::new(ErrorKind::BadRequest, "request").caused_by(error);
    if !asked(case).starts_with('/') && asked(case) != "*" {
        return Err(ProxyError::new(ErrorKind::BadRequest, "path").caused_by(PathError::NotAbsolute));
    }
    let mut request = Request::builder()
        .method(case.method.clone().unwrap_or(Method::GET))
        .uri(asked(case))
        // Only HTTP/1.0 may go without a Host, and a case may have none.
        .version(if case.host.is_some() { Version::HTTP_11 } else { Version::HTTP_10 })
        .body(())
        .map_err(bad)?;
    if let Some(given) = &case.headers {
        *request.headers_mut() = given.0.clone();
    }
    if let Some(host) = &case.host {
        request.headers_mut().append(header::HOST, host.clone());
    }
    headers::sanitise_request(&mut request, level, ClientCert::Remove)?;
    Ok(request)
}

/// The path as the caller sends it.
fn asked(case: &Case) -> &str {
    case.path.as_deref().unwrap_or("/")
}

/// The request as the policies see it.
fn seen<'a>(
    case: &Case,
    request: &'a Request<()>,
    facts: &ConnectionFacts<'_>,
    token: Option<&'a Token>,
) -> RequestView<'a> {
    let scheme = match case.scheme {
        Some(Scheme::Http) => "http",
        Some(Scheme::Https) => "https",
        None if facts.peer.is_some() => "https",
        None => "http",
    };
    RequestView { token, ..view::of(request, scheme, facts.source_ip) }
}

#[cfg(test)]
mod tests;
