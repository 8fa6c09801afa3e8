//! When a request with several rules and several tokens passes.

use super::*;

fn x_rule(more: Value) -> Value {
    let mut rule = rule(json!({"fromHeaders": [{"name": "x-token"}]}));
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rule
}

#[test]
fn no_token_is_no_failure() {
    assert_eq!(Sent::new().outcome(&rules(&[rule(json!({}))])), "anonymous");
}

#[test]
fn every_token_of_a_rule_must_be_good() {
    let rules = rules(&[rule(json!({}))]);
    let (good, bad) = (good(json!({})), "a.b.c");
    assert_eq!(Sent::bearer(&good).outcome(&rules), "https://idp.example/alice");
    assert_eq!(Sent::bearer(&good).query(&format!("access_token={good}")).outcome(&rules), "https://idp.example/alice");
    assert_eq!(
        Sent::bearer(&good).query(&format!("access_token={bad}")).outcome(&rules),
        "Jwt header is an invalid Base64url encoded"
    );
    assert_eq!(
        Sent::bearer(bad).query(&format!("access_token={good}")).outcome(&rules),
        "Jwt header is an invalid Base64url encoded"
    );
    assert_eq!(
        Sent::new().query(&format!("access_token={good}&access_token={bad}")).outcome(&rules),
        "Jwt header is an invalid Base64url encoded"
    );
}

#[test]
fn a_good_token_of_one_rule_hides_a_bad_one_of_another() {
    let rules = rules(&[rule(json!({})), x_rule(json!({"issuer": "https://other"}))]);
    let (good, expired) = (good(json!({})), good(json!({"exp": 1})));
    assert_eq!(Sent::bearer(&good).header("x-token", "bad").outcome(&rules), "https://idp.example/alice");
    assert_eq!(Sent::bearer(&expired).header("x-token", &good).outcome(&rules), "Jwt is expired");
}

#[test]
fn each_token_may_be_good_for_another_rule() {
    let audience = |audience: &str| rule(json!({"audiences": [audience]}));
    let rules = rules(&[audience("a"), audience("b")]);
    let (a, b, c) = (good(json!({"aud": "a"})), good(json!({"aud": "b", "sub": "bob"})), good(json!({"aud": "c"})));
    assert_eq!(Sent::bearer(&a).outcome(&rules), "https://idp.example/alice");
    assert_eq!(Sent::bearer(&b).outcome(&rules), "https://idp.example/bob");
    assert_eq!(Sent::bearer(&a).query(&format!("access_token={b}")).outcome(&rules), "https://idp.example/alice");
    let mixed = Sent::bearer(&a).query(&format!("access_token={c}"));
    assert_eq!(mixed.outcome(&rules), "Audiences in Jwt are not allowed");
}

#[test]
fn a_token_counts_only_at_a_place_that_a_rule_of_its_issuer_reads() {
    let rules = rules(&[rule(json!({})), x_rule(json!({"issuer": "https://other"}))]);
    let good = good(json!({}));
    assert_eq!(Sent::new().header("x-token", &good).outcome(&rules), "Jwt issuer is not configured");
    let other = signers().token(&json!({"alg": "ES256"}), &claims(json!({"iss": "https://other"})));
    assert_eq!(Sent::new().header("x-token", &other).outcome(&rules), "https://other/alice");
    assert_eq!(Sent::bearer(&other).outcome(&rules), "Jwt issuer is not configured");
}

#[test]
fn another_reason_than_an_unknown_issuer_is_told() {
    let rules = rules(&[rule(json!({"issuer": "a"})), rule(json!({})), rule(json!({"issuer": "z"}))]);
    let told = |more| Sent::bearer(&good(more)).outcome(&rules);
    assert_eq!(told(json!({"exp": 1})), "Jwt is expired");
    assert_eq!(told(json!({"iss": "x", "exp": 1})), "Jwt issuer is not configured");
}

