//! One tunnel as a stream of bytes: the DATA frames of one HTTP/2 stream, in both directions.
//!
//! What is read is handed out of the frame it came in, and its flow-control credit is given back as it is taken, so that a reader
//! who stops holds at most one window of memory. What is written is copied once, into chunks no greater than the credit that
//! the other side has given. Each direction ends by itself (END_STREAM); a tunnel that is dropped before both have ended is
//! reset, so that nobody takes half of something for the whole.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Held;
use super::incoming::Incoming;

/// Bytes that one write hands over at the most: as many as one frame takes, see [`super::FRAME_MAX`].
const CHUNK_MAX: usize = super::FRAME_MAX as usize;

/// One tunnel.
#[derive(Debug)]
pub struct TunnelStream {
    send: SendStream<Bytes>,
    incoming: Rc<RefCell<Incoming>>,
    /// Of the last frame, what has not been read yet.
    unread: Bytes,
    /// Where written bytes are put together; its memory is used again when the frames made of it have gone.
    chunk: BytesMut,
    finished: bool,
    _held: Held,
}

impl TunnelStream {
    /// A tunnel whose CONNECT has been answered with success; `held` is dropped with it.
    pub fn new(send: SendStream<Bytes>, recv: RecvStream, held: Held) -> Self {
        let incoming = Rc::new(RefCell::new(Incoming::new(recv)));
        held.follow(&incoming);
        Self { send, incoming, unread: Bytes::new(), chunk: BytesMut::new(), finished: false, _held: held }
    }

    /// How many bytes may be sent now, of `wanted`.
    fn poll_credit(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        if self.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let wanted = wanted.min(CHUNK_MAX);
        self.send.reserve_capacity(wanted);
        loop {
            let credit = self.send.capacity();
            if credit > 0 {
                return Poll::Ready(Ok(credit.min(wanted)));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(self.closed(cx))),
            }
        }
    }

    /// Why nothing can be sent any more.
    fn closed(&mut self, cx: &mut Context<'_>) -> io::Error {
        match self.send.poll_reset(cx) {
            Poll::Ready(Err(error)) => broken(error),
            Poll::Ready(Ok(reason)) => broken(reason.into()),
            Poll::Pending => io::ErrorKind::BrokenPipe.into(),
        }
    }

    fn send_chunk(&mut self) -> io::Result<()> {
        self.send.send_data(self.chunk.split().freeze(), false).map_err(broken)
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.unread.is_empty() {
            match ready!(this.incoming.borrow_mut().poll_next(cx)) {
                Some(Ok(bytes)) => this.unread = bytes,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = this.unread.len().min(buf.remaining());
        buf.put_slice(this.unread.get(..len).unwrap_or_default());
        this.unread.advance(len);
        Poll::Ready(this.incoming.borrow_mut().release(len).map_err(broken))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let this = &mut *self;
        let credit = ready!(this.poll_credit(cx, buf.len()))?;
        this.chunk.extend_from_slice(buf.get(..credit).unwrap_or_default());
        Poll::Ready(this.send_chunk().map(|()| credit))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = bufs.iter().map(|piece| piece.len()).sum();
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let this = &mut *self;
        let credit = ready!(this.poll_credit(cx, wanted))?;
        let mut left = credit;
        for piece in bufs {
            let taken = piece.get(..left.min(piece.len())).unwrap_or_default();
            this.chunk.extend_from_slice(taken);
            left -= taken.len();
        }
        Poll::Ready(this.send_chunk().map(|()| credit))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The connection's own task sends; there is nothing to push.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.finished, true) {
            return Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(broken));
        }
        Poll::Ready(Ok(()))
    }
}

/// What happened to the tunnel, or the connection that it is in, as a socket would say it.
fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into());
    }
    let kind = match error.reason() {
        Some(Reason::CANCEL | Reason::CONNECT_ERROR | Reason::NO_ERROR) => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error)
}
