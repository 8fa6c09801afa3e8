//! The candidates of one route, and which of them to try for a request.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use meshgate_config::{Balancer, Share};

use super::candidate::{Caller, Candidate, Standing};
use super::ledger::Ledger;
use super::rotation::{Pick, Rotation};
use crate::clusters::Gateway;

/// Ways to one service's endpoints. One worker's; made under one configuration.
#[derive(Debug)]
pub struct Choice {
    candidates: Vec<Rc<Candidate>>,
    service: Option<Service>,
    /// Candidates tried for one request, at the most.
    attempts: usize,
    /// Any gateway: they tell of one another's changes.
    gateway: Option<Arc<Gateway>>,
    arranged: RefCell<Arranged>,
}

/// What a service says about choosing.
#[derive(Debug)]
pub struct Service {
    /// Host and port, for the log.
    pub name: String,
    /// Whose turn it is.
    pub ledger: Arc<Ledger>,
    /// What the endpoints of this cluster get.
    pub own: Share,
    /// How one of a cluster's endpoints is chosen.
    pub balancer: Balancer,
}

#[derive(Debug)]
struct Arranged {
    /// The versions of health, and of what gateways say, when it was arranged.
    under: (u64, u64),
    rotation: Rc<Rotation>,
}

/// What to try for one request, in order. Each candidate once at the most.
#[derive(Debug)]
pub struct Candidates {
    rotation: Rc<Rotation>,
    next: Next,
    left: usize,
}

#[derive(Debug)]
enum Next {
    First(Pick),
    /// Worked out only when the first one has failed.
    After(Pick),
    Rest(std::vec::IntoIter<Rc<Candidate>>),
    Nobody,
}

impl Choice {
    /// A choice of candidates. Without a service, they are tried in their order.
    pub fn new(candidates: Vec<Rc<Candidate>>, service: Option<Service>, attempts: usize) -> Self {
        let gateway =
            candidates.iter().find_map(|candidate| candidate.behind()).map(|behind| Arc::clone(&behind.gateway));
        let under = versions(service.as_ref(), gateway.as_ref());
        let rotation = Rc::new(Rotation::new(&candidates, own(service.as_ref())));
        let arranged = RefCell::new(Arranged { under, rotation });
        let choice = Self { candidates, service, attempts, gateway, arranged };
        choice.tell(Standing::Usable, choice.arranged.borrow().rotation.standing());
        choice
    }

    /// What to try for one request of `caller`.
    pub fn candidates(&self, caller: Caller<'_>) -> Candidates {
        let rotation = self.rotation();
        let pick = match &self.service {
            Some(service) => rotation.pick(&service.balancer, caller, || service.ledger.turn()),
            None => rotation.pick(&Balancer::RoundRobin, caller, || 0),
        };
        Candidates { rotation, next: pick.map_or(Next::Nobody, Next::First), left: self.attempts }
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> &[Rc<Candidate>] {
        &self.candidates
    }

    /// The arrangement in force; made anew when somebody's health has changed.
    fn rotation(&self) -> Rc<Rotation> {
        // Read before looking at anybody, so that what changes meanwhile is seen next time.
        let current = versions(self.service.as_ref(), self.gateway.as_ref());
        let mut arranged = self.arranged.borrow_mut();
        if arranged.under != current {
            let rotation = Rc::new(Rotation::new(&self.candidates, own(self.service.as_ref())));
            self.tell(arranged.rotation.standing(), rotation.standing());
            *arranged = Arranged { under: current, rotation };
        }
        Rc::clone(&arranged.rotation)
    }

    fn tell(&self, before: Standing, after: Standing) {
        if before == after {
            return;
        }
        let service = self.service.as_ref().map_or("", |service| service.name.as_str());
        match after {
            Standing::Usable => tracing::info!(service, "has an endpoint in rotation again"),
            Standing::Suspect => tracing::warn!(service, "no endpoint is in rotation: they are tried all the same"),
            Standing::Empty => tracing::warn!(service, "no gateway has a ready endpoint: they are tried all the same"),
        }
    }
}

fn own(service: Option<&Service>) -> Share {
    service.map_or(Share::DEFAULT, |service| service.own)
}

fn versions(service: Option<&Service>, gateway: Option<&Arc<Gateway>>) -> (u64, u64) {
    (service.map_or(0, |service| service.ledger.version()), gateway.map_or(0, |gateway| gateway.version()))
}

impl Iterator for Candidates {
    type Item = Rc<Candidate>;

    fn next(&mut self) -> Option<Rc<Candidate>> {
        self.left = self.left.checked_sub(1)?;
        if let Next::First(pick) = self.next {
            self.next = Next::After(pick);
            return self.rotation.get(pick).map(Rc::clone);
        }
        if let Next::After(pick) = self.next {
            self.next = Next::Rest(self.rotation.after(pick).into_iter());
        }
        match &mut self.next {
            Next::Rest(rest) => rest.next(),
            Next::First(_) | Next::After(_) | Next::Nobody => None,
        }
    }
}

#[cfg(test)]
mod tests;
