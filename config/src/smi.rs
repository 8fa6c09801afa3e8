//! SMI's documents and FSM's MeshConfig: their frames, and what they come to together.
//!
//! What TrafficTargets mean is the policy crate's. Here the routes they name are found for them, and the mode is: that of
//! the MeshConfig, or without one the bootstrap's. In doubt it is traffic policy mode, which lets in less.

use std::collections::BTreeSet;
use std::sync::Arc;

use meshgate_policy::lint::Known;
use meshgate_policy::smi::{
    self, HttpRouteGroup, HttpRouteGroupSpec, Routes, TcpRoute, TcpRouteSpec, TrafficTarget, TrafficTargetSpec, lint,
};
use meshgate_policy::{Invalid, ObjectName, Policy, Settings, SmiMode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::check::located;
use crate::document::Document;
use crate::kept::Standing;
use crate::multicluster;
use crate::problem::Problem;
use crate::resource::{Metadata, Object, nullable};

impl Document<TrafficTargetSpec> {
    pub(crate) fn build(self, name: ObjectName, metadata: &Metadata) -> Result<TrafficTarget, Vec<Invalid>> {
        let clusters = multicluster::restricted_to(&metadata.annotations)?;
        let target = smi::traffic_target(name, self.spec)?;
        Ok(target.only_in(clusters.iter().map(|key| key.as_str().into())))
    }
}

/// An HTTPRouteGroup as written; v1alpha2 has no `spec`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupDocument {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: IgnoredAny,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
    spec: Option<HttpRouteGroupSpec>,
    matches: Option<Vec<smi::spec::HttpMatchSpec>>,
}

impl GroupDocument {
    pub(crate) fn build(self) -> Result<HttpRouteGroup, Vec<Invalid>> {
        match (self.spec, self.matches) {
            (Some(spec), None) => smi::http_route_group(spec),
            (None, Some(matches)) => smi::http_route_group(HttpRouteGroupSpec { matches }).map_err(without_spec),
            (Some(_), Some(_)) => Err(invalid("matches", "belongs into `spec`, which is there as well")),
            (None, None) => Err(invalid("spec", "is missing")),
        }
    }
}

fn invalid(path: &str, message: &str) -> Vec<Invalid> {
    vec![Invalid { path: path.to_owned(), message: message.to_owned() }]
}

/// The same problems, where v1alpha2 has the fields.
fn without_spec(all: Vec<Invalid>) -> Vec<Invalid> {
    let moved = |one: Invalid| Invalid { path: one.path.trim_start_matches("spec.").to_owned(), ..one };
    all.into_iter().map(moved).collect()
}

/// Before v1alpha4 it may have no `spec`, which means every port.
impl Document<Option<TcpRouteSpec>> {
    pub(crate) fn build(self) -> Result<TcpRoute, Vec<Invalid>> {
        smi::tcp_route(self.spec.unwrap_or_default())
    }
}

/// A MeshConfig, of which one field counts; the others configure FSM.
#[derive(Deserialize)]
pub(crate) struct MeshConfigDocument {
    #[serde(default, deserialize_with = "nullable")]
    spec: MeshConfigSpec,
}

#[derive(Default, Deserialize)]
struct MeshConfigSpec {
    #[serde(default, deserialize_with = "nullable")]
    traffic: TrafficSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TrafficSpec {
    /// Absent is false, as in FSM.
    #[serde(default, deserialize_with = "nullable")]
    enable_permissive_traffic_policy_mode: bool,
}

impl MeshConfigDocument {
    pub(crate) fn mode(&self) -> SmiMode {
        let permissive = self.spec.traffic.enable_permissive_traffic_policy_mode;
        if permissive { SmiMode::Permissive } else { SmiMode::TrafficPolicy }
    }
}

/// What SMI's documents come to.
#[derive(Debug)]
pub(crate) struct Smi {
    pub(crate) policies: Vec<Arc<Policy>>,
    pub(crate) mode: SmiMode,
    /// Two MeshConfigs, and TrafficTargets that name what is not there.
    pub(crate) problems: Vec<Problem>,
}

impl Smi {
    pub(crate) fn compose(standing: &Standing, settings: &Settings) -> Smi {
        let (mode, mut problems) = mode(standing, settings.smi);
        let routes = routes(standing);
        let mut policies = Vec::new();
        for target in targets(standing) {
            let composed = smi::compose(target, &routes, settings.smi_path_match);
            policies.extend(composed.policy.map(Arc::new));
            problems.extend(composed.findings.iter().filter_map(|lint| located(standing, lint)));
        }
        Smi { policies, mode, problems }
    }
}

/// What is probably not meant under the settings in force. `elsewhere` are service accounts of other clusters.
pub(crate) fn lints(
    standing: &Standing,
    known: &Known,
    elsewhere: &BTreeSet<ObjectName>,
    settings: &Settings,
) -> Vec<Problem> {
    let routes = routes(standing);
    let mut accounts = accounts(known);
    // One account elsewhere does not make this cluster's known.
    if !accounts.is_empty() {
        accounts.extend(elsewhere.iter().cloned());
    }
    let around = lint::Surroundings {
        routes: &routes,
        accounts: &accounts,
        mode: settings.smi,
        path_match: settings.smi_path_match,
    };
    let of_targets = lint::targets(&targets(standing).collect::<Vec<_>>(), &around);
    let of_groups = lint::groups(&around);
    of_targets.iter().chain(&of_groups).filter_map(|lint| located(standing, lint)).collect()
}

/// The service accounts that some workload runs as, or that are there to be run as.
fn accounts(known: &Known) -> BTreeSet<ObjectName> {
    let used = known.workloads.iter().map(|one| ObjectName {
        namespace: one.workload.namespace.clone(),
        name: one.workload.service_account.clone(),
    });
    known.service_accounts.iter().cloned().chain(used).collect()
}

fn mode(standing: &Standing, bootstrap: SmiMode) -> (SmiMode, Vec<Problem>) {
    let configs: Vec<_> = standing
        .good()
        .filter_map(|(key, place, object)| match object {
            Object::MeshConfig(mode) => Some((key, place, *mode)),
            _ => None,
        })
        .collect();
    let strict = configs.iter().any(|(_, _, mode)| *mode == SmiMode::TrafficPolicy);
    let mut problems = Vec::new();
    if let [(first, ..), others @ ..] = configs.as_slice() {
        for (key, place, _) in others {
            let message =
                format!("there is another one, {first}: traffic policy mode holds if one of them asks for it");
            problems.push(Problem::warning(&place.file, message).at(Some(place.line)).about(key));
        }
    }
    let mode = match (configs.is_empty(), strict) {
        (true, _) => bootstrap,
        (false, true) => SmiMode::TrafficPolicy,
        (false, false) => SmiMode::Permissive,
    };
    (mode, problems)
}

fn targets(standing: &Standing) -> impl Iterator<Item = &TrafficTarget> {
    standing.good().filter_map(|(_, _, object)| match object {
        Object::TrafficTarget(target) => Some(target),
        _ => None,
    })
}

/// Every route there is.
pub(crate) fn routes(standing: &Standing) -> Routes {
    let mut routes = Routes::default();
    for (key, _, object) in standing.good() {
        match object {
            Object::HttpRouteGroup(group) => {
                routes.http.insert(key.object_name(), Arc::clone(group));
            }
            Object::TcpRoute(route) => {
                routes.tcp.insert(key.object_name(), Arc::clone(route));
            }
            _ => {}
        }
    }
    routes
}

#[cfg(test)]
mod tests;
