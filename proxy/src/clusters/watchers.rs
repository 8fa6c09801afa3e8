//! Who is watched: every gateway that the bootstrap names or the configuration in force leads through, each by one task.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use meshgate_config::{ConfigStore, Discovered, GatewayAddress, PeerCluster, Role, Snapshot};
use meshgate_identity::{Identity, PeerChain, PeerRole};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::Gateway;
use super::lookup::Lookup;
use super::probe::{Dial, Probe};
use crate::error::ProxyError;
use crate::metrics::ClusterLabels;
use crate::reload;
use crate::stream::Stream;
use crate::tunnel::dial::{dial, expected};
use crate::worker::Shared;

/// For a session's beginning at the most, however patient the data path is: a gateway's return must be seen within seconds.
const DIAL_MAX: Duration = Duration::from_secs(2);

/// Between two configurations for what one gateway says. Of what it says in between the last counts.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// How often gateways that nobody wants or holds any more are forgotten.
const SWEEP: Duration = Duration::from_secs(5);

/// Between two looks at the wall clock, which a timer does not see being set.
const CLOCK_LOOK: Duration = Duration::from_secs(10);

/// After a defect.
const REST: Duration = Duration::from_secs(1);

/// Follows the configuration.
#[derive(Debug)]
pub struct Watchers {
    around: Around,
    /// Of the bootstrap: these are asked what there is.
    asked: BTreeSet<Arc<GatewayAddress>>,
    running: HashMap<Arc<GatewayAddress>, Running>,
}

/// What all watches have in common.
#[derive(Debug, Clone)]
struct Around {
    shared: Arc<Shared>,
    config: Arc<ConfigStore>,
    identity: watch::Receiver<Arc<Identity>>,
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watchers {
    /// Nobody is watched yet.
    pub fn new(shared: Arc<Shared>, config: Arc<ConfigStore>, identity: watch::Receiver<Arc<Identity>>) -> Self {
        let clusters = &shared.bootstrap.multicluster.clusters;
        let asked = clusters.iter().filter_map(address_of).map(Arc::new).collect();
        Self { around: Around { shared, config, identity }, asked, running: HashMap::new() }
    }

    /// Watches for as long as it is polled. Beside a workload that calls nobody, nobody needs to be watched; at a gateway it is
    /// where operators look.
    pub async fn serve(mut self) {
        let bootstrap = &self.around.shared.bootstrap;
        if bootstrap.role == Role::Sidecar && bootstrap.outbound.listeners.is_empty() {
            return;
        }
        let mut config = self.around.config.subscribe();
        loop {
            let snapshot = Arc::clone(&config.borrow_and_update());
            self.follow(&snapshot);
            drop(snapshot);
            // Once in a while also for what was still held when it was no longer wanted.
            if let Ok(Err(_)) = timeout(SWEEP, config.changed()).await {
                return;
            }
        }
    }

    fn follow(&mut self, snapshot: &Snapshot) {
        let mut wanted = self.asked.clone();
        wanted.extend(gateways_of(snapshot));
        let gone: Vec<_> = self.running.extract_if(|address, _| !wanted.contains(address)).collect();
        for (address, running) in gone {
            drop(running);
            self.around.leave(&address);
        }
        self.around.shared.clusters.retain(|address| wanted.contains(address));
        for address in wanted {
            let is_asked = self.asked.contains(&address);
            self.running.entry(address).or_insert_with_key(|address| {
                let task = self.around.clone().watch(Arc::clone(address), is_asked);
                Running(tokio::task::spawn_local(task))
            });
        }
    }
}

/// Where the bootstrap says that a cluster's gateway is.
fn address_of(peer: &PeerCluster) -> Option<GatewayAddress> {
    let gateway = peer.gateway.as_ref()?;
    Some(GatewayAddress {
        cluster: peer.key.clone(),
        host: gateway.host.as_str().into(),
        ip: gateway.host.parse::<IpAddr>().ok(),
        port: gateway.port,
        identity: peer.gateway_id.clone(),
    })
}

/// What the configuration leads through. Endpoints elsewhere stand at the end of their service's.
fn gateways_of(snapshot: &Snapshot) -> impl Iterator<Item = Arc<GatewayAddress>> {
    let remotes =
        snapshot.services.iter().flat_map(|port| port.endpoints.iter().rev().map_while(|end| end.remote.as_ref()));
    remotes.filter_map(|remote| remote.gateway.clone())
}

impl Around {
    /// Watches one gateway until it is aborted.
    async fn watch(self, address: Arc<GatewayAddress>, is_asked: bool) {
        loop {
            if AssertUnwindSafe(self.watch_once(&address, is_asked)).catch_unwind().await.is_ok() {
                return;
            }
            self.shared.metrics.panics.inc();
            tracing::error!(gateway = %address, "the watch over a gateway panicked");
            sleep(REST).await;
        }
    }

