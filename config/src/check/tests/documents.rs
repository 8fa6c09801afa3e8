//! What an API server would not take, written by hand: each said with file and line, and in words that help.

use std::time::{Duration, SystemTime};

use super::checked;
use crate::check::check;
use crate::testing::{Folder, backend, settings};

const POLICY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\n";
const PEER: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: p\n";
const IN_OPERATION: &str = "spec:\n  rules:\n  - to:\n    - operation:\n        ";

/// What is said of a file with this text.
fn said(text: &str) -> Vec<String> {
    checked(&[("p.yaml", text)])
}

#[track_caller]
fn says(text: &str, expected: &str) {
    assert_eq!(said(text), [expected], "{text}");
}

#[test]
fn a_number_where_a_string_belongs() {
    let at = "AuthorizationPolicy default/p: spec";
    let expected = "expected a string; put it in quotes";
    let operation = |field: &str| format!("{POLICY}{IN_OPERATION}{field}\n");
    for (field, name, what) in [
        ("ports: [80]", "ports[0]", "integer `80`"),
        ("ports: [\"80\", 0x50]", "ports[1]", "integer `80`"),
        ("methods: [GET, true]", "methods[1]", "boolean `true`"),
        ("hosts: [1.5]", "hosts[0]", "floating point `1.5`"),
    ] {
        says(
            &operation(field),
            &format!("p.yaml:9: {at}.rules[0].to[0].operation.{name}: invalid type: {what}, {expected}"),
        );
    }
    says(
        &format!("{POLICY}{IN_OPERATION}ports:\n        - \"80\"\n        # why\n        - 443\n"),
        &format!("p.yaml:12: {at}.rules[0].to[0].operation.ports[1]: invalid type: integer `443`, {expected}"),
    );
    says(
        &format!("{POLICY}spec:\n  selector:\n    matchLabels:\n      version: 1.10\n"),
        &format!("p.yaml:8: {at}.selector.matchLabels.version: invalid type: floating point `1.1`, {expected}"),
    );
    says(
        &format!("{POLICY}  annotations:\n    istio.io/dry-run: true\nspec: {{}}\n"),
        "p.yaml:6: AuthorizationPolicy default/p: metadata.annotations.istio.io/dry-run: invalid type: boolean `true`, \
         expected a string; put it in quotes",
    );
    says(
        &operation("ports: \"80\""),
        &format!("p.yaml:9: {at}.rules[0].to[0].operation.ports: invalid type: string \"80\", expected a list"),
    );
    for field in ["ports: [\"80\"]", "ports: ['80']", "ports: [!!str 80]", "paths: [/80]", "hosts: [1.2.3.4]"] {
        assert_eq!(said(&operation(field)), [""; 0], "{field}");
    }
    assert_eq!(
        said(&format!("{PEER}spec:\n  selector: {{matchLabels: {{a: b}}}}\n  portLevelMtls:\n    8080: {{}}\n")),
        [""; 0]
    );
}

#[test]
fn a_port_in_two_spellings() {
    let spec = "spec:\n  selector: {matchLabels: {a: b}}\n  portLevelMtls:\n    80: {mode: STRICT}\n";
    let at = "PeerAuthentication default/p: spec.portLevelMtls";
    says(
        &format!("{PEER}{spec}    \"80\": {{mode: DISABLE}}\n"),
        &format!("p.yaml:9: {at}: the key `80` is given twice"),
    );
    says(
        &format!("{PEER}{spec}    \"080\": {{mode: DISABLE}}\n"),
        &format!("p.yaml:8: {at}[80]: the port 80 is given twice"),
    );
}

#[test]
fn a_dry_run_of_what_cannot_be_tried_out() {
    let annotated = |document: &str| format!("{document}  annotations:\n    istio.io/dry-run: \"true\"\nspec: {{}}\n");
    assert_eq!(said(&annotated(POLICY)), [""; 0]);
    let tail = "metadata.annotations[istio.io/dry-run]: only an AuthorizationPolicy can be tried out: this";
    says(&annotated(PEER), &format!("p.yaml:6: PeerAuthentication default/p: {tail} PeerAuthentication is in force"));
    let entry = annotated(PEER)
        .replace("security", "networking")
        .replace("PeerAuthentication", "WorkloadEntry")
        .replace("{}", "{address: 10.0.0.1}");
    assert!(said(&entry)[0].ends_with(&format!("{tail} WorkloadEntry is in force")), "{:?}", said(&entry));
}

#[test]
fn a_name_that_cannot_be() {
    let named = |name: &str, namespace: &str| {
        said(&format!("{}  namespace: {namespace}\nspec: {{}}\n", POLICY.replace("name: p", &format!("name: {name}"))))
    };
    for name in ["A", "a_b", "a/b", "\"a b\"", "-a", "a-", "a..b", ".a", "\"a\\nb\"", &"a".repeat(254)] {
        let said = named(name, "default");
        assert!(said[0].starts_with("p.yaml:4: AuthorizationPolicy default/"), "{said:?}");
        assert!(said[0].contains(": metadata.name: "), "{said:?}");
        assert_eq!(said[0].lines().count(), 1, "{said:?}");
    }
    for namespace in ["Default", "a.b", "\"*\"", "a/b", &"a".repeat(64)] {
        let said = named("p", namespace);
        assert!(said[0].starts_with("p.yaml:5: metadata.namespace: "), "{said:?}");
    }
    for (name, namespace) in [("a", "a"), ("0", "0"), ("a.b-c.d", "istio-system"), (&"a".repeat(253), &"a".repeat(63))]
    {
        assert_eq!(named(name, namespace), [""; 0], "{namespace}/{name}");
    }
    assert_eq!(said(&format!("{POLICY}spec: {{}}\n")), [""; 0], "the namespace default");
    says(
        &format!("{}spec: {{}}\n", POLICY.replace("name: p", "generateName: p-")),
        "p.yaml:3: metadata.name: AuthorizationPolicy has no metadata.name",
    );
}

