//! A plan made ready to use: the ways to its endpoints, the choice among them and its counters, made once per service and
//! configuration and shared by a worker's connections.

mod fork;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use meshgate_config::ServicePort;
use meshgate_identity::{Expected, Who};
use meshgate_policy::{ConnectionFacts, Decision, RemoteIp, RequestView, Residual};

use crate::balance::{Account, Behind, Caller, Candidate, Candidates, Choice, Family, Health, Key, Service, Weighing};
use crate::error::{ErrorKind, ProxyError};
use crate::http::pool::{HttpVersion, Security, Upstream, Via};
use crate::http::retry::Terms;
use crate::metrics::{RequestCounters, RequestLabels, UNKNOWN};
use crate::outbound::{Hop, Plan, listed};
use crate::report::NO_FLAGS;
use crate::worker::{Worker, WorkerRef};
use fork::Branches;

/// Where requests go.
#[derive(Debug)]
pub struct Route {
    /// The configuration it was made under.
    pub generation: u64,
    service: Option<Arc<ServicePort>>,
    target: Target,
    /// The endpoints that no TrafficTarget lets this workload call, for the log.
    left_out: Option<String>,
    counters: Rc<RequestCounters>,
    terms: Terms,
    /// Who else serves what is sent to the service.
    branches: Option<Branches>,
    elsewhere: Vec<Elsewhere>,
}

/// What this cluster says of requests to an endpoint in another one.
#[derive(Debug)]
pub struct Elsewhere {
    expected: Expected,
    residual: Residual,
}

impl Elsewhere {
    fn of(worker: &Worker, service: &ServicePort, hop: &Hop) -> Option<Self> {
        let (remote, Security::Mtls { expected, .. }) = (hop.remote.as_ref()?, &hop.security) else { return None };
        // Of an export that names no account, only whether anybody there may be called is known: see `Reach`.
        let Who::Exactly(id) = &expected.who else { return None };
        let snapshot = worker.snapshot();
        let policies = snapshot.elsewhere(id.namespace()?, id.service_account()?, &remote.cluster)?;
        let identity = worker.identity.borrow();
        let residual = policies.reduce(&ConnectionFacts {
            peer: Some(identity.svid().id()),
            source_ip: hop.address.ip(),
            remote_ip: RemoteIp::PerRequest,
            // The container's port is known to its own cluster only.
            destination: SocketAddr::new(hop.address.ip(), service.port),
            service_port: Some(service.port),
            opaque_port: false,
            sni: None,
            protocol: meshgate_policy::Protocol::Http,
        });
        Some(Self { expected: expected.clone(), residual })
    }

    /// Whether this is about an endpoint.
    pub fn is_about(&self, candidate: &Candidate) -> bool {
        matches!(&candidate.slot().upstream().security, Security::Mtls { expected, .. } if *expected == self.expected)
    }

