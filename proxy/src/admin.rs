//! What the outside may ask this process: is it alive, is it ready, what does it count, what would it decide; and, where
//! that is wanted, to end. On its own thread.

mod app_health;
mod clusters;
mod explain;
mod metrics;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use meshgate_config::Snapshot;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::http::headers;
use crate::metrics::exposition::Format;
use crate::socket;
use crate::worker::Shared;

/// A scraper that sends its request slower than this is none.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Rest after a failed accept, so that running out of descriptors does not make this loop spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

const JSON: &str = "application/json";

const INDEX: &str = "meshgate admin\n\n\
    GET /ready    200 when ready, else 503 and what is missing\n\
    GET /live     200 while this process answers\n\
    GET /app-health/CONTAINER/livez, /readyz, /startupz  how the application answers its own probe\n\
    GET /metrics  counters, for Prometheus\n\
    GET /clusters gateways of other clusters and what is ready behind them, for callers on this machine\n\
    GET /refusals who was refused what of late, and by which policy, for callers on this machine\n\
    POST /explain what would be decided on the case in the body, for callers on this machine\n\
    POST /quitquitquit ends the process as SIGTERM does, where admin.quit is set, for callers on this machine\n";

/// Answers admin requests for as long as it is polled.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, config: watch::Receiver<Arc<Snapshot>>) {
    let probes = Rc::new(app_health::AppHealth::new(&shared.bootstrap));
    loop {
        let (stream, caller) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(%error, "admin: cannot accept");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let Ok(local) = stream.local_addr() else { continue };
        let (shared, config, probes) = (Arc::clone(&shared), config.clone(), Rc::clone(&probes));
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (shared, snapshot) = (Arc::clone(&shared), Arc::clone(&config.borrow()));
            let probes = Rc::clone(&probes);
            async move {
                Ok::<_, Infallible>(match probes.answer(local, &request).await {
                    Some(answer) => answer,
                    None => respond(&shared, &snapshot, caller, request).await,
                })
            }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let connection = server.serve_connection(TokioIo::new(stream), service);
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection ended");
            }
        });
    }
}

async fn respond(
    shared: &Shared,
    snapshot: &Snapshot,
    caller: SocketAddr,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/explain") => explain::answer(shared, snapshot, caller, request).await,
        (&Method::POST, "/quitquitquit") => quit(shared, caller, &request),
        (_, "/explain" | "/quitquitquit") => text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only POST\n".into()),
        (&Method::GET | &Method::HEAD, "/clusters") => match stranger(caller, &request) {
            Some(refusal) => refusal,
            None => text(StatusCode::OK, JSON, clusters::page(&shared.clusters)),
        },
        (&Method::GET | &Method::HEAD, "/refusals") => match stranger(caller, &request) {
            Some(refusal) => refusal,
            // Strings and numbers can always be written.
            None => {
                let all = serde_json::to_string_pretty(&shared.refusals.all()).unwrap_or_default();
                text(StatusCode::OK, JSON, all + "\n")
            }
        },
        (&Method::GET | &Method::HEAD, "/metrics" | "/stats/prometheus") => {
            let asked = request.headers().get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
            let format = Format::accepted(&asked.collect::<Vec<_>>().join(","));
            text(StatusCode::OK, format.content_type(), metrics::page(shared, snapshot, format))
        }
        (method, path) => answer(shared, method, path),
    }
}

/// Asks the process to end as SIGTERM does; a second time changes nothing.
fn quit<B>(shared: &Shared, caller: SocketAddr, request: &Request<B>) -> Response<Full<Bytes>> {
    if !shared.bootstrap.admin.quit {
        return text(StatusCode::FORBIDDEN, TEXT, "admin.quit is not set\n".into());
    }
    stranger(caller, request).unwrap_or_else(|| {
        shared.quit.notify_one();
        text(StatusCode::OK, TEXT, "draining\n".into())
    })
}

/// What tells more than the other pages is for the loopback interface only, and only under an address or `localhost` for a name,
/// so that no page in somebody's browser gets at it by a name of its own (DNS rebinding).
fn stranger<B>(caller: SocketAddr, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
    let why = match () {
        () if !is_on_this_machine(caller.ip()) => "only for callers on this machine\n",
        () if !headers::host(request).is_some_and(is_own_name) => "only under an IP address or localhost\n",
        () => return None,
    };
    Some(text(StatusCode::FORBIDDEN, TEXT, why.into()))
}

/// Our own inbound side is not: what it passes on from anywhere comes from its address, where this endpoint listens on more than
/// loopback and its port is captured.
fn is_on_this_machine(caller: IpAddr) -> bool {
    let caller = caller.to_canonical();
    caller.is_loopback() && caller != socket::INBOUND_SOURCE_V4
}

/// An IP address or `localhost`, with or without a port.
fn is_own_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn answer(shared: &Shared, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into());
    }
    match path {
        "/" => text(StatusCode::OK, TEXT, INDEX.into()),
        "/live" => text(StatusCode::OK, TEXT, "live\n".into()),
        "/ready" | "/healthz/ready" => {
            let blockers = shared.readiness.blockers();
            if blockers.is_empty() {
                text(StatusCode::OK, TEXT, "ready\n".into())
            } else {
                text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {}\n", blockers.join(", ")))
            }
        }
        _ => text(StatusCode::NOT_FOUND, TEXT, "no such page; see /\n".into()),
    }
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_from_elsewhere_are_not_on_this_machine() {
        for (caller, expected) in [
            ("127.0.0.1", true),
            ("127.0.0.6", false),
            ("::ffff:127.0.0.6", false),
            ("::1", true),
            ("::ffff:127.0.0.2", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(is_on_this_machine(caller.parse().unwrap()), expected, "{caller}");
        }
    }

    #[test]
    fn names_that_anybody_may_own_are_not_ours() {
        for host in ["127.0.0.1", "127.0.0.1:15000", "[::1]:15000", "localhost:15000", "LOCALHOST"] {
            assert!(is_own_name(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:15000", "127.0.0.1.evil.example", "localhost.evil.example", "a b"]
        {
            assert!(!is_own_name(host), "{host}");
        }
    }
}
