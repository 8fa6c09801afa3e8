//! The commands that answer a question, as a user or a script sees them: what they print, and their exit status.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::backend::{FRONTEND, OTHER, deny_path, policy};

/// Runs a command in a folder: its exit status, standard output and standard error.
fn meshgate(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let command = Command::new(crate::binary()).args(arguments).current_dir(dir).stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = command.unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(!stderr.contains("panicked"), "{stderr}");
    (status.code().unwrap(), stdout, stderr)
}

fn folder(yaml: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("policy.yaml"), yaml).unwrap();
    dir
}

fn deny_all_and_allow() -> String {
    let allow = "{selector: {matchLabels: {app: backend}}, rules: [{to: [{operation: {methods: [GET]}}]}]}";
    [policy("deny-all", "{action: DENY, rules: [{}]}"), policy("allow-get", allow)].join("---\n")
}

#[test]
fn check_is_content_with_good_resources() {
    let dir = folder(&policy("allow-get", "{rules: [{to: [{operation: {methods: [GET]}}]}]}"));
    assert_eq!(meshgate(dir.path(), &["check", "--resources", "."]), (0, "no problems\n".into(), String::new()));
    let (status, json, _) = meshgate(dir.path(), &["check", "--resources", ".", "--strict", "--output", "json"]);
    assert_eq!((status, serde_json::from_str::<Value>(&json).unwrap()), (0, serde_json::json!({ "problems": [] })));
}

#[test]
fn check_fails_on_warnings_only_where_asked_to() {
    let dir = folder(&deny_all_and_allow());
    let (status, text, _) = meshgate(dir.path(), &["check", "--resources", "."]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("policy.yaml:") && text.contains("default/allow-get: MG001: "), "{text}");
    let (status, strict, _) = meshgate(dir.path(), &["check", "--resources", ".", "--strict"]);
    assert_eq!((status, strict), (1, text));
}

#[test]
fn check_names_the_place_of_each_error() {
    let dir = folder(&deny_path("/a").replace("action", "actoin"));
    for strict in [&[][..], &["--strict"]] {
        let arguments = [&["check", "--resources", "."], strict].concat();
        let (status, text, _) = meshgate(dir.path(), &arguments);
        assert_eq!(status, 2, "{text}");
        assert!(text.contains("policy.yaml:4: AuthorizationPolicy default/deny-path: spec"), "{text}");
    }
    let (status, json, _) = meshgate(dir.path(), &["check", "--resources", ".", "--output", "json"]);
    let problem = &serde_json::from_str::<Value>(&json).unwrap()["problems"][0];
    assert_eq!(status, 2);
    assert_eq!(
        (&problem["severity"], &problem["line"], &problem["object"]),
        (&"error".into(), &4.into(), &"AuthorizationPolicy default/deny-path".into()),
        "{problem}"
    );
    assert!(problem["message"].as_str().unwrap().contains("`actoin`"), "{problem}");
}

#[test]
fn check_of_a_folder_that_is_not_there_is_an_error() {
    let dir = TempDir::new().unwrap();
    let (status, text, errors) = meshgate(dir.path(), &["check", "--resources", "nowhere"]);
    assert_eq!(status, 2, "{text}{errors}");
    assert!(format!("{text}{errors}").contains("nowhere"), "{text}{errors}");
}

#[test]
fn check_and_explain_want_to_be_told_where_to_look() {
    let dir = TempDir::new().unwrap();
    for command in ["check", "explain"] {
        let (status, text, errors) = meshgate(dir.path(), &[command]);
        assert_eq!((status, text.as_str()), (2, ""));
        assert!(errors.contains("--resources") && errors.contains("--bootstrap"), "{errors}");
    }
}

const EXPLAIN: [&str; 5] = ["explain", "--resources", ".", "--label", "app=backend"];

#[test]
fn explain_says_which_rule_decides() {
    let dir = folder(&deny_path("/a"));
    let (status, text, _) = meshgate(dir.path(), &[&EXPLAIN[..], &["--peer", FRONTEND, "--path", "/b"]].concat());
    assert_eq!(status, 0, "{text}");
    let (status, text, _) = meshgate(dir.path(), &[&EXPLAIN[..], &["--peer", FRONTEND, "--path", "//x/../a"]].concat());
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("default/deny-path"), "{text}");
}

#[test]
fn explain_answers_machines_too() {
    let allow = "{rules: [{from: [{source: {principals: [\"cluster.local/ns/default/sa/frontend\"]}}]}]}";
    let dir = folder(&policy("allow-frontend", allow));
    for (peer, status, verdict) in [(FRONTEND, 0, "allow"), (OTHER, 1, "deny")] {
        let arguments = [&EXPLAIN[..], &["--peer", peer, "--output", "json"]].concat();
        let (found, json, _) = meshgate(dir.path(), &arguments);
        let answer: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((found, &answer["verdict"]), (status, &verdict.into()), "{answer}");
        if status == 0 {
            assert_eq!(answer["rule"], serde_json::json!({"policy": "default/allow-frontend", "rule": 0}), "{answer}");
        }
    }
}

