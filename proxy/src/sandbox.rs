//! A mesh on this machine, without root and without a cluster: real `meshgate run` processes, real sockets, real
//! certificates. `meshgate demo` and the end-to-end tests are made of it.
//!
//! A pod is a loopback address of its own, so every pod has its ports to itself as in a cluster. Nothing is redirected:
//! a sidecar's inbound listener sits on its pod's address and hands over to the application, and clients go to their own
//! sidecar's outbound listener, which finds the service by Host.

mod application;
mod client;
mod sidecar;
mod subnet;

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshgate_identity::ca::{self, Authority, InitOptions, IssueOptions};
use meshgate_identity::{SpiffeId, TrustDomain};

pub use application::{Application, answer_text};
pub use client::{Answer, request};
pub use sidecar::Sidecar;
pub use subnet::Subnet;

/// The port that a pod's application is called at.
pub const POD_PORT: u16 = 8080;
/// The port of a sidecar's outbound listener.
pub const OUTBOUND_PORT: u16 = 15001;
/// The port of a sidecar's admin endpoint.
pub const ADMIN_PORT: u16 = 15000;
/// The mesh's trust domain.
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

/// A folder with an authority, identities, bootstraps and resources, and the addresses of its pods.
#[derive(Debug)]
pub struct Sandbox {
    binary: PathBuf,
    dir: tempfile::TempDir,
    subnet: Subnet,
    pods: u8,
}

/// A pod to be.
#[derive(Debug, Clone, Default)]
pub struct PodSpec {
    /// The pod's name.
    pub name: String,
    /// Its service account.
    pub service_account: String,
    /// Its label `app`.
    pub app: String,
    /// Where its application really listens.
    pub application: Option<SocketAddr>,
    /// Other meshes it knows: their trust domains, and the files of their roots.
    pub federated: Vec<(String, String)>,
    /// More outbound listeners: their ports, and where connections to them were going.
    pub outbound: Vec<(u16, SocketAddr)>,
    /// Outbound traffic to no known service is refused.
    pub registry_only: bool,
    /// More lines for its bootstrap file.
    pub bootstrap: String,
}

impl Sandbox {
    /// An empty mesh whose sidecars will be `binary run`.
    ///
    /// # Errors
    /// When there is no room for files, or no loopback network is free.
    pub fn new(binary: &Path) -> Result<Self, SandboxError> {
        let dir = tempfile::Builder::new()
            .prefix("meshgate-")
            .tempdir()
            .map_err(|error| SandboxError::new("cannot make a temporary folder", error))?;
        let subnet = Subnet::claim().map_err(|error| SandboxError::new("no loopback network is free", error))?;
        let sandbox = Self { binary: binary.to_owned(), dir, subnet, pods: 1 };
        for folder in ["resources", "identities", "logs"] {
            let path = sandbox.path(folder);
            fs::create_dir(&path).map_err(|error| SandboxError::new(path.display().to_string(), error))?;
        }
        let domain: TrustDomain = TRUST_DOMAIN.parse().map_err(|error| SandboxError::new("trust domain", error))?;
        ca::init(&sandbox.path("ca"), &InitOptions::new(domain))
            .map_err(|error| SandboxError::new("cannot make an authority", error))?;
        Ok(sandbox)
    }

    /// A path inside the sandbox's folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// The address that the next pod will get.
    pub fn next_address(&mut self) -> IpAddr {
        self.pods += 1;
        self.subnet.host(self.pods)
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
        let failed =
            |error: Box<dyn std::error::Error + Send + Sync>| SandboxError::new(format!("issuing {name}"), error);
        let authority = Authority::open(&self.path("ca")).map_err(|error| failed(error.into()))?;
        let id = SpiffeId::from_service_account(authority.trust_domain(), "default", service_account)
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
            self.issue(&spec.name, &spec.service_account)?;
        }
        let path = self.path(&format!("{}.yaml", spec.name));
        let text = bootstrap(spec, address);
        fs::write(&path, text).map_err(|error| SandboxError::new(path.display().to_string(), error))?;
        Ok(path)
    }

    /// Starts a pod's sidecar and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready; the message has what it printed.
    pub async fn start(&self, spec: &PodSpec, address: IpAddr) -> Result<Sidecar, SandboxError> {
        let bootstrap = self.prepare(spec, address)?;
        let mut sidecar =
            Sidecar::spawn(&self.binary, &bootstrap, &self.path("logs"), &spec.name, address, &self.subnet)
                .map_err(|error| SandboxError::new(format!("cannot start {}", self.binary.display()), error))?;
        sidecar.until_ready().await?;
        Ok(sidecar)
    }

    /// Leaves the folder on disk for whoever wants to look at it.
    pub fn keep_files(&mut self) {
        self.dir.disable_cleanup(true);
    }
}

fn bootstrap(spec: &PodSpec, address: IpAddr) -> String {
    let PodSpec { name, service_account, app, application, federated, outbound, registry_only, bootstrap } = spec;
    let inbound = match application {
        Some(application) => format!(
            "inbound:\n  listeners:\n  - address: \"{address}:{POD_PORT}\"\n    \
             originalDestination: \"{address}:{POD_PORT}\"\n    application: \"{application}\"\n"
        ),
        None => "inbound: {listeners: []}\n".to_owned(),
    };
    let outbound: String = outbound
        .iter()
        .map(|(port, destination)| {
            format!("  - {{address: \"{address}:{port}\", originalDestination: \"{destination}\"}}\n")
        })
        .collect();
    let federated: Vec<_> = federated.iter().map(|(domain, file)| format!("{domain}: {file}")).collect();
    let federated = federated.join(", ");
    let policy = if *registry_only { "REGISTRY_ONLY" } else { "ALLOW_ANY" };
    format!(
        "role: sidecar\n\
         trustDomain: {TRUST_DOMAIN}\n\
         workload: {{name: {name}, namespace: default, serviceAccount: {service_account}, labels: {{app: {app}}}}}\n\
         identity: {{certificate: identities/{name}.pem, key: identities/{name}-key.pem, trustBundle: ca/ca.pem, \
         federated: {{{federated}}}}}\n\
         resources: {{directory: resources}}\n\
         {inbound}\
         outbound:\n  trafficPolicy: {policy}\n  listeners:\n  \
         - {{address: \"{address}:{OUTBOUND_PORT}\", originalDestination: none}}\n\
         {outbound}\
         admin: {{address: \"{address}:{ADMIN_PORT}\"}}\n\
         accessLog: {{path: logs/{name}.access.log}}\n\
         {bootstrap}"
    )
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
