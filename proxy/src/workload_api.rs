//! Our identity from a SPIFFE Workload API, such as SPIRE's agent offers it on a unix socket, instead of files.
//!
//! The one idea: whatever comes is handed to the same [`IdentityStore`] that reads files, as a whole. So a renewal is a generation like
//! any other, and what is wrong with it leaves the last good one in force. The agent may go: what it said last stays until it ends.
//!
//! One call is all there is to it, `FetchX509SVID`, whose answers come for as long as it is open (`call`). The crate `spiffe` is not
//! used: it drops the revocation lists of an answer, and brings some forty crates to read four fields.

mod call;
mod proto;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshgate_config::Bootstrap;
use meshgate_identity::{Delivered, IdentityError, IdentityStore, Sources, SpiffeId, TrustDomain};
use tokio::time::{Instant, sleep, timeout};

use crate::app::StartError;
use crate::clusters::jittered;
use crate::reload;
use crate::runtime;
use crate::worker::Shared;
use call::Call;
use proto::X509SvidResponse;

/// Before the agent is asked again for the first time: it may just be restarting, and nothing waits for this but a renewal.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Before it is asked again, at the most: an agent that is back is found within it.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// For the first answer of a call. An agent that takes a socket and says nothing is tried anew.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// A call that lasted this long was a good one: the next begins with the shortest pause again.
const LASTED: Duration = Duration::from_secs(30);

/// Why an agent gave us no identity.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The socket, or the connection.
    #[error("it cannot be reached: {0}")]
    Connect(#[from] std::io::Error),
    /// HTTP/2 beneath the call.
    #[error("the connection: {0}")]
    Http2(#[from] h2::Error),
    /// gRPC's status, and what the agent says to it.
    #[error("it answers with status {code}: {message}")]
    Status {
        /// As in gRPC's list; 7 = no identity is registered for this workload.
        code: String,
        /// The agent's words.
        message: String,
    },
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

/// The identity of a bootstrap: from its files, or from its Workload API, which is then waited for as long as it takes. Blocks.
///
/// # Errors
/// The files are at fault, or the operating system gives no runtime to wait in.
pub fn open(bootstrap: &Bootstrap) -> Result<IdentityStore, StartError> {
    let runtime = runtime::local()?;
    let store = runtime.block_on(obtain(bootstrap));
    runtime.shutdown_background();
    store
}

/// As [`open`], for who has a runtime.
///
/// # Errors
/// The files are at fault.
pub async fn obtain(bootstrap: &Bootstrap) -> Result<IdentityStore, StartError> {
    let sources = bootstrap.identity_sources()?;
    match &bootstrap.identity.workload_api {
        Some(endpoint) => Ok(first(endpoint, &sources).await),
        None => Ok(IdentityStore::open(sources)?),
    }
}

/// The first identity. Until then nothing is bound, and whoever asks whether this process is ready is refused the connection.
async fn first(endpoint: &Path, sources: &Sources) -> IdentityStore {
    let mut pause = PAUSE_MIN;
    loop {
        match try_first(endpoint, sources).await {
            Ok(store) => return store,
            Err(error) => {
                tracing::warn!(endpoint = %endpoint.display(), %error, "no identity from the workload API yet; waiting for one");
            }
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn try_first(endpoint: &Path, sources: &Sources) -> Result<IdentityStore, Failure> {
    let mut call = begin(endpoint).await?;
    let delivered = delivered(&first_of(&mut call).await?, &sources.id)?;
    Ok(IdentityStore::delivered(sources.clone(), delivered)?)
}

async fn begin(endpoint: &Path) -> Result<Call, Failure> {
    timeout(FIRST_ANSWER, Call::begin(endpoint)).await.map_err(|_| Failure::Silent)?
}

async fn first_of(call: &mut Call) -> Result<X509SvidResponse, Failure> {
    timeout(FIRST_ANSWER, call.next()).await.map_err(|_| Failure::Silent)?
}

/// Takes each further identity into force, for as long as it is polled; at once again when the agent has gone.
pub async fn follow(shared: Arc<Shared>, identity: Arc<IdentityStore>) {
    let Some(endpoint) = shared.bootstrap.identity.workload_api.clone() else { return };
    let id = identity.current().svid().id().clone();
    let mut pause = PAUSE_MIN;
    loop {
        let begun = Instant::now();
        let Err(error) = follow_once(&shared, &identity, &endpoint, &id).await;
        if begun.elapsed() >= LASTED {
            pause = PAUSE_MIN;
        }
        tracing::warn!(endpoint = %endpoint.display(), %error, "the workload API is gone; its last good answer stays in force");
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
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
            Ok(delivered) => take(shared, identity, delivered).await,
            Err(error) => reload::identity_refused(shared, &error),
        }
        answer = call.next().await?;
    }
}

/// On a thread of its own: validation takes milliseconds, and this one has signals to hear.
async fn take(shared: &Arc<Shared>, identity: &Arc<IdentityStore>, delivered: Delivered) {
    let (shared, identity) = (Arc::clone(shared), Arc::clone(identity));
    let taking = tokio::task::spawn_blocking(move || {
        let outcome = identity.deliver(delivered);
        reload::identity_read(&shared, &identity, outcome);
    });
    if taking.await.is_err() {
        tracing::error!("taking an identity into use panicked; the last good one stays in force");
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
