//! What is valid and most likely not meant.
//!
//! A finding never changes a verdict. Its code is stable: people silence it by that, and look it up in the user guide. Each
//! group of lints is a module that hands its findings to `Findings`; what they all are is in [`CATALOGUE`].

mod catalogue;
mod custom;
mod dead;
mod known;
mod names;
mod peers;
mod shape;
mod values;

use std::fmt;
use std::sync::Arc;

pub use catalogue::*;
pub use dead::dead_allows;
pub use known::{Known, KnownWorkload};

use crate::model::{ObjectName, Policy, Settings};
use crate::peer_authentication::PeerAuthentication;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// `MG001` and so on.
    pub code: &'static str,
    /// The kind of object it is about.
    pub about: About,
    /// The object.
    pub policy: ObjectName,
    /// What is wrong and what to do about it.
    pub message: String,
}

/// A kind of object that there are lints about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// `security.istio.io`
    AuthorizationPolicy,
    /// `security.istio.io`
    PeerAuthentication,
    /// `security.istio.io`
    RequestAuthentication,
    /// `access.smi-spec.io`
    TrafficTarget,
    /// `specs.smi-spec.io`
    HttpRouteGroup,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.policy, self.message)
    }
}

/// Everything there is to say about a mesh's policies, in the order of their names. What is not known gives no finding.
pub fn all(
    policies: &[Arc<Policy>],
    peer_authentications: &[Arc<PeerAuthentication>],
    known: &Known,
    settings: &Settings,
) -> Vec<Lint> {
    let mut lints = dead_allows(policies, &known.workloads, settings);
    for policy in policies.iter().filter(|policy| policy.unreadable.is_none()) {
        let mut findings = Findings { policy, lints: &mut lints };
        shape::look(&mut findings, known, settings);
        values::look(&mut findings, known);
        names::look(&mut findings, known, settings);
    }
    lints.extend(custom::lints(policies, &known.workloads, settings));
    lints.extend(peers::lints(peer_authentications));
    lints.sort_by(|a, b| (&a.policy, a.code).cmp(&(&b.policy, b.code)));
    lints
}

/// Where a module puts what it finds in one policy.
struct Findings<'a> {
    policy: &'a Policy,
    lints: &'a mut Vec<Lint>,
}

impl Findings<'_> {
    fn add(&mut self, code: &'static str, message: String) {
        self.lints.push(Lint { code, about: About::AuthorizationPolicy, policy: self.policy.name.clone(), message });
    }
}

#[cfg(test)]
mod tests;
