//! What a cluster exports, read from its own resources.

use std::collections::BTreeSet;

use meshgate_config::offline::Resources;
use meshgate_config::{ClusterKey, Export, ExportedPort, Problem, Surroundings};
use meshgate_policy::lint::{DUPLICATE_EXPORT_PATH, EXPORT_WITHOUT_SERVICE};
use meshgate_policy::{Settings, Workload};

use super::Complaints;
use super::target::FromFiles;
use crate::cli::DNS_SUFFIX;
use crate::clusters::wire::{Exported, Port, Service};

/// The beginning of what a problem with an export is about.
const EXPORT: &str = "ServiceExport ";

/// The list that the cluster's gateway would give `importer`.
///
/// # Errors
/// Something in the folder cannot be read at all, so that nobody knows what it would have exported.
pub(super) fn exported(
    from: &FromFiles,
    settings: &Settings,
    importer: Option<&ClusterKey>,
    complaints: &mut Complaints,
) -> anyhow::Result<Exported> {
    anyhow::ensure!(from.directory.is_dir(), "{} is no folder", from.directory.display());
    let surroundings = Surroundings { cluster_key: from.key.clone(), ..Surroundings::alone(DNS_SUFFIX) };
    let resources = Resources::read(&from.directory, settings, &surroundings);
    let snapshot = resources.snapshot(Workload::default());
    if let Some(unread) = snapshot.problems.iter().find(|problem| problem.is_error() && problem.object.is_none()) {
        anyhow::bail!("{unread}");
    }
    let stands: BTreeSet<String> =
        snapshot.exports.iter().map(|export| format!("{EXPORT}{}", export.service)).collect();
    for problem in &snapshot.problems {
        look(problem, &stands, complaints);
    }
    let mut exports = Vec::new();
    for export in snapshot.exports.iter() {
        match refusal(export, importer) {
            Some(why) if importer.is_none() => {
                complaints.left_out.push(format!("{} of {}: {why}", export.service, from.key));
            }
            Some(_) => {}
            None => exports.push(service(export)),
        }
    }
    Ok(Exported { cluster_key: from.key.to_string(), trust_domain: settings.trust_domain.to_string(), exports })
}

/// What goes wrong with an export, or with a Service that may be exported, is said; the rest is `meshgate check`'s affair.
fn look(problem: &Problem, stands: &BTreeSet<String>, complaints: &mut Complaints) {
    let about = problem.object.as_deref().unwrap_or_default();
    let costs_a_port = [EXPORT_WITHOUT_SERVICE, DUPLICATE_EXPORT_PATH].map(Some).contains(&problem.field.as_deref());
    let is_lost = problem.is_error() || costs_a_port || !stands.contains(about);
    if about.starts_with(EXPORT) && is_lost || about.starts_with("Service ") && problem.is_error() {
        complaints.left_out.push(problem.to_string());
    } else if about.starts_with(EXPORT) {
        complaints.notes.push(problem.to_string());
    }
}

/// Why an export is not for the importing cluster. Its author has said for whom it is: that is no mistake, unless nobody knows
/// who imports.
fn refusal(export: &Export, importer: Option<&ClusterKey>) -> Option<String> {
    if export.target_clusters.is_empty() || importer.is_some_and(|importer| export.target_clusters.contains(importer)) {
        return None;
    }
    let targets: Vec<_> = export.target_clusters.iter().map(ToString::to_string).collect();
    Some(format!("it is for {} only: say which cluster imports (--for KEY)", targets.join(", ")))
}

fn service(export: &Export) -> Service {
    Service {
        namespace: export.service.namespace.clone(),
        name: export.service.name.clone(),
        service_account_name: export.service_account.clone(),
        ports: export.ports.iter().map(port).collect(),
    }
}

fn port(exported: &ExportedPort) -> Port {
    Port::of(exported, exported.port.endpoints.len())
}
