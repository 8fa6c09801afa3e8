//! The settings of the bootstrap file: each has its row in docs/configuration.md, and the guide names none that there is not.
//!
//! What there is, the reader itself says: asked for a field that it does not know, it lists those that it does.

use std::collections::BTreeSet;
use std::fs;

use meshgate_config::Bootstrap;
use tempfile::TempDir;

use crate::markdown::{Page, pages};
use crate::{none_wrong, pattern};

/// A name that no section has.
const UNKNOWN: &str = "no-such-field";

/// The fields below a path (`inbound`, `listeners[]`); empty where it holds a value.
fn below(dir: &TempDir, path: &[String]) -> Vec<String> {
    let mut text = format!("{{{UNKNOWN}: 1}}");
    for name in path.iter().rev() {
        text = match name.strip_suffix("[]") {
            Some(name) => format!("{{{name}: [{text}]}}"),
            None => format!("{{{name}: {text}}}"),
        };
    }
    let file = dir.path().join("bootstrap.yaml");
    fs::write(&file, text).unwrap();
    let said = Bootstrap::load(&file, []).unwrap_err().first().unwrap().to_string();
    let Some((_, listed)) = said.split_once(&format!("unknown field `{UNKNOWN}`, expected ")) else {
        return Vec::new();
    };
    // Behind the list may come what was perhaps meant.
    let listed = listed.split(" (").next().unwrap();
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// All fields below a path, with it, as `inbound.listeners[].address`.
fn collect(dir: &TempDir, path: &mut Vec<String>, found: &mut BTreeSet<String>) {
    for name in below(dir, path) {
        path.push(name.clone());
        found.insert(path.join("."));
        collect(dir, path, found);
        path.pop();
        path.push(format!("{name}[]"));
        collect(dir, path, found);
        path.pop();
    }
}

/// All that a bootstrap file may have.
fn fields() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(&TempDir::new().unwrap(), &mut Vec::new(), &mut found);
    found
}

/// What the rows of the page name: the first span of a row in full, the others beside it; the text of a row may have more.
fn rows(page: &Page) -> Vec<(Vec<String>, String)> {
    let of_cell = |cell: &str| {
        let mut names = Vec::<String>::new();
        for span in cell.split('`').skip(1).step_by(2) {
            let parent = names.first().and_then(|first| first.rsplit_once('.')).map(|(parent, _)| parent.to_owned());
            names.push(
                parent.filter(|_| !span.contains('.')).map_or(span.to_owned(), |parent| format!("{parent}.{span}")),
            );
        }
        names
    };
    let cells = page.prose().into_iter().filter_map(|(_, line)| line.strip_prefix("| `").map(|_| line));
    cells.filter_map(|line| Some((of_cell(line.split('|').nth(1)?), line.to_owned()))).collect()
}

fn is_documented(field: &str, rows: &[(Vec<String>, String)]) -> bool {
    let plain = field.replace("[]", "");
    let name = plain.rsplit('.').next().unwrap();
    rows.iter().any(|(names, text)| {
        names.iter().map(|name| name.replace("[]", "")).any(|named| {
            // A section is documented by its fields, a field also within the row of what it is in.
            let is_within = plain.starts_with(&format!("{named}.")) && pattern(&format!(r"\b{name}\b")).is_match(text);
            named == plain || named.starts_with(&format!("{plain}.")) || is_within
        })
    })
}

#[test]
fn every_setting_has_its_row() {
    let pages = pages();
    let page = |name: &str| pages.iter().find(|page| page.path == name).unwrap();
    // Providers have a page of their own.
    let rows = [rows(page("docs/configuration.md")), rows(page("docs/external-authorization.md"))].concat();
    let fields = fields();
    assert!(fields.len() > 100, "{fields:?}");
    let missing =
        fields.iter().filter(|field| !field.starts_with("extensionProviders[]") && !is_documented(field, &rows));
    none_wrong(&missing.map(|field| format!("docs/configuration.md has no row for {field}")).collect::<Vec<_>>());
}

/// Domains and files are dotted, too, and so are OpenTelemetry's attributes.
fn is_something_else(named: &str) -> bool {
    let ends = [".io", ".com", ".example", ".json", ".yaml", ".pem"];
    let is_attribute = ["http.request.", "http.response."].iter().any(|start| named.starts_with(start));
    is_attribute || ends.iter().any(|end| named.ends_with(end))
}

#[test]
fn settings_that_the_guide_names_exist() {
    let fields: BTreeSet<_> = fields().into_iter().map(|field| field.replace("[]", "")).collect();
    let sections: BTreeSet<_> = fields.iter().filter(|field| !field.contains('.')).map(String::as_str).collect();
    let path = pattern(r"^([a-z]\w*)((?:(?:\[\])?\.[a-z]\w*)+)(?::.*)?$");
    let mut wrong = Vec::new();
    for page in pages().iter().filter(|page| page.path.starts_with("docs/") || page.path == "README.md") {
        for (place, span) in page.spans() {
            let Some(found) = path.captures(span) else { continue };
            let named = format!("{}{}", &found[1], &found[2]).replace("[]", "");
            if is_something_else(&named) {
                continue;
            }
            let is_free_below = ["workload.labels", "identity.federated", "detection.portTimeouts"]
                .iter()
                .any(|map| named.starts_with(map));
            let is_known = fields.iter().any(|field| *field == named || field.ends_with(&format!(".{named}")));
            if sections.contains(&found[1]) && !is_known && !is_free_below {
                wrong.push(format!("{place}: `{span}`: the bootstrap file has no {named}"));
            }
        }
    }
    none_wrong(&wrong);
}
