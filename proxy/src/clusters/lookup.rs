//! Where a gateway's host is: looked up again and again, away from the data path, which never waits for it.
//!
//! What was found stays until something else is. A name whose look-up fails has not moved.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::Gateway;
use crate::resolve::Resolver;

/// How long an address is taken for granted while the gateway answers.
const EVERY: Duration = Duration::from_secs(10);

/// A resolver that says nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The look-ups of one gateway's host.
#[derive(Debug)]
pub(super) struct Lookup<'a> {
    gateway: &'a Gateway,
    resolver: Resolver,
    hurry: Notify,
}

impl<'a> Lookup<'a> {
    /// Nothing has been looked up yet.
    pub(super) fn new(gateway: &'a Gateway) -> Self {
        Self { gateway, resolver: Resolver::default(), hurry: Notify::new() }
    }

    /// The gateway does not answer where it was: it may have moved.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Looks once, unless it is known where to try.
    pub(super) async fn first(&self) {
        if self.gateway.addresses().is_empty() {
            self.look().await;
        }
    }

    /// Looks again and again. An address needs no look.
    pub(super) async fn again_and_again(&self) {
        if self.gateway.address().host.parse::<IpAddr>().is_ok() {
            return;
        }
        loop {
            self.look().await;
            // Whoever hurries is answered with what was found a moment ago, see `Resolver`.
            let _ = timeout(EVERY, self.hurry.notified()).await;
        }
    }

    async fn look(&self) {
        let address = self.gateway.address();
        match timeout(PATIENCE, self.resolver.addresses(&address.host, address.port)).await {
            Ok(Ok(found)) => self.take(&found),
            Ok(Err(error)) => tracing::debug!(gateway = %address, %error, "look-up failed; what was found before stays"),
            Err(_) => tracing::debug!(gateway = %address, "look-up took too long; what was found before stays"),
        }
    }

    /// The order is kept where the same was found: resolvers turn it round at every answer, and nobody is to be told of that.
    fn take(&self, found: &[SocketAddr]) {
        let known = self.gateway.addresses();
        let is_same = known.len() == found.len() && found.iter().all(|address| known.contains(address));
        if !is_same {
            tracing::info!(gateway = %self.gateway.address(), ?found, "gateway's addresses");
            self.gateway.update(|seen| seen.addresses = found.to_vec());
        }
    }
}
