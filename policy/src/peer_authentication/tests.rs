use super::*;
use crate::istio::{PeerAuthenticationSpec, peer_authentication};

const ROOT: &str = "istio-system";

fn object(namespace: &str, name: &str, spec: serde_json::Value) -> Arc<PeerAuthentication> {
    let spec: PeerAuthenticationSpec = serde_json::from_value(spec).unwrap();
    let name = ObjectName { namespace: namespace.into(), name: name.into() };
    Arc::new(peer_authentication(name, spec, ROOT).unwrap())
}

fn modes(objects: &[Arc<PeerAuthentication>]) -> MtlsModes {
    let labels = BTreeMap::from([("app".to_owned(), "backend".to_owned())]);
    let workload = Workload { namespace: "default".into(), service_account: "backend".into(), labels };
    MtlsModes::for_workload(objects, &workload, ROOT)
}

fn strict() -> serde_json::Value {
    serde_json::json!({"mtls": {"mode": "STRICT"}})
}

fn disable() -> serde_json::Value {
    serde_json::json!({"mtls": {"mode": "DISABLE"}})
}

fn own(mode: &str) -> serde_json::Value {
    serde_json::json!({
        "selector": {"matchLabels": {"app": "backend"}},
        "mtls": {"mode": mode},
        "portLevelMtls": {"8080": {"mode": "DISABLE"}, "8081": {"mode": "UNSET"}, "8082": {}},
    })
}

#[test]
fn permissive_without_any() {
    assert_eq!(modes(&[]), MtlsModes::default());
    assert_eq!(modes(&[]).mode(80), MtlsMode::Permissive);
    assert_eq!(modes(&[object("other", "a", strict())]).mode(80), MtlsMode::Permissive);
}

#[test]
fn the_narrower_scope_wins() {
    let mesh = object(ROOT, "mesh", strict());
    let namespace = object("default", "namespace", disable());
    let workload = object("default", "workload", own("PERMISSIVE"));
    assert_eq!(modes(std::slice::from_ref(&mesh)).mode(80), MtlsMode::Strict);
    assert_eq!(modes(&[Arc::clone(&mesh), Arc::clone(&namespace)]).mode(80), MtlsMode::Disable);
    let all = modes(&[mesh, namespace, workload]);
    assert_eq!(all.mode(80), MtlsMode::Permissive);
    assert_eq!(all.mode(8080), MtlsMode::Disable);
}

#[test]
fn unset_inherits() {
    let all = modes(&[object(ROOT, "mesh", strict()), object("default", "workload", own("UNSET"))]);
    for (port, expected) in
        [(80, MtlsMode::Strict), (8080, MtlsMode::Disable), (8081, MtlsMode::Strict), (8082, MtlsMode::Strict)]
    {
        assert_eq!(all.mode(port), expected, "{port}");
    }
}

#[test]
fn empty_selectors_are_none() {
    for selector in [serde_json::json!({}), serde_json::json!({"matchLabels": {}})] {
        let spec = serde_json::json!({"selector": selector, "mtls": {"mode": "STRICT"}});
        assert_eq!(modes(&[object(ROOT, "mesh", spec)]).mode(80), MtlsMode::Strict);
    }
}

#[test]
fn a_selector_in_the_root_namespace_counts_for_nobody() {
    let spec = serde_json::json!({"selector": {"matchLabels": {"app": "backend"}}, "mtls": {"mode": "STRICT"}});
    assert_eq!(modes(&[object(ROOT, "a", spec)]).mode(80), MtlsMode::Permissive);
}

#[test]
fn of_two_in_one_scope_the_first_by_name_counts_alone() {
    let both =
        [object("default", "b", own("STRICT")), object("default", "a", disable()), object("default", "b0", strict())];
    assert_eq!(modes(&both[1..]).mode(80), MtlsMode::Disable);
    assert_eq!(modes(&both).mode(80), MtlsMode::Strict);
}

#[test]
fn an_unreadable_one_opens_nothing() {
    let name = |namespace: &str| ObjectName { namespace: namespace.into(), name: "broken".into() };
    for namespace in [ROOT, "default"] {
        let broken = Arc::new(PeerAuthentication::unreadable(name(namespace), None, ROOT));
        assert_eq!(modes(&[broken]).mode(80), MtlsMode::Strict);
    }
}
