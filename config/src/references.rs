//! References from object to object that lead nowhere. Warnings: the other end may live where this folder does not reach.

use std::collections::BTreeSet;

use crate::kept::Standing;
use crate::kind::Kind;
use crate::problem::Problem;
use crate::resource::{Key, Object};

/// Pods and WorkloadEntries whose service account is not among those of their namespace, where any are given.
pub(crate) fn doubts(standing: &Standing) -> Vec<Problem> {
    let accounts: BTreeSet<&Key> =
        standing.good().map(|(key, ..)| key).filter(|key| key.kind == Kind::ServiceAccount).collect();
    let namespaces: BTreeSet<&str> = accounts.iter().map(|key| key.namespace.as_str()).collect();
    let mut problems = Vec::new();
    for (key, place, object) in standing.good() {
        let account = match object {
            Object::Pod(pod) => Some(pod.service_account.as_str()),
            Object::WorkloadEntry(entry) => entry.service_account.as_deref(),
            _ => None,
        };
        // Every namespace has the account `default`, which nobody writes down.
        let Some(account) = account.filter(|account| *account != "default") else { continue };
        let wanted = Key { kind: Kind::ServiceAccount, namespace: key.namespace.clone(), name: account.to_owned() };
        if namespaces.contains(key.namespace.as_str()) && !accounts.contains(&wanted) {
            let message = format!("there is no ServiceAccount {}/{account}", key.namespace);
            problems.push(Problem::warning(&place.file, message).at(Some(place.line)).about(key));
        }
    }
    problems
}
