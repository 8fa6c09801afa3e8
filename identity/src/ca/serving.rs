//! What an authority shows who asks it over the network, and whom it believes: a certificate of its own for DNS names, its own root, its
//! own revocation list.

use std::path::Path;

use super::{Authority, CERTIFICATE_FILE, CaError, IssueOptions, REVOCATION_LIST_FILE};
use crate::{Delivered, IdentityStore, Sources};

impl Authority {
    /// Issues a certificate for itself, whose key is in memory alone. Callers are judged by the authority's root and, if there is one now,
    /// by the revocation list in its directory; [`IdentityStore::reload`] reads both again.
    ///
    /// # Errors
    /// As [`Authority::issue`], and when a file in the directory is not what it must be.
    pub fn serving_identity(&self, dir: &Path, options: &IssueOptions) -> Result<IdentityStore, CaError> {
        let issued = self.issue(options)?;
        let (root, list) = (dir.join(CERTIFICATE_FILE), dir.join(REVOCATION_LIST_FILE));
        let mut sources = Sources::workload_api(options.id.clone(), root);
        sources.crl.extend(list.exists().then_some(list));
        Ok(IdentityStore::delivered(sources, Delivered::without_bundle(issued.certificate_pem, issued.key_pem))?)
    }
}
