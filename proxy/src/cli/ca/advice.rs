//! What to do about what the authority refuses.

use std::path::Path;

use meshgate_identity::IdentityError;
use meshgate_identity::ca::{self, CaError};

/// How a certificate that is not in PEM begins: a sequence of more than 255 bytes.
const DER: [u8; 2] = [0x30, 0x82];

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
        CaError::Busy { .. } => "it may be stopped: `ps -C meshgate` lists those there are; with it ended, try again".to_owned(),
        CaError::Taken { .. } => "--out puts it into another place; `ca issue` has --name as well".to_owned(),
        CaError::Itself { .. } => {
            "a root is taken back by taking it out of every trust bundle: `meshgate ca bundle` makes one of those that stay".to_owned()
        }
        CaError::NotOurs { file } if file.ends_with(ca::REVOCATION_LIST_FILE) => {
            "it is the list of an authority that was here before: move it away, and the next one begins anew".to_owned()
        }
        CaError::File(IdentityError::NoCertificate { file }) => {
            let bytes = std::fs::read(file).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            if text.contains("PRIVATE KEY-----") {
                "it is a private key; show the certificate that it belongs to".to_owned()
            } else if bytes.starts_with(&DER) {
                format!("it looks like DER, and PEM is wanted: `openssl x509 -inform DER -in {}` makes it of it", shown(file))
            } else {
                "expected a PEM file, with a line -----BEGIN CERTIFICATE-----".to_owned()
            }
        }
        CaError::File(IdentityError::KeyCount { file, .. } | IdentityError::Pem { file, .. })
            if std::fs::read_to_string(file).is_ok_and(|text| text.contains("ENCRYPTED")) =>
        {
            format!("it is encrypted, and no password is asked for: `openssl pkey -in {} -out PLAIN` makes one that is not", shown(file))
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
