//! Stop new, finish old: the phases of the end, seen by every task that holds a [`Drain`].

use tokio::sync::watch;

use crate::worker::Worker;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Inbound takes no new connections; open ones finish what they are at. Outbound goes on, because the application
    /// may still need it to end properly.
    Draining,
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

/// Runs a step of a connection that has not been given any work yet; `None` when the drain reaches `phase` first. What is
/// ready at once still counts.
pub async fn before<T>(worker: &Worker, phase: Phase, step: impl Future<Output = T>) -> Option<T> {
    let mut drain = worker.drain.clone();
    tokio::select! {
        biased;
        done = step => Some(done),
        () = drain.reached(phase) => None,
    }
}
