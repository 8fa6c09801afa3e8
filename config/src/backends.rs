//! Which endpoints of this cluster are behind each port of each Service.
//!
//! In order: EndpointSlices of the service, if there are any; else its Endpoints; else, for who writes only Service and
//! Pod by hand, the Pods its selector matches. WorkloadEntries that the selector matches are added in every case, as no
//! cluster lists them. Ports are matched by name, as Kubernetes does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use meshgate_policy::ObjectName;
use meshgate_policy::smi::Reach;

use crate::app_protocol::{AppProtocol, OpaquePorts};
use crate::clusters::{ClusterKey, Share, Spread};
use crate::endpoints::{EndpointSlice, Endpoints, Subset};
use crate::kept::Standing;
use crate::problem::Problem;
use crate::resource::{Key, Object, Place};
use crate::service::{Port, Service, Target};
use crate::services::{Endpoint, EndpointIdentity, Entry, ServicePort};
use crate::workload::{Pod, WorkloadEntry};
use crate::workloads::{WorkloadRecord, Workloads};

/// The objects that say what is behind a service, by namespace.
#[derive(Default)]
struct Sources<'a> {
    slices: HashMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>,
    endpoints: HashMap<(&'a str, &'a str), &'a Endpoints>,
    pods: HashMap<&'a str, Vec<(&'a Key, &'a Pod)>>,
    entries: HashMap<&'a str, Vec<(&'a Key, &'a WorkloadEntry)>>,
}

/// An address behind a port.
struct Candidate {
    ready: bool,
    pod: Option<ObjectName>,
}

/// The Services of this cluster, sorted by name.
pub(crate) struct Local<'a> {
    pub(crate) entries: Vec<Entry<'a>>,
    /// `type: ExternalName`.
    pub(crate) aliases: HashSet<ObjectName>,
}

/// What endpoints are looked at with.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) workloads: &'a Workloads,
    pub(crate) reach: &'a Reach,
    pub(crate) cluster_domain: &'a str,
    pub(crate) own: &'a ClusterKey,
    pub(crate) opaque_ports: &'a OpaquePorts,
}

/// Builds all services; what looks wrong goes to `problems` as warnings.
pub(crate) fn services<'a>(standing: &'a Standing, view: View<'_>, problems: &mut Vec<Problem>) -> Local<'a> {
    let sources = Sources::new(standing);
    let mut local = Local { entries: Vec::new(), aliases: HashSet::new() };
    let mut known = HashSet::new();
    for (key, place, object) in standing.good() {
        let Object::Service(service) = object else { continue };
        let warn = |message: String| Problem::warning(&place.file, message).at(Some(place.line)).about(key);
        if service.external_name {
            problems.push(warn("a Service of type ExternalName is an alias in DNS: it is not balanced".to_owned()));
            local.aliases.insert(key.object_name());
            continue;
        }
        known.insert(key.object_name());
        let entry = sources.entry((key, place), service, view);
        problems.extend(doubts(&entry).into_iter().map(warn));
        local.entries.push(entry);
    }
    problems.extend(orphans(standing, &known));
    local
}

impl<'a> Sources<'a> {
    fn new(standing: &'a Standing) -> Self {
        let mut sources = Sources::default();
        for (key, _, object) in standing.good() {
            let namespace = key.namespace.as_str();
            match object {
                Object::EndpointSlice(slice) => {
                    if let Some(service) = slice.service.as_ref().filter(|_| slice.imported.is_none()) {
                        sources.slices.entry((namespace, service)).or_default().push(slice);
                    }
                }
                Object::Endpoints(endpoints) => {
                    sources.endpoints.insert((namespace, &key.name), endpoints);
                }
                Object::Pod(pod) => sources.pods.entry(namespace).or_default().push((key, pod)),
                Object::WorkloadEntry(entry) => sources.entries.entry(namespace).or_default().push((key, entry)),
                _ => {}
            }
        }
        sources
    }

