//! What the documents may say.

use super::*;
use crate::check::{Own, check};
use crate::testing::settings;

fn checked(text: &str) -> String {
    let folder = Folder::new(&[("a.yaml", text)]);
    folder.shown(&check(&folder.resources(), &settings(), None)).join("\n")
}

const GROUPS: [&str; 2] = ["flomesh.io/v1alpha1", "multicluster.flomesh.io/v1alpha1"];

fn document(kind: &str, spec: &str) -> String {
    format!("apiVersion: flomesh.io/v1alpha1\nkind: {kind}\nmetadata: {{name: s, namespace: n}}\nspec:\n{spec}")
}

#[test]
fn what_cannot_be_meant_is_refused_with_line_and_field() {
    let policy = |spec: &str| document("GlobalTrafficPolicy", spec);
    let export = |rest: &str| {
        document("ServiceExport", &format!("  rules:\n  - {{portNumber: 80, path: /a, pathType: Prefix}}\n{rest}"))
    };
    let rule = |rule: &str| document("ServiceExport", &format!("  rules:\n  - {{{rule}}}\n"));
    let import = |endpoint: &str| {
        document("ServiceImport", &format!("  ports:\n  - port: 80\n    endpoints:\n    - {{{endpoint}}}\n"))
    };
    let at = |line: usize, kind: &str, rest: &str| format!("a.yaml:{line}: {kind} n/s: {rest}");
    let gtp = |line, rest: &str| at(line, "GlobalTrafficPolicy", rest);
    let exported = |line, rest: &str| at(line, "ServiceExport", rest);
    let imported = |line, rest: &str| at(line, "ServiceImport", rest);
    for (text, expected) in [
        (policy("  lbType: Failover\n"), gtp(5, "spec.lbType: unknown variant `Failover`, expected one of `Locality`, `FailOver`, `ActiveActive` (did you mean `FailOver`?)")),
        (policy("  lbTyp: FailOver\n"), gtp(5, "spec.lbTyp: unknown field `lbTyp`, expected `lbType` or `targets` (did you mean `lbType`?)")),
        (policy("  lbType: FailOver\n"), gtp(4, "spec.targets: FailOver needs a target: nothing else would be failed over to")),
        (policy("  targets:\n  - clusterKey: a/b/c/d\n  - clusterKey: a/b/c/e\n"), gtp(5, "spec.targets: Locality has at most one target")),
        (policy("  lbType: ActiveActive\n  targets:\n  - clusterKey: a/b/c/d\n    weight: -1\n"), gtp(8, "spec.targets[0].weight: -1 is not 0 to 1000000")),
        (policy("  lbType: ActiveActive\n  targets:\n  - clusterKey: a/b/c/d\n    weight: 1000001\n"), gtp(8, "spec.targets[0].weight: 1000001 is not 0 to 1000000")),
        (policy("  lbType: ActiveActive\n  targets:\n  - clusterKey: a/b/c/d\n    weight: '5'\n"), gtp(8, "spec.targets[0].weight: invalid type: string \"5\", expected i64")),
        (policy("  lbType: FailOver\n  targets:\n  - clusterKey: a/b/c/d\n    priority: -3\n"), gtp(8, "spec.targets[0].priority: -3 is not 0 to 1000000")),
        (policy("  lbType: ActiveActive\n  targets:\n  - clusterKey: cluster-1\n"), gtp(7, "spec.targets[0].clusterKey: `cluster-1`: expected region/zone/group/cluster, each of letters, digits, -, _ and .")),
        (policy("  lbType: ActiveActive\n  targets:\n  - clusterKey: a/b/c/d\n  - clusterKey: a/b/c/d\n"), gtp(8, "spec.targets[1].clusterKey: `a/b/c/d` is there twice")),
        (policy("  lbType: ActiveActive\n  targets:\n"), gtp(6, "spec.targets: has no value: give it one, or remove the field (an empty list is written [], an empty object {})")),
        (export("  targetClusters:\n"), exported(7, "spec.targetClusters: has no value: give it one, or remove the field (an empty list is written [], an empty object {})")),
        (export("  targetClusters: [a/b/c]\n"), exported(7, "spec.targetClusters[0]: `a/b/c`: expected region/zone/group/cluster, each of letters, digits, -, _ and .")),
        (export("  targetCluster: [a/b/c/d]\n"), exported(7, "spec.targetCluster: unknown field `targetCluster`, expected one of `rules`, `pathRewrite`, `sessionSticky`, `loadBalancer`, `targetClusters`, `serviceAccountName` (did you mean `targetClusters`?)")),
        (export("  loadBalancer: LeastWork\n"), exported(7, "spec.loadBalancer: unknown variant `LeastWork`, expected one of `RoundRobinLoadBalancer`, `HashingLoadBalancer`, `LeastWorkLoadBalancer`")),
        (export("  pathRewrite: {from: '(?=a)'}\n"), exported(7, "spec.pathRewrite.from: \"(?=a)\" cannot be read: look-around, including look-ahead and look-behind, is not supported")),
        (export("  pathRewrite: {from: '(\\w{100}){100}'}\n"), exported(7, "spec.pathRewrite.from: \"(\\\\w{100}){100}\" cannot be read: Compiled regex exceeds size limit of 262144 bytes.")),
        (export("  serviceAccountName: a/b\n"), exported(7, "spec.serviceAccountName: \"a/b\" is not the name of a service account, nor `*` for any of its namespace")),
        (document("ServiceExport", "  rules: []\n"), exported(5, "spec.rules: must name at least one port")),
        (rule("portNumber: 80, path: a, pathType: Prefix"), exported(6, "spec.rules[0].path: \"a\" does not begin with /")),
        (rule("portNumber: 80, path: '/a?b', pathType: Prefix"), exported(6, "spec.rules[0].path: \"/a?b\" is not a path: no ?, # or blanks, and all in ASCII")),
        (rule("portNumber: 80, path: /a, pathType: prefix"), exported(6, "spec.rules[0].pathType: unknown variant `prefix`, expected `Exact` or `Prefix` (did you mean `Prefix`?)")),
        (rule("portNumber: 80, path: /a"), exported(6, "spec.rules[0]: missing field `pathType`")),
        (import("clusterKey: a/b/c, target: {host: h, port: 1}"), imported(8, "spec.ports[0].endpoints[0].clusterKey: `a/b/c`: expected region/zone/group/cluster, each of letters, digits, -, _ and .")),
        (import("clusterKey: a/b/c/d, target: {port: 1}"), imported(8, "spec.ports[0].endpoints[0].target.host: is missing, and so is `ip`")),
        (import("clusterKey: a/b/c/d, target: {host: 'h h', port: 1}"), imported(8, "spec.ports[0].endpoints[0].target.host: \"h h\" is neither a DNS name nor an address")),
        (import("clusterKey: a/b/c/d, target: {ip: h, port: 1}"), imported(8, "spec.ports[0].endpoints[0].target.ip: `h` is not an IP address")),
        (import("clusterKey: a/b/c/d, trustDomain: A, target: {host: h, port: 1}"), imported(8, "spec.ports[0].endpoints[0].trustDomain: `A`: 'A' at byte 0 is not allowed in a trust domain (a-z 0-9 . - _)")),
        (document("ServiceImport", "  ports: [{port: 80}, {port: 80}]\n"), imported(5, "spec.ports[1].port: 80 is there twice")),
        (document("ServiceImport", "  type: Headles\n"), imported(5, "spec.type: unknown variant `Headles`, expected `ClusterSetIP` or `Headless` (did you mean `Headless`?)")),
        ("apiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceExport\nmetadata: {name: s, namespace: n}\nspec: {rules: []}\n".to_owned(), exported(4, "spec.rules: unknown field `rules`, expected `exportedLabels` or `exportedAnnotations`")),
        ("apiVersion: flomesh.io/v1alpha1\nkind: Cluster\nmetadata: {name: s}\n".to_owned(), "a.yaml:2: Cluster is not read by this version: it has no effect".to_owned()),
    ] {
        assert_eq!(checked(&text), expected, "{text}");
    }
}

