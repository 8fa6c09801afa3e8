//! Which objects have pods in them, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use meshgate_config::manifest::Sheet;
use meshgate_config::{Problem, Severity};

/// Marks a pod template that has our containers. Its value is the version that put them there.
pub(super) const INJECTED: &str = "meshgate.io/injected";

/// An object that makes pods, or is one.
#[derive(Debug)]
pub(super) struct Object {
    file: PathBuf,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    /// Path of the pod template; empty for a document that is a Pod.
    template: String,
}

/// Paths of a document's objects: itself, or what its list holds.
pub(super) fn prefixes(sheet: &Sheet) -> Vec<String> {
    let is_list = sheet.scalar("kind").is_some_and(|kind| kind.ends_with("List")) && sheet.length("items") > 0;
    if is_list {
        (0..sheet.length("items")).map(|index| format!("items[{index}]")).collect()
    } else {
        vec![String::new()]
    }
}

/// One path inside another, either of which may be empty.
fn below(path: &str, inner: &str) -> String {
    if path.is_empty() || inner.is_empty() { format!("{path}{inner}") } else { format!("{path}.{inner}") }
}

impl Object {
    /// The object at `prefix`; `None` for a kind that makes no pods.
    pub(super) fn new(sheet: &Sheet, prefix: String, file: &Path) -> Option<Object> {
        let text = |path: &str| sheet.scalar(&below(&prefix, path)).map(str::to_owned);
        let kind = text("kind")?;
        let version = text("apiVersion")?;
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let template = match (group, kind.as_str()) {
            ("", "Pod") => "",
            ("apps" | "extensions", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
            | ("", "ReplicationController")
            | ("batch", "Job") => "spec.template",
            ("batch", "CronJob") => "spec.jobTemplate.spec.template",
            _ => return None,
        };
        let name = text("metadata.name").or_else(|| text("metadata.generateName")).unwrap_or_default();
        let namespace = text("metadata.namespace");
        Some(Object { file: file.to_path_buf(), kind, name, namespace, template: below(&prefix, template) })
    }

    /// The path of something in the pod template.
    pub(super) fn at(&self, inner: &str) -> String {
        below(&self.template, inner)
    }

    /// The path of an annotation of the pod template.
    pub(super) fn annotation(&self, key: &str) -> String {
        self.at(&format!("metadata.annotations[{key}]"))
    }

    pub(super) fn is_injected(&self, sheet: &Sheet) -> bool {
        sheet.has(&self.annotation(INJECTED))
    }

    /// Whose identity the pods have.
    pub(super) fn service_account(&self, sheet: &Sheet) -> Option<String> {
        let stated = |path| sheet.scalar(&self.at(path)).filter(|name| !name.is_empty()).map(str::to_owned);
        stated("spec.serviceAccountName").or_else(|| stated("spec.serviceAccount"))
    }

    /// The containers of a list, `containers` or `initContainers`: path and name.
    pub(super) fn containers(&self, sheet: &Sheet, list: &str) -> Vec<(String, String)> {
        let list = self.at(&format!("spec.{list}"));
        let one = |index| {
            let path = format!("{list}[{index}]");
            let name = sheet.scalar(&format!("{path}.name")).unwrap_or_default().to_owned();
            (path, name)
        };
        (0..sheet.length(&list)).map(one).collect()
    }

    /// An error about what stands at a path of the document.
    pub(super) fn problem(&self, sheet: &Sheet, path: &str, message: impl Into<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            line: Some(sheet.line(path)),
            object: Some(self.to_string()),
            field: (!path.is_empty()).then(|| path.to_owned()),
            message: message.into(),
            severity: Severity::Error,
        }
    }

    /// The whole document as JSON, by the parser that reads resources.
    pub(super) fn json(&self, sheet: &Sheet) -> Result<serde_json::Value, Problem> {
        sheet.parse(&self.file)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Object { kind, namespace, name, .. } = self;
        match namespace {
            Some(namespace) => write!(f, "{kind} {namespace}/{name}"),
            None => write!(f, "{kind} {name}"),
        }
    }
}
