//! What the bootstrap says about other clusters: `multicluster`, `gateway`, `retries` and `outlierDetection`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use meshgate_identity::{ClusterRoots, SpiffeId, TrustDomain};
use serde::Deserialize;

use super::hbone::{RawLimits, TunnelLimits};
use super::validate::Validator;
use super::{IdentitySettings, Role};
use crate::clusters::ClusterKey;

/// Who gateways are, unless a cluster says otherwise: namespace and service account.
const GATEWAY_ACCOUNT: (&str, &str) = ("meshgate-system", "meshgate-gateway");

/// Where a gateway listens: Istio's port for traffic between clusters.
const GATEWAY_PORT: u16 = 15443;

/// Other clusters, as far as the bootstrap says something of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multicluster {
    /// Namespace and service account of every gateway of which nothing else is said.
    pub gateway_account: (String, String),
    /// By key, each once; never our own.
    pub clusters: Vec<PeerCluster>,
}

impl Default for Multicluster {
    fn default() -> Self {
        Self { gateway_account: (GATEWAY_ACCOUNT.0.to_owned(), GATEWAY_ACCOUNT.1.to_owned()), clusters: Vec::new() }
    }
}

/// Another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCluster {
    /// Which.
    pub key: ClusterKey,
    /// The trust domain of its workloads.
    pub trust_domain: TrustDomain,
    /// PEM file of the roots that vouch for its workloads, and they alone; `None` = those of its trust domain, which then has
    /// some.
    pub trust_bundle: Option<PathBuf>,
    /// Who its gateway is.
    pub gateway_id: SpiffeId,
    /// Where its gateway is asked what it exports; `None` = it is not asked, and only ServiceImports count.
    pub gateway: Option<PeerGateway>,
}

impl Multicluster {
    /// What vouches for the clusters that have roots of their own.
    pub(super) fn roots(&self) -> BTreeMap<String, ClusterRoots> {
        let roots = |cluster: &PeerCluster| {
            let (trust_domain, file) = (cluster.trust_domain.clone(), cluster.trust_bundle.clone()?);
            Some((cluster.key.to_string(), ClusterRoots { trust_domain, file }))
        };
        self.clusters.iter().filter_map(roots).collect()
    }

    /// Whether the roots of `own`, our trust domain, tell that a workload is of our cluster: not while nothing is said of other
    /// clusters, nor while one of the domain has no roots of its own.
    pub(super) fn sets_apart(&self, own: &TrustDomain) -> bool {
        let shares = |cluster: &PeerCluster| cluster.trust_domain == *own && cluster.trust_bundle.is_none();
        !self.clusters.is_empty() && !self.clusters.iter().any(shares)
    }
}

/// Where another cluster's gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerGateway {
    /// An address, or a name that is looked up again and again.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What a process of role `gateway` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Where tunnels come in; empty for a sidecar.
    pub listeners: Vec<SocketAddr>,
    /// Where plain HTTP comes in, whose callers nobody knows; empty = off.
    pub compatibility: Vec<SocketAddr>,
    /// How much one caller may have.
    pub limits: TunnelLimits,
}

/// When a request is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Attempts for one request, the first one counted; 1 = none is tried again.
    pub attempts: usize,
    /// For the head of an answer from one endpoint; `None` = as long as the request may take.
    pub per_try_timeout: Option<Duration>,
    /// Requests tried again, in percent of all requests to a service.
    pub budget_percent: u32,
    /// Requests tried again each second whatever the percentage.
    pub budget_min_per_second: u32,
    /// Bytes of a body that are kept to be sent once more; a longer one is not tried again once it has begun.
    pub buffer_bytes: usize,
}

