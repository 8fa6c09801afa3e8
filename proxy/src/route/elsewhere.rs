//! What this cluster's TrafficTargets say of what goes to other clusters, asked before it is sent.
//!
//! The one idea: which endpoint is next is chosen first, and what may not go to that one goes nowhere else either: what one cluster
//! refuses must not become another one's share. Whatever is tried after it must be permitted as well. The far workload decides
//! anew, and about its own cluster's requests nothing is said here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use meshgate_config::{ClusterKey, Remote, ServicePort, Snapshot};
use meshgate_identity::{SpiffeId, Who};
use meshgate_policy::{ConnectionFacts, Decision, Nearest, Protocol, RemoteIp, RequestView, Residual, Verdict};

use crate::balance::{Candidate, Candidates};
use crate::http::pool::Security;
use crate::outbound::Hop;

/// Rulings that are looked at for tries beyond the first; what is under another one is not tried then.
const LOOKED_AT: usize = u64::BITS as usize;

/// What is said of the endpoints of one route.
#[derive(Debug, Default)]
pub struct Rulings(Vec<Ruling>);

/// What is said of requests and connections to one account in another cluster. Each residual has to let in.
#[derive(Debug)]
struct Ruling {
    whom: Whom,
    http: Vec<Residual>,
    tcp: Vec<Residual>,
}

/// Who calls whom.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Whom {
    caller: SpiffeId,
    who: Who,
    cluster: ClusterKey,
    /// The container's, as far as it is known here.
    port: u16,
    service_port: u16,
}

/// What may be tried, in order.
#[derive(Debug)]
pub struct Permitted {
    first: Option<Rc<Candidate>>,
    rest: Candidates,
    /// By the rulings' places, for the first [`LOOKED_AT`].
    rulings: u64,
}

/// Why nothing is sent.
#[derive(Debug)]
pub struct Refusal<'a> {
    /// What the TrafficTargets say.
    pub decision: Decision<'a>,
    /// Whom it would have been sent to.
    pub candidate: Rc<Candidate>,
    whom: &'a Whom,
    residual: &'a Residual,
}

impl Rulings {
    /// The place of what is said of a hop's endpoint; `None` = nothing is.
    pub fn place(&mut self, snapshot: &Snapshot, caller: &SpiffeId, service: &ServicePort, hop: &Hop) -> Option<usize> {
        let whom = Whom::new(caller, service, hop.address, &hop.security, hop.remote.as_ref()?)?;
        if let Some(place) = self.0.iter().position(|ruling| ruling.whom == whom) {
            return Some(place);
        }
        self.0.push(Ruling::new(snapshot, whom)?);
        Some(self.0.len() - 1)
    }

    /// What is said there of a request, or of a connection of which no request is known, and what came nearest to letting it in.
    pub fn said(&self, place: usize, request: Option<&RequestView<'_>>) -> Option<(Decision<'_>, Option<Nearest<'_>>)> {
        let ruling = self.0.get(place)?;
        let (residual, decision) = ruling.decide(request)?;
        Some((decision, ruling.whom.nearest(residual, &decision, request)))
    }

    /// Whether nothing is said of anybody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What of `candidates` may be tried with a request, or with a connection of which no request is known.
    ///
    /// # Errors
    /// What is next may not be tried with it.
    pub fn permitted(
        &self,
        mut candidates: Candidates,
        request: Option<&RequestView<'_>>,
    ) -> Result<Permitted, Box<Refusal<'_>>> {
        let first = candidates.next();
        let about = first.as_ref().and_then(|candidate| Some((candidate, self.0.get(candidate.ruling()?)?)));
        if let Some((candidate, ruling)) = about
            && let Some((residual, decision)) = ruling.refusal(request)
        {
            let candidate = Rc::clone(candidate);
            return Err(Box::new(Refusal { decision, candidate, whom: &ruling.whom, residual }));
        }
        let looked_at = self.0.iter().take(LOOKED_AT).enumerate();
        let bits = looked_at.map(|(place, ruling)| u64::from(ruling.refusal(request).is_none()) << place);
        Ok(Permitted { first, rest: candidates, rulings: bits.fold(0, |all, bit| all | bit) })
    }
}

