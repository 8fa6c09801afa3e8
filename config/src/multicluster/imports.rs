//! What other clusters offer, by service, port and cluster, whoever said so.
//!
//! In order, and the later wins for the same service and cluster: ServiceImports; what a cluster's gateway said when it was asked;
//! EndpointSlices of pods that can be dialled themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use meshgate_identity::{SpiffeId, TrustDomain};
use meshgate_policy::smi::Reach;
use meshgate_policy::{ObjectName, Settings};

use super::ANY_ACCOUNT;
use super::import::{ImportedEndpoint, ServiceImport};
use super::lint::finding;
use crate::bootstrap::PeerCluster;
use crate::clusters::{Balancer, CLUSTERSET_DOMAIN, ClusterKey, GatewayAddress};
use crate::kept::Standing;
use crate::kind::Kind;
use crate::problem::Problem;
use crate::resource::{Key, Object, Place};
use crate::services::EndpointIdentity;
use crate::snapshot::Surroundings;
use meshgate_policy::lint::IMPORT_WITHOUT_ACCOUNT;

/// Everything imported.
pub(crate) type Imports<'a> = BTreeMap<ObjectName, Imported<'a>>;

/// One service that other clusters have.
#[derive(Debug, Default)]
pub(crate) struct Imported<'a> {
    /// The ServiceImport; a gateway's word has none.
    pub(crate) declared: Option<(&'a Key, &'a Place)>,
    /// FSM's dialect: the service is there under its plain names too, without a local Service of the same name.
    pub(crate) is_plain: bool,
    /// Of the plain names.
    pub(crate) ips: Vec<IpAddr>,
    /// Of the name in the clusterset.
    pub(crate) clusterset_ips: Vec<IpAddr>,
    pub(crate) headless: bool,
    pub(crate) balancer: Balancer,
    /// Where nothing says more of an endpoint.
    pub(crate) account: String,
    pub(crate) ports: BTreeMap<u16, Port>,
}

#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) name: Option<String>,
    pub(crate) app_protocol: Option<String>,
    pub(crate) authority: Arc<str>,
    pub(crate) ways: BTreeMap<ClusterKey, Vec<Way>>,
}

/// A way into another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    pub(crate) gateway: Option<Arc<GatewayAddress>>,
    pub(crate) identity: EndpointIdentity,
    pub(crate) in_reach: bool,
}

impl Imported<'_> {
    /// The first way into a cluster that names who runs the service there.
    pub(crate) fn account_in(&self, cluster: &ClusterKey) -> Option<&Way> {
        let mut ways = self.ports.values().filter_map(|port| port.ways.get(cluster)).flatten();
        ways.find(|way| matches!(way.identity, EndpointIdentity::Mesh(_)))
    }

    /// A port, made if it is new; what was said of it first stays.
    pub(crate) fn port(&mut self, service: &ObjectName, number: u16, said: impl FnOnce() -> Said) -> &mut Port {
        self.ports.entry(number).or_insert_with(|| {
            let Said { name, app_protocol } = said();
            Port { name, app_protocol, authority: authority(service, number).into(), ways: BTreeMap::new() }
        })
    }
}

/// What is said of a port besides its number.
pub(crate) struct Said {
    pub(crate) name: Option<String>,
    pub(crate) app_protocol: Option<String>,
}

/// A service's name in the clusterset.
pub(crate) fn clusterset_host(service: &ObjectName) -> String {
    format!("{}.{}.svc.{CLUSTERSET_DOMAIN}", service.name, service.namespace)
}

/// What a gateway is asked for.
fn authority(service: &ObjectName, port: u16) -> String {
    format!("{}:{port}", clusterset_host(service))
}

/// Its cluster, host, address and port, and the trust domain that it is taken to be of.
type GatewayKey = (ClusterKey, Arc<str>, Option<IpAddr>, u16, TrustDomain);

/// What is known of clusters, and the gateways met so far: one value each.
pub(crate) struct Peers<'a> {
    pub(crate) surroundings: &'a Surroundings,
    pub(crate) reach: &'a Reach,
    /// Of our trust domain, by whatever name.
    ours: (&'a TrustDomain, &'a [TrustDomain]),
    gateways: HashMap<GatewayKey, Option<Arc<GatewayAddress>>>,
}

impl<'a> Peers<'a> {
    pub(crate) fn new(surroundings: &'a Surroundings, reach: &'a Reach, settings: &'a Settings) -> Self {
        let ours = (&settings.trust_domain, settings.trust_domain_aliases.as_slice());
        Peers { surroundings, reach, ours, gateways: HashMap::new() }
    }

