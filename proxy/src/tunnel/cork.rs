//! What an outer connection writes in one turn, written at once.
//!
//! HTTP/2 hands down every DATA frame of some size by itself, and below it each such write would be a TLS record and a system call of
//! its own. Here they are put together, and go out when the connection has nothing more to say for now: that is for
//! whoever polls it to tell ([`Cork::poll_pending`]), because HTTP/2 flushes after each of them, too. Nothing waits longer than
//! the turn it was written in.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes put together at the most: the plaintext of a full TLS record.
const TOGETHER_MAX: usize = 16 * 1024;

/// The connection's end: what is written to it waits for [`Cork::poll_pending`], or until there is enough.
#[derive(Debug)]
pub struct Corked<T>(Rc<RefCell<Waiting<T>>>);

/// The end of whoever polls the connection.
#[derive(Debug)]
pub struct Cork<T>(Rc<RefCell<Waiting<T>>>);

#[derive(Debug)]
struct Waiting<T> {
    stream: T,
    bytes: Vec<u8>,
    /// How many of them have been written.
    start: usize,
    /// Something was written that has not been flushed.
    dirty: bool,
}

/// Both ends of a stream.
pub fn cork<T>(stream: T) -> (Corked<T>, Cork<T>) {
    let waiting = Rc::new(RefCell::new(Waiting { stream, bytes: Vec::new(), start: 0, dirty: false }));
    (Corked(Rc::clone(&waiting)), Cork(waiting))
}

impl<T: AsyncWrite + Unpin> Cork<T> {
    /// Ends a turn: the connection was polled and is pending. Writes what waits, and is ready only with why it cannot.
    pub fn poll_pending(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self.0.borrow_mut().poll_out(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncWrite + Unpin> Waiting<T> {
    fn poll_write_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(unwritten) = self.bytes.get(self.start..).filter(|unwritten| !unwritten.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, unwritten))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.start += written,
            }
            self.dirty = true;
        }
        self.bytes.clear();
        self.start = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_waiting(cx))?;
        if self.dirty {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.dirty = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.bytes.len() >= TOGETHER_MAX {
            ready!(self.poll_write_waiting(cx))?;
        }
        let whole: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.bytes.is_empty() && whole >= TOGETHER_MAX {
            self.dirty = true;
            return Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        }
        let room = TOGETHER_MAX - self.bytes.len();
        let mut left = room;
        for piece in pieces {
            let taken = piece.get(..left.min(piece.len())).unwrap_or_default();
            self.bytes.extend_from_slice(taken);
            left -= taken.len();
        }
        Poll::Ready(Ok(room - left))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Corked<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Corked<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_take(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_take(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Goes out with [`Cork::poll_pending`].
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = &mut *self.0.borrow_mut();
        ready!(waiting.poll_out(cx))?;
        Pin::new(&mut waiting.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// Counts writes.
    struct Counted<T>(T, Rc<RefCell<usize>>);

    impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            *self.1.borrow_mut() += 1;
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_goes_out_at_once_and_only_then() {
        let (stream, mut peer) = duplex(1 << 20);
        let writes = Rc::new(RefCell::new(0));
        let (mut corked, cork) = cork(Counted(stream, Rc::clone(&writes)));
        for piece in [&b"one "[..], b"two ", b"three"] {
            corked.write_all(piece).await.unwrap();
            corked.flush().await.unwrap();
        }
        assert_eq!(*writes.borrow(), 0);
        assert!(cork.poll_pending(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(*writes.borrow(), 1);
        let mut got = [0; 13];
        peer.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"one two three");
    }

    #[tokio::test]
    async fn much_goes_out_by_itself_in_order_and_the_rest_before_the_end() {
        let (stream, mut peer) = duplex(1 << 20);
        let (mut corked, _cork) = cork(stream);
        let mut expected = Vec::new();
        for (mark, size) in [(1, 10), (2, 5000), (3, 12_000), (4, 70_000), (5, TOGETHER_MAX), (6, 7)] {
            corked.write_all(&vec![mark; size]).await.unwrap();
            expected.extend(vec![mark; size]);
        }
        corked.shutdown().await.unwrap();
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        assert!(got == expected);
    }

    #[test]
    fn a_peer_that_does_not_read_stops_the_writer() {
        let (stream, _peer) = duplex(1000);
        let (mut corked, cork) = cork(stream);
        let cx = &mut Context::from_waker(Waker::noop());
        let mut taken = 0;
        while let Poll::Ready(written) = Pin::new(&mut corked).poll_write(cx, &[0; 900]) {
            taken += written.unwrap();
        }
        assert!(taken <= TOGETHER_MAX + 1000, "{taken}");
        assert!(cork.poll_pending(cx).is_pending());
    }
}
