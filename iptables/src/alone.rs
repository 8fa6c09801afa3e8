//! One command at a time in one network namespace.
//!
//! The one idea: a name among the abstract unix sockets belongs to the network namespace, as the rules do. It needs no writable file
//! system, and goes with its process, however that ends. The tools' own lock covers a single load; reading, deciding and loading
//! are more than one.

use std::io::{ErrorKind, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use crate::error::Error;

/// The name. Nobody is ever answered behind it.
const NAME: &str = "meshgate-iptables";

/// How many others may come first, of those that wait at the same time.
const OTHERS: usize = 100;

/// Rest before another look at somebody who cannot be waited for.
const BETWEEN: Duration = Duration::from_millis(1);

/// The right to change rules here, until it is dropped.
#[derive(Debug)]
pub(crate) struct Alone(#[expect(dead_code, reason = "held, not used")] UnixListener);

impl Alone {
    /// Waits until no other command is at it, for each of them as long as `patience`.
    ///
    /// # Errors
    /// When one still is then, or the name cannot be asked for.
    pub(crate) fn wait(patience: Duration) -> Result<Self, Error> {
        Self::under(NAME, patience)
    }

    #[expect(clippy::disallowed_methods, reason = "a command has one thread, and there is no event to wait for")]
    fn under(name: &str, patience: Duration) -> Result<Self, Error> {
        let name = SocketAddr::from_abstract_name(name).map_err(Error::Alone)?;
        let (mut others, mut rested) = (0, Duration::ZERO);
        while others <= OTHERS {
            match UnixListener::bind_addr(&name) {
                Ok(held) => return Ok(Self(held)),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                Err(error) => return Err(Error::Alone(error)),
            }
            match UnixStream::connect_addr(&name) {
                Ok(holder) => {
                    until_gone(holder, patience)?;
                    others += 1;
                    rested = Duration::ZERO;
                }
                // It has just gone, or has the name and cannot be waited for yet: those are two calls of the kernel, and between them
                // it may not run for long.
                Err(_) if rested < patience => {
                    thread::sleep(BETWEEN);
                    rested += BETWEEN;
                }
                Err(_) => break,
            }
        }
        Err(Error::Busy(patience))
    }
}

/// A connection that nobody accepts ends with the socket that it is waiting at.
fn until_gone(mut holder: UnixStream, patience: Duration) -> Result<(), Error> {
    holder.set_read_timeout(Some(patience)).map_err(Error::Alone)?;
    match holder.read(&mut [0]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(Error::Busy(patience)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real time is what is looked at")]
mod tests {
    use std::time::Instant;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};

    use super::*;

    /// Longer than a test may take.
    const PATIENT: Duration = Duration::from_secs(60);

    /// Has run out before anything has happened.
    const IMPATIENT: Duration = Duration::from_millis(10);

    #[test]
    fn one_waits_for_another_and_no_longer_than_it_may() {
        const NAME: &str = "meshgate-test-one-waits";
        let first = Alone::under(NAME, PATIENT).unwrap();
        let impatient = Alone::under(NAME, IMPATIENT);
        assert!(matches!(impatient, Err(Error::Busy(_))), "{impatient:?}");
        let second = thread::spawn(|| Alone::under(NAME, PATIENT).map(drop));
        drop(first);
        second.join().unwrap().unwrap();
    }

    #[test]
    fn somebody_who_has_the_name_and_does_not_listen_yet_is_waited_for_too() {
        const NAME: &str = "meshgate-test-not-listening";
        let first = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&first, &SocketAddrUnix::new_abstract_name(NAME.as_bytes()).unwrap()).unwrap();
        let begun = Instant::now();
        let impatient = Alone::under(NAME, IMPATIENT);
        assert!(matches!(impatient, Err(Error::Busy(_))) && begun.elapsed() >= IMPATIENT, "{impatient:?}");
        let second = thread::spawn(|| Alone::under(NAME, PATIENT).map(drop));
        thread::sleep(IMPATIENT);
        assert!(!second.is_finished());
        listen(&first, 1).unwrap();
        drop(first);
        second.join().unwrap().unwrap();
    }
}
