//! Service: the parts of it that balancing needs. Other fields are tolerated: core kinds have hundreds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;

use meshgate_policy::Invalid;
use serde::Deserialize;

use crate::clusters::Balancer;
use crate::multicluster::balancer;
use crate::resource::{Metadata, nullable};

/// A Service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// None for a headless service.
    pub(crate) cluster_ips: Vec<IpAddr>,
    /// `clusterIP: None`: callers connect to the pods' own addresses.
    pub(crate) headless: bool,
    /// `type: ExternalName`: an alias in DNS, nothing to balance.
    pub(crate) external_name: bool,
    pub(crate) publish_not_ready: bool,
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) balancer: Balancer,
    pub(crate) ports: Vec<Port>,
}

/// A port of a service that carries TCP.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) name: Option<String>,
    pub(crate) number: u16,
    pub(crate) target: Target,
    pub(crate) app_protocol: Option<String>,
}

/// Where a service port leads in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Number(u16),
    /// A container port's name.
    Name(String),
}

/// `kind: Service` as written.
#[derive(Deserialize)]
pub(crate) struct ServiceDocument {
    spec: ServiceSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs", default, deserialize_with = "nullable")]
    cluster_ips: Vec<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    publish_not_ready_addresses: bool,
    session_affinity: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    selector: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable")]
    ports: Vec<PortDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortDocument {
    name: Option<String>,
    port: NonZeroU16,
    #[serde(default, deserialize_with = "nullable")]
    protocol: Transport,
    target_port: Option<String>,
    app_protocol: Option<String>,
}

/// `protocol` of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Transport {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl ServiceDocument {
    pub(crate) fn build(self, metadata: &Metadata) -> Result<Service, Vec<Invalid>> {
        let spec = self.spec;
        let headless = spec.cluster_ip.as_deref() == Some("None");
        let mut invalid = Vec::new();
        let mut cluster_ips: Vec<IpAddr> = Vec::new();
        let written = spec.cluster_ip.iter().map(|ip| ("spec.clusterIP".to_owned(), ip));
        let more = spec.cluster_ips.iter().enumerate().map(|(i, ip)| (format!("spec.clusterIPs[{i}]"), ip));
        for (path, ip) in written.chain(more).filter(|(_, ip)| !ip.is_empty() && *ip != "None") {
            match parse_ip(path, ip) {
                Ok(ip) if cluster_ips.contains(&ip) => {}
                Ok(ip) => cluster_ips.push(ip),
                Err(problem) => invalid.push(problem),
            }
        }
        let mut ports = Vec::new();
        for (index, port) in spec.ports.into_iter().enumerate().filter(|(_, port)| port.protocol == Transport::Tcp) {
            match target(index, port.port, port.target_port) {
                Ok(target) => ports.push(Port {
                    name: some_name(port.name),
                    number: port.port.get(),
                    target,
                    app_protocol: port.app_protocol,
                }),
                Err(problem) => invalid.push(problem),
            }
        }
        let balancer = match balancer(metadata, spec.session_affinity.as_deref()) {
            Ok(balancer) if invalid.is_empty() => balancer,
            found => {
                invalid.extend(found.err());
                return Err(invalid);
            }
        };
        Ok(Service {
            cluster_ips,
            headless,
            external_name: spec.kind.as_deref() == Some("ExternalName"),
            publish_not_ready: spec.publish_not_ready_addresses,
            selector: spec.selector,
            balancer,
            ports,
        })
    }
}

/// A number is written as one or in quotes; what is no number at all is a container port's name.
fn target(index: usize, port: NonZeroU16, written: Option<String>) -> Result<Target, Invalid> {
    let Some(written) = written else { return Ok(Target::Number(port.get())) };
    if !written.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Target::Name(written));
    }
    match written.parse::<u16>() {
        // Kubernetes reads 0 as "the same as port".
        Ok(0) => Ok(Target::Number(port.get())),
        Ok(number) => Ok(Target::Number(number)),
        Err(_) => Err(Invalid {
            path: format!("spec.ports[{index}].targetPort"),
            message: format!("`{written}` is not a port: expected 1 to 65535, or the name of a container port"),
        }),
    }
}

/// An empty port name is no name.
pub(crate) fn some_name(name: Option<String>) -> Option<String> {
    name.filter(|name| !name.is_empty())
}

/// Reads an IP address, or says at which field it is not one.
pub(crate) fn parse_ip(path: String, text: &str) -> Result<IpAddr, Invalid> {
    text.parse().map_err(|_| Invalid { path, message: format!("`{text}` is not an IP address") })
}
