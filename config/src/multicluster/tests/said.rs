//! What gateways say.

use super::*;
use meshgate_policy::ObjectName;

fn exported(namespace: &str, name: &str, account: &str, ports: &[u16]) -> DiscoveredExport {
    let port = |number: &u16| DiscoveredPort { number: *number, name: Some("http".to_owned()), app_protocol: None };
    DiscoveredExport {
        service: ObjectName { namespace: namespace.into(), name: name.into() },
        service_account: account.to_owned(),
        ports: ports.iter().map(port).collect(),
    }
}

fn says(mesh: &Mesh, cluster: &str, trust_domain: &str, exports: Vec<DiscoveredExport>) -> Vec<String> {
    mesh.store.discovered(&key(cluster), Discovered { trust_domain: trust_domain.parse().unwrap(), exports });
    mesh.problems()
}

const SPANNING: &str = "httpbin.httpbin.svc.clusterset.local";

#[test]
fn it_is_as_good_as_an_import_and_wins_for_its_own_cluster() {
    let mesh = Mesh::open(&[HERE, IMPORT, &policy("ActiveActive", &[])]);
    let problems =
        says(&mesh, "cluster-3", "three.local", vec![exported("httpbin", "httpbin", "newer", &[8080, 9090])]);
    assert_eq!(problems, [""; 0]);
    let three = "cluster-3 0.0.0.0:15443 100@0 three.local/ns/httpbin/sa/newer";
    assert_eq!(seen(&mesh.snapshot().services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL, ONE, three]);
    assert_eq!(seen(&mesh.snapshot().services, SPANNING, 9090), ["no own", three]);
    assert_eq!(
        seen(&mesh.snapshot().services, "httpbin.httpbin", 9090),
        ["no such service"],
        "a Service here has its own ports"
    );
    // Taken back: the import is what is left.
    assert_eq!(says(&mesh, "cluster-3", "three.local", Vec::new()), [""; 0]);
    assert_eq!(seen(&mesh.snapshot().services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL, ONE, THREE]);
    // And stays over a reload.
    says(&mesh, "cluster-3", "three.local", vec![exported("httpbin", "httpbin", "newer", &[8080])]);
    mesh.folder.write("a.yaml", &joined(&[HERE, IMPORT, &policy("ActiveActive", &["cluster-3"])]));
    mesh.store.reload();
    assert_eq!(seen(&mesh.snapshot().services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL, three]);
}

#[test]
fn it_cannot_make_anybody_of_an_account_that_is_written_down_here() {
    let anybody = || vec![exported("httpbin", "httpbin", "*", &[8080, 9090])];
    let three = |account: &str| format!("cluster-3 0.0.0.0:15443 100@0 three.local/ns/httpbin/sa/{account}");
    let spread = policy("ActiveActive", &["cluster-3"]);
    for (import, account) in
        [(IMPORT, "httpbin"), (&IMPORT.replace("serviceAccountName: httpbin", "serviceAccountName: '*'"), "*")]
    {
        let mesh = Mesh::open(&[HERE, import, &spread]);
        assert_eq!(says(&mesh, "cluster-3", "three.local", anybody()), [""; 0]);
        let services = &mesh.snapshot().services;
        assert_eq!(seen(services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL, &three(account)]);
        assert_eq!(seen(services, SPANNING, 9090), ["no own", &three(account)], "a port that no document has");
    }
    let mesh = Mesh::open(&[HERE, &spread]);
    says(&mesh, "cluster-3", "three.local", anybody());
    assert_eq!(seen(&mesh.snapshot().services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL, &three("*")]);
}

