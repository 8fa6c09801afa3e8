//! `GET /clusters`: services with their endpoints, each with its share, its health and why it is out; and other clusters' gateways.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use meshgate_config::{Balancer, Endpoint, EndpointIdentity, GatewayAddress, ServicePort, Snapshot};
use serde::Serialize;

use super::gateways;
use crate::clusters::Gateway;
use crate::outbound::{Standing, standing};
use crate::worker::Shared;

/// The page.
#[derive(Serialize)]
pub(super) struct Page {
    gateways: Vec<gateways::Shown>,
    services: Vec<Service>,
    /// Services that are not shown, because there are too many.
    #[serde(skip_serializing_if = "is_zero")]
    services_left_out: usize,
}

#[derive(Serialize)]
struct Service {
    service: String,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_name: Option<String>,
    balancer: &'static str,
    endpoints: Vec<Shown>,
    /// Endpoints of this cluster that are not ready.
    not_ready: usize,
}

#[derive(Serialize)]
struct Shown {
    address: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
    /// Who must answer there: a SPIFFE ID, `plaintext` or `unknown`.
    identity: String,
    /// The gateway that leads there, and what that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
    /// The other cluster it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// Against other clusters; endpoints of one cluster share alike.
    weight: u32,
    /// Lower comes first.
    priority: u32,
    /// `healthy`, `ejected`, `gateway_down`, `out_of_reach` or `unidentified`.
    health: &'static str,
    /// Why it is not healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The gateways that do not answer.
type Down = HashSet<Arc<GatewayAddress>>;

/// The page, with at most so many endpoints.
pub(super) fn page(shared: &Shared, snapshot: &Snapshot, most: usize) -> Page {
    let (mut services, mut left, mut services_left_out) = (Vec::new(), most, 0);
    let is_down = |gateway: &Arc<Gateway>| gateway.seen().up == Some(false);
    let down: Down =
        shared.clusters.all().iter().filter(|one| is_down(one)).map(|one| Arc::clone(one.address())).collect();
    for port in snapshot.services.iter() {
        // A service without endpoints takes room as well.
        let takes = port.endpoints.len().max(1);
        if takes > left {
            services_left_out += 1;
            continue;
        }
        left -= takes;
        services.push(Service::new(shared, &down, port));
    }
    services.sort_by(|a, b| (&a.service, a.port).cmp(&(&b.service, b.port)));
    Page { gateways: gateways::all(&shared.clusters), services, services_left_out }
}

impl Service {
    fn new(shared: &Shared, down: &Down, port: &ServicePort) -> Self {
        Self {
            service: port.host.clone(),
            port: port.port,
            port_name: port.name.clone(),
            balancer: match port.balancer {
                Balancer::RoundRobin => "round_robin",
                Balancer::LeastRequest => "least_request",
                Balancer::PeakEwma => "peak_ewma",
                Balancer::RingHash(_) => "ring_hash",
            },
            endpoints: port.endpoints.iter().map(|endpoint| Shown::new(shared, down, port, endpoint)).collect(),
            not_ready: port.not_ready,
        }
    }
}

impl Shown {
    fn new(shared: &Shared, down: &Down, port: &ServicePort, endpoint: &Endpoint) -> Self {
        let remote = endpoint.remote.as_ref();
        let gateway = remote.and_then(|remote| remote.gateway.as_ref());
        let is_down = gateway.is_some_and(|at| down.contains(at));
        let (health, reason) = match standing(port, endpoint) {
            Standing::OutOfReach => ("out_of_reach", Some("no TrafficTarget lets this workload call it".to_owned())),
            Standing::Unidentified => ("unidentified", Some("it is not known who must answer there".to_owned())),
            Standing::Usable(_) if is_down => {
                ("gateway_down", Some("its cluster's gateway does not answer".to_owned()))
            }
            Standing::Usable(hop) => match shared.ledgers.ejected(&port.host, port.port, &hop) {
                Some(reason) => ("ejected", Some(reason)),
                None => ("healthy", None),
            },
        };
        let share = remote.map_or(port.spread.own, |remote| Some(remote.share));
        Self {
            address: endpoint.address,
            workload: endpoint.workload.as_ref().map(ToString::to_string),
            identity: match &endpoint.identity {
                EndpointIdentity::Mesh(id) => id.to_string(),
                EndpointIdentity::Namespace { trust_domain, namespace } => {
                    format!("spiffe://{trust_domain}/ns/{namespace}/sa/*")
                }
                EndpointIdentity::Plaintext => "plaintext".to_owned(),
                EndpointIdentity::Unknown => "unknown".to_owned(),
            },
            gateway: gateway.map(ToString::to_string),
            authority: gateway.and(remote).map(|remote| remote.authority.to_string()),
            cluster: remote.map(|remote| remote.cluster.to_string()),
            weight: share.map_or(0, |share| share.weight),
            priority: share.map_or(0, |share| share.priority),
            health,
            reason,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
