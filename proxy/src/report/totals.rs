//! The end of a line.

use std::rc::Rc;
use std::time::Duration;

use crate::access_log::{Line, Sink};
use crate::worker::WorkerRef;

/// What every line ends with.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    /// The status sent downstream; `None` for TCP.
    pub code: Option<u16>,
    /// Envoy's letters.
    pub flags: &'static str,
    /// Bytes from the downstream.
    pub received: u64,
    /// Bytes to the downstream.
    pub sent: u64,
}

impl Totals {
    /// Ends the line.
    pub fn finish(self, worker: &WorkerRef, mut line: Line, duration: Duration) {
        if let Some(code) = self.code {
            line.number("response_code", u64::from(code));
        }
        line.text("response_flags", self.flags);
        line.number("bytes_received", self.received);
        line.number("bytes_sent", self.sent);
        line.millis("duration", duration);
        Sink::end(Rc::clone(worker), line);
    }
}
