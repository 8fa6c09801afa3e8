//! Other clusters as the data path sees them: what is where, how it is reached, who must answer, and which share it gets.
//!
//! The one idea: whatever dialect said so (FSM's ServiceImport, the MCS API, a gateway that was asked), an endpoint elsewhere is
//! an [`Endpoint`](crate::Endpoint) like any other, with a [`Remote`] beside it; and whatever policy said how to spread, it is
//! a weight and a priority for each cluster ([`Share`]).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use meshgate_identity::{SpiffeId, TrustDomain};
use meshgate_policy::ObjectName;

use crate::services::ServicePort;

/// Which cluster: `region/zone/group/cluster`, compared as it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterKey(Arc<str>);

impl ClusterKey {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, to be shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The last part: the cluster's own name.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl Default for ClusterKey {
    /// What FSM calls a cluster of which nothing is said.
    fn default() -> Self {
        Self("default/default/default/local".into())
    }
}

/// What is not `region/zone/group/cluster`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected region/zone/group/cluster, each of letters, digits, -, _ and .")]
pub struct ClusterKeyError;

impl FromStr for ClusterKey {
    type Err = ClusterKeyError;

    fn from_str(text: &str) -> Result<Self, ClusterKeyError> {
        let is_part = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let parts = text.split('/').count();
        (parts == 4 && text.split('/').all(is_part)).then(|| Self(text.into())).ok_or(ClusterKeyError)
    }
}

impl fmt::Display for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one cluster gets of a service's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// Against the other clusters of the same priority. Never 0: such a cluster is not among the endpoints at all.
    pub weight: u32,
    /// Lower comes first; the next is used when nothing of this one is usable.
    pub priority: u32,
}

impl Share {
    /// What a cluster gets of which nothing is said.
    pub const DEFAULT: Share = Share { weight: 100, priority: 0 };
}

impl Default for Share {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How a service's requests are spread over clusters. Each endpoint elsewhere has its cluster's share beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// This cluster's share; `None` = its endpoints are not among those of the service (weight 0).
    pub own: Option<Share>,
    /// An answer that says that the server failed (5xx) may be asked for once more in another cluster: `lbType: FailOver`.
    pub fail_over: bool,
}

/// What an endpoint in another cluster has besides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// Where it is.
    pub cluster: ClusterKey,
    /// What its cluster gets.
    pub share: Share,
    /// What stands before it; `None` where its own address can be dialled.
    pub gateway: Option<Arc<GatewayAddress>>,
    /// What the gateway is asked for: `name.namespace.svc.clusterset.local:port`.
    pub authority: Arc<str>,
}

/// A gateway of another cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayAddress {
    /// Whose it is.
    pub cluster: ClusterKey,
    /// As written: an address, or a DNS name that is looked up again and again.
    pub host: Arc<str>,
    /// Where it is, if it is known without asking: the host itself, or what an import says beside it.
    pub ip: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// Who must answer there.
    pub identity: SpiffeId,
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "{} ([{}]:{})", self.cluster, self.host, self.port),
            false => write!(f, "{} ({}:{})", self.cluster, self.host, self.port),
        }
    }
}

/// The DNS suffix of names that always span clusters (KEP-1645).
pub const CLUSTERSET_DOMAIN: &str = "clusterset.local";

/// What this cluster lets others call: the ServiceExports that are valid.
#[derive(Clone, Debug, Default)]
pub struct Exports(pub(crate) Vec<Arc<Export>>);

/// One exported service.
#[derive(Clone, Debug)]
pub struct Export {
    /// The Service, and the ServiceExport of the same name.
    pub service: ObjectName,
    /// Who runs it, as its author says; `*` = any account of its namespace, empty = nobody said.
    pub service_account: String,
    /// The clusters that may call it; empty = all.
    pub target_clusters: Vec<ClusterKey>,
    /// Its ports.
    pub ports: Vec<ExportedPort>,
    /// Callers from one address stay with one endpoint.
    pub session_sticky: bool,
    /// How one of its endpoints is chosen.
    pub balancer: Balancer,
    /// On the listener for plain HTTP: what a path is rewritten by.
    pub path_rewrite: Option<PathRewrite>,
}

/// One port of an exported service.
#[derive(Clone, Debug)]
pub struct ExportedPort {
    /// The port itself, with its endpoints in this cluster only.
    pub port: Arc<ServicePort>,
    /// Under which path the listener for plain HTTP offers it.
    pub path: String,
    /// The whole path must be this one (`pathType: Exact`); else a prefix of whole elements.
    pub exact: bool,
}

/// `pathRewrite` of a ServiceExport: the first match of `from` becomes `to`.
#[derive(Clone, Debug)]
pub struct PathRewrite {
    /// A linear-time regular expression.
    pub from: regex::Regex,
    /// With `$1` for groups.
    pub to: String,
}

impl Exports {
    /// These, in the order of their names.
    pub fn new(mut exports: Vec<Arc<Export>>) -> Self {
        exports.sort_by(|a, b| a.service.cmp(&b.service));
        Self(exports)
    }

    /// All of them, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Export>> {
        self.0.iter()
    }

    /// What is exported under this name and port.
    pub fn find(&self, service: &ObjectName, port: u16) -> Option<(&Arc<Export>, &ExportedPort)> {
        let at = self.0.binary_search_by(|export| export.service.cmp(service)).ok()?;
        let export = self.0.get(at)?;
        Some((export, export.ports.iter().find(|exported| exported.port.port == port)?))
    }
}

/// How one of several endpoints in a cluster is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Balancer {
    /// In turn; the turn is shared by all workers.
    #[default]
    RoundRobin,
    /// The one with fewer requests in progress of two drawn at random.
    LeastRequest,
    /// The one that is expected to answer sooner of two drawn at random: peak EWMA of the latency times requests in progress.
    PeakEwma,
    /// Always the same one for the same key, as long as it is there (a ring of hashes).
    RingHash(HashOn),
}

/// What a ring of hashes goes by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HashOn {
    /// The caller's address.
    SourceIp,
    /// The value of this header; without it, the caller's address. In lower case.
    Header(Box<str>),
    /// The value of this cookie; without it, the caller's address.
    Cookie(Box<str>),
}

/// What a gateway says that it exports to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// The trust domain of its workloads. Ours alone decides whether that domain is known.
    pub trust_domain: TrustDomain,
    /// The services.
    pub exports: Vec<DiscoveredExport>,
}

/// One service that a gateway exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredExport {
    /// Namespace and name.
    pub service: ObjectName,
    /// Who runs it.
    pub service_account: String,
    /// Its ports.
    pub ports: Vec<DiscoveredPort>,
}

/// One port of a service that a gateway exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredPort {
    /// The service's port.
    pub number: u16,
    /// Its name.
    pub name: Option<String>,
    /// `appProtocol` as the exporting cluster's Service has it.
    pub app_protocol: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_key_has_four_parts() {
        let key: ClusterKey = "default/default/default/cluster-1".parse().unwrap();
        assert_eq!((key.name(), key.to_string().as_str()), ("cluster-1", "default/default/default/cluster-1"));
        for bad in ["", "cluster-1", "a/b/c", "a/b/c/", "a/b/c/d/e", "a/ /c/d", "a/b/c/d\n"] {
            assert_eq!(bad.parse::<ClusterKey>(), Err(ClusterKeyError), "{bad:?}");
        }
    }
}
