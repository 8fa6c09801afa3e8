//! What other clusters' gateways say of themselves, taken as far as it may be.
//!
//! The one idea: a gateway speaks for its own cluster and for nothing else. What it says names neither this cluster's services nor
//! their addresses, is bounded in number and length, and each piece of it that cannot be is left out by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::imports::{Imports, Peers, Said, Way};
use super::{ANY_ACCOUNT, is_account};
use crate::clusters::{ClusterKey, Discovered, DiscoveredExport};
use crate::problem::Problem;
use crate::reader::names;

/// Services of one cluster: as many as a line of its gateway's answer holds.
const SERVICES_MAX: usize = 10_000;

/// Ports of one service.
const PORTS_MAX: usize = 100;

/// Kubernetes' limit for names of ports; nothing else is said at greater length.
const NAME_MAX: usize = 63;

/// Refused pieces that are named in a problem; of the others there is the number.
const SHOWN: usize = 3;

/// Adds what gateways say to what is imported, in the place of what ServiceImports say of the same service and cluster.
pub(crate) fn add(
    imports: &mut Imports<'_>,
    peers: &mut Peers<'_>,
    discovered: &BTreeMap<ClusterKey, Discovered>,
    problems: &mut Vec<Problem>,
) {
    for (cluster, said) in discovered {
        let about = format!("gateway of {cluster}");
        let gateway = match way_to(peers, cluster, said) {
            Ok(gateway) => gateway,
            Err(message) => {
                problems.push(Problem::warning(&about, format!("what it exports is not used: {message}")));
                continue;
            }
        };
        let mut refused = Vec::new();
        let mut seen = BTreeSet::new();
        for export in said.exports.iter().take(SERVICES_MAX) {
            match refusal(export) {
                Some(why) => refused.push((&export.service, why)),
                None if !seen.insert(&export.service) => refused.push((&export.service, "is there twice")),
                None => add_one(imports, peers, cluster, &gateway, export),
            }
        }
        if let Some(more @ 1..) = said.exports.len().checked_sub(SERVICES_MAX) {
            let message = format!("it exports {more} more than {SERVICES_MAX} services: those are not used");
            problems.push(Problem::warning(&about, message));
        }
        if !refused.is_empty() {
            let shown: Vec<_> =
                refused.iter().take(SHOWN).map(|(name, why)| format!("{} {why}", shortened(name))).collect();
            let message = format!("{} exported service(s) are not used: {}", refused.len(), shown.join("; "));
            problems.push(Problem::warning(&about, message));
        }
    }
}

type Gateway = (Arc<str>, Option<IpAddr>, u16);

/// Where the gateway is, if it may speak for this cluster.
fn way_to(peers: &Peers<'_>, cluster: &ClusterKey, said: &Discovered) -> Result<Gateway, String> {
    if cluster == peers.own() {
        return Err("it speaks for this cluster".to_owned());
    }
    let Some((peer, gateway)) = peers.peer(cluster).and_then(|peer| Some((peer, peer.gateway.as_ref()?))) else {
        return Err("the bootstrap has no gateway for this cluster".to_owned());
    };
    if said.trust_domain != peer.trust_domain {
        return Err(format!(
            "it says that its trust domain is {}, and the bootstrap that it is {}",
            said.trust_domain, peer.trust_domain
        ));
    }
    Ok((gateway.host.as_str().into(), gateway.host.parse().ok(), gateway.port))
}

/// Why an export cannot be used.
fn refusal(export: &DiscoveredExport) -> Option<&'static str> {
    let DiscoveredExport { service, service_account, ports } = export;
    let is_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > NAME_MAX);
    if service.name.len() > NAME_MAX
        || !names::is_label(&service.name)
        || service.namespace.is_empty()
        || names::check_namespace(&service.namespace).is_err()
    {
        Some("cannot be the name of a service")
    } else if service_account.is_empty() {
        Some("does not say which service account runs it")
    } else if service_account != ANY_ACCOUNT && !is_account(service_account) {
        Some("has a service account that cannot be one")
    } else if ports.is_empty() || ports.len() > PORTS_MAX {
        Some("has no ports, or too many")
    } else if ports.iter().any(|port| port.number == 0 || is_long(&port.name) || is_long(&port.app_protocol)) {
        Some("has a port that cannot be one")
    } else {
        None
    }
}

fn add_one(
    imports: &mut Imports<'_>,
    peers: &mut Peers<'_>,
    cluster: &ClusterKey,
    (host, ip, port): &Gateway,
    export: &DiscoveredExport,
) {
    let service = &export.service;
    let trust_domain = peers.trust_domain(cluster);
    let imported = imports.entry(service.clone()).or_default();
    // What is written down here is as narrow as its author wants it: the other cluster may say who it is by now, not anybody.
    let named = || imported.account_in(cluster).filter(|_| export.service_account == ANY_ACCOUNT);
    let identity = named().map_or_else(
        || peers.identity(cluster, trust_domain, &service.namespace, &export.service_account),
        |way| (way.identity.clone(), way.in_reach),
    );
    let Some(way) = peers.through(cluster, (host, *ip, *port), trust_domain, identity) else { return };
    for port in imported.ports.values_mut() {
        port.ways.remove(cluster);
    }
    for port in &export.ports {
        let said = || Said { name: port.name.clone(), app_protocol: port.app_protocol.clone() };
        let ways: Vec<Way> = vec![way.clone()];
        imported.port(service, port.number, said).ways.insert(cluster.clone(), ways);
    }
}

/// For a message, whatever it is.
fn shortened(name: &meshgate_policy::ObjectName) -> String {
    let cut = |text: &str| text.chars().take(NAME_MAX).collect::<String>();
    format!("{:?}", format!("{}/{}", cut(&name.namespace), cut(&name.name)))
}
