//! A connection that carries one request at a time.

use std::rc::Rc;

use hyper::client::conn::http1;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Origin;
use crate::http::body::RequestBody;
use crate::http::guard::http1::Signals;

/// An HTTP/1.1 connection. Dropped while a request is on it, it is closed at once: whoever does not read what is left of an
/// answer, or write what is left of a request, will not take part in an orderly end either.
#[derive(Debug)]
pub struct Http1 {
    /// Where requests are given to it.
    pub sender: http1::SendRequest<RequestBody>,
    /// To and from the guard of its answers.
    pub signals: Rc<Signals>,
    pub(super) origin: Origin,
    pub(super) retires: Option<Instant>,
    pub(super) task: AbortHandle,
    /// A request is on it.
    pub(super) busy: bool,
}

impl Http1 {
    /// Whether it takes another request.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.origin.is_good() && !self.sender.is_closed() && self.retires.is_none_or(|retires| now < retires)
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        if self.busy {
            self.task.abort();
        }
    }
}
