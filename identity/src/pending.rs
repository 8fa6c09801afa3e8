//! A certificate that has been asked for: the key, which was made for it, and the request.
//!
//! The one idea: the key lives in this value and goes into what comes of it, never anywhere else, and never into a second request.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SanType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::ca::CaError;
use crate::{Delivered, SpiffeId, certificate, delivered};

/// Certificates of an answer: a leaf, as many intermediates as are ever let pass (`verify.rs`), and a root.
const CHAIN_MAX: usize = 12;

/// Which key is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RequestKey {
    /// Every TLS stack has it, and of what they all have its signatures are the cheapest.
    #[default]
    P256,
    /// Where a rule demands it.
    P384,
}

/// A key and the request for a certificate to it. `Debug` leaves the key out.
pub struct PendingSvid {
    key: KeyPair,
    request_pem: String,
}

impl PendingSvid {
    /// Makes a key and a request that names this workload.
    ///
    /// # Errors
    /// There are no random numbers to be had.
    pub fn new(id: &SpiffeId, key: RequestKey) -> Result<Self, CaError> {
        let algorithm = match key {
            RequestKey::P256 => &PKCS_ECDSA_P256_SHA256,
            RequestKey::P384 => &PKCS_ECDSA_P384_SHA384,
        };
        let key = KeyPair::generate_for(algorithm)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
        let request_pem = params.serialize_request(&key)?.pem()?;
        Ok(Self { key, request_pem })
    }

    /// The request (PKCS #10), PEM.
    pub fn request_pem(&self) -> &str {
        &self.request_pem
    }

    /// What an authority answered: certificates in PEM, the leaf first, one or several in a text. A root at the end is left out: peers have it,
    /// and whom *we* believe is not for the answer to say. Whether it is any good is judged when it is taken into use.
    ///
    /// # Errors
    /// It is no certificates, or more than any chain has.
    pub fn answered<'a>(self, chain: impl IntoIterator<Item = &'a str>) -> Result<Delivered, String> {
        let mut certificates = Vec::new();
        for text in chain {
            for der in CertificateDer::pem_slice_iter(text.as_bytes()) {
                certificates.push(der.map_err(|error| format!("it is not certificates: {error}"))?);
            }
        }
        if certificates.is_empty() {
            return Err("there is no certificate in it".to_owned());
        }
        if certificates.len() > CHAIN_MAX {
            return Err(format!("there are {} certificates in it, at most {CHAIN_MAX} are taken", certificates.len()));
        }
        if certificates.len() > 1 && certificates.last().is_some_and(is_root) {
            certificates.pop();
        }
        let pem = certificates.iter().map(|der| delivered::section("CERTIFICATE", der)).collect();
        Ok(Delivered::without_bundle(pem, self.key.serialize_pem()))
    }
}

impl fmt::Debug for PendingSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingSvid").field("request_pem", &self.request_pem).finish_non_exhaustive()
    }
}

fn is_root(der: &CertificateDer<'static>) -> bool {
    certificate::parse(der).is_ok_and(|parsed| parsed.subject().as_raw() == parsed.issuer().as_raw())
}
