//! What is valid and most likely not meant.
//!
//! A finding never changes a verdict. Its code is stable: people silence it by that, and look it up in the user guide.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::condition::ConnectionTest;
use crate::model::{Action, AnyCondition, CatchAllDeny, ObjectName, Policy, Rule, Settings, Workload};
use crate::peer_authentication::{PeerAuthentication, PeerScope};
use crate::select::Scope;

/// An ALLOW policy that can never let anything in, because a catch-all DENY refuses it first.
pub const DEAD_ALLOW: &str = "MG001";
/// A principal with the scheme `spiffe://`, which Istio's spelling leaves out: it never matches.
pub const PRINCIPAL_WITH_SCHEME: &str = "MG002";
/// A DENY rule with nothing but HTTP fields: it refuses every TCP connection.
pub const DENY_OF_ALL_TCP: &str = "MG003";
/// A PeerAuthentication with a selector in the root namespace, which counts for nobody.
pub const PEER_SELECTOR_IN_ROOT: &str = "MG004";
/// A second PeerAuthentication in one scope, where only the first by name counts.
pub const PEER_SCOPE_TAKEN: &str = "MG005";
/// A selector without labels, which selects everything the namespace reaches.
pub const EMPTY_SELECTOR: &str = "MG006";
/// A server name with capitals, which never matches: what the client sends is lower-cased, the value is not.
pub const SNI_WITH_CAPITALS: &str = "MG007";
/// A PeerAuthentication with a selector without labels: it counts for the whole namespace, or from the root namespace for
/// the mesh.
pub const PEER_EMPTY_SELECTOR: &str = "MG017";

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// `MG001` and so on.
    pub code: &'static str,
    /// The AuthorizationPolicy or PeerAuthentication it is about.
    pub policy: ObjectName,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.policy, self.message)
    }
}

/// Everything there is to say about a mesh's policies, in the order of their names. `workloads` are those that are
/// known, each with a name for people; there may be none.
pub fn all(
    policies: &[Arc<Policy>],
    peer_authentications: &[Arc<PeerAuthentication>],
    workloads: &[(String, Workload)],
    settings: &Settings,
) -> Vec<Lint> {
    let mut lints = dead_allows(policies, workloads, settings);
    lints.extend(policies.iter().flat_map(|policy| policy_lints(policy)));
    lints.extend(peer_lints(peer_authentications));
    lints.sort_by(|a, b| (&a.policy, a.code).cmp(&(&b.policy, b.code)));
    lints
}

/// ALLOW policies made dead by an unconditional DENY rule that selects every workload they select, be it by what the
/// selectors say or among the workloads known. With [`CatchAllDeny::Baseline`] there are none.
pub fn dead_allows(policies: &[Arc<Policy>], workloads: &[(String, Workload)], settings: &Settings) -> Vec<Lint> {
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
            Some(Lint { code: DEAD_ALLOW, policy: allow.name.clone(), message })
        })
        .collect()
}

/// Whether the DENY policy selects all that the ALLOW policy selects.
fn kills(deny: &Policy, allow: &Policy, workloads: &[(String, Workload)], root: &str) -> bool {
    let reaches = deny.name.namespace == root || deny.name.namespace == allow.name.namespace;
    if reaches && deny.scope.covers(&allow.scope) {
        return true;
    }
    let mut selected = workloads.iter().map(|(_, workload)| workload).filter(|one| allow.selects(one, root)).peekable();
    selected.peek().is_some() && selected.all(|workload| deny.selects(workload, root))
}

fn policy_lints(policy: &Policy) -> Vec<Lint> {
    let mut lints = Vec::new();
    let mut add = |code, message| lints.push(Lint { code, policy: policy.name.clone(), message });
    if policy.unreadable.is_none() && matches!(&policy.scope, Scope::Workloads(Some(labels)) if labels.is_empty()) {
        add(
            EMPTY_SELECTOR,
            "a selector without labels selects every workload; leave it out if that is meant".to_owned(),
        );
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        if policy.action == Action::Deny && denies_all_tcp(rule) {
            let message = format!(
                "rules[{index}] denies every TCP connection: fields that need HTTP are left out there, and it has no \
                 other. Add `ports` to keep it to HTTP ports"
            );
            add(DENY_OF_ALL_TCP, message);
        }
        for condition in rule.conditions() {
            let AnyCondition::Connection(condition) = condition else { continue };
            let never_matches =
                condition.values.iter().filter_map(|value| Some((value, never_matches(&condition.test, value)?)));
            for (value, (code, advice)) in never_matches {
                add(code, format!("rules[{index}].{}: {value} never matches: {advice}", condition.field));
            }
        }
    }
    lints
}

/// Why a value can never match, if so.
fn never_matches(test: &ConnectionTest, value: &str) -> Option<(&'static str, &'static str)> {
    match test {
        ConnectionTest::Principals(_) if value.starts_with("spiffe://") => {
            Some((PRINCIPAL_WITH_SCHEME, "a principal is written without spiffe://"))
        }
        ConnectionTest::Sni(_) if value.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Some((SNI_WITH_CAPITALS, "server names are compared in lower case"))
        }
        _ => None,
    }
}

/// Whether a rule that has conditions has none left where there is no HTTP.
fn denies_all_tcp(rule: &Rule) -> bool {
    rule.needs_http()
        && rule.groups().all(|group| group.iter().any(|clause| clause.iter().all(AnyCondition::http_only)))
}

fn peer_lints(peer_authentications: &[Arc<PeerAuthentication>]) -> Vec<Lint> {
    let mut sorted: Vec<_> = peer_authentications.iter().collect();
    sorted.sort_by_key(|object| &object.name);
    let mut first_of: BTreeMap<PeerScope<'_>, &ObjectName> = BTreeMap::new();
    let mut lints = Vec::new();
    for object in sorted {
        if object.empty_selector {
            let message = "a selector without labels makes this the rule of the whole namespace (of the mesh, in the root \
                           namespace); leave it out if that is meant";
            lints.push(Lint { code: PEER_EMPTY_SELECTOR, policy: object.name.clone(), message: message.to_owned() });
        }
        let (code, message) = match (object.scope(), first_of.get(&object.scope())) {
            (PeerScope::Nobody, _) => {
                let message = "is ignored: in the root namespace a PeerAuthentication with a selector counts for nobody; \
                               move it to the namespace of its workloads";
                (PEER_SELECTOR_IN_ROOT, message.to_owned())
            }
            (_, Some(first)) => {
                (PEER_SCOPE_TAKEN, format!("is ignored: {first} is for the same workloads and comes first"))
            }
            (scope, None) => {
                first_of.insert(scope, &object.name);
                continue;
            }
        };
        lints.push(Lint { code, policy: object.name.clone(), message });
    }
    lints
}
