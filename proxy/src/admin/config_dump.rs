//! `GET /config_dump`: the snapshot in force, as this proxy understands it.
//!
//! It is written from what is known to be public, field by field: nothing that holds a key is ever looked at.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use meshgate_config::{Export, OriginalDestination, Snapshot, WorkloadRecord};
use meshgate_identity::Identity;
use meshgate_policy::dump::{PeerAuthenticationBody, PolicyBody, RequestAuthenticationBody};
use meshgate_policy::{Action, Policy};
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
    listeners: Vec<Listener>,
    identity: certs::Page,
    /// What decides about this workload's callers.
    inbound: policies::Page,
    /// The objects of the whole mesh.
    policies: Vec<ShownPolicy>,
    peer_authentications: Vec<PeerAuthenticationBody>,
    request_authentications: Vec<RequestAuthenticationBody>,
    exports: Vec<ShownExport>,
    /// Services with their endpoints; those of other clusters are what was imported.
    services: clusters::Page,
    workloads: Vec<Workload>,
    problems: Vec<problems::Shown>,
}

/// Where something is listened to.
#[derive(Serialize)]
struct Listener {
    kind: &'static str,
    /// As configured: with port 0 the system has chosen one.
    address: SocketAddr,
    /// Where connections were going: `kernel` knows, nowhere in particular (`none`), or always to the same address.
    #[serde(skip_serializing_if = "Option::is_none")]
    original_destination: Option<String>,
    /// Where the application is reached, if not where the connection was going.
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<SocketAddr>,
}

#[derive(Serialize)]
struct ShownPolicy {
    kind: &'static str,
    name: String,
    action: Action,
    /// Whether it selects this workload, and so decides here.
    in_force: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    /// Why it could not be read: it refuses all that it selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    #[serde(flatten)]
    body: PolicyBody,
}

#[derive(Serialize)]
struct ShownExport {
    service: String,
    service_account: String,
    /// Empty: all.
    target_clusters: Vec<String>,
    ports: Vec<ShownPort>,
    session_sticky: bool,
}

#[derive(Serialize)]
struct ShownPort {
    port: u16,
    /// The path under which plain HTTP gets there.
    path: String,
    exact: bool,
    endpoints: Vec<SocketAddr>,
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

impl From<&Export> for ShownExport {
    fn from(export: &Export) -> Self {
        let ports = export.ports.iter().map(|exported| ShownPort {
            port: exported.port.port,
            path: exported.path.clone(),
            exact: exported.exact,
            endpoints: exported.port.endpoints.iter().map(|endpoint| endpoint.address).collect(),
        });
        Self {
            service: export.service.to_string(),
            service_account: export.service_account.clone(),
            target_clusters: export.target_clusters.iter().map(ToString::to_string).collect(),
            ports: ports.collect(),
            session_sticky: export.session_sticky,
        }
    }
}

impl ShownPolicy {
    fn new(policy: &Policy, in_force: bool) -> Self {
        Self {
            kind: policy.kind(),
            name: policy.name().to_string(),
            action: policy.action(),
            in_force,
            dry_run: policy.dry_run(),
            provider: policy.provider().map(str::to_owned),
            unreadable: policy.unreadable_because().map(str::to_owned),
            body: policy.body(),
        }
    }
}

/// The page.
pub(super) fn page(shared: &Shared, snapshot: &Snapshot, identity: &Identity) -> Page {
    let in_force: HashSet<_> =
        snapshot.inbound_policy.policies().map(|policy| (policy.kind(), policy.name())).collect();
    let policy = |policy: &Policy| ShownPolicy::new(policy, in_force.contains(&(policy.kind(), policy.name())));
    Page {
        process: status::status(shared, snapshot),
        generation: snapshot.generation,
        loaded_at: rfc3339(snapshot.loaded_at),
        listeners: listeners(shared),
        identity: certs::page(identity, &shared.metrics),
        inbound: policies::page(&shared.metrics, snapshot),
        policies: snapshot.policies.iter().map(|one| policy(one)).collect(),
        peer_authentications: snapshot.peer_authentications.iter().map(|one| one.body()).collect(),
        request_authentications: snapshot.request_authentications.iter().map(|one| one.body()).collect(),
        exports: snapshot.exports.iter().map(|export| ShownExport::from(&**export)).collect(),
        services: clusters::page(shared, snapshot, usize::MAX),
        workloads: snapshot.workloads.iter().map(Workload::from).collect(),
        problems: snapshot.problems.iter().map(problems::Shown::from).collect(),
    }
}

fn listeners(shared: &Shared) -> Vec<Listener> {
    let bootstrap = &shared.bootstrap;
    let written = |destination| match destination {
        OriginalDestination::Kernel => "kernel".to_owned(),
        OriginalDestination::None => "none".to_owned(),
        OriginalDestination::Fixed(address) => address.to_string(),
    };
    let inbound = bootstrap.inbound.listeners.iter().map(|listener| Listener {
        kind: "inbound",
        address: listener.address,
        original_destination: Some(written(listener.original_destination)),
        application: listener.application,
    });
    let outbound = bootstrap.outbound.listeners.iter().map(|listener| Listener {
        kind: "outbound",
        address: listener.address,
        original_destination: Some(written(listener.original_destination)),
        application: None,
    });
    let gateway = &bootstrap.gateway;
    let tunnels = [
        ("hbone", &bootstrap.hbone.listeners[..]),
        ("gateway", &gateway.listeners),
        ("compatibility", &gateway.compatibility),
        ("admin", std::slice::from_ref(&bootstrap.admin.address)),
    ];
    let others = tunnels.into_iter().flat_map(|(kind, addresses)| {
        let one = move |address: &SocketAddr| Listener {
            kind,
            address: *address,
            original_destination: None,
            application: None,
        };
        addresses.iter().map(one)
    });
    inbound.chain(outbound).chain(others).collect()
}
