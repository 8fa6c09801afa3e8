//! The verifiers of the handshake: is the peer the workload it claims to be?
//!
//! The one idea: who, then by whose word. The ID is read first, strictly; it says which trust bundle is asked; the chain
//! must end in a root of that bundle and no other. A server must besides be the very workload the connection is for. DNS
//! names and common names are never looked at.
//!
//! rustls-webpki is used directly, not through rustls's own two verifiers: theirs for servers insists on a DNS name or an
//! address, and neither shows the verified path, whose intermediates must be checked for `keyCertSign` here because webpki
//! knows no key usage. What stays with webpki: signatures (SHA-1 and RSA under 2,048 bits are refused), validity in
//! time, path length, extended key usage, name constraints, unknown critical extensions.
//!
//! What this does not do: revocation lists, and authorization.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::{Expected, PeerError, SpiffeId, TrustBundles, certificate, peer_identity};

/// webpki builds paths of at most 6 intermediates; a few that do not belong to the path are let pass, as others do, and
/// more are refused before any signature is checked.
const MAX_INTERMEDIATES: usize = 10;

/// What the two verifiers share.
pub(crate) struct PeerVerifier {
    bundles: Arc<TrustBundles>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    pub(crate) fn new(bundles: Arc<TrustBundles>, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { bundles, algorithms }
    }

    /// The verified ID of the workload that `leaf` belongs to.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<SpiffeId, PeerError> {
        let peer = peer_identity(leaf)?;
        let Some(bundle) = self.bundles.of(peer.trust_domain_str()) else {
            return Err(PeerError::UnknownTrustDomain { peer });
        };
        if intermediates.len() > MAX_INTERMEDIATES {
            return Err(PeerError::TooManyIntermediates { peer, sent: intermediates.len(), limit: MAX_INTERMEDIATES });
        }
        let anchors = bundle.anchors_at(now);
        if anchors.is_empty() {
            return Err(PeerError::NoValidRoot { peer });
        }
        let chain = |source| PeerError::Chain { peer: peer.clone(), source };
        let end_entity = EndEntityCert::try_from(leaf).map_err(chain)?;
        let path = end_entity
            .verify_for_usage(self.algorithms.all, &anchors, intermediates, now, usage, None, None)
            .map_err(chain)?;
        for intermediate in path.intermediate_certificates() {
            if !certificate::parse(&intermediate.der()).is_ok_and(|ca| certificate::may_sign_certificates(&ca)) {
                return Err(PeerError::IntermediateMayNotSign { peer });
            }
        }
        Ok(peer)
    }
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVerifier").field("bundles", &self.bundles).finish_non_exhaustive()
    }
}

/// Accepts every workload of every trust domain that has a bundle; whom of them we serve is policy's affair.
#[derive(Debug)]
pub(crate) struct ClientVerifier(pub(crate) Arc<PeerVerifier>);

impl ClientCertVerifier for ClientVerifier {
    /// None. A mesh client has one certificate and no choice to make by hints, and naming the roots would tell anyone
    /// who connects which trust domains we are federated with.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.0.verify(end_entity, intermediates, KeyUsage::client_auth(), now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.0.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.0.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.algorithms.supported_schemes()
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
        let found = self.peers.verify(end_entity, intermediates, KeyUsage::server_auth(), now)?;
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
mod tests;
