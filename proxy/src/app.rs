//! All the wiring, top to bottom: read what the operator wrote, bind, start the workers, watch files and signals, drain.

mod error;
mod sockets;
mod start;
mod succession;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use meshgate_config::{Bootstrap, ConfigStore};
use meshgate_identity::IdentityStore;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use self::error::StartError;
use self::sockets::{Bound, Sockets};
use self::start::WorkerStart;
use self::succession::Succession;
use crate::access_log::Writer;
use crate::balance;
use crate::clusters::Watchers;
use crate::drain::{self, Controller, Phase};
use crate::hand_over::Offer;
use crate::readiness::Readiness;
use crate::trace::{Exporter, Exporting};
use crate::worker::Shared;
use crate::{admin, jwks, reload, runtime, signal, source};

/// How often the own certificate is checked for having ended, and idle upstream connections are looked through.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// Between letting go of the listeners and the begin of the drain. Whoever connected in the last instant is still to say what it
/// wants, and would not be served by anybody else; HTTP and TLS speak at once, so this is for the way there and back.
const LAST_COMERS: Duration = Duration::from_secs(1);

/// Reads what the operator wrote and serves, until a signal ends it or another process takes over. A signal that comes before it serves
/// ends it at once, whatever is waited for: process 1 of a container is killed by none that it does not listen for.
///
/// # Errors
/// Everything a start can fail of, each with the field or file concerned; a worker's, if one ends by itself.
pub fn run(bootstrap: impl FnOnce() -> Result<Bootstrap, StartError> + Send + 'static) -> Result<(), StartError> {
    let runtime = runtime::local()?;
    let result = runtime.block_on(async {
        let mut stop = signal::Stop::listen()?;
        let opened = tokio::select! {
            biased;
            name = stop.next() => {
                tracing::info!("{name}: ending; it has not served yet");
                return Ok(());
            }
            opened = App::open(bootstrap) => opened?,
        };
        opened.serve(stop).await
    });
    // What is read, and a look-up of a name, may take as long as the system likes; nobody waits for it any more.
    runtime.shutdown_background();
    result
}

/// What the operator wrote, read and found to be good.
struct Read {
    bootstrap: Bootstrap,
    identity: IdentityStore,
    config: ConfigStore,
    jwks: jwks::Client,
    exporter: Option<Exporter>,
    access_log: Option<Writer>,
}

impl Read {
    /// Waits for the identity, where that is not in files. Blocks.
    fn open(bootstrap: impl FnOnce() -> Result<Bootstrap, StartError>) -> Result<Self, StartError> {
        let bootstrap = bootstrap()?;
        let identity = source::open(&bootstrap)?;
        let config = ConfigStore::open(&bootstrap).map_err(StartError::Config)?;
        let jwks = jwks::Client::new(bootstrap.jwks.trust_bundle.as_ref())?;
        let exporter = Exporter::new(&bootstrap, identity.current().svid().id()).map_err(StartError::Tracing)?;
        let access_log = bootstrap.access_log.path.as_deref().map(open_access_log).transpose()?;
        Ok(Self { bootstrap, identity, config, jwks, exporter, access_log })
    }
}

/// A process ready to run: everything that can be wrong at start has been found.
struct App {
    shared: Arc<Shared>,
    config: Arc<ConfigStore>,
    identity: Arc<IdentityStore>,
    sockets: Vec<Sockets>,
    admin: std::net::TcpListener,
    succession: Option<Succession>,
    access_log: Option<Writer>,
    jwks: jwks::Client,
    exporter: Option<Exporter>,
}

impl App {
    /// Reads, checks and binds, or takes the sockets of the process that runs; serves nothing yet. What blocks is on a thread of its own,
    /// and is left there by whoever polls this no more.
    async fn open(
        bootstrap: impl FnOnce() -> Result<Bootstrap, StartError> + Send + 'static,
    ) -> Result<Self, StartError> {
        let read = tokio::task::spawn_blocking(move || Read::open(bootstrap));
        let Read { bootstrap, identity, config, jwks, exporter, access_log } =
            read.await.map_err(io::Error::from)??;
        // Last: who is asked for its sockets is not to find out that they cannot be used.
        let mut succession = match &bootstrap.hand_over.socket {
            Some(path) => Some(Succession::begin(path).await?),
            None => None,
        };
        let taking = succession.as_mut().and_then(|succession| succession.taking.as_mut());
        let Bound { workers: sockets, own, admin, copies } = sockets::bind(&bootstrap, taking)?;
        if let Some(succession) = &mut succession {
            succession.copies = copies;
        }
        let readiness = Readiness::new(["listeners", jwks::FIRST_FETCH]);
        let shared = Arc::new(Shared::new(bootstrap, own, readiness));
        let (config, identity) = (Arc::new(config), Arc::new(identity));
        Ok(Self { shared, config, identity, sockets, admin, succession, access_log, jwks, exporter })
    }

