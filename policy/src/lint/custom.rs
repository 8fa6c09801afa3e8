//! What is doubtful about CUSTOM policies and whom they ask.

use std::sync::Arc;

use super::{About, Lint, PROVIDER_FAILS_OPEN, PROVIDER_WITHOUT_TCP, TWO_PROVIDERS, UNKNOWN_PROVIDER};
use crate::custom::{ProviderKind, Providers};
use crate::lint::KnownWorkload;
use crate::model::{Action, ObjectName, Policy, Settings};
use crate::select::Scope;

/// MG040 to MG043.
pub(super) fn lints(policies: &[Arc<Policy>], workloads: &[KnownWorkload], settings: &Settings) -> Vec<Lint> {
    let custom: Vec<(&Policy, &str)> = policies
        .iter()
        .filter(|policy| policy.action == Action::Custom && policy.scope != Scope::Targets)
        .filter_map(|policy| Some((policy.as_ref(), policy.provider()?)))
        .collect();
    let mut lints = Vec::new();
    for (policy, provider) in &custom {
        let mut add = |code, message| {
            lints.push(Lint { code, about: About::AuthorizationPolicy, policy: policy.name.clone(), message });
        };
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
        if settings.providers.find(provider).is_some_and(|found| found.kind == ProviderKind::Http) {
            let selected = workloads.iter().filter(|one| policy.selects(&one.workload, &settings.root_namespace));
            if let Some((name, port)) = selected.filter_map(|one| Some((&one.name, one.tcp_ports.first()?))).next() {
                let message = format!(
                    "the provider {provider:?} speaks HTTP and is not asked about TCP: connections to port {port} of \
                     {name} pass as if there were no such policy. Use a gRPC provider, or deny them"
                );
                add(PROVIDER_WITHOUT_TCP, message);
            }
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
    workloads: &[KnownWorkload],
    root: &str,
) -> Option<(&'a ObjectName, &'a str)> {
    let meets = |other: &Policy| {
        let in_reach = |name: &ObjectName, of: &ObjectName| name.namespace == root || name.namespace == of.namespace;
        let covered = (in_reach(&other.name, &policy.name) && other.scope.covers(&policy.scope))
            || (in_reach(&policy.name, &other.name) && policy.scope.covers(&other.scope));
        covered || workloads.iter().any(|one| policy.selects(&one.workload, root) && other.selects(&one.workload, root))
    };
    let found = custom.iter().find(|(other, theirs)| *theirs != provider && meets(other));
    found.map(|(other, theirs)| (&other.name, *theirs))
}
