//! Where a provider is: a service of the mesh by its name, else an address, else a name for the system's resolver.
//!
//! What the mesh knows is reached as the mesh does it, and nothing else: a provider that is a service without a usable
//! endpoint is not looked for elsewhere in plaintext.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use meshgate_config::{ProviderService, TrafficPolicy};

use crate::balance::Caller;
use crate::error::{ErrorKind, ProxyError};
use crate::http::pool::{HttpVersion, Slot};
use crate::outbound::{self, Wanted};
use crate::worker::WorkerRef;

/// Addresses tried for one check.
const TRIES: usize = 3;

/// The connections to try, in order.
///
/// # Errors
/// There is no endpoint that may be used, or no address.
pub(super) async fn upstreams(
    worker: &WorkerRef,
    service: &ProviderService,
    version: HttpVersion,
) -> Result<Vec<Rc<Slot>>, ProxyError> {
    let snapshot = worker.snapshot();
    // Nobody but this proxy asks.
    let caller = Caller { source: IpAddr::V4(Ipv4Addr::LOCALHOST), headers: None };
    let ProviderService { namespace, host, port } = service;
    let own = namespace.as_deref().unwrap_or(&worker.shared.bootstrap.workload.namespace);
    if snapshot.services.host_known(host, own) {
        let authority = format!("{host}:{port}");
        let wanted = Wanted { destination: None, host: Some(&authority) };
        let plan = outbound::plan(&snapshot, own, TrafficPolicy::RegistryOnly, wanted);
        if let (Some(service), Some(namespace)) = (plan.service(), namespace)
            && service.service.namespace != *namespace
        {
            let detail = format!("{host} is not in namespace {namespace}");
            return Err(ProxyError::new(ErrorKind::NoRoute, detail));
        }
        let route = worker.routes.route(worker, plan, snapshot.generation, version);
        let (route, _) = route.branch(None);
        return Ok(route.candidates(caller)?.map(|candidate| Rc::clone(candidate.slot())).collect());
    }
    let mut slots = Vec::new();
    for address in addresses(worker, host, *port).await? {
        let wanted = Wanted { destination: Some(address), host: None };
        let plan = outbound::plan(&snapshot, own, TrafficPolicy::AllowAny, wanted);
        let route = worker.routes.route(worker, plan, snapshot.generation, version);
        let (route, _) = route.branch(None);
        slots.extend(route.candidates(caller)?.map(|candidate| Rc::clone(candidate.slot())));
    }
    slots.truncate(TRIES);
    Ok(slots)
}

async fn addresses(worker: &WorkerRef, host: &str, port: u16) -> Result<Vec<SocketAddr>, ProxyError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = worker.resolver.addresses(host, port).await?;
    Ok(found.iter().take(TRIES).copied().collect())
}
