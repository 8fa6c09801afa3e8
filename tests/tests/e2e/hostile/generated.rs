//! What was authorized is what the application sees: thousands of requests that nobody would write, one property.
//!
//! Each is sent to a real sidecar, over HTTP/1.1 and HTTP/2, at each level of path normalization. What the application
//! received is judged once more by [`view`], which is written from the description of Istio's semantics and shares no code
//! with the product. The verdicts must agree, the path and host in the access log must be those that were forwarded, and
//! what was refused must not have arrived.

mod calls;
mod exchange;
mod levels;
mod view;

use std::collections::BTreeMap;

use meshgate::sandbox::until;
use meshgate_tests::run;
use serde_json::Value;

use self::calls::{Call, Dice};
use self::exchange::{Caller, Outcome, Received, Recorder};
use self::view::Level;
use crate::support::mesh::{Mesh, Spec, policy};

/// Printed with every failure; another seed is another test.
const SEED: u64 = 0x6d65_7368_6761_7465;

/// For each level and each version of HTTP.
const CALLS: usize = 800;

#[test]
fn without_normalization() {
    check(Level::None);
}

#[test]
fn at_the_base_level() {
    check(Level::Base);
}

#[test]
fn with_slashes_merged() {
    check(Level::MergeSlashes);
}

#[test]
fn with_slashes_decoded_and_merged() {
    check(Level::DecodeAndMergeSlashes);
}

/// The policies that [`view::verdict`] evaluates in its own words.
fn policies() -> String {
    let deny = r#"[
      {to: [{operation: {paths: ["/admin*"]}}]},
      {to: [{operation: {paths: ["/t/{*}/x"]}}]},
      {to: [{operation: {hosts: ["secret.example", "secret.example:*"]}}]},
      {to: [{operation: {methods: ["DELETE"]}}]},
      {when: [{key: "request.headers[x-role]", values: ["admin"]}]},
      {when: [{key: "request.headers[:path]", values: ["*token=1"]}]},
      {when: [{key: "request.headers[cookie]", values: ["evil=1", "*; evil=1"]}]}]"#;
    let allow = r#"[{to: [{operation: {notPaths: ["/private*"]}}],
                     when: [{key: "request.headers[x-group]", notValues: ["guest"]}]}]"#;
    policy("deny", "DENY", deny) + &policy("allow", "ALLOW", allow)
}

fn check(level: Level) {
    run(async {
        let recorder = Recorder::start().await;
        let mut spec = Spec::of(&[recorder.address()]);
        spec.backend = format!("authorization: {{pathNormalization: {}}}\n", level.name());
        let mesh = Mesh::start(spec).await;
        mesh.policies(&policies()).await;
        let mut dice = Dice::new(SEED ^ level as u64);
        let mut tally: BTreeMap<(bool, Outcome), usize> = BTreeMap::new();
        let mut log = Vec::new();
        for http2 in [false, true] {
            let mut caller = Caller::new(mesh.backend().inbound(), http2);
            for number in 0..CALLS {
                let call = Call::thrown(&mut dice, format!("{}-{number}", if http2 { "h2" } else { "h1" }), http2);
                let outcome = caller.call(&call).await;
                let received = recorder.take();
                let what =
                    format!("seed {SEED:#x}, level {}, {call}: {outcome:?}, received {received:?}", level.name());
                judge(level, &call, outcome, &received, &what);
                *tally.entry((http2, outcome)).or_default() += 1;
                log.extend(received.into_iter().map(|received| (call.number.clone(), received, what.clone())));
            }
        }
        println!("seed {SEED:#x}, level {}: {tally:?}", level.name());
        // Not because nothing gets that far.
        for http2 in [false, true] {
            for outcome in [Outcome::Served, Outcome::Denied, Outcome::Refused] {
                let count = tally.get(&(http2, outcome)).copied().unwrap_or_default();
                assert!(count > CALLS / 20, "{outcome:?}: {count}: {tally:?}");
            }
        }
        logged_as_received(&mesh, &log).await;
    });
}

/// One request.
fn judge(level: Level, call: &Call, outcome: Outcome, received: &[Received], what: &str) {
    assert_eq!(received.len(), usize::from(outcome == Outcome::Served), "arrived or not: {what}");
    let expected = view::of(call, level);
    match (&expected, outcome) {
        (None, Outcome::Refused) => {}
        (None, _) => panic!("has no one reading, and was not refused: {what}"),
        (Some(_), Outcome::Refused) => assert!(view::may_be_refused(call, level), "refused for no reason: {what}"),
        (Some(seen), Outcome::Denied) => assert!(!view::allowed(seen), "denied, and no rule says so: {what}; {seen:?}"),
        (Some(seen), Outcome::Served) => {
            let Some(received) = received.first() else { unreachable!() };
            assert_eq!(received, seen, "what arrived is not what was sent, normalized: {what}");
            assert!(view::allowed(received), "what arrived is denied: {what}");
            let again = view::path(&received.target, level);
            assert_eq!(again.as_deref(), Some(&*received.target), "the application may read it once more: {what}");
        }
    }
}

async fn logged_as_received(mesh: &Mesh, expected: &[(String, Received, String)]) {
    let all = until("the access log", async || {
        let lines = mesh.backend().access_log();
        let served: BTreeMap<String, Value> = lines
            .into_iter()
            .filter(|line| line["verdict"] == "allow")
            .filter_map(|line| Some((line["request_id"].as_str()?.to_owned(), line)))
            .collect();
        (served.len() >= expected.len()).then_some(served)
    })
    .await
    .unwrap();
    assert_eq!(all.len(), expected.len(), "lines of requests that did not arrive");
    for (number, received, what) in expected {
        let line = &all[number];
        assert_eq!(line["path"].as_str().unwrap().as_bytes(), received.target, "{what}");
        assert_eq!(line["authority"].as_str().unwrap().as_bytes(), received.host, "{what}");
        assert_eq!(line["method"].as_str().unwrap().as_bytes(), received.method, "{what}");
    }
}
