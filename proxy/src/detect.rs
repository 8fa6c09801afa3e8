//! What does this connection speak? Answered by its first bytes.
//!
//! They are put back in front of the connection, so whoever serves it reads it from the start.
//! A port hint beats the look, the look beats the time-out, and after the time-out the connection is opaque: a client that
//! waits for the server to speak first must not wait for us. What the bytes say is [`bytes`]' affair.

pub mod bytes;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::connection::Direction;
use crate::drain::{self, Phase};
use crate::error::{ErrorKind, ProxyError};
use crate::report;
use crate::rewind::Rewind;
use crate::stream::Stream;
use crate::worker::Worker;
use bytes::{Seen, classify};

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

/// Reads the first bytes until they say enough, or the time is over; then what there is of them counts. They will be read again.
///
/// # Errors
/// The socket's, when the connection broke; `UnexpectedEof` when it ended inside of a ClientHello.
pub async fn detect(stream: &mut Rewind<TcpStream>, deadline: Duration) -> io::Result<Detected> {
    stream.first(deadline, classify).await
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
) -> Result<Option<(Detected, Stream)>, ProxyError> {
    let phase = match direction {
        Direction::Outbound => Phase::Ended,
        Direction::Inbound | Direction::Gateway => Phase::Draining,
    };
    let looking = async {
        let mut stream = Rewind::new(stream);
        let detected = match known.said {
            Some(said) => said,
            None => detect(&mut stream, deadline(worker, known.port)).await?,
        };
        Ok((detected, Stream::rewound(stream)))
    };
    let gone = |error: io::Error| ProxyError::new(ErrorKind::DownstreamGone, "while detecting").caused_by(error);
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