    fn entry(&self, (key, place): (&'a Key, &'a Place), service: &Service, view: View<'_>) -> Entry<'a> {
        let View { workloads, reach, cluster_domain, own, opaque_ports } = view;
        let mut entry = Entry {
            name: key.object_name(),
            cluster_ips: service.cluster_ips.clone(),
            headless: service.headless,
            ports: Vec::new(),
            aside: Vec::new(),
            declared: Some((key, place)),
        };
        for (index, port) in service.ports.iter().enumerate() {
            let mut endpoints = Vec::new();
            for (address, candidate) in self.candidates(key, service, port) {
                let found = workloads.find(candidate.pod.as_ref(), address.ip());
                let endpoint = Arc::new(Endpoint {
                    address,
                    workload: found.map(|record| record.name.clone()),
                    identity: found.map_or(EndpointIdentity::Unknown, |record| record.identity.clone()),
                    in_reach: found.is_none_or(|record| includes(reach, record, own)),
                    tunnels: found.is_some_and(|record| record.tunnels),
                    remote: None,
                });
                if candidate.ready { endpoints.push(endpoint) } else { entry.aside.push((index, endpoint)) }
            }
            entry.ports.push(Arc::new(ServicePort {
                service: entry.name.clone(),
                host: format!("{}.{}.svc.{cluster_domain}", key.name, key.namespace),
                port: port.number,
                name: port.name.clone(),
                app_protocol: AppProtocol::of(
                    port.app_protocol.as_deref(),
                    port.name.as_deref(),
                    port.number,
                    opaque_ports,
                ),
                endpoints,
                not_ready: entry.aside.iter().filter(|(of, _)| *of == index).count(),
                spread: Spread { own: Some(Share::DEFAULT), fail_over: false },
                balancer: service.balancer.clone(),
                split: None,
            }));
        }
        entry
    }

    /// By address, each once: slices may overlap while Kubernetes rewrites them, and then ready wins.
    fn candidates(&self, key: &Key, service: &Service, port: &Port) -> BTreeMap<SocketAddr, Candidate> {
        let mut found = BTreeMap::new();
        let id = (key.namespace.as_str(), key.name.as_str());
        if let Some(slices) = self.slices.get(&id) {
            for slice in slices {
                add_subset(&mut found, &slice.subset, port);
            }
        } else if let Some(endpoints) = self.endpoints.get(&id) {
            for subset in &endpoints.subsets {
                add_subset(&mut found, subset, port);
            }
        } else if !service.selector.is_empty() {
            for (pod_key, pod) in self.pods.get(id.0).into_iter().flatten() {
                if !pod.finished && selects(&service.selector, &pod.labels) {
                    add_pod(&mut found, pod_key, pod, service, port);
                }
            }
        }
        for (_, entry) in self.entries.get(id.0).into_iter().flatten().filter(|_| !service.selector.is_empty()) {
            if selects(&service.selector, &entry.labels)
                && let Some(number) = entry_port(entry, port)
            {
                add(&mut found, SocketAddr::new(entry.address, number), true, None);
            }
        }
        found
    }
}

fn includes(reach: &Reach, record: &WorkloadRecord, own: &ClusterKey) -> bool {
    reach.includes(&record.workload.namespace, &record.workload.service_account, own.as_str())
}

fn add(found: &mut BTreeMap<SocketAddr, Candidate>, address: SocketAddr, ready: bool, pod: Option<ObjectName>) {
    let candidate = found.entry(address).or_insert(Candidate { ready, pod: None });
    candidate.ready |= ready;
    candidate.pod = candidate.pod.take().or(pod);
}

fn add_subset(found: &mut BTreeMap<SocketAddr, Candidate>, subset: &Subset, port: &Port) {
    for number in subset.ports.iter().filter(|own| own.name == port.name).map(|own| own.number) {
        for address in &subset.addresses {
            add(found, SocketAddr::new(address.ip, number), address.ready, address.pod.clone());
        }
    }
}

fn add_pod(found: &mut BTreeMap<SocketAddr, Candidate>, key: &Key, pod: &Pod, service: &Service, port: &Port) {
    let number = match &port.target {
        Target::Number(number) => Some(*number),
        Target::Name(name) => pod.ports.get(name).copied(),
    };
    let Some(number) = number else { return };
    for ip in &pod.addresses {
        let ready = pod.ready || service.publish_not_ready;
        add(found, SocketAddr::new(*ip, number), ready, Some(key.object_name()));
    }
}

/// A WorkloadEntry says by the service port's name where it listens; unless it does, the service says.
fn entry_port(entry: &WorkloadEntry, port: &Port) -> Option<u16> {
    let by_name = port.name.as_ref().and_then(|name| entry.ports.get(name)).copied();
    by_name.or_else(|| match &port.target {
        Target::Number(number) => Some(*number),
        Target::Name(name) => entry.ports.get(name).copied(),
    })
}

fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// What about a service is probably not meant.
fn doubts(entry: &Entry<'_>) -> Vec<String> {
    let mut doubts = Vec::new();
    let has_some = |port: &ServicePort| !port.endpoints.is_empty() || port.not_ready > 0;
    let is_split = entry.ports.iter().any(|port| has_some(port)) && !entry.ports.iter().all(|port| has_some(port));
    for port in entry.ports.iter().filter(|port| is_split && !has_some(port)) {
        doubts.push(format!(
            "port {} has no endpoints, while others of this Service have: endpoints are matched to ports by the port's name",
            port.port
        ));
    }
    let ready = entry.ports.iter().flat_map(|port| &port.endpoints);
    let all = ready.chain(entry.aside.iter().map(|(_, endpoint)| endpoint));
    let unknown: Vec<_> = all.filter(|endpoint| endpoint.identity == EndpointIdentity::Unknown).collect();
    if let Some(first) = unknown.first() {
        doubts.push(format!(
            "{} endpoint(s) belong to no Pod or WorkloadEntry with one known service account, so that traffic to them is refused; the \
             first is {}",
            unknown.len(),
            first.address
        ));
    }
    doubts
}

/// Slices and Endpoints of services that do not exist, and slices of host names.
fn orphans(standing: &Standing, services: &HashSet<ObjectName>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, place, object) in standing.good() {
        let (service, fqdn) = match object {
            // Those of services elsewhere are looked at where they are used.
            Object::EndpointSlice(slice) if slice.imported.is_some() && !slice.fqdn => continue,
            Object::EndpointSlice(slice) => (slice.service.as_deref(), slice.fqdn),
            Object::Endpoints(_) => (Some(key.name.as_str()), false),
            _ => continue,
        };
        let known = |name: &str| {
            let name = ObjectName { namespace: key.namespace.clone(), name: name.to_owned() };
            services.contains(&name)
        };
        let message = match service {
            _ if fqdn => "addressType FQDN is not read by this version: its endpoints are left out".to_owned(),
            None => "has no label kubernetes.io/service-name and so belongs to no Service".to_owned(),
            Some(name) if !known(name) => format!("there is no Service {}/{name}", key.namespace),
            Some(_) => continue,
        };
        problems.push(Problem::warning(&place.file, message).at(Some(place.line)).about(key));
    }
    problems
}

#[cfg(test)]
mod tests;
