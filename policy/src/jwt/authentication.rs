//! All rules of one workload, and what they make of a request.
//!
//! A request passes when for some rule there is a token at its places and all tokens there are good for it; or else when every token
//! at any rule's places is good for a rule that reads that place. So it passes without any token, too.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::jwt::cache::VerifiedTokens;
use crate::jwt::found::{self, Found};
use crate::jwt::key_set::{KeyLocation, KeySets};
use crate::jwt::place::{self, Place};
use crate::jwt::rejection::Rejection;
use crate::jwt::rule::{JwtRule, KeySource, RequestAuthentication, Verified};
use crate::model::Workload;
use crate::token::Token;

/// The rules that apply to one workload. The default has none, and lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct Authentication {
    /// Sorted by issuer.
    rules: Vec<Arc<JwtRule>>,
    /// Headers that only a good token puts into a request.
    reserved: Vec<HeaderName>,
}

/// What a request shows.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Case-sensitive, as sent.
    pub method: &'a Method,
    /// As sent.
    pub headers: &'a HeaderMap,
    /// The text behind `?`, if any.
    pub query: Option<&'a str>,
}

/// How a request goes on. The default changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// What policies are told of its sender; `None` without a token.
    pub token: Option<Arc<Token>>,
    removed: Vec<HeaderName>,
    cut: Vec<Box<str>>,
    added: Vec<Arc<Verified>>,
}

/// Why a request ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// What is wrong with its token.
    pub rejection: Rejection,
    /// A key set that may be out of date: the token names a key that is not in it.
    pub outdated: Option<&'a KeyLocation>,
}

impl Authentication {
    /// Takes the rules of all objects that select the workload.
    pub fn compile(all: &[Arc<RequestAuthentication>], workload: &Workload, root_namespace: &str) -> Authentication {
        let mut selected: Vec<_> = all.iter().filter(|one| one.selects(workload, root_namespace)).collect();
        selected.sort_by_key(|one| (one.name.namespace != root_namespace, &one.name));
        let mut rules: Vec<_> = selected.iter().flat_map(|one| &one.rules).cloned().collect();
        rules.sort_by(|a, b| a.issuer.cmp(&b.issuer));
        let mut reserved: Vec<_> = rules.iter().flat_map(|rule| rule.output_names()).cloned().collect();
        reserved.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        reserved.dedup();
        Authentication { rules, reserved }
    }

    /// Whether there is nothing to check.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The key sets to be fetched, each with the time a fetch may take where a rule says one.
    pub fn remote_keys(&self) -> impl Iterator<Item = (&KeyLocation, Option<Duration>)> {
        self.rules.iter().filter_map(|rule| match &rule.keys {
            KeySource::Remote { location, timeout } => Some((location, *timeout)),
            KeySource::Inline(_) => None,
        })
    }

