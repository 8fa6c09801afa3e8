//! Walk-through B in pods: three clusters, with the guide's own addresses. What the examples say is in force as it is written.
//!
//! The three gateways are one pod at 192.168.1.110, with the ports 81 to 83. curl calls `httpbin.httpbin:8080`, a name that stands
//! for the service's cluster address.

use std::net::{IpAddr, Ipv4Addr};

use meshgate::sandbox::Sandbox;
use meshgate::sandbox::three::counted;
use meshgate::sandbox::three::setting::{Setting, TO_DEFAULT};

use crate::support::cluster::{Cluster, Workload};
use crate::support::{Network, PROXY, Pod, manifest, until, world};

const CLUSTERS: [&str; 3] = ["cluster-1", "cluster-2", "cluster-3"];
/// The account of `httpbin` in each.
const ACCOUNTS: [&str; 3] = ["httpbin", "default", "httpbin"];
/// What keeps it apart from other tests' pods and networks.
const MESH: &str = "walkthrough-b";
const GATEWAYS: u8 = 110;
const CURL: Workload = Workload { name: "curl", namespace: "curl", account: "curl", says: "curl" };
const GATEWAY: Workload =
    Workload { name: "gateway", namespace: "meshgate-system", account: "meshgate-gateway", says: "gateway" };

const READINGS: &str = "mesh_config_reloads_total{result=\"ok\"}";

/// What is dropped first are the pods.
struct Three {
    httpbin: Vec<Pod>,
    curl: Pod,
    _gateways: Pod,
    clusters: Vec<Cluster>,
    _network: Network,
}

#[test]
#[ignore = "needs podman and the release build: just pods"]
fn walkthrough_b() {
    if !world::works() {
        return;
    }
    let three = Three::start();
    let (one_each, all) = ([("cluster-1", 2), ("cluster-2", 2), ("cluster-3", 2)], 6);
    assert_eq!(counted(&three.who(all)), [("cluster-2", 6)].into(), "S0");
    three.in_force(Setting::exported());
    assert_eq!(counted(&three.who(all)), [("cluster-2", 6)].into(), "S1");

    three.in_force(Setting::active_active());
    three.until_all_answer();
    let answers = three.who(all);
    assert_eq!(counted(&answers), one_each.into(), "S2");
    assert_eq!(answers[..3], answers[3..], "S2: cyclic");

    three.in_force(Setting::active_active().targets(1, &[]));
    for _ in 0..3 {
        assert_eq!(three.curl.curl(&[URL]).exit, Some(52), "S3");
    }
    three.in_force(Setting::active_active().targets(1, &[TO_DEFAULT]));
    assert_eq!(counted(&three.who(60)), [("cluster-2", 60)].into(), "S4, S5");

    three.in_force(Setting::both_targets());
    three.until_all_answer();
    let answers = three.who(300);
    assert_eq!(counted(&answers), [("cluster-1", 100), ("cluster-2", 100), ("cluster-3", 100)].into(), "S6");
    assert!(answers.chunks(3).all(|cycle| cycle == &answers[..3]), "S6: cyclic");

    for (cluster, pod) in CLUSTERS.iter().zip(&three.httpbin) {
        pod.logged(&format!("curl, called in {cluster}"), |line| {
            line["peer"] == "spiffe://cluster.local/ns/curl/sa/curl"
        });
    }
}

const URL: &str = "http://httpbin.httpbin:8080/";

impl Three {
    fn start() -> Self {
        let network = Network::new(MESH, [192, 168, 1]);
        let clusters = Sandbox::beside(&crate::binary(), CLUSTERS).unwrap();
        let clusters: Vec<_> = clusters.into_iter().map(Cluster::of).collect();
        write(&clusters, &network, Setting::new());
        let virtual_address = IpAddr::from(Ipv4Addr::new(10, 96, 0, 20));
        let hosts = [("httpbin.httpbin".to_owned(), virtual_address)];
        let sidecar = |pod: &str, cluster: usize, workload: &Workload, host: u8| {
            let listeners = format!("{}{}", manifest::REDIRECTED, others(cluster));
            clusters[cluster].admit(workload, &listeners);
            let yaml = manifest::application(pod, workload, &hosts);
            let yaml = manifest::injected(&yaml, &clusters[cluster].folder(), workload.name);
            Pod::play(pod, &yaml, MESH, network.address(host))
        };
        for (at, cluster) in clusters.iter().enumerate() {
            for (name, other) in CLUSTERS.iter().zip(&clusters) {
                cluster.trust(name, other);
            }
            let listeners = format!(
                "role: gateway\ngateway: {{listeners: [\"0.0.0.0:{}\"]}}\nadmin: {{address: \"127.0.0.1:{}\"}}\n{}",
                port(at),
                15100 + at,
                others(at)
            );
            cluster.admit(&GATEWAY, &listeners);
        }
        let gateways = Pod::play(&format!("{MESH}-gateways"), &gateways(&clusters), MESH, network.address(GATEWAYS));
        let httpbin = |at: usize| sidecar(&format!("{MESH}-httpbin-{at}"), at, &httpbin(at), host(at));
        let httpbin: Vec<_> = (0..3).map(httpbin).collect();
        let curl = sidecar(&format!("{MESH}-curl"), 1, &CURL, 20);
        let three = Self { httpbin, curl, _gateways: gateways, clusters, _network: network };
        three.sidecars().for_each(Pod::until_ready);
        three
    }

