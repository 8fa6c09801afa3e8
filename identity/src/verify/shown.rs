//! What a peer showed, put before one bundle: is there a chain that ends in it, and on which nothing is revoked?
//!
//! The one idea: the path is webpki's, and what webpki cannot know is looked at here: which revocation lists are a root's own, what an
//! intermediate's key is for, and until when the answer holds.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptions, RevocationOptionsBuilder,
    UnknownStatusPolicy, VerifiedPath,
};

use crate::bundle::Bundle;
use crate::crl::RevocationLists;
use crate::verified::Found;
use crate::verify::ChainRoot;
use crate::{PeerError, RevocationList, SpiffeId, certificate};

/// What a peer showed, and what it is to be good for.
pub(super) struct Shown<'a> {
    /// What it claims.
    pub(super) peer: &'a SpiffeId,
    pub(super) der: &'a CertificateDer<'a>,
    pub(super) leaf: EndEntityCert<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
    pub(super) usage: KeyUsage,
    pub(super) now: UnixTime,
    pub(super) algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    pub(super) lists: Lists<'a>,
}

/// The revocation lists that may have a say about it, beside those of the roots.
pub(super) struct Lists<'a> {
    pub(super) all: &'a RevocationLists,
    pub(super) of_intermediates: Vec<Arc<RevocationList>>,
}

impl Shown<'_> {
    /// Whether a chain of it ends in a root of this bundle, which is `cluster`'s own or that of the trust domain; in which, and until
    /// when.
    pub(super) fn leads_to(&self, bundle: &Bundle, cluster: Option<&Arc<str>>) -> Result<Found, PeerError> {
        let anchors = bundle.anchors_at(self.now);
        if anchors.is_empty() {
            return Err(PeerError::NoValidRoot { peer: self.peer.clone() });
        }
        let chain = |source| PeerError::Chain { peer: self.peer.clone(), cluster: cluster.cloned(), source };
        if self.lists.all.are_of_no_matter() {
            return self.found(bundle, &self.path(&anchors, None).map_err(chain)?);
        }
        let mut failed = webpki::Error::UnknownIssuer;
        // One by one: of two roots of one name each has lists of its own.
        for (anchor, of_root) in bundle.each_at(self.now) {
            match self.unrevoked_path(anchor, of_root) {
                Ok(path) => return self.found(bundle, &path),
                // A root of that name by another key has less to say than the one that signed.
                Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey)
                    if failed != webpki::Error::UnknownIssuer => {}
                Err(error) => failed = error,
            }
        }
        Err(chain(failed))
    }

    /// A path to this root on which nothing is revoked, with the root's own lists.
    fn unrevoked_path<'p>(
        &'p self,
        anchor: &'p TrustAnchor<'static>,
        of_root: &[Arc<RevocationList>],
    ) -> Result<VerifiedPath<'p>, webpki::Error> {
        let anchors = std::slice::from_ref(anchor);
        let lists = of_root.iter().chain(&self.lists.of_intermediates);
        let lists: Vec<_> = lists.map(|list| list.checked()).collect();
        let required = self.lists.all.is_required();
        let Ok(options) = RevocationOptionsBuilder::new(&lists) else {
            let path = self.path(anchors, None)?;
            return if required { Err(webpki::Error::UnknownRevocationStatus) } else { Ok(path) };
        };
        let unknown = if required { UnknownStatusPolicy::Deny } else { UnknownStatusPolicy::Allow };
        let options = options
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(unknown)
            .with_expiration_policy(ExpirationPolicy::Enforce);
        self.path(anchors, Some(options.build()))
    }

    fn path<'p>(
        &'p self,
        anchors: &'p [TrustAnchor<'static>],
        revocation: Option<RevocationOptions<'_>>,
    ) -> Result<VerifiedPath<'p>, webpki::Error> {
        let (algorithms, usage) = (self.algorithms, self.usage);
        self.leaf.verify_for_usage(algorithms, anchors, self.intermediates, self.now, usage, revocation, None)
    }

    /// Which root of this bundle a chain of it ends in.
    pub(super) fn root(&self, bundle: &Bundle) -> Option<ChainRoot> {
        let anchors = bundle.anchors_at(self.now);
        let path = self.path(&anchors, None).ok()?;
        let key = certificate::sha256(&path.anchor().subject_public_key_info).into();
        Some(ChainRoot { key, fingerprint: bundle.fingerprint(path.anchor(), self.now)? })
    }

    fn found(&self, bundle: &Bundle, path: &VerifiedPath<'_>) -> Result<Found, PeerError> {
        let lists = self.lists.all.iter().filter_map(RevocationList::next_update).map(certificate::unix_time);
        let lists = lists.filter(|end| *end >= self.now).min();
        let mut end = bundle.first_end(self.now).min(end(self.der).unwrap_or(self.now));
        end = end.min(lists.unwrap_or(end));
        for intermediate in path.intermediate_certificates() {
            let der = intermediate.der();
            if !certificate::parse(&der).is_ok_and(|ca| certificate::may_sign_certificates(&ca)) {
                return Err(PeerError::IntermediateMayNotSign { peer: self.peer.clone() });
            }
            end = end.min(self::end(&der).unwrap_or(self.now));
        }
        Ok(Found { peer: self.peer.clone(), root: bundle.fingerprint(path.anchor(), self.now), until: end })
    }
}

/// When a certificate ends.
fn end(der: &CertificateDer<'_>) -> Option<UnixTime> {
    let certificate = certificate::parse(der).ok()?;
    Some(certificate::unix_time(certificate::validity(&certificate).1))
}