    /// What it says of a request.
    pub fn decide(&self, request: &RequestView<'_>) -> Decision<'_> {
        self.residual.decide(request)
    }
}

#[derive(Debug)]
enum Target {
    Choice(Choice),
    Refuse { kind: ErrorKind, detail: String },
}

/// The routes of one worker under the current configuration.
#[derive(Debug, Default)]
pub struct Routes(RefCell<Kept>);

#[derive(Debug, Default)]
struct Kept {
    generation: u64,
    routes: HashMap<RouteKey, Rc<Route>>,
    /// Of services with TrafficSplits.
    forks: HashMap<RouteKey, Rc<Route>>,
}

type RouteKey = (String, u16, Family, HttpVersion);

impl Routes {
    /// The route of a plan made under configuration `generation`. Routes to services are kept; others are cheap to make.
    pub fn route(&self, worker: &WorkerRef, plan: Plan, generation: u64, version: HttpVersion) -> Rc<Route> {
        let plan = match plan {
            Plan::Split(fork) => return self.fork(worker, *fork, generation, version),
            plan => plan,
        };
        let Plan::Service { service, family, .. } = &plan else {
            return Rc::new(Route::new(worker, plan, generation, version));
        };
        let mut kept = self.0.borrow_mut();
        kept.of(generation);
        let key = (service.host.clone(), service.port, *family, version);
        let route = kept.routes.entry(key).or_insert_with(|| Rc::new(Route::new(worker, plan, generation, version)));
        Rc::clone(route)
    }
}

impl Kept {
    /// Forgets what was made under another configuration.
    fn of(&mut self, generation: u64) {
        if self.generation != generation {
            *self = Kept { generation, ..Kept::default() };
        }
    }
}

impl Route {
    fn new(worker: &WorkerRef, plan: Plan, generation: u64, version: HttpVersion) -> Self {
        let mut meant = None;
        let mut forbidden = None;
        let (service, hops) = match plan {
            Plan::Service { service, family, endpoints, left_out, out_of_reach } => {
                meant = Some(family);
                forbidden = (!out_of_reach.is_empty()).then(|| listed(&out_of_reach));
                if !left_out.is_empty() {
                    let host = &service.host;
                    let left_out = listed(&left_out);
                    tracing::warn!(service = %host, left_out, "endpoints of which nobody knows the account are not used");
                }
                (Some(service), Ok(endpoints))
            }
            Plan::Endpoint { service, hop } => (Some(service), Ok(vec![hop])),
            Plan::Passthrough(address) => {
                (None, Ok(vec![Hop { address, security: Security::Plaintext, remote: None }]))
            }
            Plan::Refuse { service, kind, detail } => (service, Err((kind, detail))),
            // What no TrafficSplit applies to.
            Plan::Split(fork) => return Self::new(worker, fork.rest, generation, version),
        };
        let first = hops.as_ref().ok().and_then(|hops| hops.first());
        let security = first.map_or(Security::Plaintext, |hop| hop.security.clone());
        let host = service.as_ref().map_or(UNKNOWN, |service| &service.host);
        let labels = source_labels(worker, host, &security, "http");
        let elsewhere = match (&service, &hops) {
            (Some(service), Ok(hops)) => hops.iter().filter_map(|hop| Elsewhere::of(worker, service, hop)).collect(),
            _ => Vec::new(),
        };
        let target = match hops {
            Ok(hops) => Target::Choice(match meant.zip(service.as_deref()) {
                Some((family, service)) => balanced(worker, service, family, hops, generation, version),
                None => single(worker, hops, version),
            }),
            Err((kind, detail)) => Target::Refuse { kind, detail },
        };
        let counters = Rc::new(RequestCounters::new(labels));
        let terms = service.as_ref().map_or_else(Terms::default, |service| Terms {
            budget: Some(worker.shared.retry_budgets.of(&service.service, service.port)),
            fail_over: service.spread.fail_over,
        });
        Self { generation, service, target, left_out: forbidden, counters, terms, elsewhere, branches: None }
    }

    /// What to try for one request, the next in turn first.
    ///
    /// # Errors
    /// The plan was a refusal.
    pub fn candidates(&self, caller: Caller<'_>) -> Result<Candidates, ProxyError> {
        match &self.target {
            Target::Refuse { kind, detail } => Err(ProxyError::new(*kind, detail.clone())),
            Target::Choice(choice) => Ok(choice.candidates(caller)),
        }
    }

    /// Whether an answer that says that the server failed may be asked for once more in another cluster.
    pub fn fails_over(&self) -> bool {
        self.service.as_ref().is_some_and(|service| service.spread.fail_over)
    }

    /// The service, if it is one.
    pub fn service(&self) -> Option<&Arc<ServicePort>> {
        self.service.as_ref()
    }

    /// The service's host name, if it is a service.
    pub fn host(&self) -> Option<&str> {
        self.service.as_ref().map(|service| service.host.as_str())
    }

