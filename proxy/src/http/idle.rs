//! When was a connection last of use? One timer a connection instead of several a request.
//!
//! hyper's own header time-out also runs while a kept-alive connection rests between requests, and sets a timer for each head.
//! Here it is only noted what happens (first byte of a head, request in flight, all answered); the connection's single timer
//! looks at it when it fires, and asks the clock. So a rest is measured from the first look at it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http::body::Progress;
use crate::http::guard::http1::Signals;
use crate::http::stall::{Flow, Flows, Over, Patience};
use crate::http::standing::{Head, InProgress, Standing};
use crate::http::upgrade::Switch;
use crate::open::Place;

/// What a request that is over gets to answer or to break off, before its connection is looked at again.
const TURN: Duration = Duration::from_millis(10);

/// What a downstream HTTP connection is at.
#[derive(Debug)]
pub struct Activity {
    /// Where its requests are counted, for others to see as well.
    place: Arc<Place>,
    in_head: Cell<bool>,
    /// Since when a head of HTTP/2 has been coming, which keeps everything else of its connection waiting.
    in_block: Cell<Option<Instant>>,
    /// All that HTTP/1 had to say has gone out.
    flushed: Cell<bool>,
    /// The number of the request whose body may still be coming; 0 is none.
    coming: Cell<u32>,
    in_progress: Rc<InProgress>,
    signals: Rc<Signals>,
    /// Where a request leaves what its connection is to go on with.
    switch: Weak<Switch>,
    flows: Rc<Flows>,
    /// Whatever is answered next is the last.
    last: Cell<bool>,
    /// Since when the peer takes nothing of what is there for it.
    blocked: Cell<Option<Instant>>,
    /// Since when nothing has happened; `None` when something has and the clock was not asked.
    since: Cell<Option<Instant>>,
}

/// A request in flight; its drop is the end of the answer.
#[derive(Debug)]
pub struct InFlight {
    activity: Rc<Activity>,
    standing: Option<Rc<Standing>>,
    flow: Flow,
}

/// How long a connection may be at what it is at.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A request's head.
    pub head: Duration,
    /// Nothing.
    pub idle: Duration,
    /// Requests.
    pub patience: Patience,
}

/// A request's body that is coming.
#[derive(Debug)]
pub struct Coming {
    activity: Rc<Activity>,
    request: u32,
}

impl Coming {
    /// It was taken to its end. One that is given up instead leaves its connection in the middle of a message.
    pub fn ended(self) {
        if self.activity.coming.get() == self.request {
            self.activity.coming.set(0);
        }
    }
}

/// What to do when the timer fires.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Look again at this time.
    Later(Instant),
    /// A request head has been arriving for too long.
    SlowHead,
    /// Nothing was asked for too long.
    Idle,
    /// The peer has taken nothing for too long, or a request that is over cannot be ended but with its connection.
    Stuck,
}

impl Activity {
    /// A connection just opened.
    pub fn new(switch: &Rc<Switch>, place: &Arc<Place>) -> Rc<Self> {
        Rc::new(Self {
            place: Arc::clone(place),
            in_head: Cell::new(false),
            in_block: Cell::new(None),
            flushed: Cell::new(false),
            coming: Cell::new(0),
            in_progress: Rc::default(),
            signals: Rc::default(),
            switch: Rc::downgrade(switch),
            flows: Rc::default(),
            last: Cell::new(false),
            blocked: Cell::new(None),
            since: Cell::new(None),
        })
    }

    /// A request was read, at `started`; whether it `has_body`.
    pub fn request(self: &Rc<Self>, started: Instant, has_body: bool) -> InFlight {
        let number = self.place.request_begins();
        self.in_head.set(false);
        self.signals.request();
        self.flushed.set(false);
        // That its head was read says that what came before is complete.
        self.coming.set(if has_body { number } else { 0 });
        self.since.set(None);
        InFlight { activity: Rc::clone(self), standing: None, flow: self.flows.begin(started) }
    }

    /// Its requests in flight.
    pub fn flows(&self) -> &Rc<Flows> {
        &self.flows
    }

    /// A head of HTTP/2, or the connection's beginning, has not come whole yet; or now it has.
    pub fn within_head(&self, is_within: bool) {
        self.in_block.set(if is_within { self.in_block.get().or_else(|| Some(Instant::now())) } else { None });
    }