#[test]
fn without_an_import_it_has_plain_names_only_where_a_policy_gives_it_some() {
    let export = || vec![exported("httpbin", "httpbin", "httpbin", &[8080]), exported("com", "example", "x", &[80])];
    let mesh = Mesh::open(&[&policy("ActiveActive", &[])]);
    assert_eq!(says(&mesh, "cluster-1", "cluster.local", export()), [""; 0]);
    assert_eq!(seen(&mesh.snapshot().services, "httpbin.httpbin", 8080), ["own 100@0", ONE]);
    assert_eq!(
        seen(&mesh.snapshot().services, SPANNING, 8080),
        ["own 100@0", ONE].map(|one| one.replace("own 100@0", "no own"))
    );
    assert!(!mesh.snapshot().services.host_known("example.com", "curl"), "no host outside is taken");
    assert!(mesh.snapshot().services.host_known("example.com.svc.clusterset.local", "curl"));
}

#[test]
fn a_gateway_speaks_for_its_own_cluster_only() {
    let mesh = Mesh::open(&[HERE]);
    let export = || vec![exported("httpbin", "httpbin", "httpbin", &[8080])];
    let not_used =
        |cluster: &str, why: &str| [format!("gateway of {}: what it exports is not used: {why}", key(cluster))];
    for (cluster, trust_domain, why) in [
        ("cluster-9", "cluster.local", "the bootstrap has no gateway for this cluster"),
        ("cluster-2", "cluster.local", "it speaks for this cluster"),
        (
            "cluster-1",
            "three.local",
            "it says that its trust domain is three.local, and the bootstrap that it is cluster.local",
        ),
    ] {
        let mesh = Mesh::open(&[HERE]);
        assert_eq!(says(&mesh, cluster, trust_domain, export()), not_used(cluster, why));
        assert_eq!(seen(&mesh.snapshot().services, SPANNING, 8080), ["no such service"], "{cluster}");
    }
    assert_eq!(says(&mesh, "cluster-1", "cluster.local", export()), [""; 0]);
    assert_eq!(seen(&mesh.snapshot().services, SPANNING, 8080), ["no own", ONE]);
    assert_eq!(seen(&mesh.snapshot().services, "httpbin.httpbin", 8080), ["own 100@0", LOCAL]);
}

#[test]
fn what_cannot_be_is_refused_piece_by_piece() {
    let mesh = Mesh::open(&[HERE]);
    let long = "x".repeat(64);
    let mut exports = vec![
        exported("httpbin", "Bad_name", "a", &[80]),
        exported("kube.system", "a", "a", &[80]),
        exported("", "a", "a", &[80]),
        exported("n", &long, "a", &[80]),
        exported("n", "a\n\u{1b}[2J", "a", &[80]),
        exported("n", "a", "", &[80]),
        exported("n", "b", "a/b", &[80]),
        exported("n", "c", "a", &[0]),
        exported("n", "d", "a", &[]),
        exported("n", "e", "a", &vec![1; 101]),
        exported("httpbin", "httpbin", "httpbin", &[8080]),
        exported("httpbin", "httpbin", "other", &[8080]),
    ];
    exports[7].ports[0].name = Some(long);
    let [problem] = says(&mesh, "cluster-1", "cluster.local", exports).try_into().unwrap();
    assert_eq!(
        problem,
        "gateway of default/default/default/cluster-1: 11 exported service(s) are not used: \"httpbin/Bad_name\" cannot be the name of a \
         service; \"kube.system/a\" cannot be the name of a service; \"/a\" cannot be the name of a service"
    );
    assert_eq!(seen(&mesh.snapshot().services, SPANNING, 8080), ["no own", ONE]);
    let many = (0..100_000).map(|number| exported("n", &format!("s{number}"), "a", &[80])).collect();
    let [problem] = says(&mesh, "cluster-1", "cluster.local", many).try_into().unwrap();
    assert!(problem.ends_with("it exports 90000 more than 10000 services: those are not used"), "{problem}");
    assert!(mesh.snapshot().services.host_known("s9999.n.svc.clusterset.local", "curl"));
    assert!(!mesh.snapshot().services.host_known("s10000.n.svc.clusterset.local", "curl"));
}
