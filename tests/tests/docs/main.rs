//! What README and user guide say is so: their commands are run, their documents read, their links followed, their names looked up.
//!
//! A fenced block says behind its language what is done with it; Markdown shows nothing of that. [`commands`] has the words. Each page is one
//! shell session in namespaces of its own, so that the fixed ports that readers are given are free, and nothing outlives the page.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects has failed"
)]

mod alerts;
mod commands;
mod dashboard;
mod documents;
mod fields;
mod guide;
mod links;
mod markdown;
mod names;
mod options;
mod session;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::Regex;

/// The product, built from the code beside these tests.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_meshgate-under-test"))
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Runs the product in a folder: its exit status, standard output and standard error.
fn meshgate(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    meshgate_reading(dir, arguments, "")
}

/// As [`meshgate`], with something on standard input.
fn meshgate_reading(dir: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever has no use for it closes it.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.code().unwrap(), stdout, stderr)
}

/// Fails with all that is wrong, and not with the first of it.
fn none_wrong(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} wrong:\n\n{}\n", wrong.len(), wrong.join("\n\n"));
}

/// A regular expression. `\s`, `\w` and `\b` are ASCII's: the tables of Unicode are not built in.
fn pattern(text: &str) -> Regex {
    let ascii = text.replace(r"\s", r"[[:space:]]").replace(r"\w", r"[[:word:]]").replace(r"\b", r"(?-u:\b)");
    Regex::new(&ascii).unwrap()
}
