use std::collections::HashMap;
use std::fs;

use meshgate_config::offline::Resources;
use meshgate_config::{Balancer, GatewayAddress, Remote, Share, Spread, Surroundings};
use serde_json::{Value, json};

use super::*;

mod described;

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: shop}
spec: {clusterIP: 10.96.0.10, selector: {app: backend}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-db, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: shop}
spec: {clusterIP: 10.96.0.12, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: backend-1, namespace: shop, labels: {app: backend}}
spec: {serviceAccountName: backend}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: canary-1, namespace: shop, labels: {app: backend, security.istio.io/tlsMode: disabled}}
spec: {serviceAccountName: canary}
status: {podIP: 10.0.0.2}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend-1, namespace: shop, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: tcp-db, port: 5432}]
endpoints:
- {addresses: [10.0.0.1]}
- {addresses: [10.0.0.2]}
- {addresses: [10.0.0.3]}
- {addresses: [10.0.0.4], conditions: {ready: false}}
"#;

/// Lets `web` call `backend`, and somebody else `canary`.
const TARGETS: &str = r#"
apiVersion: config.flomesh.io/v1alpha3
kind: MeshConfig
metadata: {name: m, namespace: fsm-system}
spec: {traffic: {enablePermissiveTrafficPolicyMode: false}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: shop}
spec: {matches: [{name: all}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: web-to-backend, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: backend, namespace: shop}
  sources: [{kind: ServiceAccount, name: web, namespace: web}]
  rules: [{kind: HTTPRouteGroup, name: all}]
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: op-to-canary, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: canary, namespace: shop}
  sources: [{kind: ServiceAccount, name: operator, namespace: web}]
  rules: [{kind: HTTPRouteGroup, name: all}]
"#;

const OWN: &str = "default/default/default/local";

fn caller(account: &str) -> Workload {
    Workload { namespace: "web".into(), service_account: account.into(), ..Workload::default() }
}

fn policy_settings() -> meshgate_policy::Settings {
    meshgate_policy::Settings {
        root_namespace: "istio-system".into(),
        trust_domain: "cluster.local".parse().unwrap(),
        trust_domain_aliases: Vec::new(),
        catch_all_deny: Default::default(),
        smi: SmiMode::Permissive,
        providers: Default::default(),
        smi_path_match: Default::default(),
    }
}

fn snapshot(more: &str, account: &str) -> Snapshot {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mesh.yaml"), MESH).unwrap();
    fs::write(dir.path().join("more.yaml"), more).unwrap();
    let resources = Resources::read(dir.path(), &policy_settings(), &Surroundings::alone("cluster.local"));
    assert!(!resources.problems().iter().any(meshgate_config::Problem::is_error), "{:?}", resources.problems());
    resources.snapshot(caller(account))
}

fn call(snapshot: &Snapshot, account: &str, case: Value) -> Called {
    let (caller, settings) = (caller(account), Settings::default());
    let calling = Calling { snapshot, caller: &caller, settings: &settings, live: None };
    let mut called = calling.judge(&serde_json::from_value(case).unwrap()).unwrap();
    called.workload = Some(format!("web/{account}"));
    called
}

fn text(snapshot: &Snapshot, account: &str, to: &str) -> String {
    call(snapshot, account, json!({"to": to})).text(false)
}

#[test]
fn a_service_is_told_endpoint_by_endpoint() {
    let expected = "\
allow: goes to endpoints of a service (service)
caller: web/web
called: http://backend.shop/, HTTP
service: shop/backend, backend.shop.svc.cluster.local:80
spread: Locality, this cluster only; within a cluster in turn
not ready in this cluster, and left out: 1
cluster default/default/default/local: 100.0%, weight 100, priority 0 (this one)
  10.0.0.1:8080 shop/backend-1: used, must be spiffe://cluster.local/ns/shop/sa/backend
  10.0.0.2:8080 shop/canary-1: used, plaintext
  10.0.0.3:8080: left out, nothing says which service account to expect there
";
    assert_eq!(text(&snapshot("", "web"), "web", "http://backend.shop/"), expected);
}

