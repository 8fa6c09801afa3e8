//! A RequestAuthentication in the terms of Envoy's jwt_authn filter.

use serde_json::{Map, Value, json};

/// One provider for each rule; a request passes with a token that is good for one of them, or when none of them finds one that
/// is not.
pub(crate) fn token_filter(rules: &Value) -> Value {
    let rules = rules.as_array().unwrap();
    let name = |index: usize| format!("origins-{index}");
    let providers: Map<_, _> = rules.iter().enumerate().map(|(index, rule)| (name(index), provider(rule))).collect();
    let mut all: Vec<_> = (0..rules.len())
        .map(|index| {
            let named = json!({"provider_name": name(index)});
            json!({"requires_any": {"requirements": [named, {"allow_missing": {}}]}})
        })
        .collect();
    let requires = match all.len() {
        1 => all.remove(0),
        _ => {
            let any = (0..rules.len()).map(|index| json!({"provider_name": name(index)}));
            let any: Vec<_> = any.chain([json!({"requires_all": {"requirements": all}})]).collect();
            json!({"requires_any": {"requirements": any}})
        }
    };
    json!({
        "providers": providers,
        "rules": [{"match": {"prefix": "/"}, "requires": requires}],
        "bypass_cors_preflight": true,
    })
}

fn provider(rule: &Value) -> Value {
    let mut provider = json!({
        "issuer": rule["issuer"],
        "local_jwks": {"inline_string": rule["jwks"]},
        "payload_in_metadata": "payload",
        "forward": rule["forwardOriginalToken"] == true,
        "normalize_payload_in_metadata": {"space_delimited_claims": ["scope", "permission"]},
    });
    let headers = rule["fromHeaders"].as_array().into_iter().flatten();
    let headers: Vec<_> = headers
        .map(|from| json!({"name": from["name"], "value_prefix": from["prefix"].as_str().unwrap_or("")}))
        .collect();
    for (field, value) in [
        ("audiences", rule["audiences"].clone()),
        ("from_params", rule["fromParams"].clone()),
        ("from_cookies", rule["fromCookies"].clone()),
        ("from_headers", if headers.is_empty() { Value::Null } else { headers.into() }),
    ] {
        if !value.is_null() {
            provider[field] = value;
        }
    }
    provider
}
