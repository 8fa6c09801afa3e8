//! ALLOW policies that can never let anything in.

use std::sync::Arc;

use super::{About, DEAD_ALLOW, KnownWorkload, Lint};
use crate::model::{Action, CatchAllDeny, Policy, Settings};
use crate::select::Scope;

/// ALLOW policies made dead by an unconditional DENY rule that selects every workload they select, be it by what the
/// selectors say or among the workloads known. With [`CatchAllDeny::Baseline`] there are none.
pub fn dead_allows(policies: &[Arc<Policy>], workloads: &[KnownWorkload], settings: &Settings) -> Vec<Lint> {
    if settings.catch_all_deny == CatchAllDeny::Baseline {
        return Vec::new();
    }
    let enforced = || policies.iter().filter(|policy| !policy.dry_run);
    let denies: Vec<_> =
        enforced().filter(|policy| policy.rules.iter().any(|rule| policy.is_catch_all(rule))).collect();
    enforced()
        .filter(|policy| policy.action == Action::Allow && !policy.rules.is_empty() && policy.scope != Scope::Targets)
        .filter_map(|allow| {
            let deny = denies.iter().find(|deny| kills(deny, allow, workloads, &settings.root_namespace))?;
            let message = format!(
                "never lets anything in: {} denies every request to the same workloads, and DENY is evaluated first. \
                 To allow nothing but what ALLOW policies allow, replace that policy by one with `spec: {{}}`, or set \
                 `catchAllDeny: baseline`",
                deny.name
            );
            Some(Lint { code: DEAD_ALLOW, about: About::AuthorizationPolicy, policy: allow.name.clone(), message })
        })
        .collect()
}

/// Whether the DENY policy selects all that the ALLOW policy selects.
fn kills(deny: &Policy, allow: &Policy, workloads: &[KnownWorkload], root: &str) -> bool {
    let reaches = deny.name.namespace == root || deny.name.namespace == allow.name.namespace;
    if reaches && deny.scope.covers(&allow.scope) {
        return true;
    }
    let mut selected = workloads.iter().map(|known| &known.workload).filter(|one| allow.selects(one, root)).peekable();
    selected.peek().is_some() && selected.all(|workload| deny.selects(workload, root))
}
