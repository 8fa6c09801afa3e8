//! `selector`, `targetRef` and `targetRefs`: what a document is attached to.

use crate::istio::report::Report;
use crate::istio::spec::{TargetRef, WorkloadSelector};
use crate::select::{Labels, Scope};

/// Kubernetes' own limit for a label's value, in characters.
const LABEL_VALUE_MAX: usize = 63;
/// The limits of Istio's schema.
const LABELS_MAX: usize = 4096;
const TARGET_REFS_MAX: usize = 16;
const TARGET_NAME_MAX: usize = 253;

/// What a document is attached to.
pub(super) fn scope(
    selector: Option<&WorkloadSelector>,
    target_ref: Option<&TargetRef>,
    target_refs: Option<&[TargetRef]>,
    report: &mut Report,
) -> Scope {
    // One that is there counts, also when it is empty.
    let given = [selector.is_some(), target_ref.is_some(), target_refs.is_some()];
    let target_refs = target_refs.unwrap_or_default();
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
    if target_ref.is_none() && target_refs.is_empty() {
        return Scope::Workloads(labels);
    }
    let gateways = target_ref.into_iter().chain(target_refs).filter(|target| is_gateway(target));
    let gateways: Box<[Box<str>]> = gateways.map(|target| target.name.as_str().into()).collect();
    if gateways.is_empty() { Scope::Targets } else { Scope::Gateways(gateways) }
}

fn is_gateway(target: &TargetRef) -> bool {
    (target.group.as_str(), target.kind.as_str()) == ("gateway.networking.k8s.io", "Gateway")
}

/// The labels of a selector; `None` when there is no selector.
pub(super) fn labels(selector: Option<&WorkloadSelector>, report: &mut Report) -> Option<Labels> {
    let labels = selector?.match_labels.clone().unwrap_or_default();
    if labels.len() > LABELS_MAX {
        report.add("spec.selector.matchLabels", format!("at most {LABELS_MAX} labels are allowed"));
    }
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
    Some(labels.into())
}

fn check_target(path: &str, target: &TargetRef, report: &mut Report) {
    if target.name.is_empty() {
        report.add(format!("{path}.name"), "must not be empty");
    }
    if target.name.chars().count() > TARGET_NAME_MAX {
        report.add(format!("{path}.name"), format!("a name has at most {TARGET_NAME_MAX} characters"));
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
        (_, "") => report.add(format!("{path}.kind"), "must not be empty"),
        (group, kind) => report.add(
            format!("{path}.kind"),
            format!("{kind} of group {group:?} cannot be targeted; Gateway, GatewayClass, Service, ServiceEntry can"),
        ),
    }
}
