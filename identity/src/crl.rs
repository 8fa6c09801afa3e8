//! Certificate revocation lists (RFC 5280, section 5): what an authority has taken back before its time.
//!
//! The one idea: a list belongs to the key that signed it. It counts for whatever that key has issued, in whichever bundle the
//! key stands, and for nothing else: another authority of the same name is neither harmed nor helped by it. Which roots a list is of
//! is found out once, when it is loaded; the authorities between are seen in handshakes only, and asked there.
//!
//! What this does not do: judge a certificate. rustls-webpki looks into the lists that are chosen here, while it builds the path.
//! Nothing is fetched: distribution points in certificates are not followed. Delta lists and indirect ones are refused.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::files::Contents;
use crate::{IdentityError, certificate};

/// One revocation list in force.
pub struct RevocationList {
    file: PathBuf,
    issuer: String,
    raw_issuer: Vec<u8>,
    this_update: SystemTime,
    next_update: Option<SystemTime>,
    revoked: usize,
    der: CertificateRevocationListDer<'static>,
    checked: CertRevocationList<'static>,
}

impl RevocationList {
    /// Every list of a PEM file, in order, of which there is at least one.
    fn all_of(file: &Contents) -> Result<Vec<Self>, IdentityError> {
        let lists = Self::listed_in(file)?;
        if lists.is_empty() {
            return Err(IdentityError::NoRevocationList { file: file.file.clone() });
        }
        Ok(lists)
    }

    /// Every list of a PEM file, in order.
    pub(crate) fn listed_in(file: &Contents) -> Result<Vec<Self>, IdentityError> {
        let ders = file.revocation_lists()?;
        let one = |(der, position): (CertificateRevocationListDer<'static>, usize)| {
            let unusable = |reason| IdentityError::RevocationList { file: file.file.clone(), position, reason };
            Self::from_der(&file.file, der).map_err(unusable)
        };
        ders.into_iter().zip(1..).map(one).collect()
    }

    fn from_der(file: &Path, der: CertificateRevocationListDer<'static>) -> Result<Self, String> {
        let list = parse(&der)?;
        let checked = OwnedCertRevocationList::from_der(&der).map_err(|error| format!("{error:?}"))?;
        let issuer = (list.issuer().to_string(), list.issuer().as_raw().to_vec());
        let this_update = certificate::system_time(list.last_update());
        let next_update = list.next_update().map(certificate::system_time);
        let revoked = list.iter_revoked_certificates().count();
        let file = file.to_owned();
        let (issuer, raw_issuer) = issuer;
        Ok(Self { file, issuer, raw_issuer, this_update, next_update, revoked, checked: checked.into(), der })
    }

    /// The file it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The distinguished name of who issued it, and what it lists.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When it was made.
    pub fn this_update(&self) -> SystemTime {
        self.this_update
    }

    /// When the next one was to be there; from then on nothing is known about what its issuer issued. `None` = it doesn't say.
    pub fn next_update(&self) -> Option<SystemTime> {
        self.next_update
    }

    /// How many certificates it lists.
    pub fn revoked(&self) -> usize {
        self.revoked
    }

    pub(crate) fn checked(&self) -> &CertRevocationList<'static> {
        &self.checked
    }

    fn is_named_after(&self, authority: &X509Certificate<'_>) -> bool {
        self.raw_issuer == authority.subject().as_raw()
    }

    /// Whether the key identifiers of the two are there and the same.
    fn names_key_of(&self, authority: &X509Certificate<'_>) -> bool {
        let Ok(list) = parse(&self.der) else { return false };
        let named = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(named) => named.key_identifier.as_ref(),
            _ => None,
        });
        let own = authority.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(own) => Some(own),
            _ => None,
        });
        named.is_some() && named == own
    }

    fn is_of(&self, authority: &X509Certificate<'_>, algorithms: &[&dyn SignatureVerificationAlgorithm]) -> bool {
        self.is_named_after(authority) && is_signed_by(&self.der, authority, algorithms)
    }
}

