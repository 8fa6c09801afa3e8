//! Key sets, and which key may check which token.

use super::*;
use crate::jwt::{KeyLocation, KeySet};

const ALGORITHMS: [&str; 10] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

fn with_keys(keys: &[Value]) -> Authentication {
    rules(&[rule(json!({"jwks": jwks(keys)}))])
}

fn told(header: Value, keys: &[Value]) -> String {
    Sent::bearer(&signers().token(&header, &claims(json!({})))).outcome(&with_keys(keys))
}

#[test]
fn every_algorithm_is_checked() {
    let other = Signers::generate();
    for algorithm in ALGORITHMS {
        let key = signers().jwk(algorithm, json!({}));
        assert_eq!(
            told(json!({"alg": algorithm}), std::slice::from_ref(&key)),
            "https://idp.example/alice",
            "{algorithm}"
        );
        let foreign = other.token(&json!({"alg": algorithm}), &claims(json!({})));
        assert_eq!(Sent::bearer(&foreign).outcome(&with_keys(&[key])), "Jwt verification fails", "{algorithm}");
    }
}

#[test]
fn an_algorithm_must_fit_the_key() {
    const NONE: &str = "Jwks doesn't have key to match kid or alg from Jwt";
    for algorithm in ALGORITHMS {
        for other in ALGORITHMS.into_iter().filter(|other| *other != algorithm) {
            let key = signers().jwk(algorithm, json!({"alg": algorithm}));
            assert_eq!(told(json!({"alg": other}), &[key]), NONE, "{other} with a key for {algorithm}");
        }
    }
    let rsa = signers().jwk("RS256", json!({}));
    let text = rsa["n"].as_str().unwrap();
    let header = json!({"alg": "HS256"}).to_string();
    let signed = format!("{}.{}", encode(header), encode(claims(json!({})).to_string()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, text.as_bytes());
    let forged = format!("{signed}.{}", encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())));
    assert_eq!(Sent::bearer(&forged).outcome(&with_keys(&[rsa])), "Jwt header [alg] is not supported");
}

#[test]
fn a_key_is_chosen_by_its_id_where_there_is_one() {
    let other = Signers::generate();
    let own = |id: &str| signers().jwk("ES256", json!({"kid": id}));
    let foreign = |id: &str| other.jwk("ES256", json!({"kid": id}));
    let (good, none, wrong) =
        ("https://idp.example/alice", "Jwks doesn't have key to match kid or alg from Jwt", "Jwt verification fails");
    let with = |id: &str| json!({"alg": "ES256", "kid": id});
    assert_eq!(told(with("a"), &[foreign("b"), own("a")]), good);
    assert_eq!(told(with("b"), &[foreign("b"), own("a")]), wrong);
    assert_eq!(told(with("c"), &[foreign("b"), own("a")]), none);
    assert_eq!(told(json!({"alg": "ES256"}), &[foreign("b"), own("a")]), good);
    assert_eq!(told(with("c"), &[signers().jwk("ES256", json!({}))]), good);
    assert_eq!(told(with("a"), &[foreign("a"), own("a")]), good);
}

#[test]
fn keys_for_something_else_are_passed_over() {
    let good = signers().jwk("ES256", json!({}));
    for other in [
        json!({"kty": "oct", "k": "c2VjcmV0"}),
        json!({"kty": "new", "n": 1}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}),
        signers().jwk("RS256", json!({"use": "enc"})),
        signers().jwk("RS256", json!({"alg": "RSA-OAEP"})),
        signers().jwk("RS256", json!({"key_ops": ["encrypt"]})),
    ] {
        let set = KeySet::parse(jwks(&[other.clone(), good.clone()]).as_bytes()).unwrap();
        assert_eq!(set.keys.len(), 1, "{other}");
        assert!(KeySet::parse(jwks(&[other]).as_bytes()).unwrap().is_empty());
    }
}

