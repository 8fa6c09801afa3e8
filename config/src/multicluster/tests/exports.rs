//! Which exports are in force.

use super::*;

fn export(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: flomesh.io/v1alpha1\nkind: ServiceExport\nmetadata: {{namespace: httpbin, name: {name}}}\nspec: {{{spec}}}\n"
    )
}

const SECOND: &str = "\
apiVersion: v1
kind: Service
metadata: {name: httpbin-cluster-2, namespace: httpbin}
spec: {selector: {app: httpbin}, ports: [{name: http, port: 8080}, {name: tcp-raw, port: 9000}]}
";

/// `name account [port path(=)]` of each.
fn listed(snapshot: &Snapshot) -> Vec<String> {
    let port = |exported: &crate::ExportedPort| {
        let exact = if exported.exact { "=" } else { "" };
        format!("{}:{exact}{}", exported.port.port, exported.path)
    };
    let one = |export: &Arc<crate::Export>| {
        let ports: Vec<_> = export.ports.iter().map(port).collect();
        format!("{} {:?} {}", export.service, export.service_account, ports.join(" "))
    };
    snapshot.exports.iter().map(one).collect()
}

#[test]
fn exports_are_those_of_services_that_are_there() {
    let rule = "portNumber: 8080, path: /cluster-2/httpbin-mesh, pathType: Prefix";
    let full = format!(
        "serviceAccountName: default, rules: [{{{rule}}}], targetClusters: [default/default/default/cluster-1], \
         sessionSticky: true, loadBalancer: LeastWorkLoadBalancer, pathRewrite: {{from: '^/cluster-2/httpbin-mesh/?', to: /}}"
    );
    let second = "rules: [{portNumber: 9000, path: /cluster-2/httpbin-mesh-cluster-2/, pathType: Exact}, \
                  {portNumber: 7, path: /seven, pathType: Prefix}]";
    let mesh = Mesh::open(&[
        HERE,
        SECOND,
        IMPORT,
        &policy("ActiveActive", &[]),
        &export("httpbin-cluster-2", second),
        &export("httpbin", &full),
        &export("nobody", &format!("rules: [{{{rule}}}]")),
    ]);
    let snapshot = mesh.snapshot();
    assert_eq!(
        listed(&snapshot),
        [
            "httpbin/httpbin \"default\" 8080:/cluster-2/httpbin-mesh",
            "httpbin/httpbin-cluster-2 \"\" 9000:=/cluster-2/httpbin-mesh-cluster-2",
        ]
    );
    assert_eq!(
        mesh.problems(),
        [
            "a.yaml:37: ServiceExport httpbin/httpbin-cluster-2: MG052: rules[1]: Service httpbin/httpbin-cluster-2 has no TCP port 7: it \
             is not exported",
            "a.yaml:47: ServiceExport httpbin/nobody: MG052: there is no Service httpbin/nobody that could be exported: nothing is",
        ]
    );
    let name = |name: &str| meshgate_policy::ObjectName { namespace: "httpbin".into(), name: name.into() };
    let (found, port) = snapshot.exports.find(&name("httpbin"), 8080).unwrap();
    assert_eq!((found.session_sticky, &found.balancer), (true, &Balancer::LeastRequest));
    assert_eq!(found.target_clusters, [key("cluster-1")]);
    let rewrite = found.path_rewrite.as_ref().unwrap();
    assert_eq!(rewrite.from.replace("/cluster-2/httpbin-mesh/get", &rewrite.to), "/get");
    assert_eq!(shown(&port.port), ["own 100@0", LOCAL], "what is imported is not exported");
    assert!(snapshot.exports.find(&name("httpbin"), 9000).is_none());
    assert!(snapshot.exports.find(&name("nobody"), 8080).is_none());
    // Exported, it takes part in the clusterset's name.
    let spanning = seen(&snapshot.services, "httpbin-cluster-2.httpbin.svc.clusterset.local", 9000);
    assert_eq!(spanning, ["own 100@0", "10.1.0.1:9000 cluster.local/ns/httpbin/sa/default"]);
    assert_eq!(seen(&snapshot.services, "httpbin-cluster-2.httpbin.svc.clusterset.local", 8080), ["no such service"]);
}

#[test]
fn of_two_exports_with_one_path_the_later_by_name_is_refused() {
    let prefix = "portNumber: 8080, path: /a, pathType: Prefix";
    let mesh = Mesh::open(&[
        HERE,
        SECOND,
        &export(
            "httpbin-cluster-2",
            &format!("rules: [{{{prefix}}}, {{portNumber: 9000, path: /a, pathType: Exact}}]"),
        ),
        &export("httpbin", &format!("rules: [{{{prefix}}}, {{portNumber: 8080, path: /a/, pathType: Prefix}}]")),
    ]);
    let snapshot = mesh.snapshot();
    assert_eq!(listed(&snapshot), ["httpbin/httpbin \"\" 8080:/a", "httpbin/httpbin-cluster-2 \"\" 9000:=/a"]);
    assert_eq!(
        mesh.problems(),
        [
            "a.yaml:17: ServiceExport httpbin/httpbin-cluster-2: MG053: rules[0]: the path /a is already that of httpbin/httpbin: the \
             rule is refused",
            "a.yaml:22: ServiceExport httpbin/httpbin: MG053: rules[1]: the path /a is already that of httpbin/httpbin: the rule is \
             refused",
        ]
    );
}

#[test]
fn an_alias_is_not_exported() {
    let alias = "apiVersion: v1\nkind: Service\nmetadata: {name: alias, namespace: httpbin}\nspec: {type: ExternalName, ports: [{port: 80}]}\n";
    let mesh = Mesh::open(&[alias, &export("alias", "rules: [{portNumber: 80, path: /a, pathType: Prefix}]")]);
    assert_eq!(listed(&mesh.snapshot()), [""; 0]);
    assert!(mesh.problems()[1].contains("MG052: there is no Service httpbin/alias"), "{:?}", mesh.problems());
}

#[test]
fn the_mcs_api_exports_every_port_under_a_path_of_its_own() {
    let export = |annotations: &str| {
        format!(
            "apiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceExport\n\
             metadata: {{name: httpbin-cluster-2, namespace: httpbin, annotations: {{{annotations}}}}}\n"
        )
    };
    let ports = "8080:/cluster-2/httpbin/httpbin-cluster-2/8080 9000:/cluster-2/httpbin/httpbin-cluster-2/9000";
    for (annotations, account) in [("", "default"), ("meshgate.io/service-account: '*'", "*")] {
        let mesh = Mesh::open(&[HERE, SECOND, &export(annotations)]);
        assert_eq!(listed(&mesh.snapshot()), [format!("httpbin/httpbin-cluster-2 {account:?} {ports}")]);
        assert_eq!(mesh.problems(), [""; 0]);
    }
    // Of Pods that run as different accounts nothing is said.
    let other = "apiVersion: v1\nkind: Pod\nmetadata: {name: httpbin-2, namespace: httpbin, labels: {app: httpbin}}\n\
                 spec: {serviceAccountName: other}\nstatus: {podIP: 10.1.0.2}\n";
    let mesh = Mesh::open(&[HERE, other, SECOND, &export("")]);
    assert_eq!(listed(&mesh.snapshot()), [format!("httpbin/httpbin-cluster-2 \"\" {ports}")]);
}
