//! What is known of other clusters' gateways, and how long it has been so.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::access_log::rfc3339;
use crate::clusters::{Clusters, Gateway};

/// Public facts only: no part of a key is known here.
#[derive(Serialize)]
pub(super) struct Shown {
    cluster: String,
    host: Arc<str>,
    port: u16,
    identity: String,
    /// In the order in which they are tried.
    addresses: Vec<SocketAddr>,
    /// `null` while it is not known.
    up: Option<bool>,
    /// Since when it is up or not.
    since: Option<String>,
    /// Ready endpoints by authority; `null` while the gateway has not said.
    ready: Option<BTreeMap<Arc<str>, u32>>,
    error: Option<String>,
}

impl Shown {
    fn new(gateway: &Gateway) -> Self {
        let (address, told) = (gateway.address(), gateway.told());
        let addresses = gateway.addresses();
        let seen = gateway.seen();
        let ready = seen.ready.as_ref();
        Self {
            cluster: address.cluster.to_string(),
            host: Arc::clone(&address.host),
            port: address.port,
            identity: address.identity.to_string(),
            addresses,
            up: seen.up,
            since: told.since.map(rfc3339),
            ready: ready.map(|ready| ready.iter().map(|(name, count)| (Arc::clone(name), *count)).collect()),
            error: told.error,
        }
    }
}

/// All of them.
pub(super) fn all(clusters: &Clusters) -> Vec<Shown> {
    clusters.all().iter().map(|gateway| Shown::new(gateway)).collect()
}