impl Ruling {
    /// `None` where TrafficTargets are not in force.
    fn new(snapshot: &Snapshot, whom: Whom) -> Option<Self> {
        let (namespace, account) = match &whom.who {
            Who::Exactly(id) => (id.namespace().unwrap_or_default(), Some(id.service_account().unwrap_or_default())),
            Who::Namespace { namespace, .. } => (&**namespace, None),
        };
        let policies = snapshot.elsewhere.policies(namespace, account, &whom.cluster);
        let reduced = |protocol| policies.iter().map(|set| set.reduce(&whom.facts(protocol))).collect();
        let (http, tcp) = (reduced(Protocol::Http), reduced(Protocol::Tcp));
        (!policies.is_empty()).then_some(Self { whom, http, tcp })
    }

    /// The first refusal, else what the last one says.
    fn decide(&self, request: Option<&RequestView<'_>>) -> Option<(&Residual, Decision<'_>)> {
        let residuals = if request.is_some() { &self.http } else { &self.tcp };
        let mut said = None;
        for residual in residuals {
            let decision = match request {
                Some(request) => residual.decide(request),
                None => residual.decide_connection(),
            };
            said = Some((residual, decision));
            if decision.verdict == Verdict::Deny {
                break;
            }
        }
        said
    }

    fn refusal(&self, request: Option<&RequestView<'_>>) -> Option<(&Residual, Decision<'_>)> {
        self.decide(request).filter(|(_, decision)| decision.verdict == Verdict::Deny)
    }
}

impl Whom {
    fn new(
        caller: &SpiffeId,
        service: &ServicePort,
        address: SocketAddr,
        security: &Security,
        remote: &Remote,
    ) -> Option<Self> {
        // Who is called in plaintext has no proxy, here as there: that it may be called at all has been asked.
        let Security::Mtls { expected, .. } = security else { return None };
        // Behind a gateway the container's port is known to its own cluster only; a namespace that is the same has it from the
        // same manifests.
        let own = || service.endpoints.iter().find(|endpoint| endpoint.remote.is_none());
        let port = match &remote.gateway {
            None => address.port(),
            Some(_) => own().map_or(service.port, |endpoint| endpoint.address.port()),
        };
        let (caller, who, cluster) = (caller.clone(), expected.who.clone(), remote.cluster.clone());
        Some(Self { caller, who, cluster, port, service_port: service.port })
    }

    fn nearest<'a>(
        &self,
        residual: &'a Residual,
        decision: &Decision<'_>,
        request: Option<&RequestView<'_>>,
    ) -> Option<Nearest<'a>> {
        let protocol = if request.is_some() { Protocol::Http } else { Protocol::Tcp };
        residual.nearest(decision, &self.facts(protocol), request)
    }

    fn facts(&self, protocol: Protocol) -> ConnectionFacts<'_> {
        // TrafficTargets ask for no addresses.
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        ConnectionFacts {
            peer: Some(&self.caller),
            source_ip: nowhere,
            remote_ip: RemoteIp::PerRequest,
            destination: SocketAddr::new(nowhere, self.port),
            service_port: Some(self.service_port),
            opaque_port: false,
            sni: None,
            protocol,
        }
    }
}

impl<'a> Refusal<'a> {
    /// What would have let it in.
    pub fn nearest(&self, request: Option<&RequestView<'_>>) -> Option<Nearest<'a>> {
        self.whom.nearest(self.residual, &self.decision, request)
    }
}

impl Permitted {
    fn has(&self, candidate: &Candidate) -> bool {
        candidate.ruling().is_none_or(|place| place < LOOKED_AT && self.rulings >> place & 1 == 1)
    }
}

impl Iterator for Permitted {
    type Item = Rc<Candidate>;

    fn next(&mut self) -> Option<Rc<Candidate>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let candidate = self.rest.next()?;
            if self.has(&candidate) {
                return Some(candidate);
            }
        }
    }
}

/// Whether a connection of `caller` to an endpoint of a service may go on under this configuration.
pub fn still_permits(snapshot: &Snapshot, caller: &SpiffeId, service: &Arc<ServicePort>, to: &Candidate) -> bool {
    let upstream = to.slot().upstream();
    let whom = to.remote().and_then(|remote| Whom::new(caller, service, upstream.address, &upstream.security, remote));
    let ruling = whom.and_then(|whom| Ruling::new(snapshot, whom));
    ruling.is_none_or(|ruling| ruling.refusal(None).is_none())
}

#[cfg(test)]
mod tests;
