//! A small certificate authority for one trust domain: the library behind `meshgate ca`.
//!
//! The one idea: what it issues is exactly what the rest of this crate accepts, and nothing it writes is ever readable by
//! others before it should be, or written over something that is there. The key of the authority lies in a file: this is
//! for development, for small meshes and for tests. It keeps no record of what it issued (`meshgate ca serve` does, in its journal); what it
//! revoked is in its revocation list.
//!
//! Keys are P-256: every TLS stack has it, and of what they all have its signatures are the cheapest.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::DnsName;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use self::lock::Lock;
use crate::files::Contents;
use crate::{SpiffeId, TrustDomain, certificate, delivered, tls};

mod error;
mod lock;
mod output;
mod request;
mod revoke;
mod roots;
mod serving;
mod show;
mod verify;

pub use error::CaError;
pub use output::{Existing, SvidFiles, write_svid, write_svid_over};
pub use request::{RequestError, Signed, SigningRequest};
pub use revoke::{DEFAULT_LIST_VALIDITY, REVOCATION_LIST_FILE, WrittenList, show_lists};
pub use roots::write_bundle;
pub use show::{CertificateSummary, describe, show};
pub use verify::verify;

/// The authority's certificate, in its directory; also the trust bundle to give to workloads.
pub const CERTIFICATE_FILE: &str = "ca.pem";
/// The authority's private key, in its directory.
pub const KEY_FILE: &str = "ca-key.pem";

/// Ten years, as Istio's own root has. Whoever holds the key file is not stopped by a date; a root that ends unnoticed
/// stops every workload of the mesh at once. A root is retired by taking it out of the trust bundles.
pub const DEFAULT_ROOT_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A day: a stolen key is good until its certificate ends, or somebody has noticed and revoked it.
pub const DEFAULT_LEAF_VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// How far certificates start in the past, for peers whose clocks are behind ours.
const BACKDATE: time::Duration = time::Duration::minutes(1);

/// Characters of a common name; the upper bound of X.520, which some readers insist on.
const MAX_COMMON_NAME: usize = 64;

/// What a new authority is to be.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The trust domain it signs for.
    pub trust_domain: TrustDomain,
    /// For people who look at the certificate; it has no other meaning.
    pub common_name: String,
    /// From now on; at least a second.
    pub validity: Duration,
}

impl InitOptions {
    /// The defaults for a trust domain.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, common_name: "meshgate root CA".to_owned(), validity: DEFAULT_ROOT_VALIDITY }
    }
}

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct IssueOptions {
    /// Whose it is.
    pub id: SpiffeId,
    /// From now on; never beyond the authority's own end.
    pub validity: Duration,
    /// DNS names, for clients outside of the mesh; the mesh does not look at them.
    pub dns_names: Vec<String>,
}

impl IssueOptions {
    /// The defaults for a workload.
    pub fn new(id: SpiffeId) -> Self {
        Self { id, validity: DEFAULT_LEAF_VALIDITY, dns_names: Vec::new() }
    }
}

/// A certificate and its key, not yet written anywhere. `Debug` leaves the key out.
#[derive(Clone)]
pub struct Issued {
    /// PEM: the leaf. The root is not part of it: peers have it in their trust bundles.
    pub certificate_pem: String,
    /// PEM, PKCS#8.
    pub key_pem: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// A certificate authority with its key at hand.
pub struct Authority {
    file: PathBuf,
    /// The certificate, PEM.
    pem: String,
    trust_domain: TrustDomain,
    not_before: SystemTime,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

/// Makes a new authority in a directory, which is made too if it is not there.
///
/// The key is written first. An `init` that was interrupted leaves a key without a certificate, which is no authority
/// to [`Authority::open`]; it is in the way of the next `init` until someone removes it, because a key is never
/// overwritten.
///
/// # Errors
/// When one of the two files exists, a file cannot be written, or the options cannot be put into a certificate.
pub fn init(dir: &Path, options: &InitOptions) -> Result<Authority, CaError> {
    init_over(dir, options, Existing::Keep)
}

/// As [`init`], and says what becomes of an authority that is there already. What a replaced one issued is worth nothing where the
/// new root is believed.
///
/// # Errors
/// As [`init`]; with [`Existing::Replace`] a file that exists is none.
pub fn init_over(dir: &Path, options: &InitOptions, existing: Existing) -> Result<Authority, CaError> {
    let length = options.common_name.chars().count();
    if !(1..=MAX_COMMON_NAME).contains(&length) || options.common_name.chars().any(char::is_control) {
        return Err(CaError::CommonName { name: options.common_name.clone(), limit: MAX_COMMON_NAME });
    }
    let mut params = params(options.validity)?;
    params.distinguished_name.push(DnType::CommonName, options.common_name.as_str());
    // The standard wants a signing certificate to carry its trust domain's own ID.
    params.subject_alt_names = vec![uri(&format!("spiffe://{}", options.trust_domain))?];
    // It signs leaves and nothing else.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = false;

    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    std::fs::create_dir_all(dir).map_err(|source| CaError::Write { file: dir.to_owned(), source })?;
    let _alone = Lock::of(dir)?;
    let issued = Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() };
    output::write_pair(&dir.join(CERTIFICATE_FILE), &dir.join(KEY_FILE), &issued, existing)?;
    Authority::open(dir)
}

impl Authority {
    /// Opens the authority that [`init`] made in a directory.
    ///
    /// # Errors
    /// When a file is missing or damaged, the key is not the certificate's, or the certificate is not a root with the
    /// ID of a trust domain.
    pub fn open(dir: &Path) -> Result<Self, CaError> {
        let contents = Contents::read(&dir.join(CERTIFICATE_FILE))?;
        let key = Contents::read(&dir.join(KEY_FILE))?;
        let file = contents.file.clone();
        let not_authority = |reason: String| CaError::NotAuthority { file: file.clone(), reason };

        let certificates = contents.certificates()?;
        let [der] = certificates.as_slice() else {
            return Err(not_authority(format!("there are {} certificates in it, one is wanted", certificates.len())));
        };
        let root = certificate::parse(der).map_err(|reason| contents.malformed(1, reason))?;
        let trust_domain = trust_domain_of(&root).map_err(not_authority)?;

        let key_der = key.private_key()?;
        let unusable = |source| CaError::Key { file: key.file.clone(), source };
        let key_pair = KeyPair::try_from(&key_der).map_err(unusable)?;
        if key_pair.subject_public_key_info() != root.public_key().raw {
            return Err(not_authority(format!("{} is not its key", key.file.display())));
        }
        let (not_before, not_after) = certificate::validity(&root);
        let issuer = Issuer::from_ca_cert_der(der, key_pair)?;
        let pem = delivered::section("CERTIFICATE", der);
        Ok(Self { file, pem, trust_domain, not_before, not_after, issuer })
    }

