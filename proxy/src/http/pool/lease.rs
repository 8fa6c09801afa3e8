//! What a request holds of an upstream while it is at work.

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Http1, IDLE_MAX, Idle, RETIRED_AT, Slot};
use crate::circuit::Use;
use crate::http::body::{Progress, RequestBody};
use crate::sessions::Session;

/// The use of an upstream connection by one request.
#[derive(Debug)]
pub struct Lease {
    kind: Kind,
    /// The request, among its endpoint's.
    request: Option<Use>,
}

#[derive(Debug)]
enum Kind {
    Whole { slot: Rc<Slot>, connection: Http1, progress: Option<Rc<Progress>> },
    Stream { _held: Rc<()> },
    Alone { _sender: http1::SendRequest<RequestBody> },
    Switched(Switched),
}

/// An upstream connection that speaks HTTP no more.
pub struct Switched {
    /// What it is now.
    pub io: Box<dyn Io>,
    /// What was read of it behind the 101.
    pub early: Bytes,
    /// What it stands on.
    pub footing: Footing,
}

/// What a connection outside of the pool stands on for as long as it lasts.
#[derive(Debug)]
pub struct Footing {
    /// Who is at the other end, where that was proved.
    pub session: Option<Rc<Session>>,
    /// Its place among its endpoint's.
    pub held: Use,
    /// That of the request that it begins with, and whose tunnel it is; `None` until there is one.
    pub request: Option<Use>,
}

/// A stream of bytes, whatever it is made of.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<I: AsyncRead + AsyncWrite + Unpin> Io for I {}

impl fmt::Debug for Switched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switched").field("early", &self.early.len()).finish_non_exhaustive()
    }
}

impl Lease {
    /// An HTTP/1.1 connection, which can carry the next request once this one's body has gone up and its answer has come down.
    pub fn whole(slot: &Rc<Slot>, connection: Http1, progress: Option<Rc<Progress>>) -> Self {
        Self::of(Kind::Whole { slot: Rc::clone(slot), connection, progress })
    }

    fn of(kind: Kind) -> Self {
        Self { kind, request: None }
    }

    /// Whether it is a stream of HTTP/2.
    pub fn is_stream(&self) -> bool {
        matches!(self.kind, Kind::Stream { .. })
    }

    /// An HTTP/1.1 connection that no other request will ever use.
    pub fn alone(sender: http1::SendRequest<RequestBody>) -> Self {
        Self::of(Kind::Alone { _sender: sender })
    }

    /// A connection that was switched to another protocol.
    pub fn switched(switched: Switched) -> Self {
        Self::of(Kind::Switched(switched))
    }

    /// The connection itself, if it was switched.
    pub fn into_switched(self) -> Option<Switched> {
        match self.kind {
            Kind::Switched(switched) => {
                let footing = Footing { request: self.request, ..switched.footing };
                Some(Switched { footing, ..switched })
            }
            _ => None,
        }
    }

    pub(super) fn stream(streams: &Rc<()>) -> Self {
        Self::of(Kind::Stream { _held: Rc::clone(streams) })
    }

    /// Holds the place of its request among its endpoint's, too.
    #[must_use]
    pub fn counted(self, request: Use) -> Self {
        Self { request: Some(request), ..self }
    }

    /// Takes a part of its answer.
    pub fn take<T>(&self, body: &mut Incoming, take: impl FnOnce(&mut Incoming) -> T) -> T {
        match &self.kind {
            Kind::Whole { connection, .. } => connection.bell.take(body, take),
            _ => take(body),
        }
    }

    /// Gives the connection back for the next request. A connection whose request is still going up is closed instead: what
    /// is left of that body must not be read as a request.
    pub fn release(self) {
        let Kind::Whole { slot, mut connection, progress } = self.kind else { return };
        let sent = progress.is_none_or(|progress| progress.ended.get());
        // An orderly end, if it is one.
        connection.busy = !sent;
        let mut idle = slot.idle.borrow_mut();
        let is_current = connection.origin.generation >> RETIRED_AT == slot.retired.get();
        let now = slot.clock.get();
        if sent && is_current && connection.is_fresh(now) && idle.len() < IDLE_MAX {
            idle.push(Idle { connection, since: now });
        }
    }
}
