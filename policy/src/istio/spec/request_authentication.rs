//! `RequestAuthentication.spec`.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::{TargetRef, WorkloadSelector};
use crate::duration;

/// `RequestAuthentication.spec`; the default, `{}`, checks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RequestAuthenticationSpec {
    /// Which workloads; absent: all that the namespace reaches.
    pub selector: Option<WorkloadSelector>,
    /// A gateway or service instead of workloads.
    pub target_ref: Option<TargetRef>,
    /// Several of them.
    pub target_refs: Option<Vec<TargetRef>>,
    /// Whose tokens are taken.
    pub jwt_rules: Option<Vec<Option<JwtRuleSpec>>>,
}

/// `jwtRules[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JwtRuleSpec {
    /// Claim `iss`; empty: any, which needs `jwksUri`.
    pub issuer: Option<String>,
    /// One of them must be in claim `aud`; absent: not checked.
    pub audiences: Option<Vec<String>>,
    /// Where the keys are fetched.
    #[serde(alias = "jwks_uri")]
    pub jwks_uri: Option<String>,
    /// The keys themselves, as the text of a JWK Set.
    pub jwks: Option<String>,
    /// Headers that hold a token.
    pub from_headers: Option<Vec<Option<JwtHeaderSpec>>>,
    /// Query parameters that hold a token.
    pub from_params: Option<Vec<String>>,
    /// Cookies that hold a token.
    pub from_cookies: Option<Vec<String>>,
    /// The header that the payload is told in.
    pub output_payload_to_header: Option<String>,
    /// Whether the token goes on to the application.
    pub forward_original_token: Option<bool>,
    /// The headers that single claims are told in.
    pub output_claim_to_headers: Option<Vec<Option<ClaimToHeaderSpec>>>,
    /// For one fetch of the keys.
    #[serde(deserialize_with = "optional_duration")]
    pub timeout: Option<Duration>,
    /// Claims that are words with spaces between them.
    pub space_delimited_claims: Option<Vec<String>>,
    /// Whether there must be a token.
    pub presence: Option<PresenceSpec>,
}

/// `fromHeaders[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JwtHeaderSpec {
    /// The header's name.
    pub name: String,
    /// What stands before the token.
    pub prefix: Option<String>,
}

/// `outputClaimToHeaders[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimToHeaderSpec {
    /// The header's name.
    pub header: String,
    /// The claim; names of nested objects have dots between them.
    pub claim: String,
}

/// `presence`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PresenceSpec {
    /// A request without a token passes.
    Optional,
    /// It does not.
    Required,
}

fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| duration::parse(&text).map_err(D::Error::custom)).transpose()
}
