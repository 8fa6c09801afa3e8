//! One process hands its listening sockets to the next, so that a new version takes over without a connection refused or cut.
//!
//! The one idea: a listening socket is not the process's but the kernel's, and its queue with it. While both processes have it,
//! either may accept; when the old one lets go, what still waits in the queue is the new one's.
//!
//! What is said, over a unix socket between two processes of one user (neither listens to anybody else):
//!
//! 1. new: `HELLO`, once all that it needs besides sockets is there and valid;
//! 2. old: how many listeners it has, then each with its kind and its configured address;
//! 3. new: `TAKEN`, once it serves. Until then the old one goes on as if nothing had been, whatever becomes of the new one;
//! 4. old: `GOING`; it accepts no more, and drains.
//!
//! What this does not do: move open connections, or anything that was learned of endpoints. Those stay with the old process and end
//! with it.

mod door;
mod line;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::socket;
pub use door::Door;
use line::Line;

/// Whoever speaks another version says something else, and is refused.
const HELLO: &str = "meshgate hand-over 1";
const TAKEN: &str = "taken";
const GOING: &str = "going";
const LISTENERS: &str = "listeners ";

/// Listeners in one hand-over: a thousand are 15 addresses with 64 workers each, and more descriptors than that no process sends by
/// default (`RLIMIT_NOFILE` counts those under way, too).
const LISTENERS_MAX: usize = 1024;

/// For the hello, which whoever connects has ready. Less than [`STEP`], for which the next one in the queue waits meanwhile.
const HELLO_WITHIN: Duration = Duration::from_secs(1);

/// For one thing to be said that the other one has ready, both being on one machine.
const STEP: Duration = Duration::from_secs(5);

/// Between the listeners and [`TAKEN`]: in that time the new process fetches the keys of tokens and starts its workers.
const TAKING: Duration = Duration::from_secs(60);

/// Rest after a failed accept, so that running out of descriptors does not make the loop spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Why listeners were not handed over.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// Others than this user may write in the socket's folder.
    #[error("others may write in {}: it is to be for this user alone (chmod go-w)", .0.display())]
    Folder(PathBuf),
    /// There is something else at the path.
    #[error("is there and is no socket")]
    NotASocket,
    /// The process at the other end is somebody else's.
    #[error("the process at the other end is user {0}'s, and this one is not")]
    Stranger(u32),
    /// The other one said something that makes no sense there.
    #[error("the other process said `{said}` in place of {expected}")]
    Unexpected {
        /// The words.
        said: String,
        /// What would have made sense.
        expected: &'static str,
    },
    /// The running process has not let go, and serves on.
    #[error("the running process did not let go of its listeners")]
    StillThere,
    /// The operating system's reason; an end in the middle counts.
    #[error("{step}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> HandOverError {
    move |source| HandOverError::Io { step, source }
}

/// What a listener takes; a socket is used again only for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `inbound.listeners`.
    Inbound,
    /// `outbound.listeners`.
    Outbound,
    /// `gateway.listeners`.
    Gateway,
    /// `gateway.compatibility`.
    Compatibility,
    /// `hbone.listeners`.
    Hbone,
    /// `admin.address`.
    Admin,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Inbound, Self::Outbound, Self::Gateway, Self::Compatibility, Self::Hbone, Self::Admin];

    /// How it is called between two processes; what is said here must stay what it is.
    fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Gateway => "gateway",
            Self::Compatibility => "compatibility",
            Self::Hbone => "hbone",
            Self::Admin => "admin",
        }
    }
}

/// A listening socket and what it is for.
#[derive(Debug)]
pub struct Listener {
    /// What it takes.
    pub kind: Kind,
    /// Its address as configured; with port 0 the socket has another.
    pub address: SocketAddr,
    /// The socket.
    pub socket: TcpListener,
}

impl Listener {
    fn line(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.address)
    }

    /// What was received, where it is what it is said to be; of a later version's kinds, for one, nothing is known here.
    fn read(text: &str, descriptor: OwnedFd) -> Option<Self> {
        let (kind, address) = text.split_once(' ')?;
        let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind)?;
        let address: SocketAddr = address.parse().ok()?;
        let socket = TcpListener::from(descriptor);
        let bound = socket.local_addr().ok()?;
        let is_it = bound.ip() == address.ip() && (bound.port() == address.port() || address.port() == 0);
        let listens = socket::is_listener(&socket).unwrap_or(false);
        // Ours is set before it is sent; another value would block a whole worker.
        socket.set_nonblocking(true).ok()?;
        (is_it && listens).then_some(Self { kind, address, socket })
    }
}

/// The old process's side: offers its listeners to whoever of the same user asks.
#[derive(Debug)]
pub struct Offer {
    door: Door,
    listeners: Vec<Listener>,
}

impl Offer {
    /// Of copies of all listeners, at a door that is in its place.
    pub fn new(door: Door, listeners: Vec<Listener>) -> Self {
        Self { door, listeners }
    }

