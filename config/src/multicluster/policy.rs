//! GlobalTrafficPolicy: over which clusters a service's requests are spread.

use std::collections::BTreeSet;

use meshgate_policy::Invalid;
use serde::Deserialize;

use super::invalid;
use crate::clusters::{ClusterKey, Share};
use crate::document::Document;
use crate::resource::nullable;

/// So that sums over any number of clusters fit.
const WEIGHT_MAX: i64 = 1_000_000;

/// A GlobalTrafficPolicy, for the service of the same name.
#[derive(Clone, Debug)]
pub(crate) struct GlobalTrafficPolicy {
    pub(crate) mode: Mode,
    /// Each cluster once.
    pub(crate) targets: Vec<Target>,
}

/// `spec.lbType`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Mode {
    #[default]
    Locality,
    FailOver,
    ActiveActive,
}

#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) cluster: ClusterKey,
    pub(crate) weight: Option<u32>,
    /// Ours: FSM has no order among targets.
    pub(crate) priority: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PolicySpec {
    #[serde(default)]
    lb_type: Mode,
    #[serde(default, deserialize_with = "nullable")]
    targets: Vec<TargetSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TargetSpec {
    cluster_key: String,
    weight: Option<i64>,
    priority: Option<i64>,
}

impl Document<PolicySpec> {
    pub(crate) fn build(self) -> Result<GlobalTrafficPolicy, Vec<Invalid>> {
        let PolicySpec { lb_type: mode, targets } = self.spec;
        let mut problems = Vec::new();
        match (mode, targets.len()) {
            (Mode::Locality, 2..) => problems.push(invalid("spec.targets", "Locality has at most one target")),
            (Mode::FailOver, 0) => {
                problems.push(invalid("spec.targets", "FailOver needs a target: nothing else would be failed over to"));
            }
            _ => {}
        }
        let mut seen = BTreeSet::new();
        let mut built = Vec::new();
        for (index, target) in targets.into_iter().enumerate() {
            let path = format!("spec.targets[{index}]");
            match one(&path, target) {
                Ok(target) if seen.insert(target.cluster.clone()) => built.push(target),
                Ok(Target { cluster, .. }) => {
                    problems.push(invalid(format!("{path}.clusterKey"), format!("`{cluster}` is there twice")));
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(GlobalTrafficPolicy { mode, targets: built }) } else { Err(problems) }
    }
}

fn one(path: &str, target: TargetSpec) -> Result<Target, Invalid> {
    let TargetSpec { cluster_key, weight, priority } = target;
    let cluster = cluster_key
        .parse()
        .map_err(|error| invalid(format!("{path}.clusterKey"), format!("`{cluster_key}`: {error}")))?;
    let bounded = |field: &str, value: Option<i64>| match value {
        None => Ok(None),
        Some(number @ 0..=WEIGHT_MAX) => Ok(u32::try_from(number).ok()),
        Some(number) => Err(invalid(format!("{path}.{field}"), format!("{number} is not 0 to {WEIGHT_MAX}"))),
    };
    let priority = bounded("priority", priority)?.unwrap_or_default();
    Ok(Target { cluster, weight: bounded("weight", weight)?, priority })
}

impl Target {
    /// What it gets; nothing for a weight of 0.
    pub(crate) fn share(&self, mode: Mode) -> Option<Share> {
        match (mode, self.weight) {
            (_, Some(0)) => None,
            (Mode::ActiveActive, weight) => {
                Some(Share { weight: weight.unwrap_or(Share::DEFAULT.weight), priority: self.priority })
            }
            _ => Some(Share { weight: Share::DEFAULT.weight, priority: self.priority.saturating_add(1) }),
        }
    }
}
