//! For the tests of this crate: certificates of any shape, files of them, and a handshake in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::{Identity, Sources, SpiffeId, tls};

pub(crate) const HOME: &str = "cluster.local";
pub(crate) const FRONTEND: &str = "spiffe://cluster.local/ns/default/sa/frontend";
pub(crate) const BACKEND: &str = "spiffe://cluster.local/ns/default/sa/backend";

pub(crate) fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// A signer: a root, or an intermediate with what leads from it to its root.
pub(crate) struct Signer {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    above: Vec<CertificateDer<'static>>,
}

pub(crate) fn signer_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::hours(1);
    params
}

impl Signer {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(name, |_| {})
    }

    pub(crate) fn root_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::self_signed(name, KeyPair::generate().unwrap(), change)
    }

    /// The same root by the same key, in another certificate.
    pub(crate) fn renewed(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::self_signed(name, KeyPair::try_from(self.issuer.key().serialize_der()).unwrap(), change)
    }

    fn self_signed(name: &str, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = signer_params(name);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            der: certificate.der().clone(),
            pem: certificate.pem(),
            above: Vec::new(),
        }
    }

    pub(crate) fn intermediate(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = signer_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut above = vec![certificate.der().clone()];
        above.extend(self.above.iter().cloned());
        Self { issuer: Issuer::new(params, key), der: certificate.der().clone(), pem: certificate.pem(), above }
    }

    pub(crate) fn workload(&self, id: &str) -> Workload {
        self.workload_with(id, |_| {})
    }

    pub(crate) fn workload_with(&self, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Workload {
        self.workload_of(KeyPair::generate().unwrap(), id, change)
    }

    pub(crate) fn workload_of(&self, key: KeyPair, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Workload {
        let mut params = workload_params(id);
        change(&mut params);
        let mut chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        chain.extend(self.above.iter().cloned());
        Workload { chain, key }
    }
}

/// What a correct certificate says; tests change one thing of it.
pub(crate) fn workload_params(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(id)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = OffsetDateTime::now_utc() - Duration::minutes(10);
    params.not_after = OffsetDateTime::now_utc() + Duration::minutes(10);
    params
}

/// A certificate chain of any shape, with a key.
pub(crate) struct Workload {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

impl Workload {
    pub(crate) fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| pem("CERTIFICATE", der)).collect()
    }

    /// For a TLS configuration, without a look at whether it is any good.
    pub(crate) fn resolver(&self) -> Arc<SingleCertAndKey> {
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let key = tls::provider().key_provider.load_private_key(key).unwrap();
        Arc::new(CertifiedKey::new(self.chain.clone(), key).into())
    }

    /// Loads it as an identity the way the product does.
    pub(crate) fn identity(&self, roots: &[&Signer], federated: &[(&str, &Signer)]) -> Identity {
        let dir = TempDir::new().unwrap();
        Identity::load(&self.write(dir.path(), roots, federated)).unwrap()
    }

    pub(crate) fn write(&self, dir: &Path, roots: &[&Signer], federated: &[(&str, &Signer)]) -> Sources {
        let write = |name: &str, text: String| {
            let file = dir.join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        // Whoever it says it is, as far as a workload of ours may say so.
        let own = crate::peer_identity(&self.chain[0]).ok().filter(|id| id.trust_domain_str() == HOME);
        let id = own.unwrap_or_else(|| FRONTEND.parse().unwrap());
        Sources {
            id,
            certificate: write("svid.pem", self.chain_pem()),
            key: write("svid-key.pem", self.key.serialize_pem()),
            trust_bundle: write("root.pem", roots.iter().map(|root| root.pem.as_str()).collect()),
            federated: federated
                .iter()
                .map(|(domain, root)| (domain.parse().unwrap(), write(&format!("{domain}.pem"), root.pem.clone())))
                .collect::<BTreeMap<_, _>>(),
            clusters: BTreeMap::new(),
            cluster: None,
            crl: Vec::new(),
            require_crl: false,
        }
    }
}

/// A PEM section.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for digit in 0..4 {
                let index = (bits >> (18 - 6 * digit)) & 63;
                text.push(if digit > group.len() { '=' } else { char::from(ALPHABET[index as usize]) });
            }
        }
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// How a handshake ended at either end, and the two ends.
pub(crate) struct Handshake {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
    pub(crate) client_result: Result<(), rustls::Error>,
    pub(crate) server_result: Result<(), rustls::Error>,
}

impl Handshake {
    /// Carries bytes to and fro until neither end has any more to say.
    pub(crate) fn run(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Self {
        let name = ServerName::try_from("backend.default.svc.cluster.local").unwrap();
        let mut handshake = Self {
            client: ClientConnection::new(client, name).unwrap(),
            server: ServerConnection::new(server).unwrap(),
            client_result: Ok(()),
            server_result: Ok(()),
        };
        loop {
            let mut wire = Vec::new();
            while handshake.client.wants_write() {
                handshake.client.write_tls(&mut wire).unwrap();
            }
            let sent = wire.len();
            let mut rest = wire.as_slice();
            while !rest.is_empty() && handshake.server_result.is_ok() {
                handshake.server.read_tls(&mut rest).unwrap();
                handshake.server_result = handshake.server.process_new_packets().map(|_| ());
            }
            let mut wire = Vec::new();
            while handshake.server.wants_write() {
                handshake.server.write_tls(&mut wire).unwrap();
            }
            let answered = wire.len();
            let mut rest = wire.as_slice();
            while !rest.is_empty() && handshake.client_result.is_ok() {
                handshake.client.read_tls(&mut rest).unwrap();
                handshake.client_result = handshake.client.process_new_packets().map(|_| ());
            }
            if sent + answered == 0 {
                return handshake;
            }
        }
    }
}
