//! What can be wrong with our own identity (the file is in every variant) and with a peer's.
//!
//! What does not belong here: a text that is no SPIFFE ID (`spiffe.rs`) and what the certificate authority refuses (`ca/`).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls_pki_types::pem;

use crate::certificate::rfc3339;
use crate::{Expected, SpiffeId, SpiffeIdError, TrustDomain};

/// Why a set of identity files was not taken into use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file could not be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// Which one.
        file: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file is larger than any certificate or key file is.
    #[error("{}: it is over {limit} bytes", file.display())]
    TooLarge {
        /// Which one.
        file: PathBuf,
        /// In bytes.
        limit: u64,
    },
    /// A file is not PEM, or was cut in the middle of a section.
    #[error("{}: it is not PEM: {}", file.display(), words_of(source))]
    Pem {
        /// Which one.
        file: PathBuf,
        /// What the PEM reader met.
        source: pem::Error,
    },
    /// A file that must hold certificates holds none.
    #[error("{}: there is no certificate in it", file.display())]
    NoCertificate {
        /// Which one.
        file: PathBuf,
    },
    /// A PEM section is a CERTIFICATE in name only.
    #[error("{}: certificate {position} cannot be parsed: {reason}", file.display())]
    Malformed {
        /// Which file.
        file: PathBuf,
        /// Counted from 1.
        position: usize,
        /// What the parser says.
        reason: String,
    },
    /// The key file holds no private key, or more than one.
    #[error("{}: {found} unencrypted private keys are in it, exactly one is wanted", file.display())]
    KeyCount {
        /// Which one.
        file: PathBuf,
        /// How many there are.
        found: usize,
    },
    /// The private key is of a kind that cannot be used.
    #[error("{}: the private key cannot be used: {reason}", file.display())]
    UnusableKey {
        /// Which one.
        file: PathBuf,
        /// What the cryptographic provider says.
        reason: String,
    },
    /// The key does not belong to the certificate; seen for a moment when the two files are not replaced together.
    #[error("{}: it is not the key of the certificate in {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
    /// The first certificate of the file is not an X.509-SVID.
    #[error("{}: the first certificate is not an X.509-SVID: {source}", file.display())]
    NotSvid {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        source: PeerIdentityError,
    },
    /// The certificate is of the future.
    #[error("{}: the certificate is not valid before {}", file.display(), rfc3339(*not_before))]
    NotYetValid {
        /// Which file.
        file: PathBuf,
        /// When it will be.
        not_before: SystemTime,
    },
    /// The certificate has expired.
    #[error("{}: the certificate expired at {}", file.display(), rfc3339(*not_after))]
    Expired {
        /// Which file.
        file: PathBuf,
        /// When it did.
        not_after: SystemTime,
    },
    /// The certificate is somebody else's.
    #[error("{}: the certificate is for {found}, this workload is {configured}", file.display())]
    WrongWorkload {
        /// Which file.
        file: PathBuf,
        /// The certificate's.
        found: SpiffeId,
        /// The configured one.
        configured: SpiffeId,
    },
    /// The certificate does not chain to a root of our own trust bundle: no peer with the same bundle would accept it.
    #[error("{}: the certificate is not trusted by {}: {source}", file.display(), bundle.display())]
    Untrusted {
        /// The certificate file.
        file: PathBuf,
        /// The trust bundle of the same trust domain.
        bundle: PathBuf,
        /// Which check failed.
        source: Box<PeerError>,
    },
    /// A certificate of a trust bundle is not one that may sign others.
    #[error("{}: the certificate of {subject:?} cannot be a root: {reason}", file.display())]
    NotRoot {
        /// The trust bundle.
        file: PathBuf,
        /// The certificate's subject, as text.
        subject: String,
        /// What it lacks.
        reason: String,
    },
    /// A file that must hold revocation lists holds none. An authority that has revoked nothing says so in a list.
    #[error("{}: there is no revocation list in it", file.display())]
    NoRevocationList {
        /// Which one.
        file: PathBuf,
    },
    /// A revocation list cannot be parsed, or is of a kind that is not understood (a delta list, an indirect one).
    #[error("{}: revocation list {position} cannot be used: {reason}", file.display())]
    RevocationList {
        /// Which file.
        file: PathBuf,
        /// Counted from 1.
        position: usize,
        /// What the parser says.
        reason: String,
    },
    /// A revocation list names the key of a root, and that key has not signed it or may not sign lists.
    #[error("{}: the revocation list of {issuer:?} is not signed by the root that it names", file.display())]
    RevocationListOrigin {
        /// Which file.
        file: PathBuf,
        /// Its issuer, as text.
        issuer: String,
    },
    /// The own trust domain is also listed as a federated one; which bundle is meant is not guessed.
    #[error("{}: trust domain {trust_domain} is our own, it cannot be federated too", file.display())]
    FederatedWithSelf {
        /// The federated bundle.
        file: PathBuf,
        /// The trust domain named twice.
        trust_domain: TrustDomain,
    },
    /// The TLS library refused what was made of the files.
    #[error("{}: no TLS configuration can be made of it: {source}", file.display())]
    Tls {
        /// The certificate file.
        file: PathBuf,
        /// The library's reason.
        source: rustls::Error,
    },
}

