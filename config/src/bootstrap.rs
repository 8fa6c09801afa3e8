//! The bootstrap: what is fixed for the life of the process. One YAML file, `MESHGATE_*` overrides for what differs
//! from pod to pod, and the workload's labels from a downward-API file.
//!
//! The one idea: the file is read into strings first ([`document`]), then checked as a whole ([`validate`]), so that
//! all that is wrong is said at once, each with its line. A misspelt field is an error, never ignored.
//!
//! Not here: anything that changes while the process runs; that is the resource folder's ([`crate::ConfigStore`]).

mod admin;
mod app_probes;
mod authority;
mod detection;
mod document;
mod environment;
mod hand_over;
mod hbone;
mod headers;
mod labels;
mod limits;
mod listeners;
mod multicluster;
pub(crate) mod providers;
mod telemetry;
mod tracing;
mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshgate_identity::{Sources, SpiffeId, SpiffeIdError, TrustDomain};
use meshgate_policy::normalize::Level;
use meshgate_policy::smi::PathMatch;
use meshgate_policy::{CatchAllDeny, Settings, SmiMode, Workload};
use serde::Deserialize;

use crate::clusters::ClusterKey;
use crate::files;
use crate::problem::Problem;
use crate::yaml;
pub use app_probes::{AppCheck, AppProbe};
pub use authority::AuthoritySettings;
pub use detection::Detection;
pub use hbone::{HboneSettings, TunnelLimits};
pub use headers::{ForwardClientCert, ForwardedFor, HeaderSettings, TrustedPeers};
pub use limits::{EndpointLimits, Http2Limits, HttpSettings, Limits, Timeouts};
pub use multicluster::{GatewaySettings, Multicluster, OutlierDetection, PeerCluster, PeerGateway, Retries};
use providers::ExtensionProvider;
pub use telemetry::{AccessLog, LogFilter, MetricsSettings};
pub use tracing::{OtlpProtocol, TracingSettings};

/// Settings of this process, checked.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// What this process is in the mesh.
    pub role: Role,
    /// Which cluster this is: `region/zone/group/cluster`.
    pub cluster_key: ClusterKey,
    /// The mesh's own trust domain.
    pub trust_domain: TrustDomain,
    /// Former or additional names of the trust domain, which principals in policies may use.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// DNS suffix of service names, without a dot at either end.
    pub cluster_domain: String,
    /// The namespace whose policies apply to the whole mesh.
    pub root_namespace: String,
    /// The workload this proxy stands beside.
    pub workload: WorkloadSettings,
    /// Files with this workload's certificate and the roots it trusts.
    pub identity: IdentitySettings,
    /// Where the watched resources are.
    pub resources: ResourceSettings,
    /// Toward the local application.
    pub inbound: Inbound,
    /// From the local application.
    pub outbound: Outbound,
    /// How what a connection speaks is found out.
    pub detection: Detection,
    /// Other clusters.
    pub multicluster: Multicluster,
    /// Toward other clusters; of a gateway only.
    pub gateway: GatewaySettings,
    /// Toward the local application, through tunnels.
    pub hbone: HboneSettings,
    /// When requests are tried again.
    pub retries: Retries,
    /// When endpoints are out of rotation.
    pub outlier_detection: OutlierDetection,
    /// The admin endpoint.
    pub admin: Admin,
    /// Probes of the application that the admin endpoint carries out, by its path.
    pub app_probes: BTreeMap<String, AppProbe>,
    /// How policies are applied.
    pub authorization: Authorization,
    /// What is done with headers that tell who called.
    pub headers: HeaderSettings,
    /// Whom CUSTOM policies can ask; names are unique.
    pub extension_providers: Vec<ExtensionProvider>,
    /// How the keys of tokens are fetched.
    pub jwks: Jwks,
    /// What is counted of the traffic.
    pub metrics: MetricsSettings,
    /// The access log.
    pub access_log: AccessLog,
    /// Traces; `None` = this proxy takes no part in any.
    pub tracing: Option<TracingSettings>,
    /// The process's own log.
    pub log: LogSettings,
    /// Worker threads; 0 = from the CPU quota.
    pub workers: usize,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How much there may be of things.
    pub limits: Limits,
    /// What requests may do.
    pub http: HttpSettings,
    /// The next process of this bootstrap file is handed the listeners.
    pub hand_over: HandOver,
}

