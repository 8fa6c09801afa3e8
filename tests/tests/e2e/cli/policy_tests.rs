//! `meshgate test`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{folder, meshgate};
use crate::support::backend::{deny_path, policy};

/// A test file with these cases, of the workload `default/app=backend`.
fn suite(cases: &str) -> String {
    format!(
        "apiVersion: test.meshgate.io/v1\nkind: PolicyTest\nmetadata: {{name: backend}}\nspec:\n  \
         workload: {{labels: {{app: backend}}}}\n  cases:\n{cases}"
    )
}

/// A folder with a policy against `/a` and a test.
fn tested(cases: &str) -> TempDir {
    let dir = folder(&deny_path("/a"));
    fs::write(dir.path().join("backend-test.yaml"), suite(cases)).unwrap();
    dir
}

const PASSES: &str = "  - {name: open, request: {path: /b}, expect: allow}\n";
const FAILS: &str = "  - name: closed\n    request: {path: //a}\n    expect: allow\n";

fn test(dir: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    meshgate(dir.path(), &[&["test"], arguments].concat())
}

#[test]
fn passes_beside_the_policies() {
    let dir = tested(PASSES);
    let (status, text, errors) = test(&dir, &[]);
    assert_eq!((status, errors.as_str()), (0, ""));
    assert_eq!(text, "backend (backend-test.yaml)\n  ok    open\n\n1 case in 1 test: 1 passed, 0 failed\n");
}

