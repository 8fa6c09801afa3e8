//! What the certificate authority refuses.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::certificate::rfc3339;
use crate::{IdentityError, SpiffeId, TrustDomain};

/// Why an authority was not made or opened, or a certificate not issued, written or shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A file cannot be read, or is not the PEM it must be.
    #[error(transparent)]
    File(#[from] IdentityError),
    /// A file cannot be written.
    #[error("{}: cannot be written: {source}", file.display())]
    Write {
        /// Which one.
        file: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file is there already. It stays, and what was to go with it is not made.
    #[error("{}: it exists, and is not overwritten", file.display())]
    Exists {
        /// Which one.
        file: PathBuf,
    },
    /// A file of that name is an authority's own, or a key where a certificate is to be written, or the other way round. It stays, whatever was
    /// said.
    #[error("{}: that is the name of another file of the folder's, which is not overwritten", file.display())]
    Taken {
        /// Which one.
        file: PathBuf,
    },
    /// Another command has been changing the directory for as long as this one waits.
    #[error("{}: another command is at work in it, and does not come to its end", dir.display())]
    Busy {
        /// Which one.
        dir: PathBuf,
    },
    /// The name for files is not one.
    #[error("{name:?} cannot be used in a file name")]
    FileName {
        /// What was given.
        name: String,
    },
    /// The certificate is not that of an authority which can issue here.
    #[error("{}: it is not an authority's certificate: {reason}", file.display())]
    NotAuthority {
        /// Which file.
        file: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The authority's key is of a kind that cannot be used.
    #[error("{}: the private key cannot be used: {source}", file.display())]
    Key {
        /// Which file.
        file: PathBuf,
        /// What the library says.
        source: rcgen::Error,
    },
    /// The authority's certificate is not valid at this time, so nothing it signs would be.
    #[error("{}: the authority is valid from {} to {}, not now", file.display(), rfc3339(*not_before), rfc3339(*not_after))]
    NotValidNow {
        /// Which file.
        file: PathBuf,
        /// The authority's start.
        not_before: SystemTime,
        /// The authority's end.
        not_after: SystemTime,
    },
    /// The ID belongs to another trust domain; a certificate for it would be refused everywhere.
    #[error("{id} is not of this authority's trust domain, {trust_domain}")]
    OtherTrustDomain {
        /// What was asked for.
        id: SpiffeId,
        /// The authority's.
        trust_domain: TrustDomain,
    },
    /// The ID is the trust domain's own.
    #[error("{id} has no path: it is a trust domain's ID, not a workload's")]
    NoPath {
        /// What was asked for.
        id: SpiffeId,
    },
    /// Not a DNS name.
    #[error("{name:?} is not a DNS name")]
    DnsName {
        /// What was given.
        name: String,
    },
    /// Not a common name.
    #[error("the common name {name:?} is not 1 to {limit} printable characters")]
    CommonName {
        /// What was given.
        name: String,
        /// In characters.
        limit: usize,
    },
    /// Something to be revoked, or the last list, is by somebody else.
    #[error("{}: it was not issued by this authority", file.display())]
    NotOurs {
        /// Which file.
        file: PathBuf,
    },
    /// The authority's own certificate is to be revoked.
    #[error("{}: it is the authority itself, and no list of its own takes it back", file.display())]
    Itself {
        /// Which file.
        file: PathBuf,
    },
    /// Not a serial number.
    #[error("{text:?} is not a serial number in hexadecimal, of up to 20 bytes")]
    Serial {
        /// What was given.
        text: String,
    },
    /// Less than a second, or past the year 9999.
    #[error("a certificate cannot be valid for {validity:?}")]
    Validity {
        /// What was given.
        validity: Duration,
    },
    /// The operating system has no randomness.
    #[error("there are no random numbers to be had")]
    Random,
    /// The certificate library refused.
    #[error("the certificate cannot be made: {0}")]
    Generate(#[from] rcgen::Error),
}
