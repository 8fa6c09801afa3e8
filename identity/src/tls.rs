//! The TLS settings of the mesh, in one place.
//!
//! Cipher suites and key exchange are those of rustls's aws-lc-rs provider in its own order: AES first where the processor
//! has it, and the post-quantum hybrid X25519MLKEM768 offered. TLS 1.3 only: both ends of mesh TLS are proxies.
//! [`VERSIONS`] is where 1.2 would be let in; the verifiers are ready for it.
//!
//! No resumption, in either direction: a resumed session skips the certificate, and so would outlive the certificate, the
//! root or the policy it was made under. No early data, which can be replayed. No key log.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, Error as TlsError, ServerConfig, SupportedProtocolVersion};

use crate::verify::{ClientVerifier, PeerVerifier, ServerVerifier};
use crate::{ClientAlpn, Expected, Svid, alpn};

const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13];

/// The one source of cryptography. Given to everything explicitly: a process-wide default could be another.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The configuration of the inbound side; a client without a certificate is refused if it is `mandatory`.
pub(crate) fn server_config(
    svid: &Svid,
    peers: &Arc<PeerVerifier>,
    mandatory: bool,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    let verifier = ClientVerifier { peers: Arc::clone(peers), mandatory };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(svid.certified()))));
    config.alpn_protocols = owned(&alpn::SERVER);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Makes client configurations, one for each server identity.
///
/// All that costs (the key, the roots, the choice of suites) is shared by the configurations made: one is a copy of
/// a few pointers and of the protocol names.
pub(crate) struct ClientConfigs {
    peers: Arc<PeerVerifier>,
    template: ClientConfig,
}

impl ClientConfigs {
    pub(crate) fn new(svid: &Svid, peers: Arc<PeerVerifier>, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        // The template itself is never used: it expects ourselves, and `expecting` replaces that.
        let itself = ServerVerifier { peers: Arc::clone(&peers), expected: svid.id().clone().into() };
        let mut template = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(VERSIONS)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(itself))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(svid.certified()))));
        template.resumption = Resumption::disabled();
        template.enable_early_data = false;
        Ok(Self { peers, template })
    }

    /// A configuration for connections to whom is expected.
    pub(crate) fn expecting(&self, expected: &Expected, alpn: ClientAlpn) -> ClientConfig {
        let verifier = ServerVerifier { peers: Arc::clone(&self.peers), expected: expected.clone() };
        let mut config = self.template.clone();
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        config.alpn_protocols = owned(alpn.offers());
        config
    }
}

fn owned(protocols: &[&[u8]]) -> Vec<Vec<u8>> {
    protocols.iter().map(|name| name.to_vec()).collect()
}

#[cfg(test)]
mod tests;
