//! The verifiers of the handshake: is the peer the workload it claims to be?
//!
//! The one idea: who, then by whose word. The ID is read first, strictly; it says which trust bundle is asked; the chain
//! must end in a root of that bundle and no other. A server must besides be the very workload the connection is for, and where
//! its cluster has roots of its own, by their word and no other. A caller may be of any cluster of its trust domain: their
//! bundles are asked one by one and never as one. DNS names and common names are never looked at.
//!
//! rustls-webpki is used directly, not through rustls's own two verifiers: theirs for servers insists on a DNS name or an
//! address, and neither shows the verified path, whose intermediates must be checked for `keyCertSign` here because webpki
//! knows no key usage. What stays with webpki: signatures (SHA-1 and RSA under 2,048 bits are refused), validity in
//! time, path length, extended key usage, name constraints, unknown critical extensions.
//!
//! Revocation lists are looked into by webpki too, for every certificate of a path; which list is whose is told in `crl.rs`.
//!
//! What this does not do: authorization.

mod shown;

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::bundle::Bundle;
use crate::crl::RevocationLists;
use crate::verified::{self, Found, Verified};
use crate::{Expected, PeerError, PeerIdentityError, SpiffeId, TrustBundles, peer_identity};

use shown::{Lists, Shown};

/// webpki builds paths of at most 6 intermediates; a few that do not belong to the path are let pass, as others do, and
/// more are refused before any signature is checked.
const MAX_INTERMEDIATES: usize = 10;

/// What the two verifiers share.
pub(crate) struct PeerVerifier {
    bundles: TrustBundles,
    lists: RevocationLists,
    algorithms: WebPkiSupportedAlgorithms,
    /// Of callers, by these bundles.
    verified: Verified,
    /// What was found of servers. Each handshake with one verifies all of it again: this only tells which root it was.
    servers: Verified,
}

/// Who vouches for a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Voucher<'a> {
    /// The bundle of the trust domain it claims.
    Domain(&'a str),
    /// A cluster of that trust domain, by roots of its own.
    Cluster(Arc<str>),
}

/// The root that a chain ends in.
#[derive(Debug)]
pub(crate) struct ChainRoot {
    /// The SHA-256 of its public key, in hexadecimal: the same after a renewal by that key.
    pub(crate) key: Arc<str>,
    /// The SHA-256 of the certificate, as [`Root::sha256`](crate::Root::sha256) has it.
    pub(crate) fingerprint: Arc<str>,
}

impl PeerVerifier {
    pub(crate) fn new(bundles: TrustBundles, lists: RevocationLists, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { bundles, lists, algorithms, verified: Verified::default(), servers: Verified::default() }
    }

    pub(crate) fn bundles(&self) -> &TrustBundles {
        &self.bundles
    }

    pub(crate) fn lists(&self) -> &RevocationLists {
        &self.lists
    }

