//! What this process is and how it is: `GET /version`, and the head of the live page.

use meshgate_config::{Role, Snapshot};
use serde::Serialize;

use crate::metrics::REVISION;
use crate::worker::Shared;

/// Which build.
#[derive(Serialize)]
pub(super) struct Version {
    version: &'static str,
    revision: &'static str,
}

/// Which process, and whether it is well.
#[derive(Serialize)]
pub(super) struct Status {
    #[serde(flatten)]
    version: Version,
    role: &'static str,
    workload: String,
    service_account: String,
    cluster: String,
    trust_domain: String,
    ready: bool,
    /// What keeps it from being ready.
    blockers: Vec<&'static str>,
    /// The generation of the configuration in force.
    generation: u64,
    /// Downstream connections, and as many as there may be.
    connections: (usize, usize),
}

/// Which build.
pub(super) fn version() -> Version {
    Version { version: env!("CARGO_PKG_VERSION"), revision: REVISION }
}

/// Which process, and whether it is well.
pub(super) fn status(shared: &Shared, snapshot: &Snapshot) -> Status {
    let bootstrap = &shared.bootstrap;
    let workload = &bootstrap.workload;
    let blockers = shared.readiness.blockers();
    Status {
        version: version(),
        role: match bootstrap.role {
            Role::Sidecar => "sidecar",
            Role::Gateway => "gateway",
        },
        workload: format!("{}/{}", workload.namespace, workload.name),
        service_account: workload.service_account.clone(),
        cluster: bootstrap.cluster_key.to_string(),
        trust_domain: bootstrap.trust_domain.to_string(),
        ready: blockers.is_empty(),
        blockers,
        generation: snapshot.generation,
        connections: (shared.permits.used(), bootstrap.limits.connections),
    }
}
