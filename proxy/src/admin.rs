//! What the outside may ask this process: is it alive, is it ready, what does it count, what would it decide, who talks to whom; and,
//! where that is wanted, to end. On its own thread: nothing here waits for a worker.
//!
//! The one idea: what tells no more than a scraper needs is for everybody; all else is for callers on this machine, under a name that
//! nobody else can have, and not on behalf of another site's page (`stranger`). What changes anything is never a GET.

mod app_health;
mod certs;
mod clusters;
mod config_dump;
mod connections;
pub(crate) mod edges;
mod events;
mod explain;
mod gateways;
mod logging;
mod metrics;
mod page;
mod policies;
mod problems;
#[cfg(feature = "pprof")]
mod profile;
mod status;
mod visitors;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use meshgate_config::Snapshot;
use meshgate_identity::Identity;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use self::app_health::AppHealth;
use self::events::{Events, Feed};
use self::visitors::{Visit, Visitor, Visitors};
use crate::http::headers;
use crate::metrics::exposition::Format;
use crate::socket;
use crate::worker::Shared;

/// Rest after a failed accept, so that running out of descriptors does not make this loop spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

const JSON: &str = "application/json";

const EVENTS: &str = "text/event-stream";

const INDEX: &str = "meshgate admin\n\n\
    GET /ready    200 when ready, else 503 and what is missing\n\
    GET /live     200 while this process answers\n\
    GET /app-health/CONTAINER/livez, /readyz, /startupz  how the application answers its own probe\n\
    GET /metrics  counters, for Prometheus\n\
    GET /version  version and commit\n\
    \nfor callers on this machine only:\n\
    GET /         in a browser: the live page\n\
    GET /edges    who talks to whom: requests, refusals, latency, bytes, mutual TLS\n\
    GET /refusals who was refused what of late, and by which policy\n\
    GET /policies the policies that select this workload, and how often each decided\n\
    GET /connections who is connected; ?limit=, after=, principal= and direction= choose\n\
    GET /clusters services with their endpoints and their health; gateways of other clusters\n\
    GET /certs    the own certificate and the roots that vouch for peers\n\
    GET /config_dump the configuration in force\n\
    GET /logging  the log level; PUT another\n\
    GET /events   what the live page shows, once a second, as server-sent events\n\
    POST /explain what would be decided on the case in the body\n\
    POST /drain_listeners takes no more inbound connections, where admin.quit is set\n\
    POST /quitquitquit ends the process as SIGTERM does, where admin.quit is set\n";

type Answer = Response<Full<Bytes>>;

/// An answer's body that is more than can be written at once.
type Long = Either<metrics::Pieces, Events>;

/// What answers are made of.
#[derive(Debug)]
struct Admin {
    shared: Arc<Shared>,
    config: watch::Receiver<Arc<Snapshot>>,
    identity: watch::Receiver<Arc<Identity>>,
    probes: AppHealth,
    feed: Feed,
    pages: metrics::Turn,
    visitors: Rc<Visitors>,
}

impl Admin {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.config.borrow())
    }
}

/// Answers admin requests for as long as it is polled.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    config: watch::Receiver<Arc<Snapshot>>,
    identity: watch::Receiver<Arc<Identity>>,
) {
    let probes = AppHealth::new(&shared.bootstrap);
    let settings = shared.bootstrap.admin;
    let visitors = Visitors::new(settings.connections, settings.request, &shared.metrics);
    let admin = Rc::new(Admin {
        shared,
        config,
        identity,
        probes,
        feed: Feed::default(),
        pages: metrics::Turn::default(),
        visitors,
    });
    loop {
        let (stream, caller) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(%error, "admin: cannot accept");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let Some(visit) = admin.visitors.enter() else {
            visitors::turn_away(&stream);
            continue;
        };
        tokio::task::spawn_local(attend(Rc::clone(&admin), visit, stream, caller));
    }
}

/// Answers one connection's requests until it ends, or has to.
async fn attend(admin: Rc<Admin>, visit: Visit, stream: TcpStream, caller: SocketAddr) {
    let Ok(local) = stream.local_addr() else { return };
    let (settings, visitor) = (admin.shared.bootstrap.admin, visit.visitor());
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (admin, visitor) = (Rc::clone(&admin), Rc::clone(&visitor));
        async move {
            let _busy = visitor.asks(settings.request + own_time(&admin, request.uri().path()));
            // Who asks under which name is judged below: there is to be one (RFC 9112, section 3.2).
            if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
                return Ok(text(StatusCode::BAD_REQUEST, TEXT, "more than one Host\n".into()).map(Either::Left));
            }
            Ok::<_, Infallible>(match admin.probes.answer(local, &request).await {
                Some(answer) => answer.map(Either::Left),
                None => respond(&admin, &visitor, caller, request).await,
            })
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(settings.idle);
    tokio::select! {
        ended = server.serve_connection(TokioIo::new(stream), service) => if let Err(error) = ended {
            tracing::debug!(%error, "admin connection ended");
        },
        () = visit.over() => tracing::debug!("admin connection ended: for others, or because it took too long"),
    }
}

