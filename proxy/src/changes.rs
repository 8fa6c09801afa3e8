//! Tells the open connections of a worker that the configuration has changed.
//!
//! Every worker waits for the change once, and wakes its connections itself: for a connection, to have nothing new is to find
//! two numbers equal, without a lock that other workers take too.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// Who waits for a change, on one worker.
#[derive(Debug, Default)]
pub struct Changes {
    epoch: Cell<u64>,
    waiting: RefCell<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// One that waits; forgotten when dropped.
#[derive(Debug)]
pub struct Follower<'a> {
    changes: &'a Changes,
    seen: u64,
    slot: Option<usize>,
}

impl Changes {
    /// Something changed.
    pub fn announce(&self) {
        self.epoch.set(self.epoch.get() + 1);
        // They are woken, not run: nothing here is borrowed by anyone else.
        self.waiting.borrow().slots.iter().flatten().for_each(Waker::wake_by_ref);
    }

    /// One that sees what changes from now on.
    pub fn follow(&self) -> Follower<'_> {
        Follower { changes: self, seen: self.epoch.get(), slot: None }
    }
}

impl Follower<'_> {
    /// Ready once after each change.
    pub fn poll_changed(&mut self, cx: &Context<'_>) -> Poll<()> {
        let epoch = self.changes.epoch.get();
        if self.seen != epoch {
            self.seen = epoch;
            return Poll::Ready(());
        }
        let waiting = &mut *self.changes.waiting.borrow_mut();
        let slot = *self.slot.get_or_insert_with(|| {
            waiting.free.pop().unwrap_or_else(|| {
                waiting.slots.push(None);
                waiting.slots.len() - 1
            })
        });
        if let Some(waker) = waiting.slots.get_mut(slot)
            && !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Returns after the next change. Cancel-safe.
    pub async fn changed(&mut self) {
        std::future::poll_fn(|cx| self.poll_changed(cx)).await;
    }
}

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        let waiting = &mut *self.changes.waiting.borrow_mut();
        if let Some(waker) = waiting.slots.get_mut(slot) {
            *waker = None;
            waiting.free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn tells_each_follower_once_and_only_of_what_came_after_it() {
        let changes = Changes::default();
        changes.announce();
        let (mut one, mut other) = (changes.follow(), changes.follow());
        assert!(one.changed().now_or_never().is_none());
        changes.announce();
        changes.announce();
        assert!(one.changed().now_or_never().is_some());
        assert!(one.changed().now_or_never().is_none());
        assert!(other.changed().now_or_never().is_some());
    }

    #[test]
    fn gives_the_place_of_one_that_left_to_the_next() {
        let changes = Changes::default();
        for _ in 0..3 {
            let mut follower = changes.follow();
            assert!(follower.changed().now_or_never().is_none());
        }
        let waiting = changes.waiting.borrow();
        assert_eq!((waiting.slots.len(), waiting.free.len()), (1, 1));
    }
}
