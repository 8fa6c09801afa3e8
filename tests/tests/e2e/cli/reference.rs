//! The command line as a whole: the page of all commands, the manual, completions, exit statuses, JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{deny_all_and_allow, folder, meshgate};

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/cli.md")
}

#[test]
fn the_page_of_all_commands_is_what_the_program_says() {
    let (status, printed, errors) = meshgate(Path::new("/"), &["man", "--markdown"]);
    assert_eq!(status, 0, "{errors}");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(page(), &printed).unwrap();
    }
    let written = fs::read_to_string(page()).unwrap();
    let differs = printed.lines().zip(written.lines()).find(|(printed, written)| printed != written);
    assert!(printed == written, "docs/cli.md differs, UPDATE_GOLDENS=1 rewrites it: {differs:#?}");
}

/// The rows of a table of the page, behind a heading of columns.
fn rows<'a>(page: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let table = page.split_once(head).unwrap().1.lines().skip(2);
    let cells = |line: &'a str| line.trim_matches('|').split(" | ").map(str::trim).collect();
    table.take_while(|line| line.starts_with('|')).map(cells).collect()
}

#[test]
fn commands_end_with_statuses_of_the_table() {
    let text = fs::read_to_string(page()).unwrap();
    let mut promised: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for row in rows(&text, "| command | status | means |") {
        promised.entry(row[0].trim_matches('`').to_owned()).or_default().insert(row[1].parse().unwrap());
    }
    let dir = folder(&deny_all_and_allow());
    let run = |arguments: &str| meshgate(dir.path(), &arguments.split(' ').collect::<Vec<_>>());
    for (arguments, status) in [
        ("check .", 0),
        ("check . --strict", 1),
        ("check nowhere", 2),
        ("explain --resources . --namespace elsewhere --path /a", 0),
        ("explain --resources . --path /a", 1),
        ("explain", 2),
        ("import", 2),
        ("inject policy.yaml", 0),
        ("inject nowhere.yaml", 2),
        ("test nowhere", 2),
        ("wait --admin 127.0.0.1:1 --timeout 1ms", 1),
        ("wait --admin x", 2),
        ("ca init", 0),
        ("ca init", 2),
        ("ca issue default/a", 0),
        ("ca issue default/a", 2),
        ("ca crl", 0),
        ("ca crl --dir none", 2),
        ("ca revoke ca/a.pem", 0),
        ("ca revoke none", 2),
        ("ca show ca/a.pem", 0),
        ("ca show none", 2),
        ("ca verify ca/a.pem", 0),
        ("ca verify ca/a.pem --crl ca/ca-crl.pem", 1),
        ("ca verify none", 2),
        ("iptables print", 0),
        ("iptables print -p 0", 2),
        ("run --bootstrap none", 2),
        ("demo --step none", 2),
        ("completions bash", 0),
        ("completions none", 2),
        ("man", 0),
        ("man none", 2),
        ("version", 0),
        ("version none", 2),
    ] {
        let (got, text, errors) = run(arguments);
        assert_eq!(got, status, "{arguments}: {text}{errors}");
        let words: Vec<_> = arguments.split(' ').collect();
        let command = [2, 1].map(|count| words.iter().take(count).copied().collect::<Vec<_>>().join(" "));
        let known = command.iter().find_map(|command| promised.get(command)).unwrap();
        assert!(known.contains(&status), "{arguments} ends with {status}, docs/cli.md knows {known:?}");
    }
    assert_eq!(promised["iptables validate"], BTreeSet::from([0, 2, 17, 18, 20, 24, 31]));
    assert_eq!(promised["run"], BTreeSet::from([0, 2, 3]));
}

/// The keys of all objects in it.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            found.insert(key.clone());
            keys(value, found);
        }),
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn json_is_one_document_with_the_keys_of_the_page() {
    let text = fs::read_to_string(page()).unwrap();
    let documented = rows(&text, "| command | document |");
    let dir = folder(&deny_all_and_allow());
    for (arguments, row) in [
        ("check . --output json", "`check`"),
        ("check --list -o json", "`check --list`"),
        ("version -o json", "`version`"),
        ("wait --admin 127.0.0.1:1 --timeout 1ms -o json", "`wait`"),
        ("ca init -o json", "`ca init`"),
        ("ca issue default/a -o json", "`ca issue`"),
        ("ca revoke ca/a.pem -o json", "`ca revoke`, `ca crl`"),
        ("ca crl -o json", "`ca revoke`, `ca crl`"),
        ("ca show ca/a.pem -o json", "`ca show`"),
        ("ca show ca/ca-crl.pem -o json", "`ca show`"),
        ("ca verify ca/a.pem -o json", "`ca verify`"),
    ] {
        let (_, printed, errors) = meshgate(dir.path(), &arguments.split(' ').collect::<Vec<_>>());
        let document: Value =
            serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{arguments}: {printed}{errors}"));
        let row = documented.iter().find(|cells| cells[0] == row).unwrap();
        let known: BTreeSet<_> = row[1].split('`').skip(1).step_by(2).collect();
        let mut found = BTreeSet::new();
        keys(&document, &mut found);
        assert!(!found.is_empty());
        let unknown: Vec<_> = found.iter().filter(|key| !known.contains(key.as_str())).collect();
        assert!(unknown.is_empty(), "{arguments}: docs/cli.md has not {unknown:?}");
    }
}

