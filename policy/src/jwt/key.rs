//! One public key, and the signatures it can check (RFC 7518, section 3.1; RFC 8037).
//!
//! Which algorithms a key is good for follows from the key, never from the token alone: a token cannot choose to have an RSA key
//! read as a shared secret. Algorithms with shared secrets are not known here at all.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents,
};

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// The key itself, by its kind.
pub(super) enum Material {
    Rsa(RsaPublicKeyComponents<Box<[u8]>>),
    P256(ParsedPublicKey),
    P384(ParsedPublicKey),
    P521(ParsedPublicKey),
    Ed25519(ParsedPublicKey),
}

/// A key of a set.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: Option<Box<str>>,
    /// The only algorithm it may be used with, if the set says one.
    pub(super) algorithm: Option<Algorithm>,
    pub(super) material: Material,
}

impl Algorithm {
    /// By the name in `alg`.
    pub(super) fn parse(name: &str) -> Option<Algorithm> {
        Some(match name {
            "RS256" => Algorithm::Rs256,
            "RS384" => Algorithm::Rs384,
            "RS512" => Algorithm::Rs512,
            "PS256" => Algorithm::Ps256,
            "PS384" => Algorithm::Ps384,
            "PS512" => Algorithm::Ps512,
            "ES256" => Algorithm::Es256,
            "ES384" => Algorithm::Es384,
            "ES512" => Algorithm::Es512,
            "EdDSA" => Algorithm::EdDsa,
            _ => return None,
        })
    }
}

impl Key {
    /// Whether a token with this header may be checked with it. A key without an id is one that any token may mean.
    pub(super) fn fits(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        let meant = match (id, self.id.as_deref()) {
            (Some(wanted), Some(own)) => wanted == own,
            _ => true,
        };
        meant && self.algorithm.is_none_or(|only| only == algorithm) && self.material.signs(algorithm)
    }

    /// Whether the signature is by this key.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let rsa = match algorithm {
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 | Algorithm::EdDsa => {
                return self.material.parsed(algorithm).is_some_and(|key| key.verify_sig(message, signature).is_ok());
            }
        };
        matches!(&self.material, Material::Rsa(key) if key.verify(rsa, message, signature).is_ok())
    }
}

impl Material {
    /// An RSA key, of 2048 to 8192 bits.
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Option<Material> {
        let trim = |bytes: &[u8]| bytes.iter().skip_while(|byte| **byte == 0).copied().collect::<Box<[u8]>>();
        let (n, e) = (trim(n), trim(e));
        let key = RsaPublicKeyComponents { n, e };
        let in_range = (256..=1024).contains(&key.n.len()) && !key.e.is_empty() && key.e.len() <= 8;
        let parses = key.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).is_ok();
        (in_range && parses).then_some(Material::Rsa(key))
    }

    /// A point on the curve of this name (RFC 7518, section 6.2.1.1); `None` for a curve that is not known, `Some(None)` for what
    /// is no point on it.
    pub(super) fn elliptic(curve: &str, x: &[u8], y: &[u8]) -> Option<Option<Material>> {
        let point = [&[4], x, y].concat();
        let on = |coordinate: usize| x.len() == coordinate && y.len() == coordinate;
        Some(match curve {
            "P-256" => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok().filter(|_| on(32)).map(Material::P256)
            }
            "P-384" => {
                ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).ok().filter(|_| on(48)).map(Material::P384)
            }
            "P-521" => {
                ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point).ok().filter(|_| on(66)).map(Material::P521)
            }
            _ => return None,
        })
    }

    /// An Ed25519 key.
    pub(super) fn ed25519(x: &[u8]) -> Option<Material> {
        ParsedPublicKey::new(&ED25519, x).ok().filter(|_| x.len() == 32).map(Material::Ed25519)
    }

    /// Whether a key of this kind can be used with the algorithm.
    pub(super) fn signs(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self {
            Material::Rsa(_) => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            _ => self.parsed(algorithm).is_some(),
        }
    }

    fn parsed(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        match (algorithm, self) {
            (Algorithm::Es256, Material::P256(key))
            | (Algorithm::Es384, Material::P384(key))
            | (Algorithm::Es512, Material::P521(key))
            | (Algorithm::EdDsa, Material::Ed25519(key)) => Some(key),
            _ => None,
        }
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Material::Rsa(_) => "RSA",
            Material::P256(_) => "P-256",
            Material::P384(_) => "P-384",
            Material::P521(_) => "P-521",
            Material::Ed25519(_) => "Ed25519",
        })
    }
}
