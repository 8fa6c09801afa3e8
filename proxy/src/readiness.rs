//! Ready means: every named blocker is gone. `/ready` names those that are left.

use std::collections::BTreeSet;
use std::sync::Mutex;

/// The things that keep this process from being ready.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<BTreeSet<&'static str>>);

impl Readiness {
    /// Not ready until each of `blockers` is removed.
    pub fn new(blockers: impl IntoIterator<Item = &'static str>) -> Self {
        Self(Mutex::new(blockers.into_iter().collect()))
    }

    /// Adds a blocker.
    pub fn block(&self, blocker: &'static str) {
        self.lock().insert(blocker);
    }

    /// Removes a blocker.
    pub fn clear(&self, blocker: &'static str) {
        self.lock().remove(blocker);
    }

    /// What is left, in alphabetical order; empty means ready.
    pub fn blockers(&self) -> Vec<&'static str> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<&'static str>> {
        // A panic while holding this lock leaves a valid set: inserting and removing are single steps.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