#[test]
fn both_names_of_the_group_are_one() {
    for group in GROUPS {
        let import = IMPORT.replace(GROUPS[0], group);
        let policy = policy("ActiveActive", &[]).replace(GROUPS[0], group);
        let snapshot = Mesh::open(&[HERE, &import, &policy]).snapshot();
        assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL, ONE, THREE], "{group}");
    }
    let twice = joined(&[IMPORT, &IMPORT.replace(GROUPS[0], GROUPS[1])]);
    assert!(checked(&twice).contains("is already defined at"), "{}", checked(&twice));
}

#[test]
fn a_service_says_how_its_endpoints_are_chosen() {
    let with = |annotations: &str, spec: &str| {
        HERE.replace(
            "name: httpbin, namespace: httpbin}",
            &format!("name: httpbin, namespace: httpbin, annotations: {{{annotations}}}}}"),
        )
        .replace("spec: {clusterIP", &format!("spec: {{{spec}clusterIP"))
    };
    let (balancer, hash_on) = ("meshgate.io/load-balancer", "meshgate.io/hash-on");
    for (annotations, spec, expected) in [
        (String::new(), "", Balancer::RoundRobin),
        (String::new(), "sessionAffinity: None, ", Balancer::RoundRobin),
        (String::new(), "sessionAffinity: ClientIP, ", Balancer::RingHash(HashOn::SourceIp)),
        (format!("{balancer}: round-robin"), "sessionAffinity: ClientIP, ", Balancer::RoundRobin),
        (format!("{balancer}: least-request"), "", Balancer::LeastRequest),
        (format!("{balancer}: peak-ewma"), "", Balancer::PeakEwma),
        (format!("{balancer}: ring-hash"), "", Balancer::RingHash(HashOn::SourceIp)),
        (format!("{hash_on}: 'header:X-User'"), "", Balancer::RingHash(HashOn::Header("x-user".into()))),
        (
            format!("{balancer}: ring-hash, {hash_on}: 'cookie:Sid'"),
            "",
            Balancer::RingHash(HashOn::Cookie("Sid".into())),
        ),
    ] {
        let snapshot = Mesh::open(&[&with(&annotations, spec), IMPORT]).snapshot();
        let port = snapshot.services.by_host("httpbin.httpbin", 8080, "curl").unwrap();
        assert_eq!(port.balancer, expected, "{annotations} {spec}");
    }
    let field = |name: &str| format!("a.yaml:3: Service httpbin/httpbin: metadata.annotations[{name}]: ");
    for (annotations, expected) in [
        (
            format!("{balancer}: leastrequest"),
            field(balancer)
                + "`leastrequest` is not one of round-robin, least-request, peak-ewma, ring-hash (did you mean `least-request`?)",
        ),
        (
            format!("{hash_on}: header"),
            field(hash_on) + "`header` is not one of source-ip, header:<name>, cookie:<name>",
        ),
        (
            format!("{hash_on}: 'header:a b'"),
            field(hash_on) + "`header:a b` is not one of source-ip, header:<name>, cookie:<name>",
        ),
        (
            format!("{balancer}: peak-ewma, {hash_on}: source-ip"),
            field(hash_on) + "goes with ring-hash, not with peak-ewma",
        ),
    ] {
        let problems = Mesh::try_open(BOOTSTRAP, &[&with(&annotations, "")]).map(|_| ()).unwrap_err();
        assert_eq!(problems, [expected], "{annotations}");
    }
}

