//! An open connection's peer, judged again.
//!
//! The one idea: what a handshake found holds for as long as it would be found again. What the peer showed is kept and put to the
//! same verifier under a later identity, or at a later time; so a root that was taken out, or a certificate that has ended, ends
//! what was built on it, and a chain that leads to another root goes on.
//!
//! A certificate that was valid once does not become too young: a clock that is put back ends nothing.
//!
//! What this does not do: hold connections, or know when to look. It says until when its answer holds.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;

use crate::verified::Found;
use crate::verify::PeerVerifier;
use crate::{Expected, Identity, PeerError, PeerIdentityError, RevocationList, TrustDomain, certificate};

/// Until when an answer holds that nothing in sight ends.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// What a peer was at the other end of a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PeerRole {
    /// It called us.
    Caller,
    /// We called it, and this was to be found there.
    Server(Expected),
}

/// What a peer showed in a handshake that succeeded, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerChain {
    certificates: Vec<CertificateDer<'static>>,
    role: PeerRole,
}

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A handshake would succeed.
    Good {
        /// No look is needed before, unless the identity changes.
        until: SystemTime,
    },
    /// A certificate of it has ended, less than the grace ago.
    Expired {
        /// When the grace is over, or something else ends.
        until: SystemTime,
    },
    /// A handshake would fail, and the grace is over or there is none.
    Over(Lost),
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// A certificate of the chain, the root it leads to, or the revocation list of one of them has ended.
    Expired,
    /// Nobody who vouches now vouches for the chain.
    Untrusted,
    /// A certificate of the chain has been revoked.
    Revoked,
}

impl Lost {
    /// As in logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Untrusted => "untrusted",
            Self::Revoked => "revoked",
        }
    }
}

impl PeerChain {
    /// The certificates of a handshake, leaf first.
    pub fn new(certificates: &[CertificateDer<'static>], role: PeerRole) -> Self {
        Self { certificates: certificates.to_vec(), role }
    }

    /// The certificates, leaf first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// What the peer was.
    pub fn role(&self) -> &PeerRole {
        &self.role
    }

    /// Start and end of each certificate that can be read.
    fn validity(&self) -> impl Iterator<Item = (SystemTime, SystemTime)> {
        let parsed = self.certificates.iter().filter_map(|der| certificate::parse(der).ok());
        parsed.map(|parsed| certificate::validity(&parsed))
    }

    /// When the youngest of its certificates began.
    fn began(&self) -> SystemTime {
        self.validity().map(|(start, _)| start).max().unwrap_or(UNIX_EPOCH)
    }
}

impl Identity {
    /// How a session stands at the time `now`, with this long between a certificate's end and the session's.
    ///
    /// Verifies signatures anew: to be asked when something has changed, not at each request.
    pub fn standing(&self, chain: &PeerChain, now: SystemTime, grace: Duration) -> Standing {
        let began = chain.began();
        let (now, earlier) = (now.max(began), now.checked_sub(grace).unwrap_or(UNIX_EPOCH).max(began));
        if self.peers().vouch_again(chain, now).is_ok() {
            return Standing::Good { until: self.next_end(chain, now) };
        }
        match self.peers().vouch_again(chain, earlier) {
            Ok(_) => {
                let end = self.next_end(chain, earlier);
                Standing::Expired { until: end.checked_add(grace).unwrap_or(end) }
            }
            Err(error) if is_of_time(&error) => Standing::Over(Lost::Expired),
            Err(error) if error.is_revoked() => Standing::Over(Lost::Revoked),
            Err(_) => Standing::Over(Lost::Untrusted),
        }
    }

    /// Of which trust domain a peer is, and the fingerprint of the root by which it is believed ([`Root::sha256`](crate::Root::sha256)); `None`
    /// when it is not believed.
    ///
    /// Right after a handshake, or after [`Identity::standing`], that is known; else signatures are verified.
    pub fn root_behind(&self, chain: &PeerChain, now: SystemTime) -> Option<(TrustDomain, Arc<str>)> {
        let is_caller = matches!(chain.role, PeerRole::Caller);
        let known = self.peers().known(&chain.certificates, is_caller, certificate::unix_time(now));
        let found = known.or_else(|| self.peers().vouch_again(chain, now).ok())?;
        Some((found.peer.trust_domain(), found.root?))
    }

    /// The first moment after `now` at which one of the chain's certificates, or a root that may be one of its, has ended.
    pub fn next_end(&self, chain: &PeerChain, now: SystemTime) -> SystemTime {
        let lists = self.revocation_lists().filter_map(RevocationList::next_update);
        let ends = chain.validity().map(|(_, end)| end).chain(self.bundles().ends()).chain(lists);
        // The last second of a validity belongs to it (RFC 5280, 4.1.2.5).
        let ends = ends.map(|end| end + Duration::from_secs(1));
        ends.filter(|end| *end > now).min().unwrap_or(now + FAR)
    }
}

impl PeerVerifier {
    fn vouch_again(&self, chain: &PeerChain, at: SystemTime) -> Result<Found, PeerError> {
        let at = certificate::unix_time(at);
        let Some((leaf, intermediates)) = chain.certificates.split_first() else {
            return Err(PeerIdentityError::Malformed("there is none".to_owned()).into());
        };
        match &chain.role {
            PeerRole::Caller => self.verify_caller(leaf, intermediates, at),
            PeerRole::Server(expected) => self.verify_server(leaf, intermediates, at, expected.cluster.as_ref()),
        }
    }
}

fn is_of_time(error: &PeerError) -> bool {
    use webpki::Error::{CertExpired, CrlExpired};
    let PeerError::Chain { source, .. } = error else { return matches!(error, PeerError::NoValidRoot { .. }) };
    matches!(source, CertExpired { .. } | CrlExpired { .. })
}

#[cfg(test)]
mod tests;
