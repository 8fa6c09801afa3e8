//! What policies make of imports.

use super::*;

fn expected(own: &str, endpoints: &[&str]) -> Vec<String> {
    std::iter::once(own).chain(endpoints.iter().copied()).map(str::to_owned).collect()
}

#[test]
fn each_policy_spreads_as_it_says() {
    let one = |share: &str| ONE.replace("100@0", share);
    let three = |share: &str| THREE.replace("100@0", share);
    let all = || expected("own 100@0", &[LOCAL, ONE, THREE]);
    let local = || expected("own 100@0", &[LOCAL]);
    let two = || expected("own 100@0", &[LOCAL, THREE]);
    // Under plain names; under the clusterset's where that differs.
    let rows: Vec<(String, Vec<String>, Option<Vec<String>>)> = vec![
        // S1
        (String::new(), local(), Some(expected("no own", &[ONE, THREE]))),
        (policy("Locality", &[]), local(), Some(all())),
        (policy("Locality", &["cluster-1"]), local(), Some(all())),
        // S2
        (policy("ActiveActive", &["cluster-1", "cluster-3"]), all(), None),
        (policy("ActiveActive", &[]), all(), None),
        (policy("ActiveActive", &["cluster-3"]), two(), None),
        // Nothing is imported from there.
        (policy("ActiveActive", &["cluster-3", "cluster-9"]), two(), None),
        // X14
        (
            policy("ActiveActive", &["cluster-1, weight: 20", "cluster-3, weight: 60"]),
            expected("own 100@0", &[LOCAL, &one("20@0"), &three("60@0")]),
            None,
        ),
        (policy("ActiveActive", &["cluster-1, weight: 0", "cluster-3"]), two(), None),
        // This cluster as a target.
        (
            policy("ActiveActive", &["cluster-2, weight: 10", "cluster-1, weight: 30"]),
            expected("own 10@0", &[LOCAL, &one("30@0")]),
            None,
        ),
        (policy("ActiveActive", &["cluster-2, weight: 0", "cluster-1"]), expected("no own", &[ONE]), None),
        (
            policy("ActiveActive", &["cluster-1, priority: 1", "cluster-3, weight: 5, priority: 2"]),
            expected("own 100@0", &[LOCAL, &one("100@1"), &three("5@2")]),
            None,
        ),
        // X12: weights are not looked at, but for 0.
        (
            policy("FailOver", &["cluster-1, weight: 7", "cluster-3, priority: 1"]),
            expected("own 100@0 fail over", &[LOCAL, &one("100@1"), &three("100@2")]),
            None,
        ),
        (
            policy("FailOver", &["cluster-3", "cluster-2, priority: 4", "cluster-1, weight: 0"]),
            expected("own 100@5 fail over", &[LOCAL, &three("100@1")]),
            None,
        ),
    ];
    for (policy, plain, spanning) in rows {
        let mesh = if policy.is_empty() { Mesh::open(&[HERE, IMPORT]) } else { Mesh::open(&[HERE, IMPORT, &policy]) };
        let snapshot = mesh.snapshot();
        for host in ["httpbin.httpbin", "httpbin.httpbin.svc.cluster.local"] {
            assert_eq!(seen(&snapshot.services, host, 8080), plain, "{host} {policy}");
        }
        let spanning = spanning.as_ref().unwrap_or(&plain);
        for host in ["httpbin.httpbin.svc.clusterset.local", "Httpbin.httpbin.svc.clusterset.local."] {
            assert_eq!(seen(&snapshot.services, host, 8080), *spanning, "{host} {policy}");
        }
        assert_eq!(mesh.problems(), [""; 0], "{policy}");
    }
}

#[test]
fn an_endpoint_left_out_of_the_spread_is_still_known_by_its_address() {
    let mesh = Mesh::open(&[HERE, IMPORT, &policy("ActiveActive", &["cluster-2, weight: 0", "cluster-1"])]);
    let snapshot = mesh.snapshot();
    let (port, endpoint) = snapshot.services.endpoint("10.1.0.1:8080".parse().unwrap()).unwrap();
    assert_eq!((port.not_ready, way(&endpoint).as_str()), (0, LOCAL));
    let gateway: SocketAddr = "192.168.1.110:81".parse().unwrap();
    assert!(snapshot.services.endpoint(gateway).is_none(), "who dials a gateway means the gateway");
    assert!(!snapshot.services.knows(gateway.ip()));
}

