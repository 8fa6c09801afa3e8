//! What a token must look like, and the claims that every token is held to.

use super::*;

const FORM: &str = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";

fn told(token: &str) -> String {
    Sent::bearer(token).outcome(&rules(&[rule(json!({}))]))
}

fn told_of(claims: Value) -> String {
    told(&signers().token(&json!({"alg": "ES256"}), &claims))
}

#[test]
fn a_token_has_three_parts_with_something_in_each() {
    let token = good(json!({}));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    for bad in [
        "x",
        "..",
        "a.b",
        "a..c",
        ".b.c",
        signed,
        &format!("{signed}."),
        &format!(".{payload}.{signature}"),
        &format!("{header}..{signature}"),
        &format!("{token}.x"),
        &format!("{token}."),
        &".".repeat(100),
    ] {
        assert_eq!(told(bad), FORM, "{bad}");
    }
    for (bad, why) in [
        (format!("{header}=.{payload}.{signature}"), "Jwt header is an invalid Base64url encoded"),
        (format!("+{header}.{payload}.{signature}"), "Jwt header is an invalid Base64url encoded"),
        (format!("{header}.{payload}=.{signature}"), "Jwt payload is an invalid Base64url encoded"),
        (format!("{signed}.{signature}="), "Jwt signature is an invalid Base64url encoded"),
        (format!("{signed}.{}", encode("x")), "Jwt verification fails"),
        (
            format!("{header}.{}.{signature}", encode(claims(json!({"sub": "mallory"})).to_string())),
            "Jwt verification fails",
        ),
        (format!("{token}, {token}"), FORM),
    ] {
        assert_eq!(told(&bad), why, "{bad}");
    }
    assert_eq!(told("\u{e9}.b.c"), "Jwt header is an invalid Base64url encoded");
}