    /// Returns when another process has taken over. Whatever goes wrong before that is logged, and changes nothing.
    ///
    /// # Errors
    /// The operating system's, when it does not let the socket be waited for.
    pub async fn taken(self) -> io::Result<()> {
        let door = UnixListener::from_std(self.door.listener()?)?;
        loop {
            let peer = match door.accept().await {
                Ok((peer, _)) => peer,
                Err(error) => {
                    tracing::error!(%error, "hand-over: cannot accept");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            match self.hand_to(&peer).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!(%error, "listeners were not handed over; serving on"),
            }
        }
    }

    async fn hand_to(&self, peer: &UnixStream) -> Result<(), HandOverError> {
        check_user(peer)?;
        expect(peer, HELLO_WITHIN, HELLO, "a hello of this version").await?;
        tracing::info!(listeners = self.listeners.len(), "another process asks for the listeners");
        let sending = async {
            say(peer, &format!("{LISTENERS}{}", self.listeners.len()), None).await?;
            for listener in &self.listeners {
                say(peer, &listener.line(), Some(&listener.socket)).await?;
            }
            Ok(())
        };
        within(STEP, sending).await.map_err(failed("sending the listeners"))?;
        expect(peer, TAKING, TAKEN, "that it serves").await?;
        within(STEP, say(peer, GOING, None)).await.map_err(failed("letting go"))
    }
}

/// The new process's side: what it got, until it has said that it serves.
#[derive(Debug)]
pub struct Taking {
    path: PathBuf,
    stream: UnixStream,
    listeners: Vec<Listener>,
}

impl Taking {
    /// Asks the process at `path`, and waits for `STEP` a line at most; `None` where there is none.
    ///
    /// # Errors
    /// There is one, and it does not hand over.
    pub async fn begin(path: &Path) -> Result<Option<Self>, HandOverError> {
        let Some(stream) = door::connect(path).await? else { return Ok(None) };
        check_user(&stream)?;
        within(STEP, say(&stream, HELLO, None)).await.map_err(failed("asking"))?;
        let head = within(STEP, hear(&stream)).await.map_err(failed("waiting for the listeners"))?.text;
        let count = head.strip_prefix(LISTENERS).and_then(|count| count.parse().ok());
        let Some(count) = count.filter(|count| *count <= LISTENERS_MAX) else {
            return Err(HandOverError::Unexpected { said: head, expected: "how many listeners it has" });
        };
        let mut listeners = Vec::new();
        for _ in 0..count {
            let line = within(STEP, hear(&stream)).await.map_err(failed("receiving the listeners"))?;
            let Line { text, descriptor: Some(descriptor) } = line else {
                return Err(HandOverError::Unexpected { said: line.text, expected: "a listener" });
            };
            match Listener::read(&text, descriptor) {
                Some(listener) => listeners.push(listener),
                None => tracing::warn!("`{text}` is no listener that is known here; left to the running process"),
            }
        }
        Ok(Some(Self { path: path.to_owned(), stream, listeners }))
    }

    /// The sockets of one listener, each to be accepted on: a connection that the kernel gave to one of them waits there.
    pub fn take(&mut self, kind: Kind, address: SocketAddr) -> Vec<TcpListener> {
        let wanted = |listener: &mut Listener| listener.kind == kind && listener.address == address;
        self.listeners.extract_if(.., wanted).map(|listener| listener.socket).collect()
    }

    /// Says that this process serves, and waits for the old one to let go. One that has died meanwhile has let go.
    ///
    /// # Errors
    /// It serves on, having waited too long.
    pub async fn done(self) -> Result<(), HandOverError> {
        for left in &self.listeners {
            tracing::info!("{} is not listened on any more", left.line());
        }
        let going = async {
            within(STEP, say(&self.stream, TAKEN, None)).await.map_err(failed("saying that it serves"))?;
            expect(&self.stream, STEP, GOING, "that it lets go").await
        };
        let Err(error) = going.await else { return Ok(()) };
        tracing::warn!(%error, "the running process did not answer");
        match door::connect(&self.path).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => Err(HandOverError::StillThere),
        }
    }
}

/// Nothing is read from, and nothing said to, a process of another user. It may be one that is seen from here without a number: in
/// another container of the pod.
fn check_user(peer: &UnixStream) -> Result<(), HandOverError> {
    let credentials = peer.peer_cred().map_err(failed("asking who is there"))?;
    same_user(geteuid().as_raw(), credentials.uid())
}

fn same_user(own: u32, peer: u32) -> Result<(), HandOverError> {
    if own == peer { Ok(()) } else { Err(HandOverError::Stranger(peer)) }
}

async fn say(peer: &UnixStream, text: &str, socket: Option<&TcpListener>) -> io::Result<()> {
    let send = || line::send(peer, text, socket.map(AsFd::as_fd));
    peer.async_io(Interest::WRITABLE, send).await
}

async fn hear(peer: &UnixStream) -> io::Result<Line> {
    peer.async_io(Interest::READABLE, || line::receive(peer)).await
}

async fn expect(
    peer: &UnixStream,
    patience: Duration,
    words: &str,
    expected: &'static str,
) -> Result<(), HandOverError> {
    let said = within(patience, hear(peer)).await.map_err(failed(expected))?.text;
    if said == words { Ok(()) } else { Err(HandOverError::Unexpected { said, expected }) }
}

async fn within<T>(patience: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests;