#[test]
fn what_is_behind_a_gateway_says_how_it_is_reached() {
    let snapshot = Mesh::open(&[HERE, IMPORT, &policy("ActiveActive", &[])]).snapshot();
    let port = snapshot.services.by_host("httpbin.httpbin", 8080, "curl").unwrap();
    let spanning = snapshot.services.by_host("httpbin.httpbin.svc.clusterset.local", 8080, "curl").unwrap();
    let remotes: Vec<_> = port.endpoints.iter().filter_map(|endpoint| endpoint.remote.as_ref()).collect();
    let gateways: Vec<_> = remotes.iter().map(|remote| remote.gateway.as_ref().unwrap()).collect();
    assert_eq!(&*remotes[0].authority, "httpbin.httpbin.svc.clusterset.local:8080");
    assert!(Arc::ptr_eq(&port.endpoints[1], &spanning.endpoints[1]), "one endpoint under both names");
    assert_eq!(gateways[0].identity.principal(), "cluster.local/ns/meshgate-system/sa/meshgate-gateway");
    assert_eq!(gateways[1].identity.principal(), "three.local/ns/meshgate-system/sa/meshgate-gateway");
    assert_eq!((gateways[0].to_string(), gateways[1].port), (format!("{} (192.168.1.110:81)", key("cluster-1")), 83));
    assert!(spanning.is_clusterset() && !port.is_clusterset());
    assert_eq!(spanning.host, "httpbin.httpbin.svc.clusterset.local");
}

#[test]
fn gateways_on_one_port_and_several_of_one_cluster_are_told_apart() {
    // X15
    let one_port = IMPORT.replace("ip: 192.168.1.110, port: 83", "ip: 192.168.1.111, port: 81");
    let snapshot = Mesh::open(&[HERE, &one_port, &policy("ActiveActive", &[])]).snapshot();
    let three = "cluster-3 192.168.1.111:81 100@0 three.local/ns/httpbin/sa/httpbin";
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL, ONE, three]);
    // By name, and twice the same.
    let named = "    - clusterKey: default/default/default/cluster-1
      target: {host: gateway.one.example, port: 15443}
";
    let import = format!("{IMPORT}{named}{named}");
    let snapshot = Mesh::open(&[HERE, &import, &policy("ActiveActive", &["cluster-1"])]).snapshot();
    let other = "cluster-1 0.0.0.0:15443 100@0 cluster.local/ns/httpbin/sa/httpbin";
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL, ONE, other]);
    let port = snapshot.services.by_host("httpbin.httpbin", 8080, "curl").unwrap();
    let gateway = port.endpoints[2].remote.as_ref().unwrap().gateway.clone().unwrap();
    assert_eq!((&*gateway.host, gateway.ip), ("gateway.one.example", None));
}

#[test]
fn the_account_of_each_endpoint_decides() {
    // X16
    let of_three = "      target: {host: 192.168.1.110, ip: 192.168.1.110, port: 83";
    let import = IMPORT
        .replace(of_three, &format!("      serviceAccountName: other\n      trustDomain: cluster.local\n{of_three}"));
    let three = "cluster-3 192.168.1.110:83 100@0 cluster.local/ns/httpbin/sa/other";
    let out = |of: &str| format!("{of} out of reach");
    for (targets, expected) in [
        (vec![], [out(LOCAL), out(ONE), out(three)]),
        (vec![target("default", "")], [LOCAL.to_owned(), out(ONE), out(three)]),
        (vec![target("httpbin", "")], [out(LOCAL), ONE.to_owned(), out(three)]),
        (vec![target("other", "")], [out(LOCAL), out(ONE), three.to_owned()]),
        (vec![target("httpbin", ""), target("other", "")], [out(LOCAL), ONE.to_owned(), three.to_owned()]),
    ] {
        let spread = policy("ActiveActive", &[]);
        let mut documents = vec![HERE, &import, &spread, ROUTES_AND_MODE];
        documents.extend(targets.iter().map(String::as_str));
        let snapshot = Mesh::open(&documents).snapshot();
        assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080)[1..], expected, "{targets:?}");
    }
}

#[test]
fn an_account_of_a_target_is_one_of_our_trust_domain_or_its_aliases() {
    let any = |text: &str| text.replace("sa/httpbin", "sa/*");
    let documents = |import: &str| joined(&[HERE, import, &policy("ActiveActive", &[])]);
    for (aliases, account, one, three) in [
        ("", "httpbin", ONE.to_owned(), format!("{THREE} out of reach")),
        ("", "'*'", any(ONE), format!("{} out of reach", any(THREE))),
        ("three.local", "httpbin", ONE.to_owned(), THREE.to_owned()),
        ("three.local", "'*'", any(ONE), any(THREE)),
    ] {
        let bootstrap = format!("{BOOTSTRAP}trustDomainAliases: [{aliases}]\n");
        let import = IMPORT.replace("serviceAccountName: httpbin", &format!("serviceAccountName: {account}"));
        let text = documents(&import);
        let restricted = format!("meshgate.io/clusters: '{}, {}'", key("cluster-1"), key("cluster-3"));
        for target in [target("httpbin", ""), target("httpbin", &restricted)] {
            let snapshot = Mesh::try_open(&bootstrap, &[&text, ROUTES_AND_MODE, &target]).unwrap().snapshot();
            let found = seen(&snapshot.services, "httpbin.httpbin", 8080);
            assert_eq!(found[2..], [one.clone(), three.clone()], "{aliases} {account}");
        }
        let snapshot = Mesh::try_open(&bootstrap, &[&text]).unwrap().snapshot();
        let found = seen(&snapshot.services, "httpbin.httpbin", 8080);
        assert!(found.iter().all(|endpoint| !endpoint.contains("out of reach")), "permissive: {found:?}");
    }
}

