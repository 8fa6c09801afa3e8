//! Fetches the keys that tokens are checked with, away from the data path, and keeps them fresh.
//!
//! One task on the main thread follows the configuration: what is new is fetched at once, what is known every
//! [`refresh`](meshgate_config::Jwks::refresh), and after a failure ever more seldom. Workers see the sets as one immutable value
//! and never wait for it. A set stays until there is a better one; where there has never been one, no token passes.
//!
//! Only locations that stand in the resources are fetched. What a token says about where its key is counts for nothing, and an
//! answer cannot send us anywhere else.

mod client;
mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use meshgate_config::Snapshot;
use meshgate_policy::jwt::{KeyLocation, KeySet, KeySets};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::metrics::ResultLabels;
use crate::worker::Shared;

pub use client::{Client, FetchError};
use schedule::Schedule;

/// What `/ready` waits for: that each key set has been tried once, be it in vain.
pub const FIRST_FETCH: &str = "first fetch of key sets";

/// Workers' hints that may wait; more of them say nothing new.
const HINTS: usize = 16;

/// A worker's view.
#[derive(Debug, Clone)]
pub struct Keys {
    sets: watch::Receiver<Arc<KeySets>>,
    outdated: mpsc::Sender<KeyLocation>,
}

impl Keys {
    /// The sets in force.
    pub fn current(&self) -> Arc<KeySets> {
        Arc::clone(&self.sets.borrow())
    }

    /// A token names a key that is not in the set. Never waits: if the hint is lost, the next such token brings another.
    pub fn outdated(&self, location: &KeyLocation) {
        let _ = self.outdated.try_send(location.clone());
    }
}

/// The one who fetches.
#[derive(Debug)]
pub struct Fetcher {
    shared: Arc<Shared>,
    client: Arc<Client>,
    sets: watch::Sender<Arc<KeySets>>,
    outdated: mpsc::Receiver<KeyLocation>,
    known: BTreeMap<KeyLocation, Known>,
}

/// What is known of one location.
#[derive(Debug)]
struct Known {
    timeout: Duration,
    schedule: Schedule,
    running: bool,
    /// As it was fetched last, to tell a change.
    text: Bytes,
    set: Option<Arc<KeySet>>,
}

type Fetching = FuturesUnordered<LocalBoxFuture<'static, (KeyLocation, Result<Bytes, FetchError>)>>;

/// A fetcher, and what workers are given of it.
pub fn channel(shared: &Arc<Shared>, client: Client) -> (Fetcher, Keys) {
    let (sets, receiver) = watch::channel(Arc::default());
    let (sender, outdated) = mpsc::channel(HINTS);
    let client = Arc::new(client);
    let fetcher = Fetcher { shared: Arc::clone(shared), client, sets, outdated, known: BTreeMap::new() };
    (fetcher, Keys { sets: receiver, outdated: sender })
}

impl Fetcher {
    /// Fetches until the configuration's sender is gone.
    pub async fn serve(mut self, mut config: watch::Receiver<Arc<Snapshot>>) {
        let mut running = Fetching::new();
        loop {
            let snapshot = Arc::clone(&config.borrow_and_update());
            self.follow(&snapshot);
            self.start_due(&running);
            let due = self.known.values().filter(|known| !known.running).map(|known| known.schedule.due()).min();
            tokio::select! {
                changed = config.changed() => if changed.is_err() { return },
                Some((location, result)) = running.next() => self.ended(&location, result),
                Some(location) = self.outdated.recv() => self.hurry(&location),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// Forgets what no rule wants any more, and takes up what is new.
    fn follow(&mut self, snapshot: &Snapshot) {
        let mut wanted = BTreeMap::new();
        for (location, timeout) in snapshot.authentication.remote_keys() {
            wanted.insert(location, timeout.unwrap_or(self.shared.bootstrap.jwks.timeout));
        }
        let before = self.known.len();
        self.known.retain(|location, _| wanted.contains_key(location));
        if self.known.len() != before {
            self.publish();
        }
        for (location, timeout) in wanted {
            let known = self.known.entry(location.clone()).or_insert_with(|| Known {
                timeout,
                schedule: Schedule::new(Instant::now()),
                running: false,
                text: Bytes::new(),
                set: None,
            });
            known.timeout = timeout;
        }
        if self.known.values().all(|known| known.schedule.was_tried()) {
            self.shared.readiness.clear(FIRST_FETCH);
        }
    }

    fn start_due(&mut self, running: &Fetching) {
        let now = Instant::now();
        for (location, known) in &mut self.known {
            if known.running || known.schedule.due() > now {
                continue;
            }
            known.running = true;
            let (client, location, timeout) = (Arc::clone(&self.client), location.clone(), known.timeout);
            running.push(Box::pin(async move {
                let result = tokio::time::timeout(timeout, client.fetch(&location)).await;
                (location, result.unwrap_or(Err(FetchError::TimedOut(timeout))))
            }));
        }
    }

    fn ended(&mut self, location: &KeyLocation, result: Result<Bytes, FetchError>) {
        let Some(known) = self.known.get_mut(location) else { return };
        known.running = false;
        let parsed = result.and_then(|text| Ok((KeySet::parse(&text)?, text)));
        let outcome = if parsed.is_ok() { "ok" } else { "error" };
        self.shared.metrics.jwks_fetches.get_or_create(&ResultLabels { result: outcome }).inc();
        match parsed {
            Ok((set, text)) => {
                known.schedule.succeeded(Instant::now(), self.shared.bootstrap.jwks.refresh);
                if known.set.is_some() && known.text == text {
                    return;
                }
                tracing::info!(%location, empty = set.is_empty(), "key set in force");
                known.text = text;
                known.set = Some(Arc::new(set));
                self.publish();
            }
            Err(error) => {
                let again = known.schedule.failed(Instant::now());
                let kept = known.set.is_some();
                // One line for each try, and tries become seldom.
                tracing::warn!(%location, %error, last_good_kept = kept, again_in = ?again, "key set could not be fetched");
            }
        }
    }

    fn hurry(&mut self, location: &KeyLocation) {
        if let Some(known) = self.known.get_mut(location) {
            known.schedule.hurry(Instant::now());
        }
    }

    fn publish(&self) {
        let sets = self.known.iter().filter_map(|(location, known)| Some((location.clone(), known.set.clone()?)));
        let generation = self.sets.borrow().generation + 1;
        self.sets.send_replace(Arc::new(KeySets { generation, sets: sets.collect() }));
    }
}
