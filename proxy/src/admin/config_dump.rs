//! `GET /config_dump`: the snapshot in force, as this proxy understands it.
//!
//! It is written from what is known to be public, field by field: nothing that holds a key is ever looked at.

use std::collections::BTreeMap;

use meshgate_config::{Snapshot, WorkloadRecord};
use meshgate_identity::Identity;
use serde::Serialize;

use super::{certs, clusters, policies, problems, status};
use crate::access_log::rfc3339;
use crate::worker::Shared;

/// The page.
#[derive(Serialize)]
pub(super) struct Page {
    process: status::Status,
    generation: u64,
    loaded_at: String,
    identity: certs::Page,
    /// What decides about this workload's callers.
    inbound: policies::Page,
    /// The objects of the whole mesh.
    policies: Vec<String>,
    peer_authentications: Vec<String>,
    request_authentications: Vec<String>,
    exports: Vec<String>,
    services: clusters::Page,
    workloads: Vec<Workload>,
    problems: Vec<problems::Shown>,
}

#[derive(Serialize)]
struct Workload {
    name: String,
    service_account: String,
    addresses: Vec<std::net::IpAddr>,
    labels: BTreeMap<String, String>,
    mesh: bool,
}

impl From<&WorkloadRecord> for Workload {
    fn from(record: &WorkloadRecord) -> Self {
        Self {
            name: record.name.to_string(),
            service_account: record.workload.service_account.clone(),
            addresses: record.addresses.clone(),
            labels: record.workload.labels.clone(),
            mesh: record.mesh,
        }
    }
}

/// The page.
pub(super) fn page(shared: &Shared, snapshot: &Snapshot, identity: &Identity) -> Page {
    Page {
        process: status::status(shared, snapshot),
        generation: snapshot.generation,
        loaded_at: rfc3339(snapshot.loaded_at),
        identity: certs::page(identity),
        inbound: policies::page(&shared.metrics, snapshot),
        policies: snapshot.policies.iter().map(|policy| format!("{} {}", policy.kind(), policy.name())).collect(),
        peer_authentications: snapshot.peer_authentications.iter().map(|one| one.name().to_string()).collect(),
        request_authentications: snapshot.request_authentications.iter().map(|one| one.name().to_string()).collect(),
        exports: snapshot.exports.iter().map(|export| export.service.to_string()).collect(),
        services: clusters::page(shared, snapshot, usize::MAX),
        workloads: snapshot.workloads.iter().map(Workload::from).collect(),
        problems: snapshot.problems.iter().map(problems::Shown::from).collect(),
    }
}