#[test]
fn a_target_may_be_restricted_to_clusters_on_both_sides() {
    let import = IMPORT
        .replace("serviceAccountName: httpbin", "serviceAccountName: default")
        .replace("cluster-3\n", "cluster-3\n      trustDomain: cluster.local\n");
    let (one, three) = (ONE.replace("sa/httpbin", "sa/default"), THREE.replace("sa/httpbin", "sa/default"));
    let three = three.replace("three.local", "cluster.local");
    let out = |of: &str| format!("{of} out of reach");
    let of = |name: &str| format!("default/default/default/cluster-{name}");
    for (clusters, expected, policies) in [
        (String::new(), [LOCAL.to_owned(), one.clone(), three.clone()], 1),
        (of("1"), [out(LOCAL), one.clone(), out(&three)], 0),
        (format!("{}, {}", of("2"), of("3")), [LOCAL.to_owned(), out(&one), three.clone()], 1),
    ] {
        let annotation =
            if clusters.is_empty() { String::new() } else { format!("meshgate.io/clusters: '{clusters}'") };
        let documents = [HERE, &import, &policy("ActiveActive", &[]), ROUTES_AND_MODE, &target("default", &annotation)];
        let snapshot = Mesh::open(&documents).snapshot();
        assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080)[1..], expected, "{clusters}");
        assert_eq!(snapshot.policies.len(), policies, "{clusters}");
    }
}

#[test]
fn any_account_of_a_namespace_is_in_reach_when_one_is() {
    let import = IMPORT.replace("serviceAccountName: httpbin", "serviceAccountName: '*'");
    let any = "cluster-1 192.168.1.110:81 100@0 cluster.local/ns/httpbin/sa/*";
    let spread = policy("ActiveActive", &["cluster-1"]);
    let snapshot = Mesh::open(&[HERE, &import, &spread, ROUTES_AND_MODE, &target("some", "")]).snapshot();
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080)[2], any);
    let snapshot = Mesh::open(&[HERE, &import, &spread, ROUTES_AND_MODE]).snapshot();
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080)[2], format!("{any} out of reach"));
}

#[test]
fn without_an_account_endpoints_elsewhere_are_not_used() {
    let import = IMPORT.replace("  serviceAccountName: httpbin\n", "");
    let mesh = Mesh::open(&[HERE, &import, &policy("ActiveActive", &["cluster-1"])]);
    let unknown = "cluster-1 192.168.1.110:81 100@0 unknown";
    assert_eq!(seen(&mesh.snapshot().services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL, unknown]);
    let start = "a.yaml:12: ServiceImport httpbin/httpbin: MG055: nothing says which service account runs it in \
                 default/default/default/cluster-1";
    assert!(mesh.problems()[0].starts_with(start), "{:?}", mesh.problems());
}

#[test]
fn an_import_without_a_service_here_is_a_service_without_endpoints_here() {
    // X13
    let more = "  type: ClusterSetIP\n  ips: [10.96.0.77]\n  sessionAffinity: ClientIP\n";
    let import = IMPORT.replace("  type: ClusterSetIP\n", more);
    let snapshot = Mesh::open(&[&import]).snapshot();
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080), ["own 100@0"]);
    let by_address = snapshot.services.by_address("10.96.0.77:8080".parse().unwrap()).unwrap();
    assert_eq!(by_address.host, "httpbin.httpbin.svc.cluster.local");
    assert_eq!(by_address.balancer, Balancer::RingHash(HashOn::SourceIp));
    let spanning = seen(&snapshot.services, "httpbin.httpbin.svc.clusterset.local", 8080);
    assert_eq!(spanning, ["no own", ONE, THREE]);
    let snapshot = Mesh::open(&[&import, &policy("ActiveActive", &["cluster-3"])]).snapshot();
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080), ["own 100@0", THREE]);
}

