//! Services as the outbound side looks them up: by cluster address, by host name, by a pod's own address.
//!
//! The one idea: everything is worked out when the snapshot is made, so that a lookup is one or two hash probes and an
//! `Arc` to clone. Choosing among endpoints is the balancer's affair.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use meshgate_identity::{SpiffeId, TrustDomain};
use meshgate_policy::ObjectName;

use crate::app_protocol::{AppProtocol, OpaquePorts};
use crate::clusters::{Balancer, CLUSTERSET_DOMAIN, Remote, Spread};
use crate::kind::Kind;
use crate::resource::{Key, Place};
use crate::split::Split;

type ByName = HashMap<String, HashMap<String, Vec<Arc<ServicePort>>>>;

/// All services of a snapshot.
#[derive(Debug, Default)]
pub struct Services {
    ports: Vec<Arc<ServicePort>>,
    by_address: HashMap<SocketAddr, Arc<ServicePort>>,
    /// Namespace, then name, then the service's ports.
    by_name: ByName,
    /// The same for names in the clusterset.
    spanning: ByName,
    by_endpoint: HashMap<SocketAddr, (Arc<ServicePort>, Arc<Endpoint>)>,
    /// Addresses of services and of their endpoints, whatever the port.
    addresses: HashSet<IpAddr>,
    cluster_domain: String,
    opaque_ports: OpaquePorts,
}

/// One TCP port of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Namespace and name of the service.
    pub service: ObjectName,
    /// Its full DNS name, `name.namespace.svc.<cluster domain>`, or in the clusterset `name.namespace.svc.clusterset.local`.
    pub host: String,
    /// The port callers use.
    pub port: u16,
    /// The port's name, if it has one.
    pub name: Option<String>,
    /// What is spoken on it.
    pub app_protocol: AppProtocol,
    /// Endpoints that are ready, or elsewhere: those of this cluster sorted by address, each address once, then those of other
    /// clusters that the spread asks for, by cluster.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// How many more there are in this cluster that are not ready.
    pub not_ready: usize,
    /// How requests are spread over clusters.
    pub spread: Spread,
    /// How one endpoint of a cluster is chosen.
    pub balancer: Balancer,
    /// Who else serves what is sent to it; `None` = nobody.
    pub split: Option<Arc<Split>>,
}

/// One address of one workload, or of a gateway that leads to some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens. Behind a gateway this is the gateway's, as far as it is known without asking (the address is
    /// unspecified when it is not); what is dialled is looked up when it is.
    pub address: SocketAddr,
    /// The Pod or WorkloadEntry there, if one is known.
    pub workload: Option<ObjectName>,
    /// Who must answer there.
    pub identity: EndpointIdentity,
    /// Whether TrafficTargets, where they are in force, let this proxy's own workload call whoever is there.
    pub in_reach: bool,
    /// Whether it is reached through a tunnel to its own address (HBONE).
    pub tunnels: bool,
    /// Which other cluster it is in, and how it is reached there; `None` = this one.
    pub remote: Option<Arc<Remote>>,
}

/// Who must answer at an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointIdentity {
    /// A workload of the mesh: mutual TLS, with this identity in its certificate.
    Mesh(SpiffeId),
    /// A workload of the mesh in another cluster, of which its exporter said that any account of this namespace runs it.
    Namespace {
        /// Its trust domain.
        trust_domain: TrustDomain,
        /// Its name.
        namespace: Arc<str>,
    },
    /// A workload labelled `security.istio.io/tlsMode: disabled`: plaintext.
    Plaintext,
    /// No Pod or WorkloadEntry is known at the address, or several that differ: who answers cannot be checked, so that
    /// nothing may be sent.
    Unknown,
}

impl ServicePort {
    /// Whether this is the service under its name in the clusterset, beside which there may be one under its plain names.
    pub fn is_clusterset(&self) -> bool {
        self.host.strip_suffix(CLUSTERSET_DOMAIN).is_some_and(|rest| rest.ends_with(".svc."))
    }
}

