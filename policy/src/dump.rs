//! Objects as they were read, for whoever wants to see what is in force: what they select, and their rules condition by condition.
//!
//! Nothing is decided by it. Of keys only where they come from is said; the values of conditions are said as they were written.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::condition::Condition;
use crate::jwt::{KeyLocation, KeySource, RequestAuthentication};
use crate::model::{AnyCondition, Clause, Policy, Rule};
use crate::peer_authentication::{MtlsMode, PeerAuthentication};
use crate::select::{Labels, Scope};

/// What an object is for, within its namespace; or, in the root namespace, within the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Selects {
    /// Workloads with all of these labels; all of them without any.
    Workloads(BTreeMap<String, String>),
    /// The workloads of this service account.
    ServiceAccount(String),
    /// Gateways of these names.
    Gateways(Vec<String>),
    /// Services and waypoints, of which there are none here.
    Nothing,
}

/// What a policy says besides its name and action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyBody {
    /// What it is for.
    pub selects: Selects,
    /// The clusters it is for; empty = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// One match is enough.
    pub rules: Vec<RuleBody>,
}

/// A rule: one of `from`, one of `to` and all of `when` must hold; an empty part is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleBody {
    /// Alternatives, each a list of conditions that must all hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Vec<ConditionBody>>,
    /// As `from`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Vec<ConditionBody>>,
    /// Conditions that must all hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<ConditionBody>,
}

/// One condition: one of its values must match, or with `not` none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConditionBody {
    /// Where it stands: `to[0].operation.methods`.
    pub field: String,
    /// Whether it is a `not` form.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not: bool,
    /// As written.
    pub values: Vec<String>,
}

/// What a PeerAuthentication says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerAuthenticationBody {
    /// `namespace/name`
    pub name: String,
    /// The labels of workloads it is for; empty = its whole namespace, or the mesh.
    pub labels: BTreeMap<String, String>,
    /// `null` where the next wider scope decides.
    pub mode: Option<&'static str>,
    /// Of single ports.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<u16, Option<&'static str>>,
}

/// What a RequestAuthentication says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestAuthenticationBody {
    /// `namespace/name`
    pub name: String,
    /// What it is for.
    pub selects: Selects,
    /// Whose tokens are taken.
    pub rules: Vec<JwtRuleBody>,
}

/// Whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JwtRuleBody {
    /// Empty for anybody's.
    pub issuer: String,
    /// One of these must be in the token; empty for any.
    pub audiences: Vec<String>,
    /// Where the keys come from: `inline`, a URL, or the issuer that is asked for one.
    pub keys: String,
    /// Whether the token is passed on.
    pub forward: bool,
}

impl Policy {
    /// What it says besides its name and action.
    pub fn body(&self) -> PolicyBody {
        PolicyBody {
            selects: Selects::of(&self.scope),
            clusters: self.clusters.iter().map(ToString::to_string).collect(),
            rules: self.rules.iter().map(RuleBody::of).collect(),
        }
    }
}

impl PeerAuthentication {
    /// What it says.
    pub fn body(&self) -> PeerAuthenticationBody {
        PeerAuthenticationBody {
            name: self.name().to_string(),
            labels: map(&self.labels),
            mode: self.mode.map(MtlsMode::as_str),
            ports: self.ports.iter().map(|(port, mode)| (*port, mode.map(MtlsMode::as_str))).collect(),
        }
    }
}

impl RequestAuthentication {
    /// What it says.
    pub fn body(&self) -> RequestAuthenticationBody {
        let rules = self.rules.iter().map(|rule| JwtRuleBody {
            issuer: rule.issuer.to_string(),
            audiences: rule.audiences.iter().map(ToString::to_string).collect(),
            keys: match &rule.keys {
                KeySource::Inline(_) => "inline".to_owned(),
                KeySource::Remote { location: KeyLocation::Uri(uri), .. } => uri.clone(),
                KeySource::Remote { location: KeyLocation::Issuer(issuer), .. } => format!("issuer {issuer}"),
            },
            forward: rule.forward,
        });
        RequestAuthenticationBody {
            name: self.name().to_string(),
            selects: Selects::of(&self.scope),
            rules: rules.collect(),
        }
    }
}

impl Selects {
    fn of(scope: &Scope) -> Selects {
        match scope {
            Scope::Workloads(labels) => Selects::Workloads(labels.as_ref().map(map).unwrap_or_default()),
            Scope::ServiceAccount(name) => Selects::ServiceAccount(name.to_string()),
            Scope::Gateways(names) => Selects::Gateways(names.iter().map(ToString::to_string).collect()),
            Scope::Targets => Selects::Nothing,
        }
    }
}

impl RuleBody {
    fn of(rule: &Rule) -> RuleBody {
        let all = |clauses: &[Clause]| clauses.iter().map(|clause| conditions(clause)).collect();
        RuleBody { from: all(&rule.from), to: all(&rule.to), when: conditions(&rule.when) }
    }
}

fn conditions(clause: &[AnyCondition]) -> Vec<ConditionBody> {
    let one = |condition: &AnyCondition| match condition {
        AnyCondition::Connection(condition) => ConditionBody::of(condition),
        AnyCondition::Request(condition) => ConditionBody::of(condition),
    };
    clause.iter().map(one).collect()
}

impl ConditionBody {
    fn of<T>(condition: &Condition<T>) -> ConditionBody {
        ConditionBody {
            field: condition.field.to_string(),
            not: condition.negated,
            values: condition.values.iter().map(str::to_owned).collect(),
        }
    }
}

fn map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::tests::policy;

    #[test]
    fn every_condition_of_a_policy_is_told_as_it_was_written() {
        let spec = json!({
            "selector": {"matchLabels": {"app": "backend"}},
            "action": "DENY",
            "rules": [
                {
                    "from": [{"source": {"principals": ["cluster.local/ns/a/sa/b", "*"], "notNamespaces": ["c"]}}],
                    "to": [{"operation": {"paths": ["/x*"]}}, {"operation": {"methods": ["PUT"]}}],
                    "when": [{"key": "source.ip", "values": ["10.0.0.0/8"]}],
                },
                {},
            ],
        });
        let told = serde_json::to_value(policy("default/p", spec).body()).unwrap();
        let expected = json!({
            "selects": {"workloads": {"app": "backend"}},
            "rules": [
                {
                    "from": [[
                        {"field": "from[0].source.principals", "values": ["cluster.local/ns/a/sa/b", "*"]},
                        {"field": "from[0].source.notNamespaces", "not": true, "values": ["c"]},
                    ]],
                    "to": [
                        [{"field": "to[0].operation.paths", "values": ["/x*"]}],
                        [{"field": "to[1].operation.methods", "values": ["PUT"]}],
                    ],
                    "when": [{"field": "when[0].values", "values": ["10.0.0.0/8"]}],
                },
                {},
            ],
        });
        assert_eq!(told, expected, "{told:#}");
    }
}
