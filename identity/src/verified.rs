//! Callers' chains that were found good, so that the next handshake with the same chain need not check its signatures again.
//!
//! The one idea: a chain is as good as it was, as long as nothing of what it was judged by has changed. What was shown is compared
//! in full, byte by byte. The list belongs to one generation of the trust bundles and goes with it, so a root that is taken away
//! takes along whatever it vouched for. What a chain was believed by may end in time: from then on it is judged anew.
//!
//! What this never replaces: the proof that the caller has the key. That signature is over the handshake itself, and is checked in
//! each of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::SpiffeId;

/// Chains kept before the list is started anew: more workloads than most call one other. Only good chains get in, so nobody
/// without a certificate of the mesh can fill it.
const KEPT_MAX: usize = 1024;

/// Bytes of the longest chain kept: three certificates with RSA keys; together with [`KEPT_MAX`], 4 MiB at the very most.
const CHAIN_MAX: usize = 4096;

/// Chains by their bytes.
#[derive(Default)]
pub(crate) struct Verified(Mutex<HashMap<Box<[u8]>, Entry>>);

struct Entry {
    found: Found,
    /// When it was judged.
    from: UnixTime,
}

/// What was found of a chain that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) peer: SpiffeId,
    /// The fingerprint of the root that it ends in.
    pub(crate) root: Option<Arc<str>>,
    /// When something on its path ends, or some time before that; in that second it is still good.
    pub(crate) until: UnixTime,
}

/// All that a caller showed, as one: each certificate with its length before it. `None` for what is too long to be kept.
pub(crate) fn shown(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<Vec<u8>> {
    let certificates = || std::iter::once(leaf).chain(intermediates);
    let len: usize = certificates().map(|certificate| size_of::<u64>() + certificate.len()).sum();
    if len > CHAIN_MAX {
        return None;
    }
    let mut all = Vec::with_capacity(len);
    for certificate in certificates() {
        all.extend_from_slice(&(certificate.len() as u64).to_be_bytes());
        all.extend_from_slice(certificate);
    }
    Some(all)
}

impl Verified {
    /// What was found of this chain, if it was found good and still is.
    pub(crate) fn find(&self, shown: &[u8], now: UnixTime) -> Option<Found> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.get(shown)?;
        (entry.from <= now && now <= entry.found.until).then(|| entry.found.clone())
    }

    /// Keeps a chain that was found good at `from`.
    pub(crate) fn keep(&self, shown: Vec<u8>, found: Found, from: UnixTime) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(shown.into_boxed_slice(), Entry { found, from });
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