#[test]
fn what_import_prints_as_json_is_what_it_prints_as_yaml() {
    let dir = TempDir::new().unwrap();
    let export = "apiVersion: flomesh.io/v1alpha1\nkind: ServiceExport\nmetadata: {name: web, namespace: shop}\n\
        spec: {rules: [{portNumber: 80, path: /, pathType: Prefix}]}\n---\n\
        apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n";
    fs::write(dir.path().join("export.yaml"), export).unwrap();
    let from = ["import", "--cluster", "a/b/c/d=.,192.0.2.1:15443"];
    let (_, yaml, errors) = meshgate(dir.path(), &from);
    assert!(yaml.contains("name: web"), "{yaml}{errors}");
    let (_, printed, errors) = meshgate(dir.path(), &[&from[..], &["-o", "json"]].concat());
    let list: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}{errors}"));
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&"List".into(), 1));
    assert_eq!(list["items"][0]["kind"], "ServiceImport");
    assert_eq!(list["items"][0]["spec"]["ports"][0]["endpoints"][0]["target"]["ip"], "192.0.2.1");
}

#[test]
fn bash_completes_what_is_begun() {
    let dir = TempDir::new().unwrap();
    let (status, script, _) = meshgate(dir.path(), &["completions", "bash"]);
    assert_eq!(status, 0);
    fs::write(dir.path().join("meshgate.bash"), script).unwrap();
    for (words, expected) in [
        ("meshgate ca is", "issue"),
        ("meshgate ch", "check"),
        ("meshgate check --outp", "--output"),
        ("meshgate check --output sar", "sarif"),
        ("meshgate iptables val", "validate"),
    ] {
        let last = words.split(' ').count() - 1;
        let line = format!(
            "source ./meshgate.bash && complete -p meshgate >/dev/null && COMP_WORDS=({words}) COMP_CWORD={last} && \
            _meshgate meshgate \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{last}-1]}}\" && echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["--norc", "-c", &line]).current_dir(dir.path()).output().unwrap();
        let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(found, expected, "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_shell_gets_a_script_that_names_every_command() {
    let dir = TempDir::new().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (status, script, errors) = meshgate(Path::new("/"), &["completions", shell]);
        assert_eq!((status, errors.as_str()), (0, ""), "{shell}");
        for command in ["check", "explain", "verify", "validate", "completions"] {
            assert!(script.contains(command), "{shell} has no {command}");
        }
        // Of those that can read one without running it; bash has run its own above.
        if !["fish", "zsh"].contains(&shell) {
            continue;
        }
        let file = dir.path().join(shell);
        fs::write(&file, &script).unwrap();
        let Ok(read) = Command::new(shell).arg("-n").arg(&file).output() else {
            assert!(std::env::var_os("CI").is_none(), "{shell} is not there");
            let said = format!("\n*** SKIPPED: there is no {shell}: nobody has read its completions ***\n");
            let _ = std::io::stderr().write_all(said.as_bytes());
            continue;
        };
        assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr));
    }
}

#[test]
fn manual_pages_are_whole_and_without_a_warning() {
    let dir = TempDir::new().unwrap();
    let (status, text, errors) = meshgate(dir.path(), &["man", "--dir", "new/man1"]);
    assert_eq!(status, 0, "{text}{errors}");
    let pages: Vec<_> = fs::read_dir(dir.path().join("new/man1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 20, "{}", pages.len());
    let (_, one, _) = meshgate(dir.path(), &["man", "ca", "issue"]);
    assert_eq!(one, fs::read_to_string(dir.path().join("new/man1/meshgate-ca-issue.1")).unwrap());
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        let is_group = ["meshgate-ca.1", "meshgate-iptables.1"].map(|name| page.ends_with(name)).contains(&true);
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "ENVIRONMENT", "\"EXIT STATUS\"", "\"SEE ALSO\""] {
            let has = text.contains(&format!(".SH {section}\n"));
            assert!(has || is_group && section.contains("EXIT"), "{} has no {section}", page.display());
        }
        let Ok(read) = Command::new("groff").args(["-man", "-ww", "-z"]).arg(page).output() else {
            assert!(std::env::var_os("CI").is_none(), "groff is not there");
            let _ = std::io::stderr()
                .write_all(b"\n*** SKIPPED: there is no groff: nobody has read the manual pages ***\n");
            return;
        };
        assert_eq!(String::from_utf8_lossy(&read.stderr), "", "{}", page.display());
    }
}

#[test]
fn a_closed_pipe_is_no_disaster() {
    for arguments in ["completions bash", "man --markdown", "check --list"] {
        let line = format!("{} {arguments} | head -c 1 >/dev/null", crate::binary().display());
        let output = Command::new("sh").args(["-c", &line]).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{arguments}: {said}");
    }
}
