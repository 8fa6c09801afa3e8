use http::HeaderMap;
use meshgate_policy::RequestView;

use super::*;
use crate::ConfigStore;
use crate::check::check;
use crate::testing::{Folder, settings};

const SERVICES: &str = "\
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: default}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}, {name: tcp-admin, port: 90}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop-v1, namespace: default}
spec: {clusterIP: 10.96.0.11, ports: [{name: http, port: 80}, {name: tcp-admin, port: 90}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop-v2, namespace: default}
spec: {clusterIP: 10.96.0.12, ports: [{name: http, port: 80}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: testers, namespace: default}
spec: {matches: [{name: by-header, headers: {x-user: alice}}]}
---
";

fn split(name: &str, version: &str, spec: &str) -> String {
    format!(
        "apiVersion: split.smi-spec.io/{version}\nkind: TrafficSplit\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {spec}\n---\n"
    )
}

/// What hangs on a port of `shop`, in words.
fn shown(files: &[&str], port: u16) -> Vec<String> {
    let folder = Folder::new(&[("a.yaml", SERVICES), ("b.yaml", &files.concat())]);
    let snapshot = ConfigStore::open(&folder.bootstrap()).unwrap_or_else(|all| panic!("{all:?}")).current();
    let root = snapshot.services.by_host("shop", port, "default").unwrap();
    let rules = root.split.iter().flat_map(|split| &split.rules);
    rules
        .map(|rule| {
            let backend = |backend: &SplitBackend| {
                let service = backend.service.as_ref();
                assert!(
                    service
                        .is_none_or(|found| found.split.is_none() && found.port == port && found.host == backend.host)
                );
                format!(
                    "{} {}{}",
                    backend.weight,
                    backend.host.split('.').next().unwrap(),
                    if service.is_none() { "?" } else { "" }
                )
            };
            let backends: Vec<_> = rule.backends.iter().map(backend).collect();
            let some = if rule.requests.is_some() { " of some" } else { "" };
            format!("{}{some}: {}", rule.name.name, backends.join(", "))
        })
        .collect()
}

#[test]
fn hangs_on_the_ports_of_its_root_with_its_backends_ports() {
    const TWO: &str = "backends: [{service: shop-v1, weight: 90}, {service: shop-v2, weight: 10}]";
    for (splits, port, expected) in [
        (vec![split("s", "v1alpha4", &format!("{{service: shop, {TWO}}}"))], 80, vec!["s: 90 shop-v1, 10 shop-v2"]),
        // Port 90 is not on shop-v2.
        (vec![split("s", "v1alpha4", &format!("{{service: shop, {TWO}}}"))], 90, vec!["s: 90 shop-v1"]),
        (
            vec![split("s", "v1alpha2", &format!("{{service: shop.default.svc.cluster.local, {TWO}}}"))],
            80,
            vec!["s: 90 shop-v1, 10 shop-v2"],
        ),
        (vec![split("s", "v1alpha3", &format!("{{service: shop.default.svc.elsewhere, {TWO}}}"))], 80, vec![]),
        (
            vec![split(
                "s",
                "v1alpha1",
                "{service: shop, backends: [{service: shop-v1, weight: 900m}, {service: shop-v2, weight: 0.1}]}",
            )],
            80,
            vec!["s: 900 shop-v1, 100 shop-v2"],
        ),
        (
            vec![split(
                "s",
                "v1alpha4",
                "{service: shop, backends: [{service: shop, weight: 1}, {service: shop-v2, weight: 0}, {service: gone, weight: 2}]}",
            )],
            80,
            vec!["s: 1 shop, 2 gone?"],
        ),
        // Only a backend without the port has a weight: nobody is left.
        (vec![split("s", "v1alpha4", "{service: shop, backends: [{service: shop-v2, weight: 1}]}")], 90, vec!["s: "]),
        (
            vec![
                split("a", "v1alpha4", &format!("{{service: shop, {TWO}}}")),
                split("b", "v1alpha4", "{service: shop, backends: [{service: shop-v2, weight: 1}]}"),
                split(
                    "c",
                    "v1alpha4",
                    "{service: shop, matches: [{kind: HTTPRouteGroup, name: testers}], backends: [{service: shop-v2, weight: 1}]}",
                ),
                split("nested", "v1alpha4", "{service: shop-v2, backends: [{service: shop, weight: 1}]}"),
            ],
            80,
            vec!["c of some: 1 shop-v2", "a: 90 shop-v1, 10 shop-v2"],
        ),
    ] {
        let splits: Vec<_> = splits.iter().map(String::as_str).collect();
        assert_eq!(shown(&splits, port), expected, "{splits:?} at {port}");
    }
}

#[test]
fn applies_to_the_requests_of_its_groups() {
    let matched = |groups: &str| {
        let spec = format!("{{service: shop, matches: {groups}, backends: [{{service: shop-v2, weight: 1}}]}}");
        let folder = Folder::new(&[("a.yaml", SERVICES), ("b.yaml", &split("s", "v1alpha4", &spec))]);
        let snapshot = ConfigStore::open(&folder.bootstrap()).unwrap().current();
        let root = snapshot.services.by_host("shop", 80, "default").unwrap();
        let requests = root.split.as_ref().unwrap().rules[0].requests.clone().unwrap();
        ["alice", "bob"].map(|user| {
            let headers = HeaderMap::from_iter([("x-user".parse().unwrap(), user.parse().unwrap())]);
            requests.include(&RequestView {
                method: "GET",
                path: "/",
                path_and_query: "/",
                host: "shop",
                scheme: "http",
                headers: &headers,
                token: None,
                remote_ip: [127, 0, 0, 1].into(),
            })
        })
    };
    assert_eq!(matched("[{kind: HTTPRouteGroup, name: testers}]"), [true, false]);
    assert_eq!(
        matched(
            "[{apiGroup: specs.smi-spec.io, kind: HTTPRouteGroup, name: testers}, {kind: HTTPRouteGroup, name: gone}]"
        ),
        [true, false]
    );
    // What is missing never widens.
    assert_eq!(matched("[{kind: HTTPRouteGroup, name: gone}]"), [false, false]);
}

/// That such a split is refused with this message, where it stands.
fn assert_refused(version: &str, spec: &str, expected: &str) {
    let folder = Folder::new(&[("s.yaml", &split("s", version, spec))]);
    let problems = folder.shown(&ConfigStore::open(&folder.bootstrap()).unwrap_err());
    let message = format!("TrafficSplit default/s: {expected}");
    let found = problems.iter().any(|problem| problem.starts_with("s.yaml:") && problem.contains(&message));
    assert!(found, "{spec}: {problems:#?}");
}

#[test]
fn services_and_weights_that_are_none_are_errors_where_they_stand() {
    for (version, spec, expected) in [
        ("v1alpha4", "{service: shop}", "spec.backends: must name at least one Service"),
        (
            "v1alpha4",
            "{service: shop, backends: [{service: a, weight: 0}, {service: b, weight: 0}]}",
            "spec.backends: every weight is 0: nobody would serve a request",
        ),
        (
            "v1alpha4",
            "{service: shop, backends: [{service: a, weight: 500m}]}",
            "spec.backends[0].weight: `500m` is not a weight: expected a whole number, 0 or more",
        ),
        (
            "v1alpha4",
            "{service: shop, backends: [{service: a, weight: -1}]}",
            "spec.backends[0].weight: `-1` is not a weight: expected a whole number, 0 or more",
        ),
        (
            "v1alpha1",
            "{service: shop, backends: [{service: a, weight: 1k}]}",
            "spec.backends[0].weight: `1k` is not a weight: expected a quantity such as 1, 0.5 or 500m",
        ),
        (
            "v1alpha4",
            "{service: shop, backends: [{service: a, weight: 1}, {service: a.default, weight: 1}]}",
            "spec.backends[1].service: a is a backend already",
        ),
        (
            "v1alpha4",
            "{service: shop.other, backends: [{service: a, weight: 1}]}",
            "spec.service: `shop.other` is in another namespace: a TrafficSplit is about Services of its own, default",
        ),
        (
            "v1alpha4",
            "{service: shop, backends: [{service: a.default.pod, weight: 1}]}",
            "spec.backends[0].service: `a.default.pod` is not the name of a Service: expected `name` or `name.default.svc.<domain>`",
        ),
    ] {
        assert_refused(version, spec, expected);
    }
}

#[test]
fn matches_and_fields_that_are_none_are_errors_where_they_stand() {
    const ONE: &str = "backends: [{service: a, weight: 1}]";
    for (version, spec, expected) in [
        (
            "v1alpha4",
            format!("{{service: shop, matches: [], {ONE}}}"),
            "spec.matches: must not be empty; leave it out for every request",
        ),
        (
            "v1alpha2",
            format!("{{service: shop, matches: [{{kind: HTTPRouteGroup, name: g}}], {ONE}}}"),
            "spec.matches: is not a field of split.smi-spec.io/v1alpha2: it came with v1alpha3",
        ),
        (
            "v1alpha4",
            format!("{{service: shop, matches: [{{kind: TCPRoute, name: g}}], {ONE}}}"),
            "spec.matches[0].kind: unknown variant `TCPRoute`, expected `HTTPRouteGroup`",
        ),
        (
            "v1alpha4",
            format!("{{service: shop, matches: [{{apiGroup: x, kind: HTTPRouteGroup, name: g}}], {ONE}}}"),
            "spec.matches[0].apiGroup: `x` is not specs.smi-spec.io",
        ),
        (
            "v1alpha4",
            format!("{{service: shop, backend: [], {ONE}}}"),
            "spec.backend: unknown field `backend`, expected one of `service`, `matches`, `backends`",
        ),
    ] {
        assert_refused(version, &spec, expected);
    }
}

#[test]
fn what_is_probably_not_meant_is_said_with_a_code() {
    let files = [
        split("a", "v1alpha4", "{service: gone, backends: [{service: shop-v1, weight: 1}]}"),
        split(
            "b",
            "v1alpha4",
            "{service: shop, backends: [{service: gone, weight: 1}, {service: shop-v2, weight: 0}]}",
        ),
        split("c", "v1alpha4", "{service: shop, backends: [{service: shop-v1, weight: 1}]}"),
        split(
            "d",
            "v1alpha4",
            "{service: shop-v1, matches: [{kind: HTTPRouteGroup, name: gone}], backends: [{service: shop-v2, weight: 1}, {service: shop-v1, weight: 0}]}",
        ),
        split("e", "v1alpha4", "{service: shop-v2, backends: [{service: shop-v1, weight: 1}]}"),
    ];
    let folder = Folder::new(&[("a.yaml", SERVICES), ("b.yaml", &files.concat())]);
    let shown = folder.shown(&check(&folder.resources(), &settings(), None));
    let shown: Vec<_> =
        shown.iter().filter_map(|line| line.split_once("TrafficSplit default/")).map(|(_, rest)| rest).collect();
    assert_eq!(
        shown,
        [
            "a: MG060: has no effect: there is no Service default/gone",
            "b: MG061: there is no Service default/gone: its share is refused",
            "b: MG065: default/shop-v2 is the root of a TrafficSplit too, which is not followed from here",
            "b: MG064: default/shop-v2 has no port 90: the other backends get its share there",
            "c: MG066: never applies: TrafficSplit default/b takes everything that is left",
            "d: MG062: there is no HTTPRouteGroup default/gone: it applies to no request because of that",
            "d: MG065: default/shop-v2 is the root of a TrafficSplit too, which is not followed from here",
            "d: MG064: default/shop-v2 has no port 90: the other backends get its share there",
            "d: MG063: no backend with a weight has port 90: every request there is refused",
            "e: MG065: default/shop-v1 is the root of a TrafficSplit too, which is not followed from here",
        ]
    );
}
