//! What the application is told.

use super::*;

fn told(outputs: &[(&str, &str)], more: Value) -> Vec<String> {
    let outputs: Vec<_> = outputs.iter().map(|(header, claim)| json!({"header": header, "claim": claim})).collect();
    let rules = rules(&[rule(json!({"outputClaimToHeaders": outputs}))]);
    Sent::bearer(&good(more)).forwarded(&rules).0
}

#[test]
fn a_claim_is_told_as_envoy_tells_it() {
    for (value, expected) in [
        (json!("text"), Some("text")),
        (json!(""), None),
        (json!(true), Some("true")),
        (json!(false), Some("false")),
        (json!(7), Some("7")),
        (json!(-7), Some("-7")),
        (json!(9_007_199_254_740_993_u64), Some("9007199254740993")),
        (json!(1.5), Some("1.500000")),
        (json!(2.0), Some("2")),
        (json!(null), None),
        (json!(["a", 1]), Some("WyJhIiwxXQ==")),
        (json!({"b": 1, "a": []}), Some("eyJhIjpbXSwiYiI6MX0=")),
        (json!("two\r\nx-lines: 1"), None),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|value| format!("x-claim: {value}")).collect();
        assert_eq!(told(&[("X-Claim", "c")], json!({"c": value})), expected, "{value}");
    }
}

#[test]
fn dots_lead_into_objects() {
    let claims = json!({"a": {"b": {"c": "deep"}}, "a.b": "flat"});
    assert_eq!(told(&[("x", "a.b.c"), ("y", "a.b"), ("z", "a.x")], claims), ["x: deep", "y: eyJjIjoiZGVlcCJ9"]);
}

#[test]
fn words_are_split_for_policies_only() {
    let rules = rules(&[rule(json!({
        "spaceDelimitedClaims": ["roles"],
        "outputClaimToHeaders": [{"header": "x-scope", "claim": "scope"}],
    }))]);
    let sent = Sent::bearer(&good(
        json!({"scope": "read  write ", "permission": "p", "roles": "a b", "name": "c d", "sub": "x y"}),
    ));
    let token = sent.check(&rules).unwrap().token.unwrap();
    assert_eq!(token.claim("scope"), Some(&json!(["read", "write"])));
    assert_eq!(token.claim("permission"), Some(&json!(["p"])));
    assert_eq!(token.claim("roles"), Some(&json!(["a", "b"])));
    assert_eq!(token.claim("name"), Some(&json!("c d")));
    assert_eq!(sent.forwarded(&rules).0, ["x-scope: read  write "]);
}

#[test]
fn the_payload_is_told_as_it_was_sent() {
    let rules = rules(&[rule(json!({"outputPayloadToHeader": "X-Payload"}))]);
    let token = good(json!({}));
    let payload = token.split('.').nth(1).unwrap();
    assert_eq!(Sent::bearer(&token).forwarded(&rules).0, [format!("x-payload: {payload}")]);
}

#[test]
fn nobody_but_a_good_token_sets_these_headers() {
    let outputs =
        json!({"outputPayloadToHeader": "x-payload", "outputClaimToHeaders": [{"header": "x-user", "claim": "user"}]});
    let rules = rules(&[rule(outputs)]);
    let claimed = |sent: Sent| {
        sent.header("x-user", "root").header("X-User", "root").header("x_user", "root").header("x-payload", "e30")
    };
    assert_eq!(claimed(Sent::new()).forwarded(&rules).0, [""; 0]);
    let preflight =
        Sent::new().method(Method::OPTIONS).header("origin", "a").header("access-control-request-method", "PUT");
    assert_eq!(claimed(preflight).forwarded(&rules).0, ["access-control-request-method: PUT", "origin: a"]);
    let (lines, _) = claimed(Sent::bearer(&good(json!({"user": "alice"})))).forwarded(&rules);
    assert_eq!(lines.iter().filter(|line| line.starts_with("x-user")).collect::<Vec<_>>(), ["x-user: alice"]);
    assert!(
        claimed(Sent::bearer(&good(json!({})))).forwarded(&rules).0.iter().all(|line| line.starts_with("x-payload: "))
    );
}
