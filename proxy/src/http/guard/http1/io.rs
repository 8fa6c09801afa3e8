//! The guard between a socket and the library that parses what comes from it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Breach, Place, Scanner};

/// Given in place of a head that breaks the rules: a byte that no part of a head may hold, and an end, because the library does
/// not parse what it has begun to read before it sees one.
const POISON: &[u8] = b"\0\n\n";

/// What the guard of a connection and those who use it tell each other.
#[derive(Debug, Default)]
pub struct Signals {
    breach: Cell<Option<Breach>>,
    tunnel: Cell<bool>,
    /// A request is being sent; whether it is a HEAD.
    asked: Cell<Option<bool>>,
    /// Where what was read until now ends.
    place: Cell<Place>,
    /// Heads that were read and have become no request yet.
    heads: Cell<u32>,
}

impl Signals {
    /// How what came broke the rules, if it did. Nothing that comes after it is read.
    pub fn breach(&self) -> Option<Breach> {
        self.breach.get()
    }

    /// From now on the bytes that come are no HTTP, and pass. To be called before the far end can know (before a 101 is
    /// written); what was read until then was HTTP, and was looked at.
    pub fn tunnel(&self) {
        self.tunnel.set(true);
    }

    /// Whether a head has begun to come and is not whole yet.
    pub fn is_in_head(&self) -> bool {
        self.place.get() == Place::Head
    }

    /// Whether what was read ends with a message.
    pub fn is_between_messages(&self) -> bool {
        self.place.get() == Place::Between && self.breach.get().is_none()
    }

    /// A head that was read has become a request.
    pub fn request(&self) {
        self.heads.set(self.heads.get().saturating_sub(1));
    }

    /// Whether something was read behind the last request, itself whole: another, the beginning of one, or none at all.
    pub fn is_ahead(&self) -> bool {
        self.heads.get() > 0 || !self.is_between_messages()
    }

    /// A request goes out, and the next answer is to it. Without this call whatever comes is refused.
    pub fn ask(&self, is_head: bool) {
        self.asked.set(Some(is_head));
    }
}

/// A stream whose reads pass a [`Scanner`]. A head that breaks the rules is seen as one that does not parse, so that the
/// library answers it as such; in a body, and where nothing is expected, the read fails.
#[derive(Debug)]
pub struct Guarded<I> {
    inner: I,
    scanner: Scanner,
    signals: Rc<Signals>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Open,
    /// So much of the poison is still to be given; then the stream ends.
    Poisoned(&'static [u8]),
    Broken(Breach),
}

impl<I> Guarded<I> {
    /// Guards a server, which reads requests.
    pub fn requests(inner: I, signals: Rc<Signals>) -> Self {
        // What an earlier guard of the connection saw and nobody used is read again.
        signals.heads.set(0);
        signals.place.set(Place::Between);
        Self { inner, scanner: Scanner::requests(), signals, state: State::Open }
    }

    /// Guards a client, which reads answers.
    pub fn answers(inner: I, signals: Rc<Signals>) -> Self {
        Self { inner, scanner: Scanner::answers(), signals, state: State::Open }
    }

    /// The stream, when nobody reads messages from it any more.
    pub fn into_inner(self) -> I {
        self.inner
    }

    /// Looks at what was read behind `before`, and takes out what may not be seen.
    fn check(&mut self, before: usize, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        if self.signals.tunnel.get() {
            return Ok(());
        }
        if let Some(is_head) = self.signals.asked.take() {
            self.scanner.ask(is_head);
        }
        let scanned = self.scanner.scan(buf.filled().get(before..).unwrap_or_default());
        let heads = std::mem::take(&mut self.scanner.heads);
        self.signals.heads.set(self.signals.heads.get().saturating_add(heads));
        self.signals.place.set(self.scanner.place());
        let Err(refused) = scanned else { return Ok(()) };
        self.signals.breach.set(Some(refused.breach));
        buf.set_filled(before + refused.at);
        if refused.in_head {
            self.state = State::Poisoned(POISON);
            self.poison(buf);
            return Ok(());
        }
        self.state = State::Broken(refused.breach);
        // What came before it is read first: it may be the end of a message that is as it should be.
        if refused.at == 0 { Err(broken(refused.breach)) } else { Ok(()) }
    }

    fn poison(&mut self, buf: &mut ReadBuf<'_>) {
        if let State::Poisoned(left) = self.state {
            let (now, later) = left.split_at(left.len().min(buf.remaining()));
            buf.put_slice(now);
            self.state = State::Poisoned(later);
        }
    }
}

fn broken(breach: Breach) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, breach)
}

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.state {
            State::Open => {
                let before = buf.filled().len();
                ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
                Poll::Ready(self.check(before, buf))
            }
            State::Poisoned(_) => {
                self.poison(buf);
                Poll::Ready(Ok(()))
            }
            State::Broken(breach) => Poll::Ready(Err(broken(breach))),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
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
