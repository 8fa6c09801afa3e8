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
