//! What a verified token says of the one who sent the request.

use serde_json::{Map, Value};

/// The claims of a JSON Web Token (RFC 7519) whose signature, issuer and time have been checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Token {
    claims: Map<String, Value>,
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
}
