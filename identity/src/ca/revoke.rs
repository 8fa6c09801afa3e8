//! Revocation lists of an authority.
//!
//! The one idea: the list is the record. There is no other, so a new one takes over what is in the last one, and whoever loses it
//! has revoked nothing. It replaces the last one in one step.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use time::OffsetDateTime;

use super::lock::Lock;
use super::{Authority, BACKDATE, CERTIFICATE_FILE, CaError, output};
use crate::certificate;
use crate::crl::{self, RevocationList};
use crate::files::Contents;
use crate::{IdentityError, tls};

/// The authority's revocation list, in its directory.
pub const REVOCATION_LIST_FILE: &str = "ca-crl.pem";

/// A month: a list that has ended refuses everybody whom the authority has issued to, and someone has to make the next one by hand.
pub const DEFAULT_LIST_VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);

/// A list that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenList {
    /// Where it is.
    pub file: PathBuf,
    /// How many certificates are on it.
    pub revoked: usize,
    /// When the next one has to be there.
    pub next_update: SystemTime,
}

impl Authority {
    /// Writes the next revocation list into the authority's directory: what is on the last one, the first certificate of each of these
    /// files, and these serial numbers, in hexadecimal as a journal has them. Whether a number was ever given out nobody checks.
    ///
    /// # Errors
    /// When a number is none, a certificate or the last list cannot be read or is not by this authority, or the list cannot be made or written; the last
    /// one stays then.
    pub fn revoke(
        &self,
        dir: &Path,
        certificates: &[PathBuf],
        serials: &[String],
        validity: Duration,
    ) -> Result<WrittenList, CaError> {
        let file = dir.join(REVOCATION_LIST_FILE);
        let _alone = Lock::of(dir)?;
        let root = Contents::read(&dir.join(CERTIFICATE_FILE))?;
        let (mut revoked, number) = if file.exists() { last(&file, &root)? } else { (Vec::new(), 0) };
        let now = OffsetDateTime::now_utc();
        let shown = certificates.iter().map(|certificate| serial(certificate, &root));
        for serial_number in shown.chain(serials.iter().map(|text| numbered(text))) {
            let serial_number = serial_number?;
            if !revoked.iter().any(|known| known.serial_number == serial_number) {
                revoked.push(RevokedCertParams {
                    serial_number,
                    revocation_time: now,
                    reason_code: None,
                    invalidity_date: None,
                });
            }
        }
        let lasting = time::Duration::try_from(validity).ok().filter(|validity| validity.whole_seconds() > 0);
        let next_update = lasting.and_then(|lasting| now.checked_add(lasting)).ok_or(CaError::Validity { validity })?;
        let params = CertificateRevocationListParams {
            this_update: now - BACKDATE,
            next_update,
            crl_number: SerialNumber::from(number + 1),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        output::replace(&file, &params.signed_by(&self.issuer)?.pem()?)?;
        Ok(WrittenList { file, revoked: params.revoked_certs.len(), next_update: next_update.into() })
    }
}

/// What the last list says, and its number.
fn last(file: &Path, root: &Contents) -> Result<(Vec<RevokedCertParams>, u64), CaError> {
    let contents = Contents::read(file)?;
    let lists = contents.revocation_lists()?;
    let not_ours = || CaError::NotOurs { file: file.to_owned() };
    let [list] = lists.as_slice() else { return Err(not_ours()) };
    let certificates = root.certificates()?;
    let parsed = certificates.first().and_then(|der| certificate::parse(der).ok()).ok_or_else(not_ours)?;
    if !crl::is_signed_by(list, &parsed, tls::provider().signature_verification_algorithms.all) {
        return Err(not_ours());
    }
    let list = crl::parse(list).map_err(|_| not_ours())?;
    let time = |at: i64| OffsetDateTime::from_unix_timestamp(at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let revoked = list.iter_revoked_certificates().map(|one| RevokedCertParams {
        serial_number: SerialNumber::from_slice(one.raw_serial()),
        revocation_time: time(one.revocation_date.timestamp()),
        reason_code: None,
        invalidity_date: None,
    });
    let number = list.crl_number().and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
    Ok((revoked.collect(), number))
}

/// The serial number of a certificate that this authority has issued.
fn serial(file: &Path, root: &Contents) -> Result<SerialNumber, CaError> {
    let contents = Contents::read(file)?;
    let (certificates, roots) = (contents.certificates()?, root.certificates()?);
    let not_ours = || CaError::NotOurs { file: file.to_owned() };
    let parsed = certificates.first().ok_or_else(|| IdentityError::NoCertificate { file: file.to_owned() })?;
    if roots.first() == Some(parsed) {
        return Err(CaError::Itself { file: file.to_owned() });
    }
    let parsed = certificate::parse(parsed).map_err(|reason| contents.malformed(1, reason))?;
    let authority = roots.first().and_then(|der| certificate::parse(der).ok()).ok_or_else(not_ours)?;
    let signed = (parsed.tbs_certificate.as_ref(), parsed.signature_value.data.as_ref());
    let algorithms = tls::provider().signature_verification_algorithms.all;
    if !certificate::is_signature_of(&authority, signed, algorithms) {
        return Err(not_ours());
    }
    Ok(SerialNumber::from_slice(parsed.raw_serial()))
}

/// A serial number as text, with or without colons (RFC 5280, 4.1.2.2: up to 20 bytes).
fn numbered(text: &str) -> Result<SerialNumber, CaError> {
    let wrong = || CaError::Serial { text: text.to_owned() };
    let digits: String = text.chars().filter(|digit| *digit != ':').collect();
    let is_number = digits.chars().all(|digit| digit.is_ascii_hexdigit()) && (1..=40).contains(&digits.len());
    let padded = if digits.len().is_multiple_of(2) { digits } else { format!("0{digits}") };
    let pairs = (0..padded.len()).step_by(2).map(|at| padded.get(at..at + 2).unwrap_or_default());
    let bytes: Result<Vec<u8>, _> = pairs.map(|pair| u8::from_str_radix(pair, 16)).collect();
    match bytes {
        Ok(bytes) if is_number => Ok(SerialNumber::from_slice(&bytes)),
        _ => Err(wrong()),
    }
}

/// Describes every revocation list in a PEM file, in order; none where there is none.
///
/// # Errors
/// When the file cannot be read, is not PEM, or holds a list that cannot be used.
pub fn show_lists(file: &Path) -> Result<Vec<RevocationList>, CaError> {
    Ok(RevocationList::listed_in(&Contents::read(file)?)?)
}