    /// The endpoints that no TrafficTarget lets this workload call, where others are left.
    pub fn left_out(&self) -> Option<&str> {
        self.left_out.as_deref()
    }

    /// What its requests may do when a try fails.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What is to be asked before a request goes to an endpoint in another cluster.
    pub fn elsewhere(&self) -> &[Elsewhere] {
        &self.elsewhere
    }

    /// The counters of its requests.
    pub fn counters(&self) -> &Rc<RequestCounters> {
        &self.counters
    }
}

/// A choice among a service's endpoints.
fn balanced(
    worker: &Worker,
    service: &ServicePort,
    family: Family,
    hops: Vec<Hop>,
    generation: u64,
    version: HttpVersion,
) -> Choice {
    let shared = &worker.shared;
    let ledger = shared.ledgers.of(&service.host, service.port, family);
    let name = format!("{}:{}", service.host, service.port);
    let healths = ledger.enrol(&name, generation, hops.iter().map(key));
    // Of the only one there is, nothing is counted: it would be asked whatever came of it.
    let is_only = hops.len() == 1;
    let weighing = if is_only { Weighing::Nothing } else { Weighing::of(&service.balancer) };
    let account = |health: Arc<Health>| Account { health: (!is_only).then_some(health), behind: None, weighing };
    let candidates = hops.into_iter().zip(healths);
    let candidates = candidates.map(|(hop, health)| candidate(worker, hop, version, account(health))).collect();
    let own = service.spread.own.unwrap_or_default();
    let balancer = service.balancer.clone();
    let service = Service { name, ledger, own, balancer };
    Choice::new(candidates, Some(service), shared.bootstrap.retries.attempts)
}

/// What is not balanced: an endpoint that was called by its own address, or what is no service.
fn single(worker: &Worker, hops: Vec<Hop>, version: HttpVersion) -> Choice {
    let candidates = hops.into_iter().map(|hop| candidate(worker, hop, version, Account::default()));
    Choice::new(candidates.collect(), None, worker.shared.bootstrap.retries.attempts)
}

fn candidate(worker: &Worker, hop: Hop, version: HttpVersion, account: Account) -> Rc<Candidate> {
    let shared = &worker.shared;
    let Hop { address, security, remote } = hop;
    let gateway = remote.as_ref().and_then(|remote| Some((remote.gateway.clone()?, Arc::clone(&remote.authority))));
    let via = gateway.map(|(gateway, authority)| Via { gateway, authority });
    let behind = via.as_ref().map(|via| Behind {
        gateway: shared.clusters.gateway(&via.gateway),
        health: shared.ledgers.gateway(&via.gateway),
    });
    let connect_timeout = shared.bootstrap.timeouts.connect;
    let upstream = Upstream { address, version, security, source: None, connect_timeout, via };
    Candidate::with(worker.pool.slot(&upstream), remote, Account { behind, ..account })
}

/// What a hop's endpoint is remembered by.
fn key(hop: &Hop) -> Key {
    let gateway = hop.remote.as_ref().and_then(|remote| remote.gateway.clone());
    Key {
        cluster: hop.remote.as_ref().map(|remote| remote.cluster.clone()),
        address: gateway.is_none().then_some(hop.address),
        gateway,
        security: hop.security.clone(),
    }
}

/// Labels at the source's side. A service whose endpoints have several identities is counted under the first one's.
pub fn source_labels(worker: &Worker, service: &str, security: &Security, protocol: &'static str) -> RequestLabels {
    RequestLabels {
        reporter: "source",
        source_principal: worker.identity.borrow().svid().id().to_string(),
        destination_principal: match security {
            Security::Mtls { expected, .. } => expected.to_string(),
            Security::Plaintext => UNKNOWN.to_owned(),
        },
        destination_service: service.to_owned(),
        request_protocol: protocol,
        response_code: 0,
        response_flags: NO_FLAGS,
        connection_security_policy: UNKNOWN,
    }
}
