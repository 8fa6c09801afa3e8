//! Services with clusters and gateways for the tests of choosing.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use meshgate_config::{Balancer, GatewayAddress, OutlierDetection, Remote, Share};

use super::*;
use crate::clusters::Clusters;
use crate::error::ErrorKind;
use crate::http::pool::{HttpVersion, Pool, Security, Upstream};
use crate::metrics::Metrics;

/// The defaults, but for a longest ejection that is soon reached.
pub(super) fn settings() -> OutlierDetection {
    OutlierDetection {
        consecutive_failures: 5,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(5),
        max_ejection_time: Duration::from_secs(12),
        max_ejection_percent: 50,
        success_rate_stdev_factor: 1900,
        success_rate_minimum_hosts: 5,
        success_rate_request_volume: 100,
    }
}

/// What workers share.
pub(super) struct Mesh {
    pub(super) metrics: Metrics,
    pub(super) ledgers: Ledgers,
    pub(super) clusters: Clusters,
}

/// A cluster's endpoints: `(name, weight, priority, endpoints)`. The first one is our own; others have a gateway if they have
/// one endpoint.
pub(super) type Cluster<'a> = (&'a str, u32, u32, u8);

impl Mesh {
    pub(super) fn new(settings: OutlierDetection) -> Self {
        let metrics = Metrics::default();
        Self { ledgers: Ledgers::new(settings, &metrics), metrics, clusters: Clusters::default() }
    }

    /// A worker's choice for a service, as a route makes it.
    pub(super) fn choice(&self, host: &str, clusters: &[Cluster<'_>], balancer: &Balancer) -> Choice {
        let pool = Pool::default();
        let ledger = self.ledgers.of(host, 80, Family::Any);
        let mut candidates = Vec::new();
        for (at, (name, weight, priority, endpoints)) in clusters.iter().enumerate() {
            for n in 1..=*endpoints {
                let share = Share { weight: *weight, priority: *priority };
                let remote = (at > 0).then(|| self.remote(host, name, share, *endpoints == 1));
                candidates.push(self.candidate(&pool, &ledger, &format!("10.{at}.0.{n}:80"), remote, balancer));
            }
        }
        let (_, weight, priority, _) = clusters[0];
        let own = Share { weight, priority };
        let service = Service { name: host.to_owned(), ledger, own, balancer: balancer.clone() };
        Choice::new(candidates, Some(service), 3)
    }

    pub(super) fn gateway(name: &str) -> Arc<GatewayAddress> {
        Arc::new(GatewayAddress {
            cluster: format!("r/z/g/{name}").parse().unwrap(),
            host: format!("gateway.{name}").into(),
            ip: None,
            port: 15443,
            identity: "spiffe://td/ns/mesh/sa/gateway".parse().unwrap(),
        })
    }

    pub(super) fn authority(host: &str) -> Arc<str> {
        format!("{host}.svc.clusterset.local:80").into()
    }

    /// A gateway says how many endpoints are ready for a service, or is asked in vain.
    pub(super) fn seen(&self, gateway: &str, up: bool, ready: &[(&str, u32)]) {
        let ready: HashMap<_, _> = ready.iter().map(|(host, ready)| (Self::authority(host), *ready)).collect();
        self.clusters.gateway(&Self::gateway(gateway)).update(|seen| {
            seen.up = Some(up);
            seen.ready = (!ready.is_empty()).then(|| Arc::new(ready));
        });
    }

    fn remote(&self, host: &str, name: &str, share: Share, gateway: bool) -> Arc<Remote> {
        let address = Self::gateway(name);
        let cluster = address.cluster.clone();
        Arc::new(Remote { cluster, share, gateway: gateway.then_some(address), authority: Self::authority(host) })
    }

    fn candidate(
        &self,
        pool: &Pool,
        ledger: &Arc<Ledger>,
        address: &str,
        remote: Option<Arc<Remote>>,
        balancer: &Balancer,
    ) -> Rc<Candidate> {
        let gateway = remote.as_ref().and_then(|remote| remote.gateway.clone());
        let key = Key {
            cluster: remote.as_ref().map(|remote| remote.cluster.clone()),
            address: gateway.is_none().then(|| address.parse().unwrap()),
            gateway: gateway.clone(),
            security: Security::Plaintext,
        };
        let health = ledger.enrol("svc", 1, std::iter::once(key)).remove(0);
        let behind = gateway
            .map(|gateway| Behind { health: self.ledgers.gateway(&gateway), gateway: self.clusters.gateway(&gateway) });
        let upstream = Upstream {
            address: address.parse().unwrap(),
            version: HttpVersion::Http1,
            security: Security::Plaintext,
            source: None,
            connect_timeout: Duration::from_secs(1),
            via: None,
        };
        let account = Account { health: Some(health), behind, weighing: Weighing::of(balancer), ruling: None };
        Candidate::with(pool.slot(&upstream), remote, account)
    }
}

/// A caller without headers.
pub(super) fn caller(last: u8) -> Caller<'static> {
    Caller { source: [192, 0, 2, last].into(), headers: None }
}

/// Whom a request would go to, and after failures.
pub(super) fn order(choice: &Choice) -> Vec<String> {
    choice.candidates(caller(1)).map(|candidate| candidate.slot().label().to_owned()).collect()
}

/// Whom `count` requests go to, as the second and fourth number of the address.
pub(super) fn firsts(choice: &Choice, count: usize) -> Vec<(u8, u8)> {
    (0..count).map(|_| number(&choice.candidates(caller(1)).next().unwrap())).collect()
}

/// The second and fourth number of an address: cluster and endpoint.
pub(super) fn number(candidate: &Candidate) -> (u8, u8) {
    let std::net::IpAddr::V4(ip) = candidate.slot().upstream().address.ip() else { unreachable!() };
    (ip.octets()[1], ip.octets()[3])
}

/// Requests to this endpoint alone.
pub(super) fn ask(choice: &Choice, whom: (u8, u8), times: usize, outcome: Outcome) {
    let candidate = choice.all().iter().find(|candidate| number(candidate) == whom).unwrap();
    (0..times).for_each(|_| candidate.begin().went(outcome));
}

pub(super) const REFUSED: Outcome = Outcome::Failed(ErrorKind::ConnectFailed);
pub(super) const RESET: Outcome = Outcome::Failed(ErrorKind::UpstreamReset);
pub(super) const OK: Outcome = Outcome::Answered(200);
