//! Pods on one network, with the resources of one mesh.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::rc::Rc;

use meshgate::sandbox::{ADMIN_PORT, Sandbox};

use super::heir;
use super::network::Network;
use super::pod::{PROXY_USER, Pod};
use super::redirection::Rendering;
use super::{requirements, resources, until};

/// The metric that says which configuration is in force.
const GENERATION: &str = "mesh_config_generation";

/// A pod to be: what is not the usual.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// The name of the pod, its service account, its service and its label `app`.
    pub(crate) name: &'static str,
    /// It has a sidecar, and its traffic is redirected.
    pub(super) in_mesh: bool,
    flags: Vec<String>,
    listens_on: &'static str,
    pub(super) traffic_policy: &'static str,
    pub(super) settings: &'static str,
    /// The only one that its sidecar has.
    capability: Option<&'static str>,
    /// Where the sidecar's admin endpoint listens: on loopback at the usual port, or on everything at another.
    pub(super) admin: u16,
    /// More fields of its sidecar's inbound listeners.
    pub(super) inbound: &'static str,
}

impl Workload {
    /// In the mesh, with every setting at its default.
    pub(crate) fn of(name: &'static str) -> Self {
        let (listens_on, traffic_policy) = ("[::]", "ALLOW_ANY");
        let (flags, admin) = (Vec::new(), ADMIN_PORT);
        let capability = None;
        Self { name, in_mesh: true, flags, listens_on, traffic_policy, settings: "", inbound: "", admin, capability }
    }

    /// Without a sidecar.
    pub(crate) fn outside(name: &'static str) -> Self {
        Self { in_mesh: false, ..Self::of(name) }
    }

    /// Redirected with more flags.
    pub(crate) fn redirected(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Its application listens on this address alone, instead of on all of both families.
    pub(crate) fn listening_on(self, listens_on: &'static str) -> Self {
        Self { listens_on, ..self }
    }

    /// Its sidecar's admin endpoint can be called from everywhere, at this port, and asked to end the sidecar.
    pub(crate) fn admin_at(self, admin: u16) -> Self {
        Self { admin, ..self }
    }

    /// Its sidecar takes what comes in by TPROXY, for which it has a capability.
    pub(crate) fn transparent(self) -> Self {
        Self { inbound: ", transparent: true", capability: Some("net_raw"), ..self }.redirected(&["-m", "TPROXY"])
    }

    /// The same, without the capability.
    pub(crate) fn incapable(self) -> Self {
        Self { capability: None, ..self }
    }

    /// Its sidecar refuses what goes to no known service.
    pub(crate) fn registry_only(self) -> Self {
        Self { traffic_policy: "REGISTRY_ONLY", ..self }
    }

    /// More lines for its sidecar's bootstrap file.
    pub(crate) fn settings(self, settings: &'static str) -> Self {
        Self { settings, ..self }
    }
}

/// A running mesh. What is dropped first are the pods, and then the files that they use.
#[derive(Debug)]
pub(crate) struct Mesh {
    pods: Vec<Pod>,
    sandbox: Sandbox,
}

impl Mesh {
    /// Starts the workloads, in this order of addresses, and waits until they are ready. `None`, said loudly, where the machine cannot
    /// do it.
    pub(crate) fn start(rendering: Rendering, workloads: &[Workload]) -> Option<Self> {
        let mut mesh = Self::launch(rendering, workloads)?;
        for pod in mesh.pods.iter_mut().filter(|pod| pod.in_mesh()) {
            pod.until_ready();
        }
        Some(mesh)
    }

    /// As [`Mesh::start`], without waiting.
    pub(crate) fn launch(rendering: Rendering, workloads: &[Workload]) -> Option<Self> {
        if !requirements::met(rendering) {
            return None;
        }
        let sandbox = Sandbox::new(crate::binary()).unwrap();
        heir::folder(&sandbox.path(""));
        prepare(&sandbox, workloads);
        let names: Vec<_> = workloads.iter().map(|workload| workload.name).collect();
        let hosts = sandbox.path("hosts");
        fs::write(&hosts, resources::hosts(workloads)).unwrap();
        let network = Rc::new(Network::new(&names).unwrap().with_hosts(hosts));
        let mut mesh = Self { pods: Vec::new(), sandbox };
        for (index, workload) in workloads.iter().enumerate() {
            let mut pod = Pod::new(&network, &mesh.sandbox.path(""), index, workload.name);
            pod.admin = workload.admin;
            pod.capability = workload.capability;
            pod.start_application(workload.name, workload.listens_on);
            if workload.in_mesh {
                pod.redirect(rendering, &workload.flags);
                pod.start_sidecar();
            }
            mesh.pods.push(pod);
        }
        Some(mesh)
    }

    /// A caller and a service that it calls.
    pub(crate) fn of_two(rendering: Rendering) -> Option<Self> {
        Self::start(rendering, &[Workload::of("frontend"), Workload::of("backend")])
    }

    /// A pod by name.
    pub(crate) fn pod(&self, name: &str) -> &Pod {
        self.pods.iter().find(|pod| pod.name == name).unwrap()
    }

    /// Starts a pod's sidecar again, with these lines in its bootstrap file.
    pub(crate) fn restart(&mut self, workload: &Workload) {
        fs::write(self.sandbox.path(&format!("{}.yaml", workload.name)), resources::bootstrap(workload)).unwrap();
        self.pods.iter_mut().find(|pod| pod.name == workload.name).unwrap().restart_sidecar();
    }

    /// Puts policies in force in every sidecar, in place of those before.
    pub(crate) fn policies(&self, documents: &[&str]) {
        let sidecars = || self.pods.iter().filter(|pod| pod.in_mesh());
        let before: Vec<_> = sidecars().map(|pod| pod.metric(GENERATION).unwrap()).collect();
        self.sandbox.write_resource("policies.yaml", &documents.join("---\n")).unwrap();
        for (pod, before) in sidecars().zip(before) {
            until("policies in force", || pod.metric(GENERATION).filter(|now| *now > before));
        }
    }
}

/// Certificates, resources and bootstrap files.
fn prepare(sandbox: &Sandbox, workloads: &[Workload]) {
    sandbox.write_resource("workloads.yaml", &resources::workloads(workloads)).unwrap();
    for workload in workloads.iter().filter(|workload| workload.in_mesh) {
        sandbox.issue(workload.name, workload.name).unwrap();
        fs::write(sandbox.path(&format!("{}.yaml", workload.name)), resources::bootstrap(workload)).unwrap();
    }
    publish(sandbox);
}

/// Opens a cluster's files to the pods' users, and puts copies of the programs beside them: the folder that cargo builds into need
/// not be open to them.
pub(super) fn publish(sandbox: &Sandbox) {
    let folder = sandbox.path("");
    for open in [&folder, &folder.join("ca")] {
        fs::set_permissions(open, Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir(folder.join("bin")).unwrap();
    provide(crate::binary(), &folder.join("bin/meshgate"));
    provide(crate::application(), &folder.join("bin/application"));
    let identities = fs::read_dir(folder.join("identities")).unwrap().map(|entry| entry.unwrap().path());
    for path in identities.chain([folder.join("identities"), folder.join("logs")]) {
        chown(path, Some(PROXY_USER), Some(PROXY_USER)).unwrap();
    }
}

/// A second name for a program where that can be had, else a copy of it.
fn provide(program: &Path, place: &Path) {
    if fs::hard_link(program, place).is_err() {
        fs::copy(program, place).unwrap();
    }
}