    /// Puts resources in force in all clusters, and waits until every sidecar has read them.
    fn in_force(&self, setting: Setting) {
        let before: Vec<_> = self.sidecars().map(|pod| pod.metric(READINGS).unwrap_or(0.0)).collect();
        write(&self.clusters, &self._network, setting);
        for (pod, before) in self.sidecars().zip(before) {
            pod.until_metric(READINGS, |now| now > before);
        }
    }

    /// What gateways say takes a moment to arrive.
    fn until_all_answer(&self) {
        until("every cluster answering", || (counted(&self.who(3)).len() == 3).then_some(()));
    }

    /// Who answered curl, each time on a connection of its own.
    fn who(&self, requests: usize) -> Vec<String> {
        let urls = format!("{URL}?[1-{requests}]");
        let answer = self.curl.curl(&["--header", "Connection: close", &urls]);
        let names = answer.body.split("name: ").skip(1).filter_map(|said| said.lines().next());
        let names: Vec<_> = names.map(str::to_owned).collect();
        assert_eq!(names.len(), requests, "{answer}");
        names
    }

    fn sidecars(&self) -> impl Iterator<Item = &Pod> {
        self.httpbin.iter().chain([&self.curl])
    }
}

/// `httpbin` of a cluster.
fn httpbin(cluster: usize) -> Workload {
    Workload { name: "httpbin", namespace: "httpbin", account: ACCOUNTS[cluster], says: CLUSTERS[cluster] }
}

/// The last number of the address of a cluster's `httpbin`.
fn host(cluster: usize) -> u8 {
    11 + u8::try_from(cluster).unwrap()
}

/// The guide's port of a cluster's gateway.
fn port(cluster: usize) -> usize {
    81 + cluster
}

/// What a bootstrap file says of the other clusters.
fn others(cluster: usize) -> String {
    let entry = |other: usize| {
        let (name, port) = (CLUSTERS[other], port(other));
        format!(
            "  - {{clusterKey: default/default/default/{name}, trustBundle: {name}.pem, \
             gateway: {{host: 192.168.1.110, port: {port}}}}}\n"
        )
    };
    let entries = (0..CLUSTERS.len()).filter(|other| *other != cluster).map(entry);
    format!("multicluster:\n  clusters:\n{}", entries.collect::<String>())
}

fn write(clusters: &[Cluster], network: &Network, setting: Setting) {
    for (at, (cluster, documents)) in clusters.iter().zip(setting.documents()).enumerate() {
        let pod = httpbin(at).listed(network.address(host(at)));
        cluster.sandbox.write_resource("rules.yaml", &[&documents[..], &[pod]].concat().join("---\n")).unwrap();
    }
}

/// One pod with the gateways of all clusters, which have no sidecar and no redirection.
fn gateways(clusters: &[Cluster]) -> String {
    let (mut containers, mut volumes) = (String::new(), String::new());
    for (name, cluster) in CLUSTERS.iter().zip(clusters) {
        containers += &format!(
            "  - name: {name}
    image: {PROXY}
    args: [run, --bootstrap, /etc/meshgate/gateway.yaml]
    securityContext: {{readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    volumeMounts: [{{name: {name}, mountPath: /etc/meshgate, readOnly: true}}]
"
        );
        volumes += &format!("  - {{name: {name}, hostPath: {{path: {}}}}}\n", cluster.folder().display());
    }
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {MESH}-gateways, namespace: meshgate-system, labels: {{app: gateway}}}}
spec:
  serviceAccountName: meshgate-gateway
  restartPolicy: Never
  containers:
{containers}  volumes:
{volumes}"
    )
}
