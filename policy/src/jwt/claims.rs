//! What holds for the claims of every good token (RFC 7519, section 4.1).

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::jwt::rejection::{Rejection, TypedClaim};
use crate::jwt::rule::normalized_audience;
use crate::token::has_text;

/// How far clocks may be apart, in seconds; Envoy's.
const SKEW: f64 = 60.0;

/// When a token is good, in seconds since 1970. A number of JSON is a double to everybody who may have made it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Times {
    not_before: Option<f64>,
    expiry: Option<f64>,
}

impl Times {
    pub(super) fn of(claims: &Map<String, Value>) -> Times {
        let number = |name| claims.get(name).and_then(Value::as_f64);
        Times { not_before: number("nbf"), expiry: number("exp") }
    }

    pub(super) fn check(&self, now: SystemTime) -> Result<(), Rejection> {
        let now = now.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        if self.not_before.is_some_and(|not_before| now + SKEW < not_before) {
            Err(Rejection::NotYetValid)
        } else if self.expiry.is_some_and(|expiry| expiry + SKEW < now) {
            Err(Rejection::Expired)
        } else {
            Ok(())
        }
    }
}

/// Refuses registered claims of another type than theirs.
pub(super) fn check_types(claims: &Map<String, Value>) -> Result<(), Rejection> {
    for (name, claim) in [("iss", TypedClaim::Issuer), ("sub", TypedClaim::Subject), ("jti", TypedClaim::Id)] {
        if claims.get(name).is_some_and(|value| !value.is_string()) {
            return Err(Rejection::Type(claim));
        }
    }
    let audience_is_text = match claims.get("aud") {
        None | Some(Value::String(_)) => true,
        Some(Value::Array(items)) => items.iter().all(Value::is_string),
        Some(_) => false,
    };
    if !audience_is_text {
        return Err(Rejection::Type(TypedClaim::Audience));
    }
    for (name, claim) in [("iat", TypedClaim::IssuedAt), ("nbf", TypedClaim::NotBefore), ("exp", TypedClaim::Expiry)] {
        match claims.get(name).map(Value::as_f64) {
            None => {}
            Some(Some(number)) if number >= 0.0 => {}
            Some(Some(_)) => return Err(Rejection::Range(claim)),
            Some(None) => return Err(Rejection::Type(claim)),
        }
    }
    Ok(())
}

/// Refuses a token that is for none of the audiences; without any, a token for anybody is taken.
pub(super) fn check_audience(claims: &Map<String, Value>, allowed: &[Box<str>]) -> Result<(), Rejection> {
    let is_allowed = |text: &str| allowed.iter().any(|one| **one == *normalized_audience(text));
    if allowed.is_empty() || claims.get("aud").is_some_and(|audience| has_text(audience, is_allowed)) {
        Ok(())
    } else {
        Err(Rejection::Audience)
    }
}
