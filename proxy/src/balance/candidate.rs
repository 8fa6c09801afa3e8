//! One endpoint that may be tried, and one try of it.

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use meshgate_config::{Balancer, ClusterKey, Remote, Share};
use tokio::time::Instant;

use super::blame::{Blame, blames};
use super::hash;
use super::health::Health;
use crate::clusters::Gateway;
use crate::error::ErrorKind;
use crate::http::pool::Slot;
use crate::metrics::RequestCounters;

/// A way to an endpoint, as a route has it.
#[derive(Debug)]
pub struct Candidate {
    slot: Rc<Slot>,
    remote: Option<Arc<Remote>>,
    account: Account,
    hash: u64,
    /// Where what goes to it is counted, once something has gone.
    counters: OnceCell<Rc<RequestCounters>>,
}

/// What is known of an endpoint besides how to reach it.
#[derive(Debug, Default)]
pub struct Account {
    /// How it behaved; `None` where nothing hangs on it.
    pub health: Option<Arc<Health>>,
    /// What stands before it.
    pub behind: Option<Behind>,
    /// What is measured of it.
    pub weighing: Weighing,
    /// The place of what is to be asked before it is tried; see [`Rulings`](crate::route::Rulings).
    pub ruling: Option<usize>,
}

/// A gateway before an endpoint.
#[derive(Debug)]
pub struct Behind {
    /// What is seen of it by asking it.
    pub gateway: Arc<Gateway>,
    /// What tries to reach it have shown.
    pub health: Arc<Health>,
}

/// What its balancer wants to know of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Weighing {
    /// Nothing.
    #[default]
    Nothing,
    /// How many requests are in progress.
    Requests,
    /// That, and how long it takes to answer.
    Latency,
}

/// Whether an endpoint may be expected to answer; the better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Nothing speaks against it. What is not known does not.
    Usable,
    /// It failed, or its gateway did or does not answer.
    Suspect,
    /// Its gateway says that there is nobody.
    Empty,
}

/// How a try went, as far as it says something about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status.
    Answered(u16),
    /// It took the connection; more is not known of what is no HTTP.
    Connected,
    /// There was no answer.
    Failed(ErrorKind),
}

/// One try. Held until its answer has ended; dropped without an outcome it says nothing about the endpoint.
#[derive(Debug)]
pub struct Attempt {
    candidate: Rc<Candidate>,
    /// Until it has been answered, where that is measured.
    began: Cell<Option<Instant>>,
}

/// What a choice among endpoints may go by.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The caller's address.
    pub source: IpAddr,
    /// The request's headers, if it is one.
    pub headers: Option<&'a HeaderMap>,
}

impl Weighing {
    /// What this balancer wants to know.
    pub fn of(balancer: &Balancer) -> Self {
        match balancer {
            Balancer::RoundRobin | Balancer::RingHash(_) => Self::Nothing,
            Balancer::LeastRequest => Self::Requests,
            Balancer::PeakEwma => Self::Latency,
        }
    }
}

impl Candidate {
    /// A way to an endpoint of which no account is kept, such as the local application.
    pub fn new(slot: Rc<Slot>, remote: Option<Arc<Remote>>) -> Rc<Self> {
        Self::with(slot, remote, Account::default())
    }

    /// A way to an endpoint of which `account` is kept.
    pub fn with(slot: Rc<Slot>, remote: Option<Arc<Remote>>, account: Account) -> Rc<Self> {
        let behind = remote.as_ref().and_then(|remote| remote.gateway.as_ref()).map(ToString::to_string);
        let hash = hash::of(behind.as_deref().unwrap_or(slot.label()).as_bytes());
        Rc::new(Self { slot, remote, account, hash, counters: OnceCell::new() })
    }

    /// Its connections.
    pub fn slot(&self) -> &Rc<Slot> {
        &self.slot
    }