    /// What is found of the workload that `leaf` belongs to, in `cluster` if that is one with roots of its own: they alone
    /// are asked then. Else the bundle of the trust domain is, and no cluster's roots are.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
        cluster: Option<&Arc<str>>,
    ) -> Result<Found, PeerError> {
        let peer = peer_identity(leaf)?;
        let own = cluster.and_then(|key| Some((key, self.bundles.of_cluster(key)?)));
        if let Some((cluster, roots)) = own
            && roots.trust_domain.as_str() != peer.trust_domain_str()
        {
            let (cluster, trust_domain) = (Arc::clone(cluster), roots.trust_domain.clone());
            return Err(PeerError::NotOfCluster { peer, cluster, trust_domain });
        }
        let bundle = own.map(|(_, roots)| &roots.bundle).or_else(|| self.bundles.of(peer.trust_domain_str()));
        let Some(bundle) = bundle else { return Err(PeerError::UnknownTrustDomain { peer }) };
        let shown = self.shown(&peer, leaf, intermediates, usage, now)?;
        shown.leads_to(bundle, own.map(|(key, _)| key))
    }

    /// What is found of a caller. Nothing says beforehand which cluster it is in, so the bundle of its trust domain may vouch
    /// for it, or a cluster of that trust domain: each is asked by itself, so that no chain is ever made of what two of them
    /// would each let pass in part. A chain that was found good is not gone through again while it stays so, see `verified.rs`.
    pub(crate) fn verify_caller(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Found, PeerError> {
        let chain = verified::shown(leaf, intermediates);
        if let Some(found) = chain.as_deref().and_then(|chain| self.verified.find(chain, now)) {
            return Ok(found);
        }
        let peer = peer_identity(leaf)?;
        let found = self.vouched(&self.shown(&peer, leaf, intermediates, KeyUsage::client_auth(), now)?)?;
        if let Some(chain) = chain {
            self.verified.keep(chain, found.clone(), now);
        }
        Ok(found)
    }

    /// The same of a server, in `cluster` if that is one with roots of its own. It is gone through each time; what was found is kept for
    /// [`PeerVerifier::known`].
    pub(crate) fn verify_server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        cluster: Option<&Arc<str>>,
    ) -> Result<Found, PeerError> {
        let found = self.verify(leaf, intermediates, KeyUsage::server_auth(), now, cluster)?;
        if let Some(chain) = verified::shown(leaf, intermediates) {
            self.servers.keep(chain, found.clone(), now);
        }
        Ok(found)
    }

    /// What was found of a chain that was found good, as a caller's or a server's, if it is still known.
    pub(crate) fn known(&self, chain: &[CertificateDer<'_>], is_caller: bool, now: UnixTime) -> Option<Found> {
        let (leaf, intermediates) = chain.split_first()?;
        let kept = if is_caller { &self.verified } else { &self.servers };
        kept.find(&verified::shown(leaf, intermediates)?, now)
    }

    /// Who showed a chain that has been found good.
    pub(crate) fn caller(&self, chain: &[CertificateDer<'_>]) -> Result<SpiffeId, PeerIdentityError> {
        let Some(leaf) = chain.first() else {
            return Err(PeerIdentityError::Malformed("there is none".to_owned()));
        };
        self.known(chain, true, UnixTime::now()).map_or_else(|| peer_identity(leaf), |found| Ok(found.peer))
    }

    /// Whether a caller's chain is one that need not be gone through again.
    #[cfg(test)]
    pub(crate) fn knows(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], now: UnixTime) -> bool {
        verified::shown(leaf, intermediates).is_some_and(|chain| self.verified.find(&chain, now).is_some())
    }

    /// By whose word it is good, and until when.
    fn vouched(&self, shown: &Shown<'_>) -> Result<Found, PeerError> {
        let mut failed = PeerError::UnknownTrustDomain { peer: shown.peer.clone() };
        for (cluster, bundle) in self.candidates(shown.peer.trust_domain_str()) {
            match shown.leads_to(bundle, cluster) {
                Ok(found) => return Ok(found),
                // Of several, the first that knew the chain's issuer has more to say than those that did not.
                Err(error) => {
                    let unknown = matches!(failed, PeerError::UnknownTrustDomain { .. });
                    if unknown || (is_stranger(&failed) && !is_stranger(&error)) {
                        failed = error;
                    }
                }
            }
        }
        Err(failed)
    }

    /// Everybody who vouches for what a caller showed: the trust domain's bundle first, then clusters by key.
    pub(crate) fn vouchers(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Vec<Voucher<'_>> {
        let Ok(peer) = peer_identity(leaf) else { return Vec::new() };
        let Ok(shown) = self.shown(&peer, leaf, intermediates, KeyUsage::client_auth(), now) else { return Vec::new() };
        let domain = self.bundles.trust_domains().find(|domain| domain.as_str() == peer.trust_domain_str());
        let vouching = self.candidates(peer.trust_domain_str());
        let vouching = vouching.filter(|(cluster, bundle)| shown.leads_to(bundle, *cluster).is_ok());
        vouching
            .filter_map(|(cluster, _)| match cluster {
                Some(key) => Some(Voucher::Cluster(Arc::clone(key))),
                None => domain.map(|domain| Voucher::Domain(domain.as_str())),
            })
            .collect()
    }

    /// The root that a chain ends in, by the bundle of its trust domain. Revocation lists have no say.
    pub(crate) fn root_of(&self, chain: &[CertificateDer<'_>], usage: KeyUsage, now: UnixTime) -> Option<ChainRoot> {
        let (leaf, intermediates) = chain.split_first()?;
        let peer = peer_identity(leaf).ok()?;
        let bundle = self.bundles.of(peer.trust_domain_str())?;
        self.shown(&peer, leaf, intermediates, usage, now).ok()?.root(bundle)
    }

    /// Whoever may vouch for callers of a trust domain.
    fn candidates(&self, trust_domain: &str) -> impl Iterator<Item = (Option<&Arc<str>>, &Bundle)> {
        let domain = self.bundles.of(trust_domain).map(|bundle| (None, bundle));
        domain.into_iter().chain(self.bundles.clusters_of(trust_domain).map(|(key, bundle)| (Some(key), bundle)))
    }

    fn shown<'a>(
        &'a self,
        peer: &'a SpiffeId,
        leaf: &'a CertificateDer<'a>,
        intermediates: &'a [CertificateDer<'a>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<Shown<'a>, PeerError> {
        if intermediates.len() > MAX_INTERMEDIATES {
            let (peer, sent) = (peer.clone(), intermediates.len());
            return Err(PeerError::TooManyIntermediates { peer, sent, limit: MAX_INTERMEDIATES });
        }
        let chain = |source| PeerError::Chain { peer: peer.clone(), cluster: None, source };
        let der = leaf;
        let leaf = EndEntityCert::try_from(leaf).map_err(chain)?;
        let lists = Lists { all: &self.lists, of_intermediates: self.lists.of_any(intermediates) };
        Ok(Shown { peer, der, leaf, intermediates, usage, now, algorithms: self.algorithms.all, lists })
    }
}

/// Whether a bundle knew nothing of a chain.
fn is_stranger(error: &PeerError) -> bool {
    matches!(error, PeerError::NoValidRoot { .. } | PeerError::Chain { source: webpki::Error::UnknownIssuer, .. })
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVerifier").field("bundles", &self.bundles).finish_non_exhaustive()
    }
}

/// Accepts every workload of every trust domain and cluster that has a bundle; whom of them we serve is policy's affair.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) peers: Arc<PeerVerifier>,
    /// Whether a caller must show a certificate; one that is shown must be good either way.
    pub(crate) mandatory: bool,
}

impl ClientCertVerifier for ClientVerifier {
    /// None. A mesh client has one certificate and no choice to make by hints, and naming the roots would tell anyone
    /// who connects which trust domains we are federated with.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.peers.verify_caller(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.peers.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.peers.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.peers.algorithms.supported_schemes()
    }
}

/// Accepts the workload that a connection is for.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) peers: Arc<PeerVerifier>,
    pub(crate) expected: Expected,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let cluster = self.expected.cluster.as_ref();
        let found = self.peers.verify_server(end_entity, intermediates, now, cluster)?.peer;
        if !self.expected.who.includes(&found) {
            let expected = Box::new(self.expected.clone());
            return Err(PeerError::UnexpectedServer { expected, found }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.peers.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.peers.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.peers.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod across_clusters;
#[cfg(test)]
mod tests;
