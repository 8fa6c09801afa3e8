//! How much one identity may have at once at a gateway, over all workers: connections, and tunnels in them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use meshgate_identity::SpiffeId;

use crate::limits::{Permit, Permits};

/// Who is connected, and with how much. Forgotten with the last connection, so that this is never more than the connections are.
#[derive(Debug, Clone, Default)]
pub struct Callers(Arc<Mutex<HashMap<SpiffeId, Entry>>>);

#[derive(Debug)]
struct Entry {
    connections: Permits,
    tunnels: Permits,
}

/// One connection of a caller.
#[derive(Debug)]
pub struct Admitted {
    callers: Callers,
    id: SpiffeId,
    permit: Option<Permit>,
    tunnels: Permits,
}

impl Callers {
    /// Takes a connection, if the caller has fewer than `connections`.
    pub fn admit(&self, id: &SpiffeId, connections: usize, tunnels: usize) -> Option<Admitted> {
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = callers
            .entry(id.clone())
            .or_insert_with(|| Entry { connections: Permits::new(connections), tunnels: Permits::new(tunnels) });
        let permit = entry.connections.take()?;
        Some(Admitted { callers: self.clone(), id: id.clone(), permit: Some(permit), tunnels: entry.tunnels.clone() })
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
        let mut callers = self.callers.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.permit = None;
        if callers.get(&self.id).is_some_and(|entry| entry.connections.used() == 0) {
            callers.remove(&self.id);
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
        let first = callers.admit(&id("one"), 2, 1).unwrap();
        let second = callers.admit(&id("one"), 2, 1).unwrap();
        assert!(callers.admit(&id("one"), 2, 1).is_none());
        assert!(callers.admit(&id("other"), 2, 1).is_some());
        let tunnel = first.tunnel().unwrap();
        assert!(second.tunnel().is_none(), "over all connections of the identity");
        drop(tunnel);
        assert!(second.tunnel().is_some());
        drop((first, second));
        assert!(callers.0.lock().unwrap().is_empty());
    }
}
