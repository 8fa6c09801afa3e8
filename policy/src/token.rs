//! What a verified token says of the one who sent the request.

use std::fmt;

use serde_json::{Map, Value};

/// The claims of a JSON Web Token (RFC 7519) whose signature, issuer and time have been checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Token {
    claims: Map<String, Value>,
}

/// `<issuer>/<subject>`, as `requestPrincipals` names the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestPrincipal<'a> {
    /// Claim `iss`.
    pub issuer: &'a str,
    /// Claim `sub`.
    pub subject: &'a str,
}

impl Token {
    /// From the token's payload.
    pub fn new(claims: Map<String, Value>) -> Token {
        Token { claims }
    }

    /// A claim by its name.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// Whom it speaks for; `None` without an issuer or a subject.
    pub fn principal(&self) -> Option<RequestPrincipal<'_>> {
        let text = |name| self.claim(name).and_then(Value::as_str);
        Some(RequestPrincipal { issuer: text("iss")?, subject: text("sub")? })
    }

    /// The claim at the end of `path`, each name within the object before it.
    pub(crate) fn nested(&self, path: &[Box<str>]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.claim(first)?, |value, name| value.get(&**name))
    }

    /// Makes lists of words out of claims that are one text with spaces in it.
    pub(crate) fn split_words(&mut self, names: &[Box<str>]) {
        for name in names {
            if let Some(value) = self.claims.get_mut(&**name)
                && let Value::String(text) = value
            {
                let words = text.split(' ').filter(|word| !word.is_empty());
                *value = words.map(|word| Value::String(word.to_owned())).collect();
            }
        }
    }
}

/// Whether a claim is a text, or has a text in its list, that `matches`. Nothing but text is compared.
pub(crate) fn has_text(claim: &Value, matches: impl Fn(&str) -> bool) -> bool {
    match claim {
        Value::String(text) => matches(text),
        Value::Array(items) => items.iter().filter_map(Value::as_str).any(matches),
        _ => false,
    }
}

impl fmt::Display for RequestPrincipal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.issuer, self.subject)
    }
}
