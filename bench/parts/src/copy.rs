//! Bytes moved both ways between two streams that cost nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use meshgate::copy::{Copy, End};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

use crate::{Part, Work};

/// Bytes.
const MIB: usize = 1024 * 1024;

/// Bytes there are at a time: a TLS record's.
const RECORD: usize = 16 * 1024;

pub(crate) fn parts() -> Vec<Part> {
    vec![Part::new("copy/connection", || copy(1_000, 1_000)), Part::new("copy/16-mib", || copy(1_000, 16 * MIB)).few()]
}

/// A connection of so many bytes up and down, from its beginning to its end.
fn copy(up: usize, down: usize) -> Work {
    let runtime: Runtime = Builder::new_current_thread().enable_time().build().unwrap();
    Box::new(move || {
        let mut copy = Copy::new(Free { left: up }, Free { left: down });
        let end = runtime.block_on(copy.run(Duration::from_secs(60), Some(Duration::from_secs(60))));
        assert!(matches!(end, End::Closed) && copy.moved() == (up as u64, down as u64), "{end:?}");
    })
}

/// Has so many bytes to give, whatever they are, and takes all there are. Nothing is copied here: what is counted is the relay's.
struct Free {
    left: usize,
}

impl AsyncRead for Free {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let len = self.left.min(RECORD).min(buf.remaining());
        self.left -= len;
        buf.initialize_unfilled_to(len);
        buf.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Free {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
