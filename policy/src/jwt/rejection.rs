//! Why a token is not a good one.

use std::fmt;

/// What is wrong with a token. The text is what Envoy answers, so that clients that know it go on working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// Not three parts with something in each.
    Form,
    /// The header is not base64url.
    HeaderBase64,
    /// The header is not a JSON object, or has a name twice.
    HeaderJson,
    /// The header has no `alg`, or one that is no text.
    NoAlgorithm,
    /// An `alg` that is not a signature with a public key, or not known.
    Algorithm,
    /// `kid` is not text.
    KeyId,
    /// The header says that it must be understood in full (RFC 7515, section 4.1.11).
    Critical,
    /// The payload is not base64url.
    PayloadBase64,
    /// The payload is not a JSON object, or has a name twice.
    PayloadJson,
    /// A claim is not of its type.
    Type(TypedClaim),
    /// `exp`, `nbf` or `iat` is negative.
    Range(TypedClaim),
    /// The signature is not base64url.
    SignatureBase64,
    /// No rule has its issuer.
    Issuer,
    /// `exp` has passed.
    Expired,
    /// `nbf` has not come.
    NotYetValid,
    /// It is for somebody else.
    Audience,
    /// There is no key set to check it with.
    NoKeys,
    /// The key set has no key for its `kid` and `alg`.
    NoKey,
    /// Its signature is not by any of the keys.
    Signature,
    /// More tokens than anybody needs.
    TooMany,
}

/// A claim whose type is laid down (RFC 7519, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TypedClaim {
    /// `iss`
    Issuer,
    /// `sub`
    Subject,
    /// `aud`
    Audience,
    /// `jti`
    Id,
    /// `exp`
    Expiry,
    /// `nbf`
    NotBefore,
    /// `iat`
    IssuedAt,
}

impl Rejection {
    /// What the caller is told.
    pub fn text(self) -> &'static str {
        match self {
            Rejection::Form => "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            Rejection::HeaderBase64 => "Jwt header is an invalid Base64url encoded",
            Rejection::HeaderJson => "Jwt header is an invalid JSON",
            Rejection::NoAlgorithm => "Jwt header [alg] field is required and must be a string",
            Rejection::Algorithm => "Jwt header [alg] is not supported",
            Rejection::KeyId => "Jwt header [kid] field is not a string",
            Rejection::Critical => "Jwt header [crit] is not supported",
            Rejection::PayloadBase64 => "Jwt payload is an invalid Base64url encoded",
            Rejection::PayloadJson => "Jwt payload is an invalid JSON",
            Rejection::Type(claim) => claim.wrong_type(),
            Rejection::Range(claim) => claim.out_of_range(),
            Rejection::SignatureBase64 => "Jwt signature is an invalid Base64url encoded",
            Rejection::Issuer => "Jwt issuer is not configured",
            Rejection::Expired => "Jwt is expired",
            Rejection::NotYetValid => "Jwt not yet valid",
            Rejection::Audience => "Audiences in Jwt are not allowed",
            Rejection::NoKeys => "Jwks remote fetch is failed",
            Rejection::NoKey => "Jwks doesn't have key to match kid or alg from Jwt",
            Rejection::Signature => "Jwt verification fails",
            Rejection::TooMany => "Found multiple Jwt tokens",
        }
    }

    /// The answer's status: 403 for a token that is good, but for somebody else; 401 for every other.
    pub fn status(self) -> http::StatusCode {
        match self {
            Rejection::Audience => http::StatusCode::FORBIDDEN,
            _ => http::StatusCode::UNAUTHORIZED,
        }
    }
}

impl TypedClaim {
    fn wrong_type(self) -> &'static str {
        match self {
            TypedClaim::Issuer => "Jwt payload [iss] field is not a string",
            TypedClaim::Subject => "Jwt payload [sub] field is not a string",
            TypedClaim::Audience => "Jwt payload [aud] field is not a string or string list",
            TypedClaim::Id => "Jwt payload [jti] field is not a string",
            TypedClaim::Expiry => "Jwt payload [exp] field is not an integer",
            TypedClaim::NotBefore => "Jwt payload [nbf] field is not an integer",
            TypedClaim::IssuedAt => "Jwt payload [iat] field is not an integer",
        }
    }

    fn out_of_range(self) -> &'static str {
        match self {
            TypedClaim::Expiry => "Jwt payload [exp] field is not a positive 64 bit integer",
            TypedClaim::NotBefore => "Jwt payload [nbf] field is not a positive 64 bit integer",
            TypedClaim::IssuedAt => "Jwt payload [iat] field is not a positive 64 bit integer",
            other => other.wrong_type(),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Rejection {}
