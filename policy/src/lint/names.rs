//! Names of nobody: trust domains, namespaces and service accounts that do not exist.

use meshgate_identity::TrustDomain;

use super::{Findings, Known, UNKNOWN_NAME, UNKNOWN_TRUST_DOMAIN};
use crate::condition::ConnectionTest;
use crate::matchers::{Glob, StringMatch};
use crate::model::{AnyCondition, Settings};

/// In a full principal always the mesh's own domain.
const LOCAL: &str = "cluster.local";

pub(super) fn look(findings: &mut Findings<'_>, known: &Known, settings: &Settings) {
    let own: Vec<_> =
        [&settings.trust_domain].into_iter().chain(&settings.trust_domain_aliases).map(TrustDomain::as_str).collect();
    let names = Names { own, known };
    for (index, rule) in findings.policy.rules.iter().enumerate() {
        for condition in rule.conditions() {
            let AnyCondition::Connection(condition) = condition else { continue };
            let mut add = |code, value: &str, what: &str| {
                findings.add(code, format!("rules[{index}].{}: {value}: {what}", condition.field));
            };
            match &condition.test {
                ConnectionTest::Principals(_) => {
                    for value in condition.values.iter().filter(|value| !value.starts_with("spiffe://")) {
                        if !names.domain_known(value) {
                            add(UNKNOWN_TRUST_DOMAIN, value, UNPROVEN);
                        } else if let Some(what) = names.missing_principal(value) {
                            add(UNKNOWN_NAME, value, &what);
                        }
                    }
                }
                ConnectionTest::TrustDomains(values) => {
                    let written = condition.values.iter().zip(values);
                    let unknown =
                        written.filter(|(_, value)| !names.some_domain(|name| value.matches(name.as_bytes())));
                    unknown.for_each(|(value, _)| add(UNKNOWN_TRUST_DOMAIN, value, UNPROVEN));
                }
                ConnectionTest::Namespaces(values) => {
                    for value in values {
                        if let Glob::Exact(namespace) = value
                            && !known.may_have_namespace(namespace)
                        {
                            add(UNKNOWN_NAME, namespace, &no_namespace(namespace));
                        }
                    }
                }
                ConnectionTest::ServiceAccounts(values) => {
                    for account in values {
                        if let Some(what) = names.missing(&account.namespace, &account.name) {
                            add(UNKNOWN_NAME, &format!("{}/{}", account.namespace, account.name), &what);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

const UNPROVEN: &str =
    "the trust domain is neither the mesh's own, nor an alias, nor federated: nobody can prove to be in it";

fn no_namespace(namespace: &str) -> String {
    format!("there is no namespace {namespace}")
}

struct Names<'a> {
    /// The mesh's own domain and its aliases.
    own: Vec<&'a str>,
    known: &'a Known,
}

impl Names<'_> {
    /// Whether one of the trust domains that can be proved is such a one; so it is where they are not all known.
    fn some_domain(&self, matches: impl Fn(&str) -> bool) -> bool {
        let Some(federated) = &self.known.federated else { return true };
        self.own.iter().copied().chain(federated.iter().map(TrustDomain::as_str)).any(matches)
    }

    fn domain_known(&self, principal: &str) -> bool {
        let Some((domain, rest)) = principal.split_once('/') else {
            // `*`, `td*`: the star may reach beyond the domain.
            let start = principal.strip_suffix('*').unwrap_or(principal);
            return principal.starts_with('*') || self.some_domain(|name| name.starts_with(start));
        };
        let is_local = domain == LOCAL && rest.split('/').count() == 4;
        is_local || self.some_domain(|name| StringMatch::parse(domain, StringMatch::Any).matches(name.as_bytes()))
    }

    /// What is missing of a full principal of the mesh's own domain.
    fn missing_principal(&self, principal: &str) -> Option<String> {
        let parts: Vec<_> = principal.split('/').collect();
        match parts.as_slice() {
            [domain, "ns", namespace, "sa", account] if *domain == LOCAL || self.own.contains(domain) => {
                if namespace.contains('*') {
                    None
                } else if account.contains('*') {
                    (!self.known.may_have_namespace(namespace)).then(|| no_namespace(namespace))
                } else {
                    self.missing(namespace, account)
                }
            }
            _ => None,
        }
    }

    fn missing(&self, namespace: &str, account: &str) -> Option<String> {
        if !self.known.may_have_namespace(namespace) {
            Some(no_namespace(namespace))
        } else if !self.known.may_have_account(namespace, account) {
            Some(format!("there is no service account {account} in namespace {namespace}"))
        } else {
            None
        }
    }
}
