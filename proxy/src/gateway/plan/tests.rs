use std::fs;

use http::HeaderValue;
use meshgate_config::{Balancer, Bootstrap, ConfigStore, ExportedPort, Exports};
use meshgate_policy::{ConnectionFacts, Protocol, RemoteIp};

use super::*;

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}, {name: tcp, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: shop}
spec: {clusterIP: 10.96.0.11, ports: [{name: http, port: 80}]}
"#;

const BOOTSTRAP: &str = "
role: gateway
clusterKey: default/default/default/one
workload: {name: gateway, namespace: edge, serviceAccount: gateway}
identity: {certificate: g.pem, key: g-key.pem, trustBundle: ca.pem}
resources: {directory: resources}
";

/// `cart` on port 80 is exported to all, `stock` to cluster two alone.
fn snapshot(policies: &str) -> Arc<Snapshot> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("resources")).unwrap();
    fs::write(dir.path().join("resources/mesh.yaml"), MESH).unwrap();
    fs::write(dir.path().join("resources/more.yaml"), policies).unwrap();
    let bootstrap = dir.path().join("bootstrap.yaml");
    fs::write(&bootstrap, BOOTSTRAP).unwrap();
    let store = ConfigStore::open(&Bootstrap::load(&bootstrap, []).unwrap()).unwrap();
    let snapshot = store.current();
    drop(store);
    let mut snapshot = Arc::into_inner(snapshot).expect("nobody else has it");
    let export = |name: &str, targets: &[&str]| {
        let port = snapshot.services.iter().find(|port| port.service.name == name && port.port == 80).unwrap();
        Arc::new(Export {
            service: port.service.clone(),
            service_account: "*".into(),
            target_clusters: targets.iter().map(|key| key.parse().unwrap()).collect(),
            ports: vec![ExportedPort { port: Arc::clone(port), path: format!("/{name}"), exact: false }],
            session_sticky: false,
            balancer: Balancer::RoundRobin,
            path_rewrite: None,
        })
    };
    let exports = vec![export("stock", &["default/default/default/two"]), export("cart", &[])];
    snapshot.exports = Exports::new(exports);
    Arc::new(snapshot)
}

fn caller(id: &str, cluster: Option<&str>) -> Caller {
    Caller { id: id.parse().unwrap(), cluster: cluster.map(Into::into), source: [10, 1, 2, 3].into() }
}

fn asked(caller: &Caller, authority: &str, forwarded: Option<&str>) -> Result<(String, u16), ErrorKind> {
    let mut headers = HeaderMap::new();
    if let Some(forwarded) = forwarded {
        headers.insert(FORWARDED, HeaderValue::from_str(forwarded).unwrap());
    }
    let id = "spiffe://td/ns/edge/sa/gateway".parse().unwrap();
    let own = Own { id: &id, cluster: &"default/default/default/one".parse().unwrap() };
    match plan(&snapshot(""), own, caller, authority, &headers) {
        Ok(target) => Ok((target.port.service.name.clone(), target.port.port)),
        Err(error) => Err(error.kind),
    }
}

const TWO: Option<&str> = Some("default/default/default/two");
const THREE: Option<&str> = Some("default/default/default/three");
const WEB: &str = "spiffe://td/ns/web/sa/web";

#[test]
fn only_what_is_exported_and_only_to_whom() {
    let cart = Ok(("cart".to_owned(), 80));
    let stock = Ok(("stock".to_owned(), 80));
    for (cluster, name, expected) in [
        (TWO, "cart.shop.svc.clusterset.local:80", cart.clone()),
        (None, "cart.shop.svc.clusterset.local:80", cart),
        (TWO, "stock.shop.svc.clusterset.local:80", stock),
        (THREE, "stock.shop.svc.clusterset.local:80", Err(ErrorKind::NotForCaller)),
        (None, "stock.shop.svc.clusterset.local:80", Err(ErrorKind::NotForCaller)),
        (TWO, "cart.shop.svc.clusterset.local:81", Err(ErrorKind::NotExported)),
        (TWO, "cart.web.svc.clusterset.local:80", Err(ErrorKind::NotExported)),
        (TWO, "gateway.edge.svc.clusterset.local:15443", Err(ErrorKind::NotExported)),
    ] {
        assert_eq!(asked(&caller(WEB, cluster), name, None), expected, "{cluster:?} {name}");
    }
}

