//! Walk-through B in pods: three clusters, with the guide's own addresses. What the examples say is in force as it is written.
//!
//! The three gateways are one pod at 192.168.1.110, with the ports 81 to 83. curl calls `httpbin.httpbin:8080`, a name that stands
//! for the service's cluster address.

use std::net::{IpAddr, Ipv4Addr};

use meshgate::sandbox::Sandbox;
use meshgate::sandbox::three::counted;
use meshgate::sandbox::three::setting::{Setting, TO_DEFAULT};

use crate::support::cluster::{Cluster, Workload, root};
use crate::support::{Network, PROXY, Pod, manifest, until, world};

const CLUSTERS: [&str; 3] = ["cluster-1", "cluster-2", "cluster-3"];
/// The files of their roots.
const BUNDLES: [&str; 3] = ["cluster-1.pem", "cluster-2.pem", "cluster-3.pem"];
/// The account of `httpbin` in each.
const ACCOUNTS: [&str; 3] = ["httpbin", "default", "httpbin"];
/// What keeps it apart from other tests' pods and networks.
const MESH: &str = "walkthrough-b";
/// The pod of the gateways, at the guide's address.
const GATEWAYS: &str = "walkthrough-b-gateways";
const CURL: Workload = Workload { name: "curl", namespace: "curl", account: "curl", says: "curl" };
const GATEWAY: Workload =
    Workload { name: "gateway", namespace: "meshgate-system", account: "meshgate-gateway", says: "gateway" };

/// What is dropped first are the pods.
struct Three {
    httpbin: Vec<Pod>,
    curl: Pod,
    _gateways: Pod,
    clusters: Vec<Cluster>,
    network: Network,
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
        let bundles: Vec<_> = BUNDLES.into_iter().zip(clusters.iter().map(root)).collect();
        let clusters = clusters.into_iter().zip(rules(&network, Setting::new())).enumerate();
        let clusters =
            clusters.map(|(at, (sandbox, rules))| Cluster::new(sandbox, rules).beside(others(at), bundles.clone()));
        let clusters: Vec<_> = clusters.collect();
        let gateways = Pod::play(GATEWAYS, &gateways(&clusters), MESH, network.address(110));
        let hosts = [("httpbin.httpbin".to_owned(), IpAddr::from(Ipv4Addr::new(10, 96, 0, 20)))];
        let run =
            |at: usize| clusters[at].run(&format!("{MESH}-httpbin-{at}"), &httpbin(at), &hosts, (&network, host(at)));
        let httpbin: Vec<_> = (0..3).map(run).collect();
        let curl = clusters[1].run(&format!("{MESH}-curl"), &CURL, &hosts, (&network, 20));
        let three = Self { httpbin, curl, _gateways: gateways, clusters, network };
        three.httpbin.iter().chain([&three.curl]).for_each(Pod::until_ready);
        three
    }

    /// Puts resources in force in all clusters, and waits until every sidecar has read them.
    fn in_force(&self, setting: Setting) {
        for (at, rules) in rules(&self.network, setting).into_iter().enumerate() {
            let curl = (at == 1).then_some(&self.curl);
            self.clusters[at].in_force(rules, [&self.httpbin[at]].into_iter().chain(curl), &[gateway(at)]);
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
            "  - {{clusterKey: default/default/default/{name}, trustBundle: /etc/meshgate/{name}.pem, \
             gateway: {{host: 192.168.1.110, port: {port}}}}}\n"
        )
    };
    let entries = (0..CLUSTERS.len()).filter(|other| *other != cluster).map(entry);
    format!("multicluster:\n  clusters:\n{}", entries.collect::<String>())
}

/// The resources of each cluster.
fn rules(network: &Network, setting: Setting) -> Vec<String> {
    let rules = setting.states().into_iter().enumerate().map(|(at, state)| {
        let pod = httpbin(at).listed(network.address(host(at)));
        [state.documents, vec![pod]].concat().join("---\n")
    });
    rules.collect()
}

/// What a cluster's gateway reads is named after.
fn gateway(cluster: usize) -> String {
    format!("{GATEWAYS}-{}", CLUSTERS[cluster])
}

/// One pod with the gateways of all clusters, which have no sidecar and no redirection.
fn gateways(clusters: &[Cluster]) -> String {
    let (mut read, mut containers, mut volumes) = (String::new(), String::new(), String::new());
    for (at, (name, cluster)) in CLUSTERS.iter().zip(clusters).enumerate() {
        let gateway = gateway(at);
        let listeners = format!(
            "role: gateway\n\
             workload: {{name: gateway, namespace: meshgate-system, serviceAccount: meshgate-gateway}}\n\
             resources: {{directory: /var/lib/meshgate/resources}}\n\
             gateway: {{listeners: [\"0.0.0.0:{}\"]}}\nadmin: {{address: \"127.0.0.1:{}\"}}\n",
            port(at),
            15100 + at
        );
        read += &cluster.read_by(&gateway, &GATEWAY, &listeners);
        containers += &format!(
            "  - name: {name}
    image: {PROXY}
    securityContext: {{readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    volumeMounts:
    - {{name: {name}-bootstrap, mountPath: /etc/meshgate, readOnly: true}}
    - {{name: {name}-resources, mountPath: /var/lib/meshgate/resources, readOnly: true}}
    - {{name: {name}-identity, mountPath: /var/lib/meshgate/identity, readOnly: true}}
"
        );
        for what in ["bootstrap", "resources"] {
            let map = manifest::of_pod(&gateway, what);
            volumes += &format!("  - {{name: {name}-{what}, configMap: {{name: {map}, optional: false}}}}\n");
        }
        let secret = manifest::of_pod(&gateway, "identity");
        volumes += &format!("  - {{name: {name}-identity, secret: {{secretName: {secret}, optional: false}}}}\n");
    }
    format!(
        "{read}apiVersion: v1
kind: Pod
metadata: {{name: {GATEWAYS}, namespace: meshgate-system, labels: {{app: gateway}}}}
spec:
  serviceAccountName: meshgate-gateway
  restartPolicy: Never
  containers:
{containers}  volumes:
{volumes}"
    )
}
