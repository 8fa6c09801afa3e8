//! Whom a service account may call at all, and in which clusters: what a caller's own proxy can know before it sends anything.
//!
//! Paths, methods and ports are left to the called side, which is the one that counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::condition::ConnectionTest;
use crate::model::{AnyCondition, Family, ObjectName, Policy, Rule, SmiMode, Workload};
use crate::select::Scope;

/// The service accounts that one workload may call, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Namespace, then service account; `None` in permissive mode: everybody.
    allowed: Option<BTreeMap<String, BTreeMap<String, Where>>>,
}

/// In which clusters a service account may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Where {
    Everywhere,
    In(BTreeSet<Box<str>>),
}

impl Reach {
    /// Whom `own` may call under these policies: in traffic policy mode, the destinations of the TrafficTargets of which it is
    /// a source and that have a rule left which could match.
    pub fn of(own: &Workload, policies: &[Arc<Policy>], mode: SmiMode) -> Reach {
        if mode == SmiMode::Permissive {
            return Reach::default();
        }
        let mut allowed: BTreeMap<String, BTreeMap<String, Where>> = BTreeMap::new();
        for (target, account) in targets(policies).filter(|(target, _)| names(target, own)) {
            let accounts = allowed.entry(target.name.namespace.clone()).or_default();
            let places = accounts.entry(account.to_owned()).or_insert_with(|| Where::In(BTreeSet::new()));
            places.add(&target.clusters);
        }
        Reach { allowed: Some(allowed) }
    }

    /// Whether no TrafficTarget is asked.
    pub fn is_everybody(&self) -> bool {
        self.allowed.is_none()
    }

    /// Whether it may call this service account in this cluster (`region/zone/group/cluster`).
    pub fn includes(&self, namespace: &str, account: &str, cluster: &str) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        let places = allowed.get(namespace).and_then(|accounts| accounts.get(account));
        places.is_some_and(|places| places.include(cluster))
    }

    /// Whether it may call any service account of this namespace in this cluster.
    pub fn includes_any(&self, namespace: &str, cluster: &str) -> bool {
        self.allowed.is_none() || self.accounts(namespace, cluster).next().is_some()
    }

    /// The service accounts of this namespace that it may call in this cluster, as far as TrafficTargets name them: none in
    /// permissive mode.
    pub fn accounts(&self, namespace: &str, cluster: &str) -> impl Iterator<Item = &str> {
        let accounts = self.allowed.as_ref().and_then(|allowed| allowed.get(namespace)).into_iter().flatten();
        accounts.filter(move |(_, places)| places.include(cluster)).map(|(account, _)| account.as_str())
    }
}

impl Where {
    /// Of several TrafficTargets each lets in for itself.
    fn add(&mut self, clusters: &[Box<str>]) {
        match self {
            Where::Everywhere => {}
            Where::In(_) if clusters.is_empty() => *self = Where::Everywhere,
            Where::In(places) => places.extend(clusters.iter().cloned()),
        }
    }

    fn include(&self, cluster: &str) -> bool {
        match self {
            Where::Everywhere => true,
            Where::In(places) => places.contains(cluster),
        }
    }
}

/// The TrafficTargets whose destination is this service account (any of the namespace, where none is given), each with whether
/// it makes `own` a caller: for people, who ask why.
pub fn concerning<'a>(
    own: &'a Workload,
    policies: &'a [Arc<Policy>],
    namespace: &'a str,
    account: Option<&'a str>,
) -> impl Iterator<Item = (&'a ObjectName, bool)> {
    targets(policies)
        .filter(move |(target, meant)| target.name.namespace == namespace && account.is_none_or(|one| one == *meant))
        .map(|(target, _)| (&target.name, names(target, own)))
}

/// All TrafficTargets, each with the account that is its destination, in its own namespace.
fn targets(policies: &[Arc<Policy>]) -> impl Iterator<Item = (&Policy, &str)> {
    policies.iter().filter(|policy| policy.family == Family::Smi).filter_map(|policy| match &policy.scope {
        Scope::ServiceAccount(account) => Some((&**policy, &**account)),
        _ => None,
    })
}

fn names(target: &Policy, own: &Workload) -> bool {
    target.rules.iter().any(|rule| lets_in(rule, own))
}

fn lets_in(rule: &Rule, own: &Workload) -> bool {
    let is_source = |condition: &AnyCondition| match condition {
        AnyCondition::Connection(condition) => match &condition.test {
            ConnectionTest::LocalAccounts { accounts, .. } => {
                accounts.iter().any(|one| *one.namespace == *own.namespace && *one.name == *own.service_account)
            }
            _ => false,
        },
        AnyCondition::Request(_) => false,
    };
    let never = |condition: &AnyCondition| matches!(condition, AnyCondition::Connection(condition) if matches!(condition.test, ConnectionTest::Nothing));
    rule.from.iter().any(|clause| clause.iter().any(is_source))
        && !rule.when.iter().any(never)
        && (rule.to.is_empty() || rule.to.iter().any(|clause| !clause.iter().any(never)))
}
