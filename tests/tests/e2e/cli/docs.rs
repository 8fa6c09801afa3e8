//! What the user guide shows is what happens: its commands are run, its lints found, its examples tested.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::meshgate;

/// What every bootstrap file must have.
const BOOTSTRAP: &str = "\
workload: {name: backend-1, namespace: default, serviceAccount: backend, labels: {app: backend}}
identity: {certificate: c.pem, key: k.pem, trustBundle: r.pem}
resources: {directory: resources}
";

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// The fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn commands_of_the_guide_print_what_it_says() {
    let tools = TempDir::new().unwrap();
    std::os::unix::fs::symlink(crate::binary(), tools.path().join("meshgate")).unwrap();
    let search = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap());
    let mut commands = 0;
    for name in ["explain.md", "lints.md", "policy-tests.md"] {
        let text = page(name);
        for block in blocks(&text, "console") {
            for example in block.split("$ ").skip(1) {
                let (command, expected) = example.split_once('\n').unwrap();
                let shell = format!("({command}) 2>&1");
                let output =
                    Command::new("sh").args(["-c", &shell]).env("PATH", &search).current_dir(root()).output().unwrap();
                assert_eq!(
                    String::from_utf8(output.stdout).unwrap().trim_end(),
                    expected.trim_end(),
                    "{name}: {command}"
                );
                commands += 1;
            }
        }
    }
    assert!(commands >= 8, "{commands}");
}

#[test]
fn files_that_the_guide_shows_are_those_of_the_examples() {
    let text = page("policy-tests.md");
    let shown = text.split("<!-- ").skip(1).map(|rest| rest.split_once(" -->\n").unwrap());
    let mut files = 0;
    for (file, rest) in shown {
        assert_eq!(blocks(rest, "yaml")[0], fs::read_to_string(root().join(file)).unwrap(), "{file}");
        files += 1;
    }
    assert_eq!(files, 1);
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
    let (_, _, errors) =
        super::meshgate_reading(&root(), &["explain", "--resources", "examples", "--request", "-"], "x: 1");
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
