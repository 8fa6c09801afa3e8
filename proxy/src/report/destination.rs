//! Who is called, as far as the metrics tell: the service by the route, the workload by the endpoint that was tried last.

use std::rc::Rc;

use meshgate_config::ServicePort;
use meshgate_identity::{Expected, SpiffeId, Who};

use crate::balance::Candidate;
use crate::http::pool::{Security, Via};
use crate::metrics::{Called, Facts, Party, RequestCounters, UNKNOWN};
use crate::tunnel::Far;
use crate::worker::{Worker, WorkerRef};

/// The reporter at the service's own side, whose destination is known from the start.
pub const DESTINATION: &str = "destination";

/// At the source's side: this workload calls a service, of whose endpoints nothing is known yet but how they are protected.
pub fn source_facts(worker: &Worker, service: Option<&ServicePort>, security: &Security) -> Facts {
    let source = Party::own(&worker.shared.bootstrap, worker.identity.borrow().svid().id());
    let destination = match security {
        Security::Mtls { expected, .. } => Party { principal: expected.to_string(), ..Party::default() },
        Security::Plaintext => Party::default(),
    };
    Facts { reporter: "source", source, destination, service: Called::of(service), security: UNKNOWN }
}

/// Where what went to `upstream` is counted, by its service's counters.
pub fn toward(
    worker: &WorkerRef,
    counters: &Rc<RequestCounters>,
    upstream: Option<&Rc<Candidate>>,
) -> Rc<RequestCounters> {
    let Some(candidate) = upstream.filter(|_| counters.facts().reporter != DESTINATION) else {
        return Rc::clone(counters);
    };
    let make = || counters.toward(party(worker, candidate));
    let known = candidate.counters(make);
    // A route may serve more than one side of a proxy.
    if known.facts().reporter == counters.facts().reporter { Rc::clone(known) } else { make() }
}

fn party(worker: &Worker, candidate: &Candidate) -> Party {
    let upstream = candidate.slot().upstream();
    let expected = match (&upstream.security, &upstream.via) {
        (Security::Mtls { expected, .. }, _) => Some(expected),
        (Security::Plaintext, Some(Via { far: Far::Workload { expected, .. }, .. })) => Some(expected),
        (Security::Plaintext, _) => None,
    };
    let id = expected.and_then(exactly);
    let Some(cluster) = candidate.cluster() else {
        return Party::at(&worker.snapshot(), &worker.shared.bootstrap, upstream.address.ip(), id);
    };
    let party = match (id, expected.map(|expected| &expected.who)) {
        (Some(id), _) => Party::proved(id),
        (None, Some(Who::Namespace { namespace, .. })) => {
            Party { namespace: namespace.to_string(), ..Party::default() }
        }
        (None, _) => Party::default(),
    };
    Party { cluster: cluster.to_string(), ..party }
}

fn exactly(expected: &Expected) -> Option<&SpiffeId> {
    match &expected.who {
        Who::Exactly(id) => Some(id),
        Who::Namespace { .. } => None,
    }
}
