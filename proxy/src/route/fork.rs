//! The routes of a service with TrafficSplits: one for each backend, and whose turn it is.

use std::rc::Rc;
use std::sync::Arc;

use meshgate_config::{Split, SplitRule};
use meshgate_policy::RequestView;

use super::{Route, Routes};
use crate::balance::{Cursor, Cycle};
use crate::http::pool::HttpVersion;
use crate::outbound::split::{Fork, nowhere};
use crate::worker::WorkerRef;

/// Whose turn it is under each TrafficSplit.
#[derive(Debug)]
pub(super) struct Branches {
    split: Arc<Split>,
    /// For each rule of the split.
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// The TrafficSplit, for the log.
    name: String,
    cycle: Cycle,
    cursor: Arc<Cursor>,
    /// Never empty.
    backends: Vec<Rc<Route>>,
}

impl Routes {
    /// The route of a service with TrafficSplits: its own, for what none of them applies to, with the backends' beside it.
    pub(super) fn fork(&self, worker: &WorkerRef, fork: Fork, generation: u64, version: HttpVersion) -> Rc<Route> {
        let key = (fork.service.host.clone(), fork.service.port, fork.family, version);
        let mut kept = self.0.borrow_mut();
        kept.of(generation);
        if let Some(route) = kept.forks.get(&key) {
            return Rc::clone(route);
        }
        // The backends' routes are kept as well.
        drop(kept);
        let Fork { service, split, family, branches, rest } = fork;
        let rules = split.rules.iter().zip(branches).map(|(rule, plans)| {
            let (weights, mut plans): (Vec<_>, Vec<_>) = plans.into_iter().unzip();
            if plans.is_empty() {
                plans.push(nowhere(&rule.name, &service));
            }
            Rule {
                name: rule.name.to_string(),
                cycle: Cycle::new(&weights),
                cursor: worker.shared.splits.of(&rule.name, service.port, family),
                backends: plans.into_iter().map(|plan| self.route(worker, plan, generation, version)).collect(),
            }
        });
        let rules = rules.collect();
        let mut route = Route::new(worker, rest, generation, version);
        route.branches = Some(Branches { split, rules });
        let route = Rc::new(route);
        self.0.borrow_mut().forks.insert(key, Rc::clone(&route));
        route
    }
}

impl Route {
    /// Where a request goes, or a connection of which no request is known, and the TrafficSplit that says so: the first rule
    /// that applies does, and its backends have their turns. Without one it is this route.
    pub fn branch<'a>(self: &'a Rc<Route>, request: Option<&RequestView<'_>>) -> (&'a Rc<Route>, Option<&'a str>) {
        let Some(branches) = &self.branches else { return (self, None) };
        let applies = |rule: &SplitRule| match (&rule.requests, request) {
            (None, _) => true,
            (Some(requests), Some(request)) => requests.include(request),
            // Bytes are no request.
            (Some(_), None) => false,
        };
        let mut rules = branches.split.rules.iter().zip(&branches.rules);
        let Some((_, rule)) = rules.find(|(rule, _)| applies(rule)) else { return (self, None) };
        let turn = rule.cycle.at(rule.cursor.turn());
        (rule.backends.get(turn.member).unwrap_or(self), Some(&rule.name))
    }

    /// Whether it matters what a request looks like.
    pub fn looks_at_requests(&self) -> bool {
        let mut rules = self.branches.iter().flat_map(|branches| &branches.split.rules);
        rules.any(|rule| rule.requests.is_some())
    }
}
