//! The counters of a worker's callers, so that who connects anew for each request does not have them made anew each time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use meshgate_identity::SpiffeId;

use super::counters::RequestCounters;
use super::edge::Facts;

/// Callers that are remembered; whoever has more is looked up anew.
const MAX: usize = 1024;

/// Who called, from where, and where to; nobody and nowhere for what goes out.
type Key = Option<(Option<SpiffeId>, IpAddr, SocketAddr)>;

/// Counters by caller, under one configuration and one identity.
#[derive(Debug, Default)]
pub struct Kept {
    under: Cell<(u64, u64)>,
    counters: RefCell<HashMap<Key, Rc<RequestCounters>>>,
}

impl Kept {
    /// The counters of a caller under the configuration and the identity of these generations.
    pub fn of(&self, under: (u64, u64), key: Key, facts: impl FnOnce() -> Facts) -> Rc<RequestCounters> {
        let mut counters = self.counters.borrow_mut();
        if self.under.replace(under) != under || counters.len() >= MAX {
            counters.clear();
        }
        Rc::clone(counters.entry(key).or_insert_with(|| Rc::new(RequestCounters::new(facts()))))
    }

    /// Lets go of what was not used of late, see [`RequestCounters::let_go`].
    pub fn let_go(&self) {
        self.counters.borrow_mut().retain(|_, counters| {
            counters.let_go();
            Rc::strong_count(counters) > 1 || counters.has_any()
        });
    }
}
