//! Where something goes, from the snapshot alone.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

use meshgate_config::{Endpoint, OriginalDestination, OutboundListener, ServicePort, Snapshot, TrafficPolicy};
use meshgate_policy::SmiMode;

use super::hop::{Hop, Standing, eligible, standing};
use super::split;
use crate::balance::Family;
use crate::detect::{Beforehand, Detected};
use crate::error::ErrorKind;

/// The port of a Host without one.
const HTTP_PORT: u16 = 80;

/// Endpoints that a log line lists.
const LISTED: usize = 8;

/// What will be done with what goes to one destination.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Balance over a service's endpoints.
    Service {
        /// The service and its port.
        service: Arc<ServicePort>,
        /// Which of its addresses are meant.
        family: Family,
        /// Those that may be used.
        endpoints: Vec<Hop>,
        /// Those left out, because nobody could say whom to expect there.
        left_out: Vec<Arc<Endpoint>>,
        /// Those left out, because no TrafficTarget lets this workload call them.
        out_of_reach: Vec<Arc<Endpoint>>,
    },
    /// Balance over the backends of a service's TrafficSplits.
    Split(Box<split::Fork>),
    /// One endpoint that was called by its own address.
    Endpoint {
        /// A service that it belongs to.
        service: Arc<ServicePort>,
        /// The endpoint.
        hop: Hop,
    },
    /// On to where it was going, as it is: nothing in the mesh.
    Passthrough(SocketAddr),
    /// Nowhere.
    Refuse {
        /// The service that was meant, if that much is known.
        service: Option<Arc<ServicePort>>,
        /// Why, for the caller.
        kind: ErrorKind,
        /// Why, for the log.
        detail: String,
    },
}

/// Where a connection or request wants to go.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The address before redirection.
    pub destination: Option<SocketAddr>,
    /// The Host, when it speaks HTTP.
    pub host: Option<&'a str>,
}

/// Decides where something goes: by virtual address and port first, since that is what the application connected to; then by
/// Host; then by an endpoint's own address; else as the traffic policy says.
pub fn plan(snapshot: &Snapshot, namespace: &str, unknown: TrafficPolicy, wanted: Wanted<'_>) -> Plan {
    let family = Family::of(wanted.destination);
    if let Some(service) = wanted.destination.and_then(|address| snapshot.services.by_address(address)) {
        return split::plan(service, family);
    }
    if let Some((name, port)) = wanted.host.map(split_host) {
        let port = port.or(wanted.destination.map(|address| address.port())).unwrap_or(HTTP_PORT);
        if let Some(service) = snapshot.services.by_host(name, port, namespace) {
            return split::plan(service, family);
        }
    }
    let Some(address) = wanted.destination else {
        let detail = match wanted.host {
            Some(host) => format!("no service for host {host:?}"),
            None => "neither an original destination nor a Host".to_owned(),
        };
        return Plan::Refuse { service: None, kind: ErrorKind::NoRoute, detail };
    };
    if let Some((service, endpoint)) = snapshot.services.endpoint(address) {
        return match standing(&service, &endpoint) {
            Standing::Usable(hop) => Plan::Endpoint { service, hop },
            Standing::OutOfReach => out_of_reach(service, &[endpoint]),
            Standing::Unidentified => no_identity(service, &[endpoint]),
        };
    }
    // Passed through, it would come without an identity to who refuses just that.
    if snapshot.smi == SmiMode::TrafficPolicy && snapshot.services.knows(address.ip()) {
        let detail = format!("{address} is no port of the service or workload there, and TrafficTargets are in force");
        return Plan::Refuse { service: None, kind: ErrorKind::OutOfReach, detail };
    }
    match unknown {
        TrafficPolicy::AllowAny => Plan::Passthrough(address),
        TrafficPolicy::RegistryOnly => {
            let detail = format!("{address} is no service, and outbound.trafficPolicy is REGISTRY_ONLY");
            Plan::Refuse { service: None, kind: ErrorKind::NoRoute, detail }
        }
    }
}

/// Which of a service's endpoints are tried.
pub(crate) fn balance(service: Arc<ServicePort>, family: Family) -> Plan {
    let mut endpoints = Vec::with_capacity(service.endpoints.len());
    let (mut left_out, mut forbidden) = (Vec::new(), Vec::new());
    for endpoint in eligible(&service.endpoints, family) {
        match standing(&service, endpoint) {
            Standing::Usable(hop) => endpoints.push(hop),
            Standing::OutOfReach => forbidden.push(Arc::clone(endpoint)),
            Standing::Unidentified => left_out.push(Arc::clone(endpoint)),
        }
    }
    if !endpoints.is_empty() {
        return Plan::Service { service, family, endpoints, left_out, out_of_reach: forbidden };
    }
    // Never everybody, because nobody is left.
    if !forbidden.is_empty() {
        return out_of_reach(service, &forbidden);
    }
    if !left_out.is_empty() {
        return no_identity(service, &left_out);
    }
    let detail = format!("{}:{} has no ready endpoint ({} not ready)", service.host, service.port, service.not_ready);
    Plan::Refuse { service: Some(service), kind: ErrorKind::NoEndpoint, detail }
}

pub(super) fn out_of_reach(service: Arc<ServicePort>, endpoints: &[Arc<Endpoint>]) -> Plan {
    let (host, port) = (&service.host, service.port);
    let detail = format!("no TrafficTarget lets this workload call {host}:{port}: left out {}", listed(endpoints));
    Plan::Refuse { service: Some(service), kind: ErrorKind::OutOfReach, detail }
}

/// Endpoints for the log; of many, the first.
pub fn listed(endpoints: &[impl Display]) -> String {
    let shown: Vec<_> = endpoints.iter().take(LISTED).map(ToString::to_string).collect();
    let rest = match endpoints.len().checked_sub(LISTED) {
        Some(more @ 1..) => format!(" and {more} more"),
        _ => String::new(),
    };
    format!("{}{rest}", shown.join(", "))
}

fn no_identity(service: Arc<ServicePort>, endpoints: &[Arc<Endpoint>]) -> Plan {
    let detail = format!("nothing says which service account to expect at {}", listed(endpoints));
    Plan::Refuse { service: Some(service), kind: ErrorKind::NoEndpoint, detail }
}

/// A Host's name and port. IPv6 literals keep their brackets; they name no service.
fn split_host(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port.parse().ok()),
        _ => (host, None),
    }
}

/// What is said of where a connection is going, a service's address or one of its endpoints'.
pub(super) fn beforehand(
    snapshot: &Snapshot,
    destination: Option<SocketAddr>,
    listener: &OutboundListener,
) -> Beforehand {
    let Some(address) = destination else { return Beforehand::default() };
    let services = &snapshot.services;
    Beforehand {
        said: services.app_protocol(address).is_bytes().then_some(Detected::Opaque),
        port: Some(address.port()),
        is_declared: listener.original_destination != OriginalDestination::Kernel || services.is_declared(address),
    }
}

#[cfg(test)]
pub(super) mod tests;
