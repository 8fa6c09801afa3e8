//! YAML and JSON of the guide are read by what they are for.
//!
//! | a block of `yaml` | must be |
//! |---|---|
//! | documents with `apiVersion` and `kind` | resources that `meshgate check` finds nothing wrong with; what is not for the proxy is passed over, and must be YAML |
//! | anything else | part of a bootstrap file, to which `meshgate check` adds what it lacks |
//! | marked `fragment` | YAML, of whatever |
//! | marked `invalid` | refused |
//!
//! Findings (`MG...`) are no errors. The lints' own page has examples of what is wrong, and a test of its own.

use std::fs;

use meshgate_config::Bootstrap;
use tempfile::TempDir;

use crate::markdown::{Block, Page, pages};
use crate::{meshgate, none_wrong, root};

/// What every bootstrap file must have, by its first word.
const REQUIRED: [(&str, &str); 3] = [
    ("workload:", "workload: {name: backend-1, namespace: default, serviceAccount: backend, labels: {app: backend}}\n"),
    ("identity:", "identity: {certificate: c.pem, key: k.pem, trustBundle: r.pem}\n"),
    ("resources:", "resources: {directory: resources}\n"),
];

/// What `meshgate check` says is wrong with resources.
fn problem_of_resources(text: &str) -> Option<String> {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("block.yaml"), text).unwrap();
    let (status, found, errors) = meshgate(dir.path(), &["check", "--resources", "."]);
    (status != 0).then(|| format!("{found}{errors}"))
}

/// What is wrong with objects that a cluster would be given; ours among them are read as the proxy does.
pub(crate) fn problem_of_manifest(text: &str) -> Option<String> {
    match text.trim() {
        "" => Some("nothing".to_owned()),
        _ if is_resource(text) => problem_of_resources(text),
        _ => problem_of_fragment(text),
    }
}

fn is_resource(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("apiVersion:"))
}

fn problem_of_bootstrap(text: &str) -> Option<String> {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("resources")).unwrap();
    let begins = |word: &str| text.lines().any(|line| line.starts_with(word));
    // The other way round its sections are errors: what shows them is about a gateway.
    let role = if begins("gateway:") && !begins("role:") { "role: gateway\n" } else { "" };
    let missing: String = REQUIRED.iter().filter(|(word, _)| !begins(word)).map(|(_, line)| *line).collect();
    let file = dir.path().join("bootstrap.yaml");
    fs::write(&file, format!("{role}{text}\n{missing}")).unwrap();
    let problems = Bootstrap::load(&file, []).err()?;
    Some(problems.iter().map(|problem| format!("{problem}\n")).collect())
}

fn problem(block: &Block) -> Option<String> {
    if block.language == "json" {
        return serde_json::from_str::<serde_json::Value>(&block.text).err().map(|error| error.to_string());
    }
    let found = match (block.is("fragment"), is_resource(&block.text)) {
        // What has no kind is none of the proxy's, and is read nevertheless.
        (true, _) => return problem_of_fragment(&block.text),
        (false, true) => problem_of_resources(&block.text),
        (false, false) => problem_of_bootstrap(&block.text),
    };
    match (block.is("invalid"), found) {
        (true, None) => Some("nothing is found to be wrong with it".to_owned()),
        (true, Some(_)) => None,
        (false, found) => found,
    }
}

/// Whether it is YAML: as the value of a field that the proxy does not read.
fn problem_of_fragment(text: &str) -> Option<String> {
    let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
    problem_of_resources(&format!("apiVersion: v1\nkind: Fragment\nmetadata: {{name: fragment}}\nspec:\n{indented}"))
}

#[test]
fn yaml_and_json_are_what_they_are_shown_as() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for block in pages().iter().filter(|page| page.path != "docs/lints.md").flat_map(Page::blocks) {
        if !["yaml", "yml", "json"].contains(&block.language.as_str()) {
            continue;
        }
        count += 1;
        wrong.extend(problem(&block).map(|problem| {
            format!(
                "{}: {problem}(tests/tests/docs/documents.rs says how a block is read, and how it is marked)",
                block.place
            )
        }));
    }
    none_wrong(&wrong);
    assert!(count > 15, "{count}");
}

#[test]
fn manifests_that_come_with_it_are_yaml() {
    let mut wrong = Vec::new();
    for folder in ["deploy", "deploy/authority", "deploy/example", "deploy/gateway", "deploy/namespace"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = fs::read_to_string(&path).unwrap();
                wrong.extend(problem_of_manifest(&text).map(|problem| format!("{}: {problem}", path.display())));
            }
        }
    }
    none_wrong(&wrong);
}