#[test]
fn a_wrong_cluster_in_a_target_is_refused() {
    let text = target("default", "meshgate.io/clusters: 'default/default/default/cluster-2,cluster-3'");
    let problems = Mesh::try_open(BOOTSTRAP, &[&text]).map(|_| ()).unwrap_err();
    let start =
        "a.yaml:3: TrafficTarget httpbin/curl-to-default: metadata.annotations[meshgate.io/clusters]: `cluster-3`: ";
    assert!(problems[0].starts_with(start), "{problems:?}");
}

#[test]
fn what_is_most_likely_not_meant_is_found() {
    let lint = |documents: &[&str]| {
        let folder = Folder::new(&[("a.yaml", &joined(documents))]);
        let own = Own::from(&folder.bootstrap_with(BOOTSTRAP));
        let found = check(&folder.resources(), &settings(), Some(&own));
        let code = |line: String| line.split(": ").nth(2).unwrap_or_default().to_owned();
        folder.shown(&found).into_iter().map(code).collect::<Vec<_>>()
    };
    let export = |rule: &str, account: &str| {
        format!(
            "apiVersion: flomesh.io/v1alpha1\nkind: ServiceExport\nmetadata: {{namespace: httpbin, name: httpbin}}\n\
             spec: {{serviceAccountName: {account}, rules: [{{{rule}}}]}}\n"
        )
    };
    let prefix = "portNumber: 8080, path: /a, pathType: Prefix";
    let none: [&str; 0] = [];
    assert_eq!(lint(&[HERE, IMPORT, &policy("ActiveActive", &["cluster-1", "cluster-2", "cluster-3"])]), none);
    assert_eq!(lint(&[HERE, IMPORT, &policy("ActiveActive", &["cluster-9"])]), ["MG050"]);
    assert_eq!(lint(&[HERE, &policy("ActiveActive", &["cluster-1"])]), none, "its gateway may yet say so");
    assert_eq!(lint(&[&policy("ActiveActive", &["cluster-1"])]), ["MG051"]);
    assert_eq!(lint(&[HERE, IMPORT, &policy("Locality", &["cluster-1"])]), ["MG056"]);
    assert_eq!(lint(&[HERE, IMPORT, &policy("FailOver", &["cluster-1, weight: 5"])]), ["MG058"]);
    assert_eq!(lint(&[HERE, &export(prefix, "default")]), none);
    assert_eq!(lint(&[HERE, &export(prefix, "'*'")]), none);
    assert_eq!(lint(&[HERE, &export(prefix, "httpbin")]), ["MG057"]);
    assert_eq!(lint(&[HERE, &export("portNumber: 8080, path: /a, pathType: Exact", "default")]), ["MG054"]);
    assert_eq!(lint(&[&export(prefix, "default")]), ["MG052"]);
    assert_eq!(lint(&[HERE, &IMPORT.replace("  serviceAccountName: httpbin\n", "")]), ["MG055"]);
    // What is imported may be a target's destination.
    let targets = [HERE, IMPORT, ROUTES_AND_MODE, &target("httpbin", "")];
    assert_eq!(lint(&targets), none, "and so no MG023");
}

