//! What has come in a tunnel: handed to its reader, and kept in few pieces where there is none.
//!
//! HTTP/2 bounds what waits by its bytes, and h2 besides by its frames, over a whole connection: frames of single bytes that
//! nobody reads in one tunnel would make it close the connection with all the others in it. So whoever drives the connection takes
//! them out now and then ([`Incoming::collect`]), and small ones are put together. Credit goes back only for what has been read.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;

/// A frame with less is copied behind the one before it.
const SMALL: usize = 1024;

/// What is put together in one piece.
const PIECE: usize = 16 * 1024;

/// One tunnel's.
#[derive(Debug)]
pub(super) struct Incoming {
    recv: RecvStream,
    kept: VecDeque<Bytes>,
    /// Behind what is kept.
    small: BytesMut,
    /// Behind all of it.
    end: Option<Result<(), h2::Error>>,
    /// Who waits for more.
    reader: Waker,
}

impl Incoming {
    /// Of a tunnel of which nothing has been read.
    pub(super) fn new(recv: RecvStream) -> Self {
        let reader = Waker::noop().clone();
        Self { recv, kept: VecDeque::new(), small: BytesMut::new(), end: None, reader }
    }

    /// The next piece; `None` at the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if let Some(bytes) = self.kept.pop_front() {
            return Poll::Ready(Some(Ok(bytes)));
        }
        if !self.small.is_empty() {
            return Poll::Ready(Some(Ok(self.small.split().freeze())));
        }
        if let Some(end) = self.end.take() {
            return Poll::Ready(end.err().map(Err));
        }
        let next = self.recv.poll_data(cx);
        if next.is_pending() {
            self.reader.clone_from(cx.waker());
        }
        next
    }

    /// As many bytes have been read.
    pub(super) fn release(&mut self, read: usize) -> Result<(), h2::Error> {
        self.recv.flow_control().release_capacity(read)
    }

    /// Takes what has come.
    pub(super) fn collect(&mut self) {
        let reader = self.reader.clone();
        // Whoever waits goes on doing so: there is one place for it.
        let mut cx = Context::from_waker(&reader);
        while self.end.is_none() {
            match self.recv.poll_data(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(bytes))) => self.keep(bytes),
                Poll::Ready(Some(Err(error))) => self.end = Some(Err(error)),
                Poll::Ready(None) => self.end = Some(Ok(())),
            }
        }
    }

    fn keep(&mut self, bytes: Bytes) {
        let is_small = bytes.len() < SMALL;
        if is_small {
            self.small.extend_from_slice(&bytes);
        }
        if !self.small.is_empty() && (!is_small || self.small.len() >= PIECE) {
            self.kept.push_back(self.small.split().freeze());
        }
        if !is_small {
            self.kept.push_back(bytes);
        }
    }
}
