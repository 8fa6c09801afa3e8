//! What single pages show is so: the lints' examples are found, files are those of the examples, tests that are named exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::markdown::pages;
use crate::{meshgate, meshgate_reading, root};

/// What every bootstrap file must have.
const BOOTSTRAP: &str = "\
workload: {name: backend-1, namespace: default, serviceAccount: backend, labels: {app: backend}}
identity: {certificate: c.pem, key: k.pem, trustBundle: r.pem}
resources: {directory: resources}
";

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// The fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn files_that_the_guide_shows_are_those_of_the_examples() {
    let mut files = 0;
    for page in pages() {
        let shown = page.text.split("<!-- examples/").skip(1).map(|rest| rest.split_once(" -->\n").unwrap());
        for (file, rest) in shown {
            let file = format!("examples/{file}");
            assert_eq!(
                blocks(rest, "yaml")[0],
                fs::read_to_string(root().join(&file)).unwrap(),
                "{}: {file}",
                page.path
            );
            files += 1;
        }
    }
    assert!(files >= 4, "{files}");
}

/// Each section about a finding: its code and its text.
fn sections(text: &str) -> Vec<(&str, &str)> {
    let sections = text.split("\n## MG").skip(1);
    sections.map(|section| section.split_at(3)).collect()
}

#[test]
fn every_lint_has_its_section_and_every_section_its_lint() {
    let text = page("lints.md");
    let documented: BTreeSet<_> = sections(&text).into_iter().map(|(number, _)| format!("MG{number}")).collect();
    let (_, listed, _) = meshgate(&root(), &["check", "--list"]);
    let known: BTreeSet<_> = listed.lines().map(|line| line.split("  ").next().unwrap().to_owned()).collect();
    assert_eq!(documented, known);
    for line in listed.lines() {
        assert!(text.contains(line.split_once("  ").unwrap().1), "lints.md has no {line:?}");
    }
    for (number, section) in sections(&text) {
        for part in ["**Why it matters.**", "**Fix.**", "```yaml"] {
            assert!(section.contains(part), "MG{number} has no {part}");
        }
    }
}

#[test]
fn the_examples_of_lints_are_found() {
    let text = page("lints.md");
    let mut wrong = Vec::new();
    for (number, section) in sections(&text) {
        let code = format!("MG{number}");
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("resources")).unwrap();
        fs::write(dir.path().join("resources/example.yaml"), blocks(section, "yaml")[0]).unwrap();
        let more = blocks(section, "yaml bootstrap");
        fs::write(dir.path().join("bootstrap.yaml"), format!("{BOOTSTRAP}{}", more.concat())).unwrap();
        let (_, found, errors) = meshgate(dir.path(), &["check", "--bootstrap", "bootstrap.yaml"]);
        if !found.contains(&format!(": {code}: ")) {
            wrong.push(format!("{code}: {found}{errors}"));
        }
    }
    assert!(wrong.is_empty(), "not found:\n{}", wrong.join("\n"));
}

#[test]
fn the_fields_of_a_case_are_those_of_the_guide() {
    let (_, _, errors) = meshgate_reading(&root(), &["explain", "--resources", "examples", "--request", "-"], "x: 1");
    let fields = errors.split('`').skip(3).step_by(2).collect::<BTreeSet<_>>();
    assert!(fields.len() > 15, "{errors}");
    let text = page("explain.md");
    for field in fields {
        assert!(text.contains(&format!("| `{field}` |")), "explain.md has no `{field}`");
    }
}

#[test]
fn the_examples_pass_their_own_tests() {
    let (status, text, errors) = meshgate(&root(), &["test", "examples/policy-tests"]);
    assert_eq!(status, 0, "{text}{errors}");
    for step in ["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9"] {
        assert!(text.contains(step), "{step} is not tested: {text}");
    }
}

/// Every function's name in the sources below a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names =
                text.split("fn ").skip(1).filter_map(|rest| rest.split_once('(').map(|(name, _)| name.to_owned()));
            found.extend(names);
        }
    }
}

#[test]
fn every_test_that_the_table_of_attacks_names_exists() {
    let mut known = BTreeSet::new();
    for folder in ["proxy", "identity", "config", "policy", "iptables", "tests"] {
        functions(&root().join(folder), &mut known);
    }
    let text = page("security.md");
    let is_name = |word: &&str| {
        word.len() > 12
            && word.contains('_')
            && word.bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_name).collect();
    assert!(named.len() > 80, "{}", named.len());
    let unknown: Vec<_> = named.into_iter().filter(|name| !known.contains(*name)).collect();
    assert_eq!(unknown, [""; 0]);
}
