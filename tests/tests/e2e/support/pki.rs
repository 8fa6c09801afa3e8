//! Certificates of any shape, also of shapes that `meshgate ca` refuses to make.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use meshgate::sandbox::Sandbox;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// Who signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate: a trust bundle.
    pub(crate) pem: String,
    key_pem: String,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// The leaf.
    pub(crate) certificate: CertificateDer<'static>,
    /// As [`Credentials::certificate`].
    pub(crate) certificate_pem: String,
    /// Its key.
    pub(crate) key_pem: String,
    /// What it is revoked by.
    pub(crate) serial: u64,
}

impl Authority {
    /// A new root for a trust domain.
    pub(crate) fn new(trust_domain: &str) -> Self {
        let mut params = blank();
        params.distinguished_name.push(DnType::CommonName, format!("root of {trust_domain}"));
        params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let key_pem = key.serialize_pem();
        Self { issuer: Issuer::new(params, key), pem, key_pem }
    }

    /// The sandbox's own.
    pub(crate) fn of(sandbox: &Sandbox) -> Self {
        Self::in_folder(&sandbox.path("ca"))
    }

    /// One that `meshgate ca init` has made.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let read = |file| fs::read_to_string(folder.join(file)).unwrap();
        let (pem, key_pem) = (read("ca.pem"), read("ca-key.pem"));
        let issuer = Issuer::from_ca_cert_pem(&pem, KeyPair::from_pem(&key_pem).unwrap()).unwrap();
        Self { issuer, pem, key_pem }
    }

    /// A correct certificate for a workload.
    pub(crate) fn issue(&self, id: &str) -> Credentials {
        self.issue_with(id, |_| {})
    }

    /// A certificate that is correct but for what `change` does to it.
    pub(crate) fn issue_with(&self, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Credentials {
        let (params, key, serial) = workload(id, change);
        Credentials::new(&params.signed_by(&key, &self.issuer).unwrap(), &key, serial)
    }

    /// A list that revokes certificates from now on, until `end`.
    pub(crate) fn revocation_list(&self, revoked: &[&Credentials], end: SystemTime) -> String {
        let one = |one: &&Credentials| RevokedCertParams {
            serial_number: SerialNumber::from(one.serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: end.into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(one).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// The authority itself, as if it were a workload.
    pub(crate) fn as_credentials(&self) -> Credentials {
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap();
        Credentials { certificate, certificate_pem: self.pem.clone(), key_pem: self.key_pem.clone(), serial: 0 }
    }
}

impl Credentials {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair, serial: u64) -> Self {
        Self {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            serial,
        }
    }

    /// A certificate that is its own issuer.
    pub(crate) fn self_signed(id: &str) -> Self {
        let (params, key, serial) = workload(id, |_| {});
        Self::new(&params.self_signed(&key).unwrap(), &key, serial)
    }

    /// Puts it where a sandbox's pod `name` looks for its identity: each file in one step, the certificate first.
    pub(crate) fn install(&self, sandbox: &Sandbox, name: &str) {
        replace(&sandbox.path(&format!("identities/{name}.pem")), &self.certificate_pem);
        replace(&sandbox.path(&format!("identities/{name}-key.pem")), &self.key_pem);
    }

    /// For a TLS configuration, without a look at whether it is any good.
    pub(crate) fn resolver(&self) -> Arc<SingleCertAndKey> {
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap();
        let key = provider().key_provider.load_private_key(key).unwrap();
        Arc::new(CertifiedKey::new(vec![self.certificate.clone()], key).into())
    }
}

/// The cryptography that the product uses too.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A certificate's URI.
pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// Makes a certificate one of the past.
pub(crate) fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 2);
}

/// Writes a file beside `path` and renames it over it.
pub(crate) fn replace(path: &Path, text: &str) {
    let staged = path.with_extension("staged");
    fs::write(&staged, text).unwrap();
    fs::rename(&staged, path).unwrap();
}

fn workload(id: &str, change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair, u64) {
    static ISSUED: AtomicU64 = AtomicU64::new(1_000);
    let mut params = blank();
    let serial = ISSUED.fetch_add(1, Ordering::Relaxed);
    params.serial_number = Some(SerialNumber::from(serial));
    params.subject_alt_names = vec![uri(id)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    (params, KeyPair::generate().unwrap(), serial)
}

/// Valid for longer than any test machine's clock is off.
fn blank() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2200, 1, 1);
    params
}
