//! What becomes of a call, with everything that led to it; its JSON is what `docs/explain.md` describes.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::StatusCode;
use meshgate_config::{Balancer, Endpoint, HashOn, ServicePort, Share};
use meshgate_policy::Verdict;
use serde::{Serialize, Serializer};

use crate::error::ErrorKind;
use crate::judge::Outcome;

/// What a call comes to.
#[derive(Clone, Debug, Serialize)]
pub struct Called {
    /// The case's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who calls, in words.
    pub workload: Option<String>,
    /// Of a running proxy: the generation of its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// `allow`: it would be sent. `deny`: refused by the caller's own proxy.
    pub verdict: Outcome,
    /// Why: `service`, `split`, `endpoint` and `passthrough`, or `out_of_reach`, `no_endpoint`, `no_route` and `no_target_matched`.
    pub reason: &'static str,
    /// For people, where it is refused: why.
    pub detail: Option<String>,
    /// What an HTTP caller gets when refused; none where the connection is closed instead.
    pub status: Option<u16>,
    /// What is called, as written.
    pub to: String,
    /// The address that the connection was going to, as far as it is known.
    pub destination: Option<SocketAddr>,
    /// Whether nothing is read as a request.
    #[serde(rename = "protocol", serialize_with = "protocol")]
    pub tcp: bool,
    /// The service that is meant.
    pub service: Option<ServiceSeen>,
    /// The request that is sent, as it is forwarded, where it is described.
    pub request: Option<RequestSeen>,
    /// What the proxy makes of the call.
    pub notes: Vec<Cow<'static, str>>,
    /// Of a TrafficSplit's root, in the order in which they are asked; what none takes goes to the endpoints below.
    pub splits: Vec<SplitSeen>,
    /// Our own first, then others by key; empty where no service is balanced.
    pub clusters: Vec<ClusterSeen>,
    /// In the order of the configuration.
    pub endpoints: Vec<EndpointSeen>,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestSeen {
    /// Its method.
    pub method: String,
    /// Its normalized path, with its query.
    pub path: String,
}

/// One TrafficSplit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SplitSeen {
    /// Its name.
    pub name: String,
    /// Whether it applies to whatever comes to it, and not only to requests that match.
    pub all: bool,
    /// Whether it takes this call; `None` = that depends on the request.
    pub takes: Option<bool>,
    /// As they are written; without weight they are left out.
    pub backends: Vec<BackendSeen>,
}

/// One backend of a TrafficSplit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendSeen {
    /// Its full name.
    pub host: String,
    /// As written.
    pub weight: u32,
    /// Of what the split takes, in thousandths.
    pub per_mille: u64,
    /// What becomes of its share: as if it had been called itself.
    pub verdict: Outcome,
    /// Why.
    pub reason: &'static str,
    /// For people, where it is refused: why.
    pub detail: Option<String>,
    /// What an HTTP caller gets when refused.
    pub status: Option<u16>,
}

/// What TrafficTargets of the caller's cluster say of what is sent to an endpoint in another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RulingSeen {
    /// `deny`: it is not sent, and the caller gets 403.
    pub verdict: Verdict,
    /// Why.
    pub reason: &'static str,
    /// The rule that lets it in.
    pub policy: Option<String>,
    /// Where none does: the rule that failed in the fewest conditions, and the first of them.
    pub nearest: Option<String>,
}

/// A service that is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceSeen {
    /// Namespace and name.
    pub name: String,
    /// Its full name.
    pub host: String,
    /// The port called.
    pub port: u16,
    /// `Locality`, `FailOver` or `ActiveActive`.
    pub spread: &'static str,
    /// How one endpoint of a cluster is chosen.
    pub balancer: String,
    /// Endpoints of our own cluster that are not ready.
    pub not_ready: usize,
}

/// What one cluster gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterSeen {
    /// Its key.
    pub cluster: String,
    /// Whether it is ours.
    pub own: bool,
    /// Weight and priority; `None` = weight 0, which leaves it out.
    #[serde(serialize_with = "share")]
    pub share: Option<Share>,
    /// Of the service's requests, in thousandths.
    pub per_mille: Option<u64>,
    /// Endpoints that can be used.
    pub usable: usize,
    /// Whether it gets any.
    pub state: State,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointSeen {
    /// Its cluster's key.
    pub cluster: String,
    /// Where it is, or what stands before it there.
    pub address: String,
    /// The Pod or WorkloadEntry.
    pub workload: Option<String>,
    /// Who must answer: a SPIFFE ID, `plaintext`, or `None` when nobody knows.
    pub expects: Option<String>,
    /// Whether it is used.
    pub state: State,
    /// Why it is left out.
    pub why: Option<Why>,
    /// More about that.
    pub detail: Option<String>,
    /// TrafficTargets that let the caller call it.
    pub targets: Vec<String>,
    /// TrafficTargets that let others call it, and not the caller.
    pub targets_of_others: Vec<String>,
    /// What stands before it, as it was last seen.
    pub gateway: Option<GatewaySeen>,
    /// Of one in another cluster, with TrafficTargets in force: whether what is described is sent to it.
    pub ruling: Option<RulingSeen>,
}

/// A gateway; what is `None` is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewaySeen {
    /// Whether it does not answer.
    pub down: Option<bool>,
    /// How many endpoints of the service are ready behind it.
    pub ready: Option<u32>,
}

