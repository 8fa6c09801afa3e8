//! What is valid in SMI's documents and most likely not meant.
//!
//! [`MISSING_ROUTE`](crate::lint::MISSING_ROUTE) and [`FOREIGN_NAMESPACE`](crate::lint::FOREIGN_NAMESPACE) come with [`compose()`](crate::smi::compose()), as they also cost the
//! TrafficTarget something; the others are found here and change nothing.

use std::collections::{BTreeSet, HashMap};

use crate::lint::{About, COVERED_TARGET, Lint, NOT_IN_FORCE, UNKNOWN_DESTINATION, WIDE_PATH};
use crate::model::{ObjectName, SmiMode};
use crate::smi::compose::Routes;
use crate::smi::pattern::PathMatch;
use crate::smi::spec::RouteKind;
use crate::smi::target::{RouteRef, TrafficTarget};

/// What the documents are held against.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Every route.
    pub routes: &'a Routes,
    /// Service accounts that are known, by namespace and name; when there is none, nothing is said about them.
    pub accounts: &'a BTreeSet<ObjectName>,
    /// The mode in force.
    pub mode: SmiMode,
    /// How much of a path a `pathRegex` must cover.
    pub path_match: PathMatch,
}

/// Findings about TrafficTargets, in the order of their names.
pub fn targets(targets: &[&TrafficTarget], around: &Surroundings<'_>) -> Vec<Lint> {
    let mut sorted = targets.to_vec();
    sorted.sort_by_key(|target| &target.name);
    let by_route = by_route(&sorted);
    let mut lints = Vec::new();
    for (index, target) in sorted.iter().enumerate() {
        let mut add = |code, message| {
            lints.push(Lint { code, about: About::TrafficTarget, policy: target.name.clone(), message });
        };
        // What covers a target has its first route too.
        let others = by_route.get(&first_route(target)).into_iter().flatten().copied().filter(|other| *other != index);
        let mut others = others.filter_map(|other| Some((other, *sorted.get(other)?)));
        // Of two that cover each other the first by name stays.
        let cover = others.find(|(other, by)| covers(by, target) && (*other < index || !covers(target, by)));
        if let Some((_, by)) = cover {
            add(COVERED_TARGET, format!("adds nothing: {} lets the same callers in on the same routes", by.name));
        }
        let destination = ObjectName {
            namespace: target.destination.namespace.to_string(),
            name: target.destination.name.to_string(),
        };
        if !around.accounts.is_empty() && !around.accounts.contains(&destination) {
            add(
                UNKNOWN_DESTINATION,
                format!("no workload here runs as its destination, service account {destination}"),
            );
        }
        if around.mode == SmiMode::Permissive {
            let message = "has no effect in permissive mode; a MeshConfig, or `authorization.smi: trafficPolicy` in the \
                           bootstrap, puts TrafficTargets in force";
            add(NOT_IN_FORCE, message.to_owned());
        }
    }
    lints
}

/// Findings about HTTPRouteGroups, in the order of their names.
pub fn groups(around: &Surroundings<'_>) -> Vec<Lint> {
    let mut lints = Vec::new();
    for (name, group) in &around.routes.http {
        for (index, one) in group.matches.iter().enumerate() {
            let Some(path) = &one.path else { continue };
            for message in wide(path, around.path_match) {
                let message = format!("matches[{index}].pathRegex: {message}");
                lints.push(Lint { code: WIDE_PATH, about: About::HttpRouteGroup, policy: name.clone(), message });
            }
        }
    }
    lints
}

/// Namespace, kind of the route and its name; `None` for whoever has no route that counts.
type RouteKey<'a> = (&'a str, Option<(RouteKind, &'a str)>);

/// The targets, by their places, that have each route.
fn by_route<'a>(targets: &[&'a TrafficTarget]) -> HashMap<RouteKey<'a>, Vec<usize>> {
    let mut found: HashMap<RouteKey<'a>, Vec<usize>> = HashMap::new();
    for (index, target) in targets.iter().enumerate() {
        let named: BTreeSet<_> = routes_of(target).map(Some).chain([None]).collect();
        for route in named {
            found.entry((&target.name.namespace, route)).or_default().push(index);
        }
    }
    found
}

fn first_route(target: &TrafficTarget) -> RouteKey<'_> {
    (&target.name.namespace, routes_of(target).next())
}

fn routes_of(target: &TrafficTarget) -> impl Iterator<Item = (RouteKind, &str)> {
    target.rules.iter().filter(|rule| rule.kind != RouteKind::UdpRoute).map(|rule| (rule.kind, rule.name.as_str()))
}

/// Whether every request that `target` lets in is let in by `by` as well.
fn covers(by: &TrafficTarget, target: &TrafficTarget) -> bool {
    let http = |target: &TrafficTarget| target.rules.iter().any(|rule| rule.kind == RouteKind::HttpRouteGroup);
    let includes = |wide: &RouteRef, narrow: &RouteRef| {
        wide.kind == narrow.kind
            && wide.name == narrow.name
            && match (&wide.matches, &narrow.matches) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(wide), Some(narrow)) => narrow.iter().all(|name| wide.contains(name)),
            }
    };
    let tcp = |target: &TrafficTarget| -> BTreeSet<String> {
        target.rules.iter().filter(|rule| rule.kind == RouteKind::TcpRoute).map(|rule| rule.name.clone()).collect()
    };
    let mut routes = target.rules.iter().filter(|rule| rule.kind != RouteKind::UdpRoute);
    // Names of routes are those of the own namespace.
    by.name.namespace == target.name.namespace
        && by.destination == target.destination
        && by.port == target.port
        && (by.clusters.is_empty()
            || !target.clusters.is_empty() && target.clusters.iter().all(|one| by.clusters.contains(one)))
        && target.sources.iter().all(|source| by.sources.contains(source))
        && http(by) == http(target)
        && routes.all(|narrow| by.rules.iter().any(|wide| includes(wide, narrow)))
        && tcp(by) == tcp(target)
}

/// What a pattern admits beyond what it looks like.
fn wide(pattern: &str, part: PathMatch) -> Vec<String> {
    let mut messages = Vec::new();
    let special = |c: char| r"\+*?()|[]{}^$".contains(c);
    let literal = !pattern.chars().any(special);
    match part {
        PathMatch::Prefix if literal && !pattern.ends_with('/') => messages.push(format!(
            "{pattern:?} is a beginning: it also admits \"{pattern}-x\"; end it with `$`, or with `(/.*)?$`"
        )),
        PathMatch::Search if !pattern.starts_with('^') => {
            messages.push(format!("{pattern:?} is looked for anywhere in the path; begin it with `^`"));
        }
        _ => {}
    }
    if has_literal_dot(pattern) {
        messages.push(format!("{pattern:?} has a dot that stands for any character; write `\\.` where a dot is meant"));
    }
    messages
}

/// Whether a `.` stands between two word characters, outside of brackets and not repeated: there it is meant as a dot.
fn has_literal_dot(pattern: &str) -> bool {
    let mut before = None;
    let mut escaped = false;
    let mut in_class = false;
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        let word_before = before.is_some_and(char::is_alphanumeric);
        let word_after = rest.peek().is_some_and(|next| next.is_alphanumeric());
        if c == '.' && !escaped && !in_class && word_before && word_after {
            return true;
        }
        in_class = !escaped && (c == '[' || in_class && c != ']') || escaped && in_class;
        escaped = c == '\\' && !escaped;
        before = Some(c);
    }
    false
}
