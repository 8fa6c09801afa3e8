//! The product's main job, as the demo runs it.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn demo_reports_every_step_as_expected() {
    let output = Command::new(crate::binary()).args(["demo", "--json"]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(results.iter().all(|result| result["ok"] == true), "{text}");
    let steps: BTreeSet<_> = results.iter().map(|result| result["step"].as_str().unwrap()).collect();
    let first = ["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10"];
    let second = ["C0", "C1", "C2", "C3", "C4", "C5", "C6", "C7"];
    assert_eq!(steps, first.into_iter().chain(second).collect(), "{text}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
