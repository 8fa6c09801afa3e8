//! The calling side: where a call of this workload would go, and what its own proxy would leave out on the way.
//!
//! The one idea: [`outbound::plan`] decides, as it does for a connection. Here it is only said what the plan comes to, endpoint
//! by endpoint, with what a running proxy has seen of gateways and endpoints besides. Nothing is connected to and no turn is
//! taken, so that of several endpoints in use none is the next.

mod answer;
mod sent;
mod split;
mod spread;
mod text;
mod to;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use meshgate_config::{AppProtocol, Bootstrap, Endpoint, EndpointIdentity, OriginalDestination, ServicePort};
use meshgate_config::{Snapshot, TrafficPolicy};
use meshgate_policy::normalize::Level;
use meshgate_policy::smi::concerning;
use meshgate_policy::{ObjectName, SmiMode, Workload};

pub use answer::{
    BackendSeen, Called, ClusterSeen, EndpointSeen, GatewaySeen, RequestSeen, RulingSeen, ServiceSeen, SplitSeen,
    State, Why,
};

use super::{Outcome, unread};
use crate::balance::Family;
use crate::case::{Case, CaseError};
use crate::clusters::Clusters;
use crate::error::ErrorKind;
use crate::http::pool::Security;
use crate::outbound::{self, Hop, Plan, Standing, Wanted, eligible};
use sent::Sent;
use to::To;

/// From what a call is judged.
#[derive(Clone, Copy, Debug)]
pub struct Calling<'a> {
    /// The configuration in force at the caller's proxy.
    pub snapshot: &'a Snapshot,
    /// Who calls.
    pub caller: &'a Workload,
    /// What that proxy's bootstrap says.
    pub settings: &'a Settings,
    /// What a running proxy has seen besides; `None` = nothing runs, and nothing is known to be wrong.
    pub live: Option<Live<'a>>,
}

/// What a bootstrap says of calls.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our own cluster's key.
    pub cluster: String,
    /// What happens to what is no service.
    pub unknown: TrafficPolicy,
    /// Whether connections come with the address they were going to.
    pub redirected: bool,
    /// How far paths are normalized.
    pub level: Level,
}

/// What a running proxy has seen.
#[derive(Clone, Copy)]
pub struct Live<'a> {
    /// Of gateways.
    pub clusters: &'a Clusters,
    /// Of an endpoint: why it is out of rotation for now, if it is.
    pub ejected: &'a dyn Fn(&ServicePort, &Hop) -> Option<String>,
}

impl fmt::Debug for Live<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("clusters", self.clusters).finish_non_exhaustive()
    }
}

impl Default for Settings {
    /// Those of a bootstrap that says nothing.
    fn default() -> Self {
        let cluster = meshgate_config::ClusterKey::default().to_string();
        Self { cluster, unknown: TrafficPolicy::default(), redirected: true, level: Level::default() }
    }
}

impl From<&Bootstrap> for Settings {
    fn from(bootstrap: &Bootstrap) -> Self {
        let mut listeners = bootstrap.outbound.listeners.iter();
        Self {
            cluster: bootstrap.cluster_key.to_string(),
            unknown: bootstrap.outbound.traffic_policy,
            redirected: listeners.any(|listener| listener.original_destination == OriginalDestination::Kernel),
            level: bootstrap.authorization.path_normalization,
        }
    }
}