/// When an endpoint is taken out of rotation because of how it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Failures in a row (no answer; 502, 503 or 504); 0 = off.
    pub consecutive_failures: u32,
    /// Between looks at the rates of success.
    pub interval: Duration,
    /// How long it is out for the first time; longer by as much each time, up to `max_ejection_time`.
    pub base_ejection_time: Duration,
    /// The longest it is out.
    pub max_ejection_time: Duration,
    /// The greatest share of a service's endpoints that may be out at once, in percent.
    pub max_ejection_percent: u32,
    /// Standard deviations below the mean rate of success at which one is out, in thousandths; 0 = off.
    pub success_rate_stdev_factor: u32,
    /// Endpoints that must have had enough requests for rates to be compared.
    pub success_rate_minimum_hosts: usize,
    /// Requests in an interval that are enough.
    pub success_rate_request_volume: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawMulticluster {
    gateway_service_account: Option<String>,
    #[serde(default)]
    clusters: Vec<RawCluster>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawCluster {
    cluster_key: String,
    trust_domain: Option<String>,
    trust_bundle: Option<String>,
    gateway: Option<RawPeerGateway>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPeerGateway {
    host: Option<String>,
    port: Option<u16>,
    service_account: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawGateway {
    listeners: Option<Vec<String>>,
    #[serde(default)]
    compatibility: Vec<String>,
    connections_per_caller: Option<usize>,
    tunnels_per_connection: Option<u32>,
    tunnels_per_caller: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawRetries {
    attempts: Option<usize>,
    per_try_timeout: Option<String>,
    budget_percent: Option<u32>,
    budget_min_per_second: Option<u32>,
    buffer_bytes: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawOutlierDetection {
    consecutive_failures: Option<u32>,
    interval: Option<String>,
    base_ejection_time: Option<String>,
    max_ejection_time: Option<String>,
    max_ejection_percent: Option<u32>,
    success_rate_stdev_factor: Option<u32>,
    success_rate_minimum_hosts: Option<usize>,
    success_rate_request_volume: Option<u32>,
}

/// The trust domains that have a bundle of their own.
#[derive(Clone, Copy)]
pub(super) struct Domains<'a> {
    /// Ours.
    pub(super) own: Option<&'a TrustDomain>,
    /// Others.
    pub(super) federated: &'a BTreeMap<TrustDomain, PathBuf>,
    /// Which others there are is said later, by a Workload API.
    pub(super) are_delivered: bool,
}

impl<'a> Domains<'a> {
    pub(super) fn of(own: Option<&'a TrustDomain>, identity: &'a IdentitySettings) -> Self {
        Self { own, federated: &identity.federated, are_delivered: identity.workload_api.is_some() }
    }
}

/// Reads `multicluster`; `own` is our own key.
pub(super) fn multicluster(
    v: &mut Validator<'_>,
    raw: RawMulticluster,
    own: Option<&ClusterKey>,
    domains: Domains<'_>,
) -> Multicluster {
    let own = own.map_or("", ClusterKey::as_str);
    let gateway_account = match raw.gateway_service_account {
        None => Multicluster::default().gateway_account,
        Some(written) => account(v, "multicluster.gatewayServiceAccount", &written).unwrap_or_default(),
    };
    let mut seen = BTreeSet::from([own.to_owned()]);
    let mut clusters = Vec::new();
    for (index, raw) in raw.clusters.into_iter().enumerate() {
        let field = format!("multicluster.clusters[{index}]");
        if raw.cluster_key == own {
            v.fail(&format!("{field}.clusterKey"), format!("`{own}` is this cluster itself (clusterKey)"));
        } else if !seen.insert(raw.cluster_key.clone()) {
            v.fail(&format!("{field}.clusterKey"), format!("`{}` is there twice", raw.cluster_key));
        }
        clusters.extend(cluster(v, &field, raw, &gateway_account, domains));
    }
    Multicluster { gateway_account, clusters }
}

fn cluster(
    v: &mut Validator<'_>,
    field: &str,
    raw: RawCluster,
    account_of_all: &(String, String),
    domains: Domains<'_>,
) -> Option<PeerCluster> {
    let key = v.parse(&format!("{field}.clusterKey"), &raw.cluster_key, "a cluster key");
    let trust_domain = match raw.trust_domain {
        Some(written) => v.parse(&format!("{field}.trustDomain"), &written, "a trust domain"),
        None => domains.own.cloned(),
    };
    let (mut account_of_this, mut gateway) = (account_of_all.clone(), None);
    if let Some(raw) = raw.gateway {
        if let Some(written) = raw.service_account {
            account_of_this = account(v, &format!("{field}.gateway.serviceAccount"), &written)?;
        }
        gateway = peer_gateway(v, field, raw.host, raw.port);
    }
    let (key, trust_domain) = (key?, trust_domain?);
    let (namespace, name) = &account_of_this;
    let gateway_id = match SpiffeId::from_service_account(&trust_domain, namespace, name) {
        Ok(id) => id,
        Err(error) => {
            v.fail(&format!("{field}.gateway.serviceAccount"), error.to_string());
            return None;
        }
    };
    let trust_bundle = raw.trust_bundle.map(|written| v.resolve(&written));
    let has_bundle =
        domains.are_delivered || domains.own == Some(&trust_domain) || domains.federated.contains_key(&trust_domain);
    if trust_bundle.is_none() && domains.own.is_some() && !has_bundle {
        let missing = "there are no roots of it: name those of the cluster (trustBundle) or of the domain";
        v.fail(&format!("{field}.trustDomain"), format!("{trust_domain}: {missing} (identity.federated)"));
    }
    Some(PeerCluster { key, trust_domain, trust_bundle, gateway_id, gateway })
}

fn peer_gateway(v: &mut Validator<'_>, field: &str, host: Option<String>, port: Option<u16>) -> Option<PeerGateway> {
    let Some(host) = host else {
        if port.is_some() {
            v.fail(&format!("{field}.gateway.port"), "goes with a host");
        }
        return None;
    };
    let port = port.unwrap_or(GATEWAY_PORT);
    if host.trim().is_empty() {
        v.fail(&format!("{field}.gateway.host"), "is empty");
    }
    if port == 0 {
        v.fail(&format!("{field}.gateway.port"), "0 is no port one can connect to");
    }
    Some(PeerGateway { host, port })
}

/// `namespace/name`.
fn account(v: &mut Validator<'_>, field: &str, written: &str) -> Option<(String, String)> {
    match written.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Some((namespace.to_owned(), name.to_owned()))
        }
        _ => {
            v.fail(field, format!("`{written}` is not of the form namespace/service-account"));
            None
        }
    }
}

/// Reads `gateway`, which only a gateway may have.
pub(super) fn gateway(v: &mut Validator<'_>, raw: RawGateway, role: Role) -> GatewaySettings {
    let is_said = raw.listeners.is_some() || !raw.compatibility.is_empty();
    if role == Role::Sidecar && is_said {
        v.fail("gateway", "is for `role: gateway`");
    }
    let listeners = match raw.listeners {
        Some(written) => v.addresses("gateway.listeners", &written),
        None if role == Role::Gateway => vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, GATEWAY_PORT))],
        None => Vec::new(),
    };
    let compatibility = v.addresses("gateway.compatibility", &raw.compatibility);
    if role == Role::Gateway && listeners.is_empty() && compatibility.is_empty() {
        v.fail("gateway.listeners", "there is none: this gateway would do nothing");
    }
    let limits = RawLimits {
        connections_per_caller: raw.connections_per_caller,
        tunnels_per_connection: raw.tunnels_per_connection,
        tunnels_per_caller: raw.tunnels_per_caller,
    };
    GatewaySettings { listeners, compatibility, limits: limits.read(v, "gateway") }
}

