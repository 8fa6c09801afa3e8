//! A connection that carries one request at a time, and what a connection was made under.

use std::rc::Rc;

use hyper::client::conn::http1;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::http::body::RequestBody;
use crate::http::guard::http1::Signals;
use crate::sessions::Session;

/// What a connection was made under.
#[derive(Debug)]
pub struct Origin {
    pub(super) generation: u64,
    session: Option<Rc<Session>>,
}

impl Origin {
    /// Of this [`Slot::generation`](super::Slot::generation), and resting on this session.
    pub fn new(generation: u64, session: Option<Rc<Session>>) -> Self {
        Self { generation, session }
    }

    /// Whether the other end is still who it was: its certificate ends before its connections do.
    pub(super) fn is_good(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.is_good())
    }
}

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
