//! What an HTTP/2 connection writes in one turn, written at once.
//!
//! The library hands down every DATA frame of some size by itself, and below it each such write would be a TLS record and a system call of
//! its own. Here they are put together, and go out when the connection has nothing more to say for now: that is for
//! whoever polls it to tell ([`Cork::poll_pending`], [`Driven`]), because it flushes after each of them, too. Nothing waits longer than
//! the turn it was written in.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes put together at the most: the plaintext of a full TLS record.
const TOGETHER_MAX: usize = 16 * 1024;

thread_local! {
    /// Where the next bytes are put together. A connection has it for a turn, and longer only when its peer does not read: at rest
    /// none holds memory for it, and what is asked for and given back in every turn would be given back to the system as well.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

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
    /// Why it could not be written, until the connection hears of it.
    failed: Option<io::Error>,
}

/// Both ends of a stream.
pub fn cork<T>(stream: T) -> (Corked<T>, Cork<T>) {
    let waiting = Rc::new(RefCell::new(Waiting { stream, bytes: Vec::new(), start: 0, dirty: false, failed: None }));
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
        if self.bytes.capacity() > 0 {
            SPARE.set(std::mem::take(&mut self.bytes));
        }
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
        let whole: usize = pieces.iter().map(|piece| piece.len()).sum();
        // Frames stay whole where they can: in the middle of one, whoever is below has no room for a GOAWAY.
        if self.bytes.len() + whole > TOGETHER_MAX {
            ready!(self.poll_write_waiting(cx))?;
        }
        if whole >= TOGETHER_MAX {
            self.dirty = true;
            return Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        }
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.take();
            self.bytes.reserve_exact(TOGETHER_MAX);
        }
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
        Poll::Ready(Ok(whole))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Corked<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let waiting = &mut *self.0.borrow_mut();
        match waiting.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut waiting.stream).poll_read(cx, buf),
        }
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

pin_project! {
    /// A connection over a [`Corked`] stream, whose turns are ended.
    pub struct Driven<C, T> {
        #[pin]
        connection: C,
        cork: Cork<T>,
    }
}

impl<C, T> Driven<C, T> {
    /// Ends the turns of `connection`.
    pub fn new(connection: C, cork: Cork<T>) -> Self {
        Self { connection, cork }
    }

    /// The connection itself.
    pub fn connection(self: Pin<&mut Self>) -> Pin<&mut C> {
        self.project().connection
    }
}

impl<C: Future, T: AsyncWrite + Unpin> Future for Driven<C, T> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let mut this = self.project();
        let ended = this.connection.as_mut().poll(cx);
        if ended.is_pending()
            && let Poll::Ready(error) = this.cork.poll_pending(cx)
        {
            // It is the connection that says how it ended, when it reads next.
            this.cork.0.borrow_mut().failed = Some(error);
            return this.connection.poll(cx);
        }
        ended
    }
}

#[cfg(test)]
mod tests;