#[test]
fn the_last_character_of_a_signature_has_no_spare_bits() {
    let token = good(json!({}));
    let (rest, last) = token.split_at(token.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    assert_eq!(told(&format!("{rest}{next}")), "Jwt signature is an invalid Base64url encoded");
}

#[test]
fn a_header_is_an_object_with_an_algorithm_and_nothing_that_must_be_understood() {
    for (header, why) in [
        ("{}", "Jwt header [alg] field is required and must be a string"),
        (r#"{"alg":1}"#, "Jwt header [alg] field is required and must be a string"),
        (r#"{"alg":"none"}"#, "Jwt header [alg] is not supported"),
        (r#"{"alg":"None"}"#, "Jwt header [alg] is not supported"),
        (r#"{"alg":"HS256"}"#, "Jwt header [alg] is not supported"),
        (r#"{"alg":"es256"}"#, "Jwt header [alg] is not supported"),
        (r#"{"alg":"ES256","kid":1}"#, "Jwt header [kid] field is not a string"),
        (r#"{"alg":"ES256","crit":["b64"],"b64":false}"#, "Jwt header [crit] is not supported"),
        (r#"{"alg":"ES256","alg":"ES256"}"#, "Jwt header is an invalid JSON"),
        (r#"{"alg":"ES256"} x"#, "Jwt header is an invalid JSON"),
        (r#"["ES256"]"#, "Jwt header is an invalid JSON"),
        ("\u{feff}{}", "Jwt header is an invalid JSON"),
    ] {
        let token = signers().raw(header, claims(json!({})).to_string().as_bytes(), "ES256");
        assert_eq!(told(&token), why, "{header}");
    }
}

#[test]
fn keys_that_a_token_brings_along_are_not_looked_at() {
    let other = Signers::generate();
    let header = json!({"alg": "ES256", "jwk": other.jwk("ES256", json!({})), "jku": "https://evil", "x5u": "https://evil", "typ": "JWT"});
    assert_eq!(told(&other.token(&header, &claims(json!({})))), "Jwt verification fails");
    assert_eq!(told(&signers().token(&header, &claims(json!({})))), "https://idp.example/alice");
}

#[test]
fn a_payload_is_an_object_without_a_name_twice() {
    let deep = format!("{{\"iss\":\"{ISSUER}\",\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    for payload in [
        b"[]".as_slice(),
        b"{\"iss\":",
        b"{\"a\":1e999}",
        b"{\"iss\":\"\xff\"}",
        b"{\"sub\":\"a\",\"sub\":\"b\"}",
        deep.as_bytes(),
        b"{} {}",
    ] {
        let token = signers().raw(r#"{"alg":"ES256"}"#, payload, "ES256");
        assert_eq!(told(&token), "Jwt payload is an invalid JSON", "{}", String::from_utf8_lossy(payload));
    }
}

#[test]
fn registered_claims_have_their_types() {
    for (name, values, why) in [
        ("iss", vec![json!(1), json!(null), json!(["a"])], "Jwt payload [iss] field is not a string"),
        ("sub", vec![json!(1), json!(null), json!({})], "Jwt payload [sub] field is not a string"),
        ("jti", vec![json!(1)], "Jwt payload [jti] field is not a string"),
        (
            "aud",
            vec![json!(1), json!(["a", 1]), json!({}), json!(null)],
            "Jwt payload [aud] field is not a string or string list",
        ),
        ("exp", vec![json!("1800000000"), json!(true), json!(null)], "Jwt payload [exp] field is not an integer"),
        ("nbf", vec![json!("1")], "Jwt payload [nbf] field is not an integer"),
        ("iat", vec![json!([1])], "Jwt payload [iat] field is not an integer"),
        ("exp", vec![json!(-1)], "Jwt payload [exp] field is not a positive 64 bit integer"),
        ("nbf", vec![json!(-0.5)], "Jwt payload [nbf] field is not a positive 64 bit integer"),
    ] {
        for value in values {
            assert_eq!(told_of(claims(json!({name: value}))), why, "{name} {value}");
        }
    }
}

#[test]
fn clocks_may_be_a_minute_apart() {
    let rules = rules(&[rule(json!({}))]);
    let at = |claims: Value, now: u64| {
        let token = signers().token(&json!({"alg": "ES256"}), &claims);
        Sent::bearer(&token).check_at(&rules, now).map(|_| ()).map_err(|refusal| refusal.rejection.text())
    };
    let (expired, early) = (Err("Jwt is expired"), Err("Jwt not yet valid"));
    let with = |name: &str, value: Value| json!({"iss": ISSUER, "sub": "a", name: value});
    assert_eq!(at(with("exp", json!(NOW)), NOW + 60), Ok(()));
    assert_eq!(at(with("exp", json!(NOW)), NOW + 61), expired);
    assert_eq!(at(with("exp", json!(NOW as f64 + 0.5)), NOW + 60), Ok(()));
    assert_eq!(at(with("exp", json!(0)), NOW), expired);
    assert_eq!(at(with("nbf", json!(NOW)), NOW - 60), Ok(()));
    assert_eq!(at(with("nbf", json!(NOW)), NOW - 61), early);
    assert_eq!(at(json!({"iss": ISSUER}), u64::from(u32::MAX) * 2), Ok(()));
}

#[test]
fn a_remembered_token_ends_in_time() {
    let rules = rules(&[rule(json!({}))]);
    let sent = Sent::bearer(&good(json!({})));
    let mut known = VerifiedTokens::default();
    let mut at = |now: u64| {
        let now = UNIX_EPOCH + Duration::from_secs(now);
        rules
            .check(&sent.asked(), &KeySets::default(), &mut known, 1, now)
            .map(|_| ())
            .map_err(|refusal| refusal.rejection.text())
    };
    assert_eq!(at(NOW), Ok(()));
    assert_eq!(at(NOW + 700), Err("Jwt is expired"));
    assert_eq!(at(NOW), Ok(()));
}

#[test]
fn an_audience_is_compared_without_scheme_and_last_slash() {
    let of = |allowed: Value, claim: Value| {
        let claims = if claim.is_null() { claims(json!({})) } else { claims(json!({"aud": claim})) };
        let token = signers().token(&json!({"alg": "ES256"}), &claims);
        let rules = rules(&[rule(json!({"audiences": allowed}))]);
        Sent::bearer(&token).check(&rules).map(|_| ()).map_err(|refusal| refusal.rejection.status().as_u16())
    };
    for (allowed, claim, expected) in [
        (json!([]), json!("x"), Ok(())),
        (json!([]), json!(null), Ok(())),
        (json!(["a"]), json!("a"), Ok(())),
        (json!(["a", "b"]), json!(["c", "b"]), Ok(())),
        (json!(["https://a/"]), json!("a"), Ok(())),
        (json!(["a"]), json!("http://a/"), Ok(())),
        (json!(["http://a"]), json!("https://a"), Ok(())),
        (json!(["a"]), json!("a//"), Err(403)),
        (json!(["a"]), json!("A"), Err(403)),
        (json!(["a"]), json!([]), Err(403)),
        (json!(["a"]), json!(null), Err(403)),
    ] {
        assert_eq!(of(allowed.clone(), claim.clone()), expected, "{allowed} {claim}");
    }
}
