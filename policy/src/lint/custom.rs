//! What is doubtful about CUSTOM policies and whom they ask.

use std::sync::Arc;

use super::Lint;
use crate::custom::Providers;
use crate::model::{Action, ObjectName, Policy, Settings, Workload};
use crate::select::Scope;

/// A CUSTOM policy names a provider that the bootstrap does not have: what its rules match is refused.
pub const UNKNOWN_PROVIDER: &str = "MG040";
/// Two CUSTOM policies of one workload name different providers: what their rules match is refused.
pub const TWO_PROVIDERS: &str = "MG041";
/// The provider of a CUSTOM policy lets requests pass when it cannot be asked.
pub const PROVIDER_FAILS_OPEN: &str = "MG042";
/// A CUSTOM policy with an HTTP provider selects a workload with a TCP port, where it asks nobody. Found by who knows
/// the services' ports.
pub const PROVIDER_WITHOUT_TCP: &str = "MG043";

/// MG040 to MG042.
pub(super) fn lints(policies: &[Arc<Policy>], workloads: &[(String, Workload)], settings: &Settings) -> Vec<Lint> {
    let custom: Vec<(&Policy, &str)> = policies
        .iter()
        .filter(|policy| policy.action == Action::Custom && policy.scope != Scope::Targets)
        .filter_map(|policy| Some((policy.as_ref(), policy.provider()?)))
        .collect();
    let mut lints = Vec::new();
    for (policy, provider) in &custom {
        let mut add = |code, message| lints.push(Lint { code, policy: policy.name.clone(), message });
        match (&settings.providers, settings.providers.find(provider)) {
            (Providers::Known(_), None) => {
                let message = format!(
                    "names the provider {provider:?}, which extensionProviders in the bootstrap does not have: every \
                     request that its rules match is refused"
                );
                add(UNKNOWN_PROVIDER, message);
            }
            (_, Some(found)) if found.fail_open => {
                let message = format!(
                    "the provider {provider:?} has failOpen: while it cannot be asked, every request passes as if it \
                     had said yes"
                );
                add(PROVIDER_FAILS_OPEN, message);
            }
            _ => {}
        }
        if let Some((other, theirs)) = rival(policy, provider, &custom, workloads, &settings.root_namespace) {
            let message = format!(
                "names the provider {provider:?} and {other} the provider {theirs:?} for the same workload: every \
                 request that the rules of either match is refused"
            );
            add(TWO_PROVIDERS, message);
        }
    }
    lints
}

/// The first policy for one of the same workloads that names another provider.
fn rival<'a>(
    policy: &Policy,
    provider: &str,
    custom: &[(&'a Policy, &'a str)],
    workloads: &[(String, Workload)],
    root: &str,
) -> Option<(&'a ObjectName, &'a str)> {
    let meets = |other: &Policy| {
        let in_reach = |name: &ObjectName, of: &ObjectName| name.namespace == root || name.namespace == of.namespace;
        let covered = (in_reach(&other.name, &policy.name) && other.scope.covers(&policy.scope))
            || (in_reach(&policy.name, &other.name) && policy.scope.covers(&other.scope));
        covered || workloads.iter().any(|(_, one)| policy.selects(one, root) && other.selects(one, root))
    };
    let found = custom.iter().find(|(other, theirs)| *theirs != provider && meets(other));
    found.map(|(other, theirs)| (&other.name, *theirs))
}
