//! All the wiring, top to bottom: read what the operator wrote, bind, start the workers, watch files and signals, drain.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use meshgate_config::{Bootstrap, ConfigStore, InboundListener, OutboundListener, Problem, Snapshot};
use meshgate_identity::{Identity, IdentityError, IdentityStore, SpiffeIdError};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::access_log::{Sink, Writer};
use crate::balance;
use crate::clusters::Watchers;
use crate::connection::Direction;
use crate::drain::{self, Controller, Drain, Phase};
use crate::listen::{accept_loop, bind_all};
use crate::orig_dst::OwnAddresses;
use crate::readiness::Readiness;
use crate::worker::{Shared, Worker};
use crate::{admin, gateway, inbound, jwks, outbound, reload, runtime, sessions, signal, socket};

/// How often the own certificate is checked for having ended, and idle upstream connections are looked through.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// Why the process could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bootstrap or the resources have problems; all of them are listed.
    #[error("{}", list(.0))]
    Config(Vec<Problem>),
    /// The own certificate, key or trust bundle is not usable.
    #[error("identity: {0}")]
    Identity(#[from] IdentityError),
    /// The bootstrap's workload has names that no SPIFFE ID can have.
    #[error("workload: {0}")]
    Workload(#[from] SpiffeIdError),
    /// The roots that keys are fetched by are not usable.
    #[error("jwks.trustBundle: {0}")]
    Jwks(#[from] jwks::FetchError),
    /// A listener could not be bound.
    #[error("{what}: cannot listen on {address}: {source}")]
    Bind {
        /// The bootstrap's field.
        what: String,
        /// Its value.
        address: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The access log could not be opened.
    #[error("accessLog.path: cannot open {path}: {source}")]
    AccessLog {
        /// The bootstrap's value.
        path: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The operating system refused something that is always there.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// A worker ended although nobody asked it to: a defect.
    #[error("ended by itself: {0}")]
    Broke(io::Error),
    /// Files cannot be watched.
    #[error("cannot watch files: {0}")]
    Watch(#[from] meshgate_config::watch::WatchError),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A process ready to run: everything that can be wrong at start has been found.
pub struct App {
    shared: Arc<Shared>,
    config: Arc<ConfigStore>,
    identity: Arc<IdentityStore>,
    sockets: Vec<Sockets>,
    admin: std::net::TcpListener,
    access_log: Option<Writer>,
    jwks: jwks::Client,
}

/// One worker's share of the listeners.
#[derive(Default)]
struct Sockets {
    inbound: Vec<(std::net::TcpListener, InboundListener)>,
    outbound: Vec<(std::net::TcpListener, OutboundListener)>,
    gateway: Vec<std::net::TcpListener>,
    compatibility: Vec<std::net::TcpListener>,
    hbone: Vec<std::net::TcpListener>,
}

impl App {
    /// Reads, checks and binds; serves nothing yet.
    ///
    /// # Errors
    /// Everything a start can fail of, each with the field or file concerned.
    pub fn open(bootstrap: Bootstrap) -> Result<Self, StartError> {
        let identity = IdentityStore::open(bootstrap.identity_sources()?)?;
        let config = ConfigStore::open(&bootstrap).map_err(StartError::Config)?;
        let jwks = jwks::Client::new(bootstrap.jwks.trust_bundle.as_ref())?;
        let (sockets, own) = bind(&bootstrap)?;
        let address = bootstrap.admin.address;
        let admin = bind_one("admin.address", address, || {
            let admin = socket::bind(address, false)?;
            socket::listen(&admin).map(|()| admin)
        })?;
        let access_log = match &bootstrap.access_log.path {
            Some(path) => Some(open_access_log(path)?),
            None => None,
        };
        let readiness = Readiness::new(["listeners", jwks::FIRST_FETCH]);
        let shared = Arc::new(Shared::new(bootstrap, own, readiness));
        Ok(Self { shared, config: Arc::new(config), identity: Arc::new(identity), sockets, admin, access_log, jwks })
    }

    /// Serves until a signal ends it.
    ///
    /// # Errors
    /// The operating system's, at start; a worker's, if one ends by itself.
    pub fn run(self) -> Result<(), StartError> {
        let runtime = runtime::local()?;
        let result = runtime.block_on(self.serve());
        // A look-up of a name may hang for as long as the system's resolver likes; nobody waits for it any more.
        runtime.shutdown_background();
        result
    }

    async fn serve(self) -> Result<(), StartError> {
        let Self { shared, config, identity, sockets, admin, access_log, jwks } = self;
        let mut stop = signal::Stop::listen()?;
        let (controller, drain) = drain::channel();
        reload::announce(&shared, &config.current(), &identity.current());
        let _watcher = reload::watch_files(&shared, &config, &identity)?;
        let (fetcher, keys) = jwks::channel(&shared, jwks);
        tokio::task::spawn_local(fetcher.serve(config.subscribe()));
        let watchers = Watchers::new(Arc::clone(&shared), Arc::clone(&config), identity.subscribe());
        tokio::task::spawn_local(watchers.serve());
        tokio::task::spawn_local(balance::keep(Arc::clone(&shared)));
        let workers = sockets
            .into_iter()
            .enumerate()
            .map(|(index, sockets)| {
                let start = WorkerStart {
                    shared: Arc::clone(&shared),
                    config: config.subscribe(),
                    identity: identity.subscribe(),
                    keys: keys.clone(),
                    sink: access_log.as_ref().map(|log| log.sink(shared.metrics.access_log_dropped.clone())),
                    drain: drain.clone(),
                    sockets,
                };
                runtime::spawn_worker(index, move || start.run())
            })
            .collect::<io::Result<Vec<_>>>()?;
        let admin = TcpListener::from_std(admin)?;
        tokio::task::spawn_local(admin::serve(admin, Arc::clone(&shared), config.subscribe()));
        shared.readiness.clear("listeners");
        tracing::info!(workers = workers.len(), "ready");
        let ended = housekeep_until(&shared, &identity, until_stopped(&shared, &mut stop, &workers)).await;
        shared.readiness.block("draining");
        let ended = ended.or_delay(&shared, &mut stop).await;
        finish(&shared, &controller, &mut stop, workers, ended).await?;
        if let Some(log) = access_log {
            log.close();
        }
        Ok(())
    }
}

fn bind(bootstrap: &Bootstrap) -> Result<(Vec<Sockets>, OwnAddresses), StartError> {
    let workers = runtime::worker_count(bootstrap.workers);
    let mut sockets: Vec<Sockets> = (0..workers).map(|_| Sockets::default()).collect();
    let mut own = Vec::new();
    for (index, listener) in bootstrap.inbound.listeners.iter().enumerate() {
        let what = format!("inbound.listeners[{index}].address");
        let bound = bind_one(&what, listener.address, || bind_all(listener.address, workers))?;
        note(&mut own, &bound, Direction::Inbound);
        for (worker, socket) in sockets.iter_mut().zip(bound) {
            worker.inbound.push((socket, *listener));
        }
    }
    for (index, listener) in bootstrap.outbound.listeners.iter().enumerate() {
        let what = format!("outbound.listeners[{index}].address");
        let bound = bind_one(&what, listener.address, || bind_all(listener.address, workers))?;
        note(&mut own, &bound, Direction::Outbound);
        for (worker, socket) in sockets.iter_mut().zip(bound) {
            worker.outbound.push((socket, *listener));
        }
    }
    for (index, address) in bootstrap.gateway.listeners.iter().enumerate() {
        let bound = bind_one(&format!("gateway.listeners[{index}]"), *address, || bind_all(*address, workers))?;
        note(&mut own, &bound, Direction::Gateway);
        sockets.iter_mut().zip(bound).for_each(|(worker, socket)| worker.gateway.push(socket));
    }
    for (index, address) in bootstrap.gateway.compatibility.iter().enumerate() {
        let bound = bind_one(&format!("gateway.compatibility[{index}]"), *address, || bind_all(*address, workers))?;
        note(&mut own, &bound, Direction::Gateway);
        sockets.iter_mut().zip(bound).for_each(|(worker, socket)| worker.compatibility.push(socket));
    }
    for (index, address) in bootstrap.hbone.listeners.iter().enumerate() {
        let bound = bind_one(&format!("hbone.listeners[{index}]"), *address, || bind_all(*address, workers))?;
        note(&mut own, &bound, Direction::Inbound);
        sockets.iter_mut().zip(bound).for_each(|(worker, socket)| worker.hbone.push(socket));
    }
    Ok((sockets, OwnAddresses::new(own)))
}

fn bind_one<T>(what: &str, address: SocketAddr, bind: impl FnOnce() -> io::Result<T>) -> Result<T, StartError> {
    bind().map_err(|source| StartError::Bind { what: what.to_owned(), address, source })
}

fn note(own: &mut Vec<SocketAddr>, bound: &[std::net::TcpListener], direction: Direction) {
    if let Some(Ok(address)) = bound.first().map(std::net::TcpListener::local_addr) {
        tracing::info!(%address, direction = direction.as_str(), "listening");
        own.push(address);
    }
}

fn open_access_log(path: &Path) -> Result<Writer, StartError> {
    Writer::open(path).map_err(|source| StartError::AccessLog { path: path.display().to_string(), source })
}

/// Why the end begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Somebody asked for it.
    Asked,
    /// Somebody asked twice.
    Hurried,
    /// A worker has ended by itself.
    Broke,
}

impl Cause {
    /// Waits for those who still send to be told that it is not ready; a second signal ends the wait.
    async fn or_delay(self, shared: &Shared, stop: &mut signal::Stop) -> Self {
        let delay = shared.bootstrap.timeouts.drain_delay;
        if self != Self::Asked || delay.is_zero() {
            return self;
        }
        match tokio::time::timeout(delay, stop.next()).await {
            Ok(name) => {
                tracing::warn!("second {name}: closing what is left");
                Self::Hurried
            }
            Err(_) => self,
        }
    }
}

/// Returns when somebody asks for the end, or when a worker has ended by itself.
async fn until_stopped(shared: &Shared, stop: &mut signal::Stop, workers: &[JoinHandle<io::Result<()>>]) -> Cause {
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            name = stop.next() => {
                tracing::info!("{name}: draining");
                return Cause::Asked;
            }
            () = shared.quit.notified() => {
                tracing::info!("POST /quitquitquit: draining");
                return Cause::Asked;
            }
            _ = look.tick() => if workers.iter().any(JoinHandle::is_finished) { return Cause::Broke },
        }
    }
}

/// Lets `until` run while checking that the own certificate has not ended.
async fn housekeep_until<T>(shared: &Shared, identity: &IdentityStore, until: impl Future<Output = T>) -> T {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    let mut until = std::pin::pin!(until);
    loop {
        tokio::select! {
            biased;
            result = until.as_mut() => return result,
            _ = tick.tick() => {
                if identity.current().svid().not_after() <= SystemTime::now() {
                    shared.readiness.block("certificate expired");
                } else {
                    shared.readiness.clear("certificate expired");
                }
            }
        }
    }
}

/// Drains: all connections end by themselves, or the deadline or a second signal ends them.
async fn finish(
    shared: &Shared,
    controller: &Controller,
    stop: &mut signal::Stop,
    workers: Vec<JoinHandle<io::Result<()>>>,
    cause: Cause,
) -> Result<(), StartError> {
    controller.advance(if cause == Cause::Asked { Phase::Draining } else { Phase::Ended });
    let (sender, mut done) = watch::channel(false);
    let joiner = std::thread::spawn(move || {
        let results: Vec<_> = workers.into_iter().map(JoinHandle::join).collect();
        // Nobody waiting any more is nobody to tell.
        let _ = sender.send(true);
        results
    });
    let mut deadline = std::pin::pin!(tokio::time::sleep(shared.bootstrap.timeouts.drain));
    tokio::select! {
        biased;
        _ = done.wait_for(|done| *done) => {}
        () = deadline.as_mut() => tracing::warn!("drain deadline reached; closing what is left"),
        name = stop.next() => tracing::warn!("second {name}: closing what is left"),
    }
    controller.advance(Phase::Ended);
    let results = joiner.join().unwrap_or_default();
    for result in results {
        match result {
            Ok(result) => result.map_err(StartError::Broke)?,
            Err(_) => return Err(StartError::Broke(io::Error::other("a worker panicked"))),
        }
    }
    if cause == Cause::Broke {
        return Err(StartError::Broke(io::Error::other("a worker ended, and nobody asked it to")));
    }
    tracing::info!("ended");
    Ok(())
}

/// What a worker thread is given to start with.
struct WorkerStart {
    shared: Arc<Shared>,
    config: watch::Receiver<Arc<Snapshot>>,
    identity: watch::Receiver<Arc<Identity>>,
    keys: jwks::Keys,
    sink: Option<Sink>,
    drain: Drain,
    sockets: Sockets,
}

impl WorkerStart {
    async fn run(self) -> io::Result<()> {
        let Self { shared, config, identity, keys, sink, drain, sockets } = self;
        let worker = Rc::new(Worker::new(shared, config, identity, keys, sink.unwrap_or_else(Sink::off), drain));
        for (socket, listener) in sockets.inbound {
            let listener = Rc::new(listener);
            let serve = move |worker, stream, connection| {
                let listener = Rc::clone(&listener);
                async move { inbound::serve(&worker, stream, connection, &listener).await }
            };
            let socket = TcpListener::from_std(socket)?;
            let accept = accept_loop(Rc::clone(&worker), socket, Direction::Inbound, Phase::Draining, serve);
            tokio::task::spawn_local(accept);
        }
        for (socket, listener) in sockets.outbound {
            let listener = Rc::new(listener);
            let serve = move |worker, stream, connection| {
                let listener = Rc::clone(&listener);
                async move { outbound::serve(&worker, stream, connection, &listener).await }
            };
            let socket = TcpListener::from_std(socket)?;
            let accept = accept_loop(Rc::clone(&worker), socket, Direction::Outbound, Phase::Ended, serve);
            tokio::task::spawn_local(accept);
        }
        for socket in sockets.gateway {
            let serve = |worker, stream, connection| async move { gateway::serve(&worker, stream, connection).await };
            let socket = TcpListener::from_std(socket)?;
            let accept = accept_loop(Rc::clone(&worker), socket, Direction::Gateway, Phase::Draining, serve);
            tokio::task::spawn_local(accept);
        }
        for socket in sockets.compatibility {
            let serve = |worker, stream, connection| async move {
                gateway::compatibility::serve(&worker, stream, connection).await;
            };
            let socket = TcpListener::from_std(socket)?;
            let accept = accept_loop(Rc::clone(&worker), socket, Direction::Gateway, Phase::Draining, serve);
            tokio::task::spawn_local(accept);
        }
        tokio::task::spawn_local(sessions::keep(Rc::clone(&worker)));
        for socket in sockets.hbone {
            let serve =
                |worker, stream, connection| async move { inbound::hbone::serve(&worker, stream, connection).await };
            let socket = TcpListener::from_std(socket)?;
            let accept = accept_loop(Rc::clone(&worker), socket, Direction::Inbound, Phase::Draining, serve);
            tokio::task::spawn_local(accept);
        }
        worker.until_drained(HOUSEKEEPING).await;
        Ok(())
    }
}
