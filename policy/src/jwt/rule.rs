//! One rule: whose tokens, found where, checked with which keys.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::jwt::claims::{self, Times};
use crate::jwt::compact::Compact;
use crate::jwt::key_set::{KeyLocation, KeySet, KeySets};
use crate::jwt::output::ClaimHeader;
use crate::jwt::place::Place;
use crate::jwt::rejection::Rejection;
use crate::model::{ObjectName, Workload};
use crate::select::{self, Scope};
use crate::token::Token;

/// One RequestAuthentication.
#[derive(Clone, Debug)]
pub struct RequestAuthentication {
    pub(crate) name: ObjectName,
    pub(crate) scope: Scope,
    pub(crate) rules: Vec<Arc<JwtRule>>,
}

/// `jwtRules[]`
#[derive(Clone, Debug)]
pub(crate) struct JwtRule {
    /// Empty for any.
    pub(crate) issuer: Box<str>,
    /// As [`normalized_audience`] has them; none when anybody's token is taken.
    pub(crate) audiences: Box<[Box<str>]>,
    pub(crate) keys: KeySource,
    pub(crate) places: Vec<Place>,
    pub(crate) forward: bool,
    pub(crate) payload_header: Option<HeaderName>,
    pub(crate) claim_headers: Vec<ClaimHeader>,
    /// Claims that are lists of words to policies.
    pub(crate) words: Vec<Box<str>>,
}

/// Where a rule has its keys from.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    Inline(Arc<KeySet>),
    Remote {
        location: KeyLocation,
        /// For one fetch.
        timeout: Option<Duration>,
    },
}

/// A token that has been found good for a rule.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(super) token: Arc<Token>,
    pub(super) times: Times,
    /// The headers it puts into the request.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl RequestAuthentication {
    /// Its namespace and name.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// Whether it applies to the workload.
    pub fn selects(&self, workload: &Workload, root_namespace: &str) -> bool {
        select::selects(&self.name, &self.scope, workload, root_namespace)
    }
}

impl JwtRule {
    /// Whether the token is a good one. Cheap questions come first, as anybody may send anything.
    pub(super) fn verify(&self, token: &[u8], keys: &KeySets, now: SystemTime) -> Result<Verified, Rejection> {
        let token = Compact::parse(token)?;
        let issuer = token.claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        if !self.issuer.is_empty() && *self.issuer != *issuer {
            return Err(Rejection::Issuer);
        }
        let times = Times::of(&token.claims);
        times.check(now)?;
        claims::check_audience(&token.claims, &self.audiences)?;
        self.keys.set(keys).ok_or(Rejection::NoKeys)?.verify(&token)?;
        let headers = self.headers(&token);
        let mut claims = Token::new(token.claims);
        claims.split_words(&self.words);
        Ok(Verified { token: Arc::new(claims), times, headers })
    }

    fn headers(&self, token: &Compact<'_>) -> Vec<(HeaderName, HeaderValue)> {
        let payload = self.payload_header.clone().zip(HeaderValue::from_str(token.payload).ok());
        payload.into_iter().chain(self.claim_headers.iter().filter_map(|one| one.output(&token.claims))).collect()
    }

    /// The headers it may put into a request.
    pub(super) fn output_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.payload_header.iter().chain(self.claim_headers.iter().map(|one| &one.header))
    }
}

impl KeySource {
    fn set<'a>(&'a self, fetched: &'a KeySets) -> Option<&'a KeySet> {
        match self {
            KeySource::Inline(set) => Some(set),
            KeySource::Remote { location, .. } => fetched.sets.get(location).map(|set| &**set),
        }
    }
}

impl KeySet {
    fn verify(&self, token: &Compact<'_>) -> Result<(), Rejection> {
        let fits = |key: &&crate::jwt::key::Key| key.fits(token.key_id.as_deref(), token.algorithm);
        let mut fitting = self.keys.iter().filter(fits).peekable();
        if fitting.peek().is_none() {
            return Err(Rejection::NoKey);
        }
        let message = token.signed.as_bytes();
        if fitting.any(|key| key.verifies(token.algorithm, message, &token.signature)) {
            Ok(())
        } else {
            Err(Rejection::Signature)
        }
    }
}

/// Without `http://` or `https://` before and one `/` behind it: people write an audience either way.
pub(crate) fn normalized_audience(audience: &str) -> &str {
    let audience = audience.strip_prefix("http://").or_else(|| audience.strip_prefix("https://")).unwrap_or(audience);
    audience.strip_suffix('/').unwrap_or(audience)
}