#[test]
fn a_selector_without_labels() {
    for selector in ["{}", "{matchLabels: {}}"] {
        for (document, code) in [(POLICY, "MG006"), (PEER, "MG017")] {
            let said = said(&format!("{document}spec: {{selector: {selector}}}\n"));
            assert!(said.len() == 1 && said[0].contains(code), "{said:?}");
        }
    }
    assert_eq!(said(&format!("{PEER}spec: {{}}\n")), [""; 0]);
    assert_eq!(said(&format!("{PEER}spec: {{selector: {{matchLabels: {{app: backend}}}}}}\n")), [""; 0]);
}

#[test]
fn yaml_that_is_not_what_it_seems() {
    let quotes = "(a value that begins with * must be in quotes)";
    for (field, line, end) in [
        ("paths: [/a, *]", 9, quotes),
        ("paths:\n        - *suffix", 10, quotes),
        ("methods:\n        - *", 10, quotes),
        ("\tpaths: []", 9, "(YAML is indented by spaces, not tabs; @ and ` must be in quotes)"),
        ("paths: [/a]\n        paths: [/b]", 10, "the key `paths` is given twice"),
        (
            "paths:",
            9,
            "has no value: give it one, or remove the field (an empty list is written [], an empty object {})",
        ),
        ("paths: [/a, ~]", 9, "(an empty list is written [], an empty object {})"),
        ("<<: {paths: [/a]}", 9, "merge keys (<<) are not read; write the fields out"),
        ("paths: !seq [/a]", 9, "expected a value without a YAML tag"),
        ("path: [/a]", 9, "(did you mean `paths`?)"),
    ] {
        let said = said(&format!("{POLICY}{IN_OPERATION}{field}\n"));
        assert_eq!(said.len(), 1, "{field}: {said:?}");
        assert!(said[0].starts_with(&format!("p.yaml:{line}: ")) && said[0].ends_with(end), "{field}: {said:?}");
    }
    let aliases = "spec:\n  rules:\n  - to: &to\n    - operation: {paths: [/a]}\n  - to: *to\n";
    assert_eq!(said(&format!("{POLICY}{aliases}")), [""; 0]);
}

#[test]
fn lines_are_counted_in_any_text() {
    let wrong = format!("{POLICY}spec:\n  rulez: []\n");
    let start = "p.yaml:6: AuthorizationPolicy default/p: spec.rulez: unknown field `rulez`";
    for text in
        [wrong.replace('\n', "\r\n"), format!("\u{feff}{wrong}"), format!("\u{feff}{wrong}").replace('\n', "\r\n")]
    {
        let said = said(&text);
        assert!(said.len() == 1 && said[0].starts_with(start), "{said:?}");
    }
    let joined = format!("{POLICY}spec: {{}}\n---\n\u{feff}{}spec: {{}}\n", POLICY.replace("name: p", "name: q"));
    says(&joined, "p.yaml:7: a byte order mark (U+FEFF) stands here; only a file may begin with one");
    let hidden = format!("{POLICY}spec: {{}}\n\u{feff}---\n{}", POLICY.replace("name: p", "name: q"));
    says(&hidden, "p.yaml:6: a byte order mark (U+FEFF) stands here; only a file may begin with one");
    let folder = Folder::new(&[]);
    std::fs::write(folder.path("p.yaml"), [POLICY.as_bytes(), b"spec: {} # caf\xe9\n"].concat()).unwrap();
    let found =
        check(&folder.resources(), &settings(), Some(&crate::check::Own { workload: backend(), ..Default::default() }));
    let expected = "p.yaml:5: is not text in UTF-8: line 5 has a byte that does not belong";
    assert_eq!(folder.shown(&found), [expected]);
}

#[test]
fn very_many_and_very_deep_documents_end_soon() {
    let many: String = (0..20_000)
        .map(|n| format!("---\n{}spec: {{}}\n", POLICY.replace("name: p", &format!("name: p{n}"))))
        .collect();
    let deep: String = (1..1_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let started = SystemTime::now();
    assert_eq!(said(&many), [""; 0]);
    assert_eq!(said(&"--- a\n".repeat(100_000)).len(), 100_000);
    for deep in
        [format!("spec:\n{deep}"), format!("spec: {}", "[".repeat(100_000)), format!("spec:\n{}", "- ".repeat(100_000))]
    {
        let said = said(&format!("{POLICY}{deep}"));
        assert!(said.len() == 1 && said[0].starts_with("p.yaml:"), "{said:?}");
    }
    let took = started.elapsed().unwrap();
    assert!(took < Duration::from_secs(60), "{took:?}");
}
