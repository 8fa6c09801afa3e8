//! The dashboard of `deploy/grafana-dashboard.json`: Prometheus reads its queries, and what they ask for there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::alerts::promtool;
use crate::names::{metrics, unknown_metrics};
use crate::{none_wrong, pattern, root};

const DASHBOARD: &str = "deploy/grafana-dashboard.json";

/// What Prometheus adds to each series, and what a histogram has.
const EVERYWHERE: [&str; 3] = ["job", "instance", "le"];

/// Every query of a dashboard, with what Grafana puts in place of its variables.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(root().join(DASHBOARD)).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let asked = targets.chain(dashboard["annotations"]["list"].as_array().unwrap().iter().cloned());
    let filled = |query: &str| query.replace("$__rate_interval", "4m").replace("$job", ".+").replace("$instance", ".+");
    let queries: Vec<_> = asked.map(|target| filled(target["expr"].as_str().unwrap())).collect();
    assert!(queries.len() > 40, "{queries:?}");
    queries
}

#[test]
fn prometheus_reads_the_queries_of_the_dashboard() {
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (index, query) in queries().iter().enumerate() {
        rules += &format!("  - record: query:{index}\n    expr: {}\n", Value::from(query.as_str()));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", Path::to_str(&file).unwrap()]);
}

#[test]
fn the_dashboard_asks_for_metrics_and_labels_that_there_are() {
    let text = queries().join("\n");
    assert_eq!(unknown_metrics(&text, &metrics()), BTreeSet::new());
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let named = pattern("`([a-z_]+)`");
    let known: BTreeSet<_> = named.captures_iter(&page).map(|found| found[1].to_owned()).collect();
    let asked = pattern(r"(?:by|on) \(([^)]*)\)|([a-z_]+)(?:=~|!=|=)");
    let labels = asked.captures_iter(&text).flat_map(|found| {
        let list = found.get(1).or(found.get(2)).unwrap().as_str();
        list.split(", ").map(str::to_owned).collect::<Vec<_>>()
    });
    let is_known = |label: &String| {
        let of_both = label.strip_prefix("source").or(label.strip_prefix("destination"));
        known.contains(label)
            || EVERYWHERE.contains(&label.as_str())
            || of_both.is_some_and(|rest| page.contains(&format!("`...{rest}`")))
    };
    let unknown: BTreeSet<_> = labels.filter(|label| !is_known(label)).collect();
    none_wrong(&unknown.iter().map(|label| format!("{label}: no such label in docs/metrics.md")).collect::<Vec<_>>());
}
