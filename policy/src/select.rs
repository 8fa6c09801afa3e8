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
    /// The workloads of its namespace that are one of these gateways, by `targetRef`.
    Gateways(Box<[Box<str>]>),
    /// Services and waypoints, by `targetRef`: nothing that is here, so that the policy is ignored.
    Targets,
}

/// What a workload is labelled with that is a Gateway: its name.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

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
            (Scope::Gateways(own), Scope::Gateways(other)) => other.iter().all(|name| own.contains(name)),
            (Scope::Workloads(own), Scope::ServiceAccount(_) | Scope::Gateways(_)) => {
                own.as_ref().is_none_or(Labels::is_empty)
            }
            (Scope::ServiceAccount(_) | Scope::Gateways(_) | Scope::Targets, _) => false,
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
        // Nor to targets.
        Scope::Gateways(names) => {
            name.namespace == workload.namespace
                && workload.labels.get(GATEWAY_NAME).is_some_and(|found| names.iter().any(|name| **name == **found))
        }
        Scope::Targets => false,
    }
}

impl Scope {
    /// Whether workloads with these labels can be among those that `gateways` names.
    pub(crate) fn may_be_gateway(gateways: &[Box<str>], labels: &Labels) -> bool {
        labels.iter().all(|(key, value)| key != GATEWAY_NAME || gateways.iter().any(|name| **name == *value))
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
            labels: labels(&[("app", "backend"), ("version", "v1"), (GATEWAY_NAME, "edge")]),
        };
        let gateways = |names: &[&str]| Scope::Gateways(names.iter().copied().map(Box::from).collect());
        let with = |pairs: &[(&str, &str)]| Scope::Workloads(Some(labels(pairs).into()));
        for (namespace, scope, expected) in [
            ("default", Scope::Workloads(None), true),
            ("default", with(&[]), true),
            ("default", with(&[("app", "backend")]), true),
            ("default", with(&[("app", "backend"), ("version", "v1")]), true),
            ("default", with(&[("app", "backend"), ("tier", "x")]), false),
            ("default", with(&[("app", "Backend")]), false),
            ("default", Scope::Targets, false),
            ("default", gateways(&["edge"]), true),
            ("default", gateways(&["other", "edge"]), true),
            ("default", gateways(&["other"]), false),
            ("default", gateways(&["edg"]), false),
            ("istio-system", gateways(&["edge"]), false),
            ("other", gateways(&["edge"]), false),
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
        let gateways = |names: &[&str]| Scope::Gateways(names.iter().copied().map(Box::from).collect());
        assert!(gateways(&["a", "b"]).covers(&gateways(&["b"])));
        assert!(!gateways(&["b"]).covers(&gateways(&["a", "b"])));
        assert!(Scope::Workloads(None).covers(&gateways(&["a"])));
        assert!(!with(&[("a", "1")]).covers(&gateways(&["a"])));
        assert!(!gateways(&["a"]).covers(&Scope::Workloads(None)));
    }
}
