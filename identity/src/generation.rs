//! One generation of our identity: certificate, key and trust bundles that were validated together.
//!
//! The one idea: there is no partial identity. An [`Identity`] is made whole or not at all, and never changes; what a
//! connection started with it keeps.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::ResolvesClientCert;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::KeyUsage;

use crate::crl::RevocationLists;
use crate::files::Material;
use crate::tls::{self, ClientConfigs};
use crate::verify::{ChainRoot, PeerVerifier, Voucher};
use crate::{
    ClientAlpn, Expected, IdentityError, PeerError, PeerIdentityError, RevocationList, SpiffeId, Svid, TrustBundles,
    TrustDomain,
};

/// Where an identity comes from. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Whose the certificate must be: a set of files that makes another workload of us is not taken into use.
    pub id: SpiffeId,
    /// Our X.509-SVID: the leaf first, then the intermediates.
    pub certificate: PathBuf,
    /// The key of the leaf: PKCS#8, SEC1 or PKCS#1, not encrypted.
    pub key: PathBuf,
    /// The roots of our own trust domain.
    pub trust_bundle: PathBuf,
    /// The roots of each other trust domain whose workloads we know.
    pub federated: BTreeMap<TrustDomain, PathBuf>,
    /// By key (`region/zone/group/cluster`): the other clusters that have roots of their own. Such a cluster's workloads are
    /// believed by the word of these roots alone.
    pub clusters: BTreeMap<String, ClusterRoots>,
    /// Our own cluster's key, when nobody but it is vouched for by `trust_bundle`; `None` when others may share its roots, so
    /// that they do not tell where a workload is.
    pub cluster: Option<String>,
    /// Revocation lists, one or several in a file. Each counts wherever its issuer stands, in our own bundle or any other.
    pub crl: Vec<PathBuf>,
    /// Whether a peer is refused when the issuer of a certificate of its chain has no list.
    pub require_crl: bool,
}

impl Sources {
    /// An identity that is [`Delivered`](crate::Delivered) through the socket at `endpoint`, which stands for the files in errors.
    pub fn workload_api(id: SpiffeId, endpoint: PathBuf) -> Self {
        Self {
            id,
            certificate: endpoint.clone(),
            key: endpoint.clone(),
            trust_bundle: endpoint,
            federated: BTreeMap::new(),
            clusters: BTreeMap::new(),
            cluster: None,
            crl: Vec::new(),
            require_crl: false,
        }
    }
}

/// Where the roots of one other cluster come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRoots {
    /// Of its workloads; may be ours, whose own bundle these roots never become part of.
    pub trust_domain: TrustDomain,
    /// PEM.
    pub file: PathBuf,
}

/// One consistent, validated generation of certificate, key and trust bundles, with the TLS configurations made of them.
pub struct Identity {
    generation: u64,
    svid: Svid,
    cluster: Option<Arc<str>>,
    peers: Arc<PeerVerifier>,
    revoked: bool,
    root: Option<ChainRoot>,
    server: Arc<ServerConfig>,
    clients: ClientConfigs,
}

impl Identity {
    /// Reads and validates the files once, as generation 1. For one that follows its files see
    /// [`IdentityStore`](crate::IdentityStore).
    ///
    /// # Errors
    /// When a file cannot be read, is not what it must be, or the files do not belong together.
    pub fn load(sources: &Sources) -> Result<Self, IdentityError> {
        Self::from_material(sources, &Material::read(sources, None)?, 1)
    }

    pub(crate) fn from_material(
        sources: &Sources,
        material: &Material,
        generation: u64,
    ) -> Result<Self, IdentityError> {
        let file = || sources.certificate.clone();
        let provider = tls::provider();
        let svid = Svid::from_pem(&material.certificate, &material.key, SystemTime::now(), &provider)?;
        if *svid.id() != sources.id {
            let (found, configured) = (svid.id().clone(), sources.id.clone());
            return Err(IdentityError::WrongWorkload { file: file(), found, configured });
        }
        let algorithms = provider.signature_verification_algorithms;
        let lists = RevocationLists::from_pem(&material.revocation_lists, sources.require_crl, algorithms.all)?;
        let bundles = TrustBundles::from_pem(material, &lists)?;
        let peers = Arc::new(PeerVerifier::new(bundles, lists, algorithms));
        let revoked = verify_ourselves(&svid, &peers).map_err(|source| IdentityError::Untrusted {
            file: file(),
            bundle: sources.trust_bundle.clone(),
            source: Box::new(source),
        })?;
        let tls = |source| IdentityError::Tls { file: file(), source };
        let server = Arc::new(tls::server_config(&svid, &peers, true, &provider).map_err(tls)?);
        let clients = ClientConfigs::new(&svid, Arc::clone(&peers), &provider).map_err(tls)?;
        let cluster = sources.cluster.as_deref().map(Arc::from);
        let root = peers.root_of(svid.chain(), KeyUsage::server_auth(), UnixTime::now());
        Ok(Self { generation, svid, cluster, peers, revoked, root, server, clients })
    }

