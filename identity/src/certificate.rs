//! Reading of X.509 certificates that several modules need: parsing without a remainder, times, hexadecimal, digests.
//!
//! What this does not do: judge. `leaf.rs` and `bundle.rs` do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls_pki_types::{SignatureVerificationAlgorithm, UnixTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_BASIC_CONSTRAINTS;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Bits of the shortest RSA key accepted anywhere; rustls-webpki verifies no signature made by a shorter one.
pub(crate) const MIN_RSA_BITS: usize = 2048;

/// Parses one certificate and nothing after it.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(format!("{} bytes follow it", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

/// The `cA` flag; false when there is no basic constraints extension, an error when it cannot be read.
///
/// Not x509-parser's `basic_constraints()`, which takes an extension it cannot read for an absent one.
pub(crate) fn is_ca(certificate: &X509Certificate<'_>) -> Result<bool, String> {
    match certificate.get_extension_unique(&OID_X509_EXT_BASIC_CONSTRAINTS) {
        Ok(None) => Ok(false),
        Ok(Some(extension)) => match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) => Ok(constraints.ca),
            _ => Err("the basic constraints cannot be read".to_owned()),
        },
        Err(error) => Err(format!("basic constraints: {error}")),
    }
}

/// Whether the key may sign certificates. RFC 5280, 6.1.4 (n): only a key usage that is there can forbid it.
pub(crate) fn may_sign_certificates(certificate: &X509Certificate<'_>) -> bool {
    match certificate.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    }
}

/// All URI names, in the order they stand in.
pub(crate) fn uri_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, String> {
    let names = certificate.subject_alternative_name().map_err(|error| format!("subject alternative name: {error}"))?;
    let mut uris = Vec::new();
    for name in names.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            // What cannot be read may be a second URI.
            GeneralName::Invalid(..) => return Err("a subject alternative name cannot be read".to_owned()),
            _ => {}
        }
    }
    Ok(uris)
}

/// The size of the key when it is an RSA key under [`MIN_RSA_BITS`].
pub(crate) fn weak_rsa_bits(key: &SubjectPublicKeyInfo<'_>) -> Option<usize> {
    match key.parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()).filter(|bits| *bits < MIN_RSA_BITS),
        _ => None,
    }
}

/// Whether the certificate's key made `signature` over `message` (in this order), by whichever algorithm. Tells keys apart; does not
/// say that the algorithm is the one that was to be used.
pub(crate) fn is_signature_of(
    certificate: &X509Certificate<'_>,
    (message, signature): (&[u8], &[u8]),
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> bool {
    is_signature_by(certificate.public_key(), (message, signature), algorithms)
}

/// The same for a key without a certificate.
pub(crate) fn is_signature_by(
    key: &SubjectPublicKeyInfo<'_>,
    (message, signature): (&[u8], &[u8]),
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> bool {
    let key = key.subject_public_key.data.as_ref();
    algorithms.iter().any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
}

/// A time as webpki has it; what was before 1970 becomes that.
pub(crate) fn unix_time(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The start and the end of the validity, both included (RFC 5280, 4.1.2.5).
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let validity = certificate.validity();
    (system_time(validity.not_before), system_time(validity.not_after))
}

/// The serial number as lower-case hexadecimal, as `openssl x509 -serial` prints it but for the case.
pub(crate) fn serial(certificate: &X509Certificate<'_>) -> String {
    hex(certificate.raw_serial())
}

/// Lower-case hexadecimal without separators.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// SHA-256 in hexadecimal, by the TLS provider's own hash: no other cryptographic crate is needed for it.
pub(crate) fn sha256(data: &[u8]) -> String {
    match TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls13(suite) => hex(suite.common.hash_provider.hash(data).as_ref()),
        SupportedCipherSuite::Tls12(suite) => hex(suite.common.hash_provider.hash(data).as_ref()),
    }
}

/// The time as RFC 3339 in UTC, to the second.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let seconds = match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    };
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} s since 1970"))
}

/// ASN.1 times run from the year 0 to 9999 and Linux's `SystemTime` holds all of them.
pub(crate) fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Signer;

    #[test]
    fn writes_hexadecimal() {
        assert_eq!(hex(&[0x00, 0x0f, 0xa5, 0xff]), "000fa5ff");
    }

    #[test]
    fn hashes_as_the_standard_says() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn writes_times_before_and_after_1970() {
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(86_400)), "1970-01-02T00:00:00Z");
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1969-12-31T23:59:59Z");
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(1 << 60)), "1152921504606846976 s since 1970");
    }

    #[test]
    fn refuses_what_is_no_certificate() {
        assert!(parse(b"").is_err());
        assert!(parse(&[0x30, 0x03, 0x02, 0x01, 0x00]).is_err());
        let mut certificate = Signer::root("root").der.to_vec();
        assert!(parse(&certificate).is_ok());
        certificate.push(0);
        assert_eq!(parse(&certificate).unwrap_err(), "1 bytes follow it");
    }
}
