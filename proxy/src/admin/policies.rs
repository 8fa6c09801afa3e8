//! `GET /policies`: what decides about this workload's callers, where it is written, and how often it has decided.

use std::collections::BTreeMap;

use meshgate_config::Snapshot;
use meshgate_policy::{Action, Policy, SmiMode};
use serde::Serialize;

use crate::metrics::{DecisionLabels, Metrics};

/// The page.
#[derive(Serialize)]
pub(super) struct Page {
    generation: u64,
    mtls: Mtls,
    /// What it means that no TrafficTarget lets a caller in.
    traffic_policy_mode: bool,
    /// Verdicts without any policy, by reason.
    decided_by_none: BTreeMap<&'static str, u64>,
    policies: Vec<Shown>,
}

/// The modes of the workload's ports, as PeerAuthentications have them.
#[derive(Serialize)]
pub(super) struct Mtls {
    /// Of every port of which nothing else is said: `STRICT`, `PERMISSIVE` or `DISABLE`.
    mode: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    ports: BTreeMap<u16, &'static str>,
}

#[derive(Serialize)]
struct Shown {
    kind: &'static str,
    name: String,
    action: Action,
    rules: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    /// Where it is written, `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// Why it could not be read: it refuses all that it selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    /// How often one of its rules decided.
    hits: Hits,
}

#[derive(Default, Clone, Copy, Serialize)]
struct Hits {
    allowed: u64,
    denied: u64,
}

/// The page.
pub(super) fn page(metrics: &Metrics, snapshot: &Snapshot) -> Page {
    let (mut hits, mut decided_by_none) = (BTreeMap::<String, Hits>::new(), BTreeMap::new());
    for (labels, counter) in metrics.decisions.all() {
        let DecisionLabels { decision, reason, policy } = &*labels;
        let count = counter.get();
        if policy == "-" {
            *decided_by_none.entry(*reason).or_default() += count;
            continue;
        }
        let hits = hits.entry(policy.clone()).or_default();
        *(if *decision == "deny" { &mut hits.denied } else { &mut hits.allowed }) += count;
    }
    let shown = |policy: &Policy| Shown::new(policy, snapshot, &hits);
    Page {
        generation: snapshot.generation,
        mtls: mtls(snapshot),
        traffic_policy_mode: snapshot.smi == SmiMode::TrafficPolicy,
        decided_by_none,
        policies: snapshot.inbound_policy.policies().map(shown).collect(),
    }
}

/// The modes of the workload's ports.
pub(super) fn mtls(snapshot: &Snapshot) -> Mtls {
    Mtls {
        mode: snapshot.mtls.otherwise().as_str(),
        ports: snapshot.mtls.ports().map(|(port, mode)| (port, mode.as_str())).collect(),
    }
}

impl Shown {
    fn new(policy: &Policy, snapshot: &Snapshot, hits: &BTreeMap<String, Hits>) -> Self {
        let name = policy.name().to_string();
        Self {
            kind: policy.kind(),
            action: policy.action(),
            rules: policy.rules(),
            dry_run: policy.dry_run(),
            provider: policy.provider().map(str::to_owned),
            place: snapshot.place(policy).map(str::to_owned),
            unreadable: policy.unreadable_because().map(str::to_owned),
            hits: hits.get(&name).copied().unwrap_or_default(),
            name,
        }
    }
}
