//! Our identity from a SPIFFE Workload API, such as SPIRE's agent offers it on a unix socket, instead of files.
//!
//! The one idea: whatever comes is taken as a whole, as one delivery of the [`source`](crate::source) of our identity. The agent may go:
//! what it said last stays until it ends.
//!
//! One call is all there is to it, `FetchX509SVID`, whose answers come for as long as it is open. The crate `spiffe` is not
//! used: it drops the revocation lists of an answer, and brings some forty crates to read four fields.

mod proto;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{Request, Uri};
use meshgate_identity::{Delivered, IdentityError, IdentityStore, Sources, SpiffeId, TrustDomain};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use crate::grpc::{self, Call, CallError};
use crate::reload;
use crate::source::{Backoff, take};
use crate::worker::Shared;
use proto::{X509SvidRequest, X509SvidResponse};

/// Before it is asked again, at the most: an agent that is back is found within it.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// For the first answer of a call. An agent that takes a socket and says nothing is tried anew.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// A call that lasted this long was a good one: the next begins with the shortest pause again.
const LASTED: Duration = Duration::from_secs(30);

/// The host says nothing on a unix socket.
const METHOD: &str = "http://localhost/SpiffeWorkloadAPI/FetchX509SVID";

/// The standard demands it of every call (SPIFFE Workload Endpoint, 6.1): who was tricked into sending a request to the socket can't send it.
const SECURITY_HEADER: HeaderName = HeaderName::from_static("workload.spiffe.io");

/// Bytes of one answer: gRPC's own default, thousands of certificates.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// Why an agent gave us no identity.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The call came to nothing.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Not what a Workload API answers.
    #[error("it answers with {0}")]
    Answer(String),
    /// It said nothing for too long.
    #[error("it does not answer")]
    Silent,
    /// What it sent is not taken into use.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// The first identity, waited for as long as it takes.
pub(crate) async fn first(endpoint: &Path, sources: &Sources) -> IdentityStore {
    let mut backoff = Backoff::new(PAUSE_MAX);
    loop {
        match try_first(endpoint, sources).await {
            Ok(store) => return store,
            Err(error) => {
                tracing::warn!(endpoint = %endpoint.display(), %error, "no identity from the workload API yet; waiting for one");
            }
        }
        backoff.pause().await;
    }
}

async fn try_first(endpoint: &Path, sources: &Sources) -> Result<IdentityStore, Failure> {
    let mut call = begin(endpoint).await?;
    let delivered = delivered(&first_of(&mut call).await?, &sources.id)?;
    Ok(IdentityStore::delivered(sources.clone(), delivered)?)
}

async fn begin(endpoint: &Path) -> Result<Call, Failure> {
    let beginning = async {
        let stream = UnixStream::connect(endpoint).await.map_err(CallError::from)?;
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_static(METHOD);
        request.headers_mut().insert(SECURITY_HEADER, HeaderValue::from_static("true"));
        Ok(Call::begin(stream, request, grpc::framed(&X509SvidRequest {})).await?)
    };
    timeout(FIRST_ANSWER, beginning).await.map_err(|_| Failure::Silent)?
}

async fn first_of(call: &mut Call) -> Result<X509SvidResponse, Failure> {
    Ok(timeout(FIRST_ANSWER, call.next(ANSWER_MAX)).await.map_err(|_| Failure::Silent)??)
}

/// Takes each further identity into force, for as long as it is polled; at once again when the agent has gone.
pub(crate) async fn follow(shared: &Arc<Shared>, identity: &Arc<IdentityStore>, endpoint: &Path) {
    let id = identity.current().svid().id().clone();
    let mut backoff = Backoff::new(PAUSE_MAX);
    loop {
        let begun = Instant::now();
        let Err(error) = follow_once(shared, identity, endpoint, &id).await;
        if begun.elapsed() >= LASTED {
            backoff.reset();
        }
        tracing::warn!(endpoint = %endpoint.display(), %error, "the workload API is gone; its last good answer stays in force");
        backoff.pause().await;
    }
}

async fn follow_once(
    shared: &Arc<Shared>,
    identity: &Arc<IdentityStore>,
    endpoint: &Path,
    id: &SpiffeId,
) -> Result<Infallible, Failure> {
    let mut call = begin(endpoint).await?;
    let mut answer = first_of(&mut call).await?;
    loop {
        // What cannot be used is no reason to leave: the next answer may be better.
        match delivered(&answer, id) {
            Ok(delivered) => drop(take(shared, identity, delivered).await),
            Err(error) => reload::identity_refused(shared, &error),
        }
        answer = call.next(ANSWER_MAX).await?;
    }
}

/// The answer's part that is ours: by its ID; else the first, which is the default one, so that whoever looks into the log finds whose it is.
fn delivered(answer: &X509SvidResponse, id: &SpiffeId) -> Result<Delivered, Failure> {
    let ours = answer.svids.iter().find(|svid| svid.spiffe_id == id.as_str()).or(answer.svids.first());
    let svid = ours.ok_or_else(|| Failure::Answer("no identity".to_owned()))?;
    let domain = |(id, bundle)| {
        let domain =
            trust_domain(id).ok_or_else(|| Failure::Answer(format!("the bundle of {id:?}, which is no trust domain")));
        Ok((domain?, bundle))
    };
    let federated = answer.federated_bundles.iter().map(|(id, bundle)| domain((id, bundle.as_ref())));
    let federated = federated.collect::<Result<Vec<(TrustDomain, &[u8])>, Failure>>()?;
    let lists = answer.crl.iter().map(AsRef::as_ref);
    Delivered::from_der(&svid.x509_svid, &svid.x509_svid_key, &svid.bundle, federated, lists).map_err(Failure::Answer)
}

/// Bundles go by the trust domain's own ID.
fn trust_domain(id: &str) -> Option<TrustDomain> {
    id.strip_prefix("spiffe://").unwrap_or(id).parse().ok()
}
