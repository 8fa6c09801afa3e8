//! The product's main job, as the demo runs it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn demo_reports_every_step_as_expected() {
    let output = Command::new(crate::binary()).args(["demo", "--json"]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(results.iter().all(|result| result["ok"] == true), "{text}");
    let steps: BTreeSet<_> = results.iter().map(|result| result["step"].as_str().unwrap().to_owned()).collect();
    let numbered = |letter: char, numbers: RangeInclusive<u32>| numbers.map(move |number| format!("{letter}{number}"));
    let story =
        numbered('A', 1..=10).chain(numbered('S', 0..=6)).chain(numbered('X', 1..=20)).chain(numbered('C', 0..=7));
    assert_eq!(steps, story.collect(), "{text}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_demo_that_is_stopped_in_the_middle_is_no_success() {
    let mut command = Command::new(crate::binary());
    let mut demo = command.args(["demo", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(demo.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("\"ok\":true"), "{first}");
    let sent = Command::new("kill").arg("-INT").arg(demo.id().to_string()).status().unwrap();
    assert!(sent.success());
    let output = demo.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains("stopped before all was tried"), "{output:?}");
}