#[test]
fn explain_refuses_to_judge_what_it_cannot_read() {
    let dir = folder(&deny_path("/a").replace("action", "actoin"));
    let (status, text, errors) = meshgate(dir.path(), &EXPLAIN);
    assert_eq!((status, text.as_str()), (2, ""), "{errors}");
    assert!(errors.contains("policy.yaml:4: "), "{errors}");
    let dir = folder(&deny_path("/a"));
    for (wrong, about) in [
        (["--path", "/a%00"], "--path: the path has an encoded NUL: the proxy answers 400"),
        (["--peer", "spiffe://Cluster/ns/a"], "--peer"),
        (["--header", "no colon"], "--header"),
        (["--destination", "here"], "--destination"),
    ] {
        let (status, text, errors) = meshgate(dir.path(), &[&EXPLAIN[..], &wrong].concat());
        assert_eq!((status, text.as_str()), (2, ""), "{wrong:?}");
        assert!(errors.contains(about), "{errors}");
    }
}

#[test]
fn ca_writes_keys_for_their_owner_only_and_never_over_anything() {
    let dir = TempDir::new().unwrap();
    let init = ["ca", "init", "--dir", "ca", "--trust-domain", "cluster.local"];
    let issue = ["ca", "issue", "--dir", "ca", "--id", FRONTEND, "--name", "web"];
    let files = ["ca/ca.pem", "ca/ca-key.pem", "ca/web.pem", "ca/web-key.pem"].map(|file| dir.path().join(file));
    for (command, made) in [(&init[..], &files[..2]), (&issue[..], &files[2..])] {
        let (status, text, errors) = meshgate(dir.path(), command);
        assert_eq!(status, 0, "{errors}");
        let before: Vec<_> = made.iter().map(|file| fs::read(file).unwrap()).collect();
        for file in made {
            assert!(text.contains(file.file_name().unwrap().to_str().unwrap()), "{text}");
            let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if file.to_str().unwrap().contains("-key") { 0o600 } else { 0o644 }, "{}", file.display());
        }
        let (status, _, errors) = meshgate(dir.path(), command);
        assert_eq!(status, 2);
        assert!(errors.contains("-key.pem") && errors.contains("exist"), "{errors}");
        assert_eq!(before, made.iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>());
    }
}

#[test]
fn ca_shows_what_it_issued() {
    let dir = TempDir::new().unwrap();
    meshgate(dir.path(), &["ca", "init", "--dir", "."]);
    let issue = ["ca", "issue", "--dir", ".", "--id", FRONTEND, "--validity", "1h", "--dns", "web.example"];
    assert_eq!(meshgate(dir.path(), &issue).0, 0);
    let (status, text, _) = meshgate(dir.path(), &["ca", "show", "frontend.pem"]);
    assert_eq!(status, 0);
    assert!(text.contains(FRONTEND) && text.contains("web.example") && !text.contains("PROBLEM"), "{text}");
    let (status, json, _) = meshgate(dir.path(), &["ca", "show", "frontend.pem", "--output", "json"]);
    let all: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status, 0);
    assert_eq!((&all[0]["spiffeId"], &all[0]["isCa"]), (&FRONTEND.into(), &false.into()), "{all}");
    assert_eq!(all[0]["dnsNames"], serde_json::json!(["web.example"]), "{all}");
    let (status, text, errors) = meshgate(dir.path(), &["ca", "show", "frontend-key.pem"]);
    assert_eq!((status, text.as_str()), (2, ""));
    assert!(errors.contains("frontend-key.pem: there is no certificate in it"), "{errors}");
    assert!(!format!("{text}{errors}").contains("PRIVATE"), "{errors}");
}

#[test]
fn ca_refuses_what_nobody_would_accept() {
    let dir = TempDir::new().unwrap();
    meshgate(dir.path(), &["ca", "init", "--dir", "."]);
    for (wrong, about) in [
        (["--id", "spiffe://partner.example/ns/a/sa/b"], "partner.example"),
        (["--id", "spiffe://cluster.local"], "spiffe://cluster.local"),
        (["--id", "frontend"], "--id"),
    ] {
        let (status, _, errors) = meshgate(dir.path(), &[&["ca", "issue", "--dir", "."], &wrong[..]].concat());
        assert_eq!(status, 2, "{wrong:?}");
        assert!(errors.contains(about), "{errors}");
    }
    let nowhere = ["ca", "issue", "--dir", "nowhere", "--id", FRONTEND];
    let (status, _, errors) = meshgate(dir.path(), &nowhere);
    assert!(status == 2 && errors.contains("nowhere/ca.pem"), "{errors}");
}

#[test]
fn help_lists_the_commands() {
    let dir = TempDir::new().unwrap();
    let (status, text, errors) = meshgate(dir.path(), &["--help"]);
    assert_eq!((status, errors.as_str()), (0, ""));
    for command in ["run", "demo", "check", "explain", "ca", "iptables"] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command}: {text}");
        let (status, text, _) = meshgate(dir.path(), &[command, "--help"]);
        assert!(status == 0 && text.contains("Usage:"), "{command}: {text}");
    }
    let (status, text, _) = meshgate(dir.path(), &["--version"]);
    assert!(status == 0 && text.starts_with("meshgate "), "{text}");
}

#[test]
fn wrong_arguments_are_bad_input() {
    let dir = TempDir::new().unwrap();
    for (arguments, about) in [
        (&[][..], "Usage:"),
        (&["rum"], "'run'"),
        (&["run"], "--bootstrap"),
        (&["run", "--bootstap", "x"], "--bootstrap"),
        (&["check", "--output", "xml"], "json"),
        (&["ca"], "Usage:"),
        (&["demo", "--step", "Z1"], "A1"),
    ] {
        let (status, text, errors) = meshgate(dir.path(), arguments);
        assert_eq!((status, text.as_str()), (2, ""), "{arguments:?}: {errors}");
        assert!(errors.contains(about), "{arguments:?}: {errors}");
    }
}