#[test]
fn traffic_targets_are_named() {
    let expected = "\
allow: goes to endpoints of a service (service)
caller: web/web
called: http://backend.shop/, HTTP
service: shop/backend, backend.shop.svc.cluster.local:80
spread: Locality, this cluster only; within a cluster in turn
not ready in this cluster, and left out: 1
cluster default/default/default/local: 100.0%, weight 100, priority 0 (this one)
  10.0.0.1:8080 shop/backend-1: used, must be spiffe://cluster.local/ns/shop/sa/backend, by TrafficTarget shop/web-to-backend
  10.0.0.2:8080 shop/canary-1: left out, no TrafficTarget lets the caller call it; shop/op-to-canary names others
  10.0.0.3:8080: left out, nothing says which service account to expect there
";
    assert_eq!(text(&snapshot(TARGETS, "web"), "web", "http://backend.shop/"), expected);
}

#[test]
fn a_refusal_says_what_the_caller_notices() {
    let strict = snapshot(TARGETS, "other");
    let expected = "\
deny: nobody there may be called, the connection is closed without a byte (403 on HTTP/2): no TrafficTarget lets this workload \
call backend.shop.svc.cluster.local:80: left out 10.0.0.1:8080, 10.0.0.2:8080 (out_of_reach)
caller: web/other
called: http://backend.shop/, HTTP
service: shop/backend, backend.shop.svc.cluster.local:80
spread: Locality, this cluster only; within a cluster in turn
not ready in this cluster, and left out: 1
cluster default/default/default/local: nothing usable, weight 100, priority 0 (this one)
  10.0.0.1:8080 shop/backend-1: left out, no TrafficTarget lets the caller call it; shop/web-to-backend names others
  10.0.0.2:8080 shop/canary-1: left out, no TrafficTarget lets the caller call it; shop/op-to-canary names others
  10.0.0.3:8080: left out, nothing says which service account to expect there
";
    assert_eq!(text(&strict, "other", "http://backend.shop/"), expected);
    let permissive = snapshot("", "web");
    for (snapshot, to, beginning, status) in [
        (
            &strict,
            "tcp://backend.shop:5432",
            "deny: nobody there may be called, the connection is closed without a byte: ",
            None,
        ),
        (
            &strict,
            "http://10.0.0.2:8080/",
            "deny: nobody there may be called, the connection is closed without a byte (",
            None,
        ),
        (&strict, "http://10.0.0.2:9999/", "deny: nobody there may be called, ", None),
        (&permissive, "http://empty.shop/", "deny: there is no usable endpoint, the caller gets 503: ", Some(503)),
        (&permissive, "tcp://empty.shop:80", "deny: there is no usable endpoint, the connection is closed ", None),
        (&permissive, "http://10.0.0.3:8080/", "deny: there is no usable endpoint, the caller gets 503: ", Some(503)),
    ] {
        let called = call(snapshot, "other", json!({"to": to}));
        assert!(called.text(false).starts_with(beginning), "{to}: {}", called.text(false));
        assert_eq!((called.verdict, called.status), (Outcome::Deny, status), "{to}");
    }
}

#[test]
fn names_and_addresses_mean_what_they_mean_to_the_proxy() {
    let snapshot = snapshot("", "web");
    for (case, reason, protocol, endpoints) in [
        (json!({"to": "backend.shop"}), "service", "http", 3),
        (json!({"to": "http://10.96.0.10/"}), "service", "http", 3),
        (json!({"to": "tcp://10.96.0.10:80"}), "service", "tcp", 3),
        (json!({"to": "https://backend.shop:80/"}), "service", "tcp", 3),
        (json!({"to": "backend.shop:5432"}), "service", "tcp", 3),
        (json!({"to": "http://10.0.0.1:8080/"}), "endpoint", "http", 1),
        (json!({"to": "http://10.0.0.1:8080/", "destination": "10.96.0.10:80"}), "service", "http", 3),
        (json!({"to": "http://backend.shop/", "destination": "10.0.0.1:8080"}), "endpoint", "http", 1),
        (json!({"to": "http://backend.shop:80/", "destination": "192.0.2.1:80"}), "service", "http", 3),
        (json!({"to": "http://example.org/"}), "passthrough", "http", 0),
        (json!({"to": "https://example.org/"}), "passthrough", "tcp", 0),
        (json!({"to": "https://192.0.2.1/"}), "passthrough", "tcp", 0),
    ] {
        let called = serde_json::to_value(call(&snapshot, "web", case.clone())).unwrap();
        let found = (&called["reason"], &called["protocol"], called["endpoints"].as_array().unwrap().len());
        assert_eq!(found, (&reason.into(), &protocol.into(), endpoints), "{case}");
        assert_eq!(called["verdict"], "allow");
    }
    let (caller, mut settings) =
        (caller("web"), Settings { unknown: TrafficPolicy::RegistryOnly, ..Settings::default() });
    for redirected in [true, false] {
        settings.redirected = redirected;
        let calling = Calling { snapshot: &snapshot, caller: &caller, settings: &settings, live: None };
        let called = calling.judge(&Case { to: Some("http://example.org/".to_owned()), ..Case::default() }).unwrap();
        assert_eq!((called.verdict, called.reason, called.status), (Outcome::Deny, "no_route", Some(503)));
    }
}

