//! `meshgate check`.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{deny_all_and_allow, folder, meshgate};
use crate::support::backend::{deny_path, policy};

/// Of one policy that is good.
const NONE: &str = "no problems: 1 object in 1 file\n";

#[test]
fn check_is_content_with_good_resources() {
    let dir = folder(&policy("allow-get", "{rules: [{to: [{operation: {methods: [GET]}}]}]}"));
    for place in [&["--resources", "."][..], &["."], &["policy.yaml"]] {
        assert_eq!(meshgate(dir.path(), &[&["check"], place].concat()), (0, NONE.into(), String::new()), "{place:?}");
    }
    let (status, json, _) = meshgate(dir.path(), &["check", "--resources", ".", "--strict", "--output", "json"]);
    let expected = serde_json::json!({ "problems": [], "errors": 0, "warnings": 0, "files": 1, "objects": 1 });
    assert_eq!((status, serde_json::from_str::<Value>(&json).unwrap()), (0, expected));
}

#[test]
fn check_fails_on_warnings_only_where_asked_to() {
    let dir = folder(&deny_all_and_allow());
    let (status, text, _) = meshgate(dir.path(), &["check", "--resources", "."]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("policy.yaml:") && text.contains("default/allow-get: MG001: "), "{text}");
    let (status, strict, _) = meshgate(dir.path(), &["check", "--resources", ".", "--strict"]);
    assert_eq!((status, strict), (1, text));
}

#[test]
fn check_names_the_place_of_each_error() {
    let dir = folder(&deny_path("/a").replace("action", "actoin"));
    for strict in [&[][..], &["--strict"]] {
        let arguments = [&["check", "--resources", "."], strict].concat();
        let (status, text, _) = meshgate(dir.path(), &arguments);
        assert_eq!(status, 2, "{text}");
        assert!(text.contains("policy.yaml:4:"), "{text}");
        assert!(text.contains(": error: AuthorizationPolicy default/deny-path: spec"), "{text}");
        let shown: Vec<_> = text.lines().filter(|line| line.starts_with("  ")).collect();
        let [source, mark] = shown[..] else { panic!("{text}") };
        assert_eq!(mark.find("^^^^^^"), source.find("actoin"), "{text}");
        assert!(text.ends_with("\n1 error: 1 object in 1 file\n"), "{text}");
    }
    let (status, json, _) = meshgate(dir.path(), &["check", "--resources", ".", "--output", "json"]);
    let problem = &serde_json::from_str::<Value>(&json).unwrap()["problems"][0];
    assert_eq!(status, 2);
    assert_eq!(
        (&problem["severity"], &problem["line"], &problem["object"]),
        (&"error".into(), &4.into(), &"AuthorizationPolicy default/deny-path".into()),
        "{problem}"
    );
    assert!(problem["message"].as_str().unwrap().contains("`actoin`"), "{problem}");
    let line = fs::read_to_string(dir.path().join("policy.yaml")).unwrap().lines().nth(3).unwrap().to_owned();
    assert_eq!(problem["column"], line.find("actoin").unwrap() + 1, "{problem}");
}

#[test]
fn check_of_nothing_says_that_there_was_nothing() {
    let dir = TempDir::new().unwrap();
    let (status, text, errors) = meshgate(dir.path(), &["check", "."]);
    assert_eq!((status, text.as_str()), (0, "no problems: 0 objects in 0 files\n"));
    assert!(errors.starts_with("hint: there was nothing to check"), "{errors}");
}

#[test]
fn what_a_file_holds_cannot_forge_lines_of_the_report() {
    let dir = folder(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {\u{85}x: \t1}\n",
    );
    let (status, text, _) = meshgate(dir.path(), &["check", "."]);
    assert_eq!(status, 2, "{text}");
    assert!(!text.contains(['\u{85}', '\t']), "{text:?}");
}

#[test]
fn check_of_a_folder_that_is_not_there_is_an_error() {
    let dir = TempDir::new().unwrap();
    let (status, text, errors) = meshgate(dir.path(), &["check", "--resources", "nowhere"]);
    assert_eq!(status, 2, "{text}{errors}");
    assert!(format!("{text}{errors}").contains("nowhere"), "{text}{errors}");
}

#[test]
fn check_and_explain_want_to_be_told_where_to_look() {
    let dir = TempDir::new().unwrap();
    for command in ["check", "explain"] {
        let (status, text, errors) = meshgate(dir.path(), &[command]);
        assert_eq!((status, text.as_str()), (2, ""));
        assert!(errors.contains("--resources") && errors.contains("--bootstrap"), "{errors}");
    }
}

