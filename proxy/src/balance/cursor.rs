//! Round robin: the cursor is shared by all workers and kept across reloads, so
//! that equal endpoints get exactly equal shares whatever connections the requests come on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use meshgate_policy::ObjectName;

/// Where one service port's round robin stands.
#[derive(Debug, Default)]
pub struct Cursor(AtomicUsize);

impl Cursor {
    /// The position of the next of `len` endpoints; 0 when there are none.
    pub fn next(&self, len: usize) -> usize {
        // Relaxed: only the count itself matters. Wrapping at 2^64 skips once in an age of the universe.
        self.0.fetch_add(1, Ordering::Relaxed).checked_rem(len).unwrap_or(0)
    }
}

/// Which of a service's addresses are meant. Of a workload with several, one is used: the application may listen on one family
/// only, and would count twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Those of the family that the application connected to.
    V4,
    /// As [`Family::V4`].
    V6,
    /// One of each workload, whichever it is.
    Any,
}

impl Family {
    /// The family of an address that was called, if there was one.
    pub fn of(destination: Option<SocketAddr>) -> Self {
        match destination {
            Some(SocketAddr::V4(_)) => Self::V4,
            Some(SocketAddr::V6(_)) => Self::V6,
            None => Self::Any,
        }
    }

    /// Whether an address is of this family.
    pub fn has(self, address: SocketAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
            Self::Any => true,
        }
    }
}

/// The cursors of all service ports. Looked up when a route is made, never per request.
#[derive(Debug, Default)]
pub struct Cursors(Mutex<HashMap<(ObjectName, u16, Family), Arc<Cursor>>>);

impl Cursors {
    /// The cursor of a service port; it starts at the first endpoint.
    pub fn of(&self, service: &ObjectName, port: u16, family: Family) -> Arc<Cursor> {
        // A panic while holding this lock leaves a valid map.
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cursors.entry((service.clone(), port, family)).or_default())
    }

    /// Forgets the cursors of service ports for which `keep` is false.
    pub fn retain(&self, keep: impl Fn(&ObjectName, u16) -> bool) {
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.retain(|(service, port, _), _| keep(service, *port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_endpoints_get_equal_shares_over_several_threads() {
        let cursors = Cursors::default();
        let name = ObjectName { namespace: "a".into(), name: "b".into() };
        let mut counts = [0_usize; 3];
        std::thread::scope(|scope| {
            let picks: Vec<_> = (0..4)
                .map(|_| {
                    let cursor = cursors.of(&name, 80, Family::Any);
                    scope.spawn(move || (0..75).map(|_| cursor.next(3)).collect::<Vec<_>>())
                })
                .collect();
            for pick in picks.into_iter().flat_map(|thread| thread.join().unwrap()) {
                counts[pick] += 1;
            }
        });
        assert_eq!(counts, [100, 100, 100]);
        assert_eq!(cursors.of(&name, 80, Family::Any).next(0), 0);
    }
}
