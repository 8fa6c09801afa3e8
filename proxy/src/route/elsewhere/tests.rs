use std::fs;

use http::HeaderMap;
use meshgate_config::{Bootstrap, ConfigStore};

use super::*;
use crate::balance::{Account, Caller, Choice};
use crate::http::pool::{HttpVersion, Pool, Upstream};
use crate::outbound::{Standing, standing};

/// `account` runs what cluster-1 exports; cluster-3's is `other`.
const IMPORT: &str = "
apiVersion: v1
kind: Service
metadata: {name: httpbin, namespace: httpbin}
spec: {selector: {app: httpbin}, ports: [{name: http, port: 8080, targetPort: 14001}]}
---
apiVersion: flomesh.io/v1alpha1
kind: ServiceImport
metadata: {namespace: httpbin, name: httpbin}
spec:
  serviceAccountName: ACCOUNT
  ports:
  - port: 8080
    endpoints:
    - clusterKey: default/default/default/cluster-1
      target: {host: 192.0.2.1, ip: 192.0.2.1, port: 81}
    - clusterKey: default/default/default/cluster-3
      target: {host: 192.0.2.3, ip: 192.0.2.3, port: 83}
---
apiVersion: flomesh.io/v1alpha1
kind: GlobalTrafficPolicy
metadata: {namespace: httpbin, name: httpbin}
spec:
  lbType: ActiveActive
  targets: [{clusterKey: default/default/default/cluster-1}, {clusterKey: default/default/default/cluster-3}]
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {namespace: httpbin, name: get}
spec: {matches: [{name: get, pathRegex: '/metrics', methods: [GET]}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {namespace: httpbin, name: bytes}
spec: {matches: {ports: [PORT]}}
---
";

const OWN: &str = "---
apiVersion: v1
kind: Pod
metadata: {name: httpbin-1, namespace: httpbin, labels: {app: httpbin}}
spec: {serviceAccountName: httpbin}
status: {podIP: 10.1.0.1}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: httpbin-1, namespace: httpbin, labels: {kubernetes.io/service-name: httpbin}}
addressType: IPv4
ports: [{name: http, port: 14001}]
endpoints: [{addresses: [10.1.0.1]}]
";

const STRICT: &str = "---
apiVersion: config.flomesh.io/v1alpha3
kind: MeshConfig
metadata: {namespace: fsm-system, name: fsm-mesh-config}
spec: {traffic: {enablePermissiveTrafficPolicyMode: false}}
";

const BOOTSTRAP: &str = "
workload: {name: curl-1, namespace: curl, serviceAccount: curl}
clusterKey: default/default/default/cluster-2
multicluster:
  clusters:
  - {clusterKey: default/default/default/cluster-1, gateway: {host: 192.0.2.1, port: 81}}
  - {clusterKey: default/default/default/cluster-3, gateway: {host: 192.0.2.3, port: 83}}
identity: {certificate: curl.pem, key: curl-key.pem, trustBundle: ca.pem}
resources: {directory: resources}
";

/// A TrafficTarget that lets curl call an account by these rules, in the clusters that an annotation names.
fn target(account: &str, rules: &str, clusters: &str) -> String {
    let annotations = match clusters {
        "" => String::new(),
        _ => format!(", annotations: {{meshgate.io/clusters: '{clusters}'}}"),
    };
    format!(
        "---\napiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\n\
         metadata: {{namespace: httpbin, name: t-{account}-{}{annotations}}}\nspec:\n  \
         destination: {{kind: ServiceAccount, name: {account}, namespace: httpbin}}\n  rules: [{rules}]\n  \
         sources: [{{kind: ServiceAccount, name: curl, namespace: curl}}]\n",
        clusters.len()
    )
}

const GET: &str = "{kind: HTTPRouteGroup, name: get}";
const BYTES: &str = "{kind: TCPRoute, name: bytes}";

fn snapshot(account: &str, port: u16, more: &[&str]) -> Arc<Snapshot> {
    let dir = tempfile::tempdir().unwrap();
    let resources = dir.path().join("resources");
    fs::create_dir(&resources).unwrap();
    let mesh = IMPORT.replace("ACCOUNT", account).replace("PORT", &port.to_string());
    fs::write(resources.join("mesh.yaml"), mesh + &more.concat()).unwrap();
    let bootstrap = dir.path().join("bootstrap.yaml");
    fs::write(&bootstrap, BOOTSTRAP).unwrap();
    let snapshot = ConfigStore::open(&Bootstrap::load(&bootstrap, []).unwrap()).unwrap().current();
    assert!(!snapshot.problems.iter().any(meshgate_config::Problem::is_error), "{:?}", snapshot.problems);
    snapshot
}

fn caller() -> SpiffeId {
    "spiffe://cluster.local/ns/curl/sa/curl".parse().unwrap()
}

/// The endpoints of the service, as a route has them, in the order of their clusters.
struct Way {
    service: Arc<ServicePort>,
    rulings: Rulings,
    choice: Choice,
}

fn way(snapshot: &Snapshot) -> Way {
    let service = snapshot.services.by_host("httpbin.httpbin", 8080, "curl").unwrap();
    let (mut rulings, pool) = (Rulings::default(), Pool::default());
    let hops = service.endpoints.iter().filter_map(|endpoint| match standing(&service, endpoint) {
        Standing::Usable(hop) => Some(hop),
        Standing::OutOfReach | Standing::Unidentified => None,
    });
    let candidates = hops.map(|hop| {
        let ruling = rulings.place(snapshot, &caller(), &service, &hop);
        let Hop { address, security, remote, .. } = hop;
        let connect_timeout = std::time::Duration::from_secs(1);
        let version = HttpVersion::Http1;
        let upstream = Upstream { address, version, security, source: None, connect_timeout, via: None };
        Candidate::with(pool.slot(&upstream), remote, Account { ruling, ..Account::default() })
    });
    let choice = Choice::new(candidates.collect(), None, 3);
    Way { choice, rulings, service }
}

impl Way {
    /// Who is tried, or why nobody is.
    fn tried(&self, request: Option<(&str, &str)>) -> Result<Vec<&'static str>, String> {
        let headers = HeaderMap::new();
        let view = request.map(|(method, path)| RequestView {
            method,
            path,
            path_and_query: path,
            host: "httpbin.httpbin",
            scheme: "http",
            headers: &headers,
            token: None,
            remote_ip: [10, 0, 0, 1].into(),
        });
        let candidates = self.choice.candidates(Caller { source: [10, 0, 0, 1].into(), headers: None });
        match self.rulings.permitted(candidates, view.as_ref()) {
            Ok(permitted) => Ok(permitted.map(|candidate| name(&candidate)).collect()),
            Err(refusal) => {
                let nearest = refusal.nearest(view.as_ref()).map(|nearest| nearest.to_string()).unwrap_or_default();
                Err(format!("{} by {}: {nearest}", refusal.decision.reason, name(&refusal.candidate)))
            }
        }
    }

    fn refusal(&self, request: Option<(&str, &str)>) -> String {
        self.tried(request).unwrap_err()
    }
}

