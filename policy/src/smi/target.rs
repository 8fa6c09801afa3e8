//! TrafficTarget: who may ask whom for what.

use crate::condition::ServiceAccount;
use crate::istio::report::Report;
use crate::model::{Invalid, ObjectName};
use crate::smi::spec::{RouteKind, RuleSpec, TrafficTargetSpec};

/// A TrafficTarget, checked, and not yet joined with the routes it names.
#[derive(Clone, Debug)]
pub struct TrafficTarget {
    pub(crate) name: ObjectName,
    pub(crate) destination: ServiceAccount,
    pub(crate) port: Option<u16>,
    pub(crate) sources: Box<[ServiceAccount]>,
    pub(crate) rules: Box<[RouteRef]>,
    /// Whose workloads its destination is; empty = all clusters'.
    pub(crate) clusters: Box<[Box<str>]>,
}

/// An element of `spec.rules`.
#[derive(Clone, Debug)]
pub(crate) struct RouteRef {
    pub(crate) kind: RouteKind,
    pub(crate) name: String,
    /// `None`: all of the group's.
    pub(crate) matches: Option<Vec<String>>,
}

impl TrafficTarget {
    /// Its namespace and name.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// The same, for the workloads of some clusters only (`region/zone/group/cluster`). None = all clusters'.
    ///
    /// An extension: SMI has no word for clusters, and means its service accounts wherever they are.
    #[must_use]
    pub fn only_in(self, clusters: impl IntoIterator<Item = Box<str>>) -> TrafficTarget {
        TrafficTarget { clusters: clusters.into_iter().collect(), ..self }
    }
}

/// Gives a TrafficTarget its meaning, as far as it stands in the document alone.
///
/// # Errors
/// Everything that is wrong with it: no source, no rule, an empty name, a list of matches that is empty or belongs to no
/// HTTPRouteGroup.
pub fn traffic_target(name: ObjectName, spec: TrafficTargetSpec) -> Result<TrafficTarget, Vec<Invalid>> {
    let mut report = Report::default();
    let TrafficTargetSpec { destination, sources, rules } = spec;
    if sources.is_empty() {
        report.add("spec.sources", "must name at least one service account");
    }
    if rules.is_empty() {
        report.add("spec.rules", "must name at least one route");
    }
    if destination.port == Some(0) {
        report.add("spec.destination.port", "is not a port, 1 to 65535");
    }
    let mut account = |path: String, account: String, namespace: Option<String>| {
        if account.is_empty() {
            report.add(format!("{path}.name"), "must not be empty");
        }
        let namespace = namespace.filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| name.namespace.clone());
        ServiceAccount { namespace: namespace.into(), name: account.into() }
    };
    let called = account("spec.destination".to_owned(), destination.name, destination.namespace);
    let sources = sources.into_iter().enumerate();
    let sources = sources
        .map(|(index, source)| account(format!("spec.sources[{index}]"), source.name, source.namespace))
        .collect();
    let rules = rules.into_iter().enumerate().map(|(index, rule)| route_ref(index, rule, &mut report)).collect();
    report.finish(TrafficTarget {
        name,
        destination: called,
        port: destination.port,
        sources,
        rules,
        clusters: Box::default(),
    })
}

fn route_ref(index: usize, rule: RuleSpec, report: &mut Report) -> RouteRef {
    let RuleSpec { kind, name, matches } = rule;
    let path = format!("spec.rules[{index}]");
    if name.is_empty() {
        report.add(format!("{path}.name"), "must not be empty");
    }
    match &matches {
        Some(_) if kind != RouteKind::HttpRouteGroup => {
            report.add(format!("{path}.matches"), "only an HTTPRouteGroup has matches to choose from");
        }
        Some(names) if names.is_empty() => {
            report.add(format!("{path}.matches"), "must not be empty; leave it out for all matches of the group");
        }
        _ => {}
    }
    RouteRef { kind, name, matches }
}
