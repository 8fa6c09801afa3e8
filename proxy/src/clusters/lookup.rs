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
            Ok(Err(error)) => {
                tracing::debug!(gateway = %address, %error, "look-up failed; what was found before stays");
            }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meshgate_config::GatewayAddress;

    use super::*;
    use crate::clusters::Clusters;

    fn gateway(clusters: &Clusters, host: &str) -> Arc<Gateway> {
        clusters.gateway(&Arc::new(GatewayAddress {
            cluster: "default/default/default/cluster-1".parse().unwrap(),
            host: host.into(),
            ip: host.parse().ok(),
            port: 15443,
            identity: "spiffe://cluster.local/ns/meshgate-system/sa/meshgate-gateway".parse().unwrap(),
        }))
    }

    fn addresses(written: &[&str]) -> Vec<SocketAddr> {
        written.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_is_looked_up_and_an_address_is_not() {
        crate::runtime::local().unwrap().block_on(async {
            let clusters = Clusters::default();
            let name = gateway(&clusters, "localhost");
            Lookup::new(&name).first().await;
            let found = name.addresses();
            assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
            let literal = gateway(&clusters, "192.0.2.1");
            Lookup::new(&literal).first().await;
            Lookup::new(&literal).again_and_again().await;
            assert_eq!((literal.seen().addresses.len(), literal.addresses()), (0, addresses(&["192.0.2.1:15443"])));
        });
    }

    #[test]
    fn what_was_found_stays_when_a_look_up_fails() {
        crate::runtime::local().unwrap().block_on(async {
            let clusters = Clusters::default();
            let gateway = gateway(&clusters, "no-such-name.invalid");
            let known = addresses(&["192.0.2.1:15443"]);
            gateway.update(|seen| seen.addresses.clone_from(&known));
            Lookup::new(&gateway).look().await;
            assert_eq!(gateway.addresses(), known);
        });
    }

    #[test]
    fn a_move_is_news_and_another_order_is_not() {
        let clusters = Clusters::default();
        let gateway = gateway(&clusters, "gateway.example");
        let lookup = Lookup::new(&gateway);
        let (one, other) = ("192.0.2.1:15443", "192.0.2.2:15443");
        lookup.take(&addresses(&[one, other]));
        let version = clusters.version();
        lookup.take(&addresses(&[other, one]));
        assert_eq!((gateway.addresses(), clusters.version()), (addresses(&[one, other]), version));
        lookup.take(&addresses(&[other]));
        assert_eq!(gateway.addresses(), addresses(&[other]));
        assert!(clusters.version() > version);
    }
}
