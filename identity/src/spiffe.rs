//! SPIFFE IDs and trust domains, read strictly.
//!
//! The one idea: a value of these types has been checked, so that everything behind it may compare whole strings and
//! never has to ask again what is in them. The rules are those of the
//! [SPIFFE ID standard](https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md), section 2.
//!
//! What this does not do: say whether a certificate may carry the ID (an ID without a path is a trust domain's own and
//! is for signing certificates only; see [`peer_identity`](crate::peer_identity)).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The scheme and what separates it from the trust domain.
///
/// RFC 3986 lets a scheme be written in capitals. Issuers write lower case, go-spiffe accepts nothing else, and with one
/// spelling only two equal IDs are equal strings: so lower case it is.
const SCHEME: &str = "spiffe://";

/// Bytes; the standard asks for support up to this and forbids issuing more.
const MAX_ID: usize = 2048;

/// Bytes; the standard's limit for a trust domain name, the host of the URI.
const MAX_TRUST_DOMAIN: usize = 255;

/// Why a text is not a SPIFFE ID or a trust domain. Offsets are in bytes from the start of the text that was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpiffeIdError {
    /// The whole ID is over 2,048 bytes.
    #[error("it is {length} bytes long, {MAX_ID} are allowed")]
    TooLong {
        /// In bytes.
        length: usize,
    },
    /// It does not start with `spiffe://`, in lower case.
    #[error("it does not start with {SCHEME:?} in lower case")]
    Scheme,
    /// Nothing stands between the scheme and the path.
    #[error("the trust domain is empty")]
    NoTrustDomain,
    /// The trust domain is over 255 bytes.
    #[error("the trust domain is {length} bytes long, {MAX_TRUST_DOMAIN} are allowed")]
    TrustDomainTooLong {
        /// In bytes.
        length: usize,
    },
    /// A character no trust domain has: a capital, a port, userinfo, a query, percent-encoding.
    #[error("{character:?} at byte {offset} is not allowed in a trust domain (a-z 0-9 . - _)")]
    TrustDomainCharacter {
        /// What stands there.
        character: char,
        /// Where it stands.
        offset: usize,
    },
    /// The path ends in `/`.
    #[error("the path ends in '/'")]
    TrailingSlash,
    /// Two `/` in a row, or an empty name given for a segment.
    #[error("the path segment at byte {offset} is empty")]
    EmptySegment {
        /// Where it would start.
        offset: usize,
    },
    /// A segment that is `.` or `..`.
    #[error("the path segment {segment:?} at byte {offset} is relative")]
    RelativeSegment {
        /// `.` or `..`.
        segment: &'static str,
        /// Where it starts.
        offset: usize,
    },
    /// A character no path segment has: percent-encoding, a query, a fragment, anything outside ASCII.
    #[error("{character:?} at byte {offset} is not allowed in a path (A-Z a-z 0-9 . - _)")]
    PathCharacter {
        /// What stands there.
        character: char,
        /// Where it stands.
        offset: usize,
    },
}

/// A trust domain's name: lower-case letters, digits, `.`, `-` and `_`, at most 255 bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name, without a scheme: `cluster.local`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        check_trust_domain(name, 0)?;
        Ok(Self(name.into()))
    }
}

impl AsRef<str> for TrustDomain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// So that a map by trust domain can be asked with [`SpiffeId::trust_domain_str`].
impl Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A SPIFFE ID: `spiffe://<trust domain>[/<segment>...]`, at most 2,048 bytes. Cheap to clone.
///
/// Two IDs are equal when their texts are; the path is case-sensitive.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    uri: Arc<str>,
    /// Where the trust domain ends and the path, if there is one, starts.
    path_start: usize,
}

impl SpiffeId {
    /// The ID of a Kubernetes service account: `spiffe://<td>/ns/<namespace>/sa/<service account>`.
    ///
    /// # Errors
    /// When one of the names is not one path segment, or all is too long.
    pub fn from_service_account(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, SpiffeIdError> {
        // Each name by itself: a slash inside one would otherwise make two valid segments of it.
        check_segment(namespace, 0)?;
        check_segment(service_account, 0)?;
        format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}").parse()
    }

