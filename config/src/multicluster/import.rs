//! ServiceImport, FSM's and that of the MCS API: what other clusters offer to this one.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use meshgate_identity::TrustDomain;
use meshgate_policy::Invalid;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{ACCOUNT, account, annotation, balancer, invalid};
use crate::clusters::{Balancer, ClusterKey};
use crate::document::Document;
use crate::resource::{Metadata, nullable};
use crate::service::{Transport, parse_ip, some_name};

/// The longest DNS name.
const HOST_MAX: usize = 253;

/// A ServiceImport.
#[derive(Clone, Debug)]
pub(crate) struct ServiceImport {
    /// Those that carry TCP.
    pub(crate) ports: Vec<ImportedPort>,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) headless: bool,
    pub(crate) balancer: Balancer,
    /// A name, `*`, or empty where nobody says.
    pub(crate) account: String,
}

#[derive(Clone, Debug)]
pub(crate) struct ImportedPort {
    pub(crate) name: Option<String>,
    pub(crate) number: u16,
    pub(crate) app_protocol: Option<String>,
    /// None in the MCS API, where EndpointSlices have them.
    pub(crate) endpoints: Vec<ImportedEndpoint>,
}

/// A gateway behind which a service is.
#[derive(Clone, Debug)]
pub(crate) struct ImportedEndpoint {
    pub(crate) cluster: ClusterKey,
    pub(crate) host: Arc<str>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) port: u16,
    /// Ours: in the place of the import's, which has one for all clusters.
    pub(crate) account: Option<String>,
    /// Ours: in the place of the cluster's.
    pub(crate) trust_domain: Option<TrustDomain>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ImportSpec {
    #[serde(default, deserialize_with = "nullable")]
    ports: Vec<PortSpec>,
    #[serde(default, deserialize_with = "nullable")]
    ips: Vec<String>,
    #[serde(rename = "type", default)]
    kind: ImportType,
    session_affinity: Option<String>,
    #[serde(rename = "sessionAffinityConfig")]
    _session_affinity_config: Option<IgnoredAny>,
    service_account_name: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum ImportType {
    #[default]
    #[serde(rename = "ClusterSetIP")]
    ClusterSetIp,
    Headless,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PortSpec {
    name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    protocol: Transport,
    app_protocol: Option<String>,
    port: NonZeroU16,
    #[serde(default, deserialize_with = "nullable")]
    endpoints: Vec<EndpointSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EndpointSpec {
    cluster_key: String,
    target: TargetSpec,
    service_account_name: Option<String>,
    trust_domain: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetSpec {
    host: Option<String>,
    ip: Option<String>,
    port: NonZeroU16,
    /// For FSM's own sidecars; a tunnel asks for the service by its name.
    #[serde(rename = "path")]
    _path: Option<String>,
}

impl Document<ImportSpec> {
    pub(crate) fn build(self, metadata: &Metadata) -> Result<ServiceImport, Vec<Invalid>> {
        let spec = self.spec;
        let mut problems = Vec::new();
        let mut ports: Vec<ImportedPort> = Vec::new();
        for (index, port) in spec.ports.into_iter().enumerate().filter(|(_, port)| port.protocol == Transport::Tcp) {
            let path = format!("spec.ports[{index}]");
            let number = port.port.get();
            if ports.iter().any(|other| other.number == number) {
                problems.push(invalid(format!("{path}.port"), format!("{number} is there twice")));
            }
            let read = |(at, written)| endpoint(&format!("{path}.endpoints[{at}]"), written);
            let mut endpoints = Vec::new();
            for read in port.endpoints.into_iter().enumerate().map(read) {
                match read {
                    Ok(endpoint) => endpoints.push(endpoint),
                    Err(problem) => problems.push(problem),
                }
            }
            ports.push(ImportedPort { name: some_name(port.name), number, app_protocol: port.app_protocol, endpoints });
        }
        let mut keep = |problem| problems.push(problem);
        let ips = ips("spec.ips", &spec.ips).map_err(&mut keep);
        let account = account("spec.serviceAccountName", spec.service_account_name).map_err(&mut keep);
        let balancer = balancer(metadata, spec.session_affinity.as_deref()).map_err(&mut keep);
        match (ips, account, balancer) {
            (Ok(ips), Ok(account), Ok(balancer)) if problems.is_empty() => {
                Ok(ServiceImport { ports, ips, headless: spec.kind == ImportType::Headless, balancer, account })
            }
            _ => Err(problems),
        }
    }
}

fn ips(path: &str, written: &[String]) -> Result<Vec<IpAddr>, Invalid> {
    let filled = written.iter().enumerate().filter(|(_, ip)| !ip.is_empty());
    filled.map(|(index, ip)| parse_ip(format!("{path}[{index}]"), ip)).collect()
}

fn endpoint(path: &str, written: EndpointSpec) -> Result<ImportedEndpoint, Invalid> {
    let EndpointSpec { cluster_key, target, service_account_name, trust_domain } = written;
    let cluster = cluster_key
        .parse()
        .map_err(|error| invalid(format!("{path}.clusterKey"), format!("`{cluster_key}`: {error}")))?;
    let ip = target.ip.filter(|ip| !ip.is_empty());
    let ip = ip.map(|ip| parse_ip(format!("{path}.target.ip"), &ip)).transpose()?;
    let host = match (target.host.filter(|host| !host.is_empty()), ip) {
        (Some(host), _) => host,
        (None, Some(ip)) => ip.to_string(),
        (None, None) => return Err(invalid(format!("{path}.target.host"), "is missing, and so is `ip`")),
    };
    if !is_host(&host) {
        return Err(invalid(format!("{path}.target.host"), format!("{host:?} is neither a DNS name nor an address")));
    }
    let trust_domain = trust_domain.map(|written| {
        written.parse().map_err(|error| invalid(format!("{path}.trustDomain"), format!("`{written}`: {error}")))
    });
    let account_path = format!("{path}.serviceAccountName");
    let account = service_account_name.map(|name| account(&account_path, Some(name))).transpose()?;
    Ok(ImportedEndpoint {
        cluster,
        ip: ip.or_else(|| host.parse().ok()),
        host: host.into(),
        port: target.port.get(),
        account: account.filter(|account| !account.is_empty()),
        trust_domain: trust_domain.transpose()?,
    })
}

fn is_host(host: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    host.parse::<IpAddr>().is_ok() || (host.len() <= HOST_MAX && host.bytes().all(is_char))
}

/// The MCS API's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct McsImportSpec {
    #[serde(default, deserialize_with = "nullable")]
    ports: Vec<McsPortSpec>,
    #[serde(default, deserialize_with = "nullable")]
    ips: Vec<String>,
    #[serde(rename = "type", default)]
    kind: ImportType,
    session_affinity: Option<String>,
    #[serde(rename = "sessionAffinityConfig")]
    _session_affinity_config: Option<IgnoredAny>,
    #[serde(rename = "ipFamilies")]
    _ip_families: Option<IgnoredAny>,
    #[serde(rename = "internalTrafficPolicy")]
    _internal_traffic_policy: Option<IgnoredAny>,
    #[serde(rename = "trafficDistribution")]
    _traffic_distribution: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct McsPortSpec {
    name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    protocol: Transport,
    app_protocol: Option<String>,
    port: NonZeroU16,
}

impl Document<McsImportSpec> {
    pub(crate) fn build(self, metadata: &Metadata) -> Result<ServiceImport, Vec<Invalid>> {
        let spec = self.spec;
        let one = |problem| vec![problem];
        let tcp = spec.ports.into_iter().filter(|port| port.protocol == Transport::Tcp);
        let port = |port: McsPortSpec| ImportedPort {
            name: some_name(port.name),
            number: port.port.get(),
            app_protocol: port.app_protocol,
            endpoints: Vec::new(),
        };
        let written = metadata.annotations.get(ACCOUNT).cloned();
        Ok(ServiceImport {
            ports: tcp.map(port).collect(),
            ips: ips("spec.ips", &spec.ips).map_err(one)?,
            headless: spec.kind == ImportType::Headless,
            balancer: balancer(metadata, spec.session_affinity.as_deref()).map_err(one)?,
            account: account(&annotation(ACCOUNT), written).map_err(one)?,
        })
    }
}
