//! Trust bundles: for each trust domain, the roots that may vouch for its workloads; and for each other cluster that has roots
//! of its own, those.
//!
//! The one idea: there is no list of all roots. A root is only ever reached through the trust domain or the cluster it was given
//! for, so that one federated domain's root cannot vouch for another domain's workload, nor one cluster's for another's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

use crate::certificate::{self, MIN_RSA_BITS};
use crate::crl::RevocationLists;
use crate::files::{Contents, Material};
use crate::{IdentityError, RevocationList, TrustDomain};

/// The roots of our own trust domain, of each federated one, and of each other cluster with roots of its own. Every one of
/// them has at least one root.
pub struct TrustBundles {
    bundles: BTreeMap<TrustDomain, Bundle>,
    clusters: BTreeMap<Arc<str>, ClusterBundle>,
}

/// What is told of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Whose workloads it vouches for.
    pub trust_domain: TrustDomain,
    /// The one cluster of whose workloads that is so; `None` = the trust domain's.
    pub cluster: Option<Arc<str>>,
    /// SHA-256 of the certificate, in lower-case hexadecimal without separators.
    pub sha256: Arc<str>,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when, included.
    pub not_after: SystemTime,
}

/// What vouches for the workloads of one other cluster, and for nobody else's.
pub(crate) struct ClusterBundle {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) bundle: Bundle,
}

/// The roots of one trust domain; several while an old and a new one overlap. The five lists run side by side, because
/// webpki wants the anchors as a slice.
pub(crate) struct Bundle {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    validity: Vec<(SystemTime, SystemTime)>,
    /// The revocation lists of each.
    revocation: Vec<Vec<Arc<RevocationList>>>,
    /// The fingerprint of each, as [`Root::sha256`] has it.
    fingerprints: Vec<Arc<str>>,
}

impl TrustBundles {
    pub(crate) fn from_pem(material: &Material, lists: &RevocationLists) -> Result<Self, IdentityError> {
        let bundle = |(domain, file): (&TrustDomain, &Contents)| Ok((domain.clone(), Bundle::from_pem(file, lists)?));
        let cluster = |(key, (trust_domain, file)): (&Arc<str>, &(TrustDomain, Contents))| {
            let bundle = Bundle::from_pem(file, lists)?;
            Ok((Arc::clone(key), ClusterBundle { trust_domain: trust_domain.clone(), bundle }))
        };
        Ok(Self {
            bundles: material.bundles.iter().map(bundle).collect::<Result<_, _>>()?,
            clusters: material.clusters.iter().map(cluster).collect::<Result<_, _>>()?,
        })
    }

    /// Whether a list is that of a root here.
    pub(crate) fn knows_issuer_of(&self, list: &RevocationList) -> bool {
        self.all()
            .flat_map(|bundle| bundle.revocation.iter().flatten())
            .any(|known| std::ptr::eq(&raw const **known, list))
    }

    /// Every bundle, whoever's it is.
    fn all(&self) -> impl Iterator<Item = &Bundle> {
        self.bundles.values().chain(self.clusters.values().map(|cluster| &cluster.bundle))
    }

    /// The trust domains that have a bundle of their own, in order: ours and the federated ones.
    pub fn trust_domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.bundles.keys()
    }

    /// The roots of one trust domain, as they stand in its file; none when it has no bundle.
    pub fn roots(&self, trust_domain: &TrustDomain) -> &[CertificateDer<'static>] {
        self.of(trust_domain.as_str()).map_or(&[], |bundle| &bundle.certificates)
    }

    /// The clusters that have roots of their own, in order, with the trust domain of each.
    pub fn clusters(&self) -> impl Iterator<Item = (&str, &TrustDomain)> {
        self.clusters.iter().map(|(key, cluster)| (&**key, &cluster.trust_domain))
    }

    /// When each root ends, whoever's it is.
    pub fn ends(&self) -> impl Iterator<Item = SystemTime> {
        self.all().flat_map(|bundle| bundle.validity.iter().map(|(_, end)| *end))
    }

    /// All roots, with what each vouches for.
    pub fn inventory(&self) -> Vec<Root> {
        let domains = self.bundles.iter().map(|(domain, bundle)| (domain, None, bundle));
        let clusters = self.clusters.iter().map(|(key, of)| (&of.trust_domain, Some(Arc::clone(key)), &of.bundle));
        let roots = |(trust_domain, cluster, bundle): (&TrustDomain, Option<Arc<str>>, &Bundle)| -> Vec<Root> {
            let root = |(sha256, (not_before, not_after)): (&Arc<str>, &(SystemTime, SystemTime))| Root {
                trust_domain: trust_domain.clone(),
                cluster: cluster.clone(),
                sha256: Arc::clone(sha256),
                not_before: *not_before,
                not_after: *not_after,
            };
            bundle.fingerprints.iter().zip(&bundle.validity).map(root).collect()
        };
        domains.chain(clusters).flat_map(roots).collect()
    }

    pub(crate) fn of(&self, trust_domain: &str) -> Option<&Bundle> {
        self.bundles.get(trust_domain)
    }

    pub(crate) fn of_cluster(&self, key: &str) -> Option<&ClusterBundle> {
        self.clusters.get(key)
    }

    /// The clusters of a trust domain, each with its own roots.
    pub(crate) fn clusters_of(&self, trust_domain: &str) -> impl Iterator<Item = (&Arc<str>, &Bundle)> {
        let all = self.clusters.iter().filter(move |(_, cluster)| cluster.trust_domain.as_str() == trust_domain);
        all.map(|(key, cluster)| (key, &cluster.bundle))
    }
}

