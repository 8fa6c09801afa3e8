//! Whose turn it is under each TrafficSplit, by all workers and across reloads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use meshgate_policy::ObjectName;

use super::Family;

/// Where one split's turns stand.
#[derive(Debug, Default)]
pub struct Cursor(AtomicUsize);

impl Cursor {
    /// The number of the next turn.
    pub fn turn(&self) -> usize {
        // Relaxed: only the count itself matters. Wrapping at 2^64 skips once in an age of the universe.
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// The cursors of all splits, by name, port and family of addresses. Looked up when a route is made, never per request.
#[derive(Debug, Default)]
pub struct Cursors(Mutex<HashMap<(ObjectName, u16, Family), Arc<Cursor>>>);

impl Cursors {
    /// The cursor of a split at a port; it starts at the first turn.
    pub fn of(&self, split: &ObjectName, port: u16, family: Family) -> Arc<Cursor> {
        // A panic while holding this lock leaves a valid map.
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cursors.entry((split.clone(), port, family)).or_default())
    }

    /// Forgets the cursors for which `keep` is false.
    pub fn retain(&self, keep: impl Fn(&ObjectName, u16) -> bool) {
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.retain(|(split, port, _), _| keep(split, *port));
    }
}
