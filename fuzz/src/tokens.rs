//! Tokens of end users, against one rule with one key.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use meshgate_policy::jwt::{Asked, Authentication, KeySets, Passed, VerifiedTokens};
use meshgate_policy::{ObjectName, istio};
use serde_json::json;

use super::policies::workload;

/// RFC 7515, appendix A.3.1.
pub(crate) const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
/// Before it expires.
pub(crate) const NOW: Duration = Duration::from_secs(1_300_819_000);

static RULES: LazyLock<Authentication> = LazyLock::new(|| {
    let rule = json!({
        "issuer": "joe",
        "jwks": KEYS,
        "fromHeaders": [{"name": "authorization", "prefix": "Bearer "}],
        "fromCookies": ["token"],
        "fromParams": ["access_token"],
        "outputPayloadToHeader": "x-payload",
    });
    let spec = serde_json::from_value(json!({"jwtRules": [rule]})).expect("the shape of a RequestAuthentication");
    let name = ObjectName { namespace: "default".into(), name: "tokens".into() };
    let authentication = istio::request_authentication(name, spec).expect("it is valid");
    let rules = Authentication::compile(&[Arc::new(authentication)], &workload(), "istio-system");
    assert!(good(Place::Header, TOKEN.as_bytes(), &rules), "the standard's example");
    rules
});

#[derive(Clone, Copy, Debug)]
enum Place {
    Header,
    Cookie,
    Query,
}

/// Nothing but the one token that was signed is ever good. The input is first taken as a request's header, cookie and query, then
/// as a place in that token (two bytes) and another byte for it.
pub fn token(data: &[u8]) {
    let contains = |text: &[u8]| text.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
    for place in [Place::Header, Place::Cookie, Place::Query] {
        // An escape takes three bytes for one: whoever spells the real token that way has it.
        if !contains(data) && !data.contains(&b'%') {
            assert!(!good(place, data, &RULES), "{place:?}");
        } else {
            let _ = good(place, data, &RULES);
        }
    }
    let [high, low, other, ..] = *data else { return };
    let mut changed = TOKEN.as_bytes().to_vec();
    let at = usize::from(u16::from_be_bytes([high, low])) % changed.len();
    if changed[at] == other {
        return;
    }
    changed[at] = other;
    for place in [Place::Header, Place::Cookie, Place::Query] {
        assert!(!good(place, &changed, &RULES), "{place:?}: byte {at} as {other}");
    }
}

/// Whether a token comes out of a request with this at a place of tokens.
fn good(place: Place, text: &[u8], rules: &Authentication) -> bool {
    let mut headers = HeaderMap::new();
    let mut query = None;
    let line = |before: &str| HeaderValue::from_bytes(&[before.as_bytes(), text].concat());
    match place {
        Place::Header | Place::Cookie => {
            let (name, before) = match place {
                Place::Header => (http::header::AUTHORIZATION, "Bearer "),
                _ => (http::header::COOKIE, "token="),
            };
            let Ok(value) = line(before) else { return false };
            headers.append(name, value);
        }
        Place::Query => query = std::str::from_utf8(text).ok().map(|text| format!("a=b&access_token={text}")),
    }
    let asked = Asked { method: &Method::GET, headers: &headers, query: query.as_deref() };
    let mut known = VerifiedTokens::default();
    let now: SystemTime = UNIX_EPOCH + NOW;
    let verdict = |known: &mut VerifiedTokens| rules.check(&asked, &KeySets::default(), known, 1, now);
    let first = verdict(&mut known);
    let again = verdict(&mut known);
    assert_eq!(first.is_ok(), again.is_ok(), "what is remembered of a token changes nothing");
    match first {
        Ok(passed) => {
            carried_out(&passed, &headers, query.as_deref());
            passed.token.is_some()
        }
        Err(refusal) => {
            assert!(refusal.rejection.status().is_client_error());
            false
        }
    }
}

fn carried_out(passed: &Passed, headers: &HeaderMap, query: Option<&str>) {
    let mut changed = headers.clone();
    passed.change_headers(&mut changed);
    let told = changed.contains_key(HeaderName::from_static("x-payload"));
    assert_eq!(told, passed.token.is_some(), "only a good token is told of");
    let left = query.and_then(|query| passed.change_query(query)).flatten();
    assert!(left.is_none_or(|left| !left.contains("access_token")), "and is not handed on");
}