#[test]
fn an_empty_issuer_is_any() {
    let mut any = rule(json!({"issuer": "", "jwksUri": "https://idp/keys"}));
    any.as_object_mut().unwrap().remove("jwks");
    let rules = rules(&[any]);
    let keys = jwks(&[signers().jwk("ES256", json!({}))]);
    let set = crate::jwt::KeySet::parse(keys.as_bytes()).unwrap();
    let location = rules.remote_keys().next().unwrap().0.clone();
    let keys = KeySets { generation: 1, sets: [(location, Arc::new(set))].into() };
    for issuer in ["a", "b"] {
        let sent = Sent::bearer(&good(json!({"iss": issuer})));
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let passed = rules.check(&sent.asked(), &keys, &mut VerifiedTokens::default(), 1, now).unwrap();
        assert_eq!(text(&passed), format!("{issuer}/alice"));
    }
}

#[test]
fn a_preflight_is_not_checked_and_has_no_identity() {
    let rules = rules(&[rule(json!({}))]);
    let preflight = Sent::bearer("bad").method(Method::OPTIONS).header("origin", "https://a");
    assert_eq!(preflight.outcome(&rules), Sent::bearer("bad").outcome(&rules));
    let preflight = preflight.header("access-control-request-method", "PUT");
    assert_eq!(preflight.outcome(&rules), "anonymous");
    assert_ne!(preflight.method(Method::GET).outcome(&rules), "anonymous");
}

#[test]
fn objects_of_the_root_namespace_and_the_own_add_up() {
    let named = |namespace: &str, name: &str, spec: Value| {
        let name = ObjectName { namespace: namespace.into(), name: name.into() };
        Arc::new(request_authentication(name, serde_json::from_value(spec).unwrap()).unwrap())
    };
    let app = |app: &str| json!({"matchLabels": {"app": app}});
    let objects = [
        named("istio-system", "mesh", json!({"jwtRules": [rule(json!({"issuer": "mesh"}))]})),
        named("default", "own", json!({"selector": app("backend"), "jwtRules": [rule(json!({"issuer": "own"}))]})),
        named("default", "other", json!({"selector": app("other"), "jwtRules": [rule(json!({"issuer": "other"}))]})),
        named("elsewhere", "far", json!({"jwtRules": [rule(json!({"issuer": "far"}))]})),
        named(
            "default",
            "gateway",
            json!({"targetRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"},
            "jwtRules": [rule(json!({"issuer": "gateway"}))]}),
        ),
    ];
    let rules = Authentication::compile(&objects, &workload(), "istio-system");
    for (issuer, applies) in [("mesh", true), ("own", true), ("other", false), ("far", false), ("gateway", false)] {
        let passes = Sent::bearer(&good(json!({"iss": issuer}))).check(&rules).is_ok();
        assert_eq!(passes, applies, "{issuer}");
    }
}

#[test]
fn many_tokens_are_not_looked_at() {
    let rules = rules(&[rule(json!({}))]);
    let token = good(json!({}));
    let query = |count: usize| vec![format!("access_token={token}"); count].join("&");
    assert_eq!(Sent::new().query(&query(32)).outcome(&rules), "https://idp.example/alice");
    assert_eq!(Sent::new().query(&query(33)).outcome(&rules), "Found multiple Jwt tokens");
}

#[test]
fn a_token_that_is_good_elsewhere_is_not_good_where_its_rule_does_not_look() {
    let reads = |issuer: &str, names: &[&str]| {
        let headers: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        rule(json!({"issuer": issuer, "fromHeaders": headers}))
    };
    let rules = rules(&[reads("a", &["x-a", "x-both"]), reads("b", &["x-b", "x-both"])]);
    let of = |issuer: &str| good(json!({"iss": issuer}));
    let both = Sent::new().header("x-a", &of("a")).header("x-both", &of("b"));
    assert_eq!(both.clone().header("x-b", &of("b")).outcome(&rules), "b/alice");
    assert_eq!(both.clone().header("x-b", &of("a")).outcome(&rules), "Jwt issuer is not configured");
    assert_eq!(Sent::new().header("x-a", &of("a")).header("x-b", &of("b")).outcome(&rules), "a/alice");
}
