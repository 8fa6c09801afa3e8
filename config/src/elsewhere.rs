//! What this cluster's TrafficTargets say of calls to other clusters, where what is called may be let alone by its own.
//!
//! The one idea: a TrafficTarget speaks of a service account, wherever it runs. The far side decides about what reaches it; this
//! is what its caller's cluster says besides, and holds however permissive that one is.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshgate_identity::SpiffeId;
use meshgate_policy::smi::Reach;
use meshgate_policy::{Family, Policy, PolicySet, Settings, SmiMode, Workload};

use crate::clusters::ClusterKey;

/// What is to be asked before anything is sent to another cluster. The default, as in permissive mode, is nothing.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere(Option<Rules>);

#[derive(Clone, Debug)]
struct Rules {
    /// All TrafficTargets, also those that are about certain clusters only.
    targets: Vec<Arc<Policy>>,
    settings: Settings,
    reach: Reach,
}

impl Elsewhere {
    pub(crate) fn new(policies: &[Arc<Policy>], settings: &Settings, reach: &Reach) -> Self {
        let targets = || policies.iter().filter(|policy| policy.family() == Family::Smi).cloned().collect();
        let rules = || Rules { targets: targets(), settings: settings.clone(), reach: reach.clone() };
        Self((settings.smi == SmiMode::TrafficPolicy).then(rules))
    }

    /// A workload of this cluster as TrafficTargets know it; `None` where they are not in force, or it can have no identity.
    pub fn caller(&self, own: &Workload) -> Option<SpiffeId> {
        let trust_domain = &self.0.as_ref()?.settings.trust_domain;
        SpiffeId::from_service_account(trust_domain, &own.namespace, &own.service_account).ok()
    }

    /// What has to let in whatever is sent to a service account in another cluster: all of it, and nothing where it is empty.
    ///
    /// Without an account it is any of the namespace, and nobody here can tell which. Then each that this workload may call there
    /// at all has to let it in; and where there is none, nothing is let in.
    pub fn policies(&self, namespace: &str, account: Option<&str>, cluster: &ClusterKey) -> Vec<PolicySet> {
        let Some(Rules { targets, settings, reach }) = &self.0 else { return Vec::new() };
        let targets: Vec<_> = targets.iter().filter(|one| one.applies_in(cluster.as_str())).map(Arc::clone).collect();
        let of = |account: &str| {
            let (namespace, service_account) = (namespace.to_owned(), account.to_owned());
            let workload = Workload { namespace, service_account, labels: BTreeMap::new() };
            PolicySet::compile(&targets, &workload, settings)
        };
        if let Some(account) = account {
            return vec![of(account)];
        }
        let all: Vec<_> = reach.accounts(namespace, cluster.as_str()).map(of).collect();
        // No account has an empty name.
        if all.is_empty() { vec![of("")] } else { all }
    }
}