#[test]
fn a_case_that_fails_shows_where_it_stands_and_why() {
    let dir = tested(&[PASSES, FAILS].concat());
    let (status, text, errors) = test(&dir, &["backend-test.yaml"]);
    assert_eq!((status, errors.as_str()), (1, ""));
    for expected in [
        "  ok    open\n  FAIL  closed\n        backend-test.yaml:8: expected allow, got deny\n",
        "        deny: a rule of a DENY policy matched, default/deny-path rule 0 (deny_rule)\n",
        "        request: GET //a, which policies and application see as /a\n",
        "\n2 cases in 1 test: 1 passed, 1 failed\n",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
}

#[test]
fn expects_more_than_a_verdict() {
    let expect = |details: &str| {
        let dir = tested(&format!("  - {{name: n, request: {{path: /a}}, expect: {{{details}}}}}\n"));
        let (status, text, errors) = test(&dir, &[]);
        assert_eq!(errors, "", "{details}");
        (status, text)
    };
    let all = "verdict: deny, reason: deny_rule, policy: default/deny-path, rule: 0, status: 403";
    assert_eq!(expect(all).0, 0);
    for (details, differs) in [
        ("verdict: allow, rule: 1", "expected allow, got deny; expected rule 1, got 0"),
        ("verdict: 400", "expected 400, got deny"),
        ("reason: no_policy", "expected reason no_policy, got deny_rule"),
        ("policy: default/other", "expected policy default/other, got default/deny-path"),
        ("status: 401", "expected status 401, got 403"),
    ] {
        let (status, text) = expect(details);
        assert!(status == 1 && text.contains(differs), "{details}: {text}");
    }
}

#[test]
fn settings_defaults_and_resources_are_the_tests_own() {
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("mesh/more")).unwrap();
    fs::create_dir(dir.path().join("tests")).unwrap();
    let principal =
        "{rules: [{from: [{source: {principals: [old.example/ns/a/sa/b]}}], to: [{operation: {hosts: [h]}}]}]}";
    fs::write(dir.path().join("mesh/allow.yaml"), policy("allow", principal)).unwrap();
    fs::write(dir.path().join("mesh/more/deny.yaml"), policy("deny", "{action: DENY, rules: [{}]}")).unwrap();
    let yaml = "\
apiVersion: test.meshgate.io/v1
kind: PolicyTest
metadata: {name: one, labels: {team: a}}
spec:
  resources: ../mesh
  settings: {trustDomain: new.example, trustDomainAliases: [old.example], catchAllDeny: baseline, pathNormalization: NONE}
  defaults: {peer: new.example/ns/a/sa/b, host: h, path: //a}
  cases:
  - {name: alias, expect: allow}
  - {name: no host, request: {host: other}, expect: {verdict: deny, reason: catch_all_deny}}
  - {name: plaintext, request: {peer: plaintext}, expect: deny}
---
apiVersion: test.meshgate.io/v1
kind: PolicyTest
metadata: {name: two}
spec:
  resources: [../mesh/allow.yaml]
  cases: [{name: no alias, request: {peer: new.example/ns/a/sa/b, host: h}, expect: {verdict: deny, reason: no_allow_matched}}]
";
    fs::write(dir.path().join("tests/t.yaml"), yaml).unwrap();
    let (status, text, errors) = test(&dir, &["tests"]);
    assert_eq!(status, 0, "{text}{errors}");
    assert!(text.ends_with("4 cases in 2 tests: 4 passed, 0 failed\n"), "{text}");
    let (status, text, errors) = test(&dir, &["tests", "--resources", "nowhere"]);
    assert_eq!(status, 0, "a test that names its resources keeps them: {text}{errors}");
}

#[test]
fn resources_may_be_given_for_tests_that_name_none() {
    let policies = folder(&deny_path("/b"));
    let dir = tested(PASSES);
    let (status, text, _) = test(&dir, &["--resources", policies.path().to_str().unwrap()]);
    assert!(status == 1 && text.contains("expected allow, got deny"), "{text}");
}

#[test]
fn says_which_rules_no_case_matched() {
    let dir = tested(PASSES);
    fs::write(dir.path().join("other.yaml"), policy("p", "{selector: {matchLabels: {app: x}}, rules: [{}]}")).unwrap();
    let (status, text, _) = test(&dir, &["--coverage"]);
    let coverage = "coverage: 0 of 1 rules matched at least once\n  never matched: default/deny-path rule 0\n  \
                    selects the workload of no case: default/p\n";
    assert!(status == 0 && text.ends_with(coverage), "{text}");
    let (_, json, _) = test(&dir, &["--coverage", "--output", "json"]);
    let all: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(all["coverage"]["never_matched"], serde_json::json!(["default/deny-path rule 0"]));
    assert_eq!((&all["passed"], &all["failed"]), (&1.into(), &0.into()));
    assert_eq!(all["tests"][0]["cases"][0]["answer"]["verdict"], "allow");
}

/// What a real XML parser finds in a file: `name|classname|line|message` of each case.
fn cases_of(xml: &Path) -> Vec<String> {
    let script = "import sys, xml.etree.ElementTree as E\n\
        root = E.parse(sys.argv[1]).getroot()\n\
        assert root.tag == 'testsuites', root.tag\n\
        for suite in root:\n\
        \u{20}failed = [c for c in suite if c.find('failure') is not None]\n\
        \u{20}assert (int(suite.get('tests')), int(suite.get('failures'))) == (len(suite), len(failed))\n\
        \u{20}for c in suite:\n\
        \u{20} f = c.find('failure')\n\
        \u{20} float(c.get('time'))\n\
        \u{20} print(repr(c.get('name')), c.get('classname'), c.get('line'), None if f is None else f.get('message'), sep='|')\n";
    let output = Command::new("python3").args(["-c", script]).arg(xml).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn writes_xml_that_a_parser_reads() {
    let odd = "  - {name: \"<a> & 'b' \\\"c\\\" \\x01\\n]]>\", request: {path: /a, headers: {x: '<&>'}}, expect: {verdict: allow, reason: '<x>'}}\n";
    let dir = tested(&[PASSES, odd].concat());
    let (status, text, _) = test(&dir, &["--junit", "out.xml"]);
    assert!(status == 1 && text.starts_with("backend ("), "{text}");
    let found = cases_of(&dir.path().join("out.xml"));
    assert_eq!(found[0], "'open'|backend|None|None");
    let name = "'<a> & \\'b\\' \"c\" \u{fffd}\\n]]>'";
    assert_eq!(found[1], format!("{name}|backend|8|expected allow, got deny; expected reason <x>, got deny_rule"));
    let (status, xml, _) = test(&dir, &["--output", "junit"]);
    fs::write(dir.path().join("second.xml"), xml).unwrap();
    assert_eq!((status, cases_of(&dir.path().join("second.xml"))), (1, found));
    let (status, _, errors) = test(&dir, &["--junit", "no/such/folder.xml"]);
    assert!(status == 2 && errors.contains("no/such/folder.xml"), "{errors}");
}

#[test]
fn bad_input_is_named_with_file_and_line() {
    for (cases, expected) in [
        ("  - {name: n, expcet: allow}\n", "t.yaml:7: spec.cases[0].expcet: unknown field `expcet`"),
        ("  - {name: n}\n", "missing field `expect`"),
        ("  - {expect: allow}\n", "missing field `name`"),
        ("    []\n", "t.yaml:6: spec.cases: there is no case in it"),
        (
            "  - {name: n, expect: maybe}\n",
            "t.yaml:7: spec.cases[0].expect: `maybe` is no verdict: expected allow, deny or 400",
        ),
        ("  - {name: n, expect: {}}\n", "expects nothing"),
        ("  - {name: n, expect: {verdict: {reason: x}}}\n", "expected allow, deny or 400"),
        ("  - {name: n, expect: {polcy: x}}\n", "unknown field `polcy`"),
        (
            "  - name: n\n    request:\n      peer: x\n    expect: allow\n",
            "t.yaml:9: spec.cases[0].request.peer: `x`: no workload's identity",
        ),
        (
            "  - name: n\n    request:\n      protocol: tcp\n      path: /\n    expect: allow\n",
            "t.yaml:10: spec.cases[0].request.path: has no meaning with `protocol: tcp`",
        ),
        (
            "  - name: n\n    request:\n      path: /\n      workload: a/b\n    expect: allow\n",
            "t.yaml:10: spec.cases[0].request.workload: there is no Pod or WorkloadEntry a/b",
        ),
        (
            "  - name: n\n    request: {port: http}\n    expect: allow\n",
            "t.yaml:8: spec.cases[0].request.port: `http` is a name",
        ),
        ("  - &a [b\n", "t.yaml:"),
    ] {
        let dir = folder(&deny_path("/a"));
        fs::write(dir.path().join("t.yaml"), suite(cases)).unwrap();
        let (status, text, errors) = test(&dir, &[]);
        assert_eq!((status, text.as_str()), (2, ""), "{cases}: {errors}");
        assert!(errors.contains(expected), "{cases}: {errors}");
    }
}

#[test]
fn a_suite_that_is_not_found_does_not_pass() {
    let dir = folder(&deny_path("/a"));
    for (text, expected) in [
        ("", "there is no PolicyTest (test.meshgate.io/v1) in the files looked at"),
        (
            "apiVersion: test.meshgate.io/v2\nkind: PolicyTest\n",
            "t.yaml:1: apiVersion: `test.meshgate.io/v2` is not read",
        ),
        ("apiVersion: test.meshgate.io/v1\nkind: PolicyTests\n", "t.yaml:2: kind: `PolicyTests` is not a kind of"),
        ("apiVersion: test.meshgate.io/v1\nkind: PolicyTest\n: [\n", "t.yaml:3: "),
    ] {
        fs::write(dir.path().join("t.yaml"), text).unwrap();
        let (status, _, errors) = test(&dir, &[]);
        assert!(status == 2 && errors.contains(expected), "{text}: {errors}");
    }
    let (status, _, errors) = test(&dir, &["nowhere"]);
    assert!(status == 2 && errors.starts_with("error: nowhere: cannot be read"), "{errors}");
    fs::write(dir.path().join("t.yaml"), format!("{}#{}", suite(PASSES), "a".repeat(5 << 20))).unwrap();
    let (status, _, errors) = test(&dir, &[]);
    assert!(status == 2 && errors.contains("t.yaml: is larger than 4 MiB"), "{errors}");
}

#[test]
fn policies_that_cannot_be_read_stop_all() {
    let dir = tested(PASSES);
    fs::write(dir.path().join("broken.yaml"), deny_path("/b").replace("action", "actoin")).unwrap();
    let (status, text, errors) = test(&dir, &[]);
    assert_eq!((status, text.as_str()), (2, ""));
    assert!(
        errors.contains("broken.yaml:4: AuthorizationPolicy default/deny-path: spec") && errors.contains("`actoin`"),
        "{errors}"
    );
}

#[test]
fn many_cases_do_not_take_long_even_when_all_fail() {
    let cases: String =
        (0..500).map(|n| format!("  - {{name: case {n}, request: {{path: /a}}, expect: allow}}\n")).collect();
    let dir = tested(&cases);
    let (status, text, _) = test(&dir, &[]);
    assert_eq!(status, 1);
    assert!(text.contains(":506: ") && text.ends_with("500 cases in 1 test: 0 passed, 500 failed\n"));
}
