//! Who signs tokens.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://idp.example";

/// One of each kind.
pub(crate) const ALGORITHMS: [&str; 5] = ["RS256", "PS256", "ES256", "ES512", "EdDSA"];

/// Keys of all kinds, under one id.
pub(crate) struct Issuer {
    id: String,
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p521: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl Issuer {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p521: EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap(),
            ed25519: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// The public keys, as a JWK Set.
    pub(crate) fn jwks(&self) -> String {
        let ec = |curve: &str, key: &EcdsaKeyPair| {
            let point = &key.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            json!({"kid": self.id, "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
        };
        let public = self.rsa.public_key();
        let (n, e) = (public.modulus(), public.exponent());
        let (n, e) = (encode(n.big_endian_without_leading_zero()), encode(e.big_endian_without_leading_zero()));
        let ed25519 = encode(self.ed25519.public_key().as_ref());
        json!({"keys": [
            {"kid": self.id, "kty": "RSA", "n": n, "e": e},
            ec("P-256", &self.p256),
            ec("P-521", &self.p521),
            {"kid": self.id, "kty": "OKP", "crv": "Ed25519", "x": ed25519},
        ]})
        .to_string()
    }

    pub(crate) fn token(&self, algorithm: &str, claims: &Value) -> String {
        self.raw(&json!({"alg": algorithm, "kid": self.id}).to_string(), claims.to_string().as_bytes(), algorithm)
    }

    pub(crate) fn raw(&self, header: &str, payload: &[u8], algorithm: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(payload));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |padding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(padding, &random, message, &mut signature).unwrap();
            signature
        };
        match algorithm {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "ES256" => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            "ES512" => self.p521.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed25519.sign(message).as_ref().to_vec(),
            other => panic!("{other}"),
        }
    }
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What a good token of [`ISSUER`] says, with these claims besides.
pub(crate) fn claims(more: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "sub": "alice", "exp": now() + 3600});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}