impl fmt::Display for Endpoint {
    /// Its address, or its cluster and what stands before it there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remote {
            None => self.address.fmt(f),
            Some(remote) => match &remote.gateway {
                Some(gateway) => gateway.fmt(f),
                None => write!(f, "{} ({})", remote.cluster, self.address),
            },
        }
    }
}

impl Services {
    /// The service port at a cluster address.
    pub fn by_address(&self, address: SocketAddr) -> Option<Arc<ServicePort>> {
        self.by_address.get(&address).cloned()
    }

    /// The service port that a caller in `namespace` means by `host` and `port`.
    ///
    /// `host` is `name`, `name.ns`, `name.ns.svc`, `name.ns.svc.<cluster domain>` or `name.ns.svc.clusterset.local`, in any case, without a port, with
    /// or without a trailing dot. Does not allocate when it is in lower case.
    pub fn by_host(&self, host: &str, port: u16, namespace: &str) -> Option<Arc<ServicePort>> {
        self.ports_of(host, namespace)?.iter().find(|candidate| candidate.port == port).cloned()
    }

    /// Whether `host` names a service at all, whatever its ports.
    pub fn host_known(&self, host: &str, namespace: &str) -> bool {
        self.ports_of(host, namespace).is_some()
    }

    /// The endpoint at a workload's own address, ready or not, with a service port it belongs to: a headless service's
    /// if there is one, else the first by name.
    pub fn endpoint(&self, address: SocketAddr) -> Option<(Arc<ServicePort>, Arc<Endpoint>)> {
        self.by_endpoint.get(&address).cloned()
    }

    /// What is spoken at an address, a service's or a workload's own: as its service says it, else by its number.
    pub fn app_protocol(&self, address: SocketAddr) -> AppProtocol {
        let at_endpoint = || self.by_endpoint.get(&address).map(|(service, _)| service);
        let service = self.by_address.get(&address).or_else(at_endpoint);
        service.map_or_else(|| self.opaque_ports.undeclared(address.port()), |service| service.app_protocol)
    }

    /// Whether an address, port and all, is a service's or a workload's.
    pub fn is_declared(&self, address: SocketAddr) -> bool {
        self.by_address.contains_key(&address) || self.by_endpoint.contains_key(&address)
    }

    /// Whether an address is that of a service or of an endpoint of one, on whatever port.
    pub fn knows(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// All service ports, by namespace, name and the order they were written in; after them those of names in the clusterset.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ServicePort>> {
        self.ports.iter()
    }

    fn ports_of(&self, host: &str, namespace: &str) -> Option<&[Arc<ServicePort>]> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(host.to_ascii_lowercase()),
            false => Cow::Borrowed(host),
        };
        let (name, rest) = host.split_once('.').unwrap_or((&host, namespace));
        let (names, namespace) = match rest.split_once('.') {
            None => (&self.by_name, rest),
            Some((namespace, "svc")) => (&self.by_name, namespace),
            Some((namespace, suffix)) => match suffix.strip_prefix("svc.")? {
                domain if domain == self.cluster_domain => (&self.by_name, namespace),
                CLUSTERSET_DOMAIN => (&self.spanning, namespace),
                _ => return None,
            },
        };
        Some(names.get(namespace)?.get(name)?)
    }
}

/// A service on its way into [`Services`].
pub(crate) struct Entry<'a> {
    pub(crate) name: ObjectName,
    pub(crate) cluster_ips: Vec<IpAddr>,
    pub(crate) headless: bool,
    pub(crate) ports: Vec<Arc<ServicePort>>,
    /// Endpoints here that are not among a port's, by the index of that: not ready, or left out of the spread.
    pub(crate) aside: Vec<(usize, Arc<Endpoint>)>,
    /// The object it comes from.
    pub(crate) declared: Option<(&'a Key, &'a Place)>,
}

