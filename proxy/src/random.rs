//! Numbers that name things: which request it is, which span. Nothing may be decided by them that somebody could want to foresee.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// Makes them, on one thread (splitmix64, seeded by the system).
#[derive(Debug)]
pub struct Random(Cell<u64>);

impl Default for Random {
    fn default() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0)))
    }
}

impl Random {
    /// One more.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