/// One line of a document each, with a mark where values go.
const FIELDS: [&str; 4] = [
    "apiVersion: flomesh.io/v1alpha1
kind: ServiceExport
metadata: {namespace: httpbin, name: httpbin}
spec:
  serviceAccountName: @
  rules: @
  rules: [@]
  rules: [{portNumber: @, path: /a, pathType: Prefix}]
  rules: [{portNumber: 8080, path: @, pathType: Prefix}]
  rules: [{portNumber: 8080, path: /a, pathType: @}]
  pathRewrite: @
  pathRewrite: {from: @}
  pathRewrite: {from: /a, to: @}
  sessionSticky: @
  loadBalancer: @
  targetClusters: @
  targetClusters: [@]
  rules: [{portNumber: 8080, path: /a, pathType: Prefix}]
",
    "apiVersion: flomesh.io/v1alpha1
kind: ServiceImport
metadata: {namespace: httpbin, name: httpbin}
spec:
  type: @
  ips: @
  ips: [@]
  sessionAffinity: @
  sessionAffinityConfig: @
  serviceAccountName: @
  ports: @
  ports: [@]
  ports: [{port: @}]
  ports: [{port: 80, protocol: @}]
  ports: [{port: 80, name: @}]
  ports: [{port: 80, appProtocol: @}]
  ports: [{port: 80, endpoints: @}]
  ports: [{port: 80, endpoints: [{clusterKey: @, target: {host: a, port: 1}}]}]
  ports: [{port: 80, endpoints: [{clusterKey: a/b/c/d, target: @}]}]
  ports: [{port: 80, endpoints: [{clusterKey: a/b/c/d, target: {host: @, port: 1}}]}]
  ports: [{port: 80, endpoints: [{clusterKey: a/b/c/d, target: {host: a, ip: @, port: 1}}]}]
  ports: [{port: 80, endpoints: [{clusterKey: a/b/c/d, target: {host: a, port: @}}]}]
  ports: [{port: 80, endpoints: [{clusterKey: a/b/c/d, serviceAccountName: @, target: {host: a, port: 1}}]}]
  ports: [{port: 80, endpoints: [{clusterKey: a/b/c/d, trustDomain: @, target: {host: a, port: 1}}]}]
",
    "apiVersion: flomesh.io/v1alpha1
kind: GlobalTrafficPolicy
metadata: {namespace: httpbin, name: httpbin}
spec:
  lbType: @
  targets: @
  targets: [@]
  targets: [{clusterKey: @}]
  targets: [{clusterKey: a/b/c/d, weight: @}]
  targets: [{clusterKey: a/b/c/d, priority: @}]
",
    "apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {namespace: httpbin, name: httpbin}
spec:
  type: @
  ips: @
  ports: @
  ports: [{port: @}]
  ports: [{port: 80, name: @}]
  sessionAffinity: @
",
];

const VALUES: [&str; 11] = [
    "null",
    "-1",
    "65536",
    "1e308",
    "99999999999999999999999999",
    "true",
    "[[[[]]]]",
    "{a: {b: c}}",
    "''",
    "\"a\\n\\u001b[2J\"",
    "'a/b/c/d/e'",
];

#[test]
fn whatever_stands_in_a_field_is_taken_or_refused_at_its_place() {
    let mut refused = 0;
    for document in FIELDS {
        let (frame, lines): (Vec<_>, Vec<_>) = document.lines().partition(|line| !line.contains('@'));
        let (head, tail) = frame.split_at(4);
        for (line, value) in lines.iter().flat_map(|line| VALUES.iter().map(move |value| (line, value))) {
            let written = line.replace('@', value);
            let field = line.trim_start().split(':').next().unwrap();
            let rest = tail.iter().filter(|other| !other.trim_start().starts_with(field));
            let text: String = head.iter().chain([&&*written]).chain(rest).map(|line| format!("{line}\n")).collect();
            let mesh = Mesh::open(&[HERE]);
            mesh.folder.write("b.yaml", &text);
            mesh.store.reload();
            for problem in mesh.problems() {
                assert!(problem.starts_with("b.yaml:"), "{text}{problem}");
                assert!(!problem.contains(char::is_control), "{text}{problem:?}");
                refused += 1;
            }
            assert_eq!(seen(&mesh.snapshot().services, "httpbin.httpbin", 8080)[..2], ["own 100@0", LOCAL], "{text}");
        }
    }
    assert!(refused > 300, "{refused}");
}
