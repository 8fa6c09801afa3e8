//! Putting our containers, volumes and annotations into a pod template, and taking them out again.

use meshgate_config::Problem;
use meshgate_config::manifest::{CannotEdit, Sheet, Value};

use super::Args;
use super::annotations::DEFAULT_CONTAINER;
use super::object::{ADDED, INJECTED, Object};
use super::probes::{self, PROBES};
use super::settings::Settings;
use super::sidecar::{self, INIT, PROXY, VOLUMES};

/// Puts everything in. The template has nothing of ours.
pub(super) fn put_in(sheet: &mut Sheet, object: &Object, settings: &Settings, args: &Args) -> Result<(), Problem> {
    let proxy = sidecar::proxy(sheet, object, settings, args);
    let init = sidecar::init(settings, args);
    let application = default_container(sheet, object, args);
    let put = |sheet: &mut Sheet| {
        // First, while they stand where they were found.
        let kept = probes::put_in(sheet, &settings.probes, args)?;
        // Bottom up, each before what was there.
        for volume in sidecar::volumes(settings, args).into_iter().rev() {
            first(sheet, object, "volumes", volume)?;
        }
        if args.native_sidecar {
            first(sheet, object, "initContainers", proxy)?;
        } else {
            first(sheet, object, "containers", proxy)?;
        }
        first(sheet, object, "initContainers", init)?;
        if let Some(application) = &application {
            annotate(sheet, object, DEFAULT_CONTAINER, application)?;
            annotate(sheet, object, ADDED, DEFAULT_CONTAINER)?;
        }
        if let Some(kept) = &kept {
            annotate(sheet, object, PROBES, kept)?;
        }
        annotate(sheet, object, INJECTED, env!("CARGO_PKG_VERSION"))
    };
    let copy = sheet.clone();
    put(sheet).map_err(|error| cannot(&copy, object, &error))
}

/// The container that `kubectl logs` and `kubectl exec` have meant so far, where they would now mean the proxy.
fn default_container(sheet: &Sheet, object: &Object, args: &Args) -> Option<String> {
    if args.native_sidecar || sheet.has(&object.annotation(DEFAULT_CONTAINER)) {
        return None;
    }
    object.containers(sheet, "containers").into_iter().next().map(|(_, name)| name)
}

/// Puts an item before all others of a list of the pod's, which need not be there.
fn first(sheet: &mut Sheet, object: &Object, list: &str, item: Value) -> Result<(), CannotEdit> {
    let path = object.at(&format!("spec.{list}"));
    if sheet.length(&path) > 0 {
        return sheet.push_front(&path, &item);
    }
    sheet.set(&object.at("spec"), list, &Value::List(vec![item]), "containers")
}

/// Sets an annotation of the template.
fn annotate(sheet: &mut Sheet, object: &Object, key: &str, value: &str) -> Result<(), CannotEdit> {
    let (template, metadata, path) = (object.at(""), object.at("metadata"), object.at("metadata.annotations"));
    let annotations = Value::map([(key, value.into())]);
    if !sheet.is_empty(&path) {
        return sheet.set(&path, key, &value.into(), "");
    }
    if !sheet.is_empty(&metadata) {
        return sheet.set(&metadata, "annotations", &annotations, "labels");
    }
    sheet.set(&template, "metadata", &Value::map([("annotations", annotations)]), "spec")
}

/// Takes everything out that is ours by name. The template says that there is something.
pub(super) fn take_out(sheet: &mut Sheet, object: &Object) -> Result<(), Problem> {
    probes::take_out(sheet, object)?;
    let copy = sheet.clone();
    let mut take = |path: String| sheet.remove(&path).map_err(|error| cannot(&copy, object, &error));
    for (list, ours) in [("initContainers", [INIT, PROXY].as_slice()), ("containers", &[PROXY]), ("volumes", &VOLUMES)]
    {
        let named = object.containers(&copy, list);
        // From behind, so that the others keep their places.
        for (path, _) in named.iter().rev().filter(|(_, name)| ours.contains(&name.as_str())) {
            take(path.clone())?;
        }
    }
    if copy.scalar(&object.annotation(ADDED)) == Some(DEFAULT_CONTAINER) {
        take(object.annotation(ADDED))?;
        take(object.annotation(DEFAULT_CONTAINER))?;
    }
    take(object.annotation(INJECTED))
}

fn cannot(sheet: &Sheet, object: &Object, error: &CannotEdit) -> Problem {
    object.problem(sheet, &error.path, error.to_string())
}
