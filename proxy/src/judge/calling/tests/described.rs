//! Calls of which it is said what they carry.

use super::*;

/// As [`TARGETS`], with a route that lets in no more than reading.
fn reading() -> String {
    TARGETS.replace("{matches: [{name: all}]}", "{matches: [{name: read, methods: [GET], pathRegex: /api}]}")
}

const SPLITS: &str = "
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: testers, namespace: shop}
spec: {matches: [{name: by-header, headers: {x-user: alice}}]}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: a-testers, namespace: shop}
spec: {service: backend, matches: [{kind: HTTPRouteGroup, name: testers}], backends: [{service: empty, weight: 1}]}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: canary, namespace: shop}
spec: {service: backend, backends: [{service: backend, weight: 90}, {service: empty, weight: 10}]}
---
";

/// What is said of a call that carries `case`, to [`spanning`]'s three other clusters.
fn carrying(more: &str, case: Value) -> (Called, String) {
    let share = Share::DEFAULT;
    let (service, hops) = spanning(Spread { own: None, fail_over: false }, [share; 3]);
    let (snapshot, caller, settings) = (snapshot(more, "web"), caller("web"), Settings::default());
    let calling = Calling { snapshot: &snapshot, caller: &caller, settings: &settings, live: None };
    let mut called = Called::new(None, "http://backend.shop/", None);
    let case: Case = serde_json::from_value(case).unwrap();
    let sent = Sent::of(&case, &"http://backend.shop/".parse().unwrap(), false, settings.level).unwrap();
    called.request = sent.seen();
    let plan =
        Plan::Service { service, family: Family::Any, endpoints: hops, left_out: Vec::new(), out_of_reach: Vec::new() };
    calling.say(&mut called, plan, Family::Any, &sent, None);
    let text = called.text(false);
    (called, text)
}

#[test]
fn a_request_to_other_clusters_is_judged_by_the_callers_own_targets() {
    let (called, text) = carrying(&reading(), json!({"path": "//api/./v1"}));
    assert_eq!((called.verdict, called.reason, called.notes.len()), (Outcome::Allow, "service", 0));
    assert!(text.contains("\nrequest: GET /api/v1\n"), "{text}");
    let ruling = serde_json::to_value(&called.endpoints[0].ruling).unwrap();
    assert_eq!(
        ruling,
        json!({"verdict": "allow", "reason": "target_rule", "policy": "shop/web-to-backend rule 0", "nearest": null})
    );

    let (called, text) = carrying(&reading(), json!({"method": "POST", "path": "/api"}));
    assert_eq!((called.verdict, called.reason, called.status), (Outcome::Deny, "no_target_matched", Some(403)));
    assert!(text.starts_with("deny: is not sent to another cluster, the caller gets 403: this cluster's "), "{text}");
    let refused =
        ", but this is not sent (no_target_matched), nearest shop/web-to-backend rule 0: matches[read].methods\n";
    assert_eq!(text.matches(refused).count(), 3, "{text}");

    // Of a call of which nothing is said, and in permissive mode, there is nothing to say.
    for (more, case) in [(reading(), json!({})), (String::new(), json!({"method": "POST"}))] {
        let (called, _) = carrying(&more, case);
        assert_eq!((called.verdict, &called.endpoints[0].ruling), (Outcome::Allow, &None));
    }
}

#[test]
fn splits_are_told_backend_by_backend() {
    let snapshot = snapshot(SPLITS, "web");
    let expected = "\
allow: goes to backends of a TrafficSplit (split)
caller: web/web
called: http://backend.shop/, HTTP
split shop/a-testers: takes requests that match it
  100.0% empty.shop.svc.cluster.local, weight 1: the caller gets 503 (empty.shop.svc.cluster.local:80 has no ready endpoint (0 not ready))
split shop/canary: takes whatever comes to it
  90.0% backend.shop.svc.cluster.local, weight 90: used
  10.0% empty.shop.svc.cluster.local, weight 10: the caller gets 503 (empty.shop.svc.cluster.local:80 has no ready endpoint (0 not ready))
service: shop/backend, backend.shop.svc.cluster.local:80
";
    assert_eq!(text(&snapshot, "web", "http://backend.shop/"), expected);
    let called = call(&snapshot, "web", json!({"to": "http://backend.shop/", "headers": {"x-user": "alice"}}));
    assert_eq!((called.verdict, called.reason, called.status), (Outcome::Deny, "no_endpoint", Some(503)));
    let takes = |called: &Called| called.splits.iter().map(|split| split.takes).collect::<Vec<_>>();
    assert_eq!(takes(&called), [Some(true), Some(false)]);
    let called = call(&snapshot, "web", json!({"to": "http://backend.shop/", "headers": {"x-user": "bob"}}));
    assert_eq!((called.verdict, takes(&called)), (Outcome::Allow, vec![Some(false), Some(true)]));
    let called = call(&snapshot, "web", json!({"to": "tcp://backend.shop:80"}));
    assert_eq!((called.verdict, takes(&called)), (Outcome::Allow, vec![Some(false), Some(true)]));
    assert_eq!(
        serde_json::to_value(&called.splits[1].backends[1]).unwrap(),
        json!({"host": "empty.shop.svc.cluster.local", "weight": 10, "per_mille": 100, "verdict": "deny",
               "reason": "no_endpoint", "status": null,
               "detail": "empty.shop.svc.cluster.local:80 has no ready endpoint (0 not ready)"})
    );
}

#[test]
fn what_carries_no_request_is_given_none() {
    let snapshot = snapshot("", "web");
    let (caller, settings) = (caller("web"), Settings::default());
    let calling = Calling { snapshot: &snapshot, caller: &caller, settings: &settings, live: None };
    let error = |case: Value| calling.judge(&serde_json::from_value(case).unwrap()).unwrap_err().to_string();
    for to in ["tcp://backend.shop:5432", "backend.shop:5432"] {
        let expected = "path: has no meaning here: nothing on this port is read as a request";
        assert_eq!(error(json!({"to": to, "path": "/"})), expected);
    }
    assert!(error(json!({"to": "backend.shop", "path": "/a%00"})).starts_with("path: "));
}
