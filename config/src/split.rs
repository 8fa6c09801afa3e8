//! TrafficSplit: who else serves what is sent to a service, and in which proportion.
//!
//! The one idea: a split hangs on each port of its root service, with its backends' ports looked up, so that the data path
//! only has to choose. It never changes a service: backends are the services as they are without any split, which is why
//! splits do not nest and why a root may be its own backend.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use meshgate_policy::ObjectName;
use meshgate_policy::lint::{
    COVERED_SPLIT, NESTED_SPLIT, SPLIT_BACKEND_MISSING, SPLIT_PORT_MISSING, SPLIT_ROUTE_MISSING, SPLIT_WITHOUT_BACKEND,
    SPLIT_WITHOUT_ROOT,
};
use meshgate_policy::smi::{PathMatch, Requests, Routes};

use crate::kept::Standing;
use crate::problem::Problem;
use crate::resource::{Key, Object, Place};
use crate::services::{Entry, ServicePort};
use crate::smi;

mod document;

pub(crate) use document::{SplitSpec, TrafficSplit};

/// All TrafficSplits of one port of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The first that applies counts; what none applies to is the service's own. One that applies to everything is the last.
    pub rules: Vec<SplitRule>,
}

/// One TrafficSplit at one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitRule {
    /// The TrafficSplit.
    pub name: ObjectName,
    /// What it applies to; `None` = everything. One with requests applies to no bytes.
    pub requests: Option<Requests>,
    /// Where its requests go, in the order they are written; those without weight, or without this port, are left out. With
    /// none left they go nowhere.
    pub backends: Vec<SplitBackend>,
}

/// One backend of a TrafficSplit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitBackend {
    /// Its part of the sum of all weights; never 0.
    pub weight: u32,
    /// The DNS name of its Service.
    pub host: String,
    /// The same port of its Service; `None` when there is no such Service, whose part of the requests is then refused.
    pub service: Option<Arc<ServicePort>>,
}

/// Hangs every split on the ports of its root: under its plain names, which are in the first of `lists`, and under those in the
/// clusterset, which are in the second. What looks wrong goes to `problems` as warnings.
pub(crate) fn attach(
    standing: &Standing,
    lists: [&mut Vec<Entry<'_>>; 2],
    cluster_domain: &str,
    part: PathMatch,
    problems: &mut Vec<Problem>,
) {
    let all = splits(standing, cluster_domain);
    if all.is_empty() {
        return;
    }
    let [plain, spanning] = lists;
    let routes = smi::routes(standing);
    let ports_of = |entries: &[Entry<'_>]| -> HashMap<_, _> {
        entries.iter().map(|entry| (entry.name.clone(), entry.ports.clone())).collect()
    };
    let services = ports_of(plain);
    let mut over_clusters = services.clone();
    over_clusters.extend(ports_of(spanning));
    let roots = all.keys().cloned().collect();
    let mut composer = Composer { routes, part, services, roots, cluster_domain, problems };
    for (root, splits) in all {
        let Some(entry) = plain.iter_mut().find(|entry| entry.name == root) else {
            for split in splits {
                split.doubt(
                    SPLIT_WITHOUT_ROOT,
                    format!("has no effect: there is no Service {root}"),
                    composer.problems,
                );
            }
            continue;
        };
        let splits = composer.in_order(splits);
        for split in &splits {
            composer.look(split, &root);
        }
        composer.hang(&splits, entry, &composer.services);
        if let Some(entry) = spanning.iter_mut().find(|entry| entry.name == root) {
            composer.hang(&splits, entry, &over_clusters);
        }
    }
}

/// A TrafficSplit and where it stands.
#[derive(Clone, Copy)]
struct Standee<'a> {
    key: &'a Key,
    place: &'a Place,
    split: &'a TrafficSplit,
}

impl Standee<'_> {
    fn doubt(&self, code: &str, message: String, problems: &mut Vec<Problem>) {
        let problem = Problem::warning(&self.place.file, message).at(Some(self.place.line)).about(self.key);
        problems.push(problem.in_field(Some(code.to_owned())));
    }

    fn namespaced(&self, name: &str) -> ObjectName {
        ObjectName { namespace: self.key.namespace.clone(), name: name.to_owned() }
    }
}