    async fn serve(self, mut stop: signal::Stop) -> Result<(), StartError> {
        let Self { shared, config, identity, sockets, admin, succession, access_log, jwks, exporter } = self;
        let (controller, drain) = drain::channel();
        reload::announce(&shared, &config.current(), &identity.current());
        let _watcher = reload::watch_files(&shared, &config, &identity)?;
        tokio::task::spawn_local(source::follow(Arc::clone(&shared), Arc::clone(&identity)));
        let (fetcher, keys) = jwks::channel(&shared, jwks);
        tokio::task::spawn_local(fetcher.serve(config.subscribe()));
        tokio::task::spawn_local(Watchers::new(Arc::clone(&shared), Arc::clone(&config), identity.subscribe()).serve());
        tokio::task::spawn_local(balance::keep(Arc::clone(&shared)));
        if let Some(succession) = &succession
            && !succession.prepare(&shared.readiness, &mut stop).await?
        {
            return Ok(());
        }
        let exporting = exporter.map(|exporter| exporter.start(&shared.metrics));
        let (started, starting) = mpsc::channel(sockets.len().max(1));
        let start = |sockets| WorkerStart {
            shared: Arc::clone(&shared),
            config: config.subscribe(),
            identity: identity.subscribe(),
            keys: keys.clone(),
            sink: access_log
                .as_ref()
                .map(|log| log.sink(shared.metrics.access_log_dropped.clone()).shaped(&shared.bootstrap.access_log)),
            tracer: exporting.as_ref().map(Exporting::tracer),
            drain: drain.clone(),
            sockets,
            started: started.clone(),
        };
        let workers = start_workers(sockets.into_iter().map(start))?;
        drop(started);
        let admin = serve_admin(admin, &shared, &config, &identity)?;
        let all = all_started(starting, workers.len()).await;
        shared.readiness.clear("listeners");
        tracing::info!(workers = workers.len(), "ready");
        // Without all of them this process is about to end, and nobody is to rely on it.
        let (offer, refused) = match succession.filter(|_| all) {
            Some(succession) => succession.complete().await,
            None => (None, None),
        };
        let cause = match &refused {
            Some(_) => Cause::Refused,
            None => {
                let stopped = until_stopped(&shared, &controller, &mut stop, &workers, offer);
                housekeep_until(&shared, &identity, stopped).await
            }
        };
        shared.readiness.block("draining");
        if cause.is_handed_over() {
            controller.hand_over();
            admin.abort();
        }
        let cause = cause.or_delay(&shared, &mut stop).await;
        finish(&shared, &controller, &mut stop, workers, exporting, cause).await?;
        if let Some(writer) = access_log {
            writer.close();
        }
        refused.map_or(Ok(()), Err)
    }
}

fn serve_admin(
    listener: std::net::TcpListener,
    shared: &Arc<Shared>,
    config: &ConfigStore,
    identity: &IdentityStore,
) -> io::Result<tokio::task::JoinHandle<()>> {
    let listener = TcpListener::from_std(listener)?;
    let serving = admin::serve(listener, Arc::clone(shared), config.subscribe(), identity.subscribe());
    Ok(tokio::task::spawn_local(serving))
}

type Workers = Vec<JoinHandle<io::Result<()>>>;

fn start_workers(starts: impl Iterator<Item = WorkerStart>) -> io::Result<Workers> {
    starts.enumerate().map(|(index, start)| runtime::spawn_worker(index, move || start.run())).collect()
}

