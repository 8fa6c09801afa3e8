//! Where our identity comes from: files, a SPIFFE Workload API, or an authority that is asked for a certificate.
//!
//! The one idea: whatever comes is handed to the same [`IdentityStore`] that reads files, as a whole. So a renewal is a generation like
//! any other, and what is wrong with it leaves the last good one in force.

use std::sync::Arc;
use std::time::Duration;

use meshgate_config::Bootstrap;
use meshgate_identity::{Delivered, IdentityStore, Reload};
use tokio::time::sleep;

use crate::app::StartError;
use crate::clusters::jittered;
use crate::worker::Shared;
use crate::{ca, reload, runtime, workload_api};

/// Before somebody is asked again for the first time: they may just be restarting, and nothing waits for this but a renewal.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Ever longer pauses, by chance a little shorter, so that a mesh does not come back in step.
pub(crate) struct Backoff {
    pause: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(max: Duration) -> Self {
        Self { pause: PAUSE_MIN, max }
    }

    pub(crate) fn reset(&mut self) {
        self.pause = PAUSE_MIN;
    }

    pub(crate) async fn pause(&mut self) {
        sleep(jittered(self.pause)).await;
        self.pause = (self.pause * 2).min(self.max);
    }
}

/// The identity of a bootstrap. What is not in files is waited for as long as it takes. Blocks.
///
/// # Errors
/// The files are at fault, or the operating system gives no runtime to wait in.
pub fn open(bootstrap: &Bootstrap) -> Result<IdentityStore, StartError> {
    let runtime = runtime::local()?;
    let store = runtime.block_on(obtain(bootstrap));
    runtime.shutdown_background();
    store
}

/// As [`open`], for who has a runtime, a local one.
///
/// # Errors
/// The files are at fault.
pub async fn obtain(bootstrap: &Bootstrap) -> Result<IdentityStore, StartError> {
    let sources = bootstrap.identity_sources()?;
    Ok(match (&bootstrap.identity.workload_api, &bootstrap.identity.ca) {
        (Some(endpoint), _) => workload_api::first(endpoint, &sources).await,
        (None, Some(settings)) => ca::client::first(settings, &sources).await,
        (None, None) => IdentityStore::open(sources)?,
    })
}

/// Keeps the identity fresh, for as long as it is polled, where that is not done by whoever writes the files.
pub async fn follow(shared: Arc<Shared>, identity: Arc<IdentityStore>) {
    let settings = &shared.bootstrap.identity;
    match (&settings.workload_api, &settings.ca) {
        (Some(endpoint), _) => workload_api::follow(&shared, &identity, endpoint).await,
        (None, Some(settings)) => ca::client::follow(&shared, &identity, settings).await,
        (None, None) => {}
    }
}

/// Takes what was delivered into force; `None` when it is not usable. On a thread of its own: validation takes milliseconds, and this one
/// has signals to hear.
pub(crate) async fn take(shared: &Arc<Shared>, identity: &Arc<IdentityStore>, delivered: Delivered) -> Option<Reload> {
    let (shared, identity) = (Arc::clone(shared), Arc::clone(identity));
    let taking = tokio::task::spawn_blocking(move || {
        let outcome = identity.deliver(delivered);
        let taken = outcome.as_ref().ok().copied();
        reload::identity_read(&shared, &identity, outcome);
        taken
    });
    taking.await.unwrap_or_else(|_| {
        tracing::error!("taking an identity into use panicked; the last good one stays in force");
        None
    })
}
