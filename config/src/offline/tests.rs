use super::*;
use crate::testing::{Folder, settings};

const MESH: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: backend-1, namespace: shop, labels: {app: backend}}
spec: {serviceAccountName: backend}
---
apiVersion: v1
kind: Pod
metadata: {name: backend-2, namespace: shop, labels: {app: backend, hash: x}}
spec: {serviceAccountName: backend}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {tier: x}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: shop, labels: {tier: x, canary: yes1}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {selector: {matchLabels: {canary: yes1}}}
";

fn found(wanted: &str) -> Result<String, String> {
    let folder = Folder::new(&[("mesh.yaml", MESH)]);
    let resources = Resources::read(&folder.resources(), &settings(), &Surroundings::alone("cluster.local"));
    assert_eq!(resources.problems(), []);
    resources.find(wanted).map(|record| record.name.to_string())
}

#[test]
fn finds_by_name_and_by_label() {
    assert_eq!(found("shop/web"), Ok("shop/web".to_owned()));
    assert_eq!(found("shop/app=backend"), Ok("shop/backend-1".to_owned()));
}

#[test]
fn names_near_ones() {
    for (wanted, expected) in [
        ("shop/bakend-1", "there is no Pod or WorkloadEntry shop/bakend-1 (did you mean `shop/backend-1`?)"),
        ("web", "there is no Pod or WorkloadEntry web (did you mean `shop/web`?)"),
        (
            "shop/nothing",
            "there is no Pod or WorkloadEntry shop/nothing; there are shop/backend-1, shop/backend-2, shop/web, shop/web-2",
        ),
        (
            "shop/app=web",
            "no Pod or WorkloadEntry in namespace shop has the label app=web; there are shop/backend-1, shop/backend-2, \
             shop/web, shop/web-2",
        ),
        (
            "shop/tier=x",
            "shop/tier=x is more than one workload, and policies treat shop/web and shop/web-2 differently: give a name",
        ),
    ] {
        assert_eq!(found(wanted).unwrap_err(), expected);
    }
}

#[test]
fn two_workloads_of_one_folder_have_their_own_policies() {
    let folder = Folder::new(&[("mesh.yaml", MESH)]);
    let resources = Resources::read(&folder.resources(), &settings(), &Surroundings::alone("cluster.local"));
    let snapshot = |name: &str| resources.snapshot(resources.find(name).unwrap().workload.clone());
    assert!(snapshot("shop/web").inbound_policy.is_empty());
    assert!(!snapshot("shop/web-2").inbound_policy.is_empty());
}
