//! Bytes that had to be read to be looked at, put back in front of their stream.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connection::Protocol;
use crate::detect::bytes::Seen;
use crate::detect::{self, Detected};

/// What is read at a time when a stream wakes up, on the stack: most requests' heads fit, and a ClientHello with post-quantum key
/// shares (about 1.8 KiB).
const PIECE: usize = 2 * 1024;

/// As many bytes are looked at before what they are counts as what they seem to be. A TLS record may be 16 KiB, and a hello that
/// long is not a mesh client's.
pub(crate) const LOOK_MAX: usize = 8 * 1024;

/// A stream with bytes in front. Used where what is spoken has to be seen first; looking at what stays in the socket would cost
/// a system call more, and there is none of it inside TLS.
#[derive(Debug)]
pub struct Rewind<I> {
    prefix: Vec<u8>,
    inner: I,
}

impl<I> Rewind<I> {
    /// Nothing in front yet.
    pub fn new(inner: I) -> Self {
        Self { prefix: Vec::new(), inner }
    }

    /// Puts `bytes` in front of everything, to be read next.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.prefix.splice(..0, bytes.iter().copied());
    }
}

impl Rewind<TcpStream> {
    /// What is below.
    pub fn socket(&self) -> &TcpStream {
        &self.inner
    }
}

impl<I: AsyncRead + Unpin> Rewind<I> {
    /// Returns when there is something to read: bytes, the end or an error. Bytes will be read again, and the end or an error
    /// is met again by whoever serves the stream. Holds no buffer while it waits. Cancel-safe.
    pub async fn readable(&mut self) {
        if self.prefix.is_empty() {
            // An error or the end will be met again by whoever serves the stream.
            let _ = self.fill().await;
        }
    }

    /// Reads some, behind what was read already; so many bytes. Holds no buffer while it waits. Cancel-safe.
    async fn fill(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| {
            let mut piece = [const { MaybeUninit::uninit() }; PIECE];
            let mut piece = ReadBuf::uninit(&mut piece);
            std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece))?;
            self.prefix.extend_from_slice(piece.filled());
            Poll::Ready(Ok(piece.filled().len()))
        })
        .await
    }

    /// Reads until the first bytes say what they are by `classify`, or the time is over; they will be read again. [`Detected::Closed`]
    /// when the stream ended before anything came of it.
    ///
    /// # Errors
    /// The stream's, and `UnexpectedEof` when it ended inside of a ClientHello.
    pub async fn first(&mut self, deadline: Duration, classify: impl Fn(&[u8]) -> Seen) -> io::Result<Detected> {
        let so_far = Cell::new(Detected::TimedOut);
        let reading = async {
            loop {
                if self.fill().await? == 0 {
                    return if self.prefix.is_empty() { Ok(Detected::Closed) } else { all_there_is(so_far.get()) };
                }
                match classify(&self.prefix) {
                    Seen::Known(detected) => return Ok(detected),
                    Seen::Open(detected) if self.prefix.len() >= LOOK_MAX => return Ok(detected),
                    Seen::Open(detected) => so_far.set(detected),
                }
            }
        };
        // What has come until then is what there is to go by.
        timeout(deadline, reading).await.unwrap_or_else(|_| Ok(so_far.get()))
    }

    /// As [`Rewind::first`], of what came out of TLS. An error or the end will be met again by whoever serves the stream.
    pub async fn look(&mut self, deadline: Duration) -> Detected {
        match self.first(deadline, detect::in_prefix).await {
            Err(_) if self.prefix.is_empty() => Detected::Closed,
            Err(_) => Detected::Opaque,
            Ok(detected) => detected,
        }
    }

    /// As [`Rewind::look`], for what will be served in any case.
    pub async fn detect(&mut self, deadline: Duration) -> Protocol {
        protocol(self.look(deadline).await)
    }

    /// Whether nothing has been read that will be read again.
    pub fn is_empty(&self) -> bool {
        self.prefix.is_empty()
    }
}

/// What a client speaks that has ended its direction.
fn all_there_is(so_far: Detected) -> io::Result<Detected> {
    match so_far {
        Detected::Tls { .. } => Err(io::ErrorKind::UnexpectedEof.into()),
        Detected::TimedOut => Ok(Detected::Opaque),
        other => Ok(other),
    }
}

/// What is spoken where the first bytes are these.
pub fn protocol(detected: Detected) -> Protocol {
    match detected {
        Detected::Http1 => Protocol::Http1,
        Detected::Http2 => Protocol::Http2,
        Detected::Tls { .. } | Detected::Opaque | Detected::TimedOut | Detected::Closed => Protocol::Tcp,
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Rewind<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let len = self.prefix.len().min(buf.remaining());
        let rest = self.prefix.split_off(len);
        buf.put_slice(&self.prefix);
        self.prefix = rest;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Rewind<I> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_was_looked_at_is_read_again_in_pieces() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut rewind = Rewind::new(server);
        client.write_all(b"PRI * HT").await.unwrap();
        let detecting = rewind.detect(Duration::from_secs(5));
        let (protocol, sent) = tokio::join!(detecting, client.write_all(b"TP/2.0\r\n\r\nSM\r\n\r\nrest"));
        sent.unwrap();
        drop(client);
        assert_eq!(protocol, Protocol::Http2);
        let mut all = Vec::new();
        let mut piece = [0; 5];
        loop {
            let len = rewind.read(&mut piece).await.unwrap();
            if len == 0 {
                break;
            }
            all.extend_from_slice(&piece[..len]);
        }
        assert_eq!(all, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest");
    }
}
