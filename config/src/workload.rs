//! Pod and WorkloadEntry: who listens at an address, under which service account.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;

use meshgate_policy::Invalid;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::resource::{Metadata, nullable};
use crate::service::{Transport, parse_ip};

/// A Pod.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) service_account: String,
    /// From `status.podIP` and `status.podIPs`.
    pub(crate) addresses: Vec<IpAddr>,
    /// Shares its node's addresses, so that an address says nothing about which pod it is.
    pub(crate) host_network: bool,
    /// Succeeded, failed: its addresses may belong to another pod by now.
    pub(crate) finished: bool,
    pub(crate) ready: bool,
    /// Is reached through tunnels, see [`takes_tunnels`].
    pub(crate) tunnels: bool,
    /// Name to number.
    pub(crate) ports: BTreeMap<String, u16>,
}

/// A WorkloadEntry: an endpoint outside Kubernetes.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadEntry {
    pub(crate) labels: BTreeMap<String, String>,
    /// None: nothing its certificate could be checked against.
    pub(crate) service_account: Option<String>,
    pub(crate) address: IpAddr,
    /// As a [`Pod`]'s.
    pub(crate) tunnels: bool,
    /// Service port name to number.
    pub(crate) ports: BTreeMap<String, u16>,
}

/// Whether a workload is to be reached through tunnels (HBONE), as istiod tells: it says so by a label, or its node's ztunnel has
/// taken it over and says so by an annotation.
fn takes_tunnels(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> bool {
    labels.get("networking.istio.io/tunnel").is_some_and(|tunnel| tunnel == "http")
        || annotations.get("ambient.istio.io/redirection").is_some_and(|state| state == "enabled")
}

/// `kind: Pod` as written.
#[derive(Deserialize)]
pub(crate) struct PodDocument {
    #[serde(default, deserialize_with = "nullable")]
    spec: PodSpec,
    #[serde(default, deserialize_with = "nullable")]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    service_account_name: Option<String>,
    /// The older name of the same field.
    service_account: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    host_network: bool,
    #[serde(default, deserialize_with = "nullable")]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default, deserialize_with = "nullable")]
    ports: Vec<ContainerPort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    name: Option<String>,
    container_port: NonZeroU16,
    #[serde(default, deserialize_with = "nullable")]
    protocol: Transport,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs", default, deserialize_with = "nullable")]
    pod_ips: Vec<PodIp>,
    #[serde(default, deserialize_with = "nullable")]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: String,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl PodDocument {
    pub(crate) fn build(self, metadata: &Metadata) -> Result<Pod, Vec<Invalid>> {
        let PodDocument { spec, status } = self;
        let mut invalid = Vec::new();
        let mut addresses = Vec::new();
        let first = status.pod_ip.iter().map(|ip| ("status.podIP".to_owned(), ip));
        let all = status.pod_ips.iter().enumerate().map(|(i, entry)| (format!("status.podIPs[{i}].ip"), &entry.ip));
        for (path, ip) in first.chain(all).filter(|(_, ip)| !ip.is_empty()) {
            match parse_ip(path, ip) {
                Ok(ip) if addresses.contains(&ip) => {}
                Ok(ip) => addresses.push(ip),
                Err(problem) => invalid.push(problem),
            }
        }
        if !invalid.is_empty() {
            return Err(invalid);
        }
        let ports = spec.containers.into_iter().flat_map(|container| container.ports);
        let tcp = ports.filter(|port| port.protocol == Transport::Tcp);
        // A pod written by hand has no conditions: then it is taken as ready.
        let not_ready =
            status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status != "True");
        let account = spec.service_account_name.or(spec.service_account).filter(|account| !account.is_empty());
        Ok(Pod {
            labels: metadata.labels.clone(),
            service_account: account.unwrap_or_else(|| "default".to_owned()),
            addresses,
            host_network: spec.host_network,
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            ready: !not_ready && metadata.deletion_timestamp.is_none(),
            tunnels: takes_tunnels(&metadata.labels, &metadata.annotations),
            ports: tcp.filter_map(|port| Some((port.name?, port.container_port.get()))).collect(),
        })
    }
}

/// `kind: WorkloadEntry` as written. Its fields are few and all its own: an unknown one is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct WorkloadEntryDocument {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: IgnoredAny,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
    spec: WorkloadEntrySpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WorkloadEntrySpec {
    address: String,
    #[serde(default, deserialize_with = "nullable")]
    ports: BTreeMap<String, NonZeroU16>,
    #[serde(default, deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    service_account: Option<String>,
    /// These three steer Istio's balancing between places; here they have no effect.
    #[serde(rename = "network")]
    _network: Option<IgnoredAny>,
    #[serde(rename = "locality")]
    _locality: Option<IgnoredAny>,
    #[serde(rename = "weight")]
    _weight: Option<IgnoredAny>,
}

impl WorkloadEntryDocument {
    pub(crate) fn build(self, metadata: &Metadata) -> Result<WorkloadEntry, Vec<Invalid>> {
        let spec = self.spec;
        let address = parse_ip("spec.address".to_owned(), &spec.address).map_err(|mut invalid| {
            invalid.message.push_str("; names and sockets of the file system are not read by this version");
            vec![invalid]
        })?;
        let mut labels = metadata.labels.clone();
        labels.extend(spec.labels);
        Ok(WorkloadEntry {
            tunnels: takes_tunnels(&labels, &metadata.annotations),
            labels,
            service_account: spec.service_account.filter(|account| !account.is_empty()),
            address,
            ports: spec.ports.into_iter().map(|(name, number)| (name, number.get())).collect(),
        })
    }
}
