//! Which ServiceExports are in force: what a gateway of this cluster lets others call.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use meshgate_policy::ObjectName;
use meshgate_policy::lint::{DUPLICATE_EXPORT_PATH, EXPORT_WITHOUT_SERVICE};

use super::export::{Ports, ServiceExport};
use super::lint::finding;
use crate::clusters::{Balancer, ClusterKey, Export, ExportedPort, Exports};
use crate::kept::Standing;
use crate::kind::Kind;
use crate::problem::Problem;
use crate::resource::{Key, Object, Place};
use crate::services::{EndpointIdentity, Entry, ServicePort};

/// A path and whether it is exact, and whose it is.
type Paths = HashMap<(String, bool), ObjectName>;

/// Composes them from services that have this cluster's endpoints alone, sorted by name.
pub(crate) fn compose(
    standing: &Standing,
    entries: &[Entry<'_>],
    own: &ClusterKey,
    problems: &mut Vec<Problem>,
) -> Exports {
    let mut paths = Paths::new();
    let mut exports: Vec<Arc<Export>> = Vec::new();
    let mut seen = BTreeSet::new();
    // FSM's come before those of the MCS API, which say less.
    for (key, place, object) in standing.good() {
        let Object::ServiceExport(declared) = object else { continue };
        let service = key.object_name();
        if !seen.insert(service.clone()) {
            continue;
        }
        let at = entries.binary_search_by(|entry| entry.name.cmp(&service)).ok();
        let Some(entry) = at.and_then(|at| entries.get(at)) else {
            let message = format!("there is no Service {service} that could be exported: nothing is");
            problems.push(finding((key, place), EXPORT_WITHOUT_SERVICE, message));
            continue;
        };
        let ports = ports((key, place), declared, entry, own, &mut paths, problems);
        if ports.is_empty() {
            continue;
        }
        let service_account = match declared.account.as_str() {
            "" if key.kind == Kind::McsServiceExport => only_account(entry).unwrap_or_default(),
            account => account.to_owned(),
        };
        exports.push(Arc::new(Export {
            service,
            service_account,
            target_clusters: declared.target_clusters.clone(),
            ports,
            session_sticky: declared.session_sticky,
            balancer: declared.balancer.clone(),
            path_rewrite: declared.path_rewrite.clone(),
        }));
    }
    exports.sort_by(|a, b| a.service.cmp(&b.service));
    Exports(exports)
}

fn ports(
    at: (&Key, &Place),
    declared: &ServiceExport,
    entry: &Entry<'_>,
    own: &ClusterKey,
    paths: &mut Paths,
    problems: &mut Vec<Problem>,
) -> Vec<ExportedPort> {
    let rules: Vec<_> = match &declared.ports {
        Ports::Listed(rules) => rules.iter().map(|rule| (rule.port, rule.path.clone(), rule.exact)).collect(),
        Ports::All => {
            entry.ports.iter().map(|port| (port.port, default_path(own, &entry.name, port.port), false)).collect()
        }
    };
    let mut exported: Vec<ExportedPort> = Vec::new();
    for (index, (number, path, exact)) in rules.into_iter().enumerate() {
        let Some(port) = entry.ports.iter().find(|port| port.port == number) else {
            let message =
                format!("rules[{index}]: Service {} has no TCP port {number}: it is not exported", entry.name);
            problems.push(finding(at, EXPORT_WITHOUT_SERVICE, message));
            continue;
        };
        let holder = paths.entry((path.clone(), exact)).or_insert_with(|| entry.name.clone());
        let is_mine = *holder == entry.name;
        if !is_mine || exported.iter().any(|other| other.path == path && other.exact == exact) {
            let message = format!("rules[{index}]: the path {path} is already that of {holder}: the rule is refused");
            problems.push(finding(at, DUPLICATE_EXPORT_PATH, message));
            continue;
        }
        exported.push(ExportedPort { port: at_the_gateway(port, &declared.balancer), path, exact });
    }
    exported
}

/// What an export of the MCS API is offered under to plain HTTP: each port for itself.
fn default_path(own: &ClusterKey, service: &ObjectName, port: u16) -> String {
    format!("/{}/{}/{}/{port}", own.name(), service.namespace, service.name)
}

fn at_the_gateway(port: &ServicePort, balancer: &Balancer) -> Arc<ServicePort> {
    Arc::new(ServicePort { balancer: balancer.clone(), ..port.clone() })
}

/// The accounts that run a service in its own namespace.
pub(crate) fn accounts<'a>(entry: &'a Entry<'_>) -> BTreeSet<&'a str> {
    let ready = entry.ports.iter().flat_map(|port| &port.endpoints);
    let all = ready.chain(entry.aside.iter().map(|(_, endpoint)| endpoint));
    let account = |identity: &'a EndpointIdentity| match identity {
        EndpointIdentity::Mesh(id) if id.namespace() == Some(&entry.name.namespace) => id.service_account(),
        _ => None,
    };
    all.filter_map(|endpoint| account(&endpoint.identity)).collect()
}

fn only_account(entry: &Entry<'_>) -> Option<String> {
    let accounts = accounts(entry);
    accounts.first().filter(|_| accounts.len() == 1).map(|account| (*account).to_owned())
}