impl fmt::Debug for TrustBundles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = |(domain, bundle): (_, &Bundle)| (domain, bundle.certificates.len());
        let of_cluster = |(key, cluster): (_, &ClusterBundle)| (key, cluster.bundle.certificates.len());
        f.debug_map().entries(self.bundles.iter().map(roots)).entries(self.clusters.iter().map(of_cluster)).finish()
    }
}

impl Bundle {
    fn from_pem(file: &Contents, lists: &RevocationLists) -> Result<Self, IdentityError> {
        let certificates = file.certificates()?;
        if certificates.is_empty() {
            return Err(IdentityError::NoCertificate { file: file.file.clone() });
        }
        let (mut anchors, mut validity, mut revocation) = (Vec::new(), Vec::new(), Vec::new());
        for (der, position) in certificates.iter().zip(1..) {
            let root = certificate::parse(der).map_err(|reason| file.malformed(position, reason))?;
            if let Some(reason) = why_not_root(&root) {
                let subject = root.subject().to_string();
                return Err(IdentityError::NotRoot { file: file.file.clone(), subject, reason });
            }
            let anchor =
                webpki::anchor_from_trusted_cert(der).map_err(|error| file.malformed(position, error.to_string()))?;
            anchors.push(anchor.to_owned());
            validity.push(certificate::validity(&root));
            lists.check_origin(&root)?;
            revocation.push(lists.of(&root));
        }
        let fingerprints = certificates.iter().map(|der| certificate::sha256(der).into()).collect();
        Ok(Self { certificates, anchors, validity, revocation, fingerprints })
    }

    /// The fingerprint of the root that an anchor is of. Of several by one name and key, which no chain tells apart, it is the one that
    /// is valid at the time and ends last: nothing depends on those before it.
    pub(crate) fn fingerprint(&self, anchor: &TrustAnchor<'_>, now: UnixTime) -> Option<Arc<str>> {
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let same = |known: &TrustAnchor<'_>| {
            known.subject == anchor.subject && known.subject_public_key_info == anchor.subject_public_key_info
        };
        let all = self.anchors.iter().zip(&self.validity).zip(&self.fingerprints);
        let last =
            all.filter(|((known, (start, _)), _)| *start <= now && same(known)).max_by_key(|((_, (_, end)), _)| *end);
        last.map(|(_, fingerprint)| Arc::clone(fingerprint))
    }

    /// When the first of the anchors that are valid at the time ends.
    pub(crate) fn first_end(&self, now: UnixTime) -> UnixTime {
        let at = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let ends = self.validity.iter().filter(|(start, end)| *start <= at && at <= *end).map(|(_, end)| *end);
        ends.min().map_or(now, certificate::unix_time)
    }

    /// Each anchor that is valid at the time, with its own revocation lists.
    pub(crate) fn each_at(
        &self,
        now: UnixTime,
    ) -> impl Iterator<Item = (&TrustAnchor<'static>, &[Arc<RevocationList>])> {
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let all = self.anchors.iter().zip(&self.revocation).zip(&self.validity);
        all.filter(move |(_, (start, end))| *start <= now && now <= *end)
            .map(|((anchor, lists), _)| (anchor, lists.as_slice()))
    }

    /// The anchors that are valid at the time: webpki itself does not look at the validity of an anchor.
    pub(crate) fn anchors_at(&self, now: UnixTime) -> Cow<'_, [TrustAnchor<'static>]> {
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let valid = |(start, end): &(SystemTime, SystemTime)| *start <= now && now <= *end;
        if self.validity.iter().all(valid) {
            return Cow::Borrowed(&self.anchors);
        }
        let pairs = self.anchors.iter().zip(&self.validity);
        Cow::Owned(pairs.filter(|(_, validity)| valid(validity)).map(|(anchor, _)| anchor.clone()).collect())
    }
}

/// What keeps a certificate from being a root; the validity in time is not looked at.
pub(crate) fn why_not_root(root: &x509_parser::certificate::X509Certificate<'_>) -> Option<String> {
    match certificate::is_ca(root) {
        Err(reason) => return Some(reason),
        Ok(false) => return Some("it is not a certificate authority".to_owned()),
        Ok(true) => {}
    }
    if !certificate::may_sign_certificates(root) {
        return Some("its key usage has no keyCertSign".to_owned());
    }
    certificate::weak_rsa_bits(root.public_key())
        .map(|bits| format!("its RSA key has {bits} bits, at least {MIN_RSA_BITS} are wanted"))
}

#[cfg(test)]
impl TrustBundles {
    /// For tests: one trust domain, its roots as PEM.
    pub(crate) fn of_one(trust_domain: &str, pem: &str) -> Self {
        let contents = Contents { file: "roots.pem".into(), bytes: pem.as_bytes().to_vec() };
        let bundle = Bundle::from_pem(&contents, &RevocationLists::default()).unwrap();
        Self { bundles: BTreeMap::from([(trust_domain.parse().unwrap(), bundle)]), clusters: BTreeMap::new() }
    }
}
