//! `/ready`, `/live` and `/metrics` of the authority, in the clear, for probes and scrapers.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use meshgate_identity::RevocationList;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use super::Desk;
use crate::metrics::exposition::{self, Format, Page, Source};
use crate::metrics::{Counter, Exposed, Family, ResultLabels};

/// Connections at once; a probe and a scraper have two.
const CONNECTIONS: usize = 16;

/// For all of a connection: an answer is a page.
const PATIENCE: Duration = Duration::from_secs(10);

/// After the system had no descriptor for one more.
const PAUSE: Duration = Duration::from_millis(100);

/// By which proof there are certificates.
const PROOFS: [&str; 2] = ["token", "certificate"];

/// Why there are none.
const REFUSALS: [&str; 13] = [
    "method",
    "message",
    "timeout",
    "no_proof",
    "token",
    "certificate",
    "identity",
    "request",
    "rate",
    "authority",
    "journal",
    "handshake",
    "connections",
];

/// What has been done.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    issued: Family<ResultLabels, Counter>,
    refused: Family<ResultLabels, Counter>,
}

impl Default for Counts {
    /// All of it is there, as 0: of what begins with 1 Prometheus sees no increase.
    fn default() -> Self {
        let of = |results: &[&'static str]| {
            let family = Family::<ResultLabels, Counter>::default();
            for result in results {
                family.get_or_create(&ResultLabels { result });
            }
            family
        };
        Self { issued: of(&PROOFS), refused: of(&REFUSALS) }
    }
}

impl Counts {
    /// By which proof.
    pub(super) fn issued(&self, proof: &'static str) {
        self.issued.get_or_create(&ResultLabels { result: proof }).inc();
    }

    /// Why not.
    pub(super) fn refused(&self, why: &'static str) {
        debug_assert!(REFUSALS.contains(&why), "{why} would begin with 1");
        self.refused.get_or_create(&ResultLabels { result: why }).inc();
    }
}

/// What a page is made of.
#[derive(Debug)]
struct Seen {
    counts: Counts,
    own_ends: u64,
    authority_ends: u64,
    list_ends: Option<u64>,
}

impl Source for Seen {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        self.counts.issued.write("mesh_ca_certificates_total", "Certificates by proof", page)?;
        self.counts.refused.write("mesh_ca_refusals_total", "Refusals by reason", page)?;
        let help = "When the certificate that is served with ends";
        page.gauge("mesh_certificate_expiry_timestamp_seconds", help)?.level(self.own_ends)?;
        page.gauge("mesh_ca_root_expiry_timestamp_seconds", "When the authority ends")?.level(self.authority_ends)?;
        let Some(list_ends) = self.list_ends else { return Ok(()) };
        page.gauge("mesh_revocation_list_expiry_timestamp_seconds", "When its revocation list ends")?.level(list_ends)
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Desk {
    /// What is in the way of signing.
    fn blocker(&self) -> Option<&'static str> {
        let now = SystemTime::now();
        if self.ending.get() {
            return Some("draining");
        }
        if self.authority.not_after() <= now {
            return Some("the authority has ended");
        }
        (self.tls().0.svid().not_after() <= now).then_some("certificate expired")
    }

    fn page(&self, path: &str) -> Response<Full<Bytes>> {
        let (status, text) = match (path, self.blocker()) {
            ("/ready", Some(blocker)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{blocker}\n")),
            ("/ready", None) => (StatusCode::OK, "ready\n".to_owned()),
            ("/live", _) => (StatusCode::OK, "live\n".to_owned()),
            ("/metrics", _) => {
                let (identity, _) = self.tls();
                let own_ends = seconds(identity.svid().not_after());
                let authority_ends = seconds(self.authority.not_after());
                let list_ends = identity.revocation_lists().filter_map(RevocationList::next_update).min().map(seconds);
                let seen = Seen { counts: self.counts.clone(), own_ends, authority_ends, list_ends };
                (StatusCode::OK, exposition::page(Format::Text, seen))
            }
            _ => (StatusCode::NOT_FOUND, "there are /ready, /live and /metrics\n".to_owned()),
        };
        let mut response = Response::new(Full::new(text.into()));
        *response.status_mut() = status;
        response
    }
}

/// Serves for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, desk: Rc<Desk>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let desk = Rc::clone(&desk);
        connections.spawn_local(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let response = desk.page(request.uri().path());
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            let mut server = http1::Builder::new();
            server.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            // Who does not listen to the end does not hear it.
            let _ = timeout(PATIENCE, server.serve_connection(TokioIo::new(stream), answer)).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_counted_is_there_from_the_start_as_0() {
        let counts = Counts::default();
        let seen = Seen { counts: counts.clone(), own_ends: 1, authority_ends: 1, list_ends: None };
        let page = exposition::page(Format::Text, seen);
        for series in [
            "mesh_ca_certificates_total{result=\"token\"} 0",
            "mesh_ca_certificates_total{result=\"certificate\"} 0",
            "mesh_ca_refusals_total{result=\"journal\"} 0",
            "mesh_ca_refusals_total{result=\"handshake\"} 0",
        ] {
            assert!(page.contains(series), "{series}\n{page}");
        }
    }
}