/// Why a certificate does not identify a workload. None of this depends on who signed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerIdentityError {
    /// It is not an X.509 certificate, or an extension that decides here cannot be read.
    #[error("it cannot be parsed: {0}")]
    Malformed(String),
    /// A certificate authority's certificate never authenticates a workload.
    #[error("it is the certificate of a certificate authority")]
    CertificateAuthority,
    /// The key usage extension is missing.
    #[error("it has no key usage")]
    NoKeyUsage,
    /// The key usage extension is not marked critical.
    #[error("its key usage is not critical")]
    KeyUsageNotCritical,
    /// The key is not for digital signatures, which a TLS handshake is.
    #[error("its key usage has no digitalSignature")]
    NoDigitalSignature,
    /// The key may sign certificates or revocation lists.
    #[error("its key usage has {usage}")]
    MaySign {
        /// `keyCertSign` or `cRLSign`.
        usage: &'static str,
    },
    /// The extended key usage is there and lacks one of the two that an SVID must have.
    #[error("its extended key usage has no {missing}")]
    ExtendedKeyUsage {
        /// `serverAuth` or `clientAuth`.
        missing: &'static str,
    },
    /// The key is too short.
    #[error("its RSA key has {bits} bits, at least {minimum} are wanted")]
    WeakKey {
        /// The key's.
        bits: usize,
        /// The least that is accepted.
        minimum: usize,
    },
    /// Exactly one URI is wanted; there is none, or there are several.
    #[error("it has {found} URI names, exactly one is wanted")]
    UriCount {
        /// How many there are.
        found: usize,
    },
    /// The URI is not a SPIFFE ID.
    #[error("its URI name is not a SPIFFE ID: {0}")]
    NotSpiffe(#[from] SpiffeIdError),
    /// The SPIFFE ID is a trust domain's own; a workload's has a path.
    #[error("its SPIFFE ID {0} has no path: it is a trust domain's, not a workload's")]
    NoPath(SpiffeId),
}

