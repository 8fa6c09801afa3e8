//! What TrafficSplits make of a call.

use std::sync::Arc;

use meshgate_config::{Endpoint, SplitBackend, SplitRule};

use super::Calling;
use super::answer::{BackendSeen, Called, SplitSeen};
use super::sent::Sent;
use crate::balance::Family;
use crate::judge::Outcome;
use crate::outbound::Plan;
use crate::outbound::split::{Fork, nowhere};

impl Calling<'_> {
    /// Says what becomes of a call to a root: what the first split that takes it makes of it, else what its own endpoints do.
    pub(super) fn forked(&self, called: &mut Called, fork: Fork, sent: &Sent, alone: Option<Arc<Endpoint>>) {
        let Fork { service, split, family, branches, rest } = fork;
        let mut taken: Option<SplitSeen> = None;
        for (rule, plans) in split.rules.iter().zip(branches) {
            let takes = if taken.is_some() { Some(false) } else { takes(rule, sent) };
            let sum: u64 = plans.iter().map(|(weight, _)| u64::from(*weight)).sum();
            let backends = rule.backends.iter().zip(plans);
            let backends =
                backends.map(|(backend, (_, plan))| self.backend(called, backend, plan, sum, family, sent)).collect();
            let all = rule.requests.is_none();
            let seen = SplitSeen { name: rule.name.to_string(), all, takes, backends };
            if takes == Some(true) {
                taken = Some(seen.clone());
            }
            called.splits.push(seen);
        }
        let Some(taken) = taken else { return self.say(called, rest, family, sent, alone) };
        called.service(&service);
        (called.verdict, called.reason) = (Outcome::Allow, "split");
        let mut backends = taken.backends.into_iter();
        let Some(first) = backends.next() else {
            let rule = split.rules.iter().find(|rule| rule.name.to_string() == taken.name);
            if let Some(Plan::Refuse { kind, detail, .. }) = rule.map(|rule| nowhere(&rule.name, &service)) {
                called.refuse(kind, detail);
            }
            return;
        };
        if first.verdict == Outcome::Deny && backends.all(|backend| backend.verdict == Outcome::Deny) {
            (called.verdict, called.reason) = (Outcome::Deny, first.reason);
            (called.status, called.detail) = (first.status, first.detail);
        }
    }

    fn backend(
        &self,
        root: &Called,
        backend: &SplitBackend,
        plan: Plan,
        sum: u64,
        family: Family,
        sent: &Sent,
    ) -> BackendSeen {
        let mut called = Called { tcp: root.tcp, ..Called::new(None, &root.to, root.destination) };
        self.say(&mut called, plan, family, sent, None);
        let Called { verdict, reason, detail, status, .. } = called;
        let per_mille = (u64::from(backend.weight) * 1000).checked_div(sum).unwrap_or_default();
        BackendSeen { host: backend.host.clone(), weight: backend.weight, per_mille, verdict, reason, detail, status }
    }
}

/// Whether a split takes what is sent, if that is known.
fn takes(rule: &SplitRule, sent: &Sent) -> Option<bool> {
    match (&rule.requests, sent) {
        (None, _) => Some(true),
        (Some(_), Sent::Bytes) => Some(false),
        (Some(_), Sent::Unknown) => None,
        (Some(requests), Sent::Request(_)) => Some(sent.view().is_some_and(|view| requests.include(&view))),
    }
}
