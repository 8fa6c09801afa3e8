//! `meshgate import`: exports of some clusters in, the imports of another one out.

use std::fs;
use std::path::Path;
use std::slice::from_ref;

use std::net::SocketAddr;

use meshgate::sandbox::Sandbox;
use meshgate_tests::run;
use tempfile::TempDir;

use super::meshgate;
use crate::support::gateway::{CLUSTER, FakeGateway, GATEWAY, list, service};

const FIRST: &str = "default/default/default/cluster-1";
const SECOND: &str = "default/default/default/cluster-2";
const THIRD: &str = "default/default/default/cluster-3";

/// The resources of a cluster that exports `httpbin`, with more fields in the export's spec.
fn cluster(number: u8, account: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: httpbin, name: httpbin}}\n\
         spec: {{clusterIP: 10.96.0.10, selector: {{app: httpbin}}, ports: [{{port: 8080}}]}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{namespace: httpbin, name: httpbin-1, labels: {{app: httpbin}}}}\n\
         spec: {{serviceAccountName: {account}}}\nstatus: {{podIP: 10.1.0.1}}\n---\n\
         apiVersion: flomesh.io/v1alpha1\nkind: ServiceExport\nmetadata: {{namespace: httpbin, name: httpbin}}\n\
         spec:\n  serviceAccountName: \"{account}\"\n{more}  rules:\n  \
         - {{portNumber: 8080, path: \"/cluster-{number}/httpbin-mesh\", pathType: Prefix}}\n"
    )
}

fn folders(all: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, yaml) in all {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("resources.yaml"), yaml).unwrap();
    }
    dir
}

fn import(dir: &Path, more: &[&str]) -> (i32, String, String) {
    let (one, three) = (format!("{FIRST}=one,192.168.1.110:81"), format!("{THIRD}=three,192.168.1.110:83"));
    // The order is not that of the result.
    let mut arguments = vec!["import", "--cluster", &three, "--cluster", &one];
    arguments.extend(more);
    meshgate(dir, &arguments)
}

const IMPORT: &str = include_str!("../../../../proxy/src/cli/import/guide.yaml");

#[test]
fn exports_of_two_clusters_make_one_import_that_is_read_back() {
    let dir = folders(&[("one", &cluster(1, "httpbin", "")), ("three", &cluster(3, "httpbin", ""))]);
    assert_eq!(import(dir.path(), &["--for", SECOND]), (0, IMPORT.to_owned(), String::new()));
    fs::create_dir(dir.path().join("two")).unwrap();
    let policy = "---\napiVersion: flomesh.io/v1alpha1\nkind: GlobalTrafficPolicy\n\
                  metadata: {namespace: httpbin, name: httpbin}\nspec: {lbType: ActiveActive}\n";
    fs::write(dir.path().join("two/import.yaml"), format!("{IMPORT}{policy}")).unwrap();
    assert_eq!(
        meshgate(dir.path(), &["check", "--strict", "--resources", "two"]),
        (0, "no problems: 2 objects in 1 file\n".to_owned(), String::new())
    );
    // Of one cluster, the other way to say it; and nobody imports from itself.
    let one = [
        "import",
        "--resources",
        "one",
        "--cluster-key",
        FIRST,
        "--gateway-host",
        "192.168.1.110",
        "--gateway-port",
        "81",
    ];
    let (status, text, _) = meshgate(dir.path(), &one);
    assert!(status == 0 && IMPORT.starts_with(text.trim_end()), "{text}");
    assert_eq!(import(dir.path(), &["--for", THIRD]), (0, text, String::new()));
}

#[test]
fn accounts_that_differ_are_read_back_for_each_endpoint() {
    let dir = folders(&[("one", &cluster(1, "one", "")), ("three", &cluster(3, "three", ""))]);
    let (status, text, _) = import(dir.path(), &[]);
    assert_eq!(
        (status, text.matches("      serviceAccountName: ").count(), text.matches("\n  serviceAccountName").count()),
        (0, 2, 0),
        "{text}"
    );
    fs::create_dir(dir.path().join("two")).unwrap();
    fs::write(dir.path().join("two/import.yaml"), text).unwrap();
    assert_eq!(
        meshgate(dir.path(), &["check", "--strict", "--resources", "two"]),
        (0, "no problems: 1 object in 1 file\n".to_owned(), String::new())
    );
}

