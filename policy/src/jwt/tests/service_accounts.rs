//! Tokens of service accounts as proof.

use super::*;
use crate::jwt::{KeySet, Rejection, ServiceAccountTokens, TokenError};

fn account(token: &str) -> Result<String, TokenError> {
    let keys = KeySet::parse(jwks(&[signers().jwk("ES256", json!({}))]).as_bytes()).unwrap();
    let tokens = ServiceAccountTokens::new(ISSUER, "istio-ca", Arc::new(keys));
    let account = tokens.check(token.as_bytes(), UNIX_EPOCH + Duration::from_secs(NOW))?;
    Ok(format!("{}/{}", account.namespace, account.name))
}

fn token(more: Value) -> String {
    let mut all = json!({"sub": "system:serviceaccount:shop:cart", "aud": ["istio-ca"]});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    good(all)
}

#[test]
fn a_token_for_us_names_its_service_account() {
    assert_eq!(account(&token(json!({}))), Ok("shop/cart".to_owned()));
    assert_eq!(account(&token(json!({"aud": ["other", "istio-ca"]}))), Ok("shop/cart".to_owned()));
}

#[test]
fn a_token_for_others_an_old_one_and_one_by_others_proves_nothing() {
    let rejected = |more: Value| account(&token(more)).unwrap_err();
    let audience = TokenError::Rejected(Rejection::Audience);
    assert_eq!(rejected(json!({"aud": "https://kubernetes.default.svc"})), audience);
    assert_eq!(rejected(json!({"aud": []})), audience);
    assert_eq!(rejected(json!({"aud": ""})), audience);
    assert_eq!(rejected(json!({"iss": "https://other.example"})), TokenError::Rejected(Rejection::Issuer));
    assert_eq!(rejected(json!({"exp": NOW - 61})), TokenError::Rejected(Rejection::Expired));
    let stolen = signers().token(
        &json!({"alg": "ES256"}),
        &json!({"iss": ISSUER, "aud": "istio-ca", "sub": "system:serviceaccount:a:b"}),
    );
    assert_eq!(account(&stolen), Err(TokenError::Endless));
    let forged = Signers::generate().token(&json!({"alg": "ES256"}), &claims(json!({"aud": "istio-ca"})));
    assert_eq!(account(&forged), Err(TokenError::Rejected(Rejection::Signature)));
    let nobodys = ServiceAccountTokens::new("", "istio-ca", Arc::default());
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    assert_eq!(nobodys.check(token(json!({})).as_bytes(), now), Err(TokenError::Rejected(Rejection::Issuer)));
}

#[test]
fn a_subject_that_is_no_service_account_is_none() {
    for subject in [
        "alice",
        "",
        "system:serviceaccount:",
        "system:serviceaccount:shop",
        "system:serviceaccount::cart",
        "system:serviceaccount:shop:",
        "system:serviceaccount:shop:cart:more",
        "system:node:shop:cart",
    ] {
        assert_eq!(account(&token(json!({"sub": subject}))), Err(TokenError::Subject), "{subject}");
    }
}
