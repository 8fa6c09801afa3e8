//! What is in a certificate file, for people and for `--output json`.
//!
//! What this does not do: verify a chain. A problem listed here is one that the certificate has by itself.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, KeyUsage};
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
    let now = SystemTime::now();
    let describe = |(der, position): (&_, usize)| {
        let parsed = certificate::parse(der).map_err(|reason| contents.malformed(position, reason))?;
        Ok(summary(&parsed, certificate::sha256(der), now))
    };
    certificates.iter().map(AsRef::as_ref).zip(1..).map(describe).collect()
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
    /// Several lines, the first without indentation, no line end after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &str, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text.to_owned() };
        match &self.spiffe_id {
            Some(id) => write!(f, "{id}")?,
            None => write!(f, "(no SPIFFE ID)")?,
        }
        let kind = if self.is_ca { "certificate authority" } else { "workload" };
        for (label, value) in [
            ("kind", kind.to_owned()),
            ("subject", or(&self.subject, "(empty)")),
            ("issuer", or(&self.issuer, "(empty)")),
            ("serial", self.serial.clone()),
            ("valid from", rfc3339(self.not_before)),
            ("valid to", rfc3339(self.not_after)),
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
