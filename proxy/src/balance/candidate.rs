//! One endpoint that may be tried, and one try of it.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use meshgate_config::Remote;

use crate::error::ErrorKind;
use crate::http::pool::Slot;

/// A way to an endpoint, as a route has it.
#[derive(Debug)]
pub struct Candidate {
    slot: Rc<Slot>,
    remote: Option<Arc<Remote>>,
}

/// How a try went, as far as it says something about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status.
    Answered(u16),
    /// It took the connection; more is not known of what is no HTTP.
    Connected,
    /// There was no answer.
    Failed(ErrorKind),
}

/// One try. Held until its answer has ended; dropped without an outcome it says nothing about the endpoint.
#[derive(Debug)]
pub struct Attempt {
    candidate: Rc<Candidate>,
}

/// What a choice among endpoints may go by.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The caller's address.
    pub source: IpAddr,
    /// The request's headers, if it is one.
    pub headers: Option<&'a HeaderMap>,
}

impl Candidate {
    /// A way to an endpoint of which no account is kept, such as the local application.
    pub fn new(slot: Rc<Slot>, remote: Option<Arc<Remote>>) -> Rc<Self> {
        Rc::new(Self { slot, remote })
    }

    /// Its connections.
    pub fn slot(&self) -> &Rc<Slot> {
        &self.slot
    }

    /// Where it is, if not in this cluster.
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.as_ref()
    }

    /// Begins a try.
    pub fn begin(self: &Rc<Self>) -> Attempt {
        Attempt { candidate: Rc::clone(self) }
    }
}

impl Attempt {
    /// What is tried.
    pub fn candidate(&self) -> &Rc<Candidate> {
        &self.candidate
    }

    /// Says how it went. An answer's body may still be coming; the try ends when this is dropped.
    pub fn went(&self, outcome: Outcome) {
        tracing::trace!(upstream = self.candidate.slot.label(), ?outcome, "attempt");
    }
}
