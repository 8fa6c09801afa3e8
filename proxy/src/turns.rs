//! Handshakes one after the other, with everything else that is ready between two of them.
//!
//! The one idea: a handshake keeps its worker for longer than dozens of requests do, and hundreds of callers may come in one
//! instant. Each waits for a turn of the worker's loop to begin in, so that a request that is ready waits for one handshake and not for all
//! of them. Nobody is refused here, and where few come it costs one more look at the sockets.

use tokio::sync::Semaphore;

/// A worker's handshakes.
#[derive(Debug)]
pub struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl Turns {
    /// Waits for its turn, in the order of asking.
    pub async fn turn(&self) {
        // Nobody closes it.
        let Ok(_turn) = self.0.acquire().await else { return };
        // Goes on behind whatever was ready, and the sockets have been looked at again.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn between_two_of_many_handshakes_others_get_their_turn() {
        crate::runtime::local().unwrap().block_on(async {
            let (turns, begun) = (Rc::new(Turns::default()), Rc::<Cell<u32>>::default());
            for _ in 0..100 {
                let (turns, begun) = (Rc::clone(&turns), Rc::clone(&begun));
                tokio::task::spawn_local(async move {
                    turns.turn().await;
                    begun.set(begun.get() + 1);
                });
            }
            let mut seen = 0;
            while seen < 100 {
                tokio::task::yield_now().await;
                assert!(begun.get() <= seen + 1, "{} have begun since {seen}", begun.get());
                seen = begun.get();
            }
        });
    }
}
