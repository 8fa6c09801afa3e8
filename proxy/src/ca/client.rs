//! Asks an authority for our certificate, and again before it ends.
//!
//! The one idea: a key is made for each request and stays in memory. What comes back goes the way of whatever else delivers an identity, and
//! whom we believe does not come with it: the roots stay in their file, so that an authority that is lied about can at worst give us
//! nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Request, Uri};
use meshgate_config::AuthoritySettings;
use meshgate_identity::ca::CaError;
use meshgate_identity::{Delivered, Identity, IdentityError, IdentityStore, PendingSvid, Sources, SpiffeId};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::ca::proto::{CertificateRequest, CertificateResponse, PATH};
use crate::clusters::jittered;
use crate::grpc::{self, Call, CallError};
use crate::metrics::ResultLabels;
use crate::source::{Backoff, take};
use crate::tls::outside;
use crate::worker::Shared;
use crate::{reload, socket};

/// Before it is asked again, at the most: an authority that is back is found within it, and half a certificate's life is far longer.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Before a renewal, at the least, whatever a certificate says of its life: an authority that gives out what ends at once is not to be
/// asked without a pause.
const RENEWAL_MIN: Duration = Duration::from_secs(1);

/// Between looks at the clock on the wall, by which certificates end: a machine that was asleep finds out by then.
const LOOK: Duration = Duration::from_secs(30);

/// Bytes of an answer: a dozen certificates of RSA 8192 in PEM, twice.
const ANSWER_MAX: usize = 64 * 1024;

/// Bytes of a token. Those of Kubernetes have one to two thousand; more does not fit into the headers that servers take.
const TOKEN_MAX: usize = 16 * 1024;

/// As pilot-agent sends it, for an istiod that serves several clusters.
const CLUSTER_ID: HeaderName = HeaderName::from_static("clusterid");

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The proof of who we are.
    #[error("tokenFile {0}")]
    Token(String),
    /// What the authority is known by.
    #[error("the authority's roots: {0}")]
    Roots(String),
    /// The call came to nothing.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It took too long.
    #[error("it does not answer within {0:?}")]
    Silent(Duration),
    /// No request can be made.
    #[error("no request can be made: {0}")]
    Request(String),
    /// What it sent is not certificates.
    #[error("its answer: {0}")]
    Answer(String),
    /// What it sent is not taken into use.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl From<CaError> for Failure {
    fn from(error: CaError) -> Self {
        Self::Request(error.to_string())
    }
}

/// The first identity, waited for as long as it takes.
pub(crate) async fn first(settings: &AuthoritySettings, sources: &Sources) -> IdentityStore {
    let mut backoff = Backoff::new(PAUSE_MAX);
    loop {
        let asked = ask(settings, &sources.id, None).await;
        let opened = asked.and_then(|delivered| Ok(IdentityStore::delivered(sources.clone(), delivered)?));
        match opened {
            Ok(store) => return store,
            Err(error) => {
                let (host, port) = (&settings.host, settings.port);
                tracing::warn!(host, port, %error, "no certificate from the authority yet; waiting for one");
            }
        }
        backoff.pause().await;
    }
}

/// Renews the certificate before half of its life is over, for as long as it is polled; what is in force stays until there is another.
pub(crate) async fn follow(shared: &Arc<Shared>, identity: &Arc<IdentityStore>, settings: &AuthoritySettings) {
    let id = identity.current().svid().id().clone();
    let mut backoff = Backoff::new(PAUSE_MAX);
    // An authority that takes our certificate no more, because it has ended or its root is another's now, may still take our token.
    let mut is_hidden = false;
    let mut due = renewal(identity.current().svid().not_after());
    loop {
        until(due).await;
        let current = identity.current();
        let shown = settings.mutual_tls && !(is_hidden && token(&settings.token_file).is_ok());
        let asked = ask(settings, &id, shown.then_some(&*current)).await;
        is_hidden = asked.is_err() && !is_hidden;
        let result = if asked.is_ok() { "ok" } else { "error" };
        shared.metrics.certificate_requests.get_or_create(&ResultLabels { result }).inc();
        let taken = match asked {
            Ok(delivered) => take(shared, identity, delivered).await.is_some(),
            Err(error) => {
                let (host, port, ends) = (&settings.host, settings.port, current.svid().not_after());
                let left = ends.duration_since(SystemTime::now()).unwrap_or_default().as_secs();
                tracing::warn!(host, port, %error, left_seconds = left, "no new certificate; the last one stays in force");
                // It may have ended meanwhile.
                reload::standing(shared, &current);
                false
            }
        };
        if taken {
            backoff.reset();
            due = renewal(identity.current().svid().not_after());
        } else {
            backoff.pause().await;
        }
    }
}

/// When a certificate that has just come into force is to be replaced: somewhat before half of its life is over, by chance, so that a mesh
/// which was started at once is not renewed at once.
fn renewal(not_after: SystemTime) -> SystemTime {
    let now = SystemTime::now();
    let left = not_after.duration_since(now).unwrap_or_default();
    now + (left / 2 - jittered(left / 10)).max(RENEWAL_MIN)
}