    /// Our certificate.
    pub fn svid(&self) -> &Svid {
        &self.svid
    }

    /// Whom we trust to vouch for peers.
    pub fn bundles(&self) -> &TrustBundles {
        self.peers.bundles()
    }

    /// The revocation lists in force, the newest first.
    pub fn revocation_lists(&self) -> impl Iterator<Item = &RevocationList> {
        self.peers.lists().iter()
    }

    /// Whether a list is of a root in any of the bundles. One that is not counts for authorities that peers show, if for anything.
    pub fn knows_issuer_of(&self, list: &RevocationList) -> bool {
        self.bundles().knows_issuer_of(list)
    }

    /// Whether our own certificate is on a list: whoever has that list refuses us.
    pub fn is_revoked(&self) -> bool {
        self.revoked
    }

    /// Which root vouches for our own certificate: the SHA-256 of its public key, in hexadecimal.
    ///
    /// Who was shown a certificate of another root believes us no longer than that one stands in its bundle.
    pub fn root(&self) -> Option<&Arc<str>> {
        self.root.as_ref().map(|root| &root.key)
    }

    /// The fingerprint of that root, as [`Root::sha256`](crate::Root::sha256) has it.
    pub fn root_fingerprint(&self) -> Option<&Arc<str>> {
        self.root.as_ref().map(|root| &root.fingerprint)
    }

    /// Who a caller is whose chain (leaf first) was found good in a handshake by [`Identity::server_config`]: as [`peer_identity`](crate::peer_identity)
    /// says, without parsing the leaf once more where the handshake's own finding is still known.
    ///
    /// # Errors
    /// There is no certificate, or it is not a workload's.
    pub fn caller(&self, chain: &[CertificateDer<'_>]) -> Result<SpiffeId, PeerIdentityError> {
        self.peers.caller(chain)
    }

    pub(crate) fn peers(&self) -> &PeerVerifier {
        &self.peers
    }

    /// The key of the cluster that a peer is of, told by whose roots vouch for the chain it showed (leaf first) as a client.
    ///
    /// The key of the one cluster whose own roots do, if nobody else's do; our own cluster's, if our own bundle alone does and no
    /// other cluster is known to share it. `None` when nothing tells: the bundle of a federated domain does not say which of its
    /// clusters it vouched in, and roots that stand in two places tell neither.
    ///
    /// Verifies signatures anew, so that it is asked once a connection and not once a request.
    pub fn cluster_of(&self, chain: &[CertificateDer<'_>]) -> Option<Arc<str>> {
        let (leaf, intermediates) = chain.split_first()?;
        match self.peers.vouchers(leaf, intermediates, UnixTime::now()).as_slice() {
            [Voucher::Cluster(key)] => Some(Arc::clone(key)),
            [Voucher::Domain(domain)] if *domain == self.svid.id().trust_domain_str() => self.cluster.clone(),
            _ => None,
        }
    }

    /// 1 for the first set of files taken into use, one more for each that followed.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The configuration for connections from mesh peers: TLS 1.3, a client certificate of a known trust domain is
    /// required, no resumption. Made once per generation.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// The same for an authority, whose callers may have no certificate yet: one that they show must be good. For these protocols alone; made
    /// anew each time.
    ///
    /// # Errors
    /// The TLS library's; none where the identity itself could be made.
    pub fn authority_server_config(&self, protocols: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
        let mut config = tls::server_config(&self.svid, &self.peers, false, &tls::provider())?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// Shows our certificate to a server that is known otherwise than by its SPIFFE ID, such as the authority that renews it.
    pub fn client_certificate(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(SingleCertAndKey::from(Arc::clone(self.svid.certified())))
    }

    /// A configuration for connections to one workload: we present our certificate, and the server's must carry an
    /// ID that is `expected`. The server name given to rustls only becomes the SNI.
    ///
    /// Cheap, but a new one each time: connections that are to be compared or pooled by it should share one.
    pub fn client_config(&self, expected: &Expected, alpn: ClientAlpn) -> Arc<ClientConfig> {
        Arc::new(self.clients.expecting(expected, alpn))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("generation", &self.generation)
            .field("svid", &self.svid)
            .field("bundles", self.bundles())
            .finish_non_exhaustive()
    }
}

/// Looks at our own certificate as a peer will. Files that are replaced one after the other, or a chain that was cut
/// short, would otherwise be noticed by every peer and not by us.
///
/// Says whether we have been revoked. That keeps nothing from being taken into use, nor does a list that has expired: the lists are
/// there against others too, and with the ones before them those would be let in still.
fn verify_ourselves(svid: &Svid, peers: &PeerVerifier) -> Result<bool, PeerError> {
    if let Some((leaf, intermediates)) = svid.chain().split_first() {
        let now = UnixTime::now();
        // By our own bundle, whatever other clusters' roots would say.
        for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
            match peers.verify(leaf, intermediates, usage, now, None) {
                Ok(_) | Err(PeerError::Chain { source: webpki::Error::CrlExpired { .. }, .. }) => {}
                Err(error) if error.is_revoked() => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
