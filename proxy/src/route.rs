//! A plan made ready to use: the ways to its endpoints, the choice among them and its counters, made once per service and
//! configuration and shared by a worker's connections.

mod elsewhere;
mod fork;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use meshgate_config::ServicePort;

use crate::balance::{Account, Behind, Caller, Candidate, Candidates, Choice, Family, Health, Key, Service, Weighing};
use crate::error::{ErrorKind, ProxyError};
use crate::http::pool::{HttpVersion, Security, Upstream, Via};
use crate::http::retry::Terms;
use crate::metrics::RequestCounters;
use crate::outbound::{Hop, Plan, listed};
use crate::report::source_facts;
use crate::tunnel::Far;
use crate::worker::{Worker, WorkerRef};
use fork::Branches;

pub use elsewhere::{Permitted, Refusal, Rulings, still_permits};

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
    elsewhere: Rulings,
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

impl Routes {
    /// Lets go of what was not used of late, see [`RequestCounters::let_go`].
    pub fn let_go(&self) {
        let kept = self.0.borrow();
        kept.routes.values().chain(kept.forks.values()).for_each(|route| route.counters.let_go());
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
                (None, Ok(vec![Hop { address, security: Security::Plaintext, tunnel: false, remote: None }]))
            }
            Plan::Refuse { service, kind, detail } => (service, Err((kind, detail))),
            // What no TrafficSplit applies to.
            Plan::Split(fork) => return Self::new(worker, fork.rest, generation, version),
        };
        let first = hops.as_ref().ok().and_then(|hops| hops.first());
        let security = first.map_or(Security::Plaintext, |hop| hop.security.clone());
        let facts = source_facts(worker, service.as_deref(), &security);
        let mut elsewhere = Rulings::default();
        let target = match hops {
            Ok(hops) => {
                let ways = ways(worker, service.as_deref(), hops, version, &mut elsewhere);
                Target::Choice(match meant.zip(service.as_deref()) {
                    Some((family, service)) => balanced(worker, service, family, ways, generation),
                    None => single(worker, ways),
                })
            }
            Err((kind, detail)) => Target::Refuse { kind, detail },
        };
        let counters = Rc::new(RequestCounters::new(facts));
        let terms = service.as_ref().map_or_else(Terms::default, |service| Terms {
            budget: Some(worker.shared.retry_budgets.of(&service.service, service.port)),
            fail_over: service.spread.fail_over,
            ..Terms::default()
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

    /// What is to be asked before anything goes to an endpoint in another cluster.
    pub fn elsewhere(&self) -> &Rulings {
        &self.elsewhere
    }

    /// The counters of its requests.
    pub fn counters(&self) -> &Rc<RequestCounters> {
        &self.counters
    }
}

/// A hop, and what is to be asked before it is taken.
struct Way {
    hop: Hop,
    version: HttpVersion,
    ruling: Option<usize>,
}

fn ways(
    worker: &Worker,
    service: Option<&ServicePort>,
    hops: Vec<Hop>,
    version: HttpVersion,
    elsewhere: &mut Rulings,
) -> Vec<Way> {
    let (snapshot, identity) = (worker.snapshot(), worker.identity.borrow());
    let caller = identity.svid().id();
    let ways = hops.into_iter().map(|hop| {
        let ruling = service.and_then(|service| elsewhere.place(&snapshot, caller, service, &hop));
        Way { hop, version, ruling }
    });
    ways.collect()
}

/// A choice among a service's endpoints.
fn balanced(worker: &Worker, service: &ServicePort, family: Family, ways: Vec<Way>, generation: u64) -> Choice {
    let shared = &worker.shared;
    let ledger = shared.ledgers.of(&service.host, service.port, family);
    let name = format!("{}:{}", service.host, service.port);
    let healths = ledger.enrol(&name, generation, ways.iter().map(|way| Key::of(&way.hop)));
    // Of the only one there is, nothing is counted: it would be asked whatever came of it.
    let is_only = ways.len() == 1;
    let weighing = if is_only { Weighing::Nothing } else { Weighing::of(&service.balancer) };
    let account =
        |health: Arc<Health>| Account { health: (!is_only).then_some(health), weighing, ..Account::default() };
    let candidates = ways.into_iter().zip(healths);
    let candidates = candidates.map(|(way, health)| candidate(worker, way, account(health))).collect();
    let own = service.spread.own.unwrap_or_default();
    let balancer = service.balancer.clone();
    let service = Service { name, ledger, own, balancer };
    Choice::new(candidates, Some(service), shared.bootstrap.retries.attempts)
}

/// What is not balanced: an endpoint that was called by its own address, or what is no service.
fn single(worker: &Worker, ways: Vec<Way>) -> Choice {
    let candidates = ways.into_iter().map(|way| candidate(worker, way, Account::default()));
    Choice::new(candidates.collect(), None, worker.shared.bootstrap.retries.attempts)
}

fn candidate(worker: &Worker, way: Way, account: Account) -> Rc<Candidate> {
    let shared = &worker.shared;
    let Way { hop: Hop { address, security, tunnel, remote }, version, ruling } = way;
    let gateway = remote.as_ref().and_then(|remote| Some((remote.gateway.clone()?, Arc::clone(&remote.authority))));
    let behind = gateway.as_ref().map(|(gateway, _)| Behind {
        gateway: shared.clusters.gateway(gateway),
        health: shared.ledgers.gateway(gateway),
    });
    let (via, security) = match (gateway, security) {
        (Some((gateway, authority)), security) => (Some(Via { far: Far::Gateway(gateway), authority }), security),
        (None, Security::Mtls { expected, .. }) if tunnel => {
            (Some(Via::to_workload(address, expected)), Security::Plaintext)
        }
        (None, security) => (None, security),
    };
    let connect_timeout = shared.bootstrap.timeouts.connect;
    let upstream = Upstream { address, version, security, source: None, connect_timeout, via };
    Candidate::with(worker.pool.slot(&upstream), remote, Account { behind, ruling, ..account })
}
