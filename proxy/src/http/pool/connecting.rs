//! Who makes a slot's next HTTP/2 connection: one at a time, and whoever else wants a stream waits for it.

use std::rc::Rc;

use hyper::client::conn::http2;

use super::{Lease, Origin, SharedH2, Slot};
use crate::circuit::Use;
use crate::http::body::RequestBody;

/// The right to make a slot's HTTP/2 connection. Dropped without a connection, it wakes the next who waits.
pub struct Connecting {
    pub(super) slot: Rc<Slot>,
    pub(super) _waits: Use,
}

impl Connecting {
    /// Shares the connection that was made.
    pub fn done(self, sender: &http2::SendRequest<RequestBody>, origin: Origin) -> Lease {
        let streams = Rc::new(());
        let lease = Lease::stream(&streams);
        let generation = origin.generation;
        let (slot, sender) = (&self.slot, sender.clone());
        let shared = SharedH2 { sender, origin, retires: slot.retires(), used: slot.clock.get(), streams };
        let mut all = slot.shared.borrow_mut();
        // Those of an older certificate end with their last stream.
        all.retain(|known| known.origin.generation == generation && !known.sender.is_closed());
        all.push(shared);
        drop(all);
        lease
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.slot.connecting.set(false);
        self.slot.connected.notify_waiters();
    }
}