impl Calling<'_> {
    /// Says what would become of a call to `case.to`. Of the case's other fields only `name`, `destination` (the address that
    /// the connection was going to), `method`, `path` and `headers` mean anything here.
    ///
    /// # Errors
    /// A field that has no meaning here, or a `to` that is none.
    pub fn judge(&self, case: &Case) -> Result<Called, CaseError> {
        case.check()?;
        let wrong = |message| CaseError { field: "to", message };
        let written = case.to.as_deref().ok_or_else(|| wrong("is what is called, and is not given".to_owned()))?;
        let to: To = written.parse().map_err(wrong)?;
        let destination = case.destination.or(to.address());
        let plan = self.plan(&to, destination);
        let mut called = Called::new(case.name.clone(), written, destination);
        let by_number =
            || destination.map_or(AppProtocol::Auto, |address| self.snapshot.services.app_protocol(address));
        let hint = service_of(&plan).map_or_else(by_number, |service| service.app_protocol);
        called.tcp = to.is_tcp() || hint.is_bytes();
        if called.tcp && !to.is_tcp() {
            called.notes.push(unread(hint).into());
        }
        let sent = Sent::of(case, &to, called.tcp, self.settings.level)?;
        called.request = sent.seen();
        self.say(&mut called, plan, Family::of(destination), &sent, self.alone(&to, destination));
        Ok(called)
    }

    /// By the code that decides for connections and requests.
    fn plan(&self, to: &To, destination: Option<SocketAddr>) -> Plan {
        let namespace = &self.caller.namespace;
        // A name stands in for the address that it would have been resolved to, also where nothing is sent that says it.
        let host = (!to.is_tcp() || destination.is_none()).then(|| to.authority());
        let plan = |destination| {
            let wanted = Wanted { destination, host: host.as_deref() };
            outbound::plan(self.snapshot, namespace, self.settings.unknown, wanted)
        };
        let planned = plan(destination);
        let nowhere = matches!(planned, Plan::Refuse { service: None, kind: ErrorKind::NoRoute, .. });
        if !nowhere || destination.is_some() || !self.settings.redirected {
            return planned;
        }
        // The application resolves what is no service by itself, and its connection comes with an address we do not know.
        plan(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), to.port())))
    }

    fn say(&self, called: &mut Called, plan: Plan, family: Family, sent: &Sent, alone: Option<Arc<Endpoint>>) {
        match plan {
            Plan::Service { service, family, endpoints, .. } => {
                let meant = eligible(&service.endpoints, family);
                let seen =
                    service.endpoints.iter().map(|endpoint| self.seen(&service, endpoint, &meant, &endpoints, sent));
                called.endpoints = seen.collect();
                spread::over(called, &service, &self.settings.cluster);
                called.service(&service);
                called.reason = "service";
                called.verdict = Outcome::Allow;
                if !called.endpoints.iter().any(|seen| seen.state == State::Used) {
                    called.notes.push("none of its endpoints is in rotation: they are tried all the same".into());
                }
                called.judged();
            }
            Plan::Split(fork) => self.forked(called, *fork, sent, alone),
            Plan::Endpoint { service, hop } => {
                // There is no other one to take instead.
                let (blind, hops) = (Calling { live: None, ..*self }, [hop]);
                called.endpoints = alone.iter().map(|one| blind.seen(&service, one, &[one], &hops, sent)).collect();
                called.service(&service);
                (called.verdict, called.reason) = (Outcome::Allow, "endpoint");
                called.judged();
            }
            Plan::Passthrough(address) => {
                called.destination = Some(address).filter(|address| !address.ip().is_unspecified());
                (called.verdict, called.reason) = (Outcome::Allow, "passthrough");
            }
            Plan::Refuse { service, kind, detail } => {
                if let Some(service) = &service {
                    let is_balanced = alone.is_none();
                    let all = alone.map_or_else(|| service.endpoints.clone(), |endpoint| vec![endpoint]);
                    let meant = eligible(&all, family);
                    called.endpoints =
                        all.iter().map(|endpoint| self.seen(service, endpoint, &meant, &[], sent)).collect();
                    if is_balanced {
                        spread::over(called, service, &self.settings.cluster);
                    }
                    called.service(service);
                }
                called.refuse(kind, detail);
            }
        }
    }

    /// The endpoint that is called by its own address: only where neither address nor Host is a service's.
    fn alone(&self, to: &To, destination: Option<SocketAddr>) -> Option<Arc<Endpoint>> {
        let services = &self.snapshot.services;
        let is_host = |address: &SocketAddr| {
            let port = if to.says_port() { to.port() } else { address.port() };
            !to.is_tcp() && services.by_host(to.host(), port, &self.caller.namespace).is_some()
        };
        let address = destination.filter(|address| services.by_address(*address).is_none() && !is_host(address))?;
        services.endpoint(address).map(|(_, endpoint)| endpoint)
    }

    /// One endpoint: `meant` are those of which one is chosen, and `planned` what the plan says may be used.
    fn seen(
        &self,
        service: &ServicePort,
        endpoint: &Arc<Endpoint>,
        meant: &[&Arc<Endpoint>],
        planned: &[Hop],
        sent: &Sent,
    ) -> EndpointSeen {
        let mut seen = EndpointSeen::new(endpoint, &self.settings.cluster);
        self.targets(&mut seen, endpoint);
        let left_out = match outbound::standing(service, endpoint) {
            Standing::OutOfReach => Some((Why::OutOfReach, None)),
            Standing::Unidentified => Some((Why::Unidentified, None)),
            Standing::Usable(hop) => {
                seen.expects = Some(match &hop.security {
                    Security::Plaintext => "plaintext".to_owned(),
                    Security::Mtls { expected, .. } => expected.who.to_string(),
                });
                match meant.iter().any(|one| Arc::ptr_eq(one, endpoint)) && planned.contains(&hop) {
                    true => {
                        seen.ruling = self.ruling(service, &hop, sent);
                        self.out_for_now(&mut seen, service, &hop, planned.len() == 1)
                    }
                    false => Some((Why::OtherAddress, None)),
                }
            }
        };
        if let Some((why, detail)) = left_out {
            (seen.state, seen.why, seen.detail) = (State::LeftOut, Some(why), detail);
        }
        seen
    }

    /// What a running proxy knows against an endpoint. What it does not know is not against it.
    fn out_for_now(
        &self,
        seen: &mut EndpointSeen,
        service: &ServicePort,
        hop: &Hop,
        is_only: bool,
    ) -> Option<(Why, Option<String>)> {
        let live = self.live?;
        if let Some((remote, address)) = hop.remote.as_ref().and_then(|remote| Some((remote, remote.gateway.as_ref()?)))
        {
            let gateway = live.clusters.gateway(address);
            let (down, ready) = (gateway.is_down(), gateway.ready(&remote.authority));
            if let Some(said) = &mut seen.gateway {
                (said.down, said.ready) = (Some(down), ready);
            }
            match ready {
                _ if down => return Some((Why::GatewayDown, None)),
                Some(0) => return Some((Why::NoneReady, None)),
                Some(_) | None => {}
            }
        }
        // The only one there is is asked whatever came of it.
        let ejected = if is_only { None } else { (live.ejected)(service, hop) };
        ejected.map(|why| (Why::Ejected, Some(why)))
    }

    /// The TrafficTargets for whoever is there.
    fn targets(&self, seen: &mut EndpointSeen, endpoint: &Endpoint) {
        if self.snapshot.smi != SmiMode::TrafficPolicy {
            return;
        }
        let record = |name: &ObjectName| self.snapshot.workloads.iter().find(|record| record.name == *name);
        let (namespace, account) = match &endpoint.identity {
            EndpointIdentity::Mesh(id) => (id.namespace(), id.service_account()),
            EndpointIdentity::Namespace { namespace, .. } => (Some(&**namespace), None),
            EndpointIdentity::Plaintext => {
                let workload = endpoint.workload.as_ref().and_then(record).map(|record| &record.workload);
                (workload.map(|one| &*one.namespace), workload.map(|one| &*one.service_account))
            }
            EndpointIdentity::Unknown => (None, None),
        };
        let Some(namespace) = namespace else { return };
        for (target, names_caller) in concerning(self.caller, &self.snapshot.policies, namespace, account) {
            let list = if names_caller { &mut seen.targets } else { &mut seen.targets_of_others };
            list.push(target.to_string());
        }
    }
}

fn service_of(plan: &Plan) -> Option<&Arc<ServicePort>> {
    match plan {
        Plan::Service { service, .. } | Plan::Endpoint { service, .. } => Some(service),
        Plan::Refuse { service, .. } => service.as_ref(),
        Plan::Split(fork) => Some(&fork.service),
        Plan::Passthrough(_) => None,
    }
}

#[cfg(test)]
mod tests;
