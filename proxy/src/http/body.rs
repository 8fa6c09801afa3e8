//! Bodies stream through: no frame is kept, each is only counted. There are two exceptions: an external authorization may have to
//! see the beginning of a request's body; then that is read first and goes upstream before the rest. And what a request that may be sent again
//! has sent is kept beside it, see [`retry`](crate::http::retry). The response body carries the request's [`Report`](crate::report::Report) and what it
//! holds of the upstream ([`Held`]), because it is what ends last.

mod answer;
mod messages;

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use meshgate_policy::Authentication;
use tokio::time::Instant;

use crate::http::idle::Coming;
use crate::http::retry::{Replay, Tee};
use crate::http::standing::Standing;
use crate::http::{expect, headers};
pub use answer::{Held, ResponseBody};
pub use messages::Messages;

/// How far a request body has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes taken from the downstream.
    pub bytes: Cell<u64>,
    /// The whole body was taken.
    pub ended: Cell<bool>,
    /// The upstream takes more than there is.
    pub waits: Cell<bool>,
    /// When a part of it was last taken.
    pub moved: Cell<Option<Instant>>,
    /// The gRPC messages in it, where they are counted.
    pub messages: Cell<Option<Messages>>,
    standing: Option<Rc<Standing>>,
}

impl Progress {
    fn begin(standing: Option<&Rc<Standing>>, bytes: u64) -> Rc<Self> {
        Rc::new(Self { bytes: Cell::new(bytes), standing: standing.cloned(), ..Self::default() })
    }
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The other side of it did.
    #[error(transparent)]
    Off(#[from] hyper::Error),
    /// It ends without END_STREAM. hyper takes a reset or a GOAWAY that says NO_ERROR for an end like any other; whoever is told so
    /// would take a part for the whole.
    #[error("reset without an error before its end")]
    Short,
    /// A new configuration ends the exchange.
    #[error("permission withdrawn")]
    Withdrawn,
    /// It took longer than it may. HTTP/2 says so as CANCEL: nobody waits for it any more.
    #[error("deadline exceeded")]
    Late(#[source] h2::Error),
    /// It takes too long.
    #[error("took too long")]
    Over,
    /// The request is sent to another upstream instead.
    #[error("sent to another upstream")]
    Superseded,
}

/// A request body as the downstream sends it.
#[derive(Debug)]
pub struct Received {
    /// What was read of it ahead of time.
    read: Option<Box<Read>>,
    rest: Incoming,
    http2: bool,
    /// Whose headers its trailers may not have either.
    tokens: Option<Arc<Authentication>>,
    /// To be told when all has been taken.
    coming: Option<Coming>,
}

#[derive(Debug, Default)]
struct Read {
    data: Bytes,
    trailers: Option<HeaderMap>,
    /// There is no rest.
    ended: bool,
}

impl Received {
    /// Nothing of it is read yet; it comes over this version of HTTP, and `coming` is told when all has been taken.
    pub fn new(rest: Incoming, version: Version, coming: Option<Coming>) -> Self {
        Self { read: None, rest, http2: version == Version::HTTP_2, tokens: None, coming }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = poll_whole(&mut self.rest, self.http2, cx);
        let ended = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || self.rest.is_end_stream(),
            _ => false,
        };
        if ended && let Some(coming) = self.coming.take() {
            coming.ended();
        }
        frame
    }

    /// Keeps out of the trailers what only a good token may put into a request's headers: many servers take one for the other.
    pub fn reserve(&mut self, tokens: &Arc<Authentication>) {
        if !self.is_end_stream() {
            self.tokens = Some(Arc::clone(tokens));
        }
    }

    /// Takes out of a frame of trailers what is reserved.
    pub fn sanitise(&self, frame: &mut Option<Result<Frame<Bytes>, Broken>>) {
        if let (Some(tokens), Some(Ok(frame))) = (&self.tokens, frame)
            && let Some(trailers) = frame.trailers_mut()
        {
            tokens.remove_reserved(trailers);
        }
    }

    /// What has not been read yet.
    pub fn into_rest(self) -> Incoming {
        self.rest
    }

    /// Reads ahead until there are more than `max` bytes, or all. Says what there is, and whether it is all; it will go
    /// upstream as if nobody had looked. More than `max` are kept by at most one frame.
    ///
    /// # Errors
    /// The downstream's.
    pub async fn read_ahead(&mut self, max: usize) -> Result<(Bytes, bool), Broken> {
        let mut data = Vec::new();
        let mut read = Read::default();
        while data.len() <= max {
            match std::future::poll_fn(|cx| self.poll_rest(cx)).await {
                None => read.ended = true,
                Some(frame) => match frame?.into_data() {
                    Ok(more) => data.extend_from_slice(&more),
                    Err(other) => {
                        read.trailers = other.into_trailers().ok();
                        read.ended = true;
                    }
                },
            }
            if read.ended {
                break;
            }
        }
        read.data = Bytes::from(data);
        let (data, ended) = (read.data.clone(), read.ended);
        self.read = Some(Box::new(read));
        Ok((data, ended))
    }
}

/// The next frame of a body, whose end is one.
fn poll_whole(body: &mut Incoming, http2: bool, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
    let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
    if frame.is_none() && http2 && !body.is_end_stream() {
        return Poll::Ready(Some(Err(Broken::Short)));
    }
    Poll::Ready(frame.map(|frame| frame.map_err(Broken::Off)))
}

impl Body for Received {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(read) = &mut self.read {
            if !read.data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut read.data)))));
            }
            if let Some(trailers) = read.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if read.ended {
                return Poll::Ready(None);
            }
        }
        self.poll_rest(cx)
    }

    fn is_end_stream(&self) -> bool {
        match &self.read {
            None => self.rest.is_end_stream(),
            Some(read) => read.data.is_empty() && read.trailers.is_none() && (read.ended || self.rest.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let Some(read) = &self.read else { return self.rest.size_hint() };
        let ahead = read.data.len() as u64;
        if read.ended {
            return SizeHint::with_exact(ahead);
        }
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

/// A request body on its way upstream.
#[derive(Debug)]
pub struct RequestBody {
    inner: Sent,
    progress: Option<Rc<Progress>>,
    /// Nobody has asked for it yet.
    held: Option<Box<expect::Held>>,
}

#[derive(Debug)]
enum Sent {
    Received(Received),
    /// What is received, or was before.
    Kept(Replay),
    Own(Option<Bytes>),
}

impl RequestBody {
    /// Wraps what the downstream sends; the progress is `None` when there is no body.
    pub fn new(inner: Received, standing: Option<&Rc<Standing>>) -> (Self, Option<Rc<Progress>>) {
        let progress = (!inner.is_end_stream()).then(|| Progress::begin(standing, 0));
        (Self { inner: Sent::Received(inner), progress: progress.clone(), held: None }, progress)
    }

    /// What is kept of a body, from its beginning, and then what still comes; without a body, none.
    pub fn again(tee: Option<&Rc<Tee>>, standing: Option<&Rc<Standing>>) -> (Self, Option<Rc<Progress>>) {
        let Some(tee) = tee else { return (Self::own(Bytes::new()), None) };
        let progress = Progress::begin(standing, tee.taken());
        (Self { inner: Sent::Kept(tee.replay()), progress: Some(Rc::clone(&progress)), held: None }, Some(progress))
    }

    /// The body of a request of our own.
    pub fn own(bytes: Bytes) -> Self {
        Self { inner: Sent::Own((!bytes.is_empty()).then_some(bytes)), progress: None, held: None }
    }

    /// What the downstream has not been asked for yet, of a body that nothing is kept of.
    pub fn into_rest(self) -> Option<Incoming> {
        match self.inner {
            Sent::Received(received) if !received.is_end_stream() => Some(received.into_rest()),
            _ => None,
        }
    }

    /// Is not asked for before then.
    pub fn hold(&mut self, held: expect::Held) {
        self.held = Some(Box::new(held));
    }

    fn count(&self, frame: &Option<Result<Frame<Bytes>, Broken>>) {
        let Some(progress) = &self.progress else { return };
        match frame {
            Some(Ok(frame)) => {
                progress.bytes.set(match &self.inner {
                    Sent::Kept(replay) => replay.taken(),
                    _ => progress.bytes.get() + frame.data_ref().map_or(0, Bytes::len) as u64,
                });
                if let (Some(mut messages), Some(data)) = (progress.messages.get(), frame.data_ref()) {
                    messages.feed(data);
                    progress.messages.set(Some(messages));
                }
                progress.ended.set(frame.is_trailers() || self.is_end_stream());
                progress.moved.set(Some(Instant::now()));
            }
            None => progress.ended.set(true),
            Some(Err(_)) => {}
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        // First, so that it does not take the place of the try that has taken over, here or where it waits to be told.
        if let Sent::Kept(replay) = &self.inner
            && replay.is_over()
        {
            return Poll::Ready(Some(Err(Broken::Superseded)));
        }
        if let Some(standing) = self.progress.as_ref().and_then(|progress| progress.standing.as_ref())
            && standing.poll_upload(cx).is_ready()
        {
            return Poll::Ready(Some(Err(Broken::Withdrawn)));
        }
        if let Some(held) = &mut self.held {
            std::task::ready!(held.poll(cx));
            self.held = None;
        }
        let frame = match &mut self.inner {
            Sent::Received(received) => Pin::new(&mut *received).poll_frame(cx).map(|mut frame| {
                received.sanitise(&mut frame);
                frame
            }),
            Sent::Kept(replay) => replay.poll_frame(cx),
            Sent::Own(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        };
        if let Some(progress) = &self.progress {
            progress.waits.set(frame.is_pending());
        }
        let mut frame = std::task::ready!(frame);
        sanitise(&mut frame);
        self.count(&frame);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Sent::Received(received) => received.is_end_stream(),
            Sent::Kept(replay) => replay.is_end_stream(),
            Sent::Own(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Sent::Received(received) => received.size_hint(),
            Sent::Kept(replay) => replay.size_hint(),
            Sent::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

fn sanitise(frame: &mut Option<Result<Frame<Bytes>, Broken>>) {
    if let Some(Ok(frame)) = frame
        && let Some(trailers) = frame.trailers_mut()
    {
        headers::sanitise_trailers(trailers);
    }
}
