//! Who is at an address: Pods and WorkloadEntries, found by name or by IP address.
//!
//! The one idea: an identity is only given where there is exactly one answer. Two workloads that claim one address
//! under different service accounts give none.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use meshgate_identity::{SpiffeId, TrustDomain};
use meshgate_policy::{ObjectName, Workload};

use crate::kind::Kind;
use crate::resource::{Key, Object};
use crate::services::EndpointIdentity;

/// The label by which Istio marks a workload without a sidecar, or with one that shall not be used.
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// A Pod or a WorkloadEntry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadRecord {
    /// Namespace and name.
    pub name: ObjectName,
    /// Its IP addresses; there may be none yet.
    pub addresses: Vec<IpAddr>,
    /// As policies see it. The service account of a WorkloadEntry without one is empty.
    pub workload: Workload,
    /// Speaks mutual TLS: not labelled `security.istio.io/tlsMode: disabled`.
    pub mesh: bool,
    /// Who must answer at its addresses.
    pub identity: EndpointIdentity,
    /// Is reached through tunnels (HBONE).
    pub tunnels: bool,
    /// Its ports that have a name.
    pub ports: BTreeMap<String, u16>,
}

impl WorkloadRecord {
    /// Whether it must show this identity.
    pub fn is_identified_by(&self, id: &SpiffeId) -> bool {
        matches!(&self.identity, EndpointIdentity::Mesh(own) if own == id)
    }
}

/// All records, and how to find them.
#[derive(Debug, Default)]
pub(crate) struct Workloads {
    records: Vec<WorkloadRecord>,
    pods: HashMap<ObjectName, usize>,
    by_ip: HashMap<IpAddr, Owner>,
}

#[derive(Debug)]
enum Owner {
    One(usize),
    /// More than one, and they differ in identity.
    Disputed,
}

impl Workloads {
    pub(crate) fn new<'a>(
        objects: impl Iterator<Item = (&'a Key, &'a Object)>,
        trust_domain: &TrustDomain,
    ) -> Workloads {
        let mut workloads = Workloads::default();
        for (key, object) in objects {
            match object {
                Object::Pod(pod) => {
                    let addresses_say_who = !pod.host_network && !pod.finished;
                    let account = Some(&*pod.service_account);
                    let mut record = record(key, (&pod.labels, &pod.ports), account, &pod.addresses, trust_domain);
                    record.tunnels = pod.tunnels;
                    workloads.push(key.kind, record, addresses_say_who);
                }
                Object::WorkloadEntry(entry) => {
                    let account = entry.service_account.as_deref();
                    let mut record =
                        record(key, (&entry.labels, &entry.ports), account, &[entry.address], trust_domain);
                    record.tunnels = entry.tunnels;
                    workloads.push(key.kind, record, true);
                }
                _ => {}
            }
        }
        workloads
    }

    fn push(&mut self, kind: Kind, record: WorkloadRecord, addresses_say_who: bool) {
        let index = self.records.len();
        for ip in record.addresses.iter().filter(|_| addresses_say_who) {
            let owner = self.by_ip.entry(*ip).or_insert(Owner::One(index));
            if let Owner::One(other) = owner
                && self.records.get(*other).is_some_and(|other| other.identity != record.identity)
            {
                *owner = Owner::Disputed;
            }
        }
        if kind == Kind::Pod {
            self.pods.insert(record.name.clone(), index);
        }
        self.records.push(record);
    }

    /// The workload behind an endpoint: the pod that the endpoint names, else whoever has its address.
    pub(crate) fn find(&self, pod: Option<&ObjectName>, ip: IpAddr) -> Option<&WorkloadRecord> {
        let by_name = pod.and_then(|name| self.pods.get(name)).copied();
        let index = by_name.or_else(|| match self.by_ip.get(&ip)? {
            Owner::One(index) => Some(*index),
            Owner::Disputed => None,
        })?;
        self.records.get(index)
    }

    /// All records, and by address the place of whoever alone has it.
    pub(crate) fn into_records(self) -> (Vec<WorkloadRecord>, HashMap<IpAddr, usize>) {
        let places = self.by_ip.into_iter().filter_map(|(ip, owner)| match owner {
            Owner::One(index) => Some((ip, index)),
            Owner::Disputed => None,
        });
        (self.records, places.collect())
    }
}

fn record(
    key: &Key,
    (labels, ports): (&BTreeMap<String, String>, &BTreeMap<String, u16>),
    account: Option<&str>,
    addresses: &[IpAddr],
    trust_domain: &TrustDomain,
) -> WorkloadRecord {
    let mesh = labels.get(TLS_MODE).is_none_or(|mode| mode != "disabled");
    let id = account.and_then(|account| SpiffeId::from_service_account(trust_domain, &key.namespace, account).ok());
    let identity = match (mesh, id) {
        (false, _) => EndpointIdentity::Plaintext,
        (true, Some(id)) => EndpointIdentity::Mesh(id),
        (true, None) => EndpointIdentity::Unknown,
    };
    WorkloadRecord {
        name: key.object_name(),
        addresses: addresses.to_vec(),
        workload: Workload {
            namespace: key.namespace.clone(),
            service_account: account.unwrap_or_default().to_owned(),
            labels: labels.clone(),
        },
        mesh,
        identity,
        tunnels: false,
        ports: ports.clone(),
    }
}
