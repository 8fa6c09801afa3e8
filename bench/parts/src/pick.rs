//! Which endpoint is next, by the number of them and by how it is chosen.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use meshgate::balance::{
    Account, Attempt, Caller, Candidate, Choice, Family, Key, Ledger, Ledgers, Outcome, Service, Weighing,
};
use meshgate::http::pool::{HttpVersion, Pool, Security, Upstream};
use meshgate::metrics::Metrics;
use meshgate_config::{Balancer, HashOn, OutlierDetection, Share};

use crate::{Part, Work};

pub(crate) fn parts() -> Vec<Part> {
    let balancers = [
        ("round-robin", Balancer::RoundRobin),
        ("least-request", Balancer::LeastRequest),
        ("peak-ewma", Balancer::PeakEwma),
        ("ring-hash", Balancer::RingHash(HashOn::SourceIp)),
    ];
    let each = balancers.into_iter().flat_map(|balancer| [1, 10, 1_000].map(|endpoints| (balancer.clone(), endpoints)));
    each.map(|((name, balancer), endpoints)| {
        Part::new(format!("pick/{name}/{endpoints}"), move || pick(&balancer, endpoints))
    })
    .collect()
}

/// Chosen, begun, answered, ended.
fn pick(balancer: &Balancer, endpoints: u32) -> Work {
    let choice = choice(balancer, endpoints);
    let mut number = 0_u32;
    Box::new(move || {
        number = number.wrapping_add(1);
        let caller = Caller { source: Ipv4Addr::from(0x0a01_0000 + number % 1_000).into(), headers: None };
        let attempt: Option<Attempt> = black_box(&choice).candidates(caller).next().map(|candidate| candidate.begin());
        attempt.unwrap().went(Outcome::Answered(200));
    })
}

fn choice(balancer: &Balancer, endpoints: u32) -> Choice {
    let pool = Pool::default();
    let ledger = Ledgers::new(settings(), &Metrics::default()).of("backend.default.svc.cluster.local", 80, Family::Any);
    let addresses: Vec<SocketAddr> = (1..=endpoints).map(|n| (Ipv4Addr::from(0x0a02_0000 + n), 8080).into()).collect();
    let candidates = candidates(&pool, &ledger, &addresses, balancer);
    let service = Service { name: "backend:80".into(), ledger, own: Share::DEFAULT, balancer: balancer.clone() };
    Choice::new(candidates, Some(service), 3)
}

fn candidates(pool: &Pool, ledger: &Arc<Ledger>, addresses: &[SocketAddr], balancer: &Balancer) -> Vec<Rc<Candidate>> {
    let keys = addresses.iter().map(|address| Key {
        cluster: None,
        gateway: None,
        address: Some(*address),
        security: Security::Plaintext,
    });
    let healths = ledger.enrol("backend", 1, keys);
    let known = addresses.iter().zip(healths);
    known
        .map(|(address, health)| {
            let account =
                Account { health: Some(health), behind: None, weighing: Weighing::of(balancer), ruling: None };
            Candidate::with(pool.slot(&upstream(*address)), None, account)
        })
        .collect()
}

/// Plain HTTP/1.1 there.
pub(crate) fn upstream(address: SocketAddr) -> Upstream {
    Upstream {
        address,
        version: HttpVersion::Http1,
        security: Security::Plaintext,
        source: None,
        connect_timeout: Duration::from_secs(1),
        via: None,
    }
}

/// The bootstrap's defaults.
fn settings() -> OutlierDetection {
    OutlierDetection {
        consecutive_failures: 5,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(5),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_percent: 50,
        success_rate_stdev_factor: 1_900,
        success_rate_minimum_hosts: 5,
        success_rate_request_volume: 100,
    }
}
