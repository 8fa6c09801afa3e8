//! Where a connection was going before redirection, and the guard against connecting to ourselves.

use std::io;
use std::net::SocketAddr;

use meshgate_config::OriginalDestination;
use tokio::net::TcpStream;

use crate::error::{ErrorKind, ProxyError};
use crate::socket;

/// The original destination of an accepted connection; `None` where the listener has none and the Host decides.
///
/// # Errors
/// [`ErrorKind::Loop`] when the connection was made to one of our own listeners directly: forwarding to "the original
/// destination" would come straight back.
pub fn of(
    stream: &TcpStream,
    setting: OriginalDestination,
    own: &OwnAddresses,
) -> Result<Option<SocketAddr>, ProxyError> {
    match setting {
        OriginalDestination::None => Ok(None),
        OriginalDestination::Fixed(address) => Ok(Some(address)),
        OriginalDestination::Kernel => {
            let address = match socket::original_destination(stream) {
                Ok(address) => address,
                // Without an entry in connection tracking the connection came here by itself.
                Err(_) => stream.local_addr().map(socket::canonical).map_err(not_redirected)?,
            };
            if own.is_own(address, stream.local_addr().ok()) {
                let detail = format!("connection to own listener {address} was not redirected");
                return Err(ProxyError::new(ErrorKind::Loop, detail));
            }
            Ok(Some(address))
        }
    }
}

fn not_redirected(error: io::Error) -> ProxyError {
    ProxyError::new(ErrorKind::DownstreamGone, "no local address").caused_by(error)
}

/// The addresses this process listens on for redirected traffic.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses(Vec<SocketAddr>);

impl OwnAddresses {
    /// The guard over the given listeners.
    pub fn new(listeners: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(listeners.into_iter().map(socket::canonical).collect())
    }

    /// Whether `destination` is one of our listeners. A listener on the unspecified address is reached by every local
    /// address: `local`, the address the connection arrived on, and loopback are known to be ours.
    pub fn is_own(&self, destination: SocketAddr, local: Option<SocketAddr>) -> bool {
        let destination = socket::canonical(destination);
        self.0.iter().any(|own| reaches(*own, destination, local))
    }
}

/// Whether what is sent to `destination` reaches who listens on `own`; see [`OwnAddresses::is_own`]. Both are canonical.
pub(crate) fn reaches(own: SocketAddr, destination: SocketAddr, local: Option<SocketAddr>) -> bool {
    own.port() == destination.port()
        && (own.ip() == destination.ip()
            || (own.ip().is_unspecified()
                && (destination.ip().is_loopback()
                    || local.is_some_and(|local| local.ip().to_canonical() == destination.ip()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_listeners_in_every_spelling() {
        let own = OwnAddresses::new(["0.0.0.0:15006".parse().unwrap(), "127.0.0.1:15001".parse().unwrap()]);
        let local = Some("10.1.2.3:15006".parse().unwrap());
        for (address, expected) in [
            ("10.1.2.3:15006", true),
            ("[::ffff:10.1.2.3]:15006", true),
            ("127.0.0.9:15006", true),
            ("10.9.9.9:15006", false),
            ("10.1.2.3:8080", false),
            ("127.0.0.1:15001", true),
            ("127.0.0.2:15001", false),
        ] {
            assert_eq!(own.is_own(address.parse().unwrap(), local), expected, "{address}");
        }
    }
}
