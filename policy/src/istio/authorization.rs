//! AuthorizationPolicy.

use std::collections::BTreeMap;

use crate::istio::attribute::{Attribute, Place};
use crate::istio::report::Report;
use crate::istio::spec::{
    ActionSpec, AuthorizationPolicySpec, ConditionSpec, ExtensionProvider, FromSpec, OperationSpec, RuleSpec,
    SourceSpec, ToSpec, Values,
};
use crate::istio::{key, selector};
use crate::model::{Action, AnyCondition, Clause, Family, Invalid, ObjectName, Policy, Rule};

/// The annotation of a policy that is tried out: its verdicts are told and not enforced.
pub const DRY_RUN: &str = "istio.io/dry-run";
/// The limits of Istio's schema.
const RULES_MAX: usize = 512;
const FROM_MAX: usize = 512;

/// Gives an AuthorizationPolicy its meaning.
///
/// # Errors
///
/// Everything for which Istio's admission webhook rejects a policy.
pub fn authorization_policy(
    name: ObjectName,
    annotations: &BTreeMap<String, String>,
    spec: AuthorizationPolicySpec,
) -> Result<Policy, Vec<Invalid>> {
    let mut report = Report::default();
    let written = spec.action.unwrap_or_default();
    let action = match written {
        ActionSpec::Allow => Action::Allow,
        ActionSpec::Deny => Action::Deny,
        ActionSpec::Audit => Action::Audit,
        ActionSpec::Custom => Action::Custom,
    };
    let provider = provider(spec.provider.as_ref(), action, &mut report);
    let dry_run = dry_run(annotations, written, &mut report);
    let targets = (spec.target_ref.as_ref(), spec.target_refs.as_deref());
    let scope = selector::scope(spec.selector.as_ref(), targets.0, targets.1, &mut report);
    let written_rules = spec.rules.unwrap_or_default();
    if written_rules.is_empty() && written == ActionSpec::Deny {
        report.add("spec.rules", "a DENY policy without rules does nothing; a rule {} denies everything");
    }
    if written_rules.is_empty() && written == ActionSpec::Custom {
        report.add("spec.rules", "a CUSTOM policy without rules asks for nothing; a rule {} asks for every request");
    }
    if written_rules.len() > RULES_MAX {
        report.add("spec.rules", format!("at most {RULES_MAX} rules are allowed"));
    }
    let mut rules = Vec::with_capacity(written_rules.len());
    for (index, rule) in written_rules.into_iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        match rule {
            Some(rule) => {
                let reader = Reader { path, namespace: &name.namespace, action, report: &mut report };
                rules.push(reader.rule(rule));
            }
            None => report.add(path, "must not be null; a rule that matches everything is {}"),
        }
    }
    report.finish(())?;
    Ok(Policy {
        name,
        family: Family::Istio,
        action,
        dry_run,
        scope,
        rules,
        provider,
        clusters: Box::default(),
        unreadable: None,
    })
}

/// Whom a CUSTOM policy asks; no other asks anybody.
fn provider(written: Option<&ExtensionProvider>, action: Action, report: &mut Report) -> Option<Box<str>> {
    match (written, action) {
        (Some(provider), Action::Custom) if !provider.name.is_empty() => Some(provider.name.as_str().into()),
        (_, Action::Custom) => {
            report.add("spec.provider.name", "a CUSTOM policy needs the name of an extension provider");
            None
        }
        (Some(_), _) => {
            report.add("spec.provider", "only a CUSTOM policy has a provider");
            None
        }
        (None, _) => None,
    }
}

/// Reads the annotation as Go reads a boolean.
fn dry_run(annotations: &BTreeMap<String, String>, action: ActionSpec, report: &mut Report) -> bool {
    let Some(value) = annotations.get(DRY_RUN) else { return false };
    let path = format!("metadata.annotations[{DRY_RUN}]");
    if !matches!(action, ActionSpec::Allow | ActionSpec::Deny) {
        report.add(&path, "only ALLOW and DENY policies can be tried out");
    }
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        other => {
            report.add(path, format!("{other:?} is not a boolean; expected \"true\" or \"false\""));
            false
        }
    }
}

