//! Walk-through B's three clusters, each with a root of its own, where only gateways have addresses that other clusters reach.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;

use meshgate::sandbox::Sandbox;
use meshgate::sandbox::three::Read;
use meshgate::sandbox::three::setting::{Setting, placed};

use super::heir;
use super::mesh::publish;
use super::network::{Family, Network};
use super::pod::Pod;
use super::redirection::Rendering;
use super::{requirements, resources, until};

/// What curl calls: a name that the machine's resolver knows, of an address that nobody has.
pub(crate) const HTTPBIN: &str = "http://httpbin.httpbin:8080/";
/// That address.
pub(crate) const HTTPBIN_ADDRESS: ([u8; 4], u16) = ([10, 96, 0, 20], 8080);

/// The clusters, and the account of `httpbin` in each.
const CLUSTERS: [(&str, &str); 3] = [("cluster-1", "httpbin"), ("cluster-2", "default"), ("cluster-3", "httpbin")];

/// Where every gateway listens, on an address of its own.
const GATEWAY_PORT: u16 = 15443;

/// The positions in the network: `httpbin` and the gateway of each cluster, and then who calls.
const GATEWAYS: usize = CLUSTERS.len();
const CALLERS: usize = 2 * CLUSTERS.len();

/// The clusters.
#[derive(Debug)]
pub(crate) struct ThreeClusters {
    pub(crate) httpbins: [Pod; 3],
    pub(crate) gateways: [Pod; 3],
    /// The caller, of account `curl` in namespace `curl`, in the second cluster.
    pub(crate) curl: Pod,
    /// Another one there, of account `stranger`.
    pub(crate) stranger: Pod,
    /// On the same network, and in no mesh.
    pub(crate) outsider: Pod,
    in_force: [String; 3],
    sandboxes: [Sandbox; 3],
}

impl ThreeClusters {
    /// Starts everything, with nothing in force. `None`, said loudly, where the machine cannot do it.
    pub(crate) fn start(rendering: Rendering) -> Option<Self> {
        if !requirements::met(rendering) {
            return None;
        }
        let sandboxes = sandboxes();
        let network = Rc::new(network(&sandboxes));
        let pod = |cluster: usize, index, name| Pod::new(&network, &sandboxes[cluster].path(""), index, name);
        let mut clusters = Self {
            httpbins: [0, 1, 2].map(|cluster| pod(cluster, cluster, "httpbin")),
            gateways: [0, 1, 2].map(|cluster| pod(cluster, GATEWAYS + cluster, "gateway")),
            curl: pod(1, CALLERS, "curl"),
            stranger: pod(1, CALLERS + 1, "stranger"),
            outsider: pod(1, CALLERS + 2, "outsider"),
            in_force: Default::default(),
            sandboxes,
        };
        for (httpbin, (cluster, _)) in clusters.httpbins.iter_mut().zip(CLUSTERS) {
            httpbin.start_application(cluster, "[::]");
        }
        for pod in [&clusters.curl, &clusters.stranger].into_iter().chain(&clusters.httpbins) {
            pod.redirect(rendering, &[]);
        }
        let mut proxies = clusters.proxies_mut();
        proxies.iter_mut().for_each(|pod| pod.start_sidecar());
        proxies.iter_mut().for_each(|pod| pod.until_ready());
        Some(clusters)
    }

    /// Puts resources in force in all clusters, and waits until every process has read them.
    pub(crate) fn in_force(&mut self, setting: Setting) {
        let mut waiting = Vec::new();
        for (cluster, state) in setting.states().into_iter().enumerate() {
            let documents: Vec<_> = state.documents.iter().map(|document| placed(document, gateway_of)).collect();
            let pod = resources::pod("httpbin", "httpbin", CLUSTERS[cluster].1, Family::V4.pod(cluster));
            let yaml = documents.into_iter().chain(state.has_httpbin.then_some(pod)).collect::<Vec<_>>().join("---\n");
            if yaml != self.in_force[cluster] {
                let callers = [&self.curl, &self.stranger].into_iter().filter(|_| cluster == 1);
                let readers = [&self.httpbins[cluster], &self.gateways[cluster]].into_iter().chain(callers);
                waiting.extend(readers.map(|pod| (pod.index, Read::in_page(&pod.metrics()))));
                self.sandboxes[cluster].write_resource("rules.yaml", &yaml).unwrap();
                self.in_force[cluster] = yaml;
            }
        }
        for pod in self.proxies() {
            if let Some((_, before)) = waiting.iter().find(|(index, _)| *index == pod.index) {
                until("resources in force", || Read::in_page(&pod.metrics()).is_after(before).then_some(()));
            }
        }
    }

