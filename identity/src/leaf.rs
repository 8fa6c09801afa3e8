//! What a workload's certificate must be, whoever signed it.
//!
//! The one idea: one function for our own certificate and for a peer's, so that we never present what we would refuse.
//! The rules are those of the [X.509-SVID standard](https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md),
//! sections 3 to 5. The chain is verified elsewhere (`verify.rs`), and so is the validity in time.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

use crate::certificate::{self, MIN_RSA_BITS};
use crate::{PeerIdentityError, SpiffeId};

/// The SPIFFE ID of a workload's certificate.
///
/// # Errors
/// When the certificate has not exactly one URI name, the name is not a workload's SPIFFE ID, the certificate is a
/// certificate authority's, its key usage is missing, not critical, without `digitalSignature` or with `keyCertSign` or
/// `cRLSign`, its extended key usage is there without both `serverAuth` and `clientAuth`, or its RSA key is under 2,048
/// bits.
pub fn peer_identity(leaf: &CertificateDer<'_>) -> Result<SpiffeId, PeerIdentityError> {
    identity(&certificate::parse(leaf).map_err(PeerIdentityError::Malformed)?)
}

/// The same for a certificate that is parsed already.
pub(crate) fn identity(leaf: &X509Certificate<'_>) -> Result<SpiffeId, PeerIdentityError> {
    if certificate::is_ca(leaf).map_err(PeerIdentityError::Malformed)? {
        return Err(PeerIdentityError::CertificateAuthority);
    }
    check_key_usage(leaf)?;
    check_extended_key_usage(leaf)?;
    if let Some(bits) = certificate::weak_rsa_bits(leaf.public_key()) {
        return Err(PeerIdentityError::WeakKey { bits, minimum: MIN_RSA_BITS });
    }
    let id = match certificate::uri_names(leaf).map_err(PeerIdentityError::Malformed)?.as_slice() {
        [uri] => uri.parse::<SpiffeId>()?,
        uris => return Err(PeerIdentityError::UriCount { found: uris.len() }),
    };
    if id.path().is_empty() {
        return Err(PeerIdentityError::NoPath(id));
    }
    Ok(id)
}

fn check_key_usage(leaf: &X509Certificate<'_>) -> Result<(), PeerIdentityError> {
    let malformed = |error| PeerIdentityError::Malformed(format!("key usage: {error}"));
    let usage = leaf.key_usage().map_err(malformed)?.ok_or(PeerIdentityError::NoKeyUsage)?;
    if !usage.critical {
        return Err(PeerIdentityError::KeyUsageNotCritical);
    }
    if !usage.value.digital_signature() {
        return Err(PeerIdentityError::NoDigitalSignature);
    }
    if usage.value.key_cert_sign() {
        return Err(PeerIdentityError::MaySign { usage: "keyCertSign" });
    }
    if usage.value.crl_sign() {
        return Err(PeerIdentityError::MaySign { usage: "cRLSign" });
    }
    Ok(())
}

fn check_extended_key_usage(leaf: &X509Certificate<'_>) -> Result<(), PeerIdentityError> {
    let malformed = |error| PeerIdentityError::Malformed(format!("extended key usage: {error}"));
    let Some(usage) = leaf.extended_key_usage().map_err(malformed)? else { return Ok(()) };
    if !usage.value.server_auth {
        return Err(PeerIdentityError::ExtendedKeyUsage { missing: "serverAuth" });
    }
    if !usage.value.client_auth {
        return Err(PeerIdentityError::ExtendedKeyUsage { missing: "clientAuth" });
    }
    Ok(())
}