#[test]
fn there_is_one_way_to_ask() {
    let label = "a".repeat(64);
    for bad in [
        "",
        ":80",
        "cart:80",
        "cart.shop:80",
        "cart.shop.svc:80",
        "cart.shop.svc.cluster.local:80",
        "cart.shop.svc.clusterset.local",
        "cart.shop.svc.clusterset.local:",
        "cart.shop.svc.clusterset.local:080",
        "cart.shop.svc.clusterset.local:+80",
        "cart.shop.svc.clusterset.local:65616",
        "cart.shop.svc.clusterset.local:0",
        "cart.shop.svc.clusterset.local:80:80",
        "cart.shop.svc.clusterset.local.:80",
        "Cart.shop.svc.clusterset.local:80",
        "cart.shop.svc.CLUSTERSET.local:80",
        "pod.cart.shop.svc.clusterset.local:80",
        "user@cart.shop.svc.clusterset.local:80",
        "-cart.shop.svc.clusterset.local:80",
        "cart-.shop.svc.clusterset.local:80",
        "cart..svc.clusterset.local:80",
        "10.96.0.10:80",
        "cart.shop.svc.clusterset.local:65536",
        "cart.shop.svc.clusterset.local:99999",
        "cart.shop.svc.clusterset.local: 80",
        "cart.shop.svc.clusterset.local:\u{666}",
        "c%61rt.shop.svc.clusterset.local:80",
        "c\u{430}rt.shop.svc.clusterset.local:80",
        "cart.shop.svc.clusterset.local:80/",
        "cart.shop.svc.clusterset.local:80\0",
        "cart.shop.svc.clusterset.local.example.com:80",
        "[::1]:80",
        &format!("{label}.shop.svc.clusterset.local:80"),
    ] {
        assert_eq!(asked(&caller(WEB, TWO), bad, None), Err(ErrorKind::BadRequest), "{bad}");
    }
}

#[test]
fn refuses_what_would_go_in_circles() {
    let name = "cart.shop.svc.clusterset.local:80";
    assert_eq!(asked(&caller("spiffe://td/ns/edge/sa/gateway", TWO), name, None), Err(ErrorKind::Loop));
    for looped in [
        "by=\"default/default/default/one\"",
        "By=default/default/default/one",
        "for=10.0.0.1;by=\"default/default/default/one\"",
        "by=\"default/default/default/two\", by=\"default/default/default/one\"",
    ] {
        assert_eq!(asked(&caller(WEB, TWO), name, Some(looped)), Err(ErrorKind::Loop), "{looped}");
    }
    for fine in ["by=\"default/default/default/two\"", "for=\"default/default/default/one\"", "nonsense"] {
        assert!(asked(&caller(WEB, TWO), name, Some(fine)).is_ok(), "{fine}");
    }
}

/// What the policies of the gateway's own workload come to for `web` asking for `cart`.
fn decided(policies: &str) -> Reason {
    let (snapshot, caller) = (snapshot(policies), caller(WEB, TWO));
    let facts = ConnectionFacts {
        peer: Some(&caller.id),
        source_ip: caller.source,
        remote_ip: RemoteIp::Fixed(caller.source),
        destination: "10.0.0.5:15443".parse().unwrap(),
        service_port: None,
        opaque_port: false,
        sni: None,
        protocol: Protocol::Http,
    };
    let residual = snapshot.inbound_policy.reduce(&facts);
    decide(&residual, &caller, "cart.shop.svc.clusterset.local:80", &HeaderMap::new()).reason
}

fn policy(spec: &str) -> String {
    format!(
        "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: edge}}, spec: {spec}}}"
    )
}

#[test]
fn the_policies_of_the_gateway_judge_tunnels() {
    for (spec, expected) in [
        ("{rules: [{from: [{source: {principals: [cluster.local/ns/web/sa/web]}}]}]}", Reason::NoAllowMatched),
        ("{rules: [{from: [{source: {principals: [td/ns/web/sa/web]}}]}]}", Reason::AllowRule),
        ("{rules: [{to: [{operation: {methods: [CONNECT]}}]}]}", Reason::AllowRule),
        ("{rules: [{to: [{operation: {methods: [GET]}}]}]}", Reason::NoAllowMatched),
        ("{rules: [{to: [{operation: {hosts: ['cart.shop.svc.clusterset.local:*']}}]}]}", Reason::AllowRule),
        ("{action: DENY, rules: [{to: [{operation: {ports: ['15443']}}]}]}", Reason::DenyRule),
        ("{}", Reason::NoAllowMatched),
    ] {
        assert_eq!(decided(&policy(spec)), expected, "{spec}");
    }
    assert_eq!(decided(""), Reason::NoPolicy);
}

#[test]
fn traffic_policy_mode_leaves_the_gateway_open_and_a_custom_policy_closes_it() {
    let mode = "{apiVersion: config.flomesh.io/v1alpha3, kind: MeshConfig, metadata: {name: fsm-mesh-config, namespace: fsm-system}, \
                spec: {traffic: {enablePermissiveTrafficPolicyMode: false}}}";
    assert_eq!(snapshot(mode).smi, meshgate_policy::SmiMode::TrafficPolicy);
    assert_eq!(decided(mode), Reason::NoPolicy);
    let custom = policy("{action: CUSTOM, provider: {name: somebody}, rules: [{}]}");
    assert_eq!(decided(&custom), Reason::CustomFailed);
}