    /// The whole URI: `spiffe://cluster.local/ns/default/sa/frontend`.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// Istio's spelling, without the scheme: `cluster.local/ns/default/sa/frontend`.
    pub fn principal(&self) -> &str {
        self.uri.get(SCHEME.len()..).unwrap_or_default()
    }

    /// The trust domain's name, borrowed: `cluster.local`.
    pub fn trust_domain_str(&self) -> &str {
        self.uri.get(SCHEME.len()..self.path_start).unwrap_or_default()
    }

    /// The trust domain, owned; allocates.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.trust_domain_str().into())
    }

    /// The path with its leading slash, `/ns/default/sa/frontend`; empty for a trust domain's own ID.
    pub fn path(&self) -> &str {
        self.uri.get(self.path_start..).unwrap_or_default()
    }

    /// The Kubernetes namespace, when the path is exactly `/ns/<namespace>/sa/<service account>`.
    pub fn namespace(&self) -> Option<&str> {
        self.kubernetes().map(|(namespace, _)| namespace)
    }

    /// The Kubernetes service account, when the path is exactly `/ns/<namespace>/sa/<service account>`.
    pub fn service_account(&self) -> Option<&str> {
        self.kubernetes().map(|(_, service_account)| service_account)
    }

    fn kubernetes(&self) -> Option<(&str, &str)> {
        let (namespace, rest) = self.path().strip_prefix("/ns/")?.split_once('/')?;
        let service_account = rest.strip_prefix("sa/")?;
        (!service_account.contains('/')).then_some((namespace, service_account))
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        // First, so that nothing below is done for a text of any length.
        if uri.len() > MAX_ID {
            return Err(SpiffeIdError::TooLong { length: uri.len() });
        }
        let rest = uri.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let (trust_domain, path) = match rest.split_once('/') {
            Some((trust_domain, path)) => (trust_domain, Some(path)),
            None => (rest, None),
        };
        check_trust_domain(trust_domain, SCHEME.len())?;
        let path_start = SCHEME.len() + trust_domain.len();
        if let Some(path) = path {
            check_path(path, path_start + 1)?;
        }
        Ok(Self { uri: uri.into(), path_start })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.uri)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.uri, f)
    }
}

fn check_trust_domain(name: &str, start: usize) -> Result<(), SpiffeIdError> {
    if name.is_empty() {
        return Err(SpiffeIdError::NoTrustDomain);
    }
    if name.len() > MAX_TRUST_DOMAIN {
        return Err(SpiffeIdError::TrustDomainTooLong { length: name.len() });
    }
    match name.char_indices().find(|(_, c)| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_')) {
        Some((at, character)) => Err(SpiffeIdError::TrustDomainCharacter { character, offset: start + at }),
        None => Ok(()),
    }
}

/// `path` is without its leading slash, `start` is where it stands in the whole.
fn check_path(path: &str, start: usize) -> Result<(), SpiffeIdError> {
    if path.is_empty() || path.ends_with('/') {
        return Err(SpiffeIdError::TrailingSlash);
    }
    let mut offset = start;
    for segment in path.split('/') {
        check_segment(segment, offset)?;
        offset += segment.len() + 1;
    }
    Ok(())
}

fn check_segment(segment: &str, offset: usize) -> Result<(), SpiffeIdError> {
    match segment {
        "" => return Err(SpiffeIdError::EmptySegment { offset }),
        "." => return Err(SpiffeIdError::RelativeSegment { segment: ".", offset }),
        ".." => return Err(SpiffeIdError::RelativeSegment { segment: "..", offset }),
        _ => {}
    }
    match segment.char_indices().find(|(_, c)| !matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '-' | '_')) {
        Some((at, character)) => Err(SpiffeIdError::PathCharacter { character, offset: offset + at }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
