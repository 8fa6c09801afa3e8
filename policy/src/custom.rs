//! Whom CUSTOM policies ask, and when they cannot be asked.
//!
//! A workload has one provider. With two, or with one that nobody configured, no answer would be the right one: what
//! the rules match is refused, and the rest passes. This is what Istio does without its flag for several providers.
//! Asking is the proxy's business.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::model::Policy;
use crate::request::{ConnectionFacts, Protocol};

/// What is known of the mesh's extension providers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Providers {
    /// Nothing: policies are looked at without a bootstrap. Each provider named is taken to exist.
    #[default]
    Unstated,
    /// These and no others, by name.
    Known(BTreeMap<String, Provider>),
}

/// What the policies need to know of one provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provider {
    /// How it is asked.
    pub kind: ProviderKind,
    /// Whether requests pass when it cannot be asked.
    pub fail_open: bool,
}

/// How a provider is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// With an HTTP request for each request: it cannot be asked about a TCP connection.
    Http,
    /// By gRPC.
    Grpc,
}

/// Why no provider can be asked on this workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderFault {
    /// There is none of that name.
    Unknown,
    /// The workload's CUSTOM policies name different ones.
    Several,
    /// It speaks HTTP, and there are no requests on a port that no service declares to carry none. Were it passed over here,
    /// a caller whose first bytes do not look like HTTP would pass it.
    NoRequests,
}

/// What holds for all CUSTOM policies of one workload.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    fault: Option<ProviderFault>,
    /// The one provider speaks HTTP, and has nothing to say where there is none.
    http_only: bool,
}

/// How the CUSTOM policies of a workload stand on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The provider is asked.
    Asks,
    /// It cannot be: what the rules match is refused.
    Fault(ProviderFault),
    /// They have no effect: there are no requests to ask an HTTP provider about, and a service says so.
    PassedOver,
}

impl Standing {
    /// Why nobody can be asked, if so.
    pub(crate) fn fault(self) -> Option<ProviderFault> {
        match self {
            Standing::Fault(fault) => Some(fault),
            Standing::Asks | Standing::PassedOver => None,
        }
    }
}

impl Providers {
    /// What is known of the provider; `None` when it does not exist or nothing is known.
    pub fn find(&self, name: &str) -> Option<Provider> {
        match self {
            Providers::Unstated => None,
            Providers::Known(all) => all.get(name).copied(),
        }
    }
}

impl Asked {
    /// What follows from the policies that select a workload.
    pub(crate) fn by(selected: &[Arc<Policy>], providers: &Providers) -> Asked {
        let mut names = selected.iter().filter_map(|policy| policy.provider());
        let Some(first) = names.next() else { return Asked::default() };
        if names.any(|name| name != first) {
            return Asked { fault: Some(ProviderFault::Several), http_only: false };
        }
        match (providers, providers.find(first)) {
            (Providers::Known(_), None) => Asked { fault: Some(ProviderFault::Unknown), http_only: false },
            (_, found) => Asked { fault: None, http_only: found.is_some_and(|found| found.kind == ProviderKind::Http) },
        }
    }

    /// What follows for one connection.
    pub(crate) fn standing(self, facts: &ConnectionFacts<'_>) -> Standing {
        match self.fault {
            Some(fault) => Standing::Fault(fault),
            None if !self.http_only || facts.protocol == Protocol::Http => Standing::Asks,
            None if facts.opaque_port => Standing::PassedOver,
            None => Standing::Fault(ProviderFault::NoRequests),
        }
    }
}

impl fmt::Display for ProviderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProviderFault::Unknown => "no extension provider of this name is configured",
            ProviderFault::NoRequests => {
                "the provider speaks HTTP, and this connection has no requests although no service declares its port to be TCP"
            }
            ProviderFault::Several => "the CUSTOM policies of this workload name different providers",
        })
    }
}
