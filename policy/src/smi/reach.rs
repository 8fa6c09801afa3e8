//! Whom a service account may call at all, and in which clusters: what a caller's own proxy can know before it sends anything.
//!
//! Paths, methods and ports are left to the called side, which is the one that counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::condition::ConnectionTest;
use crate::model::{AnyCondition, Family, Policy, Rule, SmiMode, Workload};
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
        for policy in policies.iter().filter(|policy| policy.family == Family::Smi) {
            if let Scope::ServiceAccount(account) = &policy.scope
                && policy.rules.iter().any(|rule| lets_in(rule, own))
            {
                let accounts = allowed.entry(policy.name.namespace.clone()).or_default();
                let places = accounts.entry(account.to_string()).or_insert_with(|| Where::In(BTreeSet::new()));
                places.add(&policy.clusters);
            }
        }
        Reach { allowed: Some(allowed) }
    }

    /// Whether it may call this service account in this cluster (`region/zone/group/cluster`).
    pub fn includes(&self, namespace: &str, account: &str, cluster: &str) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        let places = allowed.get(namespace).and_then(|accounts| accounts.get(account));
        places.is_some_and(|places| places.include(cluster))
    }

    /// Whether it may call any service account of this namespace in this cluster.
    pub fn includes_any(&self, namespace: &str, cluster: &str) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        let mut places = allowed.get(namespace).into_iter().flat_map(BTreeMap::values);
        places.any(|places| places.include(cluster))
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
