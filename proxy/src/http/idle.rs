//! When was a connection last of use? One timer a connection instead of several a request.
//!
//! hyper's own header time-out also runs while a kept-alive connection rests between requests, and sets a timer for each head.
//! Here it is only noted what happens (first byte of a head, request in flight, all answered); the connection's single timer
//! looks at it when it fires, and asks the clock. So a rest is measured from the first look at it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http::standing::{Head, InProgress, Standing};

/// What a downstream HTTP connection is at.
#[derive(Debug)]
pub struct Activity {
    in_flight: Cell<u32>,
    in_head: Cell<bool>,
    /// All that HTTP/1 had to say has gone out.
    flushed: Cell<bool>,
    /// The number of the last request, and of the one whose body may still be coming; 0 is none.
    requests: Cell<u32>,
    coming: Cell<u32>,
    in_progress: Rc<InProgress>,
    /// Since when nothing has happened; `None` when something has and the clock was not asked.
    since: Cell<Option<Instant>>,
}

/// A request in flight; its drop is the end of the answer.
#[derive(Debug)]
pub struct InFlight {
    activity: Rc<Activity>,
    standing: Option<Rc<Standing>>,
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
}

impl Activity {
    /// A connection just opened.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            in_flight: Cell::new(0),
            in_head: Cell::new(false),
            flushed: Cell::new(false),
            requests: Cell::new(0),
            coming: Cell::new(0),
            in_progress: Rc::default(),
            since: Cell::new(None),
        })
    }

    /// A request was read; whether it `has_body`.
    pub fn request(self: &Rc<Self>, has_body: bool) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.in_head.set(false);
        self.flushed.set(false);
        self.requests.set(self.requests.get().wrapping_add(1).max(1));
        // That its head was read says that what came before is complete.
        self.coming.set(if has_body { self.requests.get() } else { 0 });
        self.since.set(None);
        InFlight { activity: Rc::clone(self), standing: None }
    }

    /// Requests that were let in and are not over.
    pub fn in_progress(&self) -> &InProgress {
        &self.in_progress
    }

    /// The body of the request that was read last, as long as it comes.
    pub fn body(self: &Rc<Self>) -> Option<Coming> {
        (self.coming.get() != 0).then(|| Coming { activity: Rc::clone(self), request: self.coming.get() })
    }

    /// Whether an HTTP/1 connection stands between two messages: every request is answered and was taken to its end, the answers
    /// have gone out, and nothing of a next one was seen.
    pub fn is_between_messages(&self) -> bool {
        self.in_flight.get() == 0 && !self.in_head.get() && self.coming.get() == 0 && self.flushed.get()
    }

    /// Since when nothing has happened, as far as it was noted.
    pub fn rests_since(&self) -> Instant {
        self.since.get().unwrap_or_else(Instant::now)
    }

    /// Whether the connection's time is over.
    pub fn due(&self, now: Instant, head: Duration, idle: Duration) -> Due {
        let since = self.since.get().unwrap_or(now);
        self.since.set(Some(since));
        let (limit, over) = match (self.in_flight.get(), self.in_head.get()) {
            (0, true) => (since + head, Due::SlowHead),
            (0, false) => (since + idle, Due::Idle),
            // An answer may take as long as the application likes.
            _ => (now + idle, Due::Idle),
        };
        // A head may begin at any moment and has the shorter limit, so never sleep past it.
        if limit <= now { over } else { Due::Later(limit.min(now + head)) }
    }

    fn read_some(&self) {
        if self.in_flight.get() == 0 && !self.in_head.replace(true) {
            self.since.set(None);
        }
    }

    /// More is waited for. A head that came whole in one read never gets here, and costs no look at the clock.
    fn waits(&self) {
        if self.in_head.get() && self.since.get().is_none() {
            self.since.set(Some(Instant::now()));
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

    /// Of one that was let in.
    pub fn standing(&self) -> Option<&Rc<Standing>> {
        self.standing.as_ref()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let left = self.activity.in_flight.get().saturating_sub(1);
        self.activity.in_flight.set(left);
        self.activity.since.set(None);
    }
}

/// A stream whose reads are noted. HTTP/2 reads frames that are no requests, so only HTTP/1 streams are watched for heads.
pub struct Watched<I> {
    inner: I,
    activity: Rc<Activity>,
    closing: bool,
}

impl<I> Watched<I> {
    /// Notes reads of `inner`.
    pub fn new(inner: I, activity: Rc<Activity>) -> Self {
        Self { inner, activity, closing: false }
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
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.activity.flushed.set(false);
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        // hyper flushes the stream only when it has given it everything.
        if matches!(result, Poll::Ready(Ok(()))) && self.activity.in_flight.get() == 0 && !self.closing {
            self.activity.flushed.set(true);
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closing = true;
        self.activity.flushed.set(false);
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_rest_between_requests_is_not_a_slow_head() {
        let activity = Activity::new();
        let due = |activity: &Activity| activity.due(Instant::now(), HEAD, IDLE);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(matches!(due(&activity), Due::Later(_)));
        activity.read_some();
        activity.waits();
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(due(&activity), Due::SlowHead);
        let request = activity.request(false);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(matches!(due(&activity), Due::Later(_)));
        drop(request);
        // The first look notes that it rests, and since when.
        assert!(matches!(due(&activity), Due::Later(_)));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(due(&activity), Due::Idle);
    }
}
