use meshgate_config::ClusterKey;
use serde_json::{Value, json};

use super::*;

const KEY: &str = "default/default/default/cluster-1";

fn gateway() -> GatewayAddress {
    GatewayAddress {
        cluster: KEY.parse::<ClusterKey>().unwrap(),
        host: "gateway.example".into(),
        ip: None,
        port: 15443,
        identity: "spiffe://cluster.local/ns/meshgate-system/sa/meshgate-gateway".parse().unwrap(),
    }
}

fn said(exports: Value) -> Value {
    let mut said = json!({"clusterKey": KEY, "trustDomain": "cluster.local"});
    said["exports"] = exports;
    said
}

fn service(name: &str, ports: Value) -> Value {
    let mut service = json!({"namespace": "default", "name": name, "serviceAccountName": "app"});
    service["ports"] = ports;
    service
}

fn port(number: u16, ready: u32) -> Value {
    json!({"port": number, "path": "/a", "ready": ready})
}

fn read(line: &Value) -> Result<List, ListError> {
    Ok(List::read(line.to_string().as_bytes(), &gateway())?.expect("no heartbeat"))
}

fn names(list: &List) -> Vec<String> {
    list.discovered.exports.iter().map(|export| export.service.to_string()).collect()
}

#[test]
fn a_list_says_what_there_is_and_how_much_of_it_is_ready() {
    let ports = json!([port(81, 0), {"port": 80, "name": "http", "appProtocol": "http", "path": "/", "ready": 3}]);
    let list = read(&said(json!([service("b", ports), service("a", json!([]))]))).unwrap();
    assert_eq!(names(&list), ["default/a", "default/b"]);
    let b = &list.discovered.exports[1];
    assert_eq!(b.service_account, "app");
    let http = DiscoveredPort { number: 80, name: Some("http".into()), app_protocol: Some("http".into()) };
    assert_eq!(b.ports, [http, DiscoveredPort { number: 81, name: None, app_protocol: None }]);
    let ready = |port| list.ready.get(&*format!("b.default.svc.clusterset.local:{port}")).copied();
    assert_eq!((ready(80), ready(81), ready(82)), (Some(3), Some(0), None));
    assert_eq!(list.left_out, None);
}

#[test]
fn an_empty_line_is_a_heartbeat() {
    for line in ["", " ", "\r"] {
        assert_eq!(List::read(line.as_bytes(), &gateway()), Ok(None), "{line:?}");
    }
}

#[test]
fn the_order_in_which_it_is_said_makes_no_difference() {
    let (a, b) = (service("a", json!([port(1, 1), port(2, 2)])), service("b", json!([])));
    let other = service("a", json!([port(2, 2), port(1, 1)]));
    assert_eq!(read(&said(json!([a, b]))).unwrap(), read(&said(json!([b, other]))).unwrap());
}

#[test]
fn what_a_newer_gateway_says_besides_is_passed_over() {
    let mut line = said(json!([service("a", json!([port(1, 1)]))]));
    line["version"] = json!(7);
    line["exports"][0]["locality"] = json!({"zone": "a"});
    line["exports"][0]["ports"][0]["latency"] = json!([1, 2]);
    assert_eq!(names(&read(&line).unwrap()), ["default/a"]);
}

#[test]
fn a_gateway_speaks_for_its_own_cluster_and_trust_domain_only() {
    let mut line = said(json!([]));
    line["clusterKey"] = json!("default/default/default/cluster-2");
    assert!(matches!(read(&line), Err(ListError::Cluster { .. })));
    let mut line = said(json!([]));
    line["trustDomain"] = json!("elsewhere.example");
    assert!(matches!(read(&line), Err(ListError::TrustDomain { .. })));
}

#[test]
fn junk_counts_for_nothing() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let twice = said(json!([])).to_string().replacen('{', "{\"exports\":[],", 1);
    let trailing = said(json!([])).to_string() + "{}";
    for line in ["{", "null", "[]", "{}", "\u{feff}{}", "{\"clusterKey\": 1}", &deep, &twice, &trailing] {
        assert!(matches!(List::read(line.as_bytes(), &gateway()), Err(ListError::Json(_))), "{line}");
    }
    assert!(matches!(List::read(b"{\"clusterKey\":\"\xff\"}", &gateway()), Err(ListError::Json(_))));
}

#[test]
fn a_list_without_end_counts_for_nothing() {
    let services = |count| (0..count).map(|n| service(&format!("s{n}"), json!([]))).collect::<Vec<_>>();
    assert_eq!(read(&said(json!(services(SERVICES_MAX)))).unwrap().discovered.exports.len(), SERVICES_MAX);
    assert_eq!(read(&said(json!(services(SERVICES_MAX + 1)))), Err(ListError::TooMany(SERVICES_MAX + 1)));
}

#[test]
fn what_cannot_be_a_service_is_left_out_and_the_rest_is_taken() {
    let with = |field: &str, value: Value| {
        let mut service = service("bad", json!([port(80, 1)]));
        service[field] = value;
        service
    };
    let many: Vec<_> = (1..=101).map(|number| port(number, 0)).collect();
    for bad in [
        with("name", json!("")),
        with("name", json!("a.b")),
        with("name", json!("A")),
        with("name", json!("-a")),
        with("name", json!("a".repeat(64))),
        with("name", json!("a\nb")),
        with("namespace", json!("\u{1b}[2J\r\n2026-01-01 INFO all is well")),
        with("namespace", json!("../x")),
        with("serviceAccountName", json!("a/b")),
        with("serviceAccountName", json!("**")),
        with("ports", json!([port(0, 1)])),
        with("ports", json!([port(80, 1), port(81, 1), port(80, 2)])),
        with("ports", json!(many)),
        with("ports", json!([{"port": 80, "name": "a b", "path": "/", "ready": 1}])),
        with("ports", json!([{"port": 80, "appProtocol": "\u{1b}[0m", "path": "/", "ready": 1}])),
    ] {
        let list = read(&said(json!([bad, service("good", json!([port(80, 1)]))]))).unwrap();
        assert_eq!(names(&list), ["default/good"], "{bad}");
        assert_eq!(list.ready.len(), 1, "{bad}");
        let (count, why) = list.left_out.unwrap();
        assert_eq!(count, 1, "{bad}");
        assert!(!why.contains(char::is_control) && why.starts_with('"'), "{why:?} is a line of the log");
    }
    let twice = read(&said(json!([service("a", json!([port(80, 1)])), service("a", json!([port(81, 1)]))]))).unwrap();
    assert_eq!((names(&twice), twice.ready.len()), (vec!["default/a".to_owned()], 1));
    assert_eq!(twice.left_out, Some((1, "\"default/a\" is there twice".to_owned())));
}

#[test]
fn accounts_may_be_any_or_unsaid() {
    for account in ["", "*", "app", "app.of.dots"] {
        let mut service = service("a", json!([]));
        service["serviceAccountName"] = json!(account);
        assert_eq!(read(&said(json!([service]))).unwrap().discovered.exports[0].service_account, account);
    }
}
