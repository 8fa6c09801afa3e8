//! A connection that must arrive where the rules send it.
//!
//! The one idea: the connection goes to an address that nobody answers at, and the proxy's port is listened on here; what
//! arrives with a token that nobody else knows was redirected, and nothing else was.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::Error;

/// What became of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It arrived at the proxy's port.
    Redirected,
    /// It did not, and what happened instead.
    NotRedirected(String),
    /// It could not even leave.
    Unroutable,
}

/// Connects to `to` and looks whether that arrives at `listen`.
///
/// # Errors
/// When `listen` cannot be listened on.
pub(crate) fn probe(listen: SocketAddr, to: SocketAddr, timeout: Duration) -> Result<Seen, Error> {
    let listener = TcpListener::bind(listen).map_err(|error| cannot_listen(listen, &error))?;
    listener.set_nonblocking(true).map_err(|error| cannot_listen(listen, &error))?;
    if !has_route(to) {
        return Ok(Seen::Unroutable);
    }
    let token = token().map_err(|error| Error::Probe(format!("no random token: {error}")))?;
    Ok(match reach(&listener, to, timeout, token) {
        Ok(answer) if answer == token => Seen::Redirected,
        Ok(_) => Seen::NotRedirected("somebody else answered".to_owned()),
        Err(error) => Seen::NotRedirected(Reason(error).to_string()),
    })
}

/// The token that comes back over a connection to `to`.
fn reach(listener: &TcpListener, to: SocketAddr, timeout: Duration, token: Token) -> io::Result<Token> {
    let mut client = TcpStream::connect_timeout(&to, timeout)?;
    client.set_read_timeout(Some(timeout))?;
    let own = client.local_addr()?.port();
    for _ in 0..MAX_STRANGERS {
        let (mut accepted, peer) = accept(listener, timeout)?;
        // A stranger that has gone already misses nothing.
        let told = accepted.set_nonblocking(false).and_then(|()| accepted.write_all(&token));
        if peer.port() == own {
            told?;
            break;
        }
    }
    let mut answer = Token::default();
    client.read_exact(&mut answer)?;
    Ok(answer)
}

fn accept(listener: &TcpListener, timeout: Duration) -> io::Result<(TcpStream, SocketAddr)> {
    // The connection is made once the client knows of it, and this side may learn of that a moment later.
    let limit = Timespec::try_from(timeout).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&limit))? {
        0 => Err(io::Error::other("another listener took the connection")),
        _ => listener.accept(),
    }
}

/// Whether packets to an address have a way out. Without one no rule ever sees them.
fn has_route(to: SocketAddr) -> bool {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    // Sends nothing.
    UdpSocket::bind(any).and_then(|socket| socket.connect(to)).is_ok()
}

fn cannot_listen(listen: SocketAddr, error: &io::Error) -> Error {
    Error::Probe(match error.kind() {
        ErrorKind::AddrInUse => format!("{listen} is taken: the probe stands in for the proxy, which must not run yet"),
        _ => format!("cannot listen on {listen}: {error}"),
    })
}

fn token() -> io::Result<Token> {
    let mut token = Token::default();
    File::open("/dev/urandom")?.read_exact(&mut token)?;
    Ok(token)
}

/// Why a connection did not arrive, in words of this situation.
struct Reason(io::Error);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => f.write_str("nobody answered: it left the machine"),
            ErrorKind::ConnectionRefused => f.write_str("refused: it went to where it was addressed"),
            _ => self.0.fmt(f),
        }
    }
}

/// Nobody guesses it within a probe.
type Token = [u8; 16];

/// Connections of others that may be redirected here while the probe is on its way: more than a queue holds.
const MAX_STRANGERS: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn what_arrives_was_redirected() {
        // Without any rule, the listener's own address is where a redirected connection arrives.
        let listen = free();
        assert_eq!(probe(listen, listen, Duration::from_secs(5)).unwrap(), Seen::Redirected);
    }

    #[test]
    fn what_arrives_elsewhere_was_not() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let seen = probe(free(), other.local_addr().unwrap(), SHORT).unwrap();
        assert_eq!(seen, Seen::NotRedirected("another listener took the connection".to_owned()));
        let seen = probe(free(), free(), SHORT).unwrap();
        assert_eq!(seen, Seen::NotRedirected("refused: it went to where it was addressed".to_owned()));
    }

    #[test]
    fn a_port_that_is_taken_is_no_answer() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = probe(taken.local_addr().unwrap(), free(), SHORT).unwrap_err();
        assert!(error.to_string().contains("is taken"), "{error}");
    }
}