    /// Requests that were let in and are not over.
    pub fn in_progress(&self) -> &InProgress {
        &self.in_progress
    }

    /// To and from the guard of an HTTP/1 connection.
    pub fn signals(&self) -> &Rc<Signals> {
        &self.signals
    }

    /// The body of the request that was read last, as long as it comes.
    pub fn body(self: &Rc<Self>) -> Option<Coming> {
        (self.coming.get() != 0).then(|| Coming { activity: Rc::clone(self), request: self.coming.get() })
    }

    /// Whether an HTTP/1 connection stands between two messages: every request is answered and was taken to its end, the answers
    /// have gone out, and nothing of a next one was seen.
    pub fn is_between_messages(&self) -> bool {
        self.place.in_flight() == 0
            && self.coming.get() == 0
            && self.flushed.get()
            && self.signals.is_between_messages()
    }

    /// Whether a head of HTTP/1 has begun to come. One that came behind a body in the same piece is only seen by the guard.
    fn is_in_head(&self) -> bool {
        self.in_head.get() || self.signals.is_in_head()
    }

    /// The next answer is to be the last of an HTTP/1 connection.
    pub fn last(&self) {
        self.last.set(true);
    }

    /// Whether the next answer is to be the last.
    pub fn is_last(&self) -> bool {
        self.last.get()
    }

    /// Whether all is answered and nothing of a next request was seen, but the last one was not taken to its end, or its answer
    /// was not: what may still come of that is no request.
    pub fn is_left(&self) -> bool {
        self.place.in_flight() == 0 && !self.is_in_head() && !self.is_between_messages()
    }

    /// Since when nothing has happened, as far as it was noted.
    pub fn rests_since(&self) -> Instant {
        self.since.get().unwrap_or_else(Instant::now)
    }

    /// Whether the connection's time is over.
    pub fn due(&self, now: Instant, limits: Limits) -> Due {
        let Limits { head, idle, patience } = limits;
        if let Some(block) = self.in_block.get() {
            return if block + head <= now { Due::SlowHead } else { Due::Later(block + head) };
        }
        let since = self.since.get().unwrap_or(now);
        self.since.set(Some(since));
        let blocked = self.blocked.get().zip(patience.stream).map(|(since, stream)| since + stream);
        let (limit, over) = match (self.place.in_flight(), self.in_head.get()) {
            (0, true) => (since + head, Due::SlowHead),
            (0, false) => (since + idle, Due::Idle),
            _ => match self.flows.look(now, patience) {
                (_, true) => return Due::Stuck,
                // What has just been ended gets one more turn.
                (next, false) => (next.unwrap_or(now + idle).max(now + TURN), Due::Stuck),
            },
        };
        match blocked {
            Some(blocked) if blocked <= now => {
                self.flows.stall();
                Due::Stuck
            }
            _ if limit <= now => over,
            // A head or a request may begin at any moment and have the shorter limit, so never sleep past it.
            _ => {
                let shortest = [Some(head), patience.stream, patience.request].into_iter().flatten().min();
                let at = limit.min(now + shortest.unwrap_or(head));
                Due::Later(blocked.map_or(at, |blocked| blocked.min(at)))
            }
        }
    }

    /// A write has, or has not, found room.
    fn wrote(&self, room: bool) {
        match (room, self.blocked.get()) {
            (true, Some(_)) => self.blocked.set(None),
            (false, None) => self.blocked.set(Some(Instant::now())),
            _ => {}
        }
    }

    fn read_some(&self) {
        if self.place.in_flight() == 0 && !self.in_head.get() {
            self.since.set(None);
        }
    }

    /// More is waited for. A head that came whole in one read never gets here, and costs no look at the clock. One may have begun
    /// to come behind a request that was in flight then; and what comes behind an answer may still be its request's body.
    fn waits(&self) {
        let in_head = self.place.in_flight() == 0 && self.signals.is_in_head();
        if self.in_head.replace(in_head) != in_head {
            self.since.set(in_head.then(Instant::now));
        }
    }
}

impl InFlight {
    /// It was let in, and will be judged again by this head when the configuration changes.
    pub fn let_in(&mut self, head: Head) {
        self.standing = Some(self.activity.in_progress.add(head));
    }

    /// Why a new configuration ends it, if one does.
    pub fn withdrawn(&self) -> Option<&str> {
        let standing = self.standing.as_ref().and_then(|standing| standing.withdrawn());
        standing.or_else(|| self.activity.in_progress.ended())
    }

