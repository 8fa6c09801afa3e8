//! Whom a connection must find at its other end.
//!
//! The one idea: what an endpoint's own cluster says about it is as much as a caller can demand. That is one account nearly
//! always; an export that names none but `*` is served by any account of its namespace, and of no other.

use std::fmt;
use std::sync::Arc;

use crate::{SpiffeId, TrustDomain};

/// Who must prove to be at the other end of a connection, and by whose word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expected {
    /// Who.
    pub who: Who,
    /// The cluster (`region/zone/group/cluster`) whose own roots must vouch for it, where that cluster has roots of its own;
    /// `None`, or a cluster without: the bundle of the trust domain, and no cluster's roots.
    pub cluster: Option<Arc<str>>,
}

/// Workloads that may answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// This one.
    Exactly(SpiffeId),
    /// Whatever service account of one namespace.
    Namespace {
        /// Its trust domain.
        trust_domain: TrustDomain,
        /// Its name.
        namespace: Arc<str>,
    },
}

impl Who {
    /// Whether `found` is meant.
    pub fn includes(&self, found: &SpiffeId) -> bool {
        match self {
            Self::Exactly(id) => id == found,
            Self::Namespace { trust_domain, namespace } => {
                found.trust_domain_str() == trust_domain.as_str() && found.namespace() == Some(namespace)
            }
        }
    }
}

impl From<SpiffeId> for Expected {
    /// This workload, by any root of its trust domain.
    fn from(id: SpiffeId) -> Self {
        Self { who: Who::Exactly(id), cluster: None }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(id) => id.fmt(f),
            Self::Namespace { trust_domain, namespace } => write!(f, "spiffe://{trust_domain}/ns/{namespace}/sa/*"),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.who.fmt(f)?;
        match &self.cluster {
            Some(cluster) => write!(f, " of {cluster}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_account_of_a_namespace_is_one_of_that_namespace_in_that_trust_domain() {
        let who = Who::Namespace { trust_domain: "td".parse().unwrap(), namespace: "shop".into() };
        let includes = |id: &str| who.includes(&id.parse().unwrap());
        assert!(includes("spiffe://td/ns/shop/sa/cart") && includes("spiffe://td/ns/shop/sa/stock"));
        for other in [
            "spiffe://td/ns/shops/sa/cart",
            "spiffe://td/ns/web/sa/shop",
            "spiffe://other/ns/shop/sa/cart",
            "spiffe://td/shop",
        ] {
            assert!(!includes(other), "{other}");
        }
    }
}
