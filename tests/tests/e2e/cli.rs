//! The commands that answer a question, as a user or a script sees them: what they print, and their exit status.

mod advice;
mod ca;
mod calling;
mod check;
mod explain;
mod import;
mod inject;
mod policy_tests;
mod reference;
mod remote;
mod terminal;
mod top;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::backend::policy;

/// Runs a command in a folder: its exit status, standard output and standard error.
fn meshgate(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    meshgate_reading(dir, arguments, "")
}

/// As [`meshgate`], with something on standard input.
fn meshgate_reading(dir: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(crate::binary());
    command.args(arguments).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever has no use for it closes it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
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
fn help_lists_the_commands() {
    let dir = TempDir::new().unwrap();
    let (status, text, errors) = meshgate(dir.path(), &["--help"]);
    assert_eq!((status, errors.as_str()), (0, ""));
    for command in [
        "run",
        "demo",
        "check",
        "explain",
        "import",
        "inject",
        "test",
        "top",
        "wait",
        "ca",
        "iptables",
        "completions",
        "man",
        "version",
    ] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command}: {text}");
        let (status, text, _) = meshgate(dir.path(), &[command, "--help"]);
        let is_group = ["ca", "iptables"].contains(&command);
        assert!(
            status == 0 && text.contains("Usage:") && (is_group || text.contains("\nExit status:\n  0 ")),
            "{text}"
        );
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
        (&["check", "--allow"], "--allow"),
        (&["test", "--output", "tap"], "junit"),
        (&["explain", "--admin", "--workload", "a/b"], "--workload"),
        (&["explain", "--tcp", "--path", "/"], "--path"),
        (&["ca"], "Usage:"),
        (&["demo", "--step", "Z1"], "A1"),
    ] {
        let (status, text, errors) = meshgate(dir.path(), arguments);
        assert_eq!((status, text.as_str()), (2, ""), "{arguments:?}: {errors}");
        assert!(errors.contains(about), "{arguments:?}: {errors}");
    }
}
