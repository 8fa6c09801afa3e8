//! What TrafficTargets mean, written straight down. Regular expressions are a short list, each spelt out by hand.

use std::collections::BTreeMap;

use super::{Call, Hit, Mesh};
use crate::smi::PathMatch;
use crate::smi::spec::{
    HeadersSpec, HttpMatchSpec, HttpRouteGroupSpec, RouteKind, RuleSpec, TcpRouteSpec, TrafficTargetSpec,
};

#[derive(Clone, Debug)]
pub(in crate::tests) struct Target {
    pub(in crate::tests) namespace: String,
    pub(in crate::tests) name: String,
    pub(in crate::tests) spec: TrafficTargetSpec,
}

/// Routes by namespace and name.
#[derive(Clone, Debug, Default)]
pub(in crate::tests) struct Routes {
    pub(in crate::tests) http: BTreeMap<(String, String), HttpRouteGroupSpec>,
    pub(in crate::tests) tcp: BTreeMap<(String, String), TcpRouteSpec>,
}

#[derive(Clone, Debug, Default)]
pub(in crate::tests) struct Smi {
    pub(in crate::tests) in_force: bool,
    pub(in crate::tests) part: PathMatch,
    pub(in crate::tests) targets: Vec<Target>,
    pub(in crate::tests) routes: Routes,
}

/// The first rule of the first target, by name, that lets the call in.
pub(super) fn hit(smi: &Smi, mesh: &Mesh, call: &Call) -> Hit {
    let mut targets: Vec<_> = smi.targets.iter().filter(|target| selects(target)).collect();
    targets.sort_by_key(|target| &target.name);
    targets.into_iter().find_map(|target| {
        let index = (0..target.spec.rules.len()).find(|index| rule_matches(smi, target, *index, mesh, call))?;
        Some(format!("{}/{} rule {index}", target.namespace, target.name))
    })
}

/// For the workload of these tests, and its own namespace's to give.
pub(in crate::tests) fn selects(target: &Target) -> bool {
    let destination = &target.spec.destination;
    let namespace = destination.namespace.as_ref().unwrap_or(&target.namespace);
    target.namespace == "default" && namespace == "default" && destination.name == "backend"
}

pub(in crate::tests) fn rule_matches(smi: &Smi, target: &Target, index: usize, mesh: &Mesh, call: &Call) -> bool {
    let rule = &target.spec.rules[index];
    let has = |kind| target.spec.rules.iter().any(|rule| rule.kind == kind);
    let right_kind = match rule.kind {
        RouteKind::HttpRouteGroup => !call.tcp && requests(smi, target, rule).any(|one| request(one, smi.part, call)),
        RouteKind::TcpRoute => call.tcp && !has(RouteKind::HttpRouteGroup),
        RouteKind::UdpRoute => false,
    };
    let called = |port: &u16| *port == call.destination.port() || Some(*port) == call.service_port;
    let ports = !has(RouteKind::TcpRoute)
        || target.spec.rules.iter().filter(|rule| rule.kind == RouteKind::TcpRoute).any(|rule| {
            let route = smi.routes.tcp.get(&(target.namespace.clone(), rule.name.clone()));
            route.is_some_and(|route| match route.matches.as_ref().and_then(|matches| matches.ports.as_ref()) {
                Some(ports) => ports.iter().any(called),
                None => true,
            })
        });
    right_kind && ports && target.spec.destination.port.as_ref().is_none_or(called) && is_source(target, mesh, call)
}

fn is_source(target: &Target, mesh: &Mesh, call: &Call) -> bool {
    let Some(peer) = &call.peer else { return false };
    target.spec.sources.iter().any(|source| {
        let namespace = source.namespace.as_ref().unwrap_or(&target.namespace);
        mesh.domains
            .iter()
            .any(|domain| peer.as_str() == format!("spiffe://{domain}/ns/{namespace}/sa/{}", source.name))
    })
}

fn requests<'a>(smi: &'a Smi, target: &Target, rule: &'a RuleSpec) -> impl Iterator<Item = &'a HttpMatchSpec> {
    let group = smi.routes.http.get(&(target.namespace.clone(), rule.name.clone()));
    group.into_iter().flat_map(|group| &group.matches).filter(|one| match &rule.matches {
        Some(names) => one.name.as_ref().is_some_and(|name| names.contains(name)),
        None => true,
    })
}

fn request(one: &HttpMatchSpec, part: PathMatch, call: &Call) -> bool {
    let path = call.path_and_query.split('?').next().unwrap();
    let method = |listed: &Vec<String>| {
        listed.iter().any(|method| *method == call.method || method == "*" && call.method != "CONNECT")
    };
    let header = |name: &String, pattern: &String| {
        let lines: Vec<_> = call.headers.get_all(name).iter().map(|line| line.to_str().unwrap().trim()).collect();
        !lines.is_empty() && ends(pattern, &lines.join(",")).contains(&lines.join(",").len())
    };
    let headers = match &one.headers {
        None => true,
        Some(HeadersSpec::Map(map)) => map.iter().all(|(name, pattern)| header(name, pattern)),
        Some(HeadersSpec::List(list)) => list.iter().flatten().all(|(name, pattern)| header(name, pattern)),
    };
    one.methods.as_ref().map_or(call.method != "CONNECT", method)
        && one.path_regex.as_ref().is_none_or(|pattern| match part {
            PathMatch::Prefix => !ends(pattern, path).is_empty(),
            PathMatch::Full => ends(pattern, path).contains(&path.len()),
            PathMatch::Search => (0..=path.len()).any(|start| !ends(pattern, &path[start..]).is_empty()),
        })
        && headers
}

pub(in crate::tests) const PATHS: &[&str] = &["/a", "/a$", "/a/.*", ".*", "/a|/b", "/[^/]+/b", "/"];
pub(in crate::tests) const VALUES: &[&str] = &["1", "1.*", ".*", "1,2", "[12]+"];

/// Where a match from the beginning of the text can end.
fn ends(pattern: &str, text: &str) -> Vec<usize> {
    let literal = |word: &str| if text.starts_with(word) { vec![word.len()] } else { vec![] };
    let then_anything = |word: &str| if text.starts_with(word) { (word.len()..=text.len()).collect() } else { vec![] };
    match pattern {
        "/a" | "/" | "1" | "1,2" => literal(pattern),
        "/a$" if text == "/a" => vec![2],
        "/a$" => vec![],
        "/a/.*" => then_anything("/a/"),
        ".*" => then_anything(""),
        "1.*" => then_anything("1"),
        "/a|/b" => [literal("/a"), literal("/b")].concat(),
        "/[^/]+/b" => match text.strip_prefix('/').and_then(|rest| rest.split_once('/')) {
            Some((first, rest)) if !first.is_empty() && rest.starts_with('b') => vec![first.len() + 3],
            _ => vec![],
        },
        "[12]+" => (1..=text.chars().take_while(|c| "12".contains(*c)).count()).collect(),
        other => panic!("{other} is not spelt out"),
    }
}