#[test]
fn a_broken_key_makes_the_set_unusable() {
    let ec = |change: Value| signers().jwk("ES256", change);
    let mut off_curve = ec(json!({}));
    off_curve["y"] = off_curve["x"].clone();
    for (key, why) in [
        (json!({}), "keys[1]: has no kty"),
        (json!({"kty": "RSA", "e": "AQAB"}), "keys[1]: has no n"),
        (json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), "keys[1]: is not an RSA key of 2048 to 8192 bits"),
        (
            json!({"kty": "RSA", "n": encode([0xff; 128]), "e": "AQAB"}),
            "keys[1]: is not an RSA key of 2048 to 8192 bits",
        ),
        (json!({"kty": "RSA", "n": "a b", "e": "AQAB"}), "keys[1]: n is not base64url"),
        (ec(json!({"x": "AA"})), "keys[1]: is not a point on P-256"),
        (off_curve, "keys[1]: is not a point on P-256"),
        (ec(json!({"alg": "RS256"})), "keys[1]: alg RS256 is not for a key like this"),
        (ec(json!({"alg": "ES384"})), "keys[1]: alg ES384 is not for a key like this"),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}), "keys[1]: is not an Ed25519 key"),
    ] {
        let error = KeySet::parse(jwks(&[ec(json!({})), key.clone()]).as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), why, "{key}");
    }
    for text in ["", "x", "[]", "{}", r#"{"keys":{}}"#] {
        assert!(KeySet::parse(text.as_bytes()).unwrap_err().to_string().starts_with("is not a JWK Set"), "{text}");
    }
}

#[test]
fn without_its_keys_no_token_passes_and_new_ones_hold_at_once() {
    let mut remote = rule(json!({"jwksUri": "https://idp/keys", "timeout": "2s"}));
    remote.as_object_mut().unwrap().remove("jwks");
    let rules = rules(&[remote]);
    let location = KeyLocation::Uri("https://idp/keys".into());
    assert_eq!(rules.remote_keys().collect::<Vec<_>>(), [(&location, Some(Duration::from_secs(2)))]);
    let other = Signers::generate();
    let sets = |generation: u64, signers: Option<&Signers>| KeySets {
        generation,
        sets: signers
            .into_iter()
            .map(|signers| {
                let keys = jwks(&[signers.jwk("ES256", json!({"kid": generation.to_string()}))]);
                (location.clone(), Arc::new(KeySet::parse(keys.as_bytes()).unwrap()))
            })
            .collect(),
    };
    let mut known = VerifiedTokens::default();
    let mut told = |sent: &Sent, keys: &KeySets| {
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        match rules.check(&sent.asked(), keys, &mut known, 1, now) {
            Ok(passed) => (text(&passed), None),
            Err(refusal) => (refusal.rejection.text().to_owned(), refusal.outdated.cloned()),
        }
    };
    let sent = Sent::bearer(&good(json!({})));
    assert_eq!(told(&sent, &sets(1, None)), ("Jwks remote fetch is failed".into(), None));
    assert_eq!(told(&Sent::new(), &sets(1, None)).0, "anonymous");
    assert_eq!(told(&sent, &sets(2, Some(signers()))).0, "https://idp.example/alice");
    assert_eq!(told(&sent, &sets(3, Some(&other))), ("Jwt verification fails".into(), None));
    let named = Sent::bearer(&signers().token(&json!({"alg": "ES256", "kid": "9"}), &claims(json!({}))));
    let outdated = ("Jwks doesn't have key to match kid or alg from Jwt".to_owned(), Some(location.clone()));
    assert_eq!(told(&named, &sets(4, Some(signers()))), outdated);
}

#[test]
fn an_issuer_is_asked_for_its_keys_when_a_rule_names_none() {
    let rules = rules(&[json!({"issuer": "https://idp.example/"})]);
    let location = rules.remote_keys().next().unwrap().0;
    assert_eq!(location.to_string(), "https://idp.example/.well-known/openid-configuration");
}