fn name(candidate: &Candidate) -> &'static str {
    match candidate.cluster().map(ClusterKey::name) {
        Some("cluster-1") => "1",
        Some("cluster-3") => "3",
        Some(_) => "?",
        None => "own",
    }
}

#[test]
fn what_this_clusters_targets_refuse_goes_to_no_other_cluster() {
    let get = target("httpbin", GET, "");
    let way = way(&snapshot("httpbin", 8080, &[STRICT, &get]));
    assert_eq!(way.tried(Some(("GET", "/metrics"))), Ok(vec!["1", "3"]));
    for request in [Some(("POST", "/metrics")), Some(("GET", "/other")), None] {
        let refusal = way.refusal(request);
        assert!(refusal.starts_with("no_target_matched by 1: httpbin/t-httpbin-0 "), "{request:?}: {refusal}");
    }
}

#[test]
fn nothing_is_said_in_permissive_mode_nor_of_ones_own_endpoints() {
    let permissive = way(&snapshot("httpbin", 8080, &[&target("httpbin", GET, "")]));
    assert!(permissive.rulings.is_empty());
    assert_eq!(permissive.tried(None), Ok(vec!["1", "3"]));
    // The own proxy of whoever is called here decides, as for everybody.
    let strict = way(&snapshot("httpbin", 8080, &[OWN, STRICT, &target("httpbin", GET, "")]));
    assert_eq!(strict.tried(Some(("POST", "/metrics"))), Ok(vec!["own"]), "and nobody else is tried after it");
    assert_eq!(strict.tried(Some(("GET", "/metrics"))), Ok(vec!["own", "1", "3"]));
}