#[test]
fn an_import_takes_neither_addresses_nor_ports_of_a_service_here() {
    let import = IMPORT
        .replace("name: httpbin}", "name: aaa}")
        .replace("  type: ClusterSetIP\n", "  type: ClusterSetIP\n  ips: [10.96.0.10]\n");
    let mesh = Mesh::open(&[HERE, &import]);
    let found = mesh.snapshot().services.by_address("10.96.0.10:8080".parse().unwrap()).unwrap();
    assert_eq!(found.service.name, "httpbin");
    let taken = "10.96.0.10:8080 is already the address of Service httpbin/httpbin";
    assert_eq!(mesh.problems(), [format!("a.yaml:12: ServiceImport httpbin/aaa: {taken}")]);
    let other_port = IMPORT.replace("port: 8080\n", "port: 9090\n");
    let snapshot = Mesh::open(&[HERE, &other_port, &policy("ActiveActive", &[])]).snapshot();
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL]);
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 9090), ["no such service"]);
    assert_eq!(seen(&snapshot.services, "httpbin.httpbin.svc.clusterset.local", 9090).len(), 3);
}

#[test]
fn an_import_takes_nothing_at_addresses_of_services_and_workloads_here() {
    let import = |ips: &str| {
        IMPORT
            .replace("name: httpbin}", "name: aaa}")
            .replace("port: 8080\n", "port: 9090\n")
            .replace("  type: ClusterSetIP\n", &format!("  type: ClusterSetIP\n  ips: [{ips}]\n"))
    };
    for ip in ["10.96.0.10", "10.1.0.1"] {
        let mesh = Mesh::open(&[HERE, &import(&format!("{ip}, 10.96.0.99"))]);
        let services = &mesh.snapshot().services;
        let at = |ip: &str| services.by_address(SocketAddr::new(ip.parse().unwrap(), 9090));
        assert!(at(ip).is_none(), "{ip}");
        assert_eq!(at("10.96.0.99").unwrap().service.name, "aaa");
        let taken = format!("{ip}:9090 is already the address of Service httpbin/httpbin");
        assert_eq!(mesh.problems(), [format!("a.yaml:12: ServiceImport httpbin/aaa: {taken}")]);
    }
}

#[test]
fn a_policy_that_went_and_came_back_broken_is_not_the_one_that_was() {
    let mesh = Mesh::open(&[HERE, IMPORT, &policy("ActiveActive", &[])]);
    let now = |documents: &[&str]| {
        mesh.folder.write("a.yaml", &joined(documents));
        mesh.store.reload();
        (seen(&mesh.snapshot().services, "httpbin.httpbin", 8080), mesh.problems())
    };
    let local = ["own 100@0", LOCAL].map(str::to_owned).to_vec();
    let all = ["own 100@0", LOCAL, ONE, THREE].map(str::to_owned).to_vec();
    assert_eq!(now(&[HERE, IMPORT]), (local.clone(), vec![]));
    let (found, problems) = now(&[HERE, IMPORT, &policy("activeactive", &[])]);
    assert_eq!((found, problems.len()), (local, 1), "{problems:?}");
    assert_eq!(now(&[HERE, IMPORT, &policy("ActiveActive", &[])]).0, all);
    assert_eq!(now(&[HERE, IMPORT, &policy("activeactive", &[])]).0, all, "broken, not gone");
}

#[test]
fn a_policy_that_leaves_nobody_is_taken_at_its_word() {
    let none = ["cluster-1, weight: 0", "cluster-2, weight: 0", "cluster-3, weight: 0"];
    for (mode, targets, expected) in [
        ("ActiveActive", &none[..], &["no own"][..]),
        ("FailOver", &none[..], &["no own fail over"][..]),
        ("ActiveActive", &none[1..2], &["no own"][..]),
        ("FailOver", &["cluster-2"][..], &["own 100@0 fail over", LOCAL][..]),
        ("Locality", &none[1..2], &["own 100@0", LOCAL][..]),
    ] {
        let snapshot = Mesh::open(&[HERE, IMPORT, &policy(mode, targets)]).snapshot();
        assert_eq!(seen(&snapshot.services, "httpbin.httpbin", 8080), expected, "{mode} {targets:?}");
    }
}

#[test]
fn a_bad_policy_leaves_the_last_good_one_in_force() {
    // X19
    let mesh = Mesh::open(&[HERE, IMPORT, &policy("ActiveActive", &[])]);
    mesh.folder.write("a.yaml", &joined(&[HERE, IMPORT, &policy("activeactive", &[])]));
    let report = mesh.store.reload();
    let found = mesh.folder.shown(&report.problems);
    let message = "spec.lbType: unknown variant `activeactive`, expected one of `Locality`, `FailOver`, `ActiveActive` \
                   (did you mean `ActiveActive`?)";
    assert_eq!(found, [format!("a.yaml:30: GlobalTrafficPolicy httpbin/httpbin: {message}")]);
    assert_eq!(seen(&mesh.snapshot().services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL, ONE, THREE]);
}
