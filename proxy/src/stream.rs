//! The bytes below TLS: a TCP stream that sends small messages in the cheapest way there is, or a tunnel in its place.
//!
//! An answer comes as two pieces, head and body, and a TLS record as a list of one. `writev` takes both, but the kernel's way
//! through it is longer than through `send` (file position, list of buffers, checks for each), which shows when nearly all of a
//! request's cost is system calls. So a single piece is sent as such, and few small ones are put together first.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::rewind::Rewind;
use crate::tunnel::TunnelStream;

/// Pieces of up to this many bytes together are copied into one; above it the copy costs more than it saves.
const TOGETHER_MAX: usize = 4096;

/// A connected socket, or a tunnel that stands in for one.
#[derive(Debug)]
pub struct Stream(Kind);

#[derive(Debug)]
enum Kind {
    Socket(Rewind<TcpStream>),
    Tunnel(Box<TunnelStream>),
}

impl Stream {
    /// Takes over a socket; nothing of it changes but how it is written to.
    pub fn new(stream: TcpStream) -> Self {
        Self::rewound(Rewind::new(stream))
    }

    /// As [`Stream::new`], of a socket whose first bytes were read already.
    pub fn rewound(stream: Rewind<TcpStream>) -> Self {
        Self(Kind::Socket(stream))
    }

    /// Takes over a tunnel.
    pub fn tunnel(tunnel: TunnelStream) -> Self {
        Self(Kind::Tunnel(Box::new(tunnel)))
    }
}

impl Drop for Stream {
    /// What was read to be looked at, and by nobody else, counts as unread: such a connection is reset, as the kernel would have reset
    /// it, so that whoever is refused does not take it for an empty answer.
    fn drop(&mut self) {
        if let Kind::Socket(stream) = &self.0
            && !stream.is_empty()
        {
            // Where it cannot be, the connection ends all the same.
            drop(stream.socket().set_zero_linger());
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Socket(stream) => Pin::new(stream).poll_read(cx, buf),
            Kind::Tunnel(tunnel) => Pin::new(&mut **tunnel).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Socket(stream) => Pin::new(stream).poll_write(cx, buf),
            Kind::Tunnel(tunnel) => Pin::new(&mut **tunnel).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Socket(stream) => write_pieces(Pin::new(stream), cx, bufs),
            Kind::Tunnel(tunnel) => Pin::new(&mut **tunnel).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Socket(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Tunnel(tunnel) => Pin::new(&mut **tunnel).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Socket(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Tunnel(tunnel) => Pin::new(&mut **tunnel).poll_shutdown(cx),
        }
    }
}

fn write_pieces(
    stream: Pin<&mut Rewind<TcpStream>>,
    cx: &mut Context<'_>,
    bufs: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut pieces = bufs.iter().filter(|piece| !piece.is_empty());
    let (Some(first), second) = (pieces.next(), pieces.next()) else { return stream.poll_write(cx, &[]) };
    if second.is_none() {
        return stream.poll_write(cx, first);
    }
    if bufs.iter().map(|piece| piece.len()).sum::<usize>() > TOGETHER_MAX {
        return stream.poll_write_vectored(cx, bufs);
    }
    // Not filled with anything first: that would cost more than the pieces.
    let mut together = [MaybeUninit::uninit(); TOGETHER_MAX];
    let mut together = ReadBuf::uninit(&mut together);
    bufs.iter().for_each(|piece| together.put_slice(piece));
    stream.poll_write(cx, together.filled())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn what_was_only_looked_at_is_reset_and_what_was_read_is_not() {
        for is_read in [false, true] {
            let (mut client, accepted) = pair().await;
            client.write_all(b"hello").await.unwrap();
            let mut looked = Rewind::new(accepted);
            looked.readable().await;
            let mut stream = Stream::rewound(looked);
            if is_read {
                stream.read_exact(&mut [0; 5]).await.unwrap();
            }
            drop(stream);
            let end = client.read(&mut [0; 1]).await.map_err(|error| error.kind());
            assert_eq!(end, if is_read { Ok(0) } else { Err(io::ErrorKind::ConnectionReset) });
        }
    }

    #[tokio::test]
    async fn pieces_of_any_number_and_size_arrive_in_order() {
        let (client, mut peer) = pair().await;
        let mut stream = Stream::new(client);
        for sizes in [&[][..], &[0], &[5], &[0, 7, 0], &[200, 1024], &[200, 3896], &[200, 3897], &[100, 9000, 1]] {
            let pieces: Vec<Vec<u8>> = (1..).zip(sizes).map(|(mark, size)| vec![mark; *size]).collect();
            let expected = pieces.concat();
            let mut slices: Vec<_> = pieces.iter().map(|piece| io::IoSlice::new(piece)).collect();
            let mut left = &mut slices[..];
            let mut sent = 0;
            while sent < expected.len() {
                let written = stream.write_vectored(left).await.unwrap();
                io::IoSlice::advance_slices(&mut left, written);
                sent += written;
            }
            let mut got = vec![0; expected.len()];
            peer.read_exact(&mut got).await.unwrap();
            assert_eq!(got, expected, "{sizes:?}");
        }
    }
}
