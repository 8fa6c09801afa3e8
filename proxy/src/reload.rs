//! What is read, or heard of another cluster, while the process runs: it goes into force here, with its log lines and counts.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshgate_config::watch::{WatchError, Watcher};
use meshgate_config::{ClusterKey, ConfigStore, Discovered, Outcome, ServicePort, Snapshot};
use meshgate_identity::{Identity, IdentityError, IdentityStore, Reload, RevocationList};
use tokio::time::Instant;

use crate::metrics::ResultLabels;
use crate::worker::Shared;

/// Says what is in force at start.
pub fn announce(shared: &Shared, snapshot: &Snapshot, identity: &Identity) {
    let metrics = &shared.metrics;
    metrics.config_generation.set(snapshot.generation);
    metrics.config(snapshot.problems.len());
    identity_in_force(shared, identity);
    let (id, generation, objects) = (identity.svid().id(), snapshot.generation, snapshot.objects);
    tracing::info!(%id, generation, objects, "starting");
    for problem in &snapshot.problems {
        tracing::warn!("{problem}");
    }
}

/// Reads again what has changed, on the watcher's own thread, for as long as the watcher is kept.
///
/// # Errors
/// The operating system's, when files cannot be watched.
pub fn watch_files(
    shared: &Arc<Shared>,
    config: &Arc<ConfigStore>,
    identity: &Arc<IdentityStore>,
) -> Result<Watcher, WatchError> {
    let mut paths = config.paths();
    paths.extend(identity.paths());
    let (shared, config, identity) = (Arc::clone(shared), Arc::clone(config), Arc::clone(identity));
    Watcher::start(paths, move || {
        reload_identity(&shared, &identity);
        reload_config(&shared, &config);
    })
}

fn reload_config(shared: &Shared, config: &ConfigStore) {
    let begun = Instant::now();
    let report = config.reload();
    // What has been read before has been counted and told.
    if report.outcome == Outcome::Unchanged {
        return;
    }
    let metrics = &shared.metrics;
    metrics.config(report.problems.len());
    let result = if report.problems.is_empty() { "ok" } else { "error" };
    metrics.config_reloads.get_or_create(&ResultLabels { result }).inc();
    for problem in &report.problems {
        tracing::warn!("{problem}");
    }
    in_force(shared, config, begun.elapsed());
}

/// Takes what another cluster's gateway says into force. Blocks for as long as the resources are being read.
pub fn discovered(shared: &Shared, config: &ConfigStore, cluster: &ClusterKey, said: Discovered) {
    let begun = Instant::now();
    let before = config.current();
    let report = config.discovered(cluster, said);
    if report.outcome == Outcome::Unchanged {
        return;
    }
    shared.metrics.config(report.problems.len());
    for problem in report.problems.iter().filter(|problem| !before.problems.contains(problem)) {
        tracing::warn!("{problem}");
    }
    in_force(shared, config, begun.elapsed());
}

fn in_force(shared: &Shared, config: &ConfigStore, took: Duration) {
    let snapshot = config.current();
    shared.metrics.config_generation.set(snapshot.generation);
    let ports = || snapshot.services.iter();
    let hosts: HashSet<_> = ports().map(|known| (known.host.as_str(), known.port)).collect();
    let names: HashSet<_> = ports().map(|known| (&known.service, known.port)).collect();
    let split = |known: &Arc<ServicePort>| known.split.as_ref().map(|split| (Arc::clone(split), known.port));
    let splits: Vec<_> = ports().filter_map(split).collect();
    let rules: HashSet<_> =
        splits.iter().flat_map(|(split, port)| split.rules.iter().map(move |rule| (&rule.name, *port))).collect();
    shared.ledgers.retain(|host, port| hosts.contains(&(host, port)));
    shared.retry_budgets.retain(|service, port| names.contains(&(service, port)));
    shared.splits.retain(|name, port| rules.contains(&(name, port)));
    let (generation, problems, took_ms) = (snapshot.generation, snapshot.problems.len(), took.as_millis());
    let objects = snapshot.objects;
    tracing::info!(generation, problems, objects, took_ms, "configuration in force");
}

