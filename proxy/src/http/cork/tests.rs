use super::*;
use std::task::Waker;

use futures_util::FutureExt;
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

#[tokio::test]
async fn what_is_written_together_goes_out_together() {
    let (stream, mut peer) = duplex(1 << 20);
    let (mut corked, _cork) = cork(stream);
    for _ in 0..2 {
        assert_eq!(corked.write(&[0; 10_000]).await.unwrap(), 10_000);
    }
    assert_eq!(peer.read(&mut [0; 30_000]).await.unwrap(), 10_000);
}

/// Says nothing, and takes nothing.
struct Gone;

impl AsyncRead for Gone {
    fn poll_read(self: Pin<&mut Self>, _cx: &mut Context<'_>, _buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Gone {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, _buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_connection_hears_at_once_why_what_it_wrote_did_not_go_out() {
    let (mut corked, cork) = cork(Gone);
    let connection = async move {
        corked.write_all(b"one").await?;
        corked.read_u8().await
    };
    let ended = Driven::new(connection, cork).now_or_never().unwrap();
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_turn_that_ends_without_an_answer_sends_what_was_written_in_it() {
    let (stream, mut peer) = duplex(1 << 20);
    let (mut corked, cork) = cork(stream);
    let asking = async move {
        corked.write_all(b"one").await?;
        corked.flush().await?;
        corked.read_u8().await
    };
    let answering = async {
        let mut got = [0; 3];
        peer.read_exact(&mut got).await.unwrap();
        peer.write_u8(got[2]).await.unwrap();
    };
    let (answer, ()) = tokio::join!(Driven::new(asking, cork), answering);
    assert_eq!(answer.unwrap(), b'e');
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
