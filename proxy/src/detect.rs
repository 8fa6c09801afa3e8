//! What does this connection speak? Answered by looking at its first bytes without consuming them.
//!
//! The bytes stay in the socket (`MSG_PEEK`), so whoever serves the connection reads it from the start and no copy is kept.
//! A port hint beats the peek, the peek beats the time-out, and after the time-out the connection is opaque: a client that
//! waits for the server to speak first must not wait for us. What the bytes say is [`bytes`]' affair.

pub mod bytes;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connection::Direction;
use crate::drain::{self, Phase};
use crate::error::{ErrorKind, ProxyError};
use crate::worker::Worker;
use crate::{report, socket};
use bytes::{Seen, classify};

/// Enough for a ClientHello with post-quantum key shares (about 1.8 KiB) and long lists beside them; a TLS record may be
/// 16 KiB, and a hello that long is not a mesh client's.
const PEEK_MAX: usize = 8 * 1024;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// A TLS ClientHello; whether it offers one of the mesh's own application protocols.
    Tls {
        /// The hello offers an ALPN name of the mesh (see [`is_mesh`](meshgate_identity::alpn::is_mesh)).
        mesh: bool,
    },
    /// An HTTP/1 request line.
    Http1,
    /// The HTTP/2 preface.
    Http2,
    /// Something else.
    Opaque,
    /// Nothing recognisable came in time.
    TimedOut,
    /// The client closed without sending a byte.
    Closed,
}

/// Looks at the first bytes until they say enough, or the time is over; then at what there is of them. They can still be read.
///
/// # Errors
/// The socket's, when the connection broke; `UnexpectedEof` when it ended inside of a ClientHello.
pub async fn detect(stream: TcpStream, deadline: Duration) -> io::Result<(Detected, TcpStream)> {
    let so_far = Cell::new(Detected::TimedOut);
    if let Ok(detected) = timeout(deadline, peek(&stream, &so_far)).await {
        return Ok((detected?, stream));
    }
    // Waiting for more has cleared the readiness, and bytes that were there before make no edge: who reads next would wait for the
    // client to say more. Registered anew, the socket is readable again.
    Ok((so_far.get(), TcpStream::from_std(stream.into_std()?)?))
}

/// What is known of a connection before anybody looks at it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beforehand {
    /// What it counts as, without a look.
    pub said: Option<Detected>,
    /// The port it was going to.
    pub port: Option<u16>,
    /// Whether the port is one of the configuration's, and not just what somebody happened to connect to.
    pub is_declared: bool,
}

impl Beforehand {
    /// Of a connection to one of our own listeners.
    pub fn at(address: SocketAddr) -> Self {
        Self { said: None, port: Some(address.port()), is_declared: true }
    }
}

/// [`detect`] for a connection that has just been accepted, within the bootstrap's time, and counted. `None` when it was closed, or
/// has said nothing until the drain takes no new work of its direction.
///
/// # Errors
/// [`ErrorKind::DownstreamGone`].
pub async fn first_bytes(
    worker: &Worker,
    direction: Direction,
    stream: TcpStream,
    known: Beforehand,
) -> Result<Option<(Detected, TcpStream)>, ProxyError> {
    let phase = match direction {
        Direction::Outbound => Phase::Ended,
        Direction::Inbound | Direction::Gateway => Phase::Draining,
    };
    let looking = async {
        match known.said {
            Some(said) => Ok((said, stream)),
            None => detect(stream, deadline(worker, known.port)).await,
        }
    };
    let gone = |error| ProxyError::new(ErrorKind::DownstreamGone, "while detecting").caused_by(error);
    let seen = drain::before(worker, phase, looking).await.transpose().map_err(gone)?;
    let detected = seen.as_ref().map_or(Detected::Closed, |(detected, _)| *detected);
    report::count_detection(worker, direction, detected, known.port.filter(|_| known.is_declared));
    Ok(seen.filter(|_| detected != Detected::Closed))
}

/// How long first bytes are waited for at a port.
pub fn deadline(worker: &Worker, port: Option<u16>) -> Duration {
    let bootstrap = &worker.shared.bootstrap;
    let of_port = port.and_then(|port| bootstrap.detection.port_timeouts.get(&port));
    of_port.copied().unwrap_or(bootstrap.timeouts.detect)
}

async fn peek(stream: &TcpStream, so_far: &Cell<Detected>) -> io::Result<Detected> {
    // Most first flights fit in this; only a hello that does not is looked at again in a bigger buffer.
    let mut small = [0; 512];
    let mut seen = stream.peek(&mut small).await?;
    match classify(small.get(..seen).unwrap_or_default()) {
        Seen::Known(detected) => return Ok(detected),
        Seen::Open(_) if seen == 0 => return Ok(Detected::Closed),
        Seen::Open(detected) => so_far.set(detected),
    }
    let mut large = vec![0; PEEK_MAX];
    loop {
        let len = stream.peek(&mut large).await?;
        match classify(large.get(..len).unwrap_or_default()) {
            Seen::Known(detected) => return Ok(detected),
            Seen::Open(detected) if len == large.len() => return Ok(detected),
            Seen::Open(detected) => so_far.set(detected),
        }
        if len > seen {
            seen = len;
        } else if !more_than(stream, seen).await? {
            return all_there_is(so_far.get());
        }
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

/// Waits until more than `seen` bytes are there to peek. Bytes that were only peeked keep a socket readable, so this clears
/// the readiness by hand and waits for the edge that the next segment makes. False when the client has ended its direction.
async fn more_than(stream: &TcpStream, seen: usize) -> io::Result<bool> {
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let more = stream.try_io(Interest::READABLE, || {
            if socket::pending(stream, seen + 1)? > seen { Ok(true) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        match more {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        if ready.is_read_closed() {
            return Ok(false);
        }
    }
}

/// As [`bytes::classify`], for bytes that had to be read because they came out of TLS: there is no TLS in it that we could take off.
/// Never more than a preface's length is open.
pub fn in_prefix(bytes: &[u8]) -> Seen {
    match classify(bytes) {
        Seen::Known(Detected::Tls { .. }) | Seen::Open(Detected::Tls { .. }) => Seen::Known(Detected::Opaque),
        seen => seen,
    }
}

#[cfg(test)]
mod tests;