/// What a process is in the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Stands beside one workload.
    #[default]
    Sidecar,
    /// Stands at the edge of a cluster.
    Gateway,
}

/// The workload a sidecar stands beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadSettings {
    /// The pod's name, for logs; the service account's name unless given.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its labels: those of the file, overridden by those given in place.
    pub labels: BTreeMap<String, String>,
}

/// PEM files; see [`Sources`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySettings {
    /// Leaf first, then intermediates.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
    /// Roots of the own trust domain.
    pub trust_bundle: PathBuf,
    /// Roots of other trust domains.
    pub federated: BTreeMap<TrustDomain, PathBuf>,
    /// The unix socket of a SPIFFE Workload API, instead of the four before, which are empty then.
    pub workload_api: Option<PathBuf>,
    /// The authority that the certificate is asked of, instead of the first two, which are empty then.
    pub ca: Option<AuthoritySettings>,
    /// Revocation lists, whoever's they are.
    pub crl: Vec<PathBuf>,
    /// Whether a peer is refused when an issuer of it has no revocation list.
    pub require_crl: bool,
}

/// Where resources are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceSettings {
    /// The watched folder.
    pub directory: PathBuf,
}

/// The inbound side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Where it listens.
    pub listeners: Vec<InboundListener>,
}

/// The outbound side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Where it listens.
    pub listeners: Vec<OutboundListener>,
    /// What happens to destinations that are no known service.
    pub traffic_policy: TrafficPolicy,
}

/// Where a connection was going before it came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginalDestination {
    /// As the kernel remembers it (redirection).
    Kernel,
    /// Nowhere in particular; outbound only, the service is chosen by the Host header alone.
    None,
    /// Always there (no redirection).
    Fixed(SocketAddr),
}

/// A socket that takes connections for the local application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboundListener {
    /// Where to listen; port 0 = any free port.
    pub address: SocketAddr,
    /// Never [`OriginalDestination::None`].
    pub original_destination: OriginalDestination,
    /// Where the application really is, with [`OriginalDestination::Fixed`]; the original destination unless given.
    pub application: Option<SocketAddr>,
    /// What is going to any address may be handed to the socket as it is (`IP_TRANSPARENT`, TPROXY), beside what is redirected to
    /// its own; only with [`OriginalDestination::Kernel`].
    pub transparent: bool,
}

/// A socket that takes connections of the local application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboundListener {
    /// Where to listen; port 0 = any free port.
    pub address: SocketAddr,
    /// Where connections to it were going.
    pub original_destination: OriginalDestination,
}

/// What happens to outbound traffic to no known service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TrafficPolicy {
    /// Passed through unchanged to its original destination.
    #[default]
    AllowAny,
    /// Refused.
    RegistryOnly,
}

/// The admin endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens; port 0 = any free port.
    pub address: SocketAddr,
    /// Whether it may be asked to end the process, or to drain it.
    pub quit: bool,
    /// How many may follow the live page at once.
    pub event_listeners: usize,
    /// How many may be connected at once; more than may follow the live page.
    pub connections: usize,
    /// How long a request's head may take to come, and a connection rest between two.
    pub idle: Duration,
    /// How long a request may take, its answer taken; of an application's probe besides its own time.
    pub request: Duration,
}

/// How one process hands its listeners to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandOver {
    /// The unix socket where the running process is asked for them; `None` = off.
    pub socket: Option<PathBuf>,
}

/// How policies are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// What an unconditional DENY means beside ALLOW policies.
    pub catch_all_deny: CatchAllDeny,
    /// How far paths are normalized before policies see them.
    pub path_normalization: Level,
    /// Whether TrafficTargets are in force, unless a MeshConfig says so.
    pub smi: SmiMode,
    /// How much of a path a `pathRegex` must cover.
    pub smi_path_match: PathMatch,
    /// How many proxies in front of the mesh append to `x-forwarded-for`.
    pub num_trusted_proxies: u32,
}

/// How the keys of tokens are fetched, where a RequestAuthentication does not hold them itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwks {
    /// PEM file of the roots that `https://` is trusted by; `None` = the system's.
    pub trust_bundle: Option<PathBuf>,
    /// For one fetch, where a rule does not say; greater than zero.
    pub timeout: Duration,
    /// Between fetches; greater than zero.
    pub refresh: Duration,
}

