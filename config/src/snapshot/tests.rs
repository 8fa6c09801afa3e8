use meshgate_policy::MtlsMode;

use super::*;
use crate::ConfigStore;
use crate::testing::Folder;

#[test]
fn compiles_what_applies_to_the_own_workload() {
    let files = Folder::new(&[(
        "a.yaml",
        "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: default}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: elsewhere, namespace: shop}
spec: {}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: backend}
---
apiVersion: v1
kind: Pod
metadata: {name: b, labels: {app: backend}}
spec: {serviceAccountName: backnd}
status: {podIP: 10.1.0.1}
",
    )]);
    let store = ConfigStore::open(&files.bootstrap()).unwrap();
    let snapshot = store.current();
    assert_eq!(snapshot.mtls.mode(80), MtlsMode::Strict);
    assert_eq!((snapshot.policies.len(), snapshot.inbound_policy.is_empty()), (1, true));
    assert_eq!(snapshot.workloads[0].workload.service_account, "backnd");
    assert_eq!(
        files.shown(&snapshot.problems),
        ["a.yaml:15: Pod default/b: there is no ServiceAccount default/backnd"],
        "a warning does not keep a proxy from starting"
    );
    assert!(snapshot.loaded_at <= SystemTime::now());
}

#[test]
fn is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Snapshot>();
    shared::<ConfigStore>();
}

#[test]
fn a_gateway_reaches_what_is_exported_whatever_traffic_targets_say_of_its_own_account() {
    let mesh = "\
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart-1, namespace: shop, labels: {app: cart}}
spec: {serviceAccountName: cart}
status: {podIP: 10.1.0.1}
---
apiVersion: flomesh.io/v1alpha1
kind: ServiceExport
metadata: {name: cart, namespace: shop}
spec: {serviceAccountName: cart, rules: [{portNumber: 80, path: /cart, pathType: Prefix}]}
---
apiVersion: config.flomesh.io/v1alpha3
kind: MeshConfig
metadata: {name: m, namespace: fsm-system}
spec: {traffic: {enablePermissiveTrafficPolicyMode: false}}
";
    let files = Folder::new(&[("a.yaml", mesh)]);
    let gateway = "role: gateway\ngateway: {listeners: ['127.0.0.1:0']}\n\
                   workload: {namespace: meshgate-system, serviceAccount: meshgate-gateway}\n";
    for (bootstrap, in_reach) in [(gateway, true), ("workload: {namespace: web, serviceAccount: web}\n", false)] {
        let snapshot = ConfigStore::open(&files.bootstrap_with(bootstrap)).unwrap().current();
        let exported = snapshot.exports.iter().flat_map(|export| &export.ports).map(|exported| &exported.port);
        let found: Vec<_> = exported.flat_map(|port| &port.endpoints).map(|endpoint| endpoint.in_reach).collect();
        assert_eq!(found, [in_reach], "{bootstrap}");
        assert_eq!(snapshot.inbound_policy.is_empty(), in_reach);
    }
}
