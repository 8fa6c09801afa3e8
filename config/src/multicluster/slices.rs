//! EndpointSlices of the MCS API: pods of other clusters that can be dialled themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use meshgate_policy::ObjectName;

use super::imports::{Imports, Peers, Way};
use crate::clusters::ClusterKey;
use crate::endpoints::{EndpointSlice, ImportedSlice};
use crate::kept::Standing;
use crate::problem::Problem;
use crate::resource::{Key, Object, Place};
use crate::services::EndpointIdentity;
use crate::workloads::Workloads;

/// Adds the ready pods of the slices. Where a cluster has some, its gateway is not used for that port.
pub(crate) fn add(
    imports: &mut Imports<'_>,
    peers: &Peers<'_>,
    standing: &Standing,
    workloads: &Workloads,
    problems: &mut Vec<Problem>,
) {
    let known = known(standing, peers);
    let mut direct: BTreeMap<(ObjectName, u16, ClusterKey), Vec<Way>> = BTreeMap::new();
    for (key, place, object) in standing.good() {
        let Object::EndpointSlice(slice) = object else { continue };
        let Some(imported) = &slice.imported else { continue };
        match source(imported, &known) {
            Ok(cluster) if cluster == *peers.own() => {}
            Ok(cluster) => {
                let service = ObjectName { namespace: key.namespace.clone(), name: imported.service.clone() };
                if imports.contains_key(&service) {
                    collect(&mut direct, &service, &cluster, slice, (imports, peers, workloads));
                } else {
                    problems.push(doubt((key, place), format!("there is no ServiceImport {service}")));
                }
            }
            Err(message) => problems.push(doubt((key, place), message)),
        }
    }
    for ((service, number, cluster), ways) in direct {
        let port = imports.get_mut(&service).and_then(|imported| imported.ports.get_mut(&number));
        if let Some(port) = port {
            port.ways.insert(cluster, ways);
        }
    }
}

fn doubt((key, place): (&Key, &Place), message: String) -> Problem {
    Problem::warning(&place.file, message).at(Some(place.line)).about(key)
}

/// The clusters of which anything is said.
fn known(standing: &Standing, peers: &Peers<'_>) -> BTreeSet<ClusterKey> {
    let mut known = BTreeSet::from([peers.own().clone()]);
    known.extend(peers.surroundings.multicluster.clusters.iter().map(|peer| peer.key.clone()));
    for (_, _, object) in standing.good() {
        match object {
            Object::GlobalTrafficPolicy(policy) => {
                known.extend(policy.targets.iter().map(|target| target.cluster.clone()));
            }
            Object::ServiceImport(import) => {
                let endpoints = import.ports.iter().flat_map(|port| &port.endpoints);
                known.extend(endpoints.map(|endpoint| endpoint.cluster.clone()));
            }
            _ => {}
        }
    }
    known
}

/// A label holds no slash, so that it is mostly the last part of a key.
fn source(slice: &ImportedSlice, known: &BTreeSet<ClusterKey>) -> Result<ClusterKey, String> {
    const LABEL: &str = "multicluster.kubernetes.io/source-cluster";
    let Some(written) = &slice.source else {
        return Err(format!("has no label {LABEL}: its endpoints are left out"));
    };
    if let Ok(key) = written.parse() {
        return Ok(key);
    }
    let mut named = known.iter().filter(|key| key.name() == *written);
    match (named.next(), named.next()) {
        (Some(key), None) => Ok(key.clone()),
        (None, _) => Err(format!(
            "no cluster `{written}` ({LABEL}) is known; name it under multicluster.clusters in the bootstrap: its endpoints are left out"
        )),
        (Some(one), Some(other)) => {
            Err(format!("`{written}` ({LABEL}) may be {one} or {other}: its endpoints are left out"))
        }
    }
}

fn collect(
    direct: &mut BTreeMap<(ObjectName, u16, ClusterKey), Vec<Way>>,
    service: &ObjectName,
    cluster: &ClusterKey,
    slice: &EndpointSlice,
    (imports, peers, workloads): (&Imports<'_>, &Peers<'_>, &Workloads),
) {
    let Some(imported) = imports.get(service) else { return };
    for (number, port) in &imported.ports {
        let of_gateway = port.ways.get(cluster).and_then(|ways| ways.first());
        let targets = slice.subset.ports.iter().filter(|own| own.name == port.name);
        for target in targets {
            for address in slice.subset.addresses.iter().filter(|address| address.ready) {
                let trust_domain = peers.trust_domain(cluster);
                let (identity, in_reach) = match (workloads.find(None, address.ip), of_gateway) {
                    (Some(found), _) => {
                        let workload = &found.workload;
                        let (identity, in_reach) =
                            peers.identity(cluster, trust_domain, &workload.namespace, &workload.service_account);
                        (if found.mesh { identity } else { EndpointIdentity::Plaintext }, in_reach)
                    }
                    (None, Some(way)) => (way.identity.clone(), way.in_reach),
                    (None, None) => peers.identity(cluster, trust_domain, &service.namespace, &imported.account),
                };
                let address = SocketAddr::new(address.ip, target.number);
                let ways = direct.entry((service.clone(), *number, cluster.clone())).or_default();
                if ways.iter().all(|way| way.address != address) {
                    ways.push(Way { address, gateway: None, identity, in_reach });
                }
            }
        }
    }
}
