//! Which policies apply to a workload.
//!
//! A policy reaches the workloads of its own namespace, or all of them from the root namespace, narrowed by labels.
//! Wider and narrower policies add up: for authorization no scope overrides another.

use std::collections::BTreeMap;

use crate::model::{ObjectName, Policy, Workload};

/// Labels that must all be there, ascending. A map would take ten times the room, and there are thousands of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    fn has(&self, wanted: (&str, &str)) -> bool {
        self.iter().any(|label| label == wanted)
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Labels {
        Labels(labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// What a policy is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Workloads with these labels; all of them when there are none. `None` when no selector was written.
    Workloads(Option<Labels>),
    /// The workloads of its namespace that run as this service account.
    ServiceAccount(Box<str>),
    /// Gateways or services, by `targetRef`: not the business of a sidecar, which ignores the policy.
    Targets,
}

impl Scope {
    /// Whether every workload that `other` selects, whatever its labels, is selected here too.
    pub(crate) fn covers(&self, other: &Scope) -> bool {
        match (self, other) {
            (Scope::Workloads(own), Scope::Workloads(other)) => {
                let Some(own) = own else { return true };
                own.iter().all(|label| other.as_ref().is_some_and(|other| other.has(label)))
            }
            (_, Scope::Targets) => true,
            (Scope::ServiceAccount(own), Scope::ServiceAccount(other)) => own == other,
            (Scope::Workloads(own), Scope::ServiceAccount(_)) => own.as_ref().is_none_or(Labels::is_empty),
            (Scope::ServiceAccount(_) | Scope::Targets, _) => false,
        }
    }
}

impl Policy {
    /// Whether it applies to the workload.
    pub fn selects(&self, workload: &Workload, root_namespace: &str) -> bool {
        selects(&self.name, &self.scope, workload, root_namespace)
    }
}

/// Whether an object of this name and scope applies to the workload.
pub(crate) fn selects(name: &ObjectName, scope: &Scope, workload: &Workload, root_namespace: &str) -> bool {
    match scope {
        Scope::Workloads(selector) => {
            reaches(name, &workload.namespace, root_namespace)
                && selector.as_ref().is_none_or(|labels| labels_match(labels, workload))
        }
        // The root namespace is nothing special to SMI.
        Scope::ServiceAccount(account) => {
            name.namespace == workload.namespace && **account == *workload.service_account
        }
        Scope::Targets => false,
    }
}

/// Whether an object of this name can concern the namespace at all.
pub(crate) fn reaches(name: &ObjectName, namespace: &str, root_namespace: &str) -> bool {
    name.namespace == namespace || name.namespace == root_namespace
}

/// Whether the workload has every one of the labels.
pub(crate) fn labels_match(labels: &Labels, workload: &Workload) -> bool {
    labels.iter().all(|(key, value)| workload.labels.get(key).is_some_and(|found| found == value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn policy(namespace: &str, scope: Scope) -> Policy {
        let name = ObjectName { namespace: namespace.into(), name: "p".into() };
        Policy { scope, ..Policy::unreadable(name, None, "") }
    }

    #[test]
    fn selects_by_namespace_and_labels() {
        let workload = Workload {
            namespace: "default".into(),
            service_account: "backend".into(),
            labels: labels(&[("app", "backend"), ("version", "v1")]),
        };
        let with = |pairs: &[(&str, &str)]| Scope::Workloads(Some(labels(pairs).into()));
        for (namespace, scope, expected) in [
            ("default", Scope::Workloads(None), true),
            ("default", with(&[]), true),
            ("default", with(&[("app", "backend")]), true),
            ("default", with(&[("app", "backend"), ("version", "v1")]), true),
            ("default", with(&[("app", "backend"), ("tier", "x")]), false),
            ("default", with(&[("app", "Backend")]), false),
            ("default", Scope::Targets, false),
            ("istio-system", Scope::Workloads(None), true),
            ("istio-system", with(&[("app", "backend")]), true),
            ("istio-system", with(&[("app", "frontend")]), false),
            ("other", Scope::Workloads(None), false),
            ("default", Scope::ServiceAccount("backend".into()), true),
            ("default", Scope::ServiceAccount("other".into()), false),
            ("istio-system", Scope::ServiceAccount("backend".into()), false),
        ] {
            let found = policy(namespace, scope.clone()).selects(&workload, "istio-system");
            assert_eq!(found, expected, "{namespace} {scope:?}");
        }
    }

    #[test]
    fn fewer_labels_cover_more() {
        let with = |pairs: &[(&str, &str)]| Scope::Workloads(Some(labels(pairs).into()));
        assert!(Scope::Workloads(None).covers(&with(&[("a", "1")])));
        assert!(with(&[("a", "1")]).covers(&with(&[("a", "1"), ("b", "2")])));
        assert!(with(&[]).covers(&Scope::Workloads(None)));
        assert!(!with(&[("a", "1")]).covers(&Scope::Workloads(None)));
        assert!(!with(&[("a", "1")]).covers(&with(&[("a", "2")])));
    }
}