async fn until(due: SystemTime) {
    while let Ok(left) = due.duration_since(SystemTime::now()) {
        sleep(left.min(LOOK)).await;
        if left.is_zero() {
            return;
        }
    }
}

/// Asks once, and shows the certificate of `shown`.
async fn ask(settings: &AuthoritySettings, id: &SpiffeId, shown: Option<&Identity>) -> Result<Delivered, Failure> {
    let pending = PendingSvid::new(id, settings.key)?;
    let asking = call(settings, pending.request_pem().to_owned(), shown);
    let answer = timeout(settings.timeout, asking).await.map_err(|_| Failure::Silent(settings.timeout))??;
    pending.answered(answer.cert_chain.iter().map(String::as_str)).map_err(Failure::Answer)
}

async fn call(
    settings: &AuthoritySettings,
    csr: String,
    shown: Option<&Identity>,
) -> Result<CertificateResponse, Failure> {
    // A certificate is proof enough; without one the token is all there is.
    let token = match token(&settings.token_file) {
        Ok(token) => Some(token),
        Err(_) if shown.is_some() => None,
        Err(reason) => return Err(Failure::Token(reason)),
    };
    let certificates = outside::roots(&settings.trust_bundle).map_err(Failure::Roots)?;
    let config = outside::trusting(certificates, shown.map(Identity::client_certificate));
    let unusable =
        || Failure::Roots(format!("{}: no certificate that could be a root", settings.trust_bundle.display()));
    let mut config = config.ok_or_else(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name =
        ServerName::try_from(settings.server_name.clone()).map_err(|error| Failure::Request(error.to_string()))?;
    let stream = connect(settings).await.map_err(CallError::from)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(CallError::from)?;
    let seconds = i64::try_from(settings.lifetime.as_secs()).unwrap_or(i64::MAX);
    let message = grpc::framed(&CertificateRequest { csr, validity_duration: seconds });
    let mut call = Call::begin(stream, request(settings, token)?, message).await?;
    let answer = call.next(ANSWER_MAX).await?;
    call.finish().await?;
    Ok(answer)
}

/// To the first of its addresses that takes a connection.
async fn connect(settings: &AuthoritySettings) -> std::io::Result<TcpStream> {
    let mut failed = None;
    for address in tokio::net::lookup_host((settings.host.as_str(), settings.port)).await? {
        match socket::connect(address, None).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "its name has no address")))
}

fn request(settings: &AuthoritySettings, token: Option<HeaderValue>) -> Result<Request<()>, Failure> {
    let unusable = |error: http::Error| Failure::Request(error.to_string());
    let host = match settings.server_name.contains(':') {
        true => format!("[{}]", settings.server_name),
        false => settings.server_name.clone(),
    };
    let authority = format!("{host}:{}", settings.port);
    let mut request = Request::new(());
    *request.uri_mut() =
        Uri::builder().scheme("https").authority(authority).path_and_query(PATH).build().map_err(unusable)?;
    let headers = request.headers_mut();
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, token);
    }
    let cluster = HeaderValue::from_str(&settings.cluster_id);
    headers.insert(CLUSTER_ID, cluster.map_err(|error| unusable(error.into()))?);
    Ok(request)
}

/// The token as a header says it. The file is small and on a disk of memory; it is read again each time because the kubelet replaces it.
fn token(file: &Path) -> Result<HeaderValue, String> {
    let named = |reason: &dyn std::fmt::Display| format!("{}: {reason}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| named(&error))?;
    let token = text.trim();
    if token.is_empty() || token.len() > TOKEN_MAX {
        return Err(named(&format_args!("it has {} bytes, 1 to {TOKEN_MAX} make a token", token.len())));
    }
    // What it says instead stays out of the log.
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| named(&"it is no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_before_half_of_its_life_is_over_and_not_at_once() {
        let after = |life: u64| {
            let now = SystemTime::now();
            renewal(now + Duration::from_secs(life)).duration_since(now).unwrap()
        };
        for _ in 0..100 {
            let day = after(86_400).as_secs();
            assert!((86_400 * 39 / 100..=86_400 * 46 / 100).contains(&day), "{day}");
            assert!(after(1) >= RENEWAL_MIN && after(0) >= RENEWAL_MIN);
        }
        assert!((0..100).any(|_| after(86_400).as_secs() != after(86_400).as_secs()), "by chance");
    }

    #[test]
    fn a_token_is_read_as_it_stands_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let written = |text: &str| {
            std::fs::write(&file, text).unwrap();
            token(&file)
        };
        let good = written("a.b.c\n").unwrap();
        assert_eq!(good.to_str().unwrap(), "Bearer a.b.c");
        assert!(good.is_sensitive() && !format!("{good:?}").contains("a.b.c"));
        for wrong in ["", " \n", "secret\nsecret", &"x".repeat(TOKEN_MAX + 1)] {
            let error = written(wrong).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(token(&dir.path().join("none")).is_err());
    }
}
