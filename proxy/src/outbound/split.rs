//! A service whose requests others serve too: one plan for each backend of its TrafficSplits.
//!
//! The one idea: which backend a request is for is chosen before anything is known of that backend, and nothing that is found
//! out about it later sends the request elsewhere: a canary that may not be called must not hand its share to what it is held
//! against.

use std::net::SocketAddr;
use std::sync::Arc;

use meshgate_config::{EndpointIdentity, ServicePort, Snapshot, Split, SplitBackend};
use meshgate_policy::{ObjectName, RequestView, SmiMode};

use super::plan::{balance, out_of_reach};
use super::{Plan, Side};
use crate::balance::Family;
use crate::error::ErrorKind;
use crate::http::view;
use crate::route::Route;

/// What will be done with what goes to the root of TrafficSplits.
#[derive(Debug, Clone)]
pub struct Fork {
    /// The root and its port.
    pub service: Arc<ServicePort>,
    /// The TrafficSplits.
    pub split: Arc<Split>,
    /// Which of the root's addresses are meant.
    pub family: Family,
    /// For each rule of the split its backends, each with its weight.
    pub branches: Vec<Vec<(u32, Plan)>>,
    /// What no rule applies to.
    pub rest: Plan,
}

/// Balances over a service, and over those that serve what is sent to it.
pub(super) fn plan(service: Arc<ServicePort>, family: Family) -> Plan {
    let Some(split) = service.split.clone() else { return balance(service, family) };
    let plans = split.rules.iter().map(|rule| rule.backends.iter().map(|backend| branch(backend, family)).collect());
    let branches: Vec<Vec<(u32, Plan)>> = plans.collect();
    let rest = balance(Arc::clone(&service), family);
    let takes_all = split.rules.iter().any(|rule| rule.requests.is_none());
    let mut possible = branches.iter().flatten().map(|(_, plan)| plan).chain((!takes_all).then_some(&rest)).peekable();
    // With one that may be called somebody is there, and a refusal is an answer.
    if possible.peek().is_some() && possible.all(Plan::is_out_of_reach) {
        let backends =
            split.rules.iter().flat_map(|rule| &rule.backends).filter_map(|backend| backend.service.as_ref());
        let endpoints: Vec<_> = backends.chain([&service]).flat_map(|port| &port.endpoints).cloned().collect();
        return out_of_reach(service, &endpoints);
    }
    let branches = branches.into_iter().map(|plans| plans.into_iter().map(|(weight, plan)| (weight, plan.answered())));
    let branches = branches.map(Iterator::collect).collect();
    Plan::Split(Box::new(Fork { service, split, family, branches, rest: rest.answered() }))
}

fn branch(backend: &SplitBackend, family: Family) -> (u32, Plan) {
    let plan = match &backend.service {
        Some(service) => balance(Arc::clone(service), family),
        None => Plan::Refuse {
            service: None,
            kind: ErrorKind::NoEndpoint,
            detail: format!("{} is no Service", backend.host),
        },
    };
    (backend.weight, plan)
}

/// What a rule without backends comes to.
pub(crate) fn nowhere(rule: &ObjectName, service: &Arc<ServicePort>) -> Plan {
    let detail = format!("TrafficSplit {rule} has no backend with a weight that has port {}", service.port);
    Plan::Refuse { service: Some(Arc::clone(service)), kind: ErrorKind::NoEndpoint, detail }
}

impl Plan {
    /// Whether nobody who is meant may be called.
    pub(super) fn is_out_of_reach(&self) -> bool {
        matches!(self, Plan::Refuse { kind: ErrorKind::OutOfReach, .. })
    }

    /// The same, where somebody is known to be there: a refusal is told to the caller.
    fn answered(self) -> Plan {
        match self {
            Plan::Refuse { service, kind: ErrorKind::OutOfReach, detail } => {
                Plan::Refuse { service, kind: ErrorKind::BackendOutOfReach, detail }
            }
            other => other,
        }
    }

    /// The service that is meant, if there is one.
    pub fn service(&self) -> Option<&Arc<ServicePort>> {
        match self {
            Plan::Service { service, .. } | Plan::Endpoint { service, .. } => Some(service),
            Plan::Split(fork) => Some(&fork.service),
            Plan::Refuse { service, .. } => service.as_ref(),
            Plan::Passthrough(_) => None,
        }
    }
}

/// Whether this is the address of a service of which nobody may be called: then no Host leads elsewhere.
pub(super) fn is_closed(snapshot: &Snapshot, address: SocketAddr) -> bool {
    let is_refused = |service: Arc<ServicePort>| {
        let mut endpoints = service.endpoints.iter();
        // Asked for every connection, and nearly always there is one that may be called.
        let none = endpoints.all(|endpoint| !endpoint.in_reach || endpoint.identity == EndpointIdentity::Unknown);
        (none || service.split.is_some()) && plan(service, Family::of(Some(address))).is_out_of_reach()
    };
    snapshot.smi == SmiMode::TrafficPolicy && snapshot.services.by_address(address).is_some_and(is_refused)
}

impl Side {
    /// Whether a backend of a TrafficSplit may still be called.
    pub(super) fn still_reaches(&self, backend: &Route) -> bool {
        let (snapshot, family) = (self.worker.snapshot(), Family::of(self.connection.destination));
        backend.service().is_none_or(|service| still_reaches(&snapshot, service, family))
    }

    /// A request as routes of TrafficSplits see it: as it will be forwarded.
    pub(super) fn view<'a, B>(&self, request: &'a http::Request<B>) -> RequestView<'a> {
        view::of(request, "http", self.connection.remote.ip())
    }
}

/// Whether this configuration still lets this workload call a backend.
fn still_reaches(snapshot: &Snapshot, backend: &ServicePort, family: Family) -> bool {
    // A full name needs no namespace.
    let service = snapshot.services.by_host(&backend.host, backend.port, "");
    service.is_none_or(|service| !balance(service, family).is_out_of_reach())
}

#[cfg(test)]
mod tests;