/// By root service, each root's in the order of their names.
fn splits<'a>(standing: &'a Standing, cluster_domain: &str) -> BTreeMap<ObjectName, Vec<Standee<'a>>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (key, place, object) in standing.good() {
        let Object::TrafficSplit(split) = object else { continue };
        let standee = Standee { key, place, split };
        all.entry(standee.namespaced(&split.root.service(cluster_domain))).or_default().push(standee);
    }
    all
}

/// The ports of each service, without splits.
type Ports = HashMap<ObjectName, Vec<Arc<ServicePort>>>;

struct Composer<'a> {
    routes: Routes,
    part: PathMatch,
    services: Ports,
    roots: BTreeSet<ObjectName>,
    cluster_domain: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Composer<'_> {
    /// Those that say what they apply to come first; of the others only the first counts.
    fn in_order<'s>(&mut self, splits: Vec<Standee<'s>>) -> Vec<Standee<'s>> {
        let (some, all): (Vec<_>, Vec<_>) = splits.into_iter().partition(|one| one.split.groups.is_some());
        let mut all = all.into_iter();
        let last = all.next();
        for covered in all {
            if let Some(first) = &last {
                let message = format!("never applies: {} takes everything that is left", first.key);
                covered.doubt(COVERED_SPLIT, message, self.problems);
            }
        }
        some.into_iter().chain(last).collect()
    }

    /// Says what of a split is probably not meant.
    fn look(&mut self, standee: &Standee<'_>, root: &ObjectName) {
        for group in standee.split.groups.iter().flatten().map(|group| standee.namespaced(group)) {
            if !self.routes.http.contains_key(&group) {
                let message = format!("there is no HTTPRouteGroup {group}: it applies to no request because of that");
                standee.doubt(SPLIT_ROUTE_MISSING, message, self.problems);
            }
        }
        let ports =
            |name: &ObjectName| self.services.get(name).map(|ports| ports.iter().map(|port| port.port).collect());
        let own: BTreeSet<u16> = ports(root).unwrap_or_default();
        let mut served = BTreeSet::new();
        for backend in &standee.split.backends {
            let name = standee.namespaced(&backend.service.service(self.cluster_domain));
            let Some(theirs) = ports(&name) else {
                let message = format!("there is no Service {name}: its share is refused");
                standee.doubt(SPLIT_BACKEND_MISSING, message, self.problems);
                served.extend(own.iter().filter(|_| backend.weight > 0));
                continue;
            };
            if name != *root && self.roots.contains(&name) {
                let message = format!("{name} is the root of a TrafficSplit too, which is not followed from here");
                standee.doubt(NESTED_SPLIT, message, self.problems);
            }
            for port in own.difference(&theirs) {
                let message = format!("{name} has no port {port}: the other backends get its share there");
                standee.doubt(SPLIT_PORT_MISSING, message, self.problems);
            }
            served.extend(own.intersection(&theirs).filter(|_| backend.weight > 0));
        }
        for port in own.difference(&served) {
            let message = format!("no backend with a weight has port {port}: every request there is refused");
            standee.doubt(SPLIT_WITHOUT_BACKEND, message, self.problems);
        }
    }

    fn hang(&self, splits: &[Standee<'_>], root: &mut Entry<'_>, services: &Ports) {
        for port in &mut root.ports {
            let rules = splits.iter().map(|split| self.rule(split, port.port, services)).collect();
            *port = Arc::new(ServicePort { split: Some(Arc::new(Split { rules })), ..ServicePort::clone(port) });
        }
    }

    fn rule(&self, standee: &Standee<'_>, port: u16, services: &Ports) -> SplitRule {
        let requests = standee.split.groups.as_ref().map(|groups| {
            let found = groups.iter().filter_map(|group| self.routes.http.get(&standee.namespaced(group)));
            Requests::of(found.map(Arc::as_ref), self.part)
        });
        let backends = standee.split.backends.iter().filter(|backend| backend.weight > 0);
        let backends = backends.filter_map(|backend| {
            let name = standee.namespaced(&backend.service.service(self.cluster_domain));
            let service = match services.get(&name) {
                // SMI: a backend without the port is left out.
                Some(ports) => Some(Arc::clone(ports.iter().find(|own| own.port == port)?)),
                None => None,
            };
            let plain = || format!("{}.{}.svc.{}", name.name, name.namespace, self.cluster_domain);
            let host = service.as_ref().map_or_else(plain, |service| service.host.clone());
            Some(SplitBackend { weight: backend.weight, host, service })
        });
        SplitRule { name: standee.key.object_name(), requests, backends: backends.collect() }
    }
}

#[cfg(test)]
mod tests;
