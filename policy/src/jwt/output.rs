//! What the application is told of a good token, in headers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// `outputClaimToHeaders[]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimHeader {
    pub(crate) header: HeaderName,
    /// Names from the outside in.
    pub(crate) claim: Box<[Box<str>]>,
}

impl ClaimHeader {
    /// The header for these claims; `None` when there is no such claim, or it is nothing that a header can hold.
    pub(super) fn output(&self, claims: &Map<String, Value>) -> Option<(HeaderName, HeaderValue)> {
        let (first, rest) = self.claim.split_first()?;
        let value = rest.iter().try_fold(claims.get(&**first)?, |value, name| value.get(&**name))?;
        let text = text(value).filter(|text| !text.is_empty())?;
        Some((self.header.clone(), HeaderValue::from_str(&text).ok()?))
    }
}

/// As Envoy writes a claim.
fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Bool(true) => "true".to_owned(),
        Value::Bool(false) => "false".to_owned(),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64()?;
            if number.fract() == 0.0 && number.abs() < 1e18 { format!("{number:.0}") } else { format!("{number:.6}") }
        }
        Value::Number(number) => number.to_string(),
        Value::Array(_) | Value::Object(_) => STANDARD.encode(value.to_string()),
    })
}
