//! What is in a certificate file, for people and for `--output json`.
//!
//! What this does not do: verify a chain. A problem listed here is one that the certificate has by itself.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, KeyUsage};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

use super::CaError;
use crate::certificate::{self, rfc3339};
use crate::files::Contents;
use crate::{IdentityError, SpiffeId, bundle, leaf};

/// In the order of their bits (RFC 5280, 4.2.1.3).
const KEY_USAGES: [&str; 9] = [
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
];

/// One certificate. Texts hold no control characters, whatever the certificate holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateSummary {
    /// The subject's distinguished name; empty when it has none.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// The only URI name, when it is a SPIFFE ID.
    pub spiffe_id: Option<SpiffeId>,
    /// The DNS names.
    pub dns_names: Vec<String>,
    /// The first moment of its validity.
    pub not_before: SystemTime,
    /// The last moment of its validity.
    pub not_after: SystemTime,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the whole certificate, lower-case hexadecimal.
    pub fingerprint: String,
    /// Whether it is a certificate authority's.
    pub is_ca: bool,
    /// The kind of the key: `P-256`, `P-384`, `RSA 2048`, `Ed25519`, or what is known of another.
    pub public_key: String,
    /// As RFC 5280 names them.
    pub key_usages: Vec<&'static str>,
    /// As RFC 5280 names them, or as an object identifier.
    pub extended_key_usages: Vec<String>,
    /// Why it would be refused: as a root when it is an authority's, as a workload's otherwise, and by the date.
    pub problems: Vec<String>,
}

/// Describes every certificate in a PEM file, in order.
///
/// # Errors
/// When the file cannot be read, is not PEM, holds neither a certificate nor a revocation list, or a certificate that cannot be parsed.
pub fn show(file: &Path) -> Result<Vec<CertificateSummary>, CaError> {
    let contents = Contents::read(file)?;
    let certificates = contents.certificates()?;
    if certificates.is_empty() && contents.revocation_lists()?.is_empty() {
        return Err(IdentityError::NoCertificate { file: file.to_owned() }.into());
    }
    describe(file, &certificates)
}

/// Describes certificates, in order; `from` is where they are from, for errors.
///
/// # Errors
/// When one cannot be parsed.
pub fn describe(from: &Path, certificates: &[CertificateDer<'_>]) -> Result<Vec<CertificateSummary>, CaError> {
    let now = SystemTime::now();
    let one = |(der, position): (&CertificateDer<'_>, usize)| {
        let malformed = |reason| IdentityError::Malformed { file: from.to_owned(), position, reason };
        let parsed = certificate::parse(der).map_err(malformed)?;
        Ok(summary(&parsed, certificate::sha256(der), now))
    };
    certificates.iter().zip(1..).map(one).collect()
}

fn summary(certificate: &X509Certificate<'_>, fingerprint: String, now: SystemTime) -> CertificateSummary {
    let (not_before, not_after) = certificate::validity(certificate);
    let uris = certificate::uri_names(certificate).unwrap_or_default();
    let spiffe_id = if let [uri] = uris.as_slice() { uri.parse().ok() } else { None };
    let is_ca = certificate::is_ca(certificate).unwrap_or(false);

    let mut problems = Vec::new();
    if is_ca {
        problems.extend(bundle::why_not_root(certificate));
    } else if let Err(error) = leaf::identity(certificate) {
        problems.push(error.to_string());
    }
    if now < not_before {
        problems.push(format!("it is not valid before {}", rfc3339(not_before)));
    } else if now > not_after {
        problems.push(format!("it expired at {}", rfc3339(not_after)));
    }

    CertificateSummary {
        subject: name(certificate.subject()),
        issuer: name(certificate.issuer()),
        spiffe_id,
        dns_names: dns_names(certificate),
        not_before,
        not_after,
        serial: certificate::serial(certificate),
        fingerprint,
        is_ca,
        public_key: public_key(certificate),
        key_usages: certificate.key_usage().ok().flatten().map(|usage| key_usages(usage.value)).unwrap_or_default(),
        extended_key_usages: certificate
            .extended_key_usage()
            .ok()
            .flatten()
            .map(|usage| extended_key_usages(usage.value))
            .unwrap_or_default(),
        problems,
    }
}

fn name(name: &X509Name<'_>) -> String {
    printable(&name.to_string())
}

/// Control characters would reach a terminal; they are written as `\u{..}`.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { printable.extend(c.escape_unicode()) } else { printable.push(c) }
    }
    printable
}

