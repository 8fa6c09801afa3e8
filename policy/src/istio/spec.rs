//! The shape of the documents, field by field, with Istio's names.
//!
//! A list that is `null` is one that is absent. Whether an empty one may stand where it does is not decided here.

mod request_authentication;
pub mod text;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

pub use request_authentication::{
    ClaimToHeaderSpec, JwtHeaderSpec, JwtRuleSpec, PresenceSpec, RequestAuthenticationSpec,
};

/// Values of which one must match (in a `not` form: of which none may). Absent and empty mean no limit.
pub type Values = Option<Vec<String>>;

/// `AuthorizationPolicy.spec`; the default, `{}`, allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationPolicySpec {
    /// Which workloads; absent: all that the namespace reaches.
    pub selector: Option<WorkloadSelector>,
    /// A gateway or service instead of workloads.
    pub target_ref: Option<TargetRef>,
    /// Several of them.
    pub target_refs: Option<Vec<TargetRef>>,
    /// What a match means; absent: ALLOW.
    pub action: Option<ActionSpec>,
    /// Any of them matches.
    pub rules: Option<Vec<Option<RuleSpec>>>,
    /// For CUSTOM: who decides.
    pub provider: Option<ExtensionProvider>,
}

/// `spec.action`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ActionSpec {
    /// A match lets in.
    #[default]
    Allow,
    /// A match refuses.
    Deny,
    /// A match is written down.
    Audit,
    /// A match asks an external provider.
    Custom,
}

/// `spec.provider`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExtensionProvider {
    /// One of the mesh's extension providers.
    #[serde(deserialize_with = "text::one")]
    pub name: String,
}

/// `spec.selector`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadSelector {
    /// Labels a workload must have, all of them.
    #[serde(deserialize_with = "text::map")]
    pub match_labels: Option<BTreeMap<String, String>>,
}

/// `spec.targetRef`, `spec.targetRefs[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TargetRef {
    /// The API group; empty or `core` for Service.
    pub group: String,
    /// `Gateway`, `GatewayClass`, `Service` or `ServiceEntry`.
    pub kind: String,
    /// Its name.
    #[serde(deserialize_with = "text::one")]
    pub name: String,
    /// Not supported by Istio; always the policy's own.
    pub namespace: Option<String>,
}

/// `rules[]`: one of `from`, one of `to` and all of `when`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuleSpec {
    /// Who; absent: anyone.
    pub from: Option<Vec<Option<FromSpec>>>,
    /// What; absent: anything.
    pub to: Option<Vec<Option<ToSpec>>>,
    /// Further conditions.
    pub when: Option<Vec<Option<ConditionSpec>>>,
}

/// `from[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FromSpec {
    /// Who.
    pub source: Option<SourceSpec>,
}

/// `to[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ToSpec {
    /// What.
    pub operation: Option<OperationSpec>,
}

/// `from[].source`: all fields that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SourceSpec {
    /// `<trust domain>/ns/<namespace>/sa/<service account>`
    #[serde(deserialize_with = "text::list")]
    pub principals: Values,
    /// None of them.
    #[serde(deserialize_with = "text::list")]
    pub not_principals: Values,
    /// `<issuer>/<subject>` of a token.
    #[serde(deserialize_with = "text::list")]
    pub request_principals: Values,
    /// None of them.
    #[serde(deserialize_with = "text::list")]
    pub not_request_principals: Values,
    /// The namespace in the peer's identity.
    #[serde(deserialize_with = "text::list")]
    pub namespaces: Values,
    /// None of them.
    #[serde(deserialize_with = "text::list")]
    pub not_namespaces: Values,
    /// `<namespace>/<service account>`, or `<service account>` of the policy's namespace.
    #[serde(deserialize_with = "text::list")]
    pub service_accounts: Values,
    /// None of them.
    #[serde(deserialize_with = "text::list")]
    pub not_service_accounts: Values,
    /// The trust domain in the peer's identity.
    #[serde(deserialize_with = "text::list")]
    pub trust_domains: Values,
    /// None of them.
    #[serde(deserialize_with = "text::list")]
    pub not_trust_domains: Values,
    /// Addresses of the TCP peer.
    #[serde(deserialize_with = "text::list")]
    pub ip_blocks: Values,
    /// None of them.
    #[serde(deserialize_with = "text::list")]
    pub not_ip_blocks: Values,
    /// Addresses of the client, as trusted proxies report it.
    #[serde(deserialize_with = "text::list")]
    pub remote_ip_blocks: Values,
    /// None of them.
    #[serde(deserialize_with = "text::list")]
    pub not_remote_ip_blocks: Values,
}

/// `to[].operation`: all fields that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OperationSpec {
    /// Host with its port, if it is sent with one; without regard to case.
    #[serde(deserialize_with = "text::list")]
    pub hosts: Values,
    /// None of them.
    #[serde(deserialize_with = "text::list")]
    pub not_hosts: Values,
    /// Ports the connection was made to, as text.
    #[serde(deserialize_with = "text::list")]
    pub ports: Values,
    /// None of them.
    #[serde(deserialize_with = "text::list")]
    pub not_ports: Values,
    /// Methods.
    #[serde(deserialize_with = "text::list")]
    pub methods: Values,
    /// None of them.
    #[serde(deserialize_with = "text::list")]
    pub not_methods: Values,
    /// Normalized paths without the query, or templates.
    #[serde(deserialize_with = "text::list")]
    pub paths: Values,
    /// None of them.
    #[serde(deserialize_with = "text::list")]
    pub not_paths: Values,
}

/// `when[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConditionSpec {
    /// What is looked at: `request.headers[x-id]`, `source.ip`, ...
    pub key: String,
    /// One of them.
    #[serde(deserialize_with = "text::list")]
    pub values: Values,
    /// None of them.
    #[serde(deserialize_with = "text::list")]
    pub not_values: Values,
}

/// `PeerAuthentication.spec`; the default, `{}`, sets nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PeerAuthenticationSpec {
    /// Which workloads; absent: the whole namespace, or the mesh from the root namespace.
    pub selector: Option<WorkloadSelector>,
    /// For all ports.
    pub mtls: Option<MutualTls>,
    /// For ports of their own; needs a selector.
    pub port_level_mtls: Option<BTreeMap<PortKey, Option<MutualTls>>>,
}

/// `mtls`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MutualTls {
    /// Absent: as UNSET.
    pub mode: Option<ModeSpec>,
}

/// `mtls.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ModeSpec {
    /// As the next wider scope says.
    Unset,
    /// Plaintext only.
    Disable,
    /// Both.
    Permissive,
    /// Mutual TLS only.
    Strict,
}

/// A port as a key of a map: text in JSON, and in YAML just as well a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey(pub String);

impl<'de> Deserialize<'de> for PortKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PortKey, D::Error> {
        struct TextOrNumber;
        impl Visitor<'_> for TextOrNumber {
            type Value = PortKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<PortKey, E> {
                Ok(PortKey(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<PortKey, E> {
                Ok(PortKey(number.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<PortKey, E> {
                Ok(PortKey(number.to_string()))
            }
        }
        deserializer.deserialize_any(TextOrNumber)
    }
}
