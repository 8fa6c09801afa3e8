//! A JWK Set (RFC 7517, section 5), and where sets come from.
//!
//! Keys for another purpose, of a kind or for an algorithm that is not known are passed over, as the standard says. A key that is of a known kind and
//! broken makes the whole set unusable: half a set would refuse half of the users, and nobody would know why.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use crate::jwt::key::{Algorithm, Key, Material};

/// The keys of one issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    pub(super) keys: Vec<Key>,
    private: bool,
}

/// Why a text is not a key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON, or not an object with a list `keys`.
    #[error("is not a JWK Set: {0}")]
    Json(String),
    /// A key that is broken.
    #[error("keys[{index}]: {reason}")]
    Key {
        /// Its place, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// Where a key set is fetched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyLocation {
    /// `jwksUri`
    Uri(String),
    /// The `jwks_uri` of this issuer's `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0, section 4).
    Issuer(String),
}

/// The key sets that have been fetched. One value for all workers, replaced as a whole.
#[derive(Debug, Default)]
pub struct KeySets {
    /// Greater by one for each that differs.
    pub generation: u64,
    /// A location without a set is one that has never been fetched: no token passes by it.
    pub sets: BTreeMap<KeyLocation, Arc<KeySet>>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a JWK Set.
    ///
    /// # Errors
    /// Where it is not one, or a key of a known kind in it is broken.
    pub fn parse(text: &[u8]) -> Result<KeySet, KeySetError> {
        let document: Document = serde_json::from_slice(text).map_err(|error| KeySetError::Json(error.to_string()))?;
        let mut set = KeySet::default();
        for (index, value) in document.keys.iter().enumerate() {
            set.private |= value.get("d").is_some();
            let key = key(value).map_err(|reason| KeySetError::Key { index, reason })?;
            set.keys.extend(key);
        }
        Ok(set)
    }

    /// Whether no token can be checked with it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether it gives away a private key.
    pub fn has_private_key(&self) -> bool {
        self.private
    }
}

/// `None` for a key to be passed over.
fn key(value: &Value) -> Result<Option<Key>, String> {
    let kind = value.get("kty").and_then(Value::as_str).ok_or("has no kty")?;
    if !["RSA", "EC", "OKP"].contains(&kind) {
        return Ok(None);
    }
    let jwk: Jwk = Jwk::deserialize(value).map_err(|error| error.to_string())?;
    let verifies = jwk.key_ops.as_ref().is_none_or(|all| all.iter().any(|one| one == "verify"));
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") || !verifies {
        return Ok(None);
    }
    let algorithm = match &jwk.alg {
        Some(name) => match Algorithm::parse(name) {
            Some(algorithm) => Some(algorithm),
            None => return Ok(None),
        },
        None => None,
    };
    let Some(material) = material(&jwk)? else { return Ok(None) };
    if algorithm.is_some_and(|algorithm| !material.signs(algorithm)) {
        return Err(format!("alg {} is not for a key like this", jwk.alg.unwrap_or_default()));
    }
    Ok(Some(Key { id: jwk.kid.filter(|id| !id.is_empty()).map(Into::into), algorithm, material }))
}

fn material(jwk: &Jwk) -> Result<Option<Material>, String> {
    let field = |name: &str, value: &Option<String>| {
        let text = value.as_deref().ok_or(format!("has no {name}"))?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("{name} is not base64url"))
    };
    let curve = jwk.crv.as_deref().unwrap_or_default();
    match jwk.kty.as_str() {
        "RSA" => Material::rsa(&field("n", &jwk.n)?, &field("e", &jwk.e)?)
            .map(Some)
            .ok_or_else(|| "is not an RSA key of 2048 to 8192 bits".to_owned()),
        "EC" => match Material::elliptic(curve, &field("x", &jwk.x)?, &field("y", &jwk.y)?) {
            Some(None) => Err(format!("is not a point on {curve}")),
            known => Ok(known.flatten()),
        },
        "OKP" if curve == "Ed25519" => {
            Material::ed25519(&field("x", &jwk.x)?).map(Some).ok_or_else(|| "is not an Ed25519 key".to_owned())
        }
        _ => Ok(None),
    }
}

impl fmt::Display for KeyLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyLocation::Uri(uri) => f.write_str(uri),
            KeyLocation::Issuer(issuer) => {
                write!(f, "{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
            }
        }
    }
}
