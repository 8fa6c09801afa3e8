use meshgate_config::TrafficPolicy;

use crate::outbound::plan::tests::{snapshot_with, words};
use crate::outbound::{Wanted, plan, split};

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: root, namespace: shop}
spec: {clusterIP: 10.96.1.1, selector: {tier: shop}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: v1, namespace: shop}
spec: {clusterIP: 10.96.1.2, selector: {v: one}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: v2, namespace: shop}
spec: {clusterIP: 10.96.1.3, selector: {v: two}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: shop, labels: {tier: shop, v: one}}
spec: {serviceAccountName: one}
status: {podIP: 10.0.1.1}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: shop, labels: {tier: shop, v: two}}
spec: {serviceAccountName: two}
status: {podIP: 10.0.1.2}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: shop}
spec: {matches: [{name: all, methods: ["*"]}]}
---
"#;

fn target(account: &str) -> String {
    format!(
        "apiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\nmetadata: {{name: {account}, namespace: shop}}\n\
         spec:\n  destination: {{kind: ServiceAccount, name: {account}, namespace: shop}}\n  \
         rules: [{{kind: HTTPRouteGroup, name: all}}]\n  \
         sources: [{{kind: ServiceAccount, name: web, namespace: web}}]\n---\n"
    )
}

fn splits(name: &str, matches: &str, backends: &str) -> String {
    format!(
        "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{service: root, {matches} backends: [{backends}]}}\n---\n"
    )
}

const STRICT: &str = "apiVersion: config.flomesh.io/v1alpha3\nkind: MeshConfig\nmetadata: {name: m, namespace: f}\n\
                      spec: {traffic: {enablePermissiveTrafficPolicyMode: false}}\n---\n";
const TWO: &str = "{service: v1, weight: 90}, {service: v2, weight: 10}";
const SOME: &str = "matches: [{kind: HTTPRouteGroup, name: all}],";

#[test]
fn a_share_that_may_not_be_called_is_refused_and_kept() {
    const ONE: &str = "shop/v1: 10.0.1.1:8080 cluster.local/ns/shop/sa/one without []";
    const BOTH: &str =
        "shop/root: 10.0.1.1:8080 cluster.local/ns/shop/sa/one, 10.0.1.2:8080 cluster.local/ns/shop/sa/two without []";
    const CANARY: &str = "shop/v2: 10.0.1.2:8080 cluster.local/ns/shop/sa/two without []";
    const ROOT_ONE: &str =
        "shop/root: 10.0.1.1:8080 cluster.local/ns/shop/sa/one without [] out of reach 10.0.1.2:8080";
    let address = "10.96.1.1:80".parse().unwrap();
    for (yaml, expected) in [
        (splits("s", "", TWO), format!("split shop/root: 90 {ONE} | 10 {CANARY} or {BOTH}")),
        (
            splits("s", "", "{service: root, weight: 1}, {service: gone, weight: 1}"),
            format!("split shop/root: 1 {BOTH} | 1 NoEndpoint or {BOTH}"),
        ),
        (
            splits("s", "", "{service: empty, weight: 1}, {service: v1, weight: 0}"),
            format!("split shop/root: 1 NoEndpoint or {BOTH}"),
        ),
        (
            STRICT.to_owned() + &splits("s", "", TWO) + &target("one"),
            format!("split shop/root: 90 {ONE} | 10 BackendOutOfReach or {ROOT_ONE}"),
        ),
        // Nobody who could be meant may be called: silence.
        (STRICT.to_owned() + &splits("s", "", TWO), "OutOfReach".to_owned()),
        (STRICT.to_owned() + &splits("s", "", "{service: v2, weight: 1}") + &target("one"), "OutOfReach".to_owned()),
        (STRICT.to_owned() + &splits("s", SOME, "{service: v2, weight: 1}"), "OutOfReach".to_owned()),
        // What does not match is the root's, which may be called.
        (
            STRICT.to_owned() + &splits("s", SOME, "{service: v2, weight: 1}") + &target("one"),
            format!("split shop/root: 1 BackendOutOfReach or {ROOT_ONE}"),
        ),
    ] {
        let snapshot = snapshot_with(&format!("{MESH}{yaml}"));
        for (destination, host) in [(Some(address), None), (None, Some("root.shop"))] {
            let found = plan(&snapshot, "web", TrafficPolicy::AllowAny, Wanted { destination, host });
            assert_eq!(words(&found), expected, "{yaml}");
        }
        assert_eq!(split::is_closed(&snapshot, address), expected == "OutOfReach", "{yaml}");
    }
}
