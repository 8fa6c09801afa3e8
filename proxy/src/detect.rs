//! What does this connection speak? Answered by looking at its first bytes without consuming them.
//!
//! The bytes stay in the socket (`MSG_PEEK`), so whoever serves the connection reads it from the start and no copy is kept.
//! A port hint beats the peek, the peek beats the time-out, and after the time-out the connection is opaque: a client that
//! waits for the server to speak first must not wait for us.

use std::io;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use meshgate_identity::alpn;

use crate::connection::Direction;
use crate::drain::{self, Phase};
use crate::error::{ErrorKind, ProxyError};
use crate::worker::Worker;
use crate::{report, socket};

/// The start of every HTTP/2 connection (RFC 9113, section 3.4).
pub const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Enough for a ClientHello with post-quantum key shares (about 1.8 KiB) and long lists beside them; a TLS record may be
/// 16 KiB, and a hello that long is not a mesh client's.
const PEEK_MAX: usize = 8 * 1024;

/// The longest method we take for HTTP before a blank: `UPDATEREDIRECTREF` is the longest registered with IANA.
const METHOD_MAX: usize = 17;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// A TLS ClientHello; whether it offers one of the mesh's own application protocols.
    Tls {
        /// The hello offers an ALPN name of the mesh (see [`alpn::is_mesh`]).
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

/// Looks at the first bytes until they say enough, or the time is over.
///
/// # Errors
/// The socket's, when the connection broke.
pub async fn detect(stream: &TcpStream, deadline: Duration) -> io::Result<Detected> {
    match timeout(deadline, peek(stream)).await {
        Ok(result) => result,
        Err(_) => Ok(Detected::TimedOut),
    }
}

/// [`detect`] for a connection that has just been accepted, within the bootstrap's time, and counted; where something is `said`
/// beforehand there is no look. One that says nothing until the drain takes no new work of its direction is [`Detected::Closed`].
///
/// # Errors
/// [`ErrorKind::DownstreamGone`].
pub async fn first_bytes(
    worker: &Worker,
    direction: Direction,
    stream: &TcpStream,
    said: Option<Detected>,
) -> Result<Detected, ProxyError> {
    let phase = match direction {
        Direction::Outbound => Phase::Ended,
        Direction::Inbound | Direction::Gateway => Phase::Draining,
    };
    let looking = async {
        match said {
            Some(said) => Ok(said),
            None => detect(stream, worker.shared.bootstrap.timeouts.detect).await,
        }
    };
    let detected = drain::before(worker, phase, looking).await.unwrap_or(Ok(Detected::Closed));
    let gone = |error| ProxyError::new(ErrorKind::DownstreamGone, "while detecting").caused_by(error);
    let detected = detected.map_err(gone)?;
    report::count_detection(worker, direction, detected);
    Ok(detected)
}

async fn peek(stream: &TcpStream) -> io::Result<Detected> {
    // Most first flights fit in this; only a hello that does not is looked at again in a bigger buffer.
    let mut small = [0; 512];
    let len = stream.peek(&mut small).await?;
    match classify(small.get(..len).unwrap_or_default()) {
        Classified::Known(detected) => return Ok(detected),
        Classified::More if len == 0 => return Ok(Detected::Closed),
        Classified::More => {}
    }
    let mut large = vec![0; PEEK_MAX];
    let mut seen = len;
    loop {
        let len = stream.peek(&mut large).await?;
        match classify(large.get(..len).unwrap_or_default()) {
            Classified::Known(detected) => return Ok(detected),
            Classified::More if len == large.len() => return Ok(Detected::Opaque),
            Classified::More => {}
        }
        if len > seen {
            seen = len;
        } else {
            more_than(stream, seen).await?;
        }
    }
}

/// Waits until more than `seen` bytes are there to peek. Bytes that were only peeked keep a socket readable, so this clears
/// the readiness by hand and waits for the edge that the next segment makes.
async fn more_than(stream: &TcpStream, seen: usize) -> io::Result<()> {
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let more = stream.try_io(Interest::READABLE, || {
            if socket::pending(stream, seen + 1)? > seen { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        match more {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        if ready.is_read_closed() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

enum Classified {
    Known(Detected),
    More,
}

fn classify(bytes: &[u8]) -> Classified {
    use Classified::{Known, More};
    match bytes {
        [] => More,
        [0x16, rest @ ..] => match rest {
            [] => More,
            // Record version major 3 for every TLS there is.
            [0x03, ..] => client_hello(bytes),
            _ => Known(Detected::Opaque),
        },
        _ if bytes.starts_with(H2_PREFACE) => Known(Detected::Http2),
        _ if H2_PREFACE.starts_with(bytes) => More,
        _ => request_line(bytes),
    }
}

fn client_hello(bytes: &[u8]) -> Classified {
    let mut acceptor = Acceptor::default();
    let mut reader = bytes;
    while !reader.is_empty() {
        match acceptor.read_tls(&mut reader) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    match acceptor.accept() {
        Ok(None) => Classified::More,
        Ok(Some(accepted)) => {
            let mesh = accepted.client_hello().alpn().is_some_and(|mut offered| offered.any(alpn::is_mesh));
            Classified::Known(Detected::Tls { mesh })
        }
        // A record that says it is a handshake and is none: the TLS accept will answer with the proper alert.
        Err(_) => Classified::Known(Detected::Tls { mesh: false }),
    }
}

/// A method token and a blank is HTTP/1; the request line itself is the HTTP parser's to judge.
fn request_line(bytes: &[u8]) -> Classified {
    let token = bytes.iter().position(|byte| !byte.is_ascii_uppercase() && *byte != b'-');
    match token {
        None if bytes.len() <= METHOD_MAX => Classified::More,
        Some(at) if (1..=METHOD_MAX).contains(&at) && bytes.get(at) == Some(&b' ') => {
            Classified::Known(Detected::Http1)
        }
        _ => Classified::Known(Detected::Opaque),
    }
}

/// As [`detect`], for bytes that had to be read because they came out of TLS.
pub fn in_prefix(bytes: &[u8]) -> Option<Detected> {
    match classify(bytes) {
        Classified::Known(Detected::Tls { .. }) => Some(Detected::Opaque),
        Classified::Known(detected) => Some(detected),
        Classified::More => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn tells_protocols_by_their_first_bytes() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Detected::Http1),
            (b"M-SEARCH * HTTP/1.1", Detected::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Detected::Http2),
            (b"PROPFIND /", Detected::Http1),
            (b"get / HTTP/1.1\r\n", Detected::Opaque),
            (b"\x00\x01\x02", Detected::Opaque),
            (b"\x16\x07", Detected::Opaque),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", Detected::Opaque),
        ] {
            let (mut client, server) = pair().await;
            client.write_all(bytes).await.unwrap();
            let got = detect(&server, Duration::from_secs(5)).await.unwrap();
            assert_eq!(got, expected, "{}", bytes.escape_ascii());
        }
    }

    #[tokio::test]
    async fn waits_for_the_rest_of_a_partial_preface_and_consumes_nothing() {
        let (mut client, mut server) = pair().await;
        client.write_all(&H2_PREFACE[..5]).await.unwrap();
        let mut detecting = Box::pin(detect(&server, Duration::from_secs(5)));
        // The first part alone must not decide: poll until the socket has it, then send the rest.
        assert!(futures_util::FutureExt::now_or_never(&mut detecting).is_none());
        client.write_all(&H2_PREFACE[5..]).await.unwrap();
        assert_eq!(detecting.as_mut().await.unwrap(), Detected::Http2);
        drop(detecting);
        let mut whole = vec![0; H2_PREFACE.len()];
        tokio::io::AsyncReadExt::read_exact(&mut server, &mut whole).await.unwrap();
        assert_eq!(whole, H2_PREFACE);
    }

    #[tokio::test]
    async fn a_silent_client_is_timed_out_and_a_closed_one_closed() {
        let (client, server) = pair().await;
        assert_eq!(detect(&server, Duration::from_millis(20)).await.unwrap(), Detected::TimedOut);
        drop(client);
        assert_eq!(detect(&server, Duration::from_secs(5)).await.unwrap(), Detected::Closed);
    }

    #[tokio::test]
    async fn a_client_that_closes_inside_a_hello_is_an_error_at_once() {
        let (mut client, server) = pair().await;
        client.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        client.shutdown().await.unwrap();
        let got = detect(&server, Duration::from_secs(60)).await;
        assert_eq!(got.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
