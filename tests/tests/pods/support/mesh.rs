//! Pods of one cluster on one network, with the resources of one mesh.

use std::net::{IpAddr, Ipv4Addr};

use meshgate::sandbox::Sandbox;

use super::cluster::{Cluster, Workload};
use super::{Network, Pod, manifest, world};

/// The metric that says which configuration is in force.
const GENERATION: &str = "mesh_config_generation";

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
        let cluster = Cluster::of(Sandbox::new(&crate::binary()).unwrap());
        let (mut documents, mut hosts) = (Vec::new(), Vec::new());
        let in_mesh = specs.iter().enumerate().filter(|(_, (_, in_mesh))| *in_mesh == InMesh::Yes);
        for (index, (name, _)) in in_mesh {
            let (workload, service) = (workload(name), service(index));
            cluster.admit(&workload, manifest::REDIRECTED);
            documents.push(workload.listed(network.address(host(index))));
            documents.push(format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
                 spec: {{clusterIP: {service}, selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n"
            ));
            hosts.push((format!("{name}.default.svc.cluster.local"), service));
        }
        cluster.sandbox.write_resource("workloads.yaml", &documents.join("---\n")).unwrap();
        let mut pods = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            let (workload, pod) = (workload(spec.0), format!("{name}-{}", spec.0));
            let mut yaml = manifest::application(&pod, &workload, &hosts);
            if spec.1 == InMesh::Yes {
                yaml = manifest::injected(&yaml, &cluster.folder(), spec.0);
            }
            pods.push((*spec, Pod::play(&pod, &yaml, name, network.address(host(index)))));
        }
        let mesh = Self { pods, cluster, _network: network };
        mesh.in_mesh().for_each(Pod::until_ready);
        Some(mesh)
    }

    /// Pods by name.
    pub(crate) fn pods<const N: usize>(&self, names: [&str; N]) -> [&Pod; N] {
        names.map(|name| &self.pods.iter().find(|((other, _), _)| *other == name).unwrap().1)
    }

    /// Puts policies in force in every sidecar, in place of those before.
    pub(crate) fn policies(&self, documents: &[&str]) {
        let before: Vec<_> = self.in_mesh().map(|pod| pod.metric(GENERATION).unwrap()).collect();
        self.cluster.sandbox.write_resource("policies.yaml", &documents.join("---\n")).unwrap();
        for (pod, before) in self.in_mesh().zip(before) {
            pod.until_metric(GENERATION, |now| now > before);
        }
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
