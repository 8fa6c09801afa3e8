use std::net::SocketAddr;
use std::sync::Arc;

use crate::ConfigStore;
use crate::clusters::{Balancer, ClusterKey, Discovered, DiscoveredExport, DiscoveredPort, HashOn};
use crate::services::{Endpoint, EndpointIdentity, ServicePort, Services};
use crate::snapshot::Snapshot;
use crate::testing::Folder;

mod documents;
mod exports;
mod many;
mod mcs;
mod said;
mod spreads;

/// Walk-through B's cluster-2, as far as it has no other clusters.
const HERE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: httpbin, namespace: httpbin}
spec: {clusterIP: 10.96.0.10, selector: {app: httpbin}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: httpbin-1, namespace: httpbin, labels: {app: httpbin}}
spec: {serviceAccountName: default}
status: {podIP: 10.1.0.1}
";

/// As `walkthroughs.md` has it.
const IMPORT: &str = "\
apiVersion: flomesh.io/v1alpha1
kind: ServiceImport
metadata: {namespace: httpbin, name: httpbin}
spec:
  type: ClusterSetIP
  serviceAccountName: httpbin
  ports:
  - port: 8080
    protocol: TCP
    endpoints:
    - clusterKey: default/default/default/cluster-1
      target: {host: 192.168.1.110, ip: 192.168.1.110, port: 81, path: /cluster-1/httpbin-mesh}
    - clusterKey: default/default/default/cluster-3
      target: {host: 192.168.1.110, ip: 192.168.1.110, port: 83, path: /cluster-3/httpbin-mesh}
";

const BOOTSTRAP: &str = "\
workload: {namespace: curl, serviceAccount: curl}
clusterKey: default/default/default/cluster-2
multicluster:
  clusters:
  - {clusterKey: default/default/default/cluster-1, gateway: {host: 192.168.1.110, port: 81}}
  - {clusterKey: default/default/default/cluster-3, trustDomain: three.local, trustBundle: three.pem,
     gateway: {host: gateway.three.example}}
";

fn key(name: &str) -> ClusterKey {
    format!("default/default/default/{name}").parse().unwrap()
}

/// A GlobalTrafficPolicy of `httpbin/httpbin` with targets written as `cluster-1, weight: 20`.
fn policy(mode: &str, targets: &[&str]) -> String {
    let targets: Vec<_> =
        targets.iter().map(|target| format!("{{clusterKey: default/default/default/{target}}}")).collect();
    format!(
        "---\napiVersion: flomesh.io/v1alpha1\nkind: GlobalTrafficPolicy\nmetadata: {{namespace: httpbin, name: httpbin}}\n\
         spec: {{lbType: {mode}, targets: [{}]}}\n",
        targets.join(", ")
    )
}

/// A TrafficTarget that lets curl call `account` of namespace httpbin, with these annotations.
fn target(account: &str, annotations: &str) -> String {
    format!(
        "---\napiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\n\
         metadata: {{namespace: httpbin, name: curl-to-{account}, annotations: {{{annotations}}}}}\n\
         spec:\n  destination: {{kind: ServiceAccount, name: {account}, namespace: httpbin}}\n  \
         rules: [{{kind: HTTPRouteGroup, name: all}}]\n  sources: [{{kind: ServiceAccount, name: curl, namespace: curl}}]\n"
    )
}

const ROUTES_AND_MODE: &str = "---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {namespace: httpbin, name: all}
spec: {matches: [{name: all, pathRegex: '/', methods: [GET]}]}
---
apiVersion: config.flomesh.io/v1alpha3
kind: MeshConfig
metadata: {namespace: fsm-system, name: fsm-mesh-config}
spec: {traffic: {enablePermissiveTrafficPolicyMode: false}}
";

/// A running store over documents, each ending in a line break; a `---` between them is put where it is missing.
struct Mesh {
    folder: Folder,
    store: ConfigStore,
}

impl Mesh {
    fn open(documents: &[&str]) -> Mesh {
        Mesh::try_open(BOOTSTRAP, documents).unwrap_or_else(|problems| panic!("{problems:#?}"))
    }

    fn try_open(bootstrap: &str, documents: &[&str]) -> Result<Mesh, Vec<String>> {
        let folder = Folder::new(&[("a.yaml", &joined(documents))]);
        match ConfigStore::open(&folder.bootstrap_with(bootstrap)) {
            Ok(store) => Ok(Mesh { folder, store }),
            Err(problems) => Err(folder.shown(&problems)),
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.current()
    }

    fn problems(&self) -> Vec<String> {
        self.folder.shown(&self.snapshot().problems)
    }
}

fn joined(documents: &[&str]) -> String {
    documents.iter().map(|text| text.trim_start_matches("---\n")).collect::<Vec<_>>().join("---\n")
}

/// `own 100@0` and the endpoints, of a port of a service found by a caller in namespace `curl`.
fn seen(services: &Services, host: &str, port: u16) -> Vec<String> {
    let Some(port) = services.by_host(host, port, "curl") else { return vec!["no such service".to_owned()] };
    shown(&port)
}

fn shown(port: &ServicePort) -> Vec<String> {
    let own = port.spread.own.map_or("no own".to_owned(), |share| format!("own {}@{}", share.weight, share.priority));
    let mode = if port.spread.fail_over { format!("{own} fail over") } else { own };
    std::iter::once(mode).chain(port.endpoints.iter().map(|endpoint| way(endpoint))).collect()
}

fn way(endpoint: &Endpoint) -> String {
    let who = match &endpoint.identity {
        EndpointIdentity::Mesh(id) => id.principal().to_owned(),
        EndpointIdentity::Namespace { trust_domain, namespace } => format!("{trust_domain}/ns/{namespace}/sa/*"),
        EndpointIdentity::Plaintext => "plaintext".to_owned(),
        EndpointIdentity::Unknown => "unknown".to_owned(),
    };
    let reach = if endpoint.in_reach { "" } else { " out of reach" };
    match &endpoint.remote {
        None => format!("{} {who}{reach}", endpoint.address),
        Some(remote) => {
            let share = format!("{}@{}", remote.share.weight, remote.share.priority);
            let direct = if remote.gateway.is_some() { "" } else { " direct" };
            format!("{} {} {share}{direct} {who}{reach}", remote.cluster.name(), endpoint.address)
        }
    }
}

const LOCAL: &str = "10.1.0.1:8080 cluster.local/ns/httpbin/sa/default";
const ONE: &str = "cluster-1 192.168.1.110:81 100@0 cluster.local/ns/httpbin/sa/httpbin";
const THREE: &str = "cluster-3 192.168.1.110:83 100@0 three.local/ns/httpbin/sa/httpbin";
