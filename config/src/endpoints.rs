//! Endpoints and EndpointSlice: which addresses are behind a service, and what its ports are there.

use std::net::IpAddr;
use std::num::NonZeroU16;

use meshgate_policy::{Invalid, ObjectName};
use serde::Deserialize;

use crate::resource::{Metadata, nullable};
use crate::service::{Transport, parse_ip, some_name};

/// An Endpoints or an EndpointSlice: addresses, and what each port name is there.
#[derive(Clone, Debug)]
pub(crate) struct Subset {
    pub(crate) addresses: Vec<Address>,
    pub(crate) ports: Vec<EndpointPort>,
}

#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    pub(crate) ready: bool,
    /// The pod behind it, when the object says.
    pub(crate) pod: Option<ObjectName>,
}

#[derive(Clone, Debug)]
pub(crate) struct EndpointPort {
    pub(crate) name: Option<String>,
    pub(crate) number: u16,
}

/// An EndpointSlice.
#[derive(Clone, Debug)]
pub(crate) struct EndpointSlice {
    /// From the label `kubernetes.io/service-name`; a slice without it belongs to no service.
    pub(crate) service: Option<String>,
    /// The MCS API's, of a service in another cluster; then `service` says nothing.
    pub(crate) imported: Option<ImportedSlice>,
    /// `addressType: FQDN`: names, which are not resolved here.
    pub(crate) fqdn: bool,
    pub(crate) subset: Subset,
}

/// What an EndpointSlice of the MCS API says of itself.
#[derive(Clone, Debug)]
pub(crate) struct ImportedSlice {
    /// From the label `multicluster.kubernetes.io/service-name`.
    pub(crate) service: String,
    /// From the label `multicluster.kubernetes.io/source-cluster`.
    pub(crate) source: Option<String>,
}

/// An Endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) subsets: Vec<Subset>,
}

/// `kind: EndpointSlice` as written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SliceDocument {
    address_type: AddressType,
    #[serde(default, deserialize_with = "nullable")]
    endpoints: Vec<SliceEndpoint>,
    #[serde(default, deserialize_with = "nullable")]
    ports: Vec<EndpointPortDocument>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum AddressType {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
    #[serde(rename = "FQDN")]
    Fqdn,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SliceEndpoint {
    #[serde(default, deserialize_with = "nullable")]
    addresses: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    conditions: Conditions,
    target_ref: Option<TargetRef>,
}

#[derive(Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Deserialize)]
struct TargetRef {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct EndpointPortDocument {
    name: Option<String>,
    /// Absent in a slice: any port, which names nothing one could connect to.
    port: Option<NonZeroU16>,
    #[serde(default, deserialize_with = "nullable")]
    protocol: Transport,
}

impl SliceDocument {
    pub(crate) fn build(self, namespace: &str, metadata: &Metadata) -> Result<EndpointSlice, Vec<Invalid>> {
        let fqdn = self.address_type == AddressType::Fqdn;
        let mut invalid = Vec::new();
        let mut addresses = Vec::new();
        for (i, endpoint) in self.endpoints.into_iter().enumerate().filter(|_| !fqdn) {
            let pod = endpoint.target_ref.and_then(|target| target.pod(namespace));
            // Absent means unknown, which Kubernetes asks to be taken as ready.
            let ready = endpoint.conditions.ready.unwrap_or(true);
            for (j, ip) in endpoint.addresses.iter().enumerate() {
                let path = format!("endpoints[{i}].addresses[{j}]");
                match parse_ip(path.clone(), ip) {
                    Ok(ip) if ip.is_ipv4() != (self.address_type == AddressType::V4) => {
                        invalid.push(Invalid { path, message: format!("`{ip}` is not of the slice's addressType") });
                    }
                    Ok(ip) => addresses.push(Address { ip, ready, pod: pod.clone() }),
                    Err(problem) => invalid.push(problem),
                }
            }
        }
        if !invalid.is_empty() {
            return Err(invalid);
        }
        let label = |name: &str| metadata.labels.get(name).cloned();
        let imported = label("multicluster.kubernetes.io/service-name")
            .map(|service| ImportedSlice { service, source: label("multicluster.kubernetes.io/source-cluster") });
        let service = label("kubernetes.io/service-name");
        Ok(EndpointSlice { service, imported, fqdn, subset: Subset { addresses, ports: tcp_ports(self.ports) } })
    }
}

/// `kind: Endpoints` as written.
#[derive(Deserialize)]
pub(crate) struct EndpointsDocument {
    #[serde(default, deserialize_with = "nullable")]
    subsets: Vec<SubsetDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubsetDocument {
    #[serde(default, deserialize_with = "nullable")]
    addresses: Vec<AddressDocument>,
    #[serde(default, deserialize_with = "nullable")]
    not_ready_addresses: Vec<AddressDocument>,
    #[serde(default, deserialize_with = "nullable")]
    ports: Vec<EndpointPortDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AddressDocument {
    ip: String,
    target_ref: Option<TargetRef>,
}

impl EndpointsDocument {
    pub(crate) fn build(self, namespace: &str) -> Result<Endpoints, Vec<Invalid>> {
        let mut invalid = Vec::new();
        let mut subsets = Vec::new();
        for (i, subset) in self.subsets.into_iter().enumerate() {
            let mut addresses = Vec::new();
            let lists =
                [("addresses", true, subset.addresses), ("notReadyAddresses", false, subset.not_ready_addresses)];
            for (list, ready, written) in lists {
                for (j, address) in written.into_iter().enumerate() {
                    let pod = address.target_ref.and_then(|target| target.pod(namespace));
                    match parse_ip(format!("subsets[{i}].{list}[{j}].ip"), &address.ip) {
                        Ok(ip) => addresses.push(Address { ip, ready, pod }),
                        Err(problem) => invalid.push(problem),
                    }
                }
            }
            subsets.push(Subset { addresses, ports: tcp_ports(subset.ports) });
        }
        if invalid.is_empty() { Ok(Endpoints { subsets }) } else { Err(invalid) }
    }
}

impl TargetRef {
    fn pod(self, namespace: &str) -> Option<ObjectName> {
        let name = self.name.filter(|_| self.kind.as_deref() == Some("Pod"))?;
        Some(ObjectName { namespace: self.namespace.unwrap_or_else(|| namespace.to_owned()), name })
    }
}

fn tcp_ports(written: Vec<EndpointPortDocument>) -> Vec<EndpointPort> {
    let tcp = written.into_iter().filter(|port| port.protocol == Transport::Tcp);
    tcp.filter_map(|port| Some(EndpointPort { name: some_name(port.name), number: port.port?.get() })).collect()
}