    /// Where a cluster's gateway is, counted from 0.
    pub(crate) fn gateway(cluster: usize) -> SocketAddr {
        SocketAddr::new(Family::V4.pod(GATEWAYS + cluster), GATEWAY_PORT)
    }

    fn proxies(&self) -> impl Iterator<Item = &Pod> {
        self.httpbins.iter().chain(&self.gateways).chain([&self.curl, &self.stranger])
    }

    fn proxies_mut(&mut self) -> Vec<&mut Pod> {
        let all = self.httpbins.iter_mut().chain(&mut self.gateways);
        all.chain([&mut self.curl, &mut self.stranger]).collect()
    }
}

fn gateway_of(key: &str) -> Option<SocketAddr> {
    let cluster = CLUSTERS.iter().position(|(name, _)| key.ends_with(name))?;
    Some(ThreeClusters::gateway(cluster))
}

/// The clusters' files: roots, identities and bootstraps.
fn sandboxes() -> [Sandbox; 3] {
    let mut sandboxes = Sandbox::beside(crate::binary(), CLUSTERS.map(|(name, _)| name)).unwrap();
    let folder = sandboxes[0].path("..").canonicalize().unwrap();
    heir::folder(&folder);
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    for here in 0..CLUSTERS.len() {
        let (before, rest) = sandboxes.split_at_mut(here);
        let (sandbox, after) = rest.split_first_mut().unwrap();
        for (other, peer) in before.iter().enumerate().chain((here + 1..).zip(after.iter())) {
            sandbox.know(peer, Some(ThreeClusters::gateway(other)));
        }
    }
    for (cluster, (sandbox, (_, account))) in sandboxes.iter().zip(CLUSTERS).enumerate() {
        let sidecar = resources::listeners("ALLOW_ANY", "");
        let gateway = format!("role: gateway\ngateway: {{listeners: [\"{}\"]}}\n", ThreeClusters::gateway(cluster));
        let mut pods = vec![
            ("httpbin", "httpbin", account, &sidecar),
            ("gateway", "meshgate-system", "meshgate-gateway", &gateway),
        ];
        if cluster == 1 {
            pods.extend(["curl", "stranger"].map(|caller| (caller, "curl", caller, &sidecar)));
        }
        for (name, namespace, account, role) in pods {
            sandbox.issue_in(name, namespace, account).unwrap();
            let text = resources::workload_of(name, name, namespace, account) + role + &sandbox.surroundings();
            fs::write(sandbox.path(&format!("{name}.yaml")), text).unwrap();
        }
        publish(sandbox);
    }
    sandboxes
}

/// One network, in which nobody of one cluster has a way to another cluster but to its gateway.
fn network(sandboxes: &[Sandbox; 3]) -> Network {
    let names = ["httpbin-1", "httpbin-2", "httpbin-3", "gateway-1", "gateway-2", "gateway-3"];
    let names = names.into_iter().chain(["curl", "stranger", "outsider"]).collect::<Vec<_>>();
    let hosts = sandboxes[1].path("hosts");
    write_hosts(&hosts);
    let network = Network::new(&names).unwrap().with_hosts(hosts);
    let clusters: [&[usize]; 3] = [&[0], &[1, CALLERS, CALLERS + 1], &[2]];
    for (here, pods) in clusters.iter().enumerate() {
        let others = || clusters.iter().enumerate().filter(|(there, _)| *there != here).flat_map(|(_, pods)| *pods);
        for pod in *pods {
            others().for_each(|other| network.cut(*pod, *other).unwrap());
        }
    }
    network
}

fn write_hosts(path: &Path) {
    let (address, _) = HTTPBIN_ADDRESS;
    let address = std::net::Ipv4Addr::from(address);
    let lines = format!("127.0.0.1 localhost\n{address} httpbin.httpbin httpbin.httpbin.svc.cluster.local\n");
    fs::write(path, lines).unwrap();
}
