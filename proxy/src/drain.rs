//! Stop new, finish old: the phases of the end, seen by every task that holds a [`Drain`].

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::worker::Worker;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Inbound takes no new connections; open ones finish what they are at. Outbound goes on, because the application
    /// may still need it to end properly.
    Draining,
    /// As before; and a worker on which no connection is left ends.
    Leaving,
    /// Time is over: everything ends now.
    Ended,
}

/// Starts the phases; held by the one who decides.
#[derive(Debug)]
pub struct Controller(watch::Sender<State>);

/// Sees the phases; cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    phase: Phase,
    /// Another process takes the new connections, on every side.
    handed_over: bool,
}

/// A controller and what it controls.
pub fn channel() -> (Controller, Drain) {
    let (sender, receiver) = watch::channel(State { phase: Phase::Running, handed_over: false });
    (Controller(sender), Drain(receiver))
}

impl Controller {
    /// Moves on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let later = phase > current.phase;
            if later {
                current.phase = phase;
            }
            later
        });
    }

    /// From here on no listener is accepted on, outbound ones included. Connections notice nothing of that.
    pub fn hand_over(&self) {
        self.0.send_modify(|current| current.handed_over = true);
    }
}

impl Drain {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.0.borrow().phase
    }

    /// Returns once `phase` is reached and it is `earliest`; at the end, at once. Cancel-safe.
    pub async fn reached_after(&mut self, phase: Phase, earliest: Instant) {
        self.reached(phase).await;
        if phase != Phase::Ended && earliest > Instant::now() {
            tokio::select! {
                () = self.reached(Phase::Ended) => {}
                () = sleep_until(earliest) => {}
            }
        }
    }

    /// Returns once `phase` is reached; at once if it was already. Cancel-safe.
    pub async fn reached(&mut self, phase: Phase) {
        // A controller that is gone can't say stop any more; that happens only as the process ends.
        let _ = self.0.wait_for(|current| current.phase >= phase).await;
    }

    /// Returns once a listener that is accepted on until `phase` is no longer: then, or when another process has it. Cancel-safe.
    pub async fn closed(&mut self, phase: Phase) {
        // As above.
        let _ = self.0.wait_for(|current| current.phase >= phase || current.handed_over).await;
    }
}

/// How long a connection that is at nothing is kept once the drain has begun. What is asked of it in that time is served: whoever
/// asks has not been told yet, and one whose request crosses the end of a connection cannot know whether it was taken. Long
/// against the way between two pods and against the time between two requests of a busy caller, short against the seconds that
/// a process has to end.
pub const LAST_CALL: Duration = Duration::from_secs(1);

/// Runs a step of a connection that has not been given any work yet; `None` when the drain has reached `phase` first, and has
/// gone on for [`LAST_CALL`] where that is not the end. What is ready at once still counts.
pub async fn before<T>(worker: &Worker, phase: Phase, step: impl Future<Output = T>) -> Option<T> {
    let mut drain = worker.drain.clone();
    let over = async {
        drain.reached(phase).await;
        drain.reached_after(phase, Instant::now() + LAST_CALL).await;
    };
    tokio::select! {
        biased;
        done = step => Some(done),
        () = over => None,
    }
}
