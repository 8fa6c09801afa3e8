//! The ways to a service's endpoints: which of them are meant, and what each is to this workload.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use meshgate_config::{Endpoint, EndpointIdentity, Remote, ServicePort};
use meshgate_identity::{Expected, Who};

use crate::balance::Family;
use crate::http::pool::Security;

/// One way to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Where it is; see [`Endpoint::address`].
    pub address: SocketAddr,
    /// How it is protected.
    pub security: Security,
    /// It is reached through a tunnel to its own address (HBONE), whose outer connection is protected so, and nothing in it.
    pub tunnel: bool,
    /// Which other cluster it is in, and how it is reached there.
    pub remote: Option<Arc<Remote>>,
}

/// The endpoints of a family, or all where there is none of it; and one address of each workload, in the order they came.
pub fn eligible(all: &[Arc<Endpoint>], family: Family) -> Vec<&Arc<Endpoint>> {
    let family = if all.iter().any(|endpoint| family.has(endpoint.address)) { family } else { Family::Any };
    let mut seen = HashSet::new();
    let mut is_first = |endpoint: &Endpoint| {
        endpoint.workload.as_ref().is_none_or(|workload| seen.insert((workload.clone(), endpoint.address.port())))
    };
    all.iter().filter(|endpoint| family.has(endpoint.address) && is_first(endpoint)).collect()
}

/// What an endpoint of a service is to this workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It may be used, like this.
    Usable(Hop),
    /// No TrafficTarget lets this workload call it.
    OutOfReach,
    /// Nobody could say whom to expect there.
    Unidentified,
}

/// What an endpoint of `service` is to this workload, whatever else there is.
pub fn standing(service: &ServicePort, endpoint: &Endpoint) -> Standing {
    match hop(service, endpoint) {
        Some(_) if !endpoint.in_reach => Standing::OutOfReach,
        Some(hop) => Standing::Usable(hop),
        None => Standing::Unidentified,
    }
}

fn hop(service: &ServicePort, endpoint: &Endpoint) -> Option<Hop> {
    let who = match &endpoint.identity {
        EndpointIdentity::Mesh(id) => Some(Who::Exactly(id.clone())),
        EndpointIdentity::Namespace { trust_domain, namespace } => {
            Some(Who::Namespace { trust_domain: trust_domain.clone(), namespace: Arc::clone(namespace) })
        }
        EndpointIdentity::Plaintext => None,
        EndpointIdentity::Unknown => return None,
    };
    let remote = endpoint.remote.clone();
    let security = who.map_or(Security::Plaintext, |who| Security::Mtls {
        expected: Expected { who, cluster: remote.as_ref().map(|remote| remote.cluster.shared()) },
        server_name: Arc::from(service.host.as_str()),
    });
    let tunnel = endpoint.tunnels && security != Security::Plaintext;
    Some(Hop { address: endpoint.address, security, tunnel, remote })
}
