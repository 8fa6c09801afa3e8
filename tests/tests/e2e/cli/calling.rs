//! `meshgate explain --to`: the calling side, by the resources of a folder and from a running sidecar.

use std::path::Path;

use meshgate_tests::run;
use serde_json::{Value, json};

use super::{folder, meshgate, meshgate_reading};
use crate::smi::{GROUP, STRICT, mode, put, rules, target};
use crate::support::app::App;
use crate::support::mesh::{BACKEND, Mesh, Spec};

const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: shop}
spec: {clusterIP: 10.96.0.10, selector: {app: backend}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: backend-1, namespace: shop, labels: {app: backend}}
spec: {serviceAccountName: backend}
status: {podIP: 10.1.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop}
spec: {serviceAccountName: web}
";

#[test]
fn the_exit_status_says_whether_a_call_would_be_sent() {
    let dir = folder(MESH);
    let explain = ["explain", "--resources", "."];
    for (arguments, status, beginning) in [
        (&["--workload", "shop/web-1", "--to", "http://backend/"][..], 0, "allow: goes to endpoints of a service"),
        (&["--namespace", "shop", "--to", "backend"], 0, "allow: goes to endpoints of a service"),
        (&["--to", "http://example.org"], 0, "allow: is nothing of the mesh"),
        (&["--to", "http://backend.shop:81/", "--destination", "10.1.0.2:8080"], 0, "allow: goes to the one endpoint"),
    ] {
        let (found, text, errors) = meshgate(dir.path(), &[&explain[..], arguments].concat());
        assert_eq!((found, errors.as_str()), (status, ""), "{arguments:?}: {text}");
        assert!(text.starts_with(beginning), "{arguments:?}: {text}");
    }
    let strict = folder(&format!("{MESH}---\n{}", mode(STRICT)));
    let (status, text, _) = meshgate(strict.path(), &[&explain[..], &["--to", "backend.shop"]].concat());
    assert!(status == 1 && text.starts_with("deny: nobody there may be called, the connection is closed"), "{text}");
    for (arguments, complaint) in [
        (&["--to", "ftp://backend/"][..], "--to: `ftp://backend/`: expected such as"),
        (&["--to", "backend", "--peer", "plaintext"], "--peer: has no meaning with `to`"),
        (&["--to", "backend", "--workload", "shop/nobody"], "--workload: there is no Pod"),
    ] {
        let (status, text, errors) = meshgate(dir.path(), &[&explain[..], arguments].concat());
        assert_eq!((status, text.as_str()), (2, ""), "{arguments:?}: {errors}");
        assert!(errors.contains(complaint), "{errors}");
    }
}

#[test]
fn both_sides_may_be_asked_about_in_one_file() {
    let dir = folder(MESH);
    let requests = "- {name: called, workload: shop/backend-1}\n- {name: calls, to: backend.shop}\n";
    let arguments = ["explain", "--resources", ".", "--path", "/a", "--output", "json", "--request", "-"];
    let (status, json, errors) = meshgate_reading(dir.path(), &arguments, requests);
    assert_eq!((status, errors.as_str()), (0, ""));
    let all: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&all[0]["name"], &all[0]["reason"]), (&json!("called"), &json!("no_policy")));
    assert_eq!((&all[1]["name"], &all[1]["reason"]), (&json!("calls"), &json!("service")));
    let endpoint = json!({
        "cluster": "default/default/default/local", "address": "10.1.0.2:8080", "workload": "shop/backend-1",
        "expects": "spiffe://cluster.local/ns/shop/sa/backend", "state": "used", "why": null, "detail": null,
        "targets": [], "targets_of_others": [], "gateway": null, "ruling": null,
    });
    assert_eq!(all[1]["endpoints"], json!([endpoint]));
    assert_eq!(all[1]["service"]["spread"], "Locality");
    // A policy test is about what is let in.
    let test =
        "apiVersion: meshgate.io/v1\nkind: PolicyTest\nspec: {cases: [{name: a, request: {to: b}, expect: allow}]}\n";
    std::fs::write(dir.path().join("t-test.yaml"), test).unwrap();
    let (status, _, errors) = meshgate(dir.path(), &["test", "t-test.yaml"]);
    assert_eq!(status, 2, "{errors}");
}

#[test]
fn a_running_sidecar_says_what_it_does_with_a_call() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::start(Spec::of(&[app.address()]).with_virtual()).await;
        let admin = mesh.frontend.admin().to_string();
        let ask = async |to: &str| {
            let arguments = ["explain", "--admin", &admin, "--output", "json", "--to", to].map(str::to_owned);
            let command = move || meshgate(Path::new("/"), &arguments.each_ref().map(String::as_str));
            let (status, json, errors) = tokio::task::spawn_blocking(command).await.unwrap();
            assert_eq!(errors, "");
            let answer: Value = serde_json::from_str(&json).unwrap();
            assert_eq!(status == 0, answer["verdict"] == "allow", "{answer:#}");
            answer
        };
        let to = format!("http://{BACKEND}/");
        let endpoint = mesh.backend().inbound().to_string();
        let before = ask(&to).await;
        assert_eq!((&before["reason"], &before["workload"]), (&json!("service"), &json!("default/frontend")));
        assert_eq!(
            (&before["endpoints"][0]["address"], &before["endpoints"][0]["state"]),
            (&json!(endpoint), &json!("used"))
        );
        assert_eq!(mesh.get("/a").await.to_string(), "200");

        put(&mesh, &rules(STRICT, "")).await;
        let closed = ask(&to).await;
        assert_eq!((&closed["reason"], &closed["status"]), (&json!("out_of_reach"), &Value::Null), "{closed:#}");
        assert_eq!(closed["endpoints"][0]["why"], "out_of_reach");
        assert!(closed["generation"].as_u64() > before["generation"].as_u64());

        put(&mesh, &rules(STRICT, &target(GROUP))).await;
        let open = ask(&to).await;
        assert_eq!((&open["reason"], &open["endpoints"][0]["targets"]), (&json!("service"), &json!(["default/t"])));
        assert_eq!(mesh.get("/metrics").await.to_string(), "200");
        // By the service's address, by the pod's own, and what is nothing of the mesh.
        assert_eq!(ask("http://10.96.0.10/").await["reason"], "service");
        assert_eq!(ask(&format!("tcp://{endpoint}")).await["reason"], "endpoint");
        assert_eq!(ask("tcp://192.0.2.1:9").await["reason"], "passthrough");
    });
}
