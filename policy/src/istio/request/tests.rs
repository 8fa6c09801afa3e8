#![expect(clippy::needless_pass_by_value, reason = "values are written where they are used, with json!")]

use serde_json::{Value, json};

use super::*;
use crate::jwt::tests::PUBLIC_KEY;

/// The paths of what is wrong, or the message where it is no spec at all.
fn wrong(spec: Value) -> Vec<String> {
    let spec: RequestAuthenticationSpec = match serde_json::from_value(spec) {
        Ok(spec) => spec,
        Err(error) => return vec![error.to_string()],
    };
    let name = ObjectName { namespace: "default".into(), name: "jwt".into() };
    let all = request_authentication(name, spec).err().unwrap_or_default();
    all.into_iter().map(|invalid| invalid.path).collect()
}

fn in_rule(fields: Value) -> Vec<String> {
    let mut rule = json!({"issuer": "i", "jwksUri": "https://idp/keys"});
    for (name, value) in fields.as_object().unwrap() {
        rule[name] = value.clone();
    }
    let strip = |path: String| path.strip_prefix("spec.jwtRules[0].").map(str::to_owned).unwrap_or(path);
    wrong(json!({"jwtRules": [rule]})).into_iter().map(strip).collect()
}

#[test]
fn everything_that_istio_takes_is_taken() {
    let jwks = format!(r#"{{"keys":[{PUBLIC_KEY}]}}"#);
    for spec in [
        json!({}),
        json!({"jwtRules": []}),
        json!({"selector": {"matchLabels": {"app": "a"}}, "jwtRules": [{"issuer": "i"}]}),
        json!({"targetRefs": [{"kind": "Service", "name": "s"}]}),
        json!({"jwtRules": [{"issuer": "i", "jwks": jwks}]}),
        json!({"jwtRules": [{"jwksUri": "http://idp"}]}),
        json!({"jwtRules": [{"issuer": "i", "jwks_uri": "https://idp:8443/keys?a=b"}]}),
        json!({"jwtRules": [{
            "issuer": "i", "audiences": ["a"], "fromHeaders": [{"name": "x", "prefix": "P "}], "fromParams": ["p"],
            "fromCookies": ["c"], "outputPayloadToHeader": "x-payload", "forwardOriginalToken": true, "timeout": "1.5s",
            "outputClaimToHeaders": [{"header": "X-a_1", "claim": "a.b"}], "spaceDelimitedClaims": ["roles"],
            "presence": "OPTIONAL",
        }]}),
    ] {
        assert_eq!(wrong(spec.clone()), [""; 0], "{spec}");
    }
}

#[test]
fn everything_that_istio_rejects_is_rejected() {
    let jwks = format!(r#"{{"keys":[{PUBLIC_KEY}]}}"#);
    for (fields, path) in [
        (json!({"issuer": "", "jwksUri": null}), "issuer"),
        (json!({"issuer": null, "jwksUri": null, "jwks": jwks}), "issuer"),
        (json!({"jwks": jwks}), "jwks"),
        (json!({"jwksUri": null, "jwks": "x"}), "jwks"),
        (json!({"jwksUri": null, "jwks": r#"{"keys":[]}"#}), "jwks"),
        (json!({"jwksUri": "ftp://idp/keys"}), "jwksUri"),
        (json!({"jwksUri": "idp/keys"}), "jwksUri"),
        (json!({"jwksUri": "https://"}), "jwksUri"),
        (json!({"jwksUri": "http://idp:99999/keys"}), "jwksUri"),
        (json!({"jwksUri": "https://idp:/keys"}), "jwksUri"),
        (json!({"jwksUri": "https://[::1]:65536/keys"}), "jwksUri"),
        (json!({"jwksUri": "file:///etc/passwd"}), "jwksUri"),
        (json!({"jwksUri": format!("https://idp/{}", "x".repeat(2048))}), "jwksUri"),
        (json!({"audiences": ["a", ""]}), "audiences[1]"),
        (json!({"fromHeaders": [{"name": ""}]}), "fromHeaders[0].name"),
        (json!({"fromHeaders": [{"name": "a b"}]}), "fromHeaders[0].name"),
        (json!({"fromHeaders": [null]}), "fromHeaders[0].name"),
        (json!({"fromParams": [""]}), "fromParams[0]"),
        (json!({"fromCookies": [""]}), "fromCookies[0]"),
        (json!({"spaceDelimitedClaims": [""]}), "spaceDelimitedClaims[0]"),
        (json!({"outputPayloadToHeader": "a b"}), "outputPayloadToHeader"),
        (json!({"outputPayloadToHeader": "Host"}), "outputPayloadToHeader"),
        (json!({"outputClaimToHeaders": [{"header": "x", "claim": ""}]}), "outputClaimToHeaders[0].claim"),
        (json!({"outputClaimToHeaders": [{"header": "", "claim": "c"}]}), "outputClaimToHeaders[0].header"),
        (json!({"outputClaimToHeaders": [{"header": "x.y", "claim": "c"}]}), "outputClaimToHeaders[0].header"),
        (
            json!({"outputClaimToHeaders": [{"header": "content-length", "claim": "c"}]}),
            "outputClaimToHeaders[0].header",
        ),
        (json!({"timeout": "999us"}), "timeout"),
        (json!({"presence": "REQUIRED"}), "presence"),
    ] {
        assert_eq!(in_rule(fields.clone()), [path], "{fields}");
    }
    assert_eq!(wrong(json!({"jwtRules": [null]})), ["spec.jwtRules[0]"]);
    assert_eq!(wrong(json!({"selector": {"matchLabels": {"a": "*"}}})), ["spec.selector.matchLabels[a]"]);
    assert_eq!(wrong(json!({"selector": {}, "targetRef": {"kind": "Service", "name": "s"}})), ["spec"]);
}

#[test]
fn an_unknown_field_or_word_is_an_error() {
    for (fields, message) in [
        (json!({"forwardOriginalTokn": true}), "unknown field `forwardOriginalTokn`"),
        (json!({"presence": "SOMETIMES"}), "unknown variant `SOMETIMES`"),
        (json!({"timeout": "5"}), "is not a duration"),
        (json!({"fromHeaders": [{"header": "x"}]}), "unknown field `header`"),
    ] {
        assert!(in_rule(fields.clone())[0].contains(message), "{fields}");
    }
    assert!(wrong(json!({"jwtRule": []}))[0].contains("unknown field `jwtRule`"));
}