#[test]
fn what_cannot_be_called_or_has_no_meaning_is_said() {
    let snapshot = snapshot("", "web");
    let (caller, settings) = (caller("web"), Settings::default());
    let calling = Calling { snapshot: &snapshot, caller: &caller, settings: &settings, live: None };
    for to in [
        "",
        "http://",
        "ftp://a/",
        "tcp://a",
        "http://a:0/",
        "http://a:70000/",
        "http://a:b/",
        "http://u@a/",
        "a b",
        ":80",
    ] {
        let error = calling.judge(&Case { to: Some(to.to_owned()), ..Case::default() }).unwrap_err();
        assert_eq!(error.field, "to", "{to}");
        assert!(error.message.contains("expected such as http://"), "{error}");
    }
    for (field, case) in
        [("peer", json!({"peer": "plaintext"})), ("host", json!({"host": "a"})), ("token", json!({"token": {}}))]
    {
        let mut case: Case = serde_json::from_value(case).unwrap();
        case.to = Some("http://backend.shop/".to_owned());
        assert_eq!(calling.judge(&case).unwrap_err().to_string(), format!("{field}: has no meaning with `to`"));
    }
    assert_eq!(calling.judge(&Case::default()).unwrap_err().field, "to");
}

/// `backend` of `shop` here and in three other clusters, as a plan for it would be.
fn spanning(spread: Spread, shares: [Share; 3]) -> (Arc<ServicePort>, Vec<Hop>) {
    let remote = |(index, share): (usize, Share)| {
        let cluster: meshgate_config::ClusterKey =
            format!("default/default/default/cluster-{}", index + 1).parse().unwrap();
        let identity: meshgate_identity::SpiffeId = "spiffe://cluster.local/ns/shop/sa/backend".parse().unwrap();
        let gateway = Arc::new(GatewayAddress {
            cluster: cluster.clone(),
            host: format!("192.0.2.{}", index + 1).into(),
            ip: None,
            port: 15443,
            identity: "spiffe://cluster.local/ns/meshgate-system/sa/meshgate-gateway".parse().unwrap(),
        });
        let authority = "backend.shop.svc.clusterset.local:80".into();
        Arc::new(Endpoint {
            address: "192.0.2.1:15443".parse().unwrap(),
            workload: None,
            identity: EndpointIdentity::Mesh(identity),
            in_reach: true,
            tunnels: false,
            remote: Some(Arc::new(Remote { cluster, share, gateway: Some(gateway), authority })),
        })
    };
    let service = ServicePort {
        service: ObjectName { namespace: "shop".into(), name: "backend".into() },
        host: "backend.shop.svc.cluster.local".to_owned(),
        port: 80,
        name: None,
        app_protocol: AppProtocol::Http,
        endpoints: shares.into_iter().enumerate().map(remote).collect(),
        not_ready: 0,
        spread,
        balancer: Balancer::PeakEwma,
        split: None,
    };
    let hops = service.endpoints.iter().map(|endpoint| match outbound::standing(&service, endpoint) {
        Standing::Usable(hop) => hop,
        other => panic!("{other:?}"),
    });
    (Arc::new(service.clone()), hops.collect())
}

/// What is said of it, from `cluster ` on.
fn said(service: &Arc<ServicePort>, hops: &[Hop], live: Option<Live<'_>>) -> (Called, String) {
    let (snapshot, caller, settings) = (snapshot("", "web"), caller("web"), Settings::default());
    let calling = Calling { snapshot: &snapshot, caller: &caller, settings: &settings, live };
    let mut called = Called::new(None, "http://backend.shop/", None);
    let (service, endpoints) = (Arc::clone(service), hops.to_vec());
    let plan =
        Plan::Service { service, family: Family::Any, endpoints, left_out: Vec::new(), out_of_reach: Vec::new() };
    calling.say(&mut called, plan, Family::Any, &Sent::Unknown, None);
    let text = called.text(false);
    let clusters = text.find("spread: ").map(|at| text[at..].to_owned()).unwrap();
    (called, clusters)
}

