//! A mesh on this machine, without root and without a cluster: real `meshgate run` processes, real sockets, real
//! certificates. `meshgate demo` and the end-to-end tests are made of it.
//!
//! A pod is a loopback address of its own, so every pod has its ports to itself as in a cluster. Nothing is redirected:
//! a sidecar's inbound listener sits on its pod's address and hands over to the application, and clients go to their own
//! sidecar's outbound listener, which finds the service by Host.
//!
//! A [`Sandbox`] is one cluster: an authority, identities and resources. Several on one machine share its addresses
//! ([`Sandbox::beside`]) and know of each other what they are told ([`Sandbox::know`]); [`three`] are walk-through B's.

mod application;
mod client;
mod pod;
mod sidecar;
mod subnet;
pub mod three;

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use meshgate_identity::ca::{self, Authority, InitOptions, IssueOptions};
use meshgate_identity::{SpiffeId, TrustDomain};

pub use application::{Application, answer_text};
pub use client::{Answer, Caller, request, request_with, send_bytes};
pub use pod::PodSpec;
pub use sidecar::Sidecar;
pub use subnet::Subnet;

/// The port that a pod's application is called at.
pub const POD_PORT: u16 = 8080;
/// The port of a sidecar's outbound listener.
pub const OUTBOUND_PORT: u16 = 15001;
/// The port at which a sidecar takes tunnels.
pub const HBONE_PORT: u16 = 15008;
/// The port of a sidecar's admin endpoint.
pub const ADMIN_PORT: u16 = 15000;
/// The trust domain of a mesh of which nothing else is said.
pub const TRUST_DOMAIN: &str = "cluster.local";

/// How long anything in a sandbox may take before it counts as not happening. Generous, because test machines are busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition is looked at again while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What went wrong in the sandbox itself.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct SandboxError {
    what: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl SandboxError {
    fn new(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { what: what.into(), source: source.into() }
    }
}

/// One cluster: a folder with an authority, identities, bootstraps and resources, and the addresses of its pods.
#[derive(Debug)]
pub struct Sandbox {
    binary: PathBuf,
    machine: Arc<Machine>,
    folder: PathBuf,
    key: Option<String>,
    trust_domain: TrustDomain,
    peers: Vec<Peer>,
}

/// What all clusters of one machine share.
#[derive(Debug)]
struct Machine {
    dir: tempfile::TempDir,
    subnet: Subnet,
    pods: AtomicU8,
}

/// Another cluster, as this one's bootstraps tell of it.
#[derive(Debug)]
struct Peer {
    key: String,
    trust_domain: TrustDomain,
    bundle: PathBuf,
    gateway: Option<SocketAddr>,
}

impl Sandbox {
    /// An empty mesh whose sidecars will be `binary run`.
    ///
    /// # Errors
    /// When there is no room for files, or no loopback network is free.
    pub fn new(binary: &Path) -> Result<Self, SandboxError> {
        let machine = Arc::new(Machine::new()?);
        let folder = machine.dir.path().to_owned();
        Self::in_folder(binary, machine, folder, None, TRUST_DOMAIN)
    }

    /// Clusters of these names, each with a root of its own, which know nothing of each other yet.
    ///
    /// # Errors
    /// As [`Sandbox::new`].
    pub fn beside<const N: usize>(binary: &Path, names: [&str; N]) -> Result<[Self; N], SandboxError> {
        Self::in_domains(binary, names.map(|name| (name, TRUST_DOMAIN)))
    }

    /// The same, each with its trust domain.
    ///
    /// # Errors
    /// As [`Sandbox::new`], and for what is no trust domain.
    pub fn in_domains<const N: usize>(binary: &Path, clusters: [(&str, &str); N]) -> Result<[Self; N], SandboxError> {
        let machine = Arc::new(Machine::new()?);
        let cluster = |(name, trust_domain): (&str, &str)| {
            let folder = machine.dir.path().join(name);
            fs::create_dir(&folder).map_err(|error| SandboxError::new(folder.display().to_string(), error))?;
            let key = Some(format!("default/default/default/{name}"));
            Self::in_folder(binary, Arc::clone(&machine), folder, key, trust_domain)
        };
        let clusters: Vec<_> = clusters.into_iter().map(cluster).collect::<Result<_, _>>()?;
        clusters.try_into().map_err(|_| SandboxError::new("clusters", "not as many as there are names"))
    }

    fn in_folder(
        binary: &Path,
        machine: Arc<Machine>,
        folder: PathBuf,
        key: Option<String>,
        trust_domain: &str,
    ) -> Result<Self, SandboxError> {
        let trust_domain: TrustDomain =
            trust_domain.parse().map_err(|error| SandboxError::new("trust domain", error))?;
        let (binary, peers) = (binary.to_owned(), Vec::new());
        let sandbox = Self { binary, machine, folder, key, trust_domain: trust_domain.clone(), peers };
        for folder in ["resources", "identities", "logs"] {
            let path = sandbox.path(folder);
            fs::create_dir(&path).map_err(|error| SandboxError::new(path.display().to_string(), error))?;
        }
        ca::init(&sandbox.path("ca"), &InitOptions::new(trust_domain))
            .map_err(|error| SandboxError::new("cannot make an authority", error))?;
        Ok(sandbox)
    }

