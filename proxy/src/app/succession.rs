//! How this process follows one that runs, and is followed by another: the order of steps in which none is left without one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::StartError;
use crate::hand_over::{Door, Listener, Offer, Taking};
use crate::readiness::Readiness;
use crate::{signal, socket};

/// For everything that `/ready` waits for besides listeners; then it serves all the same, as it would without another process.
const PREPARING: Duration = Duration::from_secs(10);

/// Between two looks at that.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A start with `handOver.socket`.
pub(super) struct Succession {
    path: PathBuf,
    door: Door,
    /// From the process that runs, if one does.
    pub(super) taking: Option<Taking>,
    /// Of all listeners, to be handed on.
    pub(super) copies: Vec<Listener>,
}

impl Succession {
    /// Asks the process that runs for its listeners, if one does.
    ///
    /// # Errors
    /// [`StartError::HandOver`]: there is one and it does not give them; there could be no socket for the next one.
    pub(super) async fn begin(path: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::HandOver { path: path.to_owned(), source };
        let door = Door::make(path).map_err(failed)?;
        let taking = Taking::begin(path).await.map_err(failed)?;
        Ok(Self { path: path.to_owned(), door, taking, copies: Vec::new() })
    }

    /// Waits, while another process serves, for what it would be worse to serve without; then listens on all sockets. `false`: this
    /// process was asked to end, and the other one has noticed nothing.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) async fn prepare(&self, readiness: &Readiness, stop: &mut signal::Stop) -> Result<bool, StartError> {
        if self.taking.is_none() {
            return Ok(true);
        }
        let end = Instant::now() + PREPARING;
        let prepared = async {
            while readiness.blockers() != ["listeners"] && Instant::now() < end {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            name = stop.next() => {
                tracing::info!("{name}: ending; the running process serves on");
                return Ok(false);
            }
            () = prepared => {}
        }
        self.copies.iter().try_for_each(|copy| socket::listen(&copy.socket))?;
        Ok(true)
    }

    /// Once this process serves: lets the other one go, and is the one who is asked from now on. In place of an offer, why the other
    /// one serves on.
    pub(super) async fn complete(self) -> (Option<Offer>, Option<StartError>) {
        let Self { path, mut door, taking, copies } = self;
        if let Some(taking) = taking {
            if let Err(source) = taking.done().await {
                return (None, Some(StartError::HandOver { path, source }));
            }
            tracing::info!("took over from the running process");
        }
        match door.put_in_place() {
            Ok(()) => (Some(Offer::new(door, copies)), None),
            Err(error) => {
                tracing::error!(%error, "handOver.socket: {}: nobody can take over from this process", path.display());
                (None, None)
            }
        }
    }
}

/// Returns when another process has taken what is offered; never where nothing is, or nobody can be waited for.
pub(super) async fn until_taken(offer: Option<Offer>) {
    if let Some(offer) = offer {
        match offer.taken().await {
            Ok(()) => return,
            Err(error) => tracing::error!(%error, "handOver.socket: nobody can take over from this process"),
        }
    }
    std::future::pending::<()>().await;
}
