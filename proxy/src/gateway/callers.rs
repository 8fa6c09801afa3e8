//! How much one identity may have at once at a gateway, over all workers: connections, and tunnels in them.
//!
//! An identity counts by the cluster that vouches for it: where clusters share a trust domain, each can issue every name of it, and
//! none is to use up what another's workload of that name may have.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meshgate_identity::SpiffeId;

use crate::limits::{Permit, Permits};

/// Callers that the metrics name; whoever comes later is one of the unnamed. A cluster's authority can issue as many identities as
/// it likes, and what a metric has named it never forgets.
const NAMED_MAX: usize = 4096;

/// Who is connected, and with how much. Forgotten with the last connection, so that this is never more than the connections are.
#[derive(Debug, Clone, Default)]
pub struct Callers(Arc<Mutex<Book>>);

type Key = (Option<Arc<str>>, SpiffeId);

#[derive(Debug, Default)]
struct Book {
    connected: HashMap<Key, Entry>,
    named: HashSet<SpiffeId>,
}

#[derive(Debug)]
struct Entry {
    connections: Permits,
    tunnels: Permits,
}

/// One connection of a caller.
#[derive(Debug)]
pub struct Admitted {
    callers: Callers,
    key: Key,
    permit: Option<Permit>,
    tunnels: Permits,
}

impl Callers {
    /// Takes a connection, if the caller has fewer than `connections`. `cluster` is the one that vouches for it.
    pub fn admit(
        &self,
        cluster: Option<&Arc<str>>,
        id: &SpiffeId,
        connections: usize,
        tunnels: usize,
    ) -> Option<Admitted> {
        let key = (cluster.cloned(), id.clone());
        let mut book = self.book();
        let entry = book
            .connected
            .entry(key.clone())
            .or_insert_with(|| Entry { connections: Permits::new(connections), tunnels: Permits::new(tunnels) });
        let permit = entry.connections.take()?;
        Some(Admitted { callers: self.clone(), key, permit: Some(permit), tunnels: entry.tunnels.clone() })
    }

    /// What metrics call it; `None` once they have named as many as they may.
    pub fn name(&self, id: &SpiffeId) -> Option<String> {
        let mut book = self.book();
        if !book.named.contains(id) {
            if book.named.len() >= NAMED_MAX {
                return None;
            }
            book.named.insert(id.clone());
        }
        Some(id.to_string())
    }

    /// Whether it has a connection now.
    pub fn is_connected(&self, id: &SpiffeId) -> bool {
        self.book().connected.keys().any(|(_, known)| known == id)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted {
    /// Takes a tunnel, if the caller has not too many.
    pub fn tunnel(&self) -> Option<Permit> {
        self.tunnels.take()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut book = self.callers.book();
        self.permit = None;
        if book.connected.get(&self.key).is_some_and(|entry| entry.connections.used() == 0) {
            book.connected.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_connections_and_tunnels_of_each_identity_and_forgets_who_has_gone() {
        let callers = Callers::default();
        let id = |name: &str| format!("spiffe://td/ns/a/sa/{name}").parse::<SpiffeId>().unwrap();
        let first = callers.admit(None, &id("one"), 2, 1).unwrap();
        let second = callers.admit(None, &id("one"), 2, 1).unwrap();
        assert!(callers.admit(None, &id("one"), 2, 1).is_none());
        assert!(callers.admit(None, &id("other"), 2, 1).is_some());
        let tunnel = first.tunnel().unwrap();
        assert!(second.tunnel().is_none(), "over all connections of the identity");
        drop(tunnel);
        assert!(second.tunnel().is_some());
        drop((first, second));
        assert!(callers.book().connected.is_empty());
    }

    #[test]
    fn what_one_cluster_issues_takes_nothing_from_the_same_name_of_another() {
        let callers = Callers::default();
        let id = "spiffe://td/ns/a/sa/b".parse::<SpiffeId>().unwrap();
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let held = callers.admit(Some(&one), &id, 1, 1).unwrap();
        let _tunnel = held.tunnel().unwrap();
        assert!(callers.admit(Some(&one), &id, 1, 1).is_none());
        let other = callers.admit(Some(&two), &id, 1, 1).unwrap();
        assert!(other.tunnel().is_some());
    }

    #[test]
    fn only_so_many_callers_are_named() {
        let callers = Callers::default();
        let id = |number: usize| format!("spiffe://td/ns/a/sa/s{number}").parse::<SpiffeId>().unwrap();
        assert!((0..NAMED_MAX).all(|number| callers.name(&id(number)).is_some()));
        assert_eq!(callers.name(&id(NAMED_MAX)), None);
        assert_eq!(callers.name(&id(7)).as_deref(), Some("spiffe://td/ns/a/sa/s7"));
    }
}
