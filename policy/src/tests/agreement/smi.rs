//! Generated TrafficTargets and routes.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::naive::smi::{PATHS, Routes, Smi, Target, VALUES};
use crate::smi::{self, PathMatch};
use crate::{ObjectName, Policy};

fn account() -> impl Strategy<Value = Value> {
    let namespace = prop::sample::select(vec![None, Some("default"), Some("other")]);
    (prop::sample::select(vec!["frontend", "other"]), namespace).prop_map(|(name, namespace)| match namespace {
        Some(namespace) => json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}),
        None => json!({"kind": "ServiceAccount", "name": name}),
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let kinds = vec!["HTTPRouteGroup", "HTTPRouteGroup", "HTTPRouteGroup", "TCPRoute", "TCPRoute", "UDPRoute"];
    let name = prop::sample::select(vec!["r0", "r0", "r1", "missing"]);
    let matches = prop::option::of(prop::collection::vec(prop::sample::select(vec!["m0", "m1", "missing"]), 1..3));
    (prop::sample::select(kinds), name, matches).prop_map(|(kind, name, matches)| match matches {
        Some(matches) if kind == "HTTPRouteGroup" => json!({"kind": kind, "name": name, "matches": matches}),
        _ => json!({"kind": kind, "name": name}),
    })
}

fn target(index: usize) -> impl Strategy<Value = Target> {
    let namespaces = || prop::sample::select(vec!["default", "default", "default", "default", "other", "istio-system"]);
    let called = prop::sample::select(vec!["backend", "backend", "backend", "other"]);
    let port = prop::option::weighted(0.2, prop::sample::select(vec![80_u16, 8080]));
    let sources = prop::collection::vec(account(), 1..3);
    (namespaces(), namespaces(), called, port, sources, prop::collection::vec(rule(), 1..4)).prop_map(
        move |(namespace, called_in, called, port, sources, rules)| {
            let destination = json!({"kind": "ServiceAccount", "name": called, "namespace": called_in, "port": port});
            let spec = json!({"destination": destination, "sources": sources, "rules": rules});
            let spec = serde_json::from_value(spec).unwrap();
            Target { namespace: namespace.to_owned(), name: format!("t{index}"), spec }
        },
    )
}

fn group() -> impl Strategy<Value = Value> {
    let path = prop::option::of(prop::sample::select(PATHS));
    let method = prop::sample::select(vec!["GET", "POST", "*", "CONNECT"]);
    let methods = prop::option::of(prop::collection::vec(method, 1..3));
    let header = prop::option::weighted(0.3, prop::sample::select(VALUES));
    let one = (path, methods, header).prop_map(|(path, methods, header)| {
        let headers = header.map(|pattern| json!({"X-A": pattern}));
        json!({"pathRegex": path, "methods": methods, "headers": headers})
    });
    prop::collection::vec(one, 1..3).prop_map(|mut matches| {
        for (index, one) in matches.iter_mut().enumerate() {
            one["name"] = json!(format!("m{index}"));
        }
        json!({"matches": matches})
    })
}

fn tcp_route() -> impl Strategy<Value = Value> {
    let ports = prop::option::of(prop::collection::vec(prop::sample::select(vec![80_u16, 8080, 443]), 1..3));
    ports.prop_map(|ports| match ports {
        Some(ports) => json!({"matches": {"ports": ports}}),
        None => json!({}),
    })
}

fn routes() -> impl Strategy<Value = Routes> {
    (prop::collection::vec(group(), 3), prop::collection::vec(tcp_route(), 3)).prop_map(|(groups, tcp)| {
        let names = [("default", "r0"), ("default", "r1"), ("other", "r0")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let parse = |value: Value| serde_json::from_value(value).unwrap();
        Routes {
            http: names.iter().cloned().zip(groups.into_iter().map(parse)).collect(),
            tcp: names.into_iter().zip(tcp.into_iter().map(|value| serde_json::from_value(value).unwrap())).collect(),
        }
    })
}

pub(super) fn everything() -> impl Strategy<Value = Smi> {
    let part = prop::sample::select(vec![PathMatch::Prefix, PathMatch::Prefix, PathMatch::Full, PathMatch::Search]);
    let targets = ((target(1), target(0), target(2)), 0..=3_usize);
    let targets = targets.prop_map(|((a, b, c), length)| [a, b, c].into_iter().take(length).collect());
    let some = (prop::bool::weighted(0.8), part, targets, routes()).prop_map(|(in_force, part, targets, routes)| Smi {
        in_force,
        part,
        targets,
        routes,
    });
    // Compiling expressions is what these tests spend their time on, so there are not always any.
    prop_oneof![1 => Just(Smi::default()), 1 => some]
}

pub(super) fn policies(smi: &Smi) -> Vec<Arc<Policy>> {
    let object = |(namespace, name): &(String, String)| ObjectName { namespace: namespace.clone(), name: name.clone() };
    let mut routes = smi::Routes::default();
    for (name, spec) in &smi.routes.http {
        routes.http.insert(object(name), Arc::new(smi::http_route_group(spec.clone()).unwrap()));
    }
    for (name, spec) in &smi.routes.tcp {
        routes.tcp.insert(object(name), Arc::new(smi::tcp_route(spec.clone()).unwrap()));
    }
    let compose = |target: &Target| {
        let name = object(&(target.namespace.clone(), target.name.clone()));
        let target = smi::traffic_target(name, target.spec.clone()).unwrap();
        smi::compose(&target, &routes, smi.part).policy.map(Arc::new)
    };
    smi.targets.iter().filter_map(compose).collect()
}