/// Reads `retries`.
pub(super) fn retries(v: &mut Validator<'_>, raw: RawRetries) -> Retries {
    let per_try_timeout = v.duration_or_off("retries.perTryTimeout", raw.per_try_timeout, None);
    Retries {
        attempts: v.at_least("retries.attempts", raw.attempts, 1, 3),
        per_try_timeout,
        budget_percent: v.at_most("retries.budgetPercent", raw.budget_percent, 100, 20),
        budget_min_per_second: raw.budget_min_per_second.unwrap_or(10),
        buffer_bytes: raw.buffer_bytes.unwrap_or(64 * 1024),
    }
}

/// Reads `outlierDetection`.
pub(super) fn outlier_detection(v: &mut Validator<'_>, raw: RawOutlierDetection) -> OutlierDetection {
    let seconds = Duration::from_secs;
    let base = v.duration("outlierDetection.baseEjectionTime", raw.base_ejection_time, seconds(5));
    let max = v.duration("outlierDetection.maxEjectionTime", raw.max_ejection_time, seconds(300).max(base));
    if max < base {
        v.fail("outlierDetection.maxEjectionTime", "is less than baseEjectionTime");
    }
    OutlierDetection {
        consecutive_failures: raw.consecutive_failures.unwrap_or(5),
        interval: v.duration("outlierDetection.interval", raw.interval, seconds(10)),
        base_ejection_time: base,
        max_ejection_time: max,
        max_ejection_percent: v.at_most("outlierDetection.maxEjectionPercent", raw.max_ejection_percent, 100, 50),
        success_rate_stdev_factor: raw.success_rate_stdev_factor.unwrap_or(1900),
        success_rate_minimum_hosts: v.at_least(
            "outlierDetection.successRateMinimumHosts",
            raw.success_rate_minimum_hosts,
            2,
            5,
        ),
        success_rate_request_volume: v.at_least(
            "outlierDetection.successRateRequestVolume",
            raw.success_rate_request_volume,
            1,
            100,
        ),
    }
}