impl fmt::Display for RevocationList {
    /// Several lines, the first without indentation, no line end after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = self.next_update.map_or_else(|| "(it does not say)".to_owned(), certificate::rfc3339);
        let issuer: String = self.issuer.chars().filter(|c| !c.is_control()).collect();
        write!(f, "revocation list of {issuer}\n  {:<11} {}", "made", certificate::rfc3339(self.this_update))?;
        write!(f, "\n  {:<11} {next}\n  {:<11} {}", "next", "revoked", self.revoked)?;
        if self.next_update.is_some_and(|next| next <= SystemTime::now()) {
            write!(f, "\n  {:<11} it has ended", "PROBLEM")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationList")
            .field("file", &self.file)
            .field("issuer", &self.issuer)
            .field("next_update", &self.next_update.map(certificate::rfc3339))
            .field("revoked", &self.revoked)
            .finish_non_exhaustive()
    }
}

/// All lists in force, the newest first: of two by the same key the newer one counts.
#[derive(Debug, Default)]
pub(crate) struct RevocationLists {
    lists: Vec<Arc<RevocationList>>,
    /// Whether a certificate whose issuer has no list is refused.
    required: bool,
    algorithms: Vec<&'static dyn SignatureVerificationAlgorithm>,
}

impl RevocationLists {
    pub(crate) fn from_pem(
        files: &[Contents],
        required: bool,
        algorithms: &[&'static dyn SignatureVerificationAlgorithm],
    ) -> Result<Self, IdentityError> {
        let mut lists = Vec::new();
        for file in files {
            lists.extend(RevocationList::all_of(file)?.into_iter().map(Arc::new));
        }
        lists.sort_by_key(|list| std::cmp::Reverse(list.this_update));
        Ok(Self { lists, required, algorithms: algorithms.to_vec() })
    }

    /// Whether nothing is to be looked at beside the chain itself.
    pub(crate) fn are_of_no_matter(&self) -> bool {
        self.lists.is_empty() && !self.required
    }

    pub(crate) fn is_required(&self) -> bool {
        self.required
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &RevocationList> {
        self.lists.iter().map(|list| &**list)
    }

    /// The lists by an authority's key.
    pub(crate) fn of(&self, authority: &X509Certificate<'_>) -> Vec<Arc<RevocationList>> {
        self.lists.iter().filter(|list| list.is_of(authority, &self.algorithms)).map(Arc::clone).collect()
    }

    /// The lists by the key of any of these authorities, none of which is believed yet.
    pub(crate) fn of_any(&self, authorities: &[CertificateDer<'_>]) -> Vec<Arc<RevocationList>> {
        if self.lists.is_empty() {
            return Vec::new();
        }
        authorities.iter().filter_map(|der| certificate::parse(der).ok()).flat_map(|parsed| self.of(&parsed)).collect()
    }

    /// Refuses a list that names a root's key and is not signed by it: left in, it would look like protection and be none. One of
    /// another key under that name is let be: when a root is taken out, its list may stay for a while.
    pub(crate) fn check_origin(&self, root: &X509Certificate<'_>) -> Result<(), IdentityError> {
        let is_forged = |list: &&Arc<RevocationList>| {
            list.is_named_after(root) && list.names_key_of(root) && !list.is_of(root, &self.algorithms)
        };
        match self.lists.iter().find(is_forged) {
            None => Ok(()),
            Some(list) => {
                Err(IdentityError::RevocationListOrigin { file: list.file.clone(), issuer: list.issuer.clone() })
            }
        }
    }
}

pub(crate) fn parse(der: &[u8]) -> Result<CertificateRevocationList<'_>, String> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        Ok((rest, _)) => Err(format!("{} bytes follow it", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether an authority may sign lists and has signed this one. What its signature is worth webpki decides, strictly, when it is used:
/// here every algorithm is tried, to tell authorities of one name apart.
pub(crate) fn is_signed_by(
    list: &[u8],
    authority: &X509Certificate<'_>,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> bool {
    let Ok(list) = parse(list) else { return false };
    let may_sign = authority.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()));
    let signed = (list.tbs_cert_list.as_ref(), list.signature_value.data.as_ref());
    may_sign && certificate::is_signature_of(authority, signed, algorithms)
}

#[cfg(test)]
mod tests;