    /// Where it is, if not in this cluster.
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.as_ref()
    }

    /// Where what goes to it is counted; `make` says so the first time.
    pub fn counters(&self, make: impl FnOnce() -> Rc<RequestCounters>) -> &Rc<RequestCounters> {
        self.counters.get_or_init(make)
    }

    /// Which cluster it is in; `None` = this one.
    pub fn cluster(&self) -> Option<&ClusterKey> {
        self.remote.as_ref().map(|remote| &remote.cluster)
    }

    /// The place, among its route's, of what is to be asked before it is tried.
    pub fn ruling(&self) -> Option<usize> {
        self.account.ruling
    }

    /// Begins a try.
    pub fn begin(self: &Rc<Self>) -> Attempt {
        let weighing = self.account.weighing;
        if weighing != Weighing::Nothing
            && let Some(health) = &self.account.health
        {
            health.load.begin();
        }
        let began = (weighing == Weighing::Latency).then(Instant::now);
        Attempt { candidate: Rc::clone(self), began: Cell::new(began) }
    }

    /// What its cluster gets, where it is elsewhere.
    pub(super) fn share(&self) -> Option<Share> {
        self.remote.as_ref().map(|remote| remote.share)
    }

    /// What stands before it.
    pub(super) fn behind(&self) -> Option<&Behind> {
        self.account.behind.as_ref()
    }

    /// The hash of its address: the same in every process.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Requests in progress, if they are counted.
    pub(super) fn in_progress(&self) -> u32 {
        self.account.health.as_ref().map_or(0, |health| health.load.in_progress())
    }

    /// What it would cost to ask it now, if that is measured.
    pub(super) fn cost(&self, now: Instant) -> f32 {
        self.account.health.as_ref().map_or(0.0, |health| health.load.cost(now))
    }

    /// Whether it may be expected to answer.
    pub(super) fn standing(&self) -> Standing {
        if let (Some(behind), Some(remote)) = (&self.account.behind, &self.remote) {
            if behind.gateway.ready(&remote.authority) == Some(0) {
                return Standing::Empty;
            }
            if behind.gateway.is_down() || behind.health.is_ejected() {
                return Standing::Suspect;
            }
        }
        match &self.account.health {
            Some(health) if health.is_ejected() => Standing::Suspect,
            _ => Standing::Usable,
        }
    }
}

impl Attempt {
    /// What is tried.
    pub fn candidate(&self) -> &Rc<Candidate> {
        &self.candidate
    }

    /// Says how it went. An answer's body may still be coming; the try ends when this is dropped.
    pub fn went(&self, outcome: Outcome) {
        tracing::trace!(upstream = self.candidate.slot.label(), ?outcome, "attempt");
        let gateway = self.candidate.account.behind.as_ref().map(|behind| &behind.health);
        match outcome {
            Outcome::Answered(status) => {
                gateway.inspect(|gateway| gateway.succeeded());
                // What says that somebody else should be asked. A 500 may well be the application's answer to this request.
                self.count(!matches!(status, 502..=504), status < 500);
            }
            Outcome::Connected => {
                gateway.inspect(|gateway| gateway.succeeded());
                self.count(true, true);
            }
            Outcome::Failed(kind) => match (blames(kind), gateway) {
                (Blame::Gateway, Some(gateway)) => gateway.failed(),
                (Blame::Gateway, None) | (Blame::Service, _) => self.count(false, false),
                (Blame::Nobody, _) => {}
            },
        }
    }

    /// Counts for or against the endpoint: whether it `did` what it is there for, and whether that was a `success` where rates
    /// are compared.
    fn count(&self, did: bool, success: bool) {
        let Some(health) = &self.candidate.account.health else { return };
        health.rated(success);
        if did {
            health.succeeded();
        } else {
            health.failed();
        }
        if let Some(began) = self.began.take() {
            let now = Instant::now();
            health.load.observe(now.saturating_duration_since(began), !did, now);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Account { health, weighing, .. } = &self.candidate.account;
        if *weighing != Weighing::Nothing
            && let Some(health) = health
        {
            health.load.end();
        }
    }
}