/// Waits until each of so many workers accepts connections; `false` when one never will.
async fn all_started(mut starting: mpsc::Receiver<()>, workers: usize) -> bool {
    for _ in 0..workers {
        if starting.recv().await.is_none() {
            return false;
        }
    }
    true
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
    /// Another process has taken over.
    Taken,
    /// The process that this one was to follow serves on.
    Refused,
}

impl Cause {
    /// Whether another process has the listeners, and what comes to them.
    fn is_handed_over(self) -> bool {
        matches!(self, Self::Taken | Self::Refused)
    }

    /// Waits for those who still send to be told that it is not ready, or, where another process has the listeners, for the last
    /// connections that came here to say what they want; a second signal ends the wait.
    async fn or_delay(self, shared: &Shared, stop: &mut signal::Stop) -> Self {
        let delay = match self {
            Self::Asked => shared.bootstrap.timeouts.drain_delay,
            Self::Taken | Self::Refused => LAST_COMERS,
            Self::Hurried | Self::Broke => Duration::ZERO,
        };
        if delay.is_zero() {
            return self;
        }
        match tokio::time::timeout(delay, stop.next()).await {
            Ok(name) if self.is_handed_over() => {
                tracing::info!("{name}: draining");
                Self::Asked
            }
            Ok(name) => {
                tracing::warn!("second {name}: closing what is left");
                Self::Hurried
            }
            Err(_) => self,
        }
    }
}

/// Returns when somebody asks for the end or takes what is offered, or when a worker has ended by itself. The offer ends with that.
async fn until_stopped(
    shared: &Shared,
    controller: &Controller,
    stop: &mut signal::Stop,
    workers: &[JoinHandle<io::Result<()>>],
    offer: Option<Offer>,
) -> Cause {
    let mut taken = std::pin::pin!(succession::until_taken(offer));
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
            () = shared.drain_listeners.notified() => {
                tracing::info!("POST /drain_listeners: no more inbound connections");
                shared.readiness.block("draining");
                controller.advance(Phase::Draining);
            }
            () = taken.as_mut() => {
                tracing::info!("another process has taken over: draining");
                return Cause::Taken;
            }
            _ = look.tick() => if workers.iter().any(JoinHandle::is_finished) { return Cause::Broke },
        }
    }
}

/// Lets `until` run while checking that neither the own certificate nor a revocation list has ended.
async fn housekeep_until<T>(shared: &Shared, identity: &IdentityStore, until: impl Future<Output = T>) -> T {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    let (mut certificate, mut lists) = (reload::CertificateWatch::default(), reload::ListWatch::default());
    let mut until = std::pin::pin!(until);
    loop {
        tokio::select! {
            biased;
            result = until.as_mut() => return result,
            _ = tick.tick() => {
                shared.metrics.forget_idle(Instant::now());
                let current = identity.current();
                certificate.look(&current);
                reload::standing(shared, &current);
                lists.look(&current);
            }
        }
    }
}

/// Drains: all connections end by themselves, or the deadline or a second signal ends them.
async fn finish(
    shared: &Shared,
    controller: &Controller,
    stop: &mut signal::Stop,
    workers: Workers,
    exporting: Option<Exporting>,
    cause: Cause,
) -> Result<(), StartError> {
    let in_time = cause == Cause::Asked || cause.is_handed_over();
    controller.advance(if in_time { Phase::Leaving } else { Phase::Ended });
    let (sender, mut done) = watch::channel(false);
    let joiner = std::thread::spawn(move || {
        let results: Vec<_> = workers.into_iter().map(JoinHandle::join).collect();
        // Nobody waiting any more is nobody to tell.
        let _ = sender.send(true);
        results
    });
    let second = async {
        // Nobody has asked yet where another process has taken over, and a supervisor may well do so now.
        if cause.is_handed_over() {
            let name = stop.next().await;
            tracing::info!("{name}: draining already");
        }
        stop.next().await
    };
    let drained = Instant::now() + shared.bootstrap.timeouts.drain;
    let mut deadline = std::pin::pin!(tokio::time::sleep_until(drained));
    tokio::select! {
        biased;
        _ = done.wait_for(|done| *done) => {}
        () = deadline.as_mut() => tracing::warn!("drain deadline reached; closing what is left"),
        name = second => tracing::warn!("second {name}: closing what is left"),
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
    Exporting::finish(exporting, drained, stop.next()).await;
    tracing::info!("ended");
    Ok(())
}
