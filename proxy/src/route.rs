//! A plan made ready to use: its endpoints' connection slots, its cursor and its counters, made once per service and
//! configuration and shared by a worker's connections.

mod fork;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use meshgate_config::ServicePort;

use crate::balance::{Caller, Candidate, Cursor, Family};
use crate::error::{ErrorKind, ProxyError};
use crate::http::pool::{HttpVersion, Security, Upstream, Via};
use crate::metrics::{RequestCounters, RequestLabels, UNKNOWN};
use crate::outbound::{Hop, Plan, listed};
use crate::report::NO_FLAGS;
use crate::worker::{Worker, WorkerRef};
use fork::Branches;

/// Endpoints tried for one request while nothing of it was sent: enough to get past a pod that has just gone, few enough
/// that a dead service is reported soon.
const TRIES: usize = 3;

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
    /// Who else serves what is sent to the service.
    branches: Option<Branches>,
}

#[derive(Debug)]
enum Target {
    Candidates { candidates: Vec<Rc<Candidate>>, cursor: Arc<Cursor> },
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
        let mut meant = Family::Any;
        let mut forbidden = None;
        let (service, hops) = match plan {
            Plan::Service { service, family, endpoints, left_out, out_of_reach } => {
                meant = family;
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
        let target = match hops {
            Ok(hops) => Target::Candidates {
                candidates: hops.into_iter().map(|hop| candidate(worker, hop, version)).collect(),
                cursor: service.as_ref().map_or_else(Arc::default, |service| {
                    worker.shared.cursors.of(&service.service, service.port, meant)
                }),
            },
            Err((kind, detail)) => Target::Refuse { kind, detail },
        };
        let counters = Rc::new(RequestCounters::new(labels));
        Self { generation, service, target, left_out: forbidden, counters, branches: None }
    }

    /// What to try for one request, the next in turn first.
    ///
    /// # Errors
    /// The plan was a refusal.
    pub fn candidates(&self, _caller: Caller<'_>) -> Result<impl Iterator<Item = Rc<Candidate>> + use<>, ProxyError> {
        match &self.target {
            Target::Refuse { kind, detail } => Err(ProxyError::new(*kind, detail.clone())),
            Target::Candidates { candidates, cursor } => {
                let next = cursor.next(candidates.len());
                let turn = candidates.iter().cycle().skip(next).take(candidates.len().min(TRIES));
                Ok(turn.map(Rc::clone).collect::<Vec<_>>().into_iter())
            }
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

    /// The counters of its requests.
    pub fn counters(&self) -> &Rc<RequestCounters> {
        &self.counters
    }
}

fn candidate(worker: &Worker, hop: Hop, version: HttpVersion) -> Rc<Candidate> {
    let Hop { address, security, remote } = hop;
    let gateway = remote.as_ref().and_then(|remote| Some((remote.gateway.clone()?, Arc::clone(&remote.authority))));
    let via = gateway.map(|(gateway, authority)| Via { gateway, authority });
    let connect_timeout = worker.shared.bootstrap.timeouts.connect;
    let upstream = Upstream { address, version, security, source: None, connect_timeout, via };
    Candidate::new(worker.pool.slot(&upstream), remote)
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
