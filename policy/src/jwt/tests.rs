//! Tokens signed here, by every algorithm, against the rules of a RequestAuthentication.

#![expect(clippy::needless_pass_by_value, reason = "values are written where they are used, with json!")]

mod combination;
mod formats;
mod keys;
mod outputs;
mod places;
mod service_accounts;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use crate::istio::request_authentication;
use crate::jwt::{Asked, Authentication, KeySets, Passed, Refusal, RequestAuthentication, VerifiedTokens};
use crate::tests::workload;
use crate::{Invalid, ObjectName};

/// RFC 7517, appendix A.1.
pub(crate) const PUBLIC_KEY: &str = r#"{"kty":"EC","crv":"P-256","kid":"1",
    "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;

pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const ISSUER: &str = "https://idp.example";

/// One key of each kind.
pub(super) struct Signers {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    p521: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

pub(super) fn signers() -> &'static Signers {
    static SIGNERS: OnceLock<Signers> = OnceLock::new();
    SIGNERS.get_or_init(Signers::generate)
}

impl Signers {
    pub(super) fn generate() -> Signers {
        let ec = |algorithm: &'static EcdsaSigningAlgorithm| EcdsaKeyPair::generate(algorithm).unwrap();
        Signers {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            p521: ec(&ECDSA_P521_SHA512_FIXED_SIGNING),
            ed25519: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let ec = |key: &EcdsaKeyPair| key.sign(&random, message).unwrap().as_ref().to_vec();
        let padding: &'static dyn aws_lc_rs::signature::RsaEncoding = match algorithm {
            "ES256" => return ec(&self.p256),
            "ES384" => return ec(&self.p384),
            "ES512" => return ec(&self.p521),
            "EdDSA" => return self.ed25519.sign(message).as_ref().to_vec(),
            "RS256" => &RSA_PKCS1_SHA256,
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            "PS384" => &RSA_PSS_SHA384,
            "PS512" => &RSA_PSS_SHA512,
            _ => return b"no signature".to_vec(),
        };
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(padding, &random, message, &mut signature).unwrap();
        signature
    }

    /// A public key of the kind that the algorithm uses, with these members besides.
    pub(super) fn jwk(&self, algorithm: &str, more: Value) -> Value {
        let ec = |curve: &str, key: &EcdsaKeyPair| {
            let point = key.public_key().as_ref()[1..].to_vec();
            let (x, y) = point.split_at(point.len() / 2);
            json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
        };
        let mut jwk = match algorithm {
            "ES256" => ec("P-256", &self.p256),
            "ES384" => ec("P-384", &self.p384),
            "ES512" => ec("P-521", &self.p521),
            "EdDSA" => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(self.ed25519.public_key().as_ref())}),
            _ => {
                let key = self.rsa.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                json!({"kty": "RSA", "n": encode(n.big_endian_without_leading_zero()), "e": encode(e.big_endian_without_leading_zero())})
            }
        };
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    }

    /// A token with this header and these claims.
    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        self.raw(&header.to_string(), claims.to_string().as_bytes(), header["alg"].as_str().unwrap_or_default())
    }

    pub(super) fn raw(&self, header: &str, claims: &[u8], algorithm: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }
}

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn jwks(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// A token of [`ISSUER`] with these claims besides.
pub(super) fn good(more: Value) -> String {
    signers().token(&json!({"alg": "ES256"}), &claims(more))
}

pub(super) fn claims(more: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "sub": "alice", "exp": NOW + 600});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

/// A rule for [`ISSUER`] with these fields besides.
pub(super) fn rule(more: Value) -> Value {
    let mut rule = json!({"issuer": ISSUER, "jwks": jwks(&[signers().jwk("ES256", json!({}))])});
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rule
}

pub(super) fn object(spec: Value) -> Result<RequestAuthentication, Vec<Invalid>> {
    let name = ObjectName { namespace: "default".into(), name: "jwt".into() };
    request_authentication(name, serde_json::from_value(spec).unwrap())
}

pub(super) fn rules(rules: &[Value]) -> Authentication {
    let object = object(json!({"jwtRules": rules})).unwrap();
    Authentication::compile(&[Arc::new(object)], &workload(), "istio-system")
}

/// A request to be.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    method: Method,
    headers: HeaderMap,
    query: Option<String>,
}

impl Sent {
    pub(super) fn new() -> Sent {
        Sent { method: Method::GET, headers: HeaderMap::new(), query: None }
    }

    pub(super) fn bearer(token: &str) -> Sent {
        Sent::new().header("authorization", &format!("Bearer {token}"))
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Sent {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    pub(super) fn query(mut self, query: &str) -> Sent {
        self.query = Some(query.to_owned());
        self
    }

    pub(super) fn method(mut self, method: Method) -> Sent {
        self.method = method;
        self
    }

    pub(super) fn asked(&self) -> Asked<'_> {
        Asked { method: &self.method, headers: &self.headers, query: self.query.as_deref() }
    }

    pub(super) fn check<'a>(&self, rules: &'a Authentication) -> Result<Passed, Refusal<'a>> {
        self.check_at(rules, NOW)
    }

    pub(super) fn check_at<'a>(&self, rules: &'a Authentication, now: u64) -> Result<Passed, Refusal<'a>> {
        let now = UNIX_EPOCH + Duration::from_secs(now);
        let first = rules.check(&self.asked(), &KeySets::default(), &mut VerifiedTokens::default(), 1, now);
        self.agrees_when_remembered(rules, now, &first);
        first
    }

    /// A token that is remembered gets the same verdict.
    fn agrees_when_remembered(&self, rules: &Authentication, now: SystemTime, first: &Result<Passed, Refusal<'_>>) {
        let mut known = VerifiedTokens::default();
        for _ in 0..2 {
            let again = rules.check(&self.asked(), &KeySets::default(), &mut known, 1, now);
            assert_eq!(again.as_ref().map(text).map_err(Clone::clone), first.as_ref().map(text).map_err(Clone::clone));
        }
    }

    /// `iss/sub` of the token it passes by, `anonymous`, or what is wrong with it.
    pub(super) fn outcome(&self, rules: &Authentication) -> String {
        match self.check(rules) {
            Ok(passed) => text(&passed),
            Err(refusal) => refusal.rejection.text().to_owned(),
        }
    }

    /// Headers, in order, and query as they go on.
    pub(super) fn forwarded(mut self, rules: &Authentication) -> (Vec<String>, Option<String>) {
        rules.remove_reserved(&mut self.headers);
        let passed = self.check(rules).unwrap();
        passed.change_headers(&mut self.headers);
        let query = self.query.as_ref().and_then(|query| passed.change_query(query)).unwrap_or(self.query);
        let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut lines: Vec<_> = self.headers.iter().map(line).collect();
        lines.sort();
        (lines, query)
    }
}

fn text(passed: &Passed) -> String {
    let token = passed.token.as_ref();
    token.map_or("anonymous".to_owned(), |token| token.principal().map_or("nobody".into(), |who| who.to_string()))
}
