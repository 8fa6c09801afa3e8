//! May this peer do that?
//!
//! Policies are data. They are read from Istio's documents ([`istio`]) and SMI's ([`smi`]), compiled for one workload
//! ([`PolicySet::compile`]), reduced to what a connection leaves open ([`PolicySet::reduce`]) and decided
//! ([`Residual::decide`]). Nothing here opens a file or a socket, and nothing waits.
//!
//! The semantics are Istio's sidecar's. Where Envoy, which enforces them there, lets something slip, the reading here is
//! the one that refuses; the modules concerned say so.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//! use meshgate_policy::{istio, ConnectionFacts, ObjectName, PolicySet, Protocol, Reason, RemoteIp, Settings, Workload};
//!
//! let name = ObjectName { namespace: "default".into(), name: "allow-nothing".into() };
//! let policy = istio::authorization_policy(name, &BTreeMap::new(), Default::default()).map_err(|all| all[0].clone())?;
//! let workload = Workload { namespace: "default".into(), ..Default::default() };
//! let settings = Settings {
//!     root_namespace: "istio-system".into(),
//!     trust_domain: "cluster.local".parse()?,
//!     trust_domain_aliases: Vec::new(),
//!     catch_all_deny: Default::default(),
//!     smi: Default::default(),
//!     providers: Default::default(),
//!     smi_path_match: Default::default(),
//! };
//! let set = PolicySet::compile(&[Arc::new(policy)], &workload, &settings);
//! let residual = set.reduce(&ConnectionFacts {
//!     peer: None,
//!     source_ip: [10, 0, 0, 1].into(),
//!     remote_ip: RemoteIp::PerRequest,
//!     destination: ([10, 0, 0, 2], 80).into(),
//!     service_port: None,
//!     opaque_port: false,
//!     sni: None,
//!     protocol: Protocol::Http,
//! });
//! assert_eq!(residual.fixed().map(|decision| decision.reason), Some(Reason::NoAllowMatched));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod address;
mod condition;
mod custom;
mod decision;
pub mod dump;
pub mod duration;
mod essential;
mod eval;
pub mod explain;
mod field;
mod guard;
mod hash;
mod index;
pub mod istio;
pub mod jwt;
pub mod lint;
mod matchers;
mod model;
mod nearest;
pub mod normalize;
mod peer_authentication;
pub mod percent;
mod request;
mod residual;
mod select;
mod set;
pub mod smi;
mod template;
mod token;
mod trust_domain;

pub use custom::{Provider, ProviderFault, ProviderKind, Providers};
pub use decision::{Decision, Reason, RuleRef, Verdict};
pub use essential::Essential;
pub use eval::{Custom, Residual};
pub use explain::Explanation;
pub use field::Field;
pub use jwt::{Authentication, RequestAuthentication};
pub use lint::Lint;
pub use model::{Action, CatchAllDeny, Family, Invalid, ObjectName, Policy, Settings, SmiMode, Workload};
pub use nearest::Nearest;
pub use peer_authentication::{MtlsMode, MtlsModes, PeerAuthentication};
pub use request::{ConnectionFacts, Protocol, RemoteIp, RequestView};
pub use set::PolicySet;
pub use token::{RequestPrincipal, Token};

#[cfg(test)]
mod tests;
