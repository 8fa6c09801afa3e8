//! The settings of the bootstrap file: each has its row in docs/configuration.md, and the guide names none that there is not.
//!
//! What there is, the reader itself says: asked for a field that it does not know, it lists those that it does.

use std::collections::{BTreeMap, BTreeSet};
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

/// A bootstrap with these fields, as YAML.
fn document(fields: &BTreeMap<String, String>) -> String {
    let mut sections = BTreeMap::<&str, BTreeMap<String, String>>::new();
    let mut text = String::new();
    for (path, value) in fields {
        match path.split_once('.') {
            Some((section, rest)) => drop(sections.entry(section).or_default().insert(rest.to_owned(), value.clone())),
            None => text += &format!("{path}: {value}, "),
        }
    }
    for (section, fields) in sections {
        text += &format!("{section}: {}, ", document(&fields));
    }
    format!("{{{text}}}")
}

/// What has to be there for a field to have a meaning.
fn around(path: &str) -> BTreeMap<String, String> {
    let own = [
        ("workload.namespace", "default"),
        ("workload.serviceAccount", "backend"),
        ("identity.trustBundle", "r.pem"),
        ("resources.directory", "."),
    ];
    let more: &[(&str, &str)] = match path.split('.').next().unwrap() {
        "gateway" => &[("role", "gateway")],
        "hbone" => &[("hbone.listeners", "['0.0.0.0:15008']")],
        "tracing" => &[("tracing.endpoint", "'http://collector:4318'")],
        _ => &[],
    };
    let identity: &[(&str, &str)] = match path.starts_with("identity.ca.") {
        true => &[("identity.ca.address", "'ca:15012'")],
        false => &[("identity.certificate", "c.pem"), ("identity.key", "k.pem")],
    };
    own.iter().chain(more).chain(identity).map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect()
}

/// The settings that these fields make, in full.
fn settings(dir: &TempDir, fields: &BTreeMap<String, String>) -> Result<String, String> {
    let file = dir.path().join("bootstrap.yaml");
    fs::write(&file, document(fields)).unwrap();
    let loaded = Bootstrap::load(&file, []);
    loaded.map(|bootstrap| format!("{bootstrap:?}")).map_err(|problems| format!("{problems:?}"))
}

/// Setting a field to its documented default is as good as leaving it out.
#[test]
fn settings_have_the_defaults_that_are_documented() {
    let dir = TempDir::new().unwrap();
    let pages = pages();
    let page = pages.iter().find(|page| page.path == "docs/configuration.md").unwrap();
    let (aside, value) = (pattern(r"\([^)]*\)"), pattern(r"^(?:[\w.:/-]+|\[.*\]|\{\}|.off.)$"));
    // The default of these is what another one has.
    let others = ["identity.ca.trustBundle", "identity.ca.serverName"];
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (names, line) in rows(page) {
        let cell = aside.replace_all(line.split('|').nth(2).unwrap(), "").trim().to_owned();
        let spans: Vec<_> = cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let values = if cell.parse::<u64>().is_ok() { vec![cell] } else { spans };
        // What is not one value each is told in words.
        if values.len() != names.len() {
            continue;
        }
        for (name, default) in names.iter().zip(values) {
            let is_told = others.contains(&name.as_str())
                || name.contains("[]")
                || name.starts_with("workload.")
                || default.starts_with('<');
            if is_told || !value.is_match(&default) {
                continue;
            }
            let default = if default.contains([':', '/']) { format!("'{default}'") } else { default };
            let without = around(name);
            let mut with = without.clone();
            if with.insert(name.clone(), default.clone()).is_some() {
                continue;
            }
            compared += 1;
            let (without, with) = (settings(&dir, &without), settings(&dir, &with));
            if with.is_err() || without != with {
                wrong.push(format!("{name} is not {default} where nothing is said: {:?}", with.err()));
            }
        }
    }
    none_wrong(&wrong);
    assert!(compared > 60, "{compared}");
}