#[test]
fn bytes_need_a_tcp_route_and_requests_one_of_their_own() {
    let way = way(&snapshot("httpbin", 8080, &[STRICT, &target("httpbin", BYTES, "")]));
    assert_eq!(way.tried(None), Ok(vec!["1", "3"]));
    assert!(way.tried(Some(("GET", "/metrics"))).is_err());
}

#[test]
fn ports_are_the_services_or_the_containers_as_this_cluster_has_it() {
    let bytes = target("httpbin", BYTES, "");
    for (port, own, expected) in [(8080, "", true), (14001, "", false), (14001, OWN, true), (9, OWN, false)] {
        let way = way(&snapshot("httpbin", port, &[own, STRICT, &bytes]));
        let tried = way.tried(None).map(|tried| tried.contains(&"1"));
        assert_eq!(tried.unwrap_or(false), expected, "{port} {own}");
    }
}

#[test]
fn each_cluster_is_judged_by_the_targets_that_are_about_it() {
    let key = "default/default/default/cluster";
    let (get, bytes) =
        (target("httpbin", GET, &format!("{key}-1")), target("httpbin", BYTES, &format!("{key}-1,{key}-3")));
    let way = way(&snapshot("httpbin", 8080, &[STRICT, &get, &bytes]));
    assert_eq!(way.tried(None), Ok(vec!["1", "3"]));
    assert_eq!(way.tried(Some(("GET", "/metrics"))), Ok(vec!["1"]), "the other one is not tried after it");
}

#[test]
fn who_may_be_any_account_is_sent_what_each_of_them_may_get() {
    let (get, bytes) = (target("httpbin", GET, ""), target("other", BYTES, ""));
    let one = way(&snapshot("\"*\"", 8080, &[STRICT, &get]));
    assert_eq!((one.tried(Some(("GET", "/metrics"))), one.tried(None).is_err()), (Ok(vec!["1", "3"]), true));
    let two = way(&snapshot("\"*\"", 8080, &[STRICT, &get, &bytes]));
    assert!(two.tried(Some(("GET", "/metrics"))).is_err() && two.tried(None).is_err());
}

#[test]
fn a_connection_ends_when_what_let_it_out_is_gone() {
    let bytes = target("httpbin", BYTES, "");
    let way = way(&snapshot("httpbin", 8080, &[STRICT, &bytes]));
    let to = way.choice.candidates(Caller { source: [10, 0, 0, 1].into(), headers: None }).next().unwrap();
    for (port, more, expected) in [
        (8080, vec![STRICT, &bytes], true),
        (8080, vec![], true),
        (9, vec![STRICT, &bytes], false),
        (8080, vec![STRICT], false),
    ] {
        let now = snapshot("httpbin", port, &more);
        assert_eq!(still_permits(&now, &caller(), &way.service, &to), expected, "{port} {more:?}");
    }
}
