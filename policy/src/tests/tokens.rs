//! What policies see of a token.

use serde_json::{Value, json};

use super::{Call, matches};

/// Whether the rule matches, in an ALLOW and in a DENY policy alike.
fn holds(rule: &Value, call: &Call) -> bool {
    let (allow, deny) = (matches("ALLOW", rule, call), matches("DENY", rule, call));
    assert_eq!(allow, deny, "{rule}");
    allow
}

fn when(key: &str, values: &[&str]) -> Value {
    json!({"when": [{"key": key, "values": values}]})
}

fn when_not(key: &str, values: &[&str]) -> Value {
    json!({"when": [{"key": key, "notValues": values}]})
}

#[test]
fn a_request_principal_is_split_at_its_last_slash() {
    for (value, issuer, subject, expected) in [
        ("*", "i", "s", true),
        ("*", "i", "", false),
        ("*", "", "s", false),
        ("https://idp/alice", "https://idp", "alice", true),
        ("https://idp/alice", "https://idp", "bob", false),
        ("https://idp/*", "https://idp", "x", true),
        ("https://idp/*", "https://idp", "", false),
        ("https://idp/*", "https://idp/realm", "x", false),
        ("https://idp/al*", "https://idp", "alice", true),
        ("https://idp/al*", "https://idp", "bob", false),
        ("*/alice", "any", "alice", true),
        ("*/alice", "", "alice", false),
        ("*idp/alice", "https://idp", "alice", true),
        ("*idp/alice", "https://other", "alice", false),
        ("idp*", "idp.example", "x", true),
        ("idp*", "idp.example", "", false),
        ("*ice", "any", "alice", true),
        ("*ice", "", "alice", false),
        ("idp", "idp", "", true),
        ("idp", "idp", "alice", false),
        ("IDP/alice", "idp", "alice", false),
    ] {
        let call = Call::get("/").token(json!({"iss": issuer, "sub": subject}));
        let source = json!({"from": [{"source": {"requestPrincipals": [value]}}]});
        assert_eq!(holds(&source, &call), expected, "{value} of {issuer} {subject}");
        assert_eq!(holds(&when("request.auth.principal", &[value]), &call), expected, "{value}");
        let not = json!({"from": [{"source": {"notRequestPrincipals": [value]}}]});
        assert_eq!(holds(&not, &call), !expected, "not {value}");
    }
}

#[test]
fn a_token_without_subject_has_no_request_principal() {
    for claims in [json!({"iss": "i"}), json!({"sub": "s"}), json!({})] {
        let call = Call::get("/").token(claims);
        for value in ["*", "i/*", "i", "*/s"] {
            assert!(!holds(&when("request.auth.principal", &[value]), &call), "{value}");
        }
        assert!(holds(&when_not("request.auth.principal", &["*"]), &call));
    }
}

#[test]
fn a_claim_matches_by_its_text_or_by_a_text_in_its_list() {
    for (claim, value, expected) in [
        (json!("admin"), "admin", true),
        (json!("admin"), "ad*", true),
        (json!("admin"), "*min", true),
        (json!("admin"), "*", true),
        (json!("admin"), "Admin", false),
        (json!(""), "*", false),
        (json!(["a", "b"]), "b", true),
        (json!(["a", 1, ["b"]]), "b", false),
        (json!(["a", 1]), "1", false),
        (json!([]), "*", false),
        (json!(1), "1", false),
        (json!(true), "true", false),
        (json!(null), "null", false),
        (json!({"a": "b"}), "b", false),
    ] {
        let call = Call::get("/").token(json!({"c": claim}));
        assert_eq!(holds(&when("request.auth.claims[c]", &[value]), &call), expected, "{claim} {value}");
        assert_eq!(holds(&when_not("request.auth.claims[c]", &[value]), &call), !expected, "{claim} not {value}");
    }
}

#[test]
fn brackets_lead_into_objects_and_a_dot_is_part_of_a_name() {
    let call = Call::get("/").token(json!({"a": {"b": {"c": ["deep"]}}, "a.b": "flat", "https://x.y/c": "url"}));
    assert!(holds(&when("request.auth.claims[a][b][c]", &["deep"]), &call));
    assert!(holds(&when("request.auth.claims[a.b]", &["flat"]), &call));
    assert!(holds(&when("request.auth.claims[https://x.y/c]", &["url"]), &call));
    assert!(!holds(&when("request.auth.claims[a][b]", &["*"]), &call));
    assert!(!holds(&when("request.auth.claims[a][c]", &["*"]), &call));
    assert!(!holds(&when("request.auth.claims[a][b][c][0]", &["*"]), &call));
}

#[test]
fn audiences_and_presenter_are_claims() {
    let call = Call::get("/").token(json!({"aud": ["https://a/", "b"], "azp": "client"}));
    assert!(holds(&when("request.auth.audiences", &["b"]), &call));
    assert!(holds(&when("request.auth.audiences", &["https://a/"]), &call));
    assert!(!holds(&when("request.auth.audiences", &["a"]), &call));
    assert!(holds(&when("request.auth.presenter", &["client"]), &call));
    assert!(!holds(&when("request.auth.presenter", &["b"]), &call));
}

#[test]
fn an_explanation_shows_what_the_token_says() {
    let rule = super::rule("ALLOW", &when("request.auth.claims[c]", &["x"]));
    let set = crate::PolicySet::compile(&[rule], &super::workload(), &super::settings());
    let found = |call: Call| call.explain_in(&set).policies[0].rules[0].because[0].found.clone();
    assert_eq!(found(Call::get("/")), "no token not in [x]");
    assert_eq!(found(Call::get("/").token(json!({}))), "no such claim not in [x]");
    assert_eq!(found(Call::get("/").token(json!({"c": ["y"]}))), "[\"y\"] not in [x]");
}
