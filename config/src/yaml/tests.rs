use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

fn first(text: &str) -> Document<'_> {
    documents(text)[0]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    #[allow(dead_code)]
    ports: Vec<u16>,
    #[allow(dead_code)]
    #[serde(default)]
    name: String,
}

#[test]
fn splits_at_markers_and_remembers_lines() {
    let lines = |text| documents(text).iter().map(|d| (d.first_line, d.line())).collect::<Vec<_>>();
    assert_eq!(lines("a: 1\n---\nb: 2\n"), [(1, 1), (2, 3)]);
    assert_eq!(lines("# licence\n\n---\na: 1\n"), [(1, 4)]);
    assert_eq!(lines("%YAML 1.1\n---\na: 1\n...\n---\nb: 2"), [(1, 3), (5, 6)]);
    assert_eq!(lines("---\n---\n# nothing\n--- # also\n---\r\na: 1\r\n---\r\n"), [(5, 6)]);
    assert_eq!(lines("a: |\n  ---\n  text\n --- \n---x\n"), [(1, 1)]);
    assert_eq!(lines("--- {a: 1}\n--- {b: 1}\n"), [(1, 1), (2, 2)]);
    assert_eq!(lines(""), []);
    assert_eq!(lines("\u{feff}# only a comment\n"), []);
}

#[test]
fn errors_carry_the_line_in_the_file_and_the_field() {
    let text = "a: 1\n---\nname: x\nports:\n- 80\n- eighty\n";
    let error = documents(text)[1].parse::<Shape>().unwrap_err();
    assert_eq!(error.line, 6);
    assert_eq!(error.field.as_deref(), Some("ports[1]"));
    assert_eq!(error.message, "invalid type: string \"eighty\", expected a whole number from 0 to 65535");
}

#[test]
fn unknown_fields_are_named_and_a_near_one_is_suggested() {
    let error = first("name: x\nprots: []\n").parse::<Shape>().unwrap_err();
    assert_eq!((error.line, error.field.as_deref()), (2, Some("prots")));
    assert_eq!(error.message, "unknown field `prots`, expected `ports` or `name` (did you mean `ports`?)");
}

#[test]
fn positions_inside_a_message_are_the_files_too() {
    let error = documents("x: 1\n---\na:\n  b: [1,\n  c: 2\n")[1].check().unwrap_err();
    assert!(!error.message.contains("column"), "{}", error.message);
    assert!(error.message.contains("that starts at line 4"), "{}", error.message);
}

#[test]
fn control_characters_are_found_on_their_line() {
    let error = first("a: b\nc: d\ne: \u{1}f\n").parse::<Shape>().unwrap_err();
    assert_eq!((error.line, error.message.as_str()), (3, "control characters are not allowed"));
}

#[test]
fn marker_after_a_lone_carriage_return_is_refused() {
    assert!(first("ports: [1]\r---\rports: [2]").parse::<Shape>().is_err());
}

#[test]
fn locates_paths_and_falls_back_to_parents() {
    let text = "x: 1\n---\nspec:\n  # why\n  rules:\n  - from: []\n  - to:\n    - operation:\n        ports: [\"80\",\n                \"81x\"]\n  labels: {a.b: c}\n  same: &s\n    k: v\n  alias: *s\n";
    let document = documents(text)[1];
    for (path, line) in [
        ("spec", 3),
        ("spec.rules", 5),
        ("spec.rules[0]", 6),
        ("spec.rules[1]", 7),
        ("spec.rules[1].to[0].operation", 8),
        ("spec.rules[1].to[0].operation.ports", 9),
        ("spec.rules[1].to[0].operation.ports[1]", 10),
        ("spec.rules[1].to[0].operation.paths[1]", 8),
        ("spec.rules[7].to", 5),
        ("spec.labels.a.b", 11),
        ("spec.labels[a.b]", 11),
        ("spec.alias.k", 13),
        ("status", 3),
        ("", 3),
    ] {
        assert_eq!(document.locate(path), line, "{path}");
    }
}

#[test]
fn locates_in_json() {
    let text = "{\n\t\"spec\": {\n\t\t\"rules\": [\n\t\t\t{},\n\t\t\t{\"to\": 1}\n\t\t]\n\t}\n}\n";
    assert_eq!(first(text).locate("spec.rules[1].to"), 5);
}