    /// The file of the key in a directory, if it is one that everybody may read. Its group may: that is how Kubernetes gives a secret to
    /// a process that is not root.
    pub fn exposed_key(dir: &Path) -> Option<PathBuf> {
        const READ_BY_OTHERS: u32 = 0o004;
        let file = dir.join(KEY_FILE);
        let mode = std::fs::metadata(&file).ok()?.permissions().mode();
        (mode & READ_BY_OTHERS != 0).then_some(file)
    }

    /// The trust domain it signs for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Its certificate in PEM: what whoever it issues to believes others by.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The last moment of the authority's certificate, and so of everything it issues.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Makes a key and signs a certificate for it.
    ///
    /// # Errors
    /// When the ID is not a workload's of this authority's trust domain, a DNS name is not one, the validity is less than
    /// a second, or the authority's own certificate is not valid now.
    pub fn issue(&self, options: &IssueOptions) -> Result<Issued, CaError> {
        let params = self.leaf(options)?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// What every workload's certificate says.
    ///
    /// The subject is left empty, which makes the names critical (RFC 5280, 4.1.2.6): nobody can take a common name for
    /// the identity. Istio's certificates are the same.
    fn leaf(&self, options: &IssueOptions) -> Result<CertificateParams, CaError> {
        let now = SystemTime::now();
        if now < self.not_before || now > self.not_after {
            let (file, not_before, not_after) = (self.file.clone(), self.not_before, self.not_after);
            return Err(CaError::NotValidNow { file, not_before, not_after });
        }
        if options.id.trust_domain_str() != self.trust_domain.as_str() {
            let (id, trust_domain) = (options.id.clone(), self.trust_domain.clone());
            return Err(CaError::OtherTrustDomain { id, trust_domain });
        }
        if options.id.path().is_empty() {
            return Err(CaError::NoPath { id: options.id.clone() });
        }
        // More than the authority's own end is not had anyway, and a sum past the year 9999 has no date.
        let left = self.not_after.duration_since(now).unwrap_or_default();
        let mut params = params(options.validity.min(left + Duration::from_secs(1)))?;
        params.not_after = params.not_after.min(OffsetDateTime::from(self.not_after));
        params.subject_alt_names = vec![uri(options.id.as_str())?];
        for name in &options.dns_names {
            let wrong = || CaError::DnsName { name: name.clone() };
            DnsName::try_from(name.as_str()).map_err(|_| wrong())?;
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(|_| wrong())?));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("file", &self.file)
            .field("trust_domain", &self.trust_domain)
            .finish_non_exhaustive()
    }
}

/// What all certificates have in common: an empty subject, a random serial number, and a start a little in the past.
fn params(validity: Duration) -> Result<CertificateParams, CaError> {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = now - BACKDATE;
    params.not_after = time::Duration::try_from(validity)
        .ok()
        .filter(|validity| validity.whole_seconds() > 0)
        .and_then(|validity| now.checked_add(validity))
        .ok_or(CaError::Validity { validity })?;
    params.serial_number = Some(random_serial()?);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 16 bytes, of which 126 bits are random: positive, and always of the same length.
fn random_serial() -> Result<SerialNumber, CaError> {
    let mut serial = [0; 16];
    tls::provider().secure_random.fill(&mut serial).map_err(|_| CaError::Random)?;
    let [first, ..] = &mut serial;
    *first = *first & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&serial))
}

fn uri(text: &str) -> Result<SanType, CaError> {
    Ok(SanType::URI(text.try_into()?))
}

/// The trust domain a root signs for, or why it is not a root that this module works with.
fn trust_domain_of(root: &X509Certificate<'_>) -> Result<TrustDomain, String> {
    if let Some(reason) = crate::bundle::why_not_root(root) {
        return Err(reason);
    }
    if root.subject().as_raw() != root.issuer().as_raw() {
        return Err("it is not a root, another authority issued it".to_owned());
    }
    let uris = certificate::uri_names(root)?;
    let [uri] = uris.as_slice() else {
        return Err(format!("it has {} URI names, the trust domain's ID is wanted", uris.len()));
    };
    match uri.parse::<SpiffeId>() {
        Ok(id) if id.path().is_empty() => Ok(id.trust_domain()),
        Ok(id) => Err(format!("its URI name is {id}, a trust domain's ID has no path")),
        Err(error) => Err(format!("its URI name is not a SPIFFE ID: {error}")),
    }
}

#[cfg(test)]
mod tests;