/// How long what is asked for may take before there is anything to answer.
fn own_time(admin: &Admin, path: &str) -> Duration {
    #[cfg(feature = "pprof")]
    let profile = profile::time(path);
    #[cfg(not(feature = "pprof"))]
    let profile = Duration::ZERO;
    admin.probes.time(path) + profile
}

async fn respond(
    admin: &Rc<Admin>,
    visitor: &Rc<Visitor>,
    caller: SocketAddr,
    request: Request<Incoming>,
) -> Response<Either<Full<Bytes>, Long>> {
    match request.uri().path() {
        "/metrics" | "/stats/prometheus" if reads(request.method()) => return scrape(admin, request.headers()).await,
        "/events" if reads(request.method()) => {
            return match stranger(caller, &request) {
                Some(refusal) => refusal.map(Either::Left),
                None => listen(admin, visitor, request.method()),
            };
        }
        _ => {}
    }
    let answer = match public(admin, caller, &request) {
        Some(answer) => answer,
        None => match stranger(caller, &request) {
            Some(refusal) => refusal,
            None => private(admin, request).await,
        },
    };
    answer.map(Either::Left)
}

/// What anybody may ask.
fn public(admin: &Admin, caller: SocketAddr, request: &Request<Incoming>) -> Option<Answer> {
    let shared = &admin.shared;
    let answer = match request.uri().path() {
        "/" | "/live" | "/ready" | "/healthz/ready" | "/version" | "/metrics" | "/stats/prometheus"
            if !reads(request.method()) =>
        {
            only("GET, HEAD")
        }
        "/" if page::is_wanted(request.headers()) && unknown_caller(caller, request).is_none() => page::answer(),
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
        "/version" => json(&status::version()),
        _ => return None,
    };
    Some(answer)
}

/// What a scraper gets, in the format that it asks for.
async fn scrape(admin: &Admin, headers: &HeaderMap) -> Response<Either<Full<Bytes>, Long>> {
    let asked = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let format = Format::accepted(&asked.collect::<Vec<_>>().join(","));
    match metrics::page(&admin.pages, &admin.shared, admin.snapshot(), format).await {
        Some(page) => answer(StatusCode::OK, format.content_type(), Either::Right(Either::Left(page))),
        None => {
            let why = "the page cannot be written; see the log\n";
            text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, why.into()).map(Either::Left)
        }
    }
}

/// What callers on this machine may ask.
async fn private(admin: &Admin, request: Request<Incoming>) -> Answer {
    let (shared, snapshot) = (&admin.shared, admin.snapshot());
    let method = request.method();
    match request.uri().path() {
        "/explain" | "/quitquitquit" | "/drain_listeners" if method != Method::POST => only("POST"),
        "/explain" => explain::answer(shared, &snapshot, request).await,
        "/quitquitquit" => end(shared, || shared.quit.notify_one()),
        "/drain_listeners" => end(shared, || shared.drain_listeners.notify_one()),
        "/logging" if reads(method) || method == Method::PUT => logging::answer(request).await,
        "/logging" => only("GET, HEAD, PUT"),
        "/connections" | "/events" if !reads(method) => only("GET, HEAD"),
        "/connections" => connections::answer(shared, request.uri().query().unwrap_or_default()),
        #[cfg(feature = "pprof")]
        profile::PATH if !reads(method) => only("GET, HEAD"),
        #[cfg(feature = "pprof")]
        profile::PATH => profile::answer(request.uri().query().unwrap_or_default()).await,
        path => match view(admin, &snapshot, path) {
            Some(_) if !reads(method) => only("GET, HEAD"),
            Some(view) => view,
            None => text(StatusCode::NOT_FOUND, TEXT, "no such page; see /\n".into()),
        },
    }
}

