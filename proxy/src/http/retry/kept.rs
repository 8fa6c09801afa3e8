//! What is kept of a request so that it can be sent once more.
//!
//! Nothing waits for a body to be whole: a try passes on what comes, and what comes is kept beside it while it is short enough
//! ([`Tee`]). The next try gets first what is kept, and then what still comes. Only the latest try reads on; one of before, whose
//! connection has not noticed its end, reads an error.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Uri};
use http_body::{Body, Frame, SizeHint};

use crate::http::body::{Broken, Progress, Received, RequestBody};
use crate::http::standing::Standing;

/// A request that may be sent once more.
#[derive(Debug)]
pub struct Kept {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// `None` = it has no body.
    body: Option<Rc<Tee>>,
}

impl Kept {
    /// Keeps a head, beside its body.
    pub fn new(parts: &Parts, body: Option<Rc<Tee>>) -> Self {
        let Parts { method, uri, headers, .. } = parts;
        Self { method: method.clone(), uri: uri.clone(), headers: headers.clone(), body }
    }

    /// Whether all that was sent is kept; with `all`, whether that is the whole request besides.
    pub fn is_whole(&self, all: bool) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_whole(all))
    }

    /// The request once more.
    pub fn request(&self, standing: Option<&Rc<Standing>>) -> (Request<RequestBody>, Option<Rc<Progress>>) {
        let (body, progress) = RequestBody::again(self.body.as_ref(), standing);
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        (request, progress)
    }
}

impl Drop for Kept {
    /// There will be no other try: what the last one still passes on is kept no longer.
    fn drop(&mut self) {
        if let Some(body) = &self.body {
            body.0.borrow_mut().lose();
        }
    }
}

/// A body that is kept while it passes.
#[derive(Debug)]
pub struct Tee(RefCell<Passing>);

#[derive(Debug)]
struct Passing {
    source: Received,
    /// As it was before anything was read.
    hint: SizeHint,
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    max: usize,
    /// Not all that was read is kept: there is more than may be, the downstream broke off, or nobody needs it any more.
    lost: bool,
    ended: bool,
    /// Bytes taken from the downstream.
    taken: u64,
    /// Which replay reads.
    current: u32,
    /// How much of what is kept it has read.
    given: usize,
    /// It has read the trailers.
    given_trailers: bool,
}

impl Tee {
    /// Keeps at most `max` bytes.
    pub fn new(source: Received, max: usize) -> Rc<Self> {
        let (hint, ended) = (source.size_hint(), source.is_end_stream());
        Rc::new(Self(RefCell::new(Passing {
            source,
            hint,
            data: Vec::new(),
            trailers: None,
            max,
            lost: false,
            ended,
            taken: 0,
            current: 0,
            given: 0,
            given_trailers: false,
        })))
    }

    /// The body from its beginning. Whoever reads it so far reads it no longer.
    pub fn replay(self: &Rc<Self>) -> Replay {
        let mut passing = self.0.borrow_mut();
        passing.current += 1;
        passing.given = 0;
        passing.given_trailers = false;
        Replay { tee: Rc::clone(self), number: passing.current }
    }

    /// Bytes taken from the downstream.
    pub fn taken(&self) -> u64 {
        self.0.borrow().taken
    }

    fn is_whole(&self, all: bool) -> bool {
        let passing = self.0.borrow();
        !passing.lost && (passing.ended || !all)
    }
}

impl Passing {
    /// Keeps nothing from now on but what has not been read.
    fn lose(&mut self) {
        self.lost = true;
        if self.given == self.data.len() {
            self.data = Vec::new();
            self.given = 0;
        }
    }

    /// What is kept and has not been read.
    fn unread(&mut self) -> Option<Frame<Bytes>> {
        if let Some(unread) = self.data.get(self.given..).filter(|unread| !unread.is_empty()) {
            let unread = Bytes::copy_from_slice(unread);
            self.given = self.data.len();
            if self.lost {
                self.lose();
            }
            return Some(Frame::data(unread));
        }
        let trailers = self.trailers.as_ref().filter(|_| !self.given_trailers)?;
        self.given_trailers = true;
        Some(Frame::trailers(trailers.clone()))
    }

    fn keep(&mut self, frame: Option<&Result<Frame<Bytes>, Broken>>) {
        match frame {
            None => self.ended = true,
            Some(Err(_)) => self.lose(),
            Some(Ok(frame)) => {
                self.taken += frame.data_ref().map_or(0, Bytes::len) as u64;
                if let Some(data) = frame.data_ref().filter(|_| !self.lost) {
                    match self.data.len() + data.len() <= self.max {
                        true => self.data.extend_from_slice(data),
                        false => self.lose(),
                    }
                }
                self.given = self.data.len();
                if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = Some(trailers.clone()).filter(|_| !self.lost);
                    self.given_trailers = true;
                }
                self.ended = self.source.is_end_stream() || frame.is_trailers();
            }
        }
    }
}

/// One reading of a body that is kept.
#[derive(Debug)]
pub struct Replay {
    tee: Rc<Tee>,
    number: u32,
}

impl Replay {
    /// The next frame; not for one that [`Replay::is_over`].
    pub fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let passing = &mut *self.tee.0.borrow_mut();
        if let Some(frame) = passing.unread() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if passing.ended {
            return Poll::Ready(None);
        }
        let mut frame = ready!(Pin::new(&mut passing.source).poll_frame(cx));
        passing.source.sanitise(&mut frame);
        passing.keep(frame.as_ref());
        Poll::Ready(frame)
    }

    /// A later try has taken over.
    pub fn is_over(&self) -> bool {
        self.tee.0.borrow().current != self.number
    }

    /// As [`Body::is_end_stream`].
    pub fn is_end_stream(&self) -> bool {
        let passing = self.tee.0.borrow();
        let unread = passing.data.len() > passing.given || (passing.trailers.is_some() && !passing.given_trailers);
        passing.ended && !unread
    }

    /// As [`Body::size_hint`]; at the beginning always the same, so that every try is framed in the same way.
    pub fn size_hint(&self) -> SizeHint {
        let passing = self.tee.0.borrow();
        let begun = passing.given > 0 || (passing.lost && passing.taken > 0);
        if begun { SizeHint::new() } else { passing.hint }
    }

    /// Bytes that were taken from the downstream by whichever try.
    pub fn taken(&self) -> u64 {
        self.tee.taken()
    }
}
