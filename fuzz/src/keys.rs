//! Keys of those who sign tokens, as they publish them.

use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderValue, Method, header};
use meshgate_policy::jwt::{Asked, Authentication, KeyLocation, KeySet, KeySets, VerifiedTokens};
use meshgate_policy::{ObjectName, istio};
use serde_json::json;

use super::policies::workload;
use super::tokens::{NOW, TOKEN};

const WHERE: &str = "https://joe.example/keys";

static RULES: LazyLock<Authentication> = LazyLock::new(|| {
    let spec = json!({"jwtRules": [{"issuer": "joe", "jwksUri": WHERE}]});
    let spec = serde_json::from_value(spec).expect("the shape of a RequestAuthentication");
    let name = ObjectName { namespace: "default".into(), name: "tokens".into() };
    let authentication = istio::request_authentication(name, spec).expect("it is valid");
    Authentication::compile(&[Arc::new(authentication)], &workload(), "istio-system")
});

/// A key set is refused, with a reason, or used: the one token is good by it only if its own key is in it.
pub fn key_set(data: &[u8]) {
    let set = match KeySet::parse(data) {
        Ok(set) => set,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let is_empty = set.is_empty();
    let location = KeyLocation::Uri(WHERE.to_owned());
    let sets = KeySets { generation: 1, sets: [(location, Arc::new(set))].into() };
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {TOKEN}")).expect("a token"));
    let asked = Asked { method: &Method::GET, headers: &headers, query: None };
    let passed = RULES.check(&asked, &sets, &mut VerifiedTokens::default(), 1, std::time::UNIX_EPOCH + NOW);
    if passed.is_ok() {
        assert!(!is_empty);
        // Its last digits: JSON has many ways to write a letter, and the key itself one.
        let text: String = serde_json::from_slice::<serde_json::Value>(data).expect("it was read before").to_string();
        assert!(text.contains("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVE"), "not the key that signed it");
    }
}