    /// What is no longer watched is no longer known to be up or down.
    fn leave(&self, address: &Arc<GatewayAddress>) {
        let Shared { clusters, metrics, .. } = &*self.shared;
        clusters.gateway(address).update(|seen| seen.up = None);
        if clusters.is_up(&address.cluster).is_none() {
            metrics.gateway_up.remove(&ClusterLabels { cluster: address.cluster.to_string() });
        }
    }

    async fn watch_once(&self, address: &Arc<GatewayAddress>, is_asked: bool) {
        let gateway = self.shared.clusters.gateway(address);
        let (discovered, said) = watch::channel(None);
        let probe = Probe {
            gateway: &gateway,
            clusters: &self.shared.clusters,
            metrics: &self.shared.metrics,
            lookup: Lookup::new(&gateway),
            discovered: &discovered,
        };
        probe.lookup.first().await;
        let dialler = Dialler { gateway: &gateway, shared: &self.shared, identity: self.identity.clone(), ends: None };
        let publishing = async {
            if is_asked {
                self.publish(&gateway, said).await;
            }
        };
        tokio::join!(probe.lookup.again_and_again(), probe.run(dialler), publishing);
    }

    /// Puts what a gateway says into force. Elsewhere than on this thread: whoever reads files for the configuration holds it for
    /// a second, and composing takes its time.
    async fn publish(&self, gateway: &Gateway, mut said: watch::Receiver<Option<Discovered>>) {
        let cluster = &gateway.address().cluster;
        while said.changed().await.is_ok() {
            let Some(latest) = said.borrow_and_update().clone() else { continue };
            let labels = ClusterLabels { cluster: cluster.to_string() };
            self.shared.metrics.discovered_exports.get_or_create(&labels).set(latest.exports.len() as u64);
            let (shared, config, cluster) = (Arc::clone(&self.shared), Arc::clone(&self.config), cluster.clone());
            let published = tokio::task::spawn_blocking(move || reload::discovered(&shared, &config, &cluster, latest));
            if let Err(error) = published.await {
                tracing::error!(%error, "what a gateway said could not be put into force");
            }
            sleep(PUBLISH_EVERY).await;
        }
    }
}

/// Dials a gateway under the identity in force.
struct Dialler<'a> {
    gateway: &'a Gateway,
    shared: &'a Shared,
    identity: watch::Receiver<Arc<Identity>>,
    /// When a certificate ends that the last session rests on.
    ends: Option<SystemTime>,
}

/// Returns when the wall clock shows this time, or later by one look.
async fn until(time: Option<SystemTime>) {
    while let Some(left) = time.and_then(|time| time.duration_since(SystemTime::now()).ok()) {
        sleep(left.min(CLOCK_LOOK)).await;
    }
    if time.is_none() {
        std::future::pending::<()>().await;
    }
}

impl Dial for Dialler<'_> {
    type Stream = TlsStream<Stream>;

    async fn dial(&mut self) -> Result<TlsStream<Stream>, ProxyError> {
        let identity = Arc::clone(&self.identity.borrow_and_update());
        let timeout = self.shared.bootstrap.timeouts.connect.min(DIAL_MAX);
        let stream = dial(self.gateway, &identity, &self.shared.own, timeout).await?;
        let role = PeerRole::Server(expected(self.gateway.address()));
        let chain = PeerChain::new(stream.get_ref().1.peer_certificates().unwrap_or_default(), role);
        self.ends = Some(identity.next_end(&chain, SystemTime::now()));
        Ok(stream)
    }

    async fn outdated(&mut self) {
        tokio::select! {
            changed = self.identity.changed() => if changed.is_err() {
                // It can't change any more; that happens only as the process ends.
                std::future::pending::<()>().await;
            },
            () = until(self.ends) => {}
        }
    }
}