#[test]
fn reads_a_part() {
    let text = "spec:\n  selector:\n    matchLabels: {app: backend}\nitems: [{a: {b: 1}}]\n";
    let labels: Option<BTreeMap<String, String>> = first(text).parse_at("spec.selector.matchLabels").unwrap();
    assert_eq!(labels.unwrap()["app"], "backend");
    assert_eq!(first(text).parse_at::<u8>("items[0].a.b").unwrap(), Some(1));
    assert_eq!(first(text).parse_at::<u8>("items[1].a.b").unwrap(), None);
    assert_eq!(first(text).parse_at::<u8>("spec.none").unwrap(), None);
}

#[test]
fn reads_items_in_one_pass_and_names_the_broken_one() {
    let document = first("items:\n- 1\n- two\n- 3\n");
    let seed_of = |skip| move |index| (index != skip).then_some(PhantomData::<u8>);
    let (index, error) = document.parse_items(seed_of(9)).unwrap_err();
    assert_eq!((index, error.line), (1, 3));
    assert_eq!(document.parse_items(seed_of(1)).unwrap(), [Some(1), None, Some(3)]);
}

#[test]
fn refuses_what_is_ambiguous() {
    for (text, line, message) in [
        ("a: 1\nb: {c: 1,\n c: 2}\n", 3, "the key `c` is given twice"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n", 3, "merge keys (<<) are not read; write the fields out"),
        ("a: 1\nb: !secret x\n", 2, "invalid type: enum, expected a value without a YAML tag"),
        ("? [a]\n: b\n", 1, "invalid type: list, expected a key that is a string"),
    ] {
        let error = first(text).check().unwrap_err();
        assert_eq!((error.line, error.message.as_str()), (line, message), "{text}");
    }
}

#[test]
fn an_empty_value_below_spec_is_refused_where_asked() {
    let text = "metadata: {creationTimestamp: null}\nspec:\n  rules:\n  - from:\n    to: []\n";
    let error = first(text).parse_seed(NoNulls::new()).unwrap_err();
    assert_eq!((error.line, error.field.as_deref()), (4, Some("spec.rules[0].from")));
    assert_eq!(first(text).check(), Ok(()));
}

#[test]
fn bombs_are_bounded() {
    let mut laughs = String::from("a0: &a0 [lol]\n");
    for i in 1..12 {
        let previous = format!("*a{}", i - 1);
        laughs.push_str(&format!("a{i}: &a{i} [{}]\n", vec![previous; 10].join(",")));
    }
    let many = vec!["x"; 100_000].join(",");
    let quadratic = format!("a: &a [{many}]\nb: [{}]\n", vec!["*a"; 100_000].join(","));
    for bomb in [laughs, quadratic, "[".repeat(4 << 20), "{a: ".repeat(1 << 20), format!("a: {}1", "- ".repeat(200))] {
        let started = SystemTime::now();
        let error = first(&bomb).check().unwrap_err();
        assert!(started.elapsed().unwrap() < Duration::from_secs(10), "{error:?}");
    }
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    assert_eq!(first(&deep).check().unwrap_err().message, "recursion limit exceeded");
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC*", path in "\\PC{0,20}") {
        for document in documents(&text) {
            let _ = document.check();
            let _ = document.parse::<Shape>();
            let _ = document.locate(&path);
        }
    }

    #[test]
    fn never_panics_on_what_looks_like_yaml(text in "[-a:?&* \\[\\]{},|>'\"#%.!~\n\t\r\u{85}0]{0,60}") {
        for document in documents(&text) {
            let _ = document.check();
            let _ = document.parse::<Shape>();
            let _ = document.locate("a[0].a");
            let _ = document.parse_items(|_| Some(PhantomData::<String>));
        }
    }

    #[test]
    fn every_line_with_content_is_in_one_document(text in "(a: 1\n|---\n|\\.\\.\\.\n|# c\n|\n|%Y\n){0,20}") {
        let inside: usize = documents(&text).iter().map(|d| d.text.matches("a: 1").count()).sum();
        prop_assert_eq!(inside, text.matches("a: 1").count());
    }
}
