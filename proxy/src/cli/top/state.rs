//! What a proxy's admin endpoint tells of itself (an event of `/events`), as far as it is shown here.
//!
//! The proxy may be of another version: what is missing is taken for empty, what is new is passed over.

use serde::Deserialize;

/// One state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) at: String,
    pub(super) process: Process,
    pub(super) mtls: Mtls,
    pub(super) certs: Certs,
    pub(super) edges: Edges,
    pub(super) edges_left_out: usize,
    pub(super) refusals: Vec<Refused>,
    pub(super) clusters: Clusters,
    pub(super) problems: Vec<Problem>,
    pub(super) problems_left_out: usize,
}

/// Which process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) version: String,
    pub(super) role: String,
    pub(super) workload: String,
    pub(super) cluster: String,
    pub(super) ready: bool,
    pub(super) blockers: Vec<String>,
    pub(super) generation: u64,
    pub(super) connections: (u64, u64),
}

/// Which callers it takes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Mtls {
    pub(super) mode: String,
}

/// What vouches for whom.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Certs {
    pub(super) certificate: Certificate,
    pub(super) roots: Vec<Root>,
}

/// The own one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Certificate {
    pub(super) id: String,
    pub(super) seconds_left: u64,
    pub(super) seconds_in_all: u64,
}

/// One that vouches for peers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Root {
    pub(super) trust_domain: String,
    pub(super) sha256: String,
    pub(super) sessions: Sessions,
    pub(super) seconds_left: u64,
    pub(super) seconds_in_all: u64,
}

/// Of open connections, whose peers are believed by it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sessions {
    pub(super) inbound: i64,
    pub(super) outbound: i64,
}

/// Who talks to whom.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Edges {
    pub(super) bounds_ms: Vec<f64>,
    pub(super) edges: Vec<Edge>,
}

/// One arrow; its numbers only grow.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Edge {
    pub(super) reporter: String,
    pub(super) source: Source,
    pub(super) destination: Destination,
    pub(super) security: String,
    pub(super) requests: Requests,
    pub(super) latency: Latency,
    pub(super) tcp: Tcp,
}

/// Who calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub(super) struct Source {
    pub(super) namespace: String,
    pub(super) workload: String,
    pub(super) principal: String,
    pub(super) cluster: String,
}

/// Who is called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub(super) struct Destination {
    pub(super) service: String,
    pub(super) workloads: Vec<String>,
}

/// Requests by how they ended.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Requests {
    pub(super) total: u64,
    pub(super) ok: u64,
    pub(super) refused: u64,
}

/// How long they took.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latency {
    pub(super) buckets: Vec<u64>,
}

/// TCP connections.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tcp {
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) refused: u64,
}

/// One refusal.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refused {
    pub(super) at: String,
    pub(super) times: u64,
    pub(super) source_namespace: String,
    pub(super) source_workload: String,
    pub(super) source_principal: String,
    pub(super) destination_service: String,
    pub(super) method: Option<String>,
    pub(super) path: Option<String>,
    pub(super) code: Option<u16>,
    pub(super) flags: String,
    pub(super) reason: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) details: Option<String>,
}

/// Services and gateways.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Clusters {
    pub(super) gateways: Vec<Gateway>,
    pub(super) services: Vec<Service>,
    pub(super) services_left_out: usize,
}

/// A gateway of another cluster.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Gateway {
    pub(super) cluster: String,
    pub(super) up: Option<bool>,
    pub(super) error: Option<String>,
}

/// One port of a service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    pub(super) service: String,
    pub(super) port: u16,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) not_ready: usize,
}

/// One endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Endpoint {
    pub(super) address: String,
    pub(super) health: String,
    pub(super) reason: Option<String>,
}

/// What is wrong with the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    pub(super) severity: String,
    pub(super) file: String,
    pub(super) line: Option<usize>,
    pub(super) message: String,
}