#[test]
fn clusters_share_by_weight_and_stand_by_by_priority() {
    let share = |weight, priority| Share { weight, priority };
    let (service, hops) =
        spanning(Spread { own: None, fail_over: false }, [share(100, 0), share(100, 0), share(100, 1)]);
    let (called, text) = said(&service, &hops, None);
    let must = "must be spiffe://cluster.local/ns/shop/sa/backend";
    let key = "default/default/default/cluster";
    assert_eq!(
        text,
        format!(
            "spread: ActiveActive, over clusters by weight; within a cluster of two at random the one expected to answer sooner\n\
             cluster {OWN}: left out, weight 0 (this one)\n\
             cluster {key}-1: 50.0%, weight 100, priority 0\n  {key}-1 (192.0.2.1:15443): used, {must}\n\
             cluster {key}-2: 50.0%, weight 100, priority 0\n  {key}-2 (192.0.2.2:15443): used, {must}\n\
             cluster {key}-3: stands by, weight 100, priority 1\n  {key}-3 (192.0.2.3:15443): stands by, {must}\n"
        )
    );
    let json = serde_json::to_value(&called).unwrap();
    assert_eq!(json["clusters"][0]["share"], Value::Null);
    assert_eq!(
        json["clusters"][3],
        json!({"cluster": format!("{key}-3"), "own": false, "share": {"weight": 100, "priority": 1}, "per_mille": null,
               "usable": 1, "state": "standby"})
    );
    let spread = Spread { own: Some(Share::DEFAULT), fail_over: true };
    let (service, hops) = spanning(spread, [share(1, 1), share(2, 1), share(1, 2)]);
    let (called, text) = said(&service, &hops, None);
    assert!(text.starts_with("spread: FailOver, "), "{text}");
    // Nothing of our own is there, so that the next in rank is used.
    assert_eq!(
        called.clusters.iter().map(|seen| seen.per_mille).collect::<Vec<_>>(),
        [None, Some(333), Some(666), None]
    );
}

#[test]
fn a_running_proxy_says_what_it_has_seen() {
    let share = Share::DEFAULT;
    let (service, hops) = spanning(Spread { own: None, fail_over: false }, [share; 3]);
    let clusters = Clusters::default();
    let gateway = |index: usize| clusters.gateway(hops[index].remote.as_ref().unwrap().gateway.as_ref().unwrap());
    let healthy = |_: &ServicePort, _: &Hop| None;
    let live = Live { clusters: &clusters, ejected: &healthy };
    let whys = |live| {
        let (called, text) = said(&service, &hops, Some(live));
        let whys: Vec<_> = called.endpoints.iter().map(|seen| seen.why).collect();
        (called.verdict, whys, text)
    };
    let (verdict, found, text) = whys(live);
    assert_eq!((verdict, found), (Outcome::Allow, vec![None; 3]), "what is not known is not bad");
    assert!(text.contains("its gateway has not said yet what is ready"), "{text}");

    gateway(0).update(|seen| seen.up = Some(false));
    let ready =
        |count| [("backend.shop.svc.clusterset.local:80".into(), count)].into_iter().collect::<HashMap<_, _>>().into();
    gateway(1).update(|seen| (seen.up, seen.ready) = (Some(true), Some(ready(0))));
    gateway(2).update(|seen| (seen.up, seen.ready) = (Some(true), Some(ready(2))));
    let (verdict, found, text) = whys(live);
    assert_eq!((verdict, found), (Outcome::Allow, vec![Some(Why::GatewayDown), Some(Why::NoneReady), None]));
    assert!(text.contains("cluster-3: 100.0%, weight 100, priority 0\n"), "{text}");
    assert!(
        text.contains("cluster-3 (192.0.2.3:15443): used, must be") && text.contains(", 2 ready there\n"),
        "{text}"
    );

    let ejected = |_: &ServicePort, _: &Hop| Some("5 failures in a row, for 3s more".to_owned());
    let (verdict, found, text) = whys(Live { clusters: &clusters, ejected: &ejected });
    assert_eq!(
        (verdict, found[2]),
        (Outcome::Allow, Some(Why::Ejected)),
        "with nobody left, they are tried all the same"
    );
    assert!(text.contains("left out, it failed too often of late (5 failures in a row, for 3s more)\n"), "{text}");
}
