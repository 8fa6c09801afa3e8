//! What a command is waiting for, said while it takes more than a second.
//!
//! The one idea: a line on standard error that is written over every second and gone at the end, and only where a person sees it:
//! on a terminal. Nothing of it is ever in a log or a pipe.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Who waits no longer than this does not wonder; after it the line is new every so often, to show that something lives.
const PATIENCE: Duration = Duration::from_secs(1);

/// Goes back to the beginning of the line and empties it.
const EMPTY_LINE: &str = "\r\u{1b}[K";

/// Shown until it is dropped.
pub(super) struct Progress {
    shown: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Says `what` after a second, and for how long it has been going on.
    pub(super) fn new(what: impl Into<String>) -> Self {
        let stderr = std::io::stderr();
        Self { shown: (stderr.is_terminal() && !super::is_dumb()).then(|| show(what.into())).flatten() }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((ended, thread)) = self.shown.take() {
            drop(ended);
            // It does nothing that could fail, and a line too many would be no harm.
            let _ = thread.join();
        }
    }
}

/// A thread of its own: what takes long reads files, computes or waits, and has no moments to spare. Without one there is no line.
fn show(what: String) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (ended, told) = mpsc::channel::<()>();
    let lines = move || {
        let mut seconds = 0;
        while told.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            seconds += 1;
            let _ = write!(std::io::stderr(), "{EMPTY_LINE}{what} ({seconds} s)");
        }
        if seconds > 0 {
            let _ = write!(std::io::stderr(), "{EMPTY_LINE}");
        }
    };
    let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(lines).ok()?;
    Some((ended, thread))
}
