//! Endpoints in other clusters, put beside a service's own as its policy asks.
//!
//! Names with `clusterset.local` get service ports of their own, which always span. A service without a local Service gets plain
//! names from FSM's ServiceImport, or because a GlobalTrafficPolicy names it; what only a gateway or the MCS API says has none,
//! so that no gateway can put itself in the place of a host outside.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use meshgate_policy::ObjectName;

use super::imports::{self, Imported, Imports};
use super::policy::GlobalTrafficPolicy;
use super::spread::Shares;
use crate::app_protocol::{AppProtocol, OpaquePorts};
use crate::clusters::{Balancer, ClusterKey, Exports, Remote, Share};
use crate::kept::Standing;
use crate::resource::Object;
use crate::services::{Endpoint, Entry, ServicePort};

/// What spreading goes by.
pub(crate) struct Around<'a> {
    pub(crate) imports: &'a Imports<'a>,
    pub(crate) exports: &'a Exports,
    pub(crate) own: &'a ClusterKey,
    pub(crate) cluster_domain: &'a str,
    pub(crate) opaque_ports: &'a OpaquePorts,
    /// Services that are aliases in DNS, which nothing is put in the place of.
    pub(crate) aliases: &'a HashSet<ObjectName>,
}

/// Spreads `entries`, which come with this cluster's endpoints alone and sorted by name, and adds services that are only elsewhere.
/// Returns the same services under their names in the clusterset.
pub(crate) fn spread<'a>(entries: &mut Vec<Entry<'a>>, standing: &'a Standing, around: &Around<'a>) -> Vec<Entry<'a>> {
    let policies = policies(standing);
    let exported: BTreeSet<_> = around.exports.iter().map(|export| &export.service).collect();
    let mut spanning = Vec::new();
    let mut here = HashSet::new();
    for entry in entries.iter_mut() {
        here.insert(entry.name.clone());
        let imported = around.imports.get(&entry.name);
        let policy = policies.get(&entry.name).copied();
        if imported.is_none() && policy.is_none() && !exported.contains(&entry.name) {
            continue;
        }
        let mut one = One { name: entry.name.clone(), imported, policy, around, made: BTreeMap::new() };
        spanning.extend(one.spanning(Some(entry)));
        one.spread_plain(entry);
    }
    for (name, imported) in around.imports.iter().filter(|(name, _)| !here.contains(*name)) {
        let policy = policies.get(name).copied();
        let mut one = One { name: name.clone(), imported: Some(imported), policy, around, made: BTreeMap::new() };
        spanning.extend(one.spanning(None));
        if (imported.is_plain || policy.is_some()) && !around.aliases.contains(name) {
            entries.push(one.plain(imported));
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    spanning.sort_by(|a, b| a.name.cmp(&b.name));
    spanning
}

fn policies(standing: &Standing) -> HashMap<ObjectName, &GlobalTrafficPolicy> {
    let mut policies = HashMap::new();
    for (key, _, object) in standing.good() {
        if let Object::GlobalTrafficPolicy(policy) = object {
            policies.insert(key.object_name(), policy);
        }
    }
    policies
}

/// By port and cluster.
type Made<'b> = BTreeMap<(u16, &'b ClusterKey), (Share, Vec<Arc<Endpoint>>)>;

/// One service on its way.
struct One<'a, 'b> {
    name: ObjectName,
    imported: Option<&'b Imported<'a>>,
    policy: Option<&'b GlobalTrafficPolicy>,
    around: &'b Around<'a>,
    /// Endpoints of a port in a cluster: nearly always the same under both names.
    made: Made<'b>,
}

impl<'a, 'b> One<'a, 'b> {
    /// Under the plain names of a local Service.
    fn spread_plain(&mut self, entry: &mut Entry<'a>) {
        let shares = Shares::plain(self.policy, self.around.own);
        for (index, port) in entry.ports.iter_mut().enumerate() {
            let remotes = self.remotes(port.port, &shares);
            // Nobody else has it yet: nothing is copied.
            let port = Arc::make_mut(port);
            port.spread = shares.spread;
            if shares.spread.own.is_none() {
                // Called by its own address, an endpoint is still who it is.
                entry.aside.extend(port.endpoints.drain(..).map(|endpoint| (index, endpoint)));
                port.not_ready = 0;
            }
            port.endpoints.extend(remotes);
        }
    }

