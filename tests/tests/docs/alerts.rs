//! The alerts of `deploy/prometheus-rules.yaml`: Prometheus reads them, they fire when they should, their metrics exist, and the runbook says
//! of each what then.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::Command;

use crate::markdown::pages;
use crate::names::{metrics, unknown_metrics};
use crate::{none_wrong, pattern, root};

const RULES: &str = "deploy/prometheus-rules.yaml";

/// Evaluated every minute, and every half hour.
const TESTS: [&str; 2] = ["tests/tests/docs/alerts.yaml", "tests/tests/docs/alerts-by-day.yaml"];

fn rules() -> String {
    fs::read_to_string(root().join(RULES)).unwrap()
}

/// The names of the alerts.
fn alerts(text: &str) -> BTreeSet<String> {
    let name = pattern(r"(?m)^\s*- alert: (\w+)$");
    name.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// Runs promtool; where there is none says so past the test harness.
///
/// # Panics
/// In CI, where nothing is left out.
pub(crate) fn promtool(arguments: &[&str]) {
    let output = match Command::new("promtool").args(arguments).current_dir(root()).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "promtool: {error}");
            let _ =
                std::io::stderr().write_all(format!("\n*** SKIPPED: promtool {arguments:?}: {error} ***\n").as_bytes());
            return;
        }
    };
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}

#[test]
fn prometheus_reads_the_alerts() {
    promtool(&["check", "rules", RULES]);
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    let tested = TESTS.map(|file| fs::read_to_string(root().join(file)).unwrap()).concat();
    let name = pattern(r"(?m)alertname: (\w+)");
    let tested: BTreeSet<_> = name.captures_iter(&tested).map(|found| found[1].to_owned()).collect();
    assert_eq!(tested, alerts(&rules()));
    promtool(&[&["test", "rules"], &TESTS[..]].concat());
}

#[test]
fn alerts_look_at_metrics_that_there_are() {
    let unknown = unknown_metrics(&rules(), &metrics());
    assert_eq!(unknown, BTreeSet::new());
}

#[test]
fn the_runbook_has_each_alert_and_no_other() {
    let pages = pages();
    let runbook = pages.iter().find(|page| page.path == "docs/runbook.md").unwrap();
    let is_alert = |title: &str| title.starts_with("Mesh") && title.chars().all(char::is_alphanumeric);
    let headings = runbook.prose().into_iter().filter_map(|(_, line)| line.strip_prefix("### "));
    let described: BTreeSet<_> = headings.filter(|title| is_alert(title)).map(str::to_owned).collect();
    assert_eq!(described, alerts(&rules()));
    let links = rules()
        .lines()
        .filter_map(|line| line.trim().strip_prefix("runbook_url: ").map(str::to_owned))
        .collect::<Vec<_>>();
    assert_eq!(links.len(), described.len(), "each alert has a runbook_url");
    let anchors = runbook.anchors();
    let lost = links.iter().filter(|link| !link.rsplit('#').next().is_some_and(|anchor| anchors.contains(anchor)));
    none_wrong(&lost.map(|link| format!("{link}: no such heading in docs/runbook.md")).collect::<Vec<_>>());
}