/// The process's own log, on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// A tracing filter, such as `info` or `meshgate=debug,info`. Checked by who installs it.
    pub level: String,
    /// One line of text, or of JSON.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

impl Bootstrap {
    /// The `MESHGATE_*` variables that override a field each, with the field.
    pub fn variables() -> impl Iterator<Item = (&'static str, &'static str)> {
        environment::variables()
    }

    /// Reads the file at `path` and lays the `MESHGATE_*` variables of `env` over it. Relative paths in it are
    /// relative to the file's folder.
    ///
    /// # Errors
    /// Everything that is wrong, at once, except that a file which is no YAML, or has a field of an unknown name or
    /// the wrong type, gives that alone.
    pub fn load(path: &Path, env: impl IntoIterator<Item = (String, String)>) -> Result<Bootstrap, Vec<Problem>> {
        let text = files::read(path).map_err(|error| vec![Problem::error(path, error.to_string())])?;
        let documents = yaml::documents(&text);
        let document = match documents.as_slice() {
            [] => return Err(vec![Problem::error(path, "the file is empty")]),
            [document] => document,
            [_, second, ..] => {
                let problem = Problem::error(path, "a bootstrap file holds one document, this one holds more");
                return Err(vec![problem.at(Some(second.line()))]);
            }
        };
        let mut raw: document::Raw =
            document.check().and_then(|()| document.parse()).map_err(|error| vec![error.into_problem(path)])?;
        let mut validator = validate::Validator::new(path, document);
        environment::apply(env, &mut raw, &mut validator);
        validate::bootstrap(raw, validator)
    }

    /// Whose this workload's identity must be, and the files it comes from.
    ///
    /// # Errors
    /// As [`Bootstrap::spiffe_id`].
    pub fn identity_sources(&self) -> Result<Sources, SpiffeIdError> {
        let id = self.spiffe_id()?;
        let clusters = self.multicluster.roots();
        let cluster = self.multicluster.sets_apart(&self.trust_domain).then(|| self.cluster_key.to_string());
        let (crl, require_crl) = (self.identity.crl.clone(), self.identity.require_crl);
        if let Some(endpoint) = &self.identity.workload_api {
            return Ok(Sources { clusters, cluster, crl, require_crl, ..Sources::workload_api(id, endpoint.clone()) });
        }
        // What stands for the files in errors.
        let asked = self.identity.ca.as_ref().map(|ca| PathBuf::from(format!("{}:{}", ca.host, ca.port)));
        Ok(Sources {
            id,
            certificate: asked.clone().unwrap_or_else(|| self.identity.certificate.clone()),
            key: asked.unwrap_or_else(|| self.identity.key.clone()),
            trust_bundle: self.identity.trust_bundle.clone(),
            federated: self.identity.federated.clone(),
            clusters,
            cluster,
            crl,
            require_crl,
        })
    }

    /// The trust domains beside the mesh's own whose workloads can prove who they are.
    pub(crate) fn known_domains(&self) -> impl Iterator<Item = &TrustDomain> {
        let clusters = self.multicluster.clusters.iter().map(|cluster| &cluster.trust_domain);
        self.identity.federated.keys().chain(clusters)
    }

    /// The workload of this proxy, as policies see it.
    pub fn workload(&self) -> Workload {
        Workload {
            namespace: self.workload.namespace.clone(),
            service_account: self.workload.service_account.clone(),
            labels: self.workload.labels.clone(),
        }
    }

    /// What the policy engine needs to know of the mesh.
    pub fn policy_settings(&self) -> Settings {
        Settings {
            root_namespace: self.root_namespace.clone(),
            trust_domain: self.trust_domain.clone(),
            trust_domain_aliases: self.trust_domain_aliases.clone(),
            catch_all_deny: self.authorization.catch_all_deny,
            smi: self.authorization.smi,
            smi_path_match: self.authorization.smi_path_match,
            providers: providers::for_policies(&self.extension_providers),
        }
    }

    /// What this workload's certificate must carry.
    ///
    /// # Errors
    /// Never after [`Bootstrap::load`], which checks it; a hand-made bootstrap may hold names a SPIFFE ID cannot.
    pub fn spiffe_id(&self) -> Result<SpiffeId, SpiffeIdError> {
        SpiffeId::from_service_account(&self.trust_domain, &self.workload.namespace, &self.workload.service_account)
    }
}

#[cfg(test)]
mod tests;
