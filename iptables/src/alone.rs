//! One command at a time in one network namespace.
//!
//! The one idea: a name among the abstract unix sockets belongs to the network namespace, as the rules do. It needs no writable file
//! system, and goes with its process, however that ends. The tools' own lock covers a single load; reading, deciding and loading
//! are more than one.

use std::io::{ErrorKind, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use crate::error::Error;

/// The name. Nobody is ever answered behind it.
const NAME: &str = "meshgate-iptables";

/// How many others may come first, of those that wait at the same time.
const OTHERS: usize = 100;

/// The right to change rules here, until it is dropped.
#[derive(Debug)]
pub(crate) struct Alone(#[expect(dead_code, reason = "held, not used")] UnixListener);

impl Alone {
    /// Waits until no other command is at it, for each of them as long as `patience`.
    ///
    /// # Errors
    /// When one still is then, or the name cannot be asked for.
    pub(crate) fn wait(patience: Duration) -> Result<Self, Error> {
        let name = SocketAddr::from_abstract_name(NAME).map_err(Error::Alone)?;
        for _ in 0..=OTHERS {
            match UnixListener::bind_addr(&name) {
                Ok(held) => return Ok(Self(held)),
                Err(error) if error.kind() == ErrorKind::AddrInUse => until_gone(&name, patience)?,
                Err(error) => return Err(Error::Alone(error)),
            }
        }
        Err(Error::Busy(patience))
    }
}

/// A connection that nobody accepts ends with the socket that it is waiting at.
fn until_gone(name: &SocketAddr, patience: Duration) -> Result<(), Error> {
    let Ok(mut holder) = UnixStream::connect_addr(name) else { return Ok(()) };
    holder.set_read_timeout(Some(patience)).map_err(Error::Alone)?;
    match holder.read(&mut [0]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(Error::Busy(patience)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn one_waits_for_another_and_no_longer_than_it_may() {
        let first = Alone::wait(Duration::from_secs(60)).unwrap();
        let impatient = Alone::wait(Duration::from_millis(10));
        assert!(matches!(impatient, Err(Error::Busy(_))), "{impatient:?}");
        let second = thread::spawn(|| Alone::wait(Duration::from_secs(60)).map(drop));
        drop(first);
        second.join().unwrap().unwrap();
    }
}
