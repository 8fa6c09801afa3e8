//! What the operator wrote, read and checked.
//!
//! Two kinds of configuration, never mixed. The [`Bootstrap`] is one file, fixed for the life of the process. The
//! resources are a folder of Kubernetes-shaped YAML, any number of files and documents, that a [`ConfigStore`] reads
//! again whenever a [`watch::Watcher`] says so, and publishes as an immutable [`Snapshot`].
//!
//! What is wrong is a [`Problem`] with file and line. A reload is all or nothing for each object: a bad object is
//! reported, its last good version stays, everything else goes on; a policy that has never been readable denies what it
//! selects. What policies *mean* is `meshgate-policy`'s affair.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//! use meshgate_config::{Bootstrap, ConfigStore, watch::Watcher};
//!
//! let bootstrap = Bootstrap::load(Path::new("bootstrap.yaml"), std::env::vars())?;
//! let store = Arc::new(ConfigStore::open(&bootstrap)?);
//! let _watcher = Watcher::start(store.paths(), {
//!     let store = store.clone();
//!     move || {
//!         for problem in store.reload().problems {
//!             eprintln!("{problem}");
//!         }
//!     }
//! });
//! let snapshot = store.current();
//! let backend = snapshot.services.by_host("backend", 80, "default");
//! # Ok::<(), Vec<meshgate_config::Problem>>(())
//! ```

mod app_protocol;
mod backends;
mod body;
mod bootstrap;
pub mod check;
mod clusters;
mod document;
mod elsewhere;
mod endpoints;
mod files;
mod folder;
mod kept;
mod kind;
pub mod manifest;
mod multicluster;
pub mod offline;
mod problem;
mod reader;
mod references;
mod resource;
mod security;
mod service;
mod services;
mod smi;
mod snapshot;
pub mod source;
mod split;
mod store;
mod suggest;
#[cfg(test)]
mod testing;
pub mod watch;
mod workload;
mod workloads;
mod yaml;

pub use app_protocol::{AppProtocol, OpaquePorts};
pub use bootstrap::providers::{
    BodyInCheck, ExtensionProvider, HeaderNames, HttpCheck, ProviderService, Transport as ProviderTransport,
};
pub use meshgate_policy::duration;

pub use bootstrap::{
    AccessLog, Admin, AppCheck, AppProbe, AuthoritySettings, Authorization, Bootstrap, Detection, EndpointLimits,
    ForwardClientCert, ForwardedFor, GatewaySettings, HandOver, HboneSettings, HeaderSettings, Http2Limits,
    HttpSettings, IdentitySettings, Inbound, InboundListener, Jwks, Limits, LogFilter, LogFormat, LogSettings,
    MetricsSettings, Multicluster, OriginalDestination, OtlpProtocol, Outbound, OutboundListener, OutlierDetection,
    PeerCluster, PeerGateway, ResourceSettings, Retries, Role, Timeouts, TracingSettings, TrafficPolicy, TrustedPeers,
    TunnelLimits, WorkloadSettings,
};
pub use clusters::{
    Balancer, CLUSTERSET_DOMAIN, ClusterKey, ClusterKeyError, Discovered, DiscoveredExport, DiscoveredPort, Export,
    ExportedPort, Exports, GatewayAddress, HashOn, PathRewrite, Remote, Share, Spread,
};
pub use elsewhere::Elsewhere;
pub use problem::{Problem, Severity};
pub use services::{Endpoint, EndpointIdentity, ServicePort, Services};
pub use snapshot::{Snapshot, Surroundings};
pub use split::{Split, SplitBackend, SplitRule};
pub use store::{ConfigStore, Outcome, ReloadReport};
pub use workloads::WorkloadRecord;
