//! `selector`, `targetRef` and `targetRefs`: what a document is attached to.

use crate::istio::report::Report;
use crate::istio::spec::{TargetRef, WorkloadSelector};
use crate::select::{Labels, Scope};

/// Kubernetes' own limit for a label's value, in characters.
const LABEL_VALUE_MAX: usize = 63;
/// The limit of Istio's schema.
const TARGET_REFS_MAX: usize = 16;

/// What a document is attached to.
pub(super) fn scope(
    selector: Option<&WorkloadSelector>,
    target_ref: Option<&TargetRef>,
    target_refs: &[TargetRef],
    report: &mut Report,
) -> Scope {
    let given = [selector.is_some(), target_ref.is_some(), !target_refs.is_empty()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        report.add("spec", "only one of selector, targetRef and targetRefs may be given");
    }
    if let Some(target) = target_ref {
        check_target("spec.targetRef", target, report);
    }
    if target_refs.len() > TARGET_REFS_MAX {
        report.add("spec.targetRefs", format!("at most {TARGET_REFS_MAX} are allowed"));
    }
    for (index, target) in target_refs.iter().enumerate() {
        check_target(&format!("spec.targetRefs[{index}]"), target, report);
    }
    let labels = labels(selector, report);
    if target_ref.is_some() || !target_refs.is_empty() { Scope::Targets } else { Scope::Workloads(labels) }
}

/// The labels of a selector; `None` when there is no selector.
pub(super) fn labels(selector: Option<&WorkloadSelector>, report: &mut Report) -> Option<Labels> {
    let labels = selector?.match_labels.clone().unwrap_or_default();
    for (key, value) in &labels {
        let path = format!("spec.selector.matchLabels[{key}]");
        if key.is_empty() {
            report.add(&path, "a label's name must not be empty");
        }
        if key.contains('*') || value.contains('*') {
            report.add(&path, "a label is compared as it is; * is not supported");
        }
        if value.chars().count() > LABEL_VALUE_MAX {
            report.add(&path, format!("a label's value has at most {LABEL_VALUE_MAX} characters"));
        }
    }
    Some(labels)
}

fn check_target(path: &str, target: &TargetRef, report: &mut Report) {
    if target.name.is_empty() {
        report.add(format!("{path}.name"), "must not be empty");
    }
    if target.namespace.as_ref().is_some_and(|namespace| !namespace.is_empty()) {
        report.add(format!("{path}.namespace"), "a target is always in the policy's own namespace");
    }
    match (target.group.as_str(), target.kind.as_str()) {
        ("gateway.networking.k8s.io", "Gateway") | ("" | "core", "Service") => {}
        ("networking.istio.io", "ServiceEntry") => {}
        ("gateway.networking.k8s.io", "GatewayClass") if target.name == "istio-waypoint" => {}
        ("gateway.networking.k8s.io", "GatewayClass") => {
            report.add(format!("{path}.name"), "the only GatewayClass a policy can target is istio-waypoint");
        }
        (group, kind) => report.add(
            format!("{path}.kind"),
            format!("{kind} of group {group:?} cannot be targeted; Gateway, GatewayClass, Service, ServiceEntry can"),
        ),
    }
}