/// Whether something is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is.
    Used,
    /// It would be, if nothing of a higher rank could be.
    Standby,
    /// It is not.
    LeftOut,
}

/// Why an endpoint is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No TrafficTarget lets the caller call it.
    OutOfReach,
    /// Nothing says which account to expect there.
    Unidentified,
    /// Another address of the same workload is used, or one of the family that was called.
    OtherAddress,
    /// Its gateway does not answer.
    GatewayDown,
    /// Its gateway says that nothing is ready behind it.
    NoneReady,
    /// It failed too often of late.
    Ejected,
}

impl Why {
    /// In words.
    pub fn sentence(self) -> &'static str {
        match self {
            Why::OutOfReach => "no TrafficTarget lets the caller call it",
            Why::Unidentified => "nothing says which service account to expect there",
            Why::OtherAddress => "another address of the same workload, or of the family that was called, is used",
            Why::GatewayDown => "its gateway does not answer",
            Why::NoneReady => "its gateway says that nothing is ready there",
            Why::Ejected => "it failed too often of late",
        }
    }
}

impl Called {
    pub(super) fn new(name: Option<String>, to: &str, destination: Option<SocketAddr>) -> Called {
        Called {
            name,
            workload: None,
            generation: None,
            verdict: Outcome::Deny,
            reason: "",
            detail: None,
            status: None,
            to: to.to_owned(),
            destination,
            tcp: false,
            service: None,
            request: None,
            notes: Vec::new(),
            splits: Vec::new(),
            clusters: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    pub(super) fn refuse(&mut self, kind: ErrorKind, detail: String) {
        self.verdict = Outcome::Deny;
        self.reason = match kind {
            ErrorKind::OutOfReach | ErrorKind::BackendOutOfReach => "out_of_reach",
            ErrorKind::NoEndpoint => "no_endpoint",
            _ => "no_route",
        };
        self.detail = Some(detail);
        self.status = (!self.tcp && !kind.is_silent()).then(|| kind.status().as_u16());
    }

    /// Takes into account what is said of the endpoints whose turn it may be.
    pub(super) fn judged(&mut self) {
        let in_use = self.endpoints.iter().filter(|seen| seen.state == State::Used);
        let (refusing, sending): (Vec<_>, Vec<_>) = in_use
            .map(|seen| seen.ruling.as_ref().filter(|ruling| ruling.verdict == Verdict::Deny))
            .partition(Option::is_some);
        match (refusing.first(), sending.is_empty()) {
            (Some(Some(ruling)), true) => {
                (self.verdict, self.reason) = (Outcome::Deny, ruling.reason);
                self.status = (!self.tcp).then_some(StatusCode::FORBIDDEN.as_u16());
                let detail = "this cluster's TrafficTargets let it go to none of the other clusters' endpoints in use";
                self.detail = Some(detail.to_owned());
            }
            (Some(_), false) => {
                let all = refusing.len() + sending.len();
                let note = format!(
                    "this cluster's TrafficTargets refuse it for {} of {all} endpoints in use: when it is the turn of one of those, \
                     it is not sent",
                    refusing.len()
                );
                self.notes.push(note.into());
            }
            _ => {}
        }
    }

    pub(super) fn service(&mut self, port: &ServicePort) {
        let elsewhere = port.endpoints.iter().any(|endpoint| endpoint.remote.is_some());
        self.service = Some(ServiceSeen {
            name: port.service.to_string(),
            host: port.host.clone(),
            port: port.port,
            spread: match (port.spread.fail_over, elsewhere) {
                (true, _) => "FailOver",
                (false, true) => "ActiveActive",
                (false, false) => "Locality",
            },
            balancer: balancer(&port.balancer),
            not_ready: port.not_ready,
        });
    }
}

impl EndpointSeen {
    pub(super) fn new(endpoint: &Endpoint, own: &str) -> EndpointSeen {
        let remote = endpoint.remote.as_ref();
        let has_gateway = remote.is_some_and(|remote| remote.gateway.is_some());
        EndpointSeen {
            cluster: remote.map_or(own, |remote| remote.cluster.as_str()).to_owned(),
            address: endpoint.to_string(),
            workload: endpoint.workload.as_ref().map(ToString::to_string),
            expects: None,
            state: State::Used,
            why: None,
            detail: None,
            targets: Vec::new(),
            targets_of_others: Vec::new(),
            gateway: has_gateway.then_some(GatewaySeen { down: None, ready: None }),
            ruling: None,
        }
    }
}

fn balancer(balancer: &Balancer) -> String {
    match balancer {
        Balancer::RoundRobin => "in turn".to_owned(),
        Balancer::LeastRequest => "of two at random the one with fewer requests in progress".to_owned(),
        Balancer::PeakEwma => "of two at random the one expected to answer sooner".to_owned(),
        Balancer::RingHash(HashOn::SourceIp) => "the same one for the same caller's address".to_owned(),
        Balancer::RingHash(HashOn::Header(name)) => format!("the same one for the same header {name}"),
        Balancer::RingHash(HashOn::Cookie(name)) => format!("the same one for the same cookie {name}"),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn protocol<S: Serializer>(tcp: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *tcp { "tcp" } else { "http" })
}

#[expect(clippy::ref_option, reason = "serde gives a reference")]
fn share<S: Serializer>(share: &Option<Share>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Written {
        weight: u32,
        priority: u32,
    }
    share.map(|Share { weight, priority }| Written { weight, priority }).serialize(serializer)
}
