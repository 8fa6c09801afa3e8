//! Keeps an HTTP/2 peer from costing more than it is worth: counts frames in front of the library that reads them.
//!
//! [`Guarded`] passes bytes through, and looks at no more than the heads of frames. What they cost is taken from a [`Budget`]; when that
//! is used up the peer is told so by a GOAWAY, where the library's own frames leave room for one, and nothing of it is read any more: what came in
//! the same piece is lost, so that the end of a flood reaches nobody. It decodes no header block and knows no stream: what is wrong with a
//! message is for the library and for [`headers`](crate::http::headers) to see.

mod budget;
mod frame;

use std::cell::LazyCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

pub use budget::{Budget, Excess, Role};
pub use frame::{Frame, Frames};
pub use meshgate_config::Http2Limits as Limits;

/// Heads of messages that are read before something is written. Of streams that break the rules only our resets are counted, and the
/// library reads all that there is before it writes one: without a pause now and then, thousands would come in with one look.
const HEADS_AHEAD: u32 = 200;

/// Who is told what is seen.
pub trait Watch {
    /// A header block has begun, or the connection, and all that has come so far does not end it; or it has ended.
    fn within_head(&self, is_within: bool);

    /// There has been too much of something, and the connection ends.
    fn excess(&self, excess: Excess);
}

/// For whoever asks for nothing but the end.
impl<F: Fn(Excess)> Watch for F {
    fn within_head(&self, _: bool) {}

    fn excess(&self, excess: Excess) {
        self(excess);
    }
}

/// An HTTP/2 connection whose frames are counted.
#[derive(Debug)]
pub struct Guarded<I, W> {
    inner: I,
    watch: W,
    received: Frames,
    sent: Frames,
    budget: Budget,
    /// The frame that is coming ends a header block.
    ends_block: bool,
    /// Heads that have come since something was written, or since the last pause.
    heads: u32,
    excess: Option<Excess>,
    told: bool,
}

impl<I, W: Watch> Guarded<I, W> {
    /// Guards `inner`, of which nothing has been read yet.
    pub fn new(inner: I, role: Role, limits: &Limits, watch: W) -> Self {
        watch.within_head(true);
        let (received, sent) = match role {
            Role::Server => (Frames::of_client(), Frames::of_server()),
            Role::Client => (Frames::of_server(), Frames::of_client()),
        };
        let budget = Budget::new(role, limits, Instant::now());
        Self { inner, watch, received, sent, budget, ends_block: false, heads: 0, excess: None, told: false }
    }

    /// Counts what has come.
    fn count(&mut self, mut bytes: &[u8]) -> Result<(), Excess> {
        let was_within = self.budget.is_within_head();
        // One look at the clock does for all that came in one piece.
        let now = LazyCell::new(Instant::now);
        while let Some(frame) = self.received.next(&mut bytes) {
            if std::mem::take(&mut self.ends_block) {
                self.budget.block_ended();
            }
            self.budget.received(&frame, || *now)?;
            self.heads += u32::from(frame.kind == frame::HEADERS);
            self.ends_block = Budget::ends_block(&frame);
        }
        if self.ends_block && self.received.is_between() {
            self.ends_block = false;
            self.budget.block_ended();
        }
        // A block that came whole in one piece is nothing to tell.
        let is_within = self.budget.is_within_head();
        if was_within || is_within {
            self.watch.within_head(is_within);
        }
        Ok(())
    }

    fn count_sent(&mut self, mut bytes: &[u8]) {
        self.heads = 0;
        while let Some(frame) = self.sent.next(&mut bytes) {
            if let Err(excess) = self.budget.sent(&frame, Instant::now) {
                // Told, and ended, when more is to be read: nothing goes on before that.
                self.excess.get_or_insert(excess);
            }
        }
    }

    fn goaway(&self, excess: Excess) -> [u8; frame::HEAD + 8] {
        let [s0, s1, s2, s3] = self.budget.last().to_be_bytes();
        let [c0, c1, c2, c3] = excess.code().to_be_bytes();
        [0, 0, 8, frame::GOAWAY, 0, 0, 0, 0, 0, s0, s1, s2, s3, c0, c1, c2, c3]
    }
}

impl<I: AsyncWrite + Unpin, W: Watch> Guarded<I, W> {
    /// Says why, as far as that can be done at once, and ends it.
    fn end(&mut self, cx: &mut Context<'_>, excess: Excess) -> io::Error {
        self.excess = Some(excess);
        if !std::mem::replace(&mut self.told, true) {
            self.watch.excess(excess);
            if !self.sent.is_between() {
                return io::Error::other(excess.as_str());
            }
            let goaway = self.goaway(excess);
            let _ = Pin::new(&mut self.inner).poll_write(cx, &goaway);
            let _ = Pin::new(&mut self.inner).poll_flush(cx);
        }
        io::Error::other(excess.as_str())
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin, W: Watch + Unpin> AsyncRead for Guarded<I, W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(excess) = this.excess {
            return Poll::Ready(Err(this.end(cx, excess)));
        }
        if this.heads >= HEADS_AHEAD {
            // What there is to write is written before the next look.
            this.heads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        if let Err(excess) = this.count(buf.filled().get(before..).unwrap_or_default()) {
            buf.set_filled(before);
            return Poll::Ready(Err(this.end(cx, excess)));
        }
        result
    }
}

impl<I: AsyncWrite + Unpin, W: Watch + Unpin> AsyncWrite for Guarded<I, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &result {
            self.count_sent(buf.get(..*written).unwrap_or(buf));
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(written)) = &result {
            let mut left = *written;
            for piece in bufs {
                let piece = piece.get(..left.min(piece.len())).unwrap_or_default();
                left -= piece.len();
                self.count_sent(piece);
            }
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
