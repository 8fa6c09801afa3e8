//! Whether a certificate would be accepted, found by the very check of the handshake.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustls_pki_types::UnixTime;
use webpki::KeyUsage;

use super::CaError;
use crate::bundle::TrustBundles;
use crate::crl::RevocationLists;
use crate::files::{Contents, Material};
use crate::verify::PeerVerifier;
use crate::{IdentityError, PeerError, SpiffeId, peer_identity, tls};

/// What a peer with the roots in `bundle`, and the revocation lists in `lists`, would say now of the chain in `certificate` (the leaf
/// first): the workload's ID, or why not. Both files are PEM. The bundle counts as that of the trust domain which the leaf claims.
///
/// # Errors
/// When a file cannot be read or is not what it must be; that says nothing about the certificate.
pub fn verify(certificate: &Path, bundle: &Path, lists: &[PathBuf]) -> Result<Result<SpiffeId, PeerError>, CaError> {
    let shown = Contents::read(certificate)?;
    let chain = shown.certificates()?;
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err(IdentityError::NoCertificate { file: certificate.to_owned() }.into());
    };
    let bundle = Contents::read(bundle)?;
    let revocation_lists = lists.iter().map(|file| Contents::read(file)).collect::<Result<Vec<_>, _>>()?;
    let peer = match peer_identity(leaf) {
        Ok(peer) => peer,
        Err(error) => return Ok(Err(error.into())),
    };
    let key = Contents { file: PathBuf::new(), bytes: Vec::new() };
    let bundles = BTreeMap::from([(peer.trust_domain(), bundle)]);
    let material = Material { certificate: shown, key, bundles, clusters: BTreeMap::new(), revocation_lists };
    let algorithms = tls::provider().signature_verification_algorithms;
    let lists = RevocationLists::from_pem(&material.revocation_lists, false, algorithms.all)?;
    let peers = PeerVerifier::new(TrustBundles::from_pem(&material, &lists)?, lists, algorithms);
    let now = UnixTime::now();
    // Both ends show the same certificate, and it must do for both.
    let as_server = peers.verify(leaf, intermediates, KeyUsage::server_auth(), now, None);
    Ok(as_server
        .and_then(|_| peers.verify(leaf, intermediates, KeyUsage::client_auth(), now, None))
        .map(|found| found.peer))
}