/// Reads one rule.
struct Reader<'a> {
    path: String,
    namespace: &'a str,
    action: Action,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn rule(mut self, rule: RuleSpec) -> Rule {
        self.check_list("from", rule.from.as_deref());
        self.check_list("to", rule.to.as_deref());
        if rule.from.as_ref().is_some_and(|from| from.len() > FROM_MAX) {
            self.add("from", format!("at most {FROM_MAX} sources are allowed"));
        }
        let from = rule.from.unwrap_or_default().into_iter().enumerate();
        let from = from.map(|(index, from)| self.source(index, from.and_then(|FromSpec { source }| source))).collect();
        let to = rule.to.unwrap_or_default().into_iter().enumerate();
        let to = to.map(|(index, to)| self.operation(index, to.and_then(|ToSpec { operation }| operation))).collect();
        let when = rule.when.unwrap_or_default().into_iter().enumerate();
        let when = when.flat_map(|(index, condition)| self.condition(index, condition)).collect();
        let mut rule = Rule { from, to, when };
        rule.shrink();
        rule
    }

    fn add(&mut self, field: &str, message: impl Into<String>) {
        self.report.add(format!("{}.{field}", self.path), message);
    }

    fn check_list<T>(&mut self, field: &str, list: Option<&[T]>) {
        if list.is_some_and(<[T]>::is_empty) {
            self.add(field, "must not be empty; leave it out for no limit");
        }
    }

    fn source(&mut self, index: usize, source: Option<SourceSpec>) -> Clause {
        let source = source.unwrap_or_default();
        // Istio's schema counts an empty list here.
        let given = |values: &Values| values.is_some();
        let wider = [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces];
        if [&source.service_accounts, &source.not_service_accounts].into_iter().any(given)
            && wider.into_iter().any(given)
        {
            let message = "serviceAccounts cannot be combined with principals or namespaces";
            self.add(&format!("from[{index}].source"), message);
        }
        let fields = [
            ("principals", source.principals, Attribute::Principal, false),
            ("notPrincipals", source.not_principals, Attribute::Principal, true),
            ("requestPrincipals", source.request_principals, Attribute::RequestPrincipal, false),
            ("notRequestPrincipals", source.not_request_principals, Attribute::RequestPrincipal, true),
            ("namespaces", source.namespaces, Attribute::Namespace, false),
            ("notNamespaces", source.not_namespaces, Attribute::Namespace, true),
            ("serviceAccounts", source.service_accounts, Attribute::ServiceAccount, false),
            ("notServiceAccounts", source.not_service_accounts, Attribute::ServiceAccount, true),
            ("trustDomains", source.trust_domains, Attribute::TrustDomain, false),
            ("notTrustDomains", source.not_trust_domains, Attribute::TrustDomain, true),
            ("ipBlocks", source.ip_blocks, Attribute::SourceIp, false),
            ("notIpBlocks", source.not_ip_blocks, Attribute::SourceIp, true),
            ("remoteIpBlocks", source.remote_ip_blocks, Attribute::RemoteIp, false),
            ("notRemoteIpBlocks", source.not_remote_ip_blocks, Attribute::RemoteIp, true),
        ];
        self.clause(&format!("from[{index}].source"), fields)
    }

    fn operation(&mut self, index: usize, operation: Option<OperationSpec>) -> Clause {
        let operation = operation.unwrap_or_default();
        let fields = [
            ("hosts", operation.hosts, Attribute::Host, false),
            ("notHosts", operation.not_hosts, Attribute::Host, true),
            ("ports", operation.ports, Attribute::DestinationPort, false),
            ("notPorts", operation.not_ports, Attribute::DestinationPort, true),
            ("methods", operation.methods, Attribute::Method, false),
            ("notMethods", operation.not_methods, Attribute::Method, true),
            ("paths", operation.paths, Attribute::Path, false),
            ("notPaths", operation.not_paths, Attribute::Path, true),
        ];
        self.clause(&format!("to[{index}].operation"), fields)
    }

    fn clause(
        &mut self,
        field: &str,
        fields: impl IntoIterator<Item = (&'static str, Values, Attribute, bool)>,
    ) -> Clause {
        let clause: Clause = fields
            .into_iter()
            .filter_map(|(name, values, attribute, negated)| {
                self.values(&format!("{field}.{name}"), values, &attribute, negated)
            })
            .collect();
        if clause.is_empty() {
            self.add(field, "must have at least one field with a value; leave it out for no limit");
        }
        clause
    }

    fn condition(&mut self, index: usize, condition: Option<ConditionSpec>) -> Clause {
        let field = format!("when[{index}]");
        let Some(condition) = condition else {
            self.add(&field, "must not be null");
            return Clause::new();
        };
        let attribute = match key::attribute(&condition.key) {
            Ok(attribute) => attribute,
            Err(message) => {
                self.add(&format!("{field}.key"), message);
                return Clause::new();
            }
        };
        let values = self.values(&format!("{field}.values"), condition.values, &attribute, false);
        let not_values = self.values(&format!("{field}.notValues"), condition.not_values, &attribute, true);
        if values.is_none() && not_values.is_none() {
            self.add(&field, "must have values or notValues");
        }
        values.into_iter().chain(not_values).collect()
    }

    /// One list of values; `None` when it is absent or empty, which is no limit.
    fn values(&mut self, field: &str, values: Values, attribute: &Attribute, negated: bool) -> Option<AnyCondition> {
        let values = values.filter(|values| !values.is_empty())?;
        if self.action == Action::Custom && !attribute.may_ask_provider() {
            let message = "a CUSTOM rule cannot look at it: providers are asked about addresses, ports, server names, \
                           hosts, methods, paths and headers only";
            self.add(field, message);
        }
        let place = Place { rule: &self.path, field, namespace: self.namespace, action: self.action, negated };
        Some(attribute.condition(values, place, self.report))
    }
}
