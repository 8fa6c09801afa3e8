//! `meshgate ca serve`: an authority that signs for who proves who they are.
//!
//! The one idea: three questions in this order, and a no to any ends the call. Who is it (a token or a certificate, `proof`)? Is the
//! request theirs and for them (`meshgate_identity::ca::SigningRequest`)? May they have one more now (`rates`)? Then it is signed, written
//! down (`journal`), and only then sent: there is no certificate that the journal does not have.
//!
//! Why it was a no is for the log; the caller is told a status.

mod call;
mod connection;
mod journal;
mod observe;
mod proof;
mod rates;
mod refusal;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meshgate_identity::ca::{self, Authority, CaError, IssueOptions};
use meshgate_identity::{Identity, IdentityStore, SpiffeId, SpiffeIdError};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::access_log::rfc3339;
use crate::{signal, socket};
use journal::Journal;
use observe::Counts;
use rates::{Rate, Rates};

pub use proof::{TokenSettings, Tokens, TokensError};

/// Between looks at the key set, the revocation list and the clock.
const LOOK: Duration = Duration::from_secs(5);

/// How long what is in progress may take when the end is near; a call takes milliseconds.
const DRAIN: Duration = Duration::from_secs(10);

/// After the system had no descriptor for one more connection.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// What is to be served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The authority's directory.
    pub dir: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where `/ready` and `/metrics` are, in the clear.
    pub admin: Option<SocketAddr>,
    /// The names its own certificate is for; at least one.
    pub dns_names: Vec<String>,
    /// Whose tokens prove something; without, certificates alone do.
    pub tokens: Option<TokenSettings>,
    /// How long certificates are valid, at the most and unless asked for less.
    pub max_ttl: Duration,
    /// And at the least: who asks for shorter ones would be back all the time.
    pub min_ttl: Duration,
    /// Where what was issued is written down.
    pub journal: PathBuf,
    /// Certificates a second for one identity.
    pub identity_rate: u32,
    /// Certificates a second for all.
    pub rate: u32,
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address.
    pub connections_per_address: usize,
    /// For a handshake, and for a request to come.
    pub timeout: Duration,
    /// How long a connection may be open without a call.
    pub idle: Duration,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The authority cannot be opened, or not sign for itself.
    #[error(transparent)]
    Authority(#[from] CaError),
    /// The trust domain makes no ID for the authority itself.
    #[error("{0}")]
    Id(#[from] SpiffeIdError),
    /// The keys of tokens.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The journal cannot be written.
    #[error("{}: the journal cannot be written: {source}", path.display())]
    Journal {
        /// Which file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A listener could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The TLS library's.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The operating system refused something that is always there.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// What every call looks at.
pub(crate) struct Desk {
    settings: Settings,
    authority: Authority,
    own: IssueOptions,
    store: RefCell<IdentityStore>,
    /// Made of the identity in force, whose generation it has.
    tls: RefCell<(Arc<Identity>, Arc<ServerConfig>)>,
    tokens: RefCell<Option<Rc<Tokens>>>,
    rates: RefCell<Rates>,
    journal: Journal,
    connections: RefCell<HashMap<IpAddr, usize>>,
    counts: Counts,
    ending: Cell<bool>,
}

impl Desk {
    fn open(settings: Settings) -> Result<Self, ServeError> {
        let authority = Authority::open(&settings.dir)?;
        let id: SpiffeId = format!("spiffe://{}/meshgate-ca", authority.trust_domain()).parse()?;
        let own = IssueOptions { id, validity: ca::DEFAULT_LEAF_VALIDITY, dns_names: settings.dns_names.clone() };
        let store = authority.serving_identity(&settings.dir, &own)?;
        let tls = configured(&store)?;
        let tokens = settings.tokens.as_ref().map(Tokens::open).transpose()?.map(Rc::new);
        let journal = Journal::open(&settings.journal)
            .map_err(|source| ServeError::Journal { path: settings.journal.clone(), source })?;
        let rates = Rates::new(Rate::a_second(settings.identity_rate), Rate::a_second(settings.rate));
        Ok(Self {
            settings,
            authority,
            own,
            store: store.into(),
            tls: tls.into(),
            tokens: tokens.into(),
            rates: rates.into(),
            journal,
            connections: RefCell::default(),
            counts: Counts::default(),
            ending: Cell::new(false),
        })
    }

    /// Reads again what may have changed, and renews its own certificate when half of its life is over.
    fn look(&self) {
        if let Err(error) = self.refresh_identity() {
            tracing::error!(%error, "the last good certificate and revocation list stay in force");
        }
        let changed = self.tokens.borrow().as_deref().and_then(Tokens::reread);
        match changed {
            Some(Ok(tokens)) => {
                tracing::info!("the key set of tokens has changed");
                *self.tokens.borrow_mut() = Some(Rc::new(tokens));
            }
            Some(Err(error)) => tracing::error!(%error, "the last good key set stays in force"),
            None => {}
        }
    }

    fn refresh_identity(&self) -> Result<(), ServeError> {
        let current = self.store.borrow().current();
        let (begun, ends) = (current.svid().not_before(), current.svid().not_after());
        let life = ends.duration_since(begun).unwrap_or_default();
        let has_list = self.settings.dir.join(ca::REVOCATION_LIST_FILE).exists();
        let is_due = SystemTime::now() >= begun + life / 2 || has_list != self.store.borrow().has_revocation_lists();
        if is_due {
            let store = self.authority.serving_identity(&self.settings.dir, &self.own)?;
            *self.tls.borrow_mut() = configured(&store)?;
            *self.store.borrow_mut() = store;
        } else if self.store.borrow().reload().map_err(CaError::from)? == meshgate_identity::Reload::Published {
            let tls = configured(&self.store.borrow())?;
            *self.tls.borrow_mut() = tls;
        }
        Ok(())
    }

    fn tls(&self) -> (Arc<Identity>, Arc<ServerConfig>) {
        let tls = self.tls.borrow();
        (Arc::clone(&tls.0), Arc::clone(&tls.1))
    }

    /// One more connection from an address, if there is room.
    fn enter(self: &Rc<Self>, address: IpAddr) -> Option<Seat> {
        let mut connections = self.connections.borrow_mut();
        if connections.values().sum::<usize>() >= self.settings.connections {
            return None;
        }
        let from = connections.entry(address).or_default();
        (*from < self.settings.connections_per_address).then(|| {
            *from += 1;
            Seat { desk: Rc::clone(self), address }
        })
    }
}

/// The place of one connection; free again when it is dropped.
struct Seat {
    desk: Rc<Desk>,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut connections = self.desk.connections.borrow_mut();
        if let Some(from) = connections.get_mut(&self.address) {
            *from = from.saturating_sub(1);
            if *from == 0 {
                connections.remove(&self.address);
            }
        }
    }
}

fn configured(store: &IdentityStore) -> Result<(Arc<Identity>, Arc<ServerConfig>), ServeError> {
    let identity = store.current();
    let config = identity.authority_server_config(&[b"h2"])?;
    Ok((identity, Arc::new(config)))
}

/// Serves until a signal ends it. Needs a local runtime; `bound` is told where it listens.
///
/// # Errors
/// What a start can fail of.
pub async fn run(settings: Settings, bound: impl FnOnce(SocketAddr)) -> Result<(), ServeError> {
    let mut stop = signal::Stop::listen()?;
    let (listen, admin) = (settings.listen, settings.admin);
    let desk = Rc::new(Desk::open(settings)?);
    let listener = listener(listen)?;
    if let Some(address) = admin {
        tokio::task::spawn_local(observe::serve(self::listener(address)?, Rc::clone(&desk)));
    }
    bound(listener.local_addr()?);
    if let Some(key) = Authority::exposed_key(&desk.settings.dir) {
        let key = key.display();
        tracing::warn!(%key, "the key is readable for everybody, and whoever has read it can be anybody in the mesh");
    }
    let (trust_domain, ends) = (desk.authority.trust_domain(), rfc3339(desk.authority.not_after()));
    match &desk.settings.tokens {
        Some(tokens) => {
            tracing::info!(%trust_domain, ends, issuer = tokens.issuer, "signing for tokens and certificates");
        }
        None => tracing::info!(%trust_domain, ends, "signing for certificates alone: there is no --token-jwks"),
    }
    let mut connections = JoinSet::new();
    let mut look = interval(LOOK);
    loop {
        tokio::select! {
            name = stop.next() => {
                tracing::info!("{name}: no more connections");
                break;
            }
            _ = look.tick() => desk.look(),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Some(seat) = desk.enter(peer.ip()) else {
                        desk.counts.refused("connections");
                        continue;
                    };
                    connections.spawn_local(connection::serve(Rc::clone(&desk), stream, peer, seat));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(OUT_OF_DESCRIPTORS).await;
                }
            },
        }
    }
    drop(listener);
    desk.ending.set(true);
    // They look every so often whether the end is near.
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN, ended).await.is_err() {
        tracing::warn!("closing what is left");
    }
    Ok(())
}

fn listener(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let bind = || {
        let listener = socket::bind(address, false)?;
        socket::listen(&listener)?;
        TcpListener::from_std(listener)
    };
    bind().map_err(|source| ServeError::Bind { address, source })
}

/// Where the journal is unless somebody says otherwise.
pub fn default_journal(dir: &Path) -> PathBuf {
    dir.join("issued.jsonl")
}
