//! A token as it is sent: three base64url parts with dots between them (RFC 7515, section 3.1).
//!
//! Strict where parsers differ: no padding, no spare bits, no name twice in header or payload, nothing after the JSON. What a header says about
//! where keys are (`jku`, `jwk`, `x5u`, `x5c`) is never looked at.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::jwt::claims;
use crate::jwt::key::Algorithm;
use crate::jwt::rejection::Rejection;

/// A token taken apart; nothing of it is true yet.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// Header and payload as they were signed.
    pub(super) signed: &'a str,
    /// The payload as it was sent.
    pub(super) payload: &'a str,
    pub(super) signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    /// Takes a token apart, and checks the types of what is in it.
    pub(super) fn parse(token: &'a [u8]) -> Result<Compact<'a>, Rejection> {
        let token = std::str::from_utf8(token).map_err(|_| Rejection::Form)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(Rejection::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(Rejection::Form)?;
        if [header, payload, signature].iter().any(|part| part.is_empty() || part.contains('.')) {
            return Err(Rejection::Form);
        }
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Rejection::HeaderBase64)?;
        let Object(header) = serde_json::from_slice(&header).map_err(|_| Rejection::HeaderJson)?;
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => Algorithm::parse(name).ok_or(Rejection::Algorithm)?,
            _ => return Err(Rejection::NoAlgorithm),
        };
        let key_id = match header.get("kid") {
            Some(Value::String(id)) if id.is_empty() => None,
            Some(Value::String(id)) => Some(id.clone()),
            None => None,
            Some(_) => return Err(Rejection::KeyId),
        };
        if header.contains_key("crit") {
            return Err(Rejection::Critical);
        }
        let decoded = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Rejection::PayloadBase64)?;
        let Object(claims) = serde_json::from_slice(&decoded).map_err(|_| Rejection::PayloadJson)?;
        claims::check_types(&claims)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Rejection::SignatureBase64)?;
        Ok(Compact { algorithm, key_id, claims, signed, payload, signature })
    }
}

/// A JSON object without a name twice.
struct Object(Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Object, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                }
                Ok(Object(map))
            }
        }
        deserializer.deserialize_map(Names)
    }
}
