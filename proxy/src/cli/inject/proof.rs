//! The proof that nothing but ours was changed: both texts are read by the parser of resources, which knows nothing of how they were cut, and
//! must say the same once what is ours by name is left out of both, and probes that were rewritten are what they were.

use meshgate_config::Problem;
use meshgate_config::manifest::Sheet;
use serde_json::Value;

use super::annotations::DEFAULT_CONTAINER;
use super::object::{ADDED, INJECTED, Object};
use super::probes::{self, PROBES};
use super::sidecar::{INIT, PROXY, VOLUMES};

/// Whether two states of a document differ in what is ours and nothing else.
///
/// # Errors
/// When they do: a defect, or an alias that brings what was put in one place to another.
pub(super) fn same_but_for_ours(one: &Sheet, other: &Sheet, object: &Object) -> Result<(), Problem> {
    let (mut before, mut after) = (object.json(one)?, object.json(other)?);
    strip(&mut before, object);
    strip(&mut after, object);
    if before == after {
        return Ok(());
    }
    let message = "the change would reach more of the document than the pod template; is a part of it an alias elsewhere? \
        Write it out";
    Err(object.problem(one, &object.at(""), message))
}

/// Whether two texts say the same.
pub(super) fn says_the_same(one: &Sheet, other: &Sheet, object: &Object) -> Result<bool, Problem> {
    let said = |sheet| -> Result<Value, Problem> {
        let mut json = object.json(sheet)?;
        let annotations = at(&mut json, &object.at("metadata.annotations"));
        if let Some(kept) = annotations.and_then(|annotations| annotations.get_mut(PROBES)) {
            probes::without_texts(kept);
        }
        Ok(json)
    };
    Ok(said(one)? == said(other)?)
}

/// Leaves out what is ours, and what is empty when that is gone.
fn strip(document: &mut Value, object: &Object) {
    let Some(template) = at(document, &object.at("")) else { return };
    let kept = template.pointer("/metadata/annotations").and_then(|annotations| annotations.get(PROBES)).cloned();
    if let Some(spec) = template.get_mut("spec") {
        if let Some(kept) = kept {
            probes::restore(spec, &kept);
        }
        without(spec, "initContainers", &[INIT, PROXY]);
        without(spec, "containers", &[PROXY]);
        without(spec, "volumes", &VOLUMES);
    }
    if let Some(metadata) = template.get_mut("metadata") {
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(INJECTED);
            annotations.remove(PROBES);
            if annotations.remove(ADDED).is_some_and(|added| added == DEFAULT_CONTAINER) {
                annotations.remove(DEFAULT_CONTAINER);
            }
        }
        drop_if_empty(metadata, "annotations");
    }
    drop_if_empty(template, "metadata");
}

fn without(spec: &mut Value, list: &str, ours: &[&str]) {
    if let Some(Value::Array(items)) = spec.get_mut(list) {
        items.retain(|item| !item.get("name").and_then(Value::as_str).is_some_and(|name| ours.contains(&name)));
    }
    drop_if_empty(spec, list);
}

fn drop_if_empty(holder: &mut Value, key: &str) {
    let is_empty = match holder.get(key) {
        Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(entries)) => entries.is_empty(),
        _ => false,
    };
    if let (true, Value::Object(entries)) = (is_empty, holder) {
        entries.remove(key);
    }
}

/// The value at a path of our own making: keys, and indices of `items`.
fn at<'v>(value: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    let steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty());
    steps.into_iter().try_fold(value, |value, step| match value {
        Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        other => other.get_mut(step),
    })
}
