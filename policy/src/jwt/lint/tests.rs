use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::istio::request_authentication;
use crate::tests::{policy, settings};

fn authentication(object: &str, spec: Value) -> Arc<RequestAuthentication> {
    let (namespace, name) = object.split_once('/').unwrap_or(("default", object));
    let name = ObjectName { namespace: namespace.into(), name: name.into() };
    Arc::new(request_authentication(name, serde_json::from_value(spec).unwrap()).unwrap())
}

fn codes(authentications: &[Arc<RequestAuthentication>], policies: &[Arc<Policy>]) -> Vec<String> {
    let found = all(authentications, policies, &Known::default(), &settings());
    found.into_iter().map(|lint| format!("{} {}", lint.code, lint.policy)).collect()
}

fn rule(issuer: &str) -> Value {
    json!({"issuer": issuer, "jwksUri": "https://idp/keys"})
}

fn app(app: &str) -> Value {
    json!({"matchLabels": {"app": app}})
}

fn requires() -> Value {
    json!([{"from": [{"source": {"requestPrincipals": ["*"]}}]}])
}

#[test]
fn a_token_that_nobody_asks_for() {
    let read = authentication("jwt", json!({"selector": app("a"), "jwtRules": [rule("i")]}));
    let alone = ["MG030 default/jwt"];
    assert_eq!(codes(std::slice::from_ref(&read), &[]), alone);
    let with = |object: &str, spec: Value| codes(std::slice::from_ref(&read), &[policy(object, spec)]);
    assert_eq!(with("p", json!({"rules": requires()})), [""; 0]);
    assert_eq!(with("istio-system/p", json!({"selector": app("a"), "rules": requires()})), [""; 0]);
    assert_eq!(with("p", json!({"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]})), alone);
    let without = json!([{"from": [{"source": {"notRequestPrincipals": ["*"]}}]}]);
    assert_eq!(with("p", json!({"action": "DENY", "rules": without})), [""; 0]);
    assert_eq!(with("p", json!({"action": "ALLOW", "rules": without})), alone);
    let other = json!({"selector": app("b"), "rules": requires()});
    assert_eq!(with("p", other), ["MG030 default/jwt", "MG031 default/p"]);
}

#[test]
fn a_question_about_a_token_that_is_never_read() {
    let when = json!({"rules": [{}, {"when": [{"key": "request.auth.claims[a]", "values": ["b"]}]}]});
    assert_eq!(codes(&[], &[policy("p", when.clone())]), ["MG031 default/p"]);
    let elsewhere = authentication("other/jwt", json!({"jwtRules": [rule("i")]}));
    assert!(codes(&[elsewhere], &[policy("p", when.clone())]).contains(&"MG031 default/p".to_owned()));
    let everywhere = authentication("istio-system/jwt", json!({"jwtRules": [rule("i")]}));
    assert_eq!(codes(&[everywhere], &[policy("p", when)]), [""; 0]);
}

#[test]
fn one_issuer_at_two_places() {
    let asks = [policy("p", json!({"rules": requires()}))];
    let elsewhere = json!({"issuer": "i", "jwksUri": "https://idp/keys", "fromHeaders": [{"name": "x-token"}]});
    let both = |second: Value| authentication("jwt", json!({"jwtRules": [rule("i"), second]}));
    assert_eq!(codes(&[both(elsewhere.clone())], &asks), ["MG032 default/jwt"]);
    assert_eq!(codes(&[both(rule("i"))], &asks), [""; 0]);
    assert_eq!(codes(&[both(rule("j"))], &asks), [""; 0]);
    let first = authentication("a", json!({"jwtRules": [rule("i")]}));
    let second = authentication("b", json!({"jwtRules": [elsewhere]}));
    assert_eq!(codes(&[first, second], &asks), ["MG032 default/b"]);
}

#[test]
fn keys_that_others_can_have_or_replace() {
    let asks = [policy("p", json!({"rules": requires()}))];
    let of = |rule: Value| codes(&[authentication("jwt", json!({"jwtRules": [rule]}))], &asks);
    assert_eq!(of(json!({"issuer": "i", "jwksUri": "http://idp/keys"})), ["MG033 default/jwt"]);
    assert_eq!(of(json!({"issuer": "http://idp"})), ["MG033 default/jwt"]);
    assert_eq!(of(json!({"issuer": "https://idp"})), [""; 0]);
    let mut key: Value = serde_json::from_str(crate::jwt::tests::PUBLIC_KEY).unwrap();
    key["d"] = json!("secret");
    let jwks = json!({"keys": [key]}).to_string();
    assert_eq!(of(json!({"issuer": "i", "jwks": jwks})), ["MG034 default/jwt"]);
}
