//! Istio's AuthorizationPolicy in the terms of Envoy's RBAC filters, as istiod writes it for a sidecar.
//!
//! Written from Istio's semantics alone and from nothing of the product's: what both were wrong about would be invisible.
//! Each rule becomes one RBAC policy: an OR of permissions (`to`) and an OR of principals (`from`), each an AND of
//! fields. On TCP a field that needs HTTP makes an ALLOW rule void and is left out of any other.

mod custom;
mod field;
mod matcher;
mod token;
mod trust;

use std::ops::ControlFlow;

use serde_json::{Map, Value, json};

pub(crate) use custom::{cluster, custom_filters};
use field::{Field, Side};
pub(crate) use token::token_filter;

use crate::policies::{Document, ROOT_NAMESPACE};

/// The filters' order, and what each does with a match.
const ACTIONS: [(&str, &str); 3] = [("AUDIT", "LOG"), ("DENY", "DENY"), ("ALLOW", "ALLOW")];

/// What a translation needs to know beside the policies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// The mesh's trust domain, then its aliases.
    pub(crate) trust_domains: &'a [&'a str],
    /// For a connection of bytes: the network filter.
    pub(crate) tcp: bool,
}

/// The configuration of the RBAC filters, in their order. Without `@type`: HTTP's and TCP's differ in nothing else.
pub(crate) fn filters(documents: &[Document], context: Context<'_>) -> Vec<Value> {
    let mut applicable: Vec<_> = documents.iter().filter(|document| document.applies()).collect();
    applicable.sort_by_key(|document| (document.namespace != ROOT_NAMESPACE, &document.namespace, &document.name));
    let of = |action| applicable.iter().copied().filter(move |document| document.action() == action);
    let filter = |(action, effect)| filter(of(action).collect(), effect, context);
    ACTIONS.into_iter().filter_map(filter).collect()
}

fn filter(documents: Vec<&Document>, effect: &str, context: Context<'_>) -> Option<Value> {
    let (shadow, enforced): (Vec<_>, Vec<_>) = documents.into_iter().partition(|document| document.dry_run);
    if shadow.is_empty() && enforced.is_empty() {
        return None;
    }
    let mut filter = Map::new();
    for (field, documents) in [("rules", enforced), ("shadow_rules", shadow)] {
        if !documents.is_empty() {
            filter
                .insert(field.to_owned(), json!({"action": effect, "policies": policies(&documents, effect, context)}));
        }
    }
    Some(filter.into())
}

fn policies(documents: &[&Document], effect: &str, context: Context<'_>) -> Map<String, Value> {
    let mut policies = Map::new();
    for document in documents {
        let name = |index| format!("ns[{}]-policy[{}]-rule[{index}]", document.namespace, document.name);
        if document.rules().is_empty() {
            // What says nothing matches nothing; it must be there all the same, to make refusal the default.
            let never =
                json!({"permissions": [{"not_rule": {"any": true}}], "principals": [{"not_id": {"any": true}}]});
            policies.insert(name(0), never);
        }
        for (index, rule) in document.rules().iter().enumerate() {
            let reader = Reader { namespace: &document.namespace, allow: effect == "ALLOW", context };
            if let ControlFlow::Continue(policy) = reader.rule(rule) {
                policies.insert(name(index), policy);
            }
        }
    }
    policies
}

/// `Break` for a rule that is void.
type Readable<T> = ControlFlow<(), T>;

struct Reader<'a> {
    namespace: &'a str,
    allow: bool,
    context: Context<'a>,
}

impl Reader<'_> {
    fn rule(&self, rule: &Value) -> Readable<Value> {
        let (mut permissions, mut principals) = (Vec::new(), Vec::new());
        let conditions = self.conditions(rule)?;
        let of = |side| conditions.iter().filter(move |(other, _)| *other == side).map(|(_, matcher)| matcher.clone());
        for source in entries(rule, "from", "source") {
            let mut all: Vec<_> = self.fields(source)?;
            all.extend(of(Side::Principal));
            principals.push(Side::Principal.and(&all));
        }
        for operation in entries(rule, "to", "operation") {
            let mut all: Vec<_> = self.fields(operation)?;
            all.extend(of(Side::Permission));
            permissions.push(Side::Permission.and(&all));
        }
        ControlFlow::Continue(json!({"permissions": permissions, "principals": principals}))
    }

    fn conditions(&self, rule: &Value) -> Readable<Vec<(Side, Value)>> {
        let mut conditions = Vec::new();
        for condition in rule["when"].as_array().into_iter().flatten() {
            let field = Field::of_key(condition["key"].as_str().unwrap());
            for (values, negated) in [(&condition["values"], false), (&condition["notValues"], true)] {
                let matcher = self.field(&field, values, negated)?;
                conditions.extend(matcher.map(|matcher| (field.side(), matcher)));
            }
        }
        ControlFlow::Continue(conditions)
    }

    /// The fields of one source or operation.
    fn fields(&self, written: &Value) -> Readable<Vec<Value>> {
        let mut all = Vec::new();
        for (name, values) in written.as_object().into_iter().flatten() {
            let (field, negated) = Field::of_name(name);
            all.extend(self.field(&field, values, negated)?);
        }
        ControlFlow::Continue(all)
    }

    /// One of the values; in a `not` form, none. `None` when there is nothing to test.
    fn field(&self, field: &Field, values: &Value, negated: bool) -> Readable<Option<Value>> {
        let values: Vec<_> = values.as_array().into_iter().flatten().map(|value| value.as_str().unwrap()).collect();
        if values.is_empty() {
            return ControlFlow::Continue(None);
        }
        if self.context.tcp && field.needs_http() {
            return if self.allow { ControlFlow::Break(()) } else { ControlFlow::Continue(None) };
        }
        let matchers =
            values.iter().flat_map(|value| field.matchers(value, self.namespace, self.context.trust_domains));
        let any = field.side().or(&matchers.collect::<Vec<_>>());
        ControlFlow::Continue(Some(if negated { field.side().not(&any) } else { any }))
    }
}

/// The entries of `from` or `to`; without any, one that has no limits.
fn entries<'a>(rule: &'a Value, list: &str, entry: &str) -> Vec<&'a Value> {
    match rule[list].as_array() {
        Some(entries) if !entries.is_empty() => entries.iter().map(|each| &each[entry]).collect(),
        _ => vec![&Value::Null],
    }
}
