//! Cases, as `explain` and the admin endpoint are given them.

use std::sync::LazyLock;

use meshgate::case::Case;
use meshgate::judge::Judge;
use meshgate_config::offline::Resources;
use meshgate_config::{Snapshot, Surroundings};
use meshgate_policy::normalize::Level;

use super::policies::{settings, workload};

/// A mesh with every sort of policy that a case can meet.
const RESOURCES: &str = r#"
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: allow, namespace: default}, spec: {rules: [
  {from: [{source: {principals: ["cluster.local/ns/default/sa/*"]}}], to: [{operation: {methods: [GET], paths: ["/a*"]}}]},
  {when: [{key: "request.auth.claims[groups]", values: [admin]}]}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: deny, namespace: default}, spec: {action: DENY, rules: [
  {to: [{operation: {hosts: ["evil*"]}}]}, {when: [{key: "request.headers[x-a]", notValues: ["1"]}]}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: ask, namespace: default}, spec: {action: CUSTOM,
  provider: {name: sso}, rules: [{to: [{operation: {paths: ["/ask/*"]}}]}]}}
"#;

pub(crate) static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("all.yaml"), RESOURCES).expect("a file");
    let resources = Resources::read(folder.path(), &settings(), &Surroundings::alone("cluster.local"));
    assert!(resources.problems().is_empty(), "{:?}", resources.problems());
    resources.snapshot(workload())
});

/// A case, and after a line that is `---` one to lay it over: what is read is written as it can be read again, and has an answer.
pub fn case(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, defaults) = text.split_once("\n---\n").unwrap_or((text, "{}"));
    let (Ok(case), Ok(defaults)) = (read(text), read(defaults)) else { return };
    let over = case.clone().over(&defaults);
    for case in [case, over] {
        assert_eq!(written(&case.clone().over(&Case::default())), written(&case), "over nothing it is itself");
        assert_eq!(written(&case.clone().over(&case)), written(&case), "over itself it is itself");
        let judge = Judge { snapshot: &SNAPSHOT, workload: None, level: Level::MergeSlashes, trusted_proxies: 1 };
        let Ok(answer) = judge.judge(&case) else { continue };
        assert!(!answer.text(false).is_empty());
        let again = judge.judge(&read(&written(&case)).expect("as it was written")).expect("as before");
        assert_eq!(serde_json::to_string(&answer).ok(), serde_json::to_string(&again).ok());
    }
}

fn read(text: &str) -> serde_json::Result<Case> {
    serde_json::from_str(text)
}

fn written(case: &Case) -> String {
    let text = serde_json::to_string(case).expect("a case can be written");
    let again = read(&text).expect("and read again");
    assert_eq!(serde_json::to_string(&again).ok().as_deref(), Some(&*text));
    text
}
