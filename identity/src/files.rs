//! The bytes of the identity files, and the PEM in them.
//!
//! The one idea: all files are read before any is looked at, and a generation is compared with the next one as bytes. So
//! what was validated is what is used, and touching a file without changing it does nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::{ClusterRoots, Delivered, IdentityError, Sources, TrustDomain};

/// Bytes. A certificate is about 1 KiB in PEM; a bundle of hundreds of roots still fits, an endless device does not.
const MAX_FILE: u64 = 1024 * 1024;

/// Bytes. A list takes about 50 for each certificate: 300,000 of them.
const MAX_REVOCATION_LISTS: u64 = 16 * 1024 * 1024;

/// A file's name and what was in it when it was read.
#[derive(PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) file: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

/// Everything an [`Identity`](crate::Identity) is made of. No `Debug`: the private key is in it.
#[derive(PartialEq, Eq)]
pub(crate) struct Material {
    pub(crate) certificate: Contents,
    pub(crate) key: Contents,
    pub(crate) bundles: BTreeMap<TrustDomain, Contents>,
    /// By cluster key, with the trust domain that the cluster's workloads are of.
    pub(crate) clusters: BTreeMap<Arc<str>, (TrustDomain, Contents)>,
    pub(crate) revocation_lists: Vec<Contents>,
}

impl Material {
    /// From the files, but for what was `delivered`.
    pub(crate) fn read(sources: &Sources, delivered: Option<&Delivered>) -> Result<Self, IdentityError> {
        let mut bundles: BTreeMap<_, _> =
            delivered.into_iter().flat_map(|it| it.federated(&sources.trust_bundle)).collect();
        for (trust_domain, file) in &sources.federated {
            if trust_domain.as_str() == sources.id.trust_domain_str() {
                let (file, trust_domain) = (file.clone(), trust_domain.clone());
                return Err(IdentityError::FederatedWithSelf { file, trust_domain });
            }
            bundles.insert(trust_domain.clone(), Contents::read(file)?);
        }
        let (certificate, key) = match delivered {
            Some(it) => (it.certificate(&sources.certificate), it.key(&sources.key)),
            None => (Contents::read(&sources.certificate)?, Contents::read(&sources.key)?),
        };
        let bundle = match delivered.and_then(|it| it.bundle(&sources.trust_bundle)) {
            Some(bundle) => bundle,
            None => Contents::read(&sources.trust_bundle)?,
        };
        // Over a federated one of our own name, if one was delivered.
        bundles.insert(sources.id.trust_domain(), bundle);
        let cluster = |(key, roots): (&String, &ClusterRoots)| {
            Ok((Arc::from(key.as_str()), (roots.trust_domain.clone(), Contents::read(&roots.file)?)))
        };
        let clusters = sources.clusters.iter().map(cluster).collect::<Result<_, IdentityError>>()?;
        let list = |file: &PathBuf| Contents::read_up_to(file, MAX_REVOCATION_LISTS);
        let mut revocation_lists = sources.crl.iter().map(list).collect::<Result<Vec<_>, _>>()?;
        revocation_lists.extend(delivered.and_then(|it| it.lists(&sources.certificate)));
        Ok(Self { certificate, key, bundles, clusters, revocation_lists })
    }
}

impl Contents {
    pub(crate) fn read(file: &Path) -> Result<Self, IdentityError> {
        Self::read_up_to(file, MAX_FILE)
    }

    fn read_up_to(file: &Path, limit: u64) -> Result<Self, IdentityError> {
        let failed = |source| IdentityError::Read { file: file.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(file).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > limit {
            return Err(IdentityError::TooLarge { file: file.to_owned(), limit });
        }
        Ok(Self { file: file.to_owned(), bytes })
    }

    /// Every certificate in the file, in order; other PEM sections are passed over.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        CertificateDer::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            .map_err(|source| IdentityError::Pem { file: self.file.clone(), source })
    }

    /// Every revocation list in the file, in order; other PEM sections are passed over.
    pub(crate) fn revocation_lists(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, IdentityError> {
        CertificateRevocationListDer::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            .map_err(|source| IdentityError::Pem { file: self.file.clone(), source })
    }

    /// The error for a certificate of this file that cannot be parsed; `position` counts from 1.
    pub(crate) fn malformed(&self, position: usize, reason: String) -> IdentityError {
        IdentityError::Malformed { file: self.file.clone(), position, reason }
    }

    /// The one private key in the file, as PKCS#8, SEC1 or PKCS#1; other PEM sections are passed over.
    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, IdentityError> {
        let mut keys = PrivateKeyDer::pem_slice_iter(&self.bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| IdentityError::Pem { file: self.file.clone(), source })?;
        let found = keys.len();
        match keys.pop() {
            Some(key) if found == 1 => Ok(key),
            _ => Err(IdentityError::KeyCount { file: self.file.clone(), found }),
        }
    }
}
