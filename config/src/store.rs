//! Reads the resource folder again and again, and publishes what changed.
//!
//! The one idea: a reload never fails. What is good goes into force as one generation, what is bad is reported and
//! leaves its last good version in force (see `kept.rs` for the rules).
//!
//! Removal is believed only when two readings in a row, a tenth of a second apart, agree. An editor that truncates a file before
//! it writes it, or moves it away first, would otherwise take policies out of force for an instant.
//!
//! It starts no thread and watches nothing: see [`crate::watch`].

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::bootstrap::{Bootstrap, Role};
use crate::clusters::{ClusterKey, Discovered};
use crate::folder::Folder;
use crate::kept::{Reading, Standing};
use crate::problem::Problem;
use crate::reader::Documents;
use crate::snapshot::{Context, Snapshot};

/// Between the readings that must agree before a removal is believed: a writer that has paused for longer is done.
const SETTLE: Duration = Duration::from_millis(100);

/// Readings before a folder that keeps changing is taken as it is, with nothing removed: a second in all.
const SETTLE_READINGS: usize = 10;

/// The resources in force.
#[derive(Debug)]
pub struct ConfigStore {
    directory: PathBuf,
    context: Context,
    state: Mutex<State>,
    snapshot: watch::Sender<Arc<Snapshot>>,
}

#[derive(Debug)]
struct State {
    /// Of the folder as it was last read; `None` when that was not the last word. A copy of it would be the largest thing here.
    folder: Option<u64>,
    hashing: RandomState,
    /// What the folder's documents were last read as.
    documents: Documents,
    standing: Standing,
    /// Of the reading, without the doubts that composing adds.
    problems: Vec<Problem>,
    /// What other clusters' gateways said last.
    discovered: BTreeMap<ClusterKey, Discovered>,
}

/// What a reload came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadReport {
    /// Whether there is a new generation.
    pub outcome: Outcome,
    /// The generation in force.
    pub generation: u64,
    /// Everything wrong or doubtful with what is in the folder now.
    pub problems: Vec<Problem>,
}

/// Whether a reload made a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The folder says what it said.
    Unchanged,
    /// Objects or problems differ; subscribers have been told.
    Published,
}

impl ConfigStore {
    /// Reads the folder for the first time.
    ///
    /// # Errors
    /// All problems of the folder, when one of them is an error: at start there is no last good version to fall back
    /// on, and whoever starts a proxy is there to read why it does not.
    pub fn open(bootstrap: &Bootstrap) -> Result<ConfigStore, Vec<Problem>> {
        let directory = bootstrap.resources.directory.clone();
        let context = Context {
            settings: bootstrap.policy_settings(),
            own: bootstrap.workload(),
            is_gateway: bootstrap.role == Role::Gateway,
            surroundings: bootstrap.into(),
        };
        let folder = Folder::read(&directory);
        let mut documents = Documents::new(&context.settings.root_namespace);
        let reading = Reading::again(&folder, &mut documents);
        let (standing, problems) = Standing::default().after(reading, &context.settings.root_namespace);
        let snapshot = Snapshot::compose(&standing, &context, &BTreeMap::new(), problems.clone(), 1);
        if snapshot.problems.iter().any(Problem::is_error) {
            return Err(snapshot.problems);
        }
        let (sender, _) = watch::channel(Arc::new(snapshot));
        let hashing = RandomState::new();
        let folder = Some(hashing.hash_one(&folder));
        let state = State { folder, hashing, documents, standing, problems, discovered: BTreeMap::new() };
        Ok(ConfigStore { directory, context, state: Mutex::new(state), snapshot: sender })
    }

    /// Sees each new generation.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// The generation in force.
    pub fn current(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// What to watch for changes.
    pub fn paths(&self) -> Vec<PathBuf> {
        vec![self.directory.clone()]
    }

    /// Reads the folder again.
    ///
    /// Blocks for the reading, and for up to a second more when objects have gone from the folder.
    pub fn reload(&self) -> ReloadReport {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let root_namespace = &self.context.settings.root_namespace;
        let folder = Folder::read(&self.directory);
        if state.folder == Some(state.hashing.hash_one(&folder)) {
            return self.report(Outcome::Unchanged);
        }
        let State { documents, standing, hashing, .. } = &mut *state;
        let (folder, mut reading) = settle(folder, standing, documents, || {
            // A timer, not a message: nothing tells when a writer is done.
            let (_never, timer) = mpsc::channel::<()>();
            let _ = timer.recv_timeout(SETTLE);
            Folder::read(&self.directory)
        });
        documents.forget_others();
        let folder = folder.map(|folder| hashing.hash_one(&folder));
        if folder.is_none() {
            let message = "the folder keeps changing: what is no longer in it stays in force until it rests";
            reading.obscure(&self.directory, Problem::warning(&self.directory, message));
        }
        let (standing, problems) = state.standing.after(reading, root_namespace);
        if standing.is_same(&state.standing) && problems == state.problems {
            state.folder = folder;
            return self.report(Outcome::Unchanged);
        }
        let generation = self.snapshot.borrow().generation + 1;
        let snapshot = Snapshot::compose(&standing, &self.context, &state.discovered, problems.clone(), generation);
        state.folder = folder;
        state.standing = standing;
        state.problems = problems;
        self.snapshot.send_replace(Arc::new(snapshot));
        self.report(Outcome::Published)
    }

    /// Takes what another cluster's gateway says it exports to us, in the place of what it said before.
    pub fn discovered(&self, cluster: &ClusterKey, said: Discovered) -> ReloadReport {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.discovered.get(cluster) == Some(&said) {
            return self.report(Outcome::Unchanged);
        }
        state.discovered.insert(cluster.clone(), said);
        let generation = self.snapshot.borrow().generation + 1;
        let problems = state.problems.clone();
        let snapshot = Snapshot::compose(&state.standing, &self.context, &state.discovered, problems, generation);
        self.snapshot.send_replace(Arc::new(snapshot));
        self.report(Outcome::Published)
    }

    fn report(&self, outcome: Outcome) -> ReloadReport {
        let snapshot = self.snapshot.borrow();
        ReloadReport { outcome, generation: snapshot.generation, problems: snapshot.problems.clone() }
    }
}

/// Reads on, by `again`, until what seems to have gone from the folder has gone for good. Without a folder in the result
/// it never did.
fn settle(
    mut folder: Folder,
    standing: &Standing,
    documents: &mut Documents,
    mut again: impl FnMut() -> Folder,
) -> (Option<Folder>, Reading) {
    let mut reading = Reading::again(&folder, documents);
    for _ in 0..SETTLE_READINGS {
        if !standing.loses_any(&reading) {
            return (Some(folder), reading);
        }
        let next = again();
        if next == folder {
            return (Some(folder), reading);
        }
        folder = next;
        reading = Reading::again(&folder, documents);
    }
    (None, reading)
}

#[cfg(test)]
mod tests;
