//! The MCS API: EndpointSlices of pods that can be dialled themselves.

use super::*;

const MCS_IMPORT: &str = "\
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: httpbin, namespace: httpbin, annotations: {meshgate.io/service-account: httpbin}}
spec:
  type: ClusterSetIP
  ips: [10.97.0.1]
  sessionAffinity: ClientIP
  ports: [{name: http, protocol: TCP, port: 8080}, {name: dns, protocol: UDP, port: 53}]
status: {clusters: [{cluster: cluster-1}]}
";

fn slice(source: &str, address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: slice-{}, namespace: httpbin, labels: {{multicluster.kubernetes.io/service-name: httpbin, {source}}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 80}}]\n\
         endpoints: [{{addresses: [{address}]}}, {{addresses: [10.9.9.9], conditions: {{ready: false}}}}]\n",
        address.replace('.', "-")
    )
}

fn from(name: &str) -> String {
    format!("multicluster.kubernetes.io/source-cluster: {name}")
}

#[test]
fn pods_elsewhere_are_endpoints_of_the_clusterset_name_only() {
    let mesh =
        Mesh::open(&[HERE, MCS_IMPORT, &slice(&from("cluster-1"), "10.2.0.1"), &slice(&from("cluster-2"), "10.1.0.1")]);
    let snapshot = mesh.snapshot();
    let direct = "cluster-1 10.2.0.1:80 100@0 direct cluster.local/ns/httpbin/sa/httpbin";
    assert_eq!(mesh.problems(), [""; 0]);
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL]);
    let spanning = snapshot.services.by_address("10.97.0.1:8080".parse().unwrap()).unwrap();
    assert_eq!(shown(&spanning), ["no own", direct]);
    assert_eq!(
        (spanning.host.as_str(), &spanning.balancer),
        ("httpbin.httpbin.svc.clusterset.local", &Balancer::RoundRobin),
        "as the Service here says"
    );
    let (port, endpoint) = snapshot.services.endpoint("10.2.0.1:80".parse().unwrap()).unwrap();
    assert_eq!((port.port, way(&endpoint).as_str()), (8080, direct));
    assert!(snapshot.services.knows("10.2.0.1".parse().unwrap()));
    // A policy spans plain names too.
    let snapshot =
        Mesh::open(&[HERE, MCS_IMPORT, &slice(&from("cluster-1"), "10.2.0.1"), &policy("ActiveActive", &[])])
            .snapshot();
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL, direct]);
    // Without a Service here there is no plain name without a policy.
    let snapshot = Mesh::open(&[MCS_IMPORT, &slice(&from("cluster-1"), "10.2.0.1")]).snapshot();
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080), ["no such service"]);
    let port = snapshot.services.by_host("httpbin.httpbin.svc.clusterset.local", 8080, "curl").unwrap();
    assert_eq!(port.balancer, Balancer::RingHash(HashOn::SourceIp));
    let policy = policy("FailOver", &["cluster-1"]);
    let snapshot = Mesh::open(&[MCS_IMPORT, &slice(&from("cluster-1"), "10.2.0.1"), &policy]).snapshot();
    let second = direct.replace("100@0", "100@1");
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080), ["own 100@0 fail over", &second]);
}

#[test]
fn an_export_here_takes_part_in_the_clusterset_name() {
    let export = "apiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceExport\nmetadata: {name: httpbin, namespace: httpbin}\n";
    let snapshot = Mesh::open(&[HERE, MCS_IMPORT, export, &slice(&from("cluster-1"), "10.2.0.1")]).snapshot();
    let direct = "cluster-1 10.2.0.1:80 100@0 direct cluster.local/ns/httpbin/sa/httpbin";
    let spanning = seen(&snapshot.services, "httpbin.httpbin.svc.clusterset.local", 8080);
    assert_eq!(spanning, ["own 100@0", LOCAL, direct]);
}

#[test]
fn where_pods_can_be_dialled_the_gateway_is_not_used() {
    let named = IMPORT.replace("  - port: 8080\n", "  - port: 8080\n    name: http\n");
    let entry = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: far, namespace: httpbin}\n\
                 spec: {address: 10.3.0.1, serviceAccount: special}\n";
    let documents = [
        HERE,
        &named,
        entry,
        &slice(&from("cluster-1"), "10.2.0.1"),
        &slice(&from("cluster-3"), "10.3.0.1"),
        &policy("ActiveActive", &[]),
    ];
    let snapshot = Mesh::open(&documents).snapshot();
    assert_eq!(
        seen(&snapshot.services, "httpbin.httpbin", 8080),
        [
            "own 100@0",
            LOCAL,
            "cluster-1 10.2.0.1:80 100@0 direct cluster.local/ns/httpbin/sa/httpbin",
            "cluster-3 10.3.0.1:80 100@0 direct three.local/ns/httpbin/sa/special",
        ]
    );
}

#[test]
fn a_source_that_is_no_cluster_or_several_is_left_out() {
    let twins = BOOTSTRAP.replace("default/default/default/cluster-3", "other/default/default/cluster-1");
    let open = |bootstrap: &str, labels: &str| {
        Mesh::try_open(bootstrap, &[HERE, MCS_IMPORT, &slice(labels, "10.2.0.1")]).unwrap()
    };
    for (bootstrap, labels, expected) in [
        (BOOTSTRAP, from("cluster-9"), "no cluster `cluster-9` (multicluster.kubernetes.io/source-cluster) is known"),
        (BOOTSTRAP, "a: b".to_owned(), "has no label multicluster.kubernetes.io/source-cluster"),
        (
            &*twins,
            from("cluster-1"),
            "`cluster-1` (multicluster.kubernetes.io/source-cluster) may be default/default/default/cluster-1 or other/",
        ),
    ] {
        let mesh = open(bootstrap, &labels);
        let [problem] = mesh.problems().try_into().unwrap();
        assert!(
            problem.starts_with(&format!("a.yaml:22: EndpointSlice httpbin/slice-10-2-0-1: {expected}")),
            "{problem}"
        );
        let snapshot = mesh.snapshot();
        let spanning = seen(&snapshot.services, "httpbin.httpbin.svc.clusterset.local", 8080);
        assert_eq!(spanning, ["no own"], "{labels}");
    }
    let mesh = Mesh::open(&[HERE, &slice(&from("cluster-1"), "10.2.0.1")]);
    assert!(mesh.problems()[0].ends_with("there is no ServiceImport httpbin/httpbin"), "{:?}", mesh.problems());
}
