//! Our own X.509-SVID: the certificate, what it was signed with, and its key.
//!
//! The one idea: a value of this type is usable now. The certificate names one workload, is valid at the time of loading,
//! and the key is its key. Whether our own trust bundle accepts it is checked by `generation.rs`, which has both.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use rustls_pki_types::CertificateDer;

use crate::files::Contents;
use crate::{IdentityError, SpiffeId, certificate, leaf};

/// A validated X.509-SVID with its key. The key is never shown.
pub struct Svid {
    id: SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
    serial: String,
    certified: Arc<CertifiedKey>,
}

impl Svid {
    /// Reads a PEM certificate file, leaf first, and its PEM key file.
    pub(crate) fn from_pem(
        certificate: &Contents,
        key: &Contents,
        now: SystemTime,
        provider: &CryptoProvider,
    ) -> Result<Self, IdentityError> {
        let file = || certificate.file.clone();
        let chain = certificate.certificates()?;
        let (leaf, intermediates) = chain.split_first().ok_or_else(|| IdentityError::NoCertificate { file: file() })?;
        let leaf = certificate::parse(leaf).map_err(|reason| certificate.malformed(1, reason))?;
        for (der, position) in intermediates.iter().zip(2..) {
            certificate::parse(der).map_err(|reason| certificate.malformed(position, reason))?;
        }

        let id = leaf::identity(&leaf).map_err(|source| IdentityError::NotSvid { file: file(), source })?;
        let (not_before, not_after) = certificate::validity(&leaf);
        if now < not_before {
            return Err(IdentityError::NotYetValid { file: file(), not_before });
        }
        if now > not_after {
            return Err(IdentityError::Expired { file: file(), not_after });
        }
        let serial = certificate::serial(&leaf);

        let unusable =
            |error: TlsError| IdentityError::UnusableKey { file: key.file.clone(), reason: error.to_string() };
        let signing = provider.key_provider.load_private_key(key.private_key()?).map_err(unusable)?;
        let certified = CertifiedKey::new(chain, signing);
        certified.keys_match().map_err(|error| match error {
            TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                IdentityError::KeyMismatch { key: key.file.clone(), certificate: file() }
            }
            error => unusable(error),
        })?;
        Ok(Self { id, not_before, not_after, serial, certified: Arc::new(certified) })
    }

    /// Who we are.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificates we present: the leaf, then the intermediates.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The first moment of the leaf's validity.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// The last moment of the leaf's validity.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The leaf's serial number in lower-case hexadecimal, without separators.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("id", &self.id)
            .field("serial", &self.serial)
            .field("not_after", &certificate::rfc3339(self.not_after))
            .finish_non_exhaustive()
    }
}