    /// Query parameters that may hold tokens.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().flat_map(|rule| &rule.places).filter_map(|place| match place {
            Place::Parameter(name) => Some(&**name),
            _ => None,
        })
    }

    /// Removes the headers that only a good token may put into a request, also where they are spelt with `_` for `-`, which many
    /// servers take for the same. For every request, with a token or without.
    pub fn remove_reserved(&self, headers: &mut HeaderMap) {
        if self.reserved.is_empty() {
            return;
        }
        let claimed: Vec<HeaderName> =
            headers.keys().filter(|name| self.reserved.iter().any(|own| reads_as(own, name))).cloned().collect();
        for name in claimed {
            headers.remove(name);
        }
    }

    /// Checks the tokens of a request.
    ///
    /// `generation` is that of the configuration these rules are from: what `known` remembers holds for it and for the generation of
    /// `keys`.
    ///
    /// # Errors
    /// A token is there and not good.
    pub fn check(
        &self,
        asked: &Asked<'_>,
        keys: &KeySets,
        known: &mut VerifiedTokens,
        generation: u64,
        now: SystemTime,
    ) -> Result<Passed, Refusal<'_>> {
        if is_preflight(asked) {
            return Ok(Passed::default());
        }
        known.keep_if((generation, keys.generation));
        let verdict = |index: usize, token: &[u8]| {
            if let Some(verified) = known.known(index, token) {
                return verified.times.check(now).map(|()| Arc::clone(verified));
            }
            let rule = self.rules.get(index).ok_or(Rejection::Issuer)?;
            let verified = Arc::new(rule.verify(token, keys, now)?);
            known.learn(index, token, &verified);
            Ok(verified)
        };
        let refused = |rejection| Refusal { rejection, outdated: None };
        let found = found::all(&self.rules, asked, verdict).map_err(refused)?;
        match passing(&found) {
            Some(good) => Ok(self.passed(&good)),
            None => Err(self.refusal(&found)),
        }
    }

    fn passed(&self, good: &[&Found<'_>]) -> Passed {
        let mut passed = Passed::default();
        for found in good {
            let Ok(verified) = &found.verdict else { continue };
            passed.token.get_or_insert_with(|| Arc::clone(&verified.token));
            if !verified.headers.is_empty() {
                passed.added.push(Arc::clone(verified));
            }
            if self.rules.get(found.rule).is_some_and(|rule| rule.forward) {
                continue;
            }
            match found.place {
                Place::Header { name, .. } => passed.removed.push(name.clone()),
                Place::Parameter(name) => passed.cut.push(name.clone()),
                Place::Cookie(_) => {}
            }
        }
        passed
    }

    /// Another reason than an unknown issuer says more.
    fn refusal(&self, found: &[Found<'_>]) -> Refusal<'_> {
        let reasons = || found.iter().filter_map(|one| Some((one.rule, *one.verdict.as_ref().err()?)));
        let first = reasons().find(|(_, reason)| *reason != Rejection::Issuer).or_else(|| reasons().next());
        let rejection = first.map_or(Rejection::Issuer, |(_, reason)| reason);
        let missing = reasons().find(|(_, reason)| *reason == Rejection::NoKey);
        let outdated = missing.and_then(|(rule, _)| match &self.rules.get(rule)?.keys {
            KeySource::Remote { location, .. } => Some(location),
            KeySource::Inline(_) => None,
        });
        Refusal { rejection, outdated }
    }
}

impl Passed {
    /// Whether the request goes on as it is.
    pub fn changes_nothing(&self) -> bool {
        self.removed.is_empty() && self.cut.is_empty() && self.added.is_empty()
    }

    /// Takes tokens away that are not to be forwarded, and adds what the application is told of them.
    pub fn change_headers(&self, headers: &mut HeaderMap) {
        for name in &self.removed {
            headers.remove(name);
        }
        let added: &[Arc<Verified>] = &self.added;
        let outputs = || added.iter().flat_map(|verified| &verified.headers);
        for (name, _) in outputs() {
            headers.remove(name);
        }
        for (name, value) in outputs() {
            headers.append(name, HeaderValue::clone(value));
        }
    }

    /// The query without tokens that are not to be forwarded; `None` when it stays as it is, and `Some(None)` when nothing of it is
    /// left.
    pub fn change_query(&self, query: &str) -> Option<Option<String>> {
        (!self.cut.is_empty()).then(|| place::without_parameters(query, &self.cut))
    }
}

/// The tokens by which the request passes, if it does.
fn passing<'f, 'a>(found: &'f [Found<'a>]) -> Option<Vec<&'f Found<'a>>> {
    let of = |rule: usize| found.iter().filter(move |one| one.rule == rule);
    let all_good = |one: &&Found<'_>| of(one.rule).all(|other| other.verdict.is_ok());
    if let Some(first) = found.iter().find(all_good) {
        return Some(of(first.rule).collect());
    }
    let good_for_some =
        |one: &Found<'_>| found.iter().find(|other| other.verdict.is_ok() && other.is_same_token(one)).is_some();
    let good = || found.iter().filter(|one| one.verdict.is_ok()).collect();
    found.iter().all(good_for_some).then(good)
}

/// A browser asks beforehand whether it may ask, and shows no credentials for that (Fetch, section 3.3.2).
fn is_preflight(asked: &Asked<'_>) -> bool {
    asked.method == Method::OPTIONS
        && asked.headers.contains_key(header::ORIGIN)
        && asked.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Whether the name is ours to a server that takes `_` for `-`.
fn reads_as(own: &HeaderName, name: &HeaderName) -> bool {
    let (own, name) = (own.as_str().as_bytes(), name.as_str().as_bytes());
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
    own.len() == name.len() && own.iter().zip(name).all(|(a, b)| plain(*a) == plain(*b))
}