#[test]
fn check_leaves_out_what_is_allowed_on_the_command_line() {
    let dir = folder(&deny_all_and_allow());
    let allow = ["check", "--resources", ".", "--deny-warnings", "--allow", "MG005", "--allow", "MG001"];
    let none = "no problems: 2 objects in 1 file\n";
    assert_eq!(meshgate(dir.path(), &allow), (0, none.into(), String::new()));
    let unknown = ["check", "--resources", ".", "--strict", "--allow", "MG999", "--allow", "MG001"];
    let (status, text, _) = meshgate(dir.path(), &unknown);
    assert_eq!(
        (status, text.as_str()),
        (
            1,
            "--allow: warning: `MG999` is not the code of a finding: see `meshgate check --list`\n\
            1 warning: 2 objects in 1 file\n"
        )
    );
}

#[test]
fn check_leaves_out_what_an_object_says_is_meant() {
    let annotated = |codes: &str| {
        let yaml = deny_all_and_allow();
        folder(&yaml.replace(
            "{name: allow-get,",
            &format!("{{name: allow-get, annotations: {{meshgate.io/allow: '{codes}'}},"),
        ))
    };
    let strict = ["check", "--resources", ".", "--strict"];
    let none = "no problems: 2 objects in 1 file\n";
    assert_eq!(meshgate(annotated("MG001").path(), &strict), (0, none.into(), String::new()));
    let (status, text, _) = meshgate(annotated("MG002").path(), &strict);
    assert!(status == 1 && text.contains("MG001"), "{text}");
    let (status, text, _) = meshgate(annotated("mg001, MG001").path(), &strict);
    assert!(
        status == 1 && text.contains("`mg001` is not the code of a finding") && !text.contains("never lets"),
        "{text}"
    );
}

#[test]
fn an_error_cannot_be_allowed() {
    let yaml = deny_path("/a").replace("action", "actoin");
    let dir = folder(&yaml.replace("{name: deny-path,", "{name: deny-path, annotations: {meshgate.io/allow: MG001},"));
    let (status, text, _) = meshgate(dir.path(), &["check", "--resources", ".", "--allow", "MG001"]);
    assert!(status == 2 && text.contains("`actoin`"), "{text}");
}

#[test]
fn check_lists_the_codes() {
    let dir = TempDir::new().unwrap();
    let (status, text, _) = meshgate(dir.path(), &["check", "--list"]);
    assert!(status == 0 && text.lines().next().unwrap().starts_with("MG001  "), "{text}");
    let (status, json, _) = meshgate(dir.path(), &["check", "--list", "--output", "json"]);
    let listed = serde_json::from_str::<Value>(&json).unwrap();
    assert_eq!((status, listed["lints"].as_array().unwrap().len()), (0, text.lines().count()));
}

#[test]
fn check_answers_code_scanning() {
    let broken = policy("broken", "{actoin: DENY}");
    let dir = folder(&[deny_all_and_allow(), broken].join("---\n"));
    let (status, json, _) = meshgate(dir.path(), &["check", "--resources", ".", "--output", "sarif"]);
    assert_eq!(status, 2);
    let sarif: Value = serde_json::from_str(&json).unwrap();
    let run = &sarif["runs"][0];
    let known: Vec<_> = run["tool"]["driver"]["rules"].as_array().unwrap().iter().map(|rule| &rule["id"]).collect();
    let results = run["results"].as_array().unwrap();
    let found: Vec<_> = results.iter().map(|result| (&result["ruleId"], &result["level"])).collect();
    assert_eq!(found, [(&"MG001".into(), &"warning".into()), (&"error".into(), &"error".into())], "{sarif:#}");
    assert!(results.iter().all(|result| known.contains(&&result["ruleId"])));
    let place = &results[1]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "./policy.yaml");
    assert!(place["region"]["startLine"].as_u64().unwrap() > 1, "{sarif:#}");
}

#[test]
fn check_passes_over_policy_tests_beside_the_policies() {
    let dir = folder(&policy("allow-get", "{rules: [{to: [{operation: {methods: [GET]}}]}]}"));
    let test = "apiVersion: test.meshgate.io/v1\nkind: PolicyTest\nmetadata: {name: t}\nspec: {cases: []}\n";
    fs::write(dir.path().join("policy-test.yaml"), test).unwrap();
    assert_eq!(
        meshgate(dir.path(), &["check", "--resources", ".", "--strict"]).1.split(':').next(),
        Some("no problems")
    );
}
