//! Moves bytes both ways until both directions have ended: half-close is passed on, idleness ends it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::metrics::TcpSeries;
use crate::open::Place;

/// First buffer of a direction: enough for a request or an answer, small enough for ten thousand idle connections.
const SMALL: usize = 4 * 1024;

/// Buffer of a direction that filled the small one: a TLS record's worth and more in one system call.
const LARGE: usize = 64 * 1024;

/// How a copy ended.
#[derive(Debug)]
pub enum End {
    /// Both sides closed.
    Closed,
    /// No byte moved for the given time.
    Idle,
    /// There were bytes to give to the downstream, and it took none for the given time.
    DownstreamStalled,
    /// As [`End::DownstreamStalled`], of the upstream.
    UpstreamStalled,
    /// The downstream broke.
    Downstream(io::Error),
    /// The upstream broke.
    Upstream(io::Error),
}

/// Both directions of a connection.
#[derive(Debug)]
pub struct Copy<A, B> {
    downstream: A,
    upstream: B,
    up: Direction,
    down: Direction,
    /// Where bytes are counted as they move, and how many have been.
    series: Option<Arc<TcpSeries>>,
    place: Option<Arc<Place>>,
    counted: (u64, u64),
}

/// One direction: what was read and not yet written, and how far the end has come.
#[derive(Debug)]
struct Direction {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    state: State,
    moved: u64,
    dirty: bool,
    /// Since when its writer has taken nothing of what there is.
    blocked: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closing,
    Closed,
}

enum Fault {
    Read(io::Error),
    Write(io::Error),
}

impl<A, B> Copy<A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    /// Nothing moved yet.
    pub fn new(downstream: A, upstream: B) -> Self {
        Self::begun(downstream, upstream, &[], &[])
    }

    /// Where some was read of either before it came to be moved, which is moved first.
    pub fn begun(downstream: A, upstream: B, from_downstream: &[u8], from_upstream: &[u8]) -> Self {
        let (up, down) = (Direction::begun(from_downstream), Direction::begun(from_upstream));
        Self { downstream, upstream, up, down, series: None, place: None, counted: (0, 0) }
    }

    /// Counts bytes there as they move, and tells the connection's place of them.
    pub fn counted(&mut self, series: Option<Arc<TcpSeries>>, place: &Arc<Place>) {
        self.series = series;
        self.place = Some(Arc::clone(place));
    }

    fn count(&mut self) {
        let moved = self.moved();
        if moved == self.counted {
            return;
        }
        if let Some(series) = &self.series {
            series.moved(moved.0 - self.counted.0, moved.1 - self.counted.1);
        }
        if let Some(place) = &self.place {
            place.moved(moved.0, moved.1);
        }
        self.counted = moved;
    }

    /// Bytes taken from the downstream and given to it, so far.
    pub fn moved(&self) -> (u64, u64) {
        (self.up.moved, self.down.moved)
    }

    /// Copies until the end, or until no byte has moved for `idle`, or one side has not taken for `stall` what there is for it.
    /// Cancel-safe: may be called again after a cancel.
    pub async fn run(&mut self, idle: Duration, stall: Option<Duration>) -> End {
        let mut timer = std::pin::pin!(tokio::time::sleep(idle));
        let mut seen = self.moved();
        // Most connections never need it.
        let mut patience: Option<Pin<Box<Sleep>>> = None;
        std::future::poll_fn(|cx| {
            let end = self.poll(cx);
            self.count();
            if end.is_ready() {
                return end;
            }
            if let Some(stall) = stall
                && let Poll::Ready(end) = self.poll_stall(cx, stall, &mut patience)
            {
                return Poll::Ready(end);
            }
            poll_idle(timer.as_mut(), cx, idle, &mut seen, self.moved())
        })
        .await
    }

    fn poll_stall(&self, cx: &mut Context<'_>, stall: Duration, patience: &mut Option<Pin<Box<Sleep>>>) -> Poll<End> {
        let up = self.up.blocked.map(|since| (since + stall, End::UpstreamStalled));
        let down = self.down.blocked.map(|since| (since + stall, End::DownstreamStalled));
        let Some((at, end)) = up.into_iter().chain(down).min_by_key(|(at, _)| *at) else { return Poll::Pending };
        let timer = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx).map(|()| end)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let up = match self.up.poll(cx, &mut self.downstream, &mut self.upstream) {
            Poll::Ready(Err(Fault::Read(error))) => return Poll::Ready(End::Downstream(error)),
            Poll::Ready(Err(Fault::Write(error))) => return Poll::Ready(End::Upstream(error)),
            other => other.is_ready(),
        };
        let down = match self.down.poll(cx, &mut self.upstream, &mut self.downstream) {
            Poll::Ready(Err(Fault::Read(error))) => return Poll::Ready(End::Upstream(error)),
            Poll::Ready(Err(Fault::Write(error))) => return Poll::Ready(End::Downstream(error)),
            other => other.is_ready(),
        };
        if up && down { Poll::Ready(End::Closed) } else { Poll::Pending }
    }
}

/// The timer is not set anew for every byte: when it fires it looks whether any moved since.
fn poll_idle(
    mut timer: Pin<&mut Sleep>,
    cx: &mut Context<'_>,
    idle: Duration,
    seen: &mut (u64, u64),
    moved: (u64, u64),
) -> Poll<End> {
    while timer.as_mut().poll(cx).is_ready() {
        if *seen == moved {
            return Poll::Ready(End::Idle);
        }
        *seen = moved;
        timer.as_mut().reset(Instant::now() + idle);
    }
    Poll::Pending
}