    /// More was read of its connection than its request, see [`Signals::is_ahead`].
    pub fn is_ahead(&self) -> bool {
        self.activity.signals.is_ahead()
    }

    /// What its connection carries from now on is no HTTP, see [`Signals::tunnel`].
    pub fn tunnel(&self) {
        self.activity.signals.tunnel();
    }

    /// Where it leaves what its connection is to go on with; `None` when nobody serves that any more.
    pub fn switch(&self) -> Option<Rc<Switch>> {
        self.activity.switch.upgrade()
    }

    /// A part of the answer has moved.
    pub fn moved(&self) {
        self.activity.flows.moved(self.flow);
    }

    /// Its body is on its way upstream.
    pub fn uploads(&self, upload: Option<&Rc<Progress>>) {
        self.activity.flows.uploads(self.flow, upload);
    }

    /// Why it is over before its answer is whole, if it is.
    pub fn over(&self) -> Option<Over> {
        self.activity.flows.over(self.flow)
    }

    /// Of one that was let in.
    pub fn standing(&self) -> Option<&Rc<Standing>> {
        self.standing.as_ref()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.place.request_ends();
        self.activity.since.set(None);
        self.activity.flows.end(self.flow);
    }
}

/// A stream whose reads are noted, and writes that find no room. HTTP/2 reads frames that are no requests, so only HTTP/1
/// streams are watched for heads; those of HTTP/2 are told by their [`guard`](crate::http::guard::http2).
pub struct Watched<I> {
    inner: I,
    activity: Rc<Activity>,
    heads: bool,
    closing: bool,
}

impl<I> Watched<I> {
    /// Notes what becomes of `inner`, and whether what is read of it are heads.
    pub fn new(inner: I, activity: Rc<Activity>, heads: bool) -> Self {
        Self { inner, activity, heads, closing: false }
    }

    fn noted<T>(&self, written: Poll<T>) -> Poll<T> {
        self.activity.wrote(written.is_ready());
        written
    }

    /// The stream itself.
    pub fn into_inner(self) -> I {
        self.inner
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if !self.heads {
            return result;
        }
        if result.is_pending() {
            self.activity.waits();
        } else if buf.filled().len() > before {
            self.activity.read_some();
        }
        result
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.activity.flushed.set(false);
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.activity.flushed.set(false);
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        // hyper flushes the stream only when it has given it everything.
        if matches!(flushed, Poll::Ready(Ok(()))) && self.activity.place.in_flight() == 0 && !self.closing {
            self.activity.flushed.set(true);
        }
        self.noted(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closing = true;
        self.activity.flushed.set(false);
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::http::guard::http1::Guarded;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(60);
    const PATIENCE: Patience = Patience { stream: Some(Duration::from_secs(4000)), request: None };
    const LIMITS: Limits = Limits { head: HEAD, idle: IDLE, patience: PATIENCE };

    #[tokio::test(start_paused = true)]
    async fn a_rest_between_requests_is_not_a_slow_head() {
        let activity = Activity::new(&Rc::default(), &Place::testing());
        let (mut client, io) = tokio::io::duplex(64);
        let due = |activity: &Activity| activity.due(Instant::now(), LIMITS);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(matches!(due(&activity), Due::Later(_)));
        let mut io = Watched::new(Guarded::requests(io, Rc::clone(activity.signals())), Rc::clone(&activity), true);
        client.write_all(b"GET").await.unwrap();
        assert_eq!(io.read(&mut [0; 64]).await.unwrap(), 3);
        assert!(io.read(&mut [0; 64]).now_or_never().is_none());
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(due(&activity), Due::SlowHead);
        let request = activity.request(Instant::now(), false);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(matches!(due(&activity), Due::Later(_)));
        drop(request);
        // The first look notes that it rests, and since when.
        assert!(matches!(due(&activity), Due::Later(_)));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(due(&activity), Due::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_not_waited_for() {
        let activity = Activity::new(&Rc::default(), &Place::testing());
        activity.wrote(false);
        tokio::time::advance(Duration::from_secs(3999)).await;
        assert!(matches!(activity.due(Instant::now(), LIMITS), Due::Later(_)));
        activity.wrote(false);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(activity.due(Instant::now(), LIMITS), Due::Stuck);
        activity.wrote(true);
        assert_ne!(activity.due(Instant::now(), LIMITS), Due::Stuck);
    }
}