#[test]
fn an_export_is_for_the_clusters_it_names() {
    let limited = cluster(1, "httpbin", &format!("  targetClusters: [{SECOND}]\n"));
    let dir = folders(&[("one", &limited), ("three", &cluster(3, "httpbin", ""))]);
    assert_eq!(import(dir.path(), &["--for", SECOND]), (0, IMPORT.to_owned(), String::new()));
    let (status, text, errors) = import(dir.path(), &["--for", "default/default/default/cluster-4"]);
    assert!(status == 0 && !text.contains("cluster-1") && errors.is_empty(), "{text}{errors}");
    let (status, text, errors) = import(dir.path(), &[]);
    assert!(
        status == 1 && !text.contains("cluster-1") && errors.contains("say which cluster imports"),
        "{text}{errors}"
    );
}

#[test]
fn what_is_wrong_is_left_out_and_said() {
    let broken = cluster(1, "httpbin", "").replace("pathType: Prefix", "pathType: prefix");
    let orphan = cluster(1, "httpbin", "").replace(
        "kind: Service\nmetadata: {namespace: httpbin, name: httpbin}",
        "kind: Service\nmetadata: {namespace: httpbin, name: other}",
    );
    for (first, why) in [
        (broken, "ServiceExport httpbin/httpbin: spec.rules[0].pathType"),
        (orphan, "there is no Service httpbin/httpbin"),
    ] {
        let dir = folders(&[("one", &first), ("three", &cluster(3, "httpbin", ""))]);
        let (status, text, errors) = import(dir.path(), &["--for", SECOND]);
        assert!(status == 1 && text.contains("cluster-3") && !text.contains("cluster-1"), "{text}{errors}");
        assert!(errors.contains("left out: one/resources.yaml:") && errors.contains(why), "{errors}");
    }
    let dir = folders(&[("one", "a: {"), ("three", "")]);
    assert_eq!(import(dir.path(), &[]).0, 2);
    for arguments in [
        &["import"][..],
        &["import", "--cluster", "cluster-1=one,192.168.1.110:81"],
        &["import", "--cluster", "default/default/default/cluster-1=nowhere,192.168.1.110:81"],
        &["import", "--from-gateway", "192.168.1.110:81"],
        &["import", "--resources", "three"],
    ] {
        let (status, text, errors) = meshgate(dir.path(), arguments);
        assert!(status == 2 && text.is_empty() && !errors.is_empty(), "{arguments:?}: {text}{errors}");
    }
}

#[test]
fn a_gateway_is_believed_about_its_own_cluster_and_what_can_be() {
    let mut bad = service("bad", 1);
    bad["ports"][0]["path"] = "/a\n---\nkind: Evil".into();
    let mut account = service("account", 1);
    account["serviceAccountName"] = "a\nb".into();
    let good = service("good", 1);
    for (line, status, said) in [
        (list(from_ref(&good)), 0, ""),
        (list(from_ref(&good)).replace("cluster.local", "west.example"), 2, "of the trust domain \"west.example\""),
        (list(from_ref(&good)).replace("cluster-1", "cluster-3"), 2, "it is the gateway of"),
        (
            list(&[good.clone(), bad]),
            1,
            "left out: \"default\"/\"bad\" of default/default/default/cluster-1: it has a port",
        ),
        (list(&[good.clone(), account]), 1, "left out: \"default\"/\"account\""),
        (list(&[good.clone(), good.clone()]), 1, "it is there twice"),
        ("{}".to_owned(), 2, "no list of exports"),
    ] {
        run(async {
            let mut sandbox = Sandbox::new(crate::binary()).unwrap();
            let at = SocketAddr::new(sandbox.next_address(), 15443);
            let _gateway = FakeGateway::start(&sandbox, at, GATEWAY, line.clone()).await;
            sandbox.issue("importer", "importer").unwrap();
            let dir = sandbox.path("").clone();
            let bootstrap = "workload: {namespace: default, serviceAccount: importer}\nresources: {directory: resources}\n\
                 identity: {certificate: identities/importer.pem, key: identities/importer-key.pem, trustBundle: ca/ca.pem}\n";
            fs::write(dir.join("importer.yaml"), bootstrap).unwrap();
            let from = format!("{CLUSTER}={at}");
            let asking = tokio::task::spawn_blocking(move || {
                meshgate(&dir, &["import", "--bootstrap", "importer.yaml", "--from-gateway", &from])
            });
            let (found, import, complaints) = asking.await.unwrap();
            assert_eq!(found, status, "{line}: {complaints}");
            assert!(complaints.contains(said) && complaints.lines().count() <= 1, "{line}: {complaints}");
            assert_eq!(import.matches("kind:").count(), usize::from(status < 2), "{import}");
        });
    }
}
