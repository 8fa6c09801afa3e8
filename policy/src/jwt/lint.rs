//! What is valid about tokens, and most likely not meant.

use std::collections::HashMap;
use std::sync::Arc;

use crate::condition::{Condition, RequestTest};
use crate::jwt::key_set::KeyLocation;
use crate::jwt::rule::{JwtRule, KeySource, RequestAuthentication};
use crate::lint::{
    About, KEYS_IN_CLEAR, Known, Lint, PLACES_DIFFER, PRIVATE_KEY, SELECTS_NOBODY, TOKEN_NOT_READ, TOKEN_NOT_REQUIRED,
};
use crate::model::{Action, AnyCondition, ObjectName, Policy, Rule, Settings};
use crate::select::{self, Labels, Scope};

/// Everything there is to say about a mesh's tokens, in the order of names.
pub fn all(
    authentications: &[Arc<RequestAuthentication>],
    policies: &[Arc<Policy>],
    known: &Known,
    settings: &Settings,
) -> Vec<Lint> {
    let root = settings.root_namespace.as_str();
    let mut lints = Vec::new();
    let issuers = by_issuer(authentications);
    let requiring: Vec<_> = policies.iter().filter(|policy| requires_tokens(policy)).collect();
    for one in authentications.iter().filter(|one| one.scope != Scope::Targets && !one.rules.is_empty()) {
        lints.extend(not_required(one, &requiring, root));
        lints.extend(one.rules.iter().enumerate().flat_map(|(index, rule)| about_keys(&one.name, index, rule)));
        lints.extend(places_differ(one, &issuers, root));
    }
    lints.extend(authentications.iter().filter_map(|one| selects_nobody(one, known, root)));
    lints.extend(policies.iter().filter_map(|policy| not_read(policy, authentications, root)));
    lints.sort_by(|a, b| (&a.policy, a.code).cmp(&(&b.policy, b.code)));
    lints
}

fn selects_nobody(one: &RequestAuthentication, known: &Known, root: &str) -> Option<Lint> {
    let reached = known.workloads.iter().filter(|known| select::reaches(&one.name, &known.workload.namespace, root));
    let in_reach = reached.count();
    let selects = known.workloads.iter().any(|known| one.selects(&known.workload, root));
    let message = format!("selects none of the {in_reach} workload(s) known in its reach");
    let about = About::RequestAuthentication;
    (in_reach > 0 && !selects).then(|| Lint { code: SELECTS_NOBODY, about, policy: one.name.clone(), message })
}

fn not_required(one: &RequestAuthentication, requiring: &[&Arc<Policy>], root: &str) -> Option<Lint> {
    let meets = |policy: &&Arc<Policy>| may_meet((&one.name, &one.scope), (&policy.name, &policy.scope), root);
    let paired = requiring.iter().any(meets);
    let message = "a request without a token passes: pair it with an AuthorizationPolicy for the same workloads that asks for \
                   one, such as ALLOW with `requestPrincipals: [\"*\"]`";
    (!paired).then(|| Lint {
        code: TOKEN_NOT_REQUIRED,
        about: About::RequestAuthentication,
        policy: one.name.clone(),
        message: message.to_owned(),
    })
}

fn not_read(policy: &Policy, authentications: &[Arc<RequestAuthentication>], root: &str) -> Option<Lint> {
    let rule = policy.rules.iter().position(|rule| about_token(rule).next().is_some())?;
    let is_read = authentications
        .iter()
        .any(|one| !one.rules.is_empty() && may_meet((&one.name, &one.scope), (&policy.name, &policy.scope), root));
    let message = format!(
        "rules[{rule}] asks about a token, and no RequestAuthentication reads one for these workloads: its values never match"
    );
    (!is_read).then(|| Lint {
        code: TOKEN_NOT_READ,
        about: About::AuthorizationPolicy,
        policy: policy.name.clone(),
        message,
    })
}

fn about_keys(name: &ObjectName, index: usize, rule: &JwtRule) -> Option<Lint> {
    let (code, message) = match &rule.keys {
        KeySource::Remote { location: KeyLocation::Uri(uri) | KeyLocation::Issuer(uri), .. } if is_clear(uri) => {
            let what =
                "the keys are fetched over http://: whoever is on the way can hand out keys of their own; use https://";
            (KEYS_IN_CLEAR, what)
        }
        KeySource::Inline(set) if set.has_private_key() => {
            (PRIVATE_KEY, "jwks has a private key in it: whoever reads this file can sign tokens")
        }
        _ => return None,
    };
    Some(Lint {
        code,
        about: About::RequestAuthentication,
        policy: name.clone(),
        message: format!("jwtRules[{index}]: {message}"),
    })
}