/// Why a peer was refused in the handshake. Travels inside [`rustls::Error`]; [`PeerError::of`] takes it out again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The certificate does not identify a workload.
    #[error("the peer's certificate is not an X.509-SVID: {0}")]
    Identity(#[from] PeerIdentityError),
    /// There is no trust bundle for the domain the peer claims.
    #[error("the peer claims to be {peer}, of a trust domain without a trust bundle here")]
    UnknownTrustDomain {
        /// What it claims; not verified.
        peer: SpiffeId,
    },
    /// Every root of the domain the peer claims has expired or is of the future.
    #[error("the peer claims to be {peer}, no root of its trust domain is valid at this time")]
    NoValidRoot {
        /// What it claims; not verified.
        peer: SpiffeId,
    },
    /// More intermediate certificates than any real chain has.
    #[error("the peer claims to be {peer} and sent {sent} intermediate certificates, at most {limit} are looked at")]
    TooManyIntermediates {
        /// What it claims; not verified.
        peer: SpiffeId,
        /// How many came.
        sent: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// The endpoint is in a cluster whose roots vouch for another trust domain.
    #[error("the server claims to be {peer}, the roots of {cluster} vouch for {trust_domain} only")]
    NotOfCluster {
        /// What it claims; not verified.
        peer: SpiffeId,
        /// The cluster that the endpoint is in.
        cluster: Arc<str>,
        /// The trust domain of that cluster's workloads.
        trust_domain: TrustDomain,
    },
    /// No valid chain leads from the certificate to a root that was asked: of the trust domain it claims, or of one cluster.
    #[error("the peer claims to be {peer}, its certificate chain is not valid: {}", chain_fault(source, cluster.as_deref()))]
    Chain {
        /// What it claims; not verified.
        peer: SpiffeId,
        /// Whose own roots were asked; `None` = those of the trust domain.
        cluster: Option<Arc<str>>,
        /// Which check failed.
        source: webpki::Error,
    },
    /// A certificate in the middle of the chain may not sign certificates.
    #[error("the peer claims to be {peer}, an intermediate certificate of its chain has no keyCertSign")]
    IntermediateMayNotSign {
        /// What it claims; not verified.
        peer: SpiffeId,
    },
    /// The server is a workload of the mesh, but not the one that was meant to answer.
    #[error("the server is {found}, expected was {expected}")]
    UnexpectedServer {
        /// Whom the connection was for.
        expected: Box<Expected>,
        /// Who answered; verified.
        found: SpiffeId,
    },
}

impl PeerError {
    /// Whether a certificate of the peer's chain has been revoked.
    pub fn is_revoked(&self) -> bool {
        matches!(self, PeerError::Chain { source: webpki::Error::CertRevoked, .. })
    }

    /// The reason inside a failed handshake's error, when one of our verifiers gave it.
    pub fn of(error: &rustls::Error) -> Option<&PeerError> {
        match error {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => other.0.downcast_ref(),
            _ => None,
        }
    }

    /// A stable word for the check that failed, for a metric's label.
    pub fn check(&self) -> &'static str {
        match self {
            PeerError::Identity(_) => "identity",
            PeerError::UnknownTrustDomain { .. } | PeerError::NoValidRoot { .. } | PeerError::NotOfCluster { .. } => {
                "trust_domain"
            }
            PeerError::Chain { source: webpki::Error::CertRevoked, .. } => "revoked",
            PeerError::TooManyIntermediates { .. }
            | PeerError::Chain { .. }
            | PeerError::IntermediateMayNotSign { .. } => "chain",
            PeerError::UnexpectedServer { .. } => "server_identity",
        }
    }
}

impl From<PeerError> for rustls::Error {
    /// One form for every reason: the peer gets the alert `certificate_unknown` and learns nothing from it, the log
    /// gets everything.
    fn from(error: PeerError) -> Self {
        rustls::CertificateError::Other(rustls::OtherError(Arc::new(error))).into()
    }
}

/// A webpki error in words; the crate's own text is the variant's name.
fn chain_fault(error: &webpki::Error, cluster: Option<&str>) -> String {
    match error {
        webpki::Error::CertExpired { .. } => "a certificate of it has expired".to_owned(),
        webpki::Error::CertNotValidYet { .. } => "a certificate of it is not valid yet".to_owned(),
        webpki::Error::UnknownIssuer => match cluster {
            Some(cluster) => format!("it does not lead to a root of {cluster}"),
            None => "it does not lead to a root of that trust domain".to_owned(),
        },
        webpki::Error::CertRevoked => "a certificate of it has been revoked".to_owned(),
        webpki::Error::CrlExpired { .. } => "the revocation list of an issuer of it has expired".to_owned(),
        webpki::Error::UnknownRevocationStatus => "an issuer of it has no revocation list here".to_owned(),
        webpki::Error::RequiredEkuNotFoundContext(_) => "its extended key usage is not that of a workload".to_owned(),
        other => format!("{other:?}"),
    }
}

/// What the PEM reader met; it shows names of sections as lists of bytes.
fn words_of(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("the line -----END {}----- is missing, is it cut?", String::from_utf8_lossy(end_marker))
        }
        // The line itself may be of a key.
        pem::Error::IllegalSectionStart { .. } => "a line -----BEGIN is not whole".to_owned(),
        error => error.to_string(),
    }
}