fn public_key(certificate: &X509Certificate<'_>) -> String {
    let key = certificate.public_key();
    let parameters = || key.algorithm.parameters.as_ref()?.as_oid().ok();
    match (key.parsed(), key.algorithm.algorithm.to_string().as_str()) {
        (Ok(PublicKey::RSA(rsa)), _) => format!("RSA {}", rsa.key_size()),
        (Ok(PublicKey::EC(_)), _) => match parameters().map(|curve| curve.to_string()).as_deref() {
            Some("1.2.840.10045.3.1.7") => "P-256".to_owned(),
            Some("1.3.132.0.34") => "P-384".to_owned(),
            Some("1.3.132.0.35") => "P-521".to_owned(),
            curve => format!("EC {}", curve.unwrap_or("of no named curve")),
        },
        (_, "1.3.101.112") => "Ed25519".to_owned(),
        (_, other) => other.to_owned(),
    }
}

/// How far away a moment is, in the unit that says enough: `in 23 hours`, `41 days ago`.
fn away(at: SystemTime, now: SystemTime) -> String {
    let units = |time: Duration| {
        let seconds = time.as_secs();
        let (count, unit) = match seconds {
            0..120 => (seconds, "second"),
            120..7_200 => (seconds / 60, "minute"),
            7_200..172_800 => (seconds / 3_600, "hour"),
            _ => (seconds / 86_400, "day"),
        };
        format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
    };
    match (at.duration_since(now), now.duration_since(at)) {
        (Ok(left), _) => format!("in {}", units(left)),
        (_, Ok(past)) => format!("{} ago", units(past)),
        _ => String::new(),
    }
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    names.filter_map(|name| if let GeneralName::DNSName(dns) = name { Some(printable(dns)) } else { None }).collect()
}

fn key_usages(usage: &KeyUsage) -> Vec<&'static str> {
    KEY_USAGES.into_iter().zip(0..).filter(|(_, bit)| usage.flags >> bit & 1 == 1).map(|(name, _)| name).collect()
}

fn extended_key_usages(usage: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let known = [
        (usage.any, "anyExtendedKeyUsage"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let named = known.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned());
    named.chain(usage.other.iter().map(ToString::to_string)).collect()
}

impl fmt::Display for CertificateSummary {
    /// Several lines, the first without indentation, no line end after the last. How long it is still valid is as of now.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &str, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text.to_owned() };
        match &self.spiffe_id {
            Some(id) => write!(f, "{id}")?,
            None => write!(f, "(no SPIFFE ID)")?,
        }
        let now = SystemTime::now();
        let date = |at| format!("{} ({})", rfc3339(at), away(at, now));
        let kind = if self.is_ca { "certificate authority" } else { "workload" };
        for (label, value) in [
            ("kind", kind.to_owned()),
            ("subject", or(&self.subject, "(empty)")),
            ("issuer", or(&self.issuer, "(empty)")),
            ("serial", self.serial.clone()),
            ("valid from", date(self.not_before)),
            ("valid to", date(self.not_after)),
            ("key", self.public_key.clone()),
            ("key usage", or(&self.key_usages.join(", "), "(none)")),
            ("extended", or(&self.extended_key_usages.join(", "), "(none)")),
            ("DNS names", or(&self.dns_names.join(", "), "(none)")),
            ("SHA-256", self.fingerprint.clone()),
        ] {
            write!(f, "\n  {label:<11} {value}")?;
        }
        for problem in &self.problems {
            write!(f, "\n  {:<11} {problem}", "PROBLEM")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_away_is_said_in_the_unit_that_says_enough() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000);
        for (seconds, expected) in
            [(1, "1 second"), (119, "119 seconds"), (7_199, "119 minutes"), (172_799, "47 hours"), (172_800, "2 days")]
        {
            let time = Duration::from_secs(seconds);
            assert_eq!(away(now + time, now), format!("in {expected}"));
            assert_eq!(away(now - time, now), format!("{expected} ago"));
        }
    }
}