/// Says of an identity that has just come into force what there is to say.
fn identity_in_force(shared: &Shared, identity: &Identity) {
    let metrics = &shared.metrics;
    metrics.identity(identity);
    let ends = identity.revocation_lists().filter_map(RevocationList::next_update).min();
    let seconds = ends.and_then(|end| end.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs());
    metrics.revocation_list_expiry.set(seconds);
    for list in identity.revocation_lists() {
        let (file, issuer, revoked) = (list.file().display(), list.issuer(), list.revoked());
        if identity.knows_issuer_of(list) {
            tracing::info!(%file, issuer, revoked, "revocation list in force");
        } else {
            tracing::warn!(%file, issuer, revoked, "the revocation list is of no root here; it counts for intermediates alone");
        }
    }
    if identity.is_revoked() {
        tracing::error!("our own certificate has been revoked: peers that know it refuse us");
    }
    standing(shared, identity);
}

/// Whether the identity is one to be ready with.
pub fn standing(shared: &Shared, identity: &Identity) {
    let ended = identity.svid().not_after() <= SystemTime::now();
    for (blocker, is_so) in [("certificate expired", ended), ("certificate revoked", identity.is_revoked())] {
        if is_so {
            shared.readiness.block(blocker);
        } else {
            shared.readiness.clear(blocker);
        }
    }
}

/// Says that our own certificate ends soon and is not renewed, or has ended. Once each.
#[derive(Debug, Default)]
pub struct CertificateWatch(Option<(SystemTime, bool)>);

impl CertificateWatch {
    /// Looks at the one in force.
    pub fn look(&mut self, identity: &Identity) {
        let (svid, now) = (identity.svid(), SystemTime::now());
        let end = svid.not_after();
        // Whoever renews at half of the life, or at two thirds of it, is late by now.
        let late = end.duration_since(svid.not_before()).unwrap_or_default() / 5;
        let found = (end <= now + late).then_some((end, end <= now));
        if self.0 == found {
            return;
        }
        self.0 = found;
        let until = crate::access_log::rfc3339(end);
        match found {
            Some((_, true)) => tracing::error!(%until, "our own certificate has ended: peers refuse it"),
            Some((_, false)) => tracing::warn!(%until, "our own certificate ends soon and is not renewed"),
            None => {}
        }
    }
}

/// Says which revocation lists end soon, or have ended: from then on, whoever they would tell of is refused. Once each.
#[derive(Debug, Default)]
pub struct ListWatch(HashMap<(PathBuf, SystemTime), bool>);

impl ListWatch {
    /// Looks at those in force.
    pub fn look(&mut self, identity: &Identity) {
        let now = SystemTime::now();
        let mut seen = HashMap::new();
        for list in identity.revocation_lists() {
            let Some(end) = list.next_update() else { continue };
            let life = end.duration_since(list.this_update()).unwrap_or_default();
            let (has_ended, is_due) = (end <= now, end <= now + life / 5);
            if !is_due {
                continue;
            }
            let key = (list.file().to_owned(), end);
            let (file, issuer) = (list.file().display(), list.issuer());
            match (self.0.get(&key), has_ended) {
                (None | Some(false), true) => {
                    tracing::error!(%file, issuer, "the revocation list has ended: peers of that issuer are refused");
                }
                (None, false) => tracing::warn!(%file, issuer, "the revocation list ends soon and is not renewed"),
                _ => {}
            }
            seen.insert(key, has_ended);
        }
        self.0 = seen;
    }
}

fn reload_identity(shared: &Shared, identity: &IdentityStore) {
    identity_read(shared, identity, identity.reload());
}

/// Says what came of an identity that was read, or handed over.
pub fn identity_read(shared: &Shared, identity: &IdentityStore, outcome: Result<Reload, IdentityError>) {
    let metrics = &shared.metrics;
    match outcome {
        Ok(Reload::Unchanged) => {
            if shared.identity_refused.swap(false, Ordering::Relaxed) {
                metrics.identity_reloads.get_or_create(&ResultLabels { result: "ok" }).inc();
                tracing::info!("the identity is good again: it is the one in force");
            }
        }
        Ok(Reload::Published) => {
            let current = identity.current();
            shared.identity_refused.store(false, Ordering::Relaxed);
            metrics.identity_reloads.get_or_create(&ResultLabels { result: "ok" }).inc();
            identity_in_force(shared, &current);
            tracing::info!(generation = current.generation(), "identity in force");
        }
        Err(error) => identity_refused(shared, &error),
    }
}

/// Says why an identity is not taken into use.
pub fn identity_refused(shared: &Shared, error: &dyn std::error::Error) {
    shared.identity_refused.store(true, Ordering::Relaxed);
    shared.metrics.identity_reloads.get_or_create(&ResultLabels { result: "error" }).inc();
    tracing::warn!(%error, "the identity is not usable; the last good one stays in force");
}
