//! `GET /app-health/<container>/{livez,readyz,startupz}`: the application's own probes, asked in the kubelet's place.
//!
//! The one idea: the kubelet has no certificate, so what it asks the application itself the mesh refuses. Here it reaches this process, which
//! asks the application past the mesh, from the address that the redirection lets through.
//!
//! Anybody who reaches the admin endpoint may ask. So it is only the bootstrap that says what is asked, at this pod and nowhere else; only
//! the status comes back; and a probe runs once at a time, however many wait for it: who asks often costs the application no more.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Empty, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use meshgate_config::{AppCheck, AppProbe, Bootstrap, OriginalDestination};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{TEXT, only, reads, text};
use crate::socket;

/// Bytes of an answer's head. Nothing of it is used but the status.
const HEAD_MOST: usize = 64 * 1024;

/// Applications tell probes from calls by how this begins.
const USER_AGENT: HeaderValue = HeaderValue::from_static("kube-probe/meshgate");

/// The application's probes.
#[derive(Debug)]
pub(super) struct AppHealth {
    probes: BTreeMap<String, Slot>,
    /// Whether what this process dials would be redirected to it again.
    is_redirected: bool,
}

/// One probe, and how it went last. Who holds the lock runs it.
#[derive(Debug)]
struct Slot {
    probe: AppProbe,
    last: Mutex<Option<(Instant, Outcome)>>,
    /// What the log has said of it.
    told: Cell<Option<Outcome>>,
}

/// What the application answered, or why it did not: a status, and a word for the log and the caller.
type Outcome = Result<StatusCode, (StatusCode, &'static str)>;

impl AppHealth {
    pub(super) fn new(bootstrap: &Bootstrap) -> Self {
        let slot = |probe: &AppProbe| Slot { probe: probe.clone(), last: Mutex::new(None), told: Cell::new(None) };
        let probes = bootstrap.app_probes.iter().map(|(path, probe)| (path.clone(), slot(probe))).collect();
        let mut inbound = bootstrap.inbound.listeners.iter();
        let is_redirected = inbound.any(|listener| listener.original_destination == OriginalDestination::Kernel);
        Self { probes, is_redirected }
    }

    /// How long the answer for this path may take to be found out; nothing for what is no probe.
    pub(super) fn time(&self, path: &str) -> Duration {
        // Who asks at the same time waits for the one before.
        self.probes.get(path).map_or(Duration::ZERO, |slot| slot.probe.timeout * 2)
    }

    /// Answers a request that came in at `local`; `None` when it asks for no probe.
    pub(super) async fn answer<B>(&self, local: SocketAddr, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let slot = self.probes.get(request.uri().path())?;
        if !reads(request.method()) {
            return Some(only("GET, HEAD"));
        }
        let address = SocketAddr::new(pod_address(local.ip()), slot.probe.port);
        let source = self.is_redirected.then(|| socket::inbound_source(address.ip()));
        let outcome = slot.outcome(address, source).await;
        slot.tell(request.uri().path(), outcome);
        Some(match outcome {
            Ok(status) => text(status, TEXT, String::new()),
            Err((status, reason)) => text(status, TEXT, format!("{reason}\n")),
        })
    }
}

/// Where the application is reached: where the kubelet would have found it.
fn pod_address(local: IpAddr) -> IpAddr {
    match local.to_canonical() {
        IpAddr::V4(address) if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_loopback() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

impl Slot {
    /// How the application is. What was found out while somebody waited is as good for who waited.
    async fn outcome(&self, address: SocketAddr, source: Option<IpAddr>) -> Outcome {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((at, outcome)) = *last
            && at >= asked
        {
            return outcome;
        }
        let late = Err((StatusCode::GATEWAY_TIMEOUT, "the application did not answer in time"));
        let outcome = tokio::time::timeout(self.probe.timeout, ask(&self.probe.check, address, source)).await;
        let outcome = outcome.unwrap_or(late);
        *last = Some((Instant::now(), outcome));
        outcome
    }

    /// Puts into the log what is new.
    fn tell(&self, probe: &str, outcome: Outcome) {
        if self.told.replace(Some(outcome)) == Some(outcome) {
            return;
        }
        match outcome {
            Ok(status) => tracing::info!(probe, status = status.as_u16(), "the application's probe"),
            Err((_, reason)) => tracing::info!(probe, reason, "the application's probe"),
        }
    }
}

async fn ask(check: &AppCheck, address: SocketAddr, source: Option<IpAddr>) -> Outcome {
    let unreachable = |_| (StatusCode::BAD_GATEWAY, "the application cannot be connected to");
    let stream = socket::connect(address, source).await.map_err(unreachable)?;
    match check {
        AppCheck::TcpSocket => Ok(StatusCode::OK),
        AppCheck::HttpGet { path, headers } => get(stream, path, headers, address).await,
    }
}

async fn get(stream: TcpStream, path: &PathAndQuery, headers: &HeaderMap, address: SocketAddr) -> Outcome {
    let no_http = |_| (StatusCode::BAD_GATEWAY, "the application does not answer in HTTP/1");
    let mut builder = http1::Builder::new();
    let handshake = builder.max_buf_size(HEAD_MOST).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(no_http)?;
    // It ends with this request, whatever becomes of it.
    let mut running = JoinSet::new();
    running.spawn_local(connection);
    let response = sender.send_request(request(path, headers, address)).await.map_err(no_http)?;
    match response.status() {
        // To have it answered here would have this connection become something else, too.
        status if status.is_informational() => Err((StatusCode::BAD_GATEWAY, "the application gives no final answer")),
        status => Ok(status),
    }
}

fn request(path: &PathAndQuery, headers: &HeaderMap, address: SocketAddr) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = path.clone().into();
    let fields = request.headers_mut();
    // An address and a port are always a value.
    if let Ok(host) = HeaderValue::try_from(address.to_string()) {
        fields.insert(header::HOST, host);
    }
    fields.insert(header::USER_AGENT, USER_AGENT);
    fields.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    // Those of one name take the place of ours, and keep their order.
    fields.extend(headers.clone());
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_is_where_the_kubelet_would_find_it() {
        for (local, expected) in [
            ("10.0.0.7", "10.0.0.7"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
            ("fd00::7", "fd00::7"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.9.8.7", "127.0.0.1"),
            ("::1", "::1"),
        ] {
            assert_eq!(pod_address(local.parse().unwrap()).to_string(), expected, "{local}");
        }
    }

    #[test]
    fn configured_fields_take_the_place_of_ours() {
        let mut headers = HeaderMap::new();
        headers.append("host", HeaderValue::from_static("app.example"));
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        let request = request(&"/health?a=b".parse().unwrap(), &headers, "10.0.0.7:80".parse().unwrap());
        assert_eq!(request.uri(), "/health?a=b");
        let all =
            |name| request.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((all("host"), all("x-a")), (vec!["app.example"], vec!["1", "2"]));
        assert_eq!((all("accept"), all("user-agent")), (vec!["*/*"], vec!["kube-probe/meshgate"]));
    }
}