impl Direction {
    fn begun(read: &[u8]) -> Self {
        let mut buffer = read.to_vec();
        buffer.resize(read.len().max(SMALL), 0);
        Self {
            buffer: buffer.into(),
            start: 0,
            end: read.len(),
            state: State::Open,
            moved: 0,
            dirty: false,
            blocked: None,
        }
    }

    fn poll<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while let Some(pending) = self.buffer.get(self.start..self.end).filter(|pending| !pending.is_empty()) {
                let Poll::Ready(written) = Pin::new(&mut *writer).poll_write(cx, pending) else {
                    self.blocked.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                };
                let written = written.map_err(Fault::Write)?;
                self.blocked = None;
                if written == 0 {
                    return Poll::Ready(Err(Fault::Write(io::ErrorKind::WriteZero.into())));
                }
                self.start += written;
                self.moved += written as u64;
                self.dirty = true;
            }
            match self.state {
                State::Open => match self.poll_fill(cx, reader).map_err(Fault::Read)? {
                    Poll::Ready(()) => {}
                    Poll::Pending => {
                        self.poll_flush(cx, writer).map_err(Fault::Write)?;
                        return Poll::Pending;
                    }
                },
                State::Closing => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(Fault::Write)?;
                    self.state = State::Closed;
                }
                State::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_fill<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> Poll<io::Result<()>> {
        if self.end == self.buffer.len() && self.buffer.len() < LARGE {
            self.buffer = vec![0; LARGE].into();
        }
        let mut buf = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(reader).poll_read(cx, &mut buf))?;
        (self.start, self.end) = (0, buf.filled().len());
        if self.end == 0 {
            self.state = State::Closing;
        }
        Poll::Ready(Ok(()))
    }

    /// Written bytes may still wait inside a TLS session; when there is nothing more to read they must go out.
    fn poll_flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> io::Result<()> {
        if self.dirty
            && let Poll::Ready(result) = Pin::new(writer).poll_flush(cx)
        {
            self.dirty = false;
            return result;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn passes_half_close_on_and_counts_both_ways() {
        let (mut client, downstream) = duplex(1024);
        let (mut server, upstream) = duplex(1024);
        let mut copy = Copy::new(downstream, upstream);
        let client = async {
            client.write_all(&[7; 100_000]).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let server = async {
            let mut request = Vec::new();
            // Ends only if the client's half-close arrives while the answer is still to come.
            server.read_to_end(&mut request).await.unwrap();
            server.write_all(b"answer").await.unwrap();
            server.shutdown().await.unwrap();
            request.len()
        };
        let (end, answer, request) = tokio::join!(copy.run(Duration::from_secs(5), None), client, server);
        assert!(matches!(end, End::Closed));
        assert_eq!((request, answer.as_slice()), (100_000, &b"answer"[..]));
        assert_eq!(copy.moved(), (100_000, 6));
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first_both_ways_however_much_it_is() {
        for early in [&b""[..], b"early", &[7; 10_000]] {
            let (mut client, downstream) = duplex(64 * 1024);
            let (mut server, upstream) = duplex(64 * 1024);
            let mut copy = Copy::begun(downstream, upstream, early, early);
            client.write_all(b"later").await.unwrap();
            client.shutdown().await.unwrap();
            server.write_all(b"later").await.unwrap();
            server.shutdown().await.unwrap();
            assert!(matches!(copy.run(Duration::from_secs(5), None).await, End::Closed));
            drop(copy);
            for mut end in [client, server] {
                let mut all = Vec::new();
                end.read_to_end(&mut all).await.unwrap();
                assert_eq!(all, [early, b"later"].concat());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ends_when_nothing_moves_but_not_before() {
        let (mut client, downstream) = duplex(1024);
        let (_server, upstream) = duplex(1024);
        let mut copy = Copy::new(downstream, upstream);
        let started = Instant::now();
        let talk = async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            client.write_all(b"x").await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = copy.run(Duration::from_secs(10), None) => assert!(matches!(end, End::Idle)),
            () = talk => unreachable!(),
        }
        assert_eq!(started.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn ends_when_one_side_takes_nothing_however_much_the_other_says() {
        const STALL: Duration = Duration::from_secs(10);
        let (mut client, downstream) = duplex(1024);
        let (mut server, upstream) = duplex(1024);
        let mut copy = Copy::new(downstream, upstream);
        let started = Instant::now();
        let talk = async {
            // The client sends on and on, and reads nothing of the answer.
            server.write_all(&[1; 100_000]).await.unwrap();
        };
        let ask = async {
            loop {
                client.write_all(b"x").await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            end = copy.run(Duration::from_secs(3600), Some(STALL)) => assert!(matches!(end, End::DownstreamStalled)),
            _ = async { tokio::join!(talk, ask) } => unreachable!(),
        }
        assert_eq!(started.elapsed(), STALL);
    }

    #[tokio::test]
    async fn says_which_side_broke() {
        let (client, downstream) = duplex(16);
        let (server, upstream) = duplex(16);
        drop(server);
        let mut copy = Copy::new(downstream, upstream);
        let mut client = client;
        client.write_all(b"x").await.unwrap();
        assert!(matches!(copy.run(Duration::from_secs(5), None).await, End::Upstream(_)));
    }
}