    pub(crate) fn own(&self) -> &'a ClusterKey {
        &self.surroundings.cluster_key
    }

    pub(crate) fn peer(&self, cluster: &ClusterKey) -> Option<&'a PeerCluster> {
        self.surroundings.multicluster.clusters.iter().find(|peer| peer.key == *cluster)
    }

    /// Of a cluster's workloads.
    pub(crate) fn trust_domain(&self, cluster: &ClusterKey) -> &'a TrustDomain {
        self.peer(cluster).map_or(self.ours.0, |peer| &peer.trust_domain)
    }

    /// Who answers behind an endpoint, and whether it may be called.
    pub(crate) fn identity(
        &self,
        cluster: &ClusterKey,
        trust_domain: &TrustDomain,
        namespace: &str,
        account: &str,
    ) -> (EndpointIdentity, bool) {
        // A TrafficTarget's destination has no trust domain: it means ours.
        let is_meant = trust_domain == self.ours.0 || self.ours.1.contains(trust_domain) || self.reach.is_everybody();
        if account == ANY_ACCOUNT {
            let identity =
                EndpointIdentity::Namespace { trust_domain: trust_domain.clone(), namespace: namespace.into() };
            return (identity, is_meant && self.reach.includes_any(namespace, cluster.as_str()));
        }
        let id = SpiffeId::from_service_account(trust_domain, namespace, account);
        let identity = id.map_or(EndpointIdentity::Unknown, EndpointIdentity::Mesh);
        // Of who is not known, nothing forbids it: it is left out for that it is not known.
        let in_reach = account.is_empty() || is_meant && self.reach.includes(namespace, account, cluster.as_str());
        (identity, in_reach)
    }

    /// The way through a gateway; nothing where its identity cannot be named.
    pub(crate) fn through(
        &mut self,
        cluster: &ClusterKey,
        (host, ip, port): (&Arc<str>, Option<IpAddr>, u16),
        trust_domain: &TrustDomain,
        (identity, in_reach): (EndpointIdentity, bool),
    ) -> Option<Way> {
        let (peer, multicluster) = (self.peer(cluster), &self.surroundings.multicluster);
        let at = (cluster.clone(), Arc::clone(host), ip, port, trust_domain.clone());
        let gateway = self.gateways.entry(at).or_insert_with(|| {
            let (namespace, name) = &multicluster.gateway_account;
            let identity = match peer {
                Some(peer) => peer.gateway_id.clone(),
                None => SpiffeId::from_service_account(trust_domain, namespace, name).ok()?,
            };
            Some(Arc::new(GatewayAddress { cluster: cluster.clone(), host: Arc::clone(host), ip, port, identity }))
        });
        let address = SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port);
        Some(Way { address, gateway: Some(Arc::clone(gateway.as_ref()?)), identity, in_reach })
    }
}

/// The service accounts that are named.
pub(crate) fn accounts(imports: &Imports<'_>) -> BTreeSet<ObjectName> {
    let ways = imports.values().flat_map(|imported| imported.ports.values()).flat_map(|port| port.ways.values());
    let account = |way: &Way| match &way.identity {
        EndpointIdentity::Mesh(id) => {
            Some(ObjectName { namespace: id.namespace()?.to_owned(), name: id.service_account()?.to_owned() })
        }
        _ => None,
    };
    ways.flatten().filter_map(account).collect()
}

/// What the ServiceImports say.
pub(crate) fn declared<'a>(standing: &'a Standing, peers: &mut Peers<'_>, problems: &mut Vec<Problem>) -> Imports<'a> {
    let mut imports = Imports::new();
    for (key, place, object) in standing.good() {
        let Object::ServiceImport(import) = object else { continue };
        let service = key.object_name();
        let imported = imports.entry(service.clone()).or_default();
        let is_plain = key.kind == Kind::ServiceImport;
        let ips = if is_plain { &mut imported.ips } else { &mut imported.clusterset_ips };
        ips.extend(&import.ips);
        imported.is_plain |= is_plain;
        imported.headless |= import.headless;
        // FSM's comes first by kind, and says more.
        if imported.declared.is_none() {
            imported.declared = Some((key, place));
            imported.balancer = import.balancer.clone();
        }
        if imported.account.is_empty() {
            imported.account.clone_from(&import.account);
        }
        let unknown = add_ports(imported, &service, import, peers);
        if let Some(cluster) = unknown {
            let message = format!(
                "nothing says which service account runs it in {cluster}: its endpoints there are not used; set \
                 `serviceAccountName` (`*` for any account of the namespace)"
            );
            problems.push(finding((key, place), IMPORT_WITHOUT_ACCOUNT, message));
        }
    }
    imports
}

/// Says where the first endpoint is of which nobody says who runs it.
fn add_ports(
    imported: &mut Imported<'_>,
    service: &ObjectName,
    import: &ServiceImport,
    peers: &mut Peers<'_>,
) -> Option<ClusterKey> {
    let mut unknown = None;
    for port in &import.ports {
        let said = || Said { name: port.name.clone(), app_protocol: port.app_protocol.clone() };
        let into = imported.port(service, port.number, said);
        // What is said to be here is here anyway.
        let own = peers.own();
        for endpoint in port.endpoints.iter().filter(|endpoint| endpoint.cluster != *own) {
            let account = endpoint.account.as_deref().unwrap_or(&import.account);
            if account.is_empty() {
                unknown.get_or_insert_with(|| endpoint.cluster.clone());
            }
            let Some(way) = way(service, endpoint, account, peers) else { continue };
            let ways = into.ways.entry(endpoint.cluster.clone()).or_default();
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
    }
    unknown
}

fn way(service: &ObjectName, endpoint: &ImportedEndpoint, account: &str, peers: &mut Peers<'_>) -> Option<Way> {
    let cluster = &endpoint.cluster;
    let of_cluster = peers.trust_domain(cluster);
    let trust_domain = endpoint.trust_domain.as_ref().unwrap_or(of_cluster);
    let identity = peers.identity(cluster, trust_domain, &service.namespace, account);
    peers.through(cluster, (&endpoint.host, endpoint.ip, endpoint.port), trust_domain, identity)
}
