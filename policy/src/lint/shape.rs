//! Policies and rules whose shape does something else than it seems to.

use super::{
    ALLOW_BY_ABSENCE, DENY_OF_ALL_TCP, EMPTY_SELECTOR, Findings, HTTP_ON_TCP_PORT, Known, KnownWorkload, SELECTS_NOBODY,
};
use crate::condition::ConnectionTest;
use crate::model::{Action, AnyCondition, Clause, Policy, Rule, Settings};
use crate::select::{self, Scope};

pub(super) fn look(findings: &mut Findings<'_>, known: &Known, settings: &Settings) {
    let policy = findings.policy;
    if matches!(&policy.scope, Scope::Workloads(Some(labels)) if labels.is_empty()) {
        let message = "a selector without labels selects every workload; leave it out if that is meant";
        findings.add(EMPTY_SELECTOR, message.to_owned());
    }
    selects_nobody(findings, known, &settings.root_namespace);
    for (index, rule) in policy.rules.iter().enumerate() {
        if policy.action == Action::Deny && denies_all_tcp(rule) {
            let message = format!(
                "rules[{index}] denies every TCP connection: fields that need HTTP are left out there, and it has no \
                 other. Add `ports` to keep it to HTTP ports"
            );
            findings.add(DENY_OF_ALL_TCP, message);
        }
        if policy.action == Action::Allow && lets_in_nobody_in_particular(rule) {
            let message = format!(
                "rules[{index}] says only who the caller is not: who shows no certificate has no identity, and is let \
                 in. Add `principals: [\"*\"]` to ask for one"
            );
            findings.add(ALLOW_BY_ABSENCE, message);
        }
        http_on_tcp_port(findings, index, rule, known, &settings.root_namespace);
    }
}

fn selects_nobody(findings: &mut Findings<'_>, known: &Known, root: &str) {
    let policy = findings.policy;
    let in_reach =
        known.workloads.iter().filter(|one| select::reaches(&policy.name, &one.workload.namespace, root)).count();
    if in_reach > 0 && selected(policy, known, root).next().is_none() {
        findings.add(SELECTS_NOBODY, format!("selects none of the {in_reach} workload(s) known in its reach"));
    }
}

fn selected<'a>(policy: &'a Policy, known: &'a Known, root: &'a str) -> impl Iterator<Item = &'a KnownWorkload> {
    known.workloads.iter().filter(move |one| policy.selects(&one.workload, root))
}

/// Whether a rule that has conditions has none left where there is no HTTP.
fn denies_all_tcp(rule: &Rule) -> bool {
    rule.needs_http()
        && rule.groups().all(|group| group.iter().any(|clause| clause.iter().all(AnyCondition::http_only)))
}

/// Whether a caller without an identity passes a rule that does speak of identities.
fn lets_in_nobody_in_particular(rule: &Rule) -> bool {
    let asks =
        |clause: &Clause, negated: bool| clause.iter().any(|condition| about_identity(condition) == Some(negated));
    let none = Clause::new();
    let sources = if rule.from.is_empty() { std::slice::from_ref(&none) } else { rule.from.as_slice() };
    !asks(&rule.when, false)
        && sources.iter().any(|source| !asks(source, false) && (asks(source, true) || asks(&rule.when, true)))
}

/// Whether a condition about who the caller is is a `not` form; `None` when it is about something else. A token is an
/// identity too.
fn about_identity(condition: &AnyCondition) -> Option<bool> {
    match condition {
        AnyCondition::Connection(condition) => match condition.test {
            ConnectionTest::Principals(_)
            | ConnectionTest::Namespaces(_)
            | ConnectionTest::ServiceAccounts(_)
            | ConnectionTest::TrustDomains(_) => Some(condition.negated),
            _ => None,
        },
        AnyCondition::Request(condition) => {
            let asks_for_token = !condition.negated && condition.test.is_token();
            asks_for_token.then_some(false)
        }
    }
}

fn http_on_tcp_port(findings: &mut Findings<'_>, index: usize, rule: &Rule, known: &Known, root: &str) {
    let policy = findings.policy;
    let ports: Vec<u16> = rule.conditions().filter_map(ports_of).flatten().copied().collect();
    let unlimited = rule.to.iter().any(|clause| !clause.iter().any(|condition| ports_of(condition).is_some()))
        && !rule.when.iter().any(|condition| ports_of(condition).is_some());
    if ports.is_empty() || unlimited || !rule.needs_http() {
        return;
    }
    let mut workloads = selected(policy, known, root).peekable();
    if workloads.peek().is_some() && workloads.all(|one| ports.iter().all(|port| one.tcp_ports.contains(port))) {
        let effect = match policy.action {
            Action::Allow => "allows nothing there",
            Action::Deny | Action::Audit | Action::Custom => "is wider there than written: those fields are left out",
        };
        let message = format!(
            "rules[{index}] has fields that need HTTP for ports that services declare to be TCP ({}), and {effect}",
            ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
        );
        findings.add(HTTP_ON_TCP_PORT, message);
    }
}

/// The ports a condition asks for.
fn ports_of(condition: &AnyCondition) -> Option<&[u16]> {
    match condition {
        AnyCondition::Connection(condition) if !condition.negated => match &condition.test {
            ConnectionTest::DestinationPort(ports) => Some(ports),
            _ => None,
        },
        _ => None,
    }
}