/// A rule, the object it is in, and its place there.
type Written<'a> = (&'a RequestAuthentication, usize, &'a JwtRule);

/// Rules of the issuers whose rules do not all read the same places.
fn by_issuer(authentications: &[Arc<RequestAuthentication>]) -> HashMap<&str, Vec<Written<'_>>> {
    let mut issuers: HashMap<&str, Vec<Written<'_>>> = HashMap::new();
    for one in authentications {
        for (index, rule) in one.rules.iter().enumerate() {
            issuers.entry(&rule.issuer).or_default().push((one, index, rule));
        }
    }
    issuers.retain(|_, rules| rules.windows(2).any(|pair| matches!(pair, [a, b] if a.2.places != b.2.places)));
    issuers
}

fn places_differ(one: &RequestAuthentication, issuers: &HashMap<&str, Vec<Written<'_>>>, root: &str) -> Option<Lint> {
    for (index, rule) in one.rules.iter().enumerate() {
        let earlier = |(other, second, _): &&Written<'_>| (&other.name, *second) < (&one.name, index);
        let conflicts = |written: &&Written<'_>| {
            let (other, _, second) = written;
            second.places != rule.places
                && earlier(written)
                && may_meet((&one.name, &one.scope), (&other.name, &other.scope), root)
        };
        if let Some((other, second, _)) = issuers.get(&*rule.issuer).into_iter().flatten().find(conflicts) {
            let message = format!(
                "jwtRules[{index}] and jwtRules[{second}] of {} have one issuer and read different places: a good token at \
                 one place hides a bad one at the other",
                other.name
            );
            return Some(Lint {
                code: PLACES_DIFFER,
                about: About::RequestAuthentication,
                policy: one.name.clone(),
                message,
            });
        }
    }
    None
}

fn is_clear(uri: &str) -> bool {
    uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

/// The rule's conditions that look at a token.
fn about_token(rule: &Rule) -> impl Iterator<Item = &Condition<RequestTest>> {
    rule.conditions().filter_map(|condition| match condition {
        AnyCondition::Request(condition) => match condition.test {
            RequestTest::RequestPrincipals(_) | RequestTest::Claim { .. } => Some(&**condition),
            _ => None,
        },
        AnyCondition::Connection(_) => None,
    })
}

/// Whether a request without a token is worse off for this policy.
fn requires_tokens(policy: &Policy) -> bool {
    !policy.dry_run && policy.rules.iter().any(|rule| requires_token(policy.action, rule))
}

/// Whether a request without a token is worse off for this rule.
fn requires_token(action: Action, rule: &Rule) -> bool {
    match action {
        Action::Allow => about_token(rule).any(|condition| !condition.negated),
        Action::Deny => about_token(rule).any(|condition| condition.negated),
        Action::Audit | Action::Custom => false,
    }
}

/// Whether there can be a workload that both select.
fn may_meet(a: (&ObjectName, &Scope), b: (&ObjectName, &Scope), root: &str) -> bool {
    let near = a.0.namespace == b.0.namespace || a.0.namespace == root || b.0.namespace == root;
    near && match (a.1, b.1) {
        (Scope::Targets, _) | (_, Scope::Targets) => false,
        (Scope::Gateways(own), Scope::Gateways(other)) => {
            a.0.namespace == b.0.namespace && own.iter().any(|name| other.contains(name))
        }
        (Scope::Gateways(gateways), Scope::Workloads(labels)) => {
            may_meet_gateways((a.0, gateways), (b.0, labels), root)
        }
        (Scope::Workloads(labels), Scope::Gateways(gateways)) => {
            may_meet_gateways((b.0, gateways), (a.0, labels), root)
        }
        (Scope::Workloads(Some(a)), Scope::Workloads(Some(b))) => {
            a.iter().all(|(key, value)| b.iter().all(|(other, found)| other != key || found == value))
        }
        _ => true,
    }
}

/// Whether one of the gateways, which are in the namespace of what names them, may have the labels.
fn may_meet_gateways(
    (by, gateways): (&ObjectName, &[Box<str>]),
    (name, labels): (&ObjectName, &Option<Labels>),
    root: &str,
) -> bool {
    select::reaches(name, &by.namespace, root)
        && labels.as_ref().is_none_or(|labels| Scope::may_be_gateway(gateways, labels))
}

#[cfg(test)]
mod tests;
