//! What about other clusters is valid and most likely not meant.

use std::collections::BTreeSet;

use meshgate_policy::ObjectName;
use meshgate_policy::lint::{
    EXACT_EXPORT_PATH, FOREIGN_EXPORT_ACCOUNT, LOCALITY_WITH_TARGET, POLICY_WITHOUT_SERVICE, UNKNOWN_CLUSTER,
    WEIGHT_IGNORED,
};

use super::export::{Ports, ServiceExport};
use super::imports::Imported;
use super::policy::{GlobalTrafficPolicy, Mode};
use super::{ANY_ACCOUNT, exports};
use crate::clusters::ClusterKey;
use crate::kept::Standing;
use crate::problem::Problem;
use crate::resource::{Key, Object, Place};
use crate::services::Entry;
use crate::snapshot::Surroundings;

/// A finding about an object.
pub(crate) fn finding((key, place): (&Key, &Place), code: &str, message: String) -> Problem {
    Problem::warning(&place.file, message).at(Some(place.line)).about(key).in_field(Some(code.to_owned()))
}

/// What the documents are held against.
pub(crate) struct Known<'a> {
    /// With this cluster's endpoints alone, sorted by name.
    pub(crate) entries: &'a [Entry<'a>],
    pub(crate) imports: &'a super::imports::Imports<'a>,
    /// `None`: it is not known which clusters there are, nor which this one is.
    pub(crate) surroundings: Option<&'a Surroundings>,
}

/// Findings about policies and exports that cost nothing but what their author hoped for.
pub(crate) fn lints(standing: &Standing, known: &Known<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, place, object) in standing.good() {
        let mut add = |code, message| problems.push(finding((key, place), code, message));
        match object {
            Object::GlobalTrafficPolicy(policy) => of_policy(&key.object_name(), policy, known, &mut add),
            Object::ServiceExport(export) => of_export(&key.object_name(), export, known, &mut add),
            _ => {}
        }
    }
    problems
}

fn of_policy(
    name: &ObjectName,
    policy: &GlobalTrafficPolicy,
    known: &Known<'_>,
    add: &mut impl FnMut(&'static str, String),
) {
    let imported = known.imports.get(name);
    let is_here = known.entries.binary_search_by(|entry| entry.name.cmp(name)).is_ok();
    if imported.is_none() && !is_here {
        let message = format!("there is neither a Service nor a ServiceImport {name} that it could be about");
        add(POLICY_WITHOUT_SERVICE, message);
        return;
    }
    if policy.mode == Mode::Locality && !policy.targets.is_empty() {
        let message = "Locality keeps to this cluster: its target is not looked at; for another cluster in need write \
                       `lbType: FailOver`";
        add(LOCALITY_WITH_TARGET, message.to_owned());
        return;
    }
    for (index, target) in policy.targets.iter().enumerate() {
        if policy.mode == Mode::FailOver && target.weight.is_some_and(|weight| weight > 0) {
            let message = format!("targets[{index}].weight: FailOver goes by `priority`, and looks at no weight but 0");
            add(WEIGHT_IGNORED, message);
        }
        if let Some(surroundings) = known.surroundings
            && !is_known(&target.cluster, imported, surroundings)
        {
            let near: Vec<_> = clusters(imported).iter().map(ToString::to_string).collect();
            let there_are = if near.is_empty() { String::new() } else { format!(": it is in {}", near.join(", ")) };
            add(
                UNKNOWN_CLUSTER,
                format!("targets[{index}]: nothing imports {name} from {}{there_are}", target.cluster),
            );
        }
    }
}

fn clusters<'a>(imported: Option<&'a Imported<'_>>) -> BTreeSet<&'a ClusterKey> {
    imported.into_iter().flat_map(|imported| imported.ports.values()).flat_map(|port| port.ways.keys()).collect()
}

/// A gateway that is asked may yet say so.
fn is_known(cluster: &ClusterKey, imported: Option<&Imported<'_>>, surroundings: &Surroundings) -> bool {
    let asked = surroundings.multicluster.clusters.iter().filter(|peer| peer.gateway.is_some());
    *cluster == surroundings.cluster_key
        || clusters(imported).contains(cluster)
        || asked.into_iter().any(|peer| peer.key == *cluster)
}

fn of_export(name: &ObjectName, export: &ServiceExport, known: &Known<'_>, add: &mut impl FnMut(&'static str, String)) {
    if let Ports::Listed(rules) = &export.ports {
        for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.exact) {
            let message = format!(
                "rules[{index}]: {} is reached by FSM's sidecars under longer paths only, which Exact refuses; write \
                 `pathType: Prefix`",
                rule.path
            );
            add(EXACT_EXPORT_PATH, message);
        }
    }
    let entry = known.entries.binary_search_by(|entry| entry.name.cmp(name)).ok().and_then(|at| known.entries.get(at));
    let Some(entry) = entry else { return };
    let accounts = exports::accounts(entry);
    let account = export.account.as_str();
    if account.is_empty() || account == ANY_ACCOUNT || accounts.is_empty() || accounts.contains(account) {
        return;
    }
    let found: Vec<_> = accounts.into_iter().collect();
    let message = format!(
        "says that service account {account} runs it, and its Pods run as {}: other clusters would refuse them",
        found.join(", ")
    );
    add(FOREIGN_EXPORT_ACCOUNT, message);
}
