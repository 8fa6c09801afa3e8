//! What to do about what the authority refuses.

use std::path::Path;

use meshgate_identity::IdentityError;
use meshgate_identity::ca::{self, CaError};

/// What to do about it, where that can be said.
pub(super) fn about(error: &CaError) -> Option<String> {
    let shown = |file: &Path| file.display().to_string();
    Some(match error {
        CaError::Exists { file } if file.ends_with(ca::KEY_FILE) || file.ends_with(ca::CERTIFICATE_FILE) => {
            "use the authority that is there, or another --dir; --force replaces it, and then nothing it issued is trusted any more".to_owned()
        }
        CaError::Exists { .. } => "--force replaces it, --name or --out puts the new one beside it".to_owned(),
        CaError::File(IdentityError::Read { file, source })
            if source.kind() == std::io::ErrorKind::NotFound && file.ends_with(ca::CERTIFICATE_FILE) =>
        {
            let dir = file.parent().map(shown).unwrap_or_default();
            format!("--dir says where the authority is; `meshgate ca init --dir {dir}` makes one there")
        }
        CaError::File(IdentityError::NoCertificate { file }) => {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            match text.contains("PRIVATE KEY-----") {
                true => "it is a private key; show the certificate that it belongs to".to_owned(),
                false => "expected a PEM file, with a line -----BEGIN CERTIFICATE-----".to_owned(),
            }
        }
        CaError::OtherTrustDomain { trust_domain, .. } => {
            format!("this authority signs for spiffe://{trust_domain}/...; another trust domain has one of its own (ca init --trust-domain)")
        }
        CaError::NoPath { .. } => "expected such as spiffe://cluster.local/ns/default/sa/frontend".to_owned(),
        CaError::NotValidNow { .. } => "is this machine's clock right (`date -u`)? Else make a new authority in another --dir".to_owned(),
        CaError::Validity { .. } => "expected at least a second, such as --validity 24h".to_owned(),
        _ => return None,
    })
}