    /// Under plain names, without a local Service.
    fn plain(&mut self, imported: &Imported<'a>) -> Entry<'a> {
        let shares = Shares::plain(self.policy, self.around.own);
        let host = format!("{}.{}.svc.{}", self.name.name, self.name.namespace, self.around.cluster_domain);
        let numbers: Vec<u16> = imported.ports.keys().copied().collect();
        let ports = numbers.into_iter().map(|number| self.port(&host, number, None, &shares));
        Entry {
            ports: ports.collect(),
            name: self.name.clone(),
            cluster_ips: imported.ips.clone(),
            headless: imported.headless,
            aside: Vec::new(),
            declared: imported.declared,
        }
    }

    /// Under the name in the clusterset. `local` has this cluster's endpoints.
    fn spanning(&mut self, local: Option<&Entry<'a>>) -> Option<Entry<'a>> {
        let is_exported = |number: u16| self.around.exports.find(&self.name, number).is_some();
        let own: BTreeMap<u16, &Arc<ServicePort>> = local
            .iter()
            .flat_map(|entry| &entry.ports)
            .filter(|port| self.policy.is_some() || is_exported(port.port))
            .map(|port| (port.port, port))
            .collect();
        let imported = self.imported.map(|imported| &imported.ports);
        let numbers: BTreeSet<u16> =
            own.keys().copied().chain(imported.into_iter().flat_map(BTreeMap::keys).copied()).collect();
        if numbers.is_empty() {
            return None;
        }
        let host = imports::clusterset_host(&self.name);
        let ports = numbers.into_iter().map(|number| {
            let own = own.get(&number).copied();
            let shares = Shares::spanning(self.policy, self.around.own, own.is_some());
            let described = own.or_else(|| local?.ports.iter().find(|port| port.port == number));
            let mut port = self.port(&host, number, described.map(|port| &**port), &shares);
            if let Some(own) = own.filter(|_| shares.spread.own.is_some()) {
                let port = Arc::make_mut(&mut port);
                port.endpoints.splice(0..0, own.endpoints.iter().cloned());
                port.not_ready = own.not_ready;
            }
            port
        });
        Some(Entry {
            ports: ports.collect(),
            name: self.name.clone(),
            cluster_ips: self.imported.map(|imported| imported.clusterset_ips.clone()).unwrap_or_default(),
            headless: false,
            aside: Vec::new(),
            declared: self.imported.and_then(|imported| imported.declared).or_else(|| local?.declared),
        })
    }

    /// A port with its endpoints elsewhere. What the local Service says of it counts more than what others do.
    fn port(&mut self, host: &str, number: u16, local: Option<&ServicePort>, shares: &Shares<'_>) -> Arc<ServicePort> {
        let said = self.imported.and_then(|imported| imported.ports.get(&number));
        let (name, app_protocol) = match (local, said) {
            (Some(local), _) => (local.name.clone(), local.app_protocol),
            (None, Some(said)) => {
                let opaque = self.around.opaque_ports;
                let protocol = AppProtocol::of(said.app_protocol.as_deref(), said.name.as_deref(), number, opaque);
                (said.name.clone(), protocol)
            }
            (None, None) => (None, AppProtocol::default()),
        };
        let by_import = || self.imported.map_or_else(Balancer::default, |imported| imported.balancer.clone());
        Arc::new(ServicePort {
            service: self.name.clone(),
            host: host.to_owned(),
            port: number,
            name,
            app_protocol,
            balancer: local.map_or_else(by_import, |local| local.balancer.clone()),
            endpoints: self.remotes(number, shares),
            not_ready: 0,
            spread: shares.spread,
            split: None,
        })
    }

    /// Endpoints of a port in the clusters that get a share, by cluster.
    fn remotes(&mut self, number: u16, shares: &Shares<'_>) -> Vec<Arc<Endpoint>> {
        let Some(port) = self.imported.and_then(|imported| imported.ports.get(&number)) else { return Vec::new() };
        let mut endpoints = Vec::new();
        for (cluster, ways) in &port.ways {
            let Some(share) = shares.other(cluster) else { continue };
            let made = self.made.entry((number, cluster)).or_insert((share, Vec::new()));
            if made.0 != share || made.1.is_empty() {
                let endpoint = |way: &imports::Way| {
                    let remote = Remote {
                        cluster: cluster.clone(),
                        share,
                        gateway: way.gateway.clone(),
                        authority: Arc::clone(&port.authority),
                    };
                    Arc::new(Endpoint {
                        address: way.address,
                        workload: None,
                        identity: way.identity.clone(),
                        in_reach: way.in_reach,
                        tunnels: false,
                        remote: Some(Arc::new(remote)),
                    })
                };
                *made = (share, ways.iter().map(endpoint).collect());
            }
            endpoints.extend(made.1.iter().cloned());
        }
        endpoints
    }
}
