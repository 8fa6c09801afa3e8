//! What is read, or heard of another cluster, while the process runs: it goes into force here, with its log lines and counts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use meshgate_config::watch::{WatchError, Watcher};
use meshgate_config::{ClusterKey, ConfigStore, Discovered, Outcome, ServicePort, Snapshot};
use meshgate_identity::{Identity, IdentityStore, Reload};
use tokio::time::Instant;

use crate::metrics::ResultLabels;
use crate::worker::Shared;

/// Says what is in force at start.
pub fn announce(shared: &Shared, snapshot: &Snapshot, identity: &Identity) {
    let metrics = &shared.metrics;
    metrics.config_generation.set(snapshot.generation);
    metrics.config(snapshot.problems.len());
    metrics.identity(identity);
    tracing::info!(id = %identity.svid().id(), generation = snapshot.generation, "starting");
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
    shared.ledgers.retain(|host, port| hosts.contains(&(host, port)));
    shared.retry_budgets.retain(|service, port| names.contains(&(service, port)));
    shared.splits.retain(|name, port| {
        splits.iter().any(|(split, at)| *at == port && split.rules.iter().any(|rule| rule.name == *name))
    });
    let (generation, problems, took_ms) = (snapshot.generation, snapshot.problems.len(), took.as_millis());
    tracing::info!(generation, problems, took_ms, "configuration in force");
}

fn reload_identity(shared: &Shared, identity: &IdentityStore) {
    let metrics = &shared.metrics;
    match identity.reload() {
        Ok(Reload::Unchanged) => {}
        Ok(Reload::Published) => {
            let current = identity.current();
            metrics.identity_reloads.get_or_create(&ResultLabels { result: "ok" }).inc();
            metrics.identity(&current);
            tracing::info!(generation = current.generation(), "identity in force");
        }
        Err(error) => {
            metrics.identity_reloads.get_or_create(&ResultLabels { result: "error" }).inc();
            tracing::warn!(%error, "identity files are not usable; the last good ones stay in force");
        }
    }
}
