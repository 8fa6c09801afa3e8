//! What lints know of the mesh beside its policies.

use std::collections::BTreeSet;

use meshgate_identity::TrustDomain;

use crate::model::{ObjectName, Workload};

/// What is known; the default is nothing, and then nothing is said that would need it.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Workloads that policies may select.
    pub workloads: Vec<KnownWorkload>,
    /// Trust domains, beside the mesh's own, whose callers can prove who they are. `None` when that is not known.
    pub federated: Option<Vec<TrustDomain>>,
    /// Service accounts there are objects of.
    pub service_accounts: BTreeSet<ObjectName>,
    /// Namespaces there are objects of.
    pub namespaces: BTreeSet<String>,
    /// How many proxies in front of the mesh are trusted to report addresses. `None` when that is not known.
    pub num_trusted_proxies: Option<u32>,
}

/// A workload that policies may select.
#[derive(Clone, Debug, Default)]
pub struct KnownWorkload {
    /// For people.
    pub name: String,
    /// What selection looks at.
    pub workload: Workload,
    /// Its ports that services declare to be TCP.
    pub tcp_ports: BTreeSet<u16>,
}

impl From<(String, Workload)> for KnownWorkload {
    fn from((name, workload): (String, Workload)) -> KnownWorkload {
        KnownWorkload { name, workload, tcp_ports: BTreeSet::new() }
    }
}

impl Known {
    /// Whether there is such a service account, as far as one can tell. Every namespace has the account `default`.
    pub(super) fn may_have_account(&self, namespace: &str, name: &str) -> bool {
        let runs =
            |known: &KnownWorkload| known.workload.namespace == namespace && known.workload.service_account == name;
        let wanted = ObjectName { namespace: namespace.to_owned(), name: name.to_owned() };
        self.service_accounts.is_empty()
            || name == "default"
            || self.service_accounts.contains(&wanted)
            || self.workloads.iter().any(runs)
    }

    /// Whether there is such a namespace, as far as one can tell.
    pub(super) fn may_have_namespace(&self, namespace: &str) -> bool {
        self.namespaces.is_empty()
            || self.namespaces.contains(namespace)
            || self.service_accounts.iter().any(|account| account.namespace == namespace)
            || self.workloads.iter().any(|known| known.workload.namespace == namespace)
    }
}