/// The pages that only show something.
fn view(admin: &Admin, snapshot: &Snapshot, path: &str) -> Option<Answer> {
    let shared = &admin.shared;
    let answer = match path {
        "/clusters" => json(&clusters::page(shared, snapshot, usize::MAX)),
        "/config_dump" => json(&config_dump::page(shared, snapshot, &admin.identity.borrow())),
        "/certs" => json(&certs::page(&admin.identity.borrow(), &admin.shared.metrics)),
        "/policies" => json(&policies::page(&shared.metrics, snapshot)),
        "/edges" => json(&edges::page(&shared.metrics)),
        "/refusals" => json(&shared.refusals.all()),
        _ => return None,
    };
    Some(answer)
}

/// Events for one more listener, if there may be one.
fn listen(admin: &Rc<Admin>, visitor: &Rc<Visitor>, method: &Method) -> Response<Either<Full<Bytes>, Long>> {
    if method == Method::HEAD {
        return text(StatusCode::OK, EVENTS, String::new()).map(Either::Left);
    }
    let Some(events) = Events::new(admin, visitor) else {
        admin.visitors.limited("listeners");
        let why = "as many listen as admin.eventListeners lets\n";
        return text(StatusCode::SERVICE_UNAVAILABLE, TEXT, why.into()).map(Either::Left);
    };
    let mut response = answer(StatusCode::OK, EVENTS, Either::Right(Either::Right(events)));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Begins the end, or a part of it, where that is wanted; a second time changes nothing.
fn end(shared: &Shared, begin: impl FnOnce()) -> Answer {
    if !shared.bootstrap.admin.quit {
        return text(StatusCode::FORBIDDEN, TEXT, "admin.quit is not set\n".into());
    }
    begin();
    text(StatusCode::OK, TEXT, "draining\n".into())
}

/// What tells more than the public pages is for the loopback interface only, and only under an address or `localhost` for a name,
/// so that no page in somebody's browser gets at it by a name of its own (DNS rebinding); nor may another site's page send what
/// it could not read the answer of (cross-site request forgery).
fn stranger<B>(caller: SocketAddr, request: &Request<B>) -> Option<Answer> {
    unknown_caller(caller, request).or_else(|| {
        is_of_another_site(headers::host(request), request.headers())
            .then(|| text(StatusCode::FORBIDDEN, TEXT, "not for other sites' pages\n".into()))
    })
}

/// The part of [`stranger`] that holds for somebody who follows a link as well.
fn unknown_caller<B>(caller: SocketAddr, request: &Request<B>) -> Option<Answer> {
    let why = match () {
        () if !is_on_this_machine(caller.ip()) => "only for callers on this machine\n",
        () if !headers::host(request).is_some_and(is_own_name) => "only under an IP address or localhost\n",
        () => return None,
    };
    Some(text(StatusCode::FORBIDDEN, TEXT, why.into()))
}

/// Whether a browser says that another site's page asks: by `Origin` (RFC 6454), which goes with what may change something, or by
/// `Sec-Fetch-Site` (Fetch Metadata), which goes with everything. Who is no browser sends neither.
fn is_of_another_site(host: Option<&str>, headers: &HeaderMap) -> bool {
    let foreign = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        origin.is_none() || origin != host
    };
    let foreign_site = |site: &HeaderValue| site != "same-origin" && site != "none";
    headers.get_all(header::ORIGIN).iter().any(foreign) || headers.get_all("sec-fetch-site").iter().any(foreign_site)
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

fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// With what there is (RFC 9110, section 15.5.6).
fn only(methods: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("only {methods}\n"));
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    answer
}

fn json(page: &impl Serialize) -> Answer {
    // Strings and numbers can always be written.
    text(StatusCode::OK, JSON, serde_json::to_string_pretty(page).unwrap_or_default() + "\n")
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    answer(status, content_type, Full::from(body))
}

fn answer<B>(status: StatusCode, content_type: &'static str, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Nothing here is to be taken for a page, whatever stands in it.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

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

    #[test]
    fn other_sites_pages_are_told_by_what_browsers_say() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            HeaderMap::from_iter(pairs.iter().map(pair))
        };
        for (sent, expected) in [
            (&[][..], false),
            (&[("origin", "http://127.0.0.1:15000")], false),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("origin", "http://127.0.0.1:8080")], true),
            (&[("origin", "https://127.0.0.1:15000")], true),
            (&[("origin", "http://evil.example")], true),
            (&[("origin", "null")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("origin", "http://127.0.0.1:15000"), ("sec-fetch-site", "cross-site")], true),
        ] {
            assert_eq!(is_of_another_site(Some("127.0.0.1:15000"), &headers(sent)), expected, "{sent:?}");
        }
    }
}
