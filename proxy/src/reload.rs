//! What is read, or heard of another cluster, while the process runs: it goes into force here, with its log lines and counts.

use std::sync::Arc;

use meshgate_config::watch::{WatchError, Watcher};
use meshgate_config::{ClusterKey, ConfigStore, Discovered, Outcome, Snapshot};
use meshgate_identity::{Identity, IdentityStore, Reload};
use meshgate_policy::ObjectName;

use crate::metrics::ResultLabels;
use crate::worker::Shared;

/// Says what is in force at start.
pub fn announce(shared: &Shared, snapshot: &Snapshot, identity: &Identity) {
    let metrics = &shared.metrics;
    metrics.config_generation.set(snapshot.generation);
    metrics.config_problems.set(snapshot.problems.len() as u64);
    metrics.identity_generation.set(identity.generation());
    metrics.set_certificate_expiry(identity.svid().not_after());
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
    let report = config.reload();
    let metrics = &shared.metrics;
    metrics.config_problems.set(report.problems.len() as u64);
    let result = if report.problems.is_empty() { "ok" } else { "error" };
    if report.outcome == Outcome::Published || !report.problems.is_empty() {
        metrics.config_reloads.get_or_create(&ResultLabels { result }).inc();
    }
    for problem in &report.problems {
        tracing::warn!("{problem}");
    }
    if report.outcome == Outcome::Published {
        in_force(shared, config);
    }
}

/// Takes what another cluster's gateway says into force. Blocks for as long as the resources are being read.
pub fn discovered(shared: &Shared, config: &ConfigStore, cluster: &ClusterKey, said: Discovered) {
    let before = config.current();
    let report = config.discovered(cluster, said);
    if report.outcome == Outcome::Unchanged {
        return;
    }
    shared.metrics.config_problems.set(report.problems.len() as u64);
    for problem in report.problems.iter().filter(|problem| !before.problems.contains(problem)) {
        tracing::warn!("{problem}");
    }
    in_force(shared, config);
}

fn in_force(shared: &Shared, config: &ConfigStore) {
    let snapshot = config.current();
    shared.metrics.config_generation.set(snapshot.generation);
    let known = |service: &ObjectName, port| {
        snapshot.services.iter().any(|known| known.service == *service && known.port == port)
    };
    shared.retry_budgets.retain(known);
    shared.ledgers.retain(|host, port| snapshot.services.iter().any(|known| known.host == host && known.port == port));
    tracing::info!(generation = snapshot.generation, problems = snapshot.problems.len(), "configuration in force");
}

fn reload_identity(shared: &Shared, identity: &IdentityStore) {
    let metrics = &shared.metrics;
    match identity.reload() {
        Ok(Reload::Unchanged) => {}
        Ok(Reload::Published) => {
            let current = identity.current();
            metrics.identity_reloads.get_or_create(&ResultLabels { result: "ok" }).inc();
            metrics.identity_generation.set(current.generation());
            metrics.set_certificate_expiry(current.svid().not_after());
            tracing::info!(generation = current.generation(), "identity in force");
        }
        Err(error) => {
            metrics.identity_reloads.get_or_create(&ResultLabels { result: "error" }).inc();
            tracing::warn!(%error, "identity files are not usable; the last good ones stay in force");
        }
    }
}
