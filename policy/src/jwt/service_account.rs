//! Tokens of Kubernetes service accounts, as proof of who somebody is and not of an end user.
//!
//! The one idea: the same checks as any token's, and stricter where such a token always says more: it is for our audience, and it ends.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use crate::jwt::key_set::{KeySet, KeySets};
use crate::jwt::rejection::Rejection;
use crate::jwt::rule::{JwtRule, KeySource, normalized_audience};

/// Before the subject of every service account's token (Kubernetes, "Managing Service Accounts").
const PREFIX: &str = "system:serviceaccount:";

/// Whose tokens are believed.
#[derive(Debug, Clone)]
pub struct ServiceAccountTokens(JwtRule);

/// A service account that a token was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Why a token is not a service account's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// As of any token.
    #[error("{0}")]
    Rejected(Rejection),
    /// It would be good for ever: one of the old kind, from a Secret.
    #[error("it has no expiry")]
    Endless,
    /// Its subject is somebody else.
    #[error("its subject is no service account")]
    Subject,
}

impl ServiceAccountTokens {
    /// Tokens of this issuer (`iss`, letter by letter) for this audience, signed by one of these keys.
    pub fn new(issuer: &str, audience: &str, keys: Arc<KeySet>) -> Self {
        Self(JwtRule {
            issuer: issuer.into(),
            audiences: [normalized_audience(audience).into()].into(),
            keys: KeySource::Inline(keys),
            places: Vec::new(),
            forward: false,
            payload_header: None,
            claim_headers: Vec::new(),
            words: Vec::new(),
        })
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// It is not a good one.
    pub fn check(&self, token: &[u8], now: SystemTime) -> Result<ServiceAccount, TokenError> {
        // An empty issuer or audience would be anybody's.
        if self.0.issuer.is_empty() {
            return Err(TokenError::Rejected(Rejection::Issuer));
        }
        let claims = self.0.verify(token, &KeySets::default(), now).map_err(TokenError::Rejected)?.token;
        if claims.claim("exp").is_none() {
            return Err(TokenError::Endless);
        }
        let subject = claims.claim("sub").and_then(Value::as_str).and_then(|subject| subject.strip_prefix(PREFIX));
        match subject.and_then(|subject| subject.split_once(':')) {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains(':') => {
                Ok(ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(TokenError::Subject),
        }
    }
}
