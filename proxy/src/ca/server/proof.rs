//! Who asks: by a Kubernetes service account's token, or by a certificate of this authority.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use meshgate_identity::{Identity, PeerChain, PeerRole, SpiffeId, Standing, TrustDomain};
use meshgate_policy::jwt::{KeySet, KeySetError, Rejection, ServiceAccountTokens, TokenError};
use rustls::pki_types::CertificateDer;

use super::refusal::Refusal;

/// Bytes of a key set. One of a hundred keys has 50 KiB.
const KEYS_MAX: u64 = 1024 * 1024;

/// Before a bearer token (RFC 6750, 2.1), in any case.
const SCHEME: &str = "bearer ";

/// Whose tokens are believed.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// A JWK Set; read again when it changes.
    pub jwks: PathBuf,
    /// `iss`, letter by letter.
    pub issuer: String,
    /// What `aud` must have.
    pub audience: String,
}

/// Why tokens cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The key set cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// It is none, or has no key.
    #[error("{}: it {reason}", path.display())]
    KeySet {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A key set, and what is checked with it.
#[derive(Debug)]
pub struct Tokens {
    text: Vec<u8>,
    checked: ServiceAccountTokens,
    settings: TokenSettings,
}

impl Tokens {
    /// Reads the key set.
    ///
    /// # Errors
    /// It is none, or no token could be checked with it.
    pub fn open(settings: &TokenSettings) -> Result<Self, TokensError> {
        Self::parse(settings, read(&settings.jwks)?)
    }

    /// The set as it is now, if it is another.
    pub(super) fn reread(&self) -> Option<Result<Self, TokensError>> {
        match read(&self.settings.jwks) {
            Ok(text) if text == self.text => None,
            Ok(text) => Some(Self::parse(&self.settings, text)),
            Err(error) => Some(Err(error)),
        }
    }

    fn parse(settings: &TokenSettings, text: Vec<u8>) -> Result<Self, TokensError> {
        let wrong = |reason: String| TokensError::KeySet { path: settings.jwks.clone(), reason };
        let keys = KeySet::parse(&text).map_err(|error: KeySetError| wrong(error.to_string()))?;
        if keys.is_empty() {
            return Err(wrong("has no key that tokens could be checked with".to_owned()));
        }
        if keys.has_private_key() {
            return Err(wrong("has a private key in it, which belongs to nobody but the issuer".to_owned()));
        }
        let checked = ServiceAccountTokens::new(&settings.issuer, &settings.audience, Arc::new(keys));
        Ok(Self { text, checked, settings: settings.clone() })
    }

    /// With what was wanted, where somebody may have mistaken one for another.
    fn refusal(&self, error: TokenError) -> Refusal {
        let (option, wanted) = match error {
            TokenError::Rejected(Rejection::Issuer) => ("--token-issuer", &self.settings.issuer),
            TokenError::Rejected(Rejection::Audience) => ("--token-audience", &self.settings.audience),
            _ => return Refusal::Token(error),
        };
        Refusal::Elsewhere { error, option, wanted: wanted.clone() }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TokensError> {
    let failed = |source| TokensError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(KEYS_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > KEYS_MAX {
        let reason = format!("has more than {KEYS_MAX} bytes");
        return Err(TokensError::KeySet { path: path.to_owned(), reason });
    }
    Ok(text)
}

/// Somebody who has proven who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proven {
    pub(super) id: SpiffeId,
    /// `token` or `certificate`, as in the journal.
    pub(super) by: &'static str,
}

/// What is there to be looked at.
pub(super) struct Shown<'a> {
    pub(super) headers: &'a HeaderMap,
    /// What the connection's handshake had, leaf first; empty where it had none.
    pub(super) certificates: &'a [CertificateDer<'static>],
}

/// Who has asked, by `identity` as it is now: a certificate may have been revoked since the connection began. A token that is shown must be a
/// good one; with a certificate beside it, both must be of the same.
pub(super) fn proven(
    shown: &Shown<'_>,
    tokens: Option<&Tokens>,
    identity: &Identity,
    now: SystemTime,
) -> Result<Proven, Refusal> {
    let trust_domain = identity.svid().id().trust_domain();
    let by_token = match bearer(shown.headers)? {
        Some(token) => Some(account(token, tokens.ok_or(Refusal::NoKeys)?, &trust_domain, now)?),
        None => None,
    };
    let by_certificate = match shown.certificates.is_empty() {
        true => None,
        false => Some(certified(shown.certificates, identity, &trust_domain, now)?),
    };
    match (by_token, by_certificate) {
        (Some(token), Some(certificate)) if token != certificate => Err(Refusal::TwoIdentities { token, certificate }),
        (Some(id), _) => Ok(Proven { id, by: "token" }),
        (None, Some(id)) => Ok(Proven { id, by: "certificate" }),
        (None, None) => Err(Refusal::NoProof),
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let (scheme, token) = value.as_bytes().split_at_checked(SCHEME.len()).ok_or(Refusal::Authorization)?;
    if all.next().is_some() || !scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) {
        return Err(Refusal::Authorization);
    }
    Ok(Some(token))
}

fn account(token: &[u8], tokens: &Tokens, trust_domain: &TrustDomain, now: SystemTime) -> Result<SpiffeId, Refusal> {
    let account = tokens.checked.check(token, now).map_err(|error| tokens.refusal(error))?;
    Ok(SpiffeId::from_service_account(trust_domain, &account.namespace, &account.name)?)
}

fn certified(
    certificates: &[CertificateDer<'static>],
    identity: &Identity,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<SpiffeId, Refusal> {
    let chain = PeerChain::new(certificates, PeerRole::Caller);
    match identity.standing(&chain, now, Duration::ZERO) {
        Standing::Good { .. } => {}
        Standing::Expired { .. } => return Err(Refusal::Certificate(meshgate_identity::Lost::Expired)),
        Standing::Over(why) => return Err(Refusal::Certificate(why)),
    }
    // It was good just now, so it can be read.
    let id = identity.caller(certificates).map_err(|_| Refusal::Certificate(meshgate_identity::Lost::Untrusted))?;
    // Nobody has our own name but we.
    if id.trust_domain_str() != trust_domain.as_str() || id == *identity.svid().id() {
        return Err(Refusal::Stranger(id));
    }
    Ok(id)
}
