//! The end of a line.

use std::rc::Rc;
use std::time::Duration;

use crate::access_log::{Line, Sink, field};
use crate::report::NO_FLAGS;
use crate::worker::WorkerRef;

/// What every line ends with.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    /// The status sent downstream; `None` for TCP.
    pub code: Option<u16>,
    /// The gRPC status, where gRPC is spoken.
    pub grpc: Option<&'static str>,
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
        let went_wrong = self.flags != NO_FLAGS
            || self.code.is_some_and(|code| code >= 400)
            || self.grpc.is_some_and(|status| status != "0");
        if !worker.access_log.takes(went_wrong) {
            return worker.access_log.discard(line);
        }
        if let Some(status) = self.grpc {
            line.word(field!("grpc_status"), status);
        }
        if let Some(code) = self.code {
            line.number(field!("response_code"), u64::from(code));
        }
        line.word(field!("response_flags"), self.flags);
        line.number(field!("bytes_received"), self.received);
        line.number(field!("bytes_sent"), self.sent);
        line.millis(field!("duration"), duration);
        Sink::end(Rc::clone(worker), line);
    }
}
