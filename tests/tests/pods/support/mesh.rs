//! Pods of one cluster on one network, with the resources of one mesh.

use std::net::{IpAddr, Ipv4Addr};

use meshgate::sandbox::Sandbox;

use super::cluster::{Cluster, Workload};
use super::{Network, Pod, manifest, world};

/// A pod to be in namespace `default`: the name of its account, its service and its application, and whether it has a sidecar.
pub(crate) type Spec = (&'static str, InMesh);

/// Whether a pod has a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InMesh {
    Yes,
    No,
}

/// A running mesh. What is dropped first are the pods, then their network and the files that they use.
#[derive(Debug)]
pub(crate) struct Mesh {
    pods: Vec<(Spec, Pod)>,
    /// What the cluster's API server would know of the pods.
    services: String,
    cluster: Cluster,
    _network: Network,
}

impl Mesh {
    /// Starts pods, in this order of addresses. `None`, said loudly, where podman cannot work.
    ///
    /// The name and the third number of addresses keep it apart from other tests' meshes.
    pub(crate) fn start(name: &str, third: u8, specs: &[Spec]) -> Option<Self> {
        if !world::works() {
            return None;
        }
        let network = Network::new(name, [10, 89, third]);
        let sidecars = || specs.iter().enumerate().filter(|(_, (_, in_mesh))| *in_mesh == InMesh::Yes);
        let hosts = sidecars().map(|(index, (name, _))| (format!("{name}.default.svc.cluster.local"), service(index)));
        let (hosts, mut services) = (hosts.collect::<Vec<_>>(), String::new());
        for (index, (name, _)) in sidecars() {
            let (listed, service) = (workload(name).listed(network.address(host(index))), service(index));
            services += &format!(
                "{listed}---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
                 spec: {{clusterIP: {service}, selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n---\n"
            );
        }
        let cluster = Cluster::new(Sandbox::new(&crate::binary()).unwrap(), services.clone());
        let start = |(index, spec): (usize, &Spec)| {
            let (workload, pod, host) = (workload(spec.0), format!("{name}-{}", spec.0), host(index));
            let pod = match spec.1 {
                InMesh::Yes => cluster.run(&pod, &workload, &hosts, (&network, host)),
                InMesh::No => {
                    let yaml = manifest::application(&pod, &workload, &hosts);
                    Pod::play(&pod, &yaml, name, network.address(host))
                }
            };
            (*spec, pod)
        };
        let mesh = Self { pods: specs.iter().enumerate().map(start).collect(), services, cluster, _network: network };
        mesh.in_mesh().for_each(Pod::until_ready);
        Some(mesh)
    }

    /// Pods by name.
    pub(crate) fn pods<const N: usize>(&self, names: [&str; N]) -> [&Pod; N] {
        names.map(|name| &self.pods.iter().find(|((other, _), _)| *other == name).unwrap().1)
    }

    /// Puts policies in force in every sidecar, in place of those before.
    pub(crate) fn policies(&self, documents: &[&str]) {
        let rules = self.services.clone() + &documents.join("---\n");
        self.cluster.in_force(rules, self.in_mesh(), &[]);
    }

    fn in_mesh(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|((_, in_mesh), _)| *in_mesh == InMesh::Yes).map(|(_, pod)| pod)
    }
}

fn workload(name: &'static str) -> Workload {
    Workload { name, namespace: "default", account: name, says: name }
}

/// The last number of a workload's address.
fn host(index: usize) -> u8 {
    10 + u8::try_from(index).unwrap()
}

/// The cluster address of a workload's service, which is nobody's.
fn service(index: usize) -> IpAddr {
    Ipv4Addr::new(10, 96, 0, host(index)).into()
}