    /// Which cluster it is; `None` = nothing is said.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Tells the processes that are started from now on of another cluster: its roots, and where its gateway is asked.
    pub fn know(&mut self, other: &Self, gateway: Option<SocketAddr>) {
        if let Some(key) = &other.key {
            self.peers.retain(|peer| peer.key != *key);
            let (key, trust_domain) = (key.clone(), other.trust_domain.clone());
            self.peers.push(Peer { key, trust_domain, bundle: other.path("ca/ca.pem"), gateway });
        }
    }

    /// A path inside the sandbox's folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.join(relative)
    }

    /// The address that the next pod will get.
    pub fn next_address(&mut self) -> IpAddr {
        // The first is the claim's own.
        self.machine.subnet.host(self.machine.pods.fetch_add(1, Ordering::Relaxed).saturating_add(2))
    }

    /// Writes a resource file in one step, as `kubectl` or an editor that renames would.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write_resource(&self, name: &str, yaml: &str) -> Result<(), SandboxError> {
        let (path, staged) = (self.path("resources").join(name), self.path(name));
        let written = fs::write(&staged, yaml).and_then(|()| fs::rename(&staged, &path));
        written.map_err(|error| SandboxError::new(path.display().to_string(), error))
    }

    /// Issues a certificate for a service account of namespace `default`, as `identities/<name>.pem`.
    ///
    /// # Errors
    /// What the authority objects to; a certificate that is already there.
    pub fn issue(&self, name: &str, service_account: &str) -> Result<SpiffeId, SandboxError> {
        self.issue_in(name, pod::NAMESPACE, service_account)
    }

    /// As [`Sandbox::issue`], for another namespace.
    ///
    /// # Errors
    /// As [`Sandbox::issue`].
    pub fn issue_in(&self, name: &str, namespace: &str, service_account: &str) -> Result<SpiffeId, SandboxError> {
        let failed =
            |error: Box<dyn std::error::Error + Send + Sync>| SandboxError::new(format!("issuing {name}"), error);
        let authority = Authority::open(&self.path("ca")).map_err(|error| failed(error.into()))?;
        let id = SpiffeId::from_service_account(authority.trust_domain(), namespace, service_account)
            .map_err(|error| failed(error.into()))?;
        let issued = authority.issue(&IssueOptions::new(id.clone())).map_err(|error| failed(error.into()))?;
        ca::write_svid(&self.path("identities"), name, &issued).map_err(|error| failed(error.into()))?;
        Ok(id)
    }

    /// Writes a pod's bootstrap file and issues its certificate, if it has none yet.
    ///
    /// # Errors
    /// As [`Sandbox::issue`], and the operating system's.
    pub fn prepare(&self, spec: &PodSpec, address: IpAddr) -> Result<PathBuf, SandboxError> {
        if !self.path("identities").join(format!("{}.pem", spec.name)).exists() {
            self.issue_in(&spec.name, &spec.namespace, &spec.service_account)?;
        }
        let path = self.path(&format!("{}.yaml", spec.name));
        let text = spec.bootstrap(address, &self.trust_domain) + &self.surroundings();
        fs::write(&path, text).map_err(|error| SandboxError::new(path.display().to_string(), error))?;
        Ok(path)
    }

    /// The lines of a bootstrap file that say which cluster this is and which others there are.
    pub fn surroundings(&self) -> String {
        let Some(key) = &self.key else { return String::new() };
        let peer = |peer: &Peer| {
            let gateway = peer.gateway.map_or_else(String::new, |gateway| {
                format!("    gateway: {{host: \"{}\", port: {}}}\n", gateway.ip(), gateway.port())
            });
            let (key, trust_domain, bundle) = (&peer.key, &peer.trust_domain, peer.bundle.display());
            format!("  - clusterKey: {key}\n    trustDomain: {trust_domain}\n    trustBundle: {bundle}\n{gateway}")
        };
        let peers: String = self.peers.iter().map(peer).collect();
        match peers.is_empty() {
            true => format!("clusterKey: {key}\n"),
            false => format!("clusterKey: {key}\nmulticluster:\n  clusters:\n{peers}"),
        }
    }

    /// Starts a pod's sidecar, or a gateway, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready; the message has what it printed.
    pub async fn start(&self, spec: &PodSpec, address: IpAddr) -> Result<Sidecar, SandboxError> {
        let bootstrap = self.prepare(spec, address)?;
        let subnet = &self.machine.subnet;
        let mut sidecar = Sidecar::spawn(&self.binary, &bootstrap, &self.path("logs"), &spec.name, address, subnet)
            .map_err(|error| SandboxError::new(format!("cannot start {}", self.binary.display()), error))?;
        sidecar.until_ready().await?;
        Ok(sidecar)
    }
}

impl Machine {
    fn new() -> Result<Self, SandboxError> {
        let dir = tempfile::Builder::new()
            .prefix("meshgate-")
            .tempdir()
            .map_err(|error| SandboxError::new("cannot make a temporary folder", error))?;
        let subnet = Subnet::claim().map_err(|error| SandboxError::new("no loopback network is free", error))?;
        Ok(Self { dir, subnet, pods: AtomicU8::new(0) })
    }
}

/// Waits until `condition` gives something.
///
/// # Errors
/// Nothing within [`PATIENCE`].
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> Result<T, SandboxError> {
    let waiting = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| {
        SandboxError::new(what, io::Error::new(io::ErrorKind::TimedOut, format!("not within {PATIENCE:?}")))
    })
}