impl Services {
    /// Indexes services, which come sorted by name; `spanning` are those of names in the clusterset. Also says which of them
    /// lost an address to an earlier one: a Service of this cluster is earlier than what is imported, which gets no port of its
    /// addresses, nor of its workloads'.
    pub(crate) fn new<'a>(
        cluster_domain: &str,
        opaque_ports: &OpaquePorts,
        entries: Vec<Entry<'a>>,
        spanning: Vec<Entry<'a>>,
    ) -> (Services, Vec<Collision<'a>>) {
        let mut services = Services {
            cluster_domain: cluster_domain.to_owned(),
            opaque_ports: opaque_ports.clone(),
            ..Services::default()
        };
        let mut collisions = Vec::new();
        let is_imported = |entry: &&Entry<'a>| entry.declared.is_some_and(|(key, _)| key.kind != Kind::Service);
        let here = entries.iter().filter(|entry| !is_imported(entry));
        for entry in here.clone() {
            services.index_cluster_ips(entry, &HashMap::new(), &mut collisions);
        }
        let elsewhere = || entries.iter().filter(is_imported).chain(&spanning);
        let is_asked = elsewhere().any(|entry| !entry.cluster_ips.is_empty());
        let taken: HashMap<_, _> = here.filter(|_| is_asked).flat_map(own_addresses).collect();
        for entry in elsewhere() {
            services.index_cluster_ips(entry, &taken, &mut collisions);
        }
        for headless in [true, false] {
            for entry in entries.iter().chain(&spanning).filter(|entry| entry.headless == headless) {
                services.index_endpoints(entry);
            }
        }
        for (entries, by_name) in [(entries, &mut services.by_name), (spanning, &mut services.spanning)] {
            for entry in entries {
                services.ports.extend(entry.ports.iter().cloned());
                by_name.entry(entry.name.namespace).or_default().insert(entry.name.name, entry.ports);
            }
        }
        (services, collisions)
    }

    /// `taken` are addresses that it may have on no port.
    fn index_cluster_ips<'a>(
        &mut self,
        entry: &Entry<'a>,
        taken: &HashMap<IpAddr, &ObjectName>,
        collisions: &mut Vec<Collision<'a>>,
    ) {
        self.addresses.extend(&entry.cluster_ips);
        for port in &entry.ports {
            for ip in &entry.cluster_ips {
                let address = SocketAddr::new(*ip, port.port);
                let holder = match taken.get(ip) {
                    Some(holder) => *holder,
                    None => {
                        let holder = self.by_address.entry(address).or_insert_with(|| port.clone());
                        if holder.host == port.host {
                            continue;
                        }
                        &holder.service
                    }
                };
                collisions.push(Collision { address, loser: entry.declared, holder: holder.clone() });
            }
        }
    }

    fn index_endpoints(&mut self, entry: &Entry<'_>) {
        let ready = entry.ports.iter().flat_map(|port| port.endpoints.iter().map(move |endpoint| (port, endpoint)));
        let aside = entry.aside.iter().filter_map(|(index, endpoint)| Some((entry.ports.get(*index)?, endpoint)));
        // Behind a gateway's address is nobody: who dials it means the gateway.
        let is_gateway = |endpoint: &Endpoint| endpoint.remote.as_ref().is_some_and(|remote| remote.gateway.is_some());
        for (port, endpoint) in ready.chain(aside).filter(|(_, endpoint)| !is_gateway(endpoint)) {
            self.addresses.insert(endpoint.address.ip());
            self.by_endpoint.entry(endpoint.address).or_insert_with(|| (port.clone(), endpoint.clone()));
        }
    }
}

/// The addresses of a service of this cluster, and of its endpoints here.
fn own_addresses<'e>(entry: &'e Entry<'_>) -> impl Iterator<Item = (IpAddr, &'e ObjectName)> {
    let all = entry.ports.iter().flat_map(|port| &port.endpoints).chain(entry.aside.iter().map(|(_, one)| one));
    let local = all.filter(|endpoint| endpoint.remote.is_none()).map(|endpoint| endpoint.address.ip());
    entry.cluster_ips.iter().copied().chain(local).map(|ip| (ip, &entry.name))
}

/// Two services claim one cluster address.
pub(crate) struct Collision<'a> {
    pub(crate) address: SocketAddr,
    /// The object of the one that does not get it.
    pub(crate) loser: Option<(&'a Key, &'a Place)>,
    pub(crate) holder: ObjectName,
}

#[cfg(test)]
mod tests;
