//! An identity that somebody hands over in memory, as a SPIFFE Workload API does, instead of files.
//!
//! The one idea: it becomes what files would have held, and goes the same way from there: read as a whole, validated as a whole, published
//! as the next generation or not at all.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::TrustDomain;
use crate::files::Contents;

/// Characters of a line of PEM (RFC 7468, 2).
const LINE: usize = 64;

/// What was handed over, as PEM. No `Debug`: the private key is in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivered {
    certificate: String,
    key: String,
    /// `None` where the roots stay in their file.
    bundle: Option<String>,
    federated: BTreeMap<TrustDomain, String>,
    lists: String,
}

impl Delivered {
    /// From what a Workload API sends: our certificates one after the other, leaf first; the key to it as PKCS#8; the roots of our trust
    /// domain one after the other; the same of others; revocation lists. All in DER.
    ///
    /// Nothing is judged here but where one certificate ends and the next begins.
    ///
    /// # Errors
    /// Which part is no sequence of certificates, in words.
    pub fn from_der<'a>(
        svid: &[u8],
        key: &[u8],
        bundle: &[u8],
        federated: impl IntoIterator<Item = (TrustDomain, &'a [u8])>,
        lists: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, String> {
        let named = |what: &str, der| certificates(der).map_err(|error| format!("{what}: {error}"));
        let federated = federated.into_iter().map(|(domain, der)| {
            let bundle = named(&format!("the bundle of {domain}"), der)?;
            Ok((domain, bundle))
        });
        Ok(Self {
            certificate: named("the certificate", svid)?,
            key: section("PRIVATE KEY", key),
            bundle: Some(named("the bundle", bundle)?),
            federated: federated.collect::<Result<_, String>>()?,
            lists: lists.into_iter().map(|list| section("X509 CRL", list)).collect(),
        })
    }

    /// A certificate and its key alone, as an authority gives them that was asked for one: PEM, leaf first; PEM, PKCS#8. Whom we believe
    /// stays in files.
    pub(crate) fn without_bundle(certificate: String, key: String) -> Self {
        Self { certificate, key, bundle: None, federated: BTreeMap::new(), lists: String::new() }
    }

    pub(crate) fn certificate(&self, from: &Path) -> Contents {
        contents(from, &self.certificate)
    }

    pub(crate) fn key(&self, from: &Path) -> Contents {
        contents(from, &self.key)
    }

    pub(crate) fn bundle(&self, from: &Path) -> Option<Contents> {
        self.bundle.as_ref().map(|bundle| contents(from, bundle))
    }

    pub(crate) fn has_bundle(&self) -> bool {
        self.bundle.is_some()
    }

    pub(crate) fn federated(&self, from: &Path) -> impl Iterator<Item = (TrustDomain, Contents)> {
        self.federated.iter().map(move |(domain, bundle)| (domain.clone(), contents(from, bundle)))
    }

    /// `None` where there is none: nobody has to have lists.
    pub(crate) fn lists(&self, from: &Path) -> Option<Contents> {
        (!self.lists.is_empty()).then(|| contents(from, &self.lists))
    }
}

fn contents(from: &Path, text: &str) -> Contents {
    Contents { file: from.to_owned(), bytes: text.as_bytes().to_vec() }
}

/// Certificates that follow each other without anything between.
fn certificates(mut der: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der).map_err(|error| format!("it is not certificates: {error}"))?;
        let (one, _) = der.split_at(der.len() - rest.len());
        text.push_str(&section("CERTIFICATE", one));
        der = rest;
    }
    Ok(text)
}

/// One section of PEM (RFC 7468).
pub(crate) fn section(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (position, digit) in encoded.chars().enumerate() {
        if position > 0 && position % LINE == 0 {
            text.push('\n');
        }
        text.push(digit);
    }
    text + &format!("\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{IdentityError, IdentityStore, Reload, Sources};

    fn delivered(workload: &Workload, root: &Signer) -> Delivered {
        let chain: Vec<u8> = workload.chain.iter().flat_map(|der| der.to_vec()).collect();
        let both = [&root.der[..], &root.der[..]].concat();
        Delivered::from_der(&chain, &workload.key.serialize_der(), &both, [], []).unwrap()
    }

    fn sources() -> Sources {
        Sources::workload_api(id(FRONTEND), "/run/agent.sock".into())
    }

    #[test]
    fn each_delivery_is_the_next_generation_and_the_same_again_is_none() {
        let root = Signer::root("root");
        let between = root.intermediate("between", |_| {});
        let first = delivered(&between.workload(FRONTEND), &root);
        let store = IdentityStore::delivered(sources(), first.clone()).unwrap();
        assert_eq!(store.current().svid().chain().len(), 2);
        assert_eq!(store.deliver(first).unwrap(), Reload::Unchanged);
        assert_eq!(store.deliver(delivered(&root.workload(FRONTEND), &root)).unwrap(), Reload::Published);
        assert_eq!(store.current().generation(), 2);
        // What was delivered stays when files change beside it.
        assert_eq!(store.reload().unwrap(), Reload::Unchanged);
        assert!(store.paths().is_empty());
    }

    #[test]
    fn what_is_not_ours_or_not_whole_is_not_taken_into_use() {
        let (root, other) = (Signer::root("root"), Signer::root("other"));
        let store = IdentityStore::delivered(sources(), delivered(&root.workload(FRONTEND), &root)).unwrap();
        let wrong = store.deliver(delivered(&root.workload(BACKEND), &root)).unwrap_err();
        assert!(matches!(wrong, IdentityError::WrongWorkload { .. }), "{wrong}");
        let untrusted = store.deliver(delivered(&root.workload(FRONTEND), &other)).unwrap_err();
        assert!(matches!(untrusted, IdentityError::Untrusted { .. }), "{untrusted}");
        assert!(Delivered::from_der(b"nothing", b"", &root.der, [], []).is_err());
        let rootless = Delivered::from_der(&root.workload(FRONTEND).chain[0], b"", b"", [], []).unwrap();
        assert!(store.deliver(rootless).is_err());
        assert_eq!(store.current().generation(), 1);
        assert_eq!(store.reload().unwrap(), Reload::Unchanged);
    }
}
