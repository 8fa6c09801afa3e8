//! TLS to servers that are not of the mesh: known by a DNS name and roots of their own, as on the web.

use std::path::Path;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The certificates of a PEM file, for [`trusting`].
///
/// # Errors
/// It cannot be read.
pub fn roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|error| format!("{}: {error}", path.display()))
}

/// A configuration for servers that one of these roots vouches for, which shows `own` to those who ask; `None` when none of them can be a
/// root.
pub fn trusting(
    certificates: Vec<CertificateDer<'static>>,
    own: Option<Arc<dyn ResolvesClientCert>>,
) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let builder = builder.with_root_certificates(roots);
    (added > 0).then(|| match own {
        Some(own) => builder.with_client_cert_resolver(own),
        None => builder.with_no_client_auth(),
    })
}
