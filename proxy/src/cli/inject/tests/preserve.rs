//! Nothing but ours is changed, however a manifest is written.

use serde_json::Value;

use super::*;

const METADATA: [&str; 7] = [
    "",
    "metadata: {name: p}\n",
    "metadata:\n  name: p   # the name\n",
    "metadata:\n  annotations:\n    # a note\n    note: \"0644\"\n  name: p\n",
    "metadata:\n  name: p\n  annotations: {}\n",
    "metadata:\n  name: p\n  annotations:\n  labels:\n    on: yes\n",
    "metadata: {\"name\": p, \"annotations\": {note: 0644}, labels: {app: p, }}\n",
];

const CONTAINERS: [&str; 6] = [
    "  containers:\n  - name: app\n    image: app\n",
    "  # all of them\n  containers: # really\n    # the first\n    - image: app\n      name: app\n      args: [0644, 0o17, yes, ~, 1e3, .5, 0x1F, 2001-01-01]\n",
    "  containers:\n  -\n    name: app\n    command:\n    - |\n      # text\n      a: b\n\n    - >-\n      folded\n      text\n  # after\n  - {name: other, image: \"é😀\"}\n",
    "  containers: [{name: app, image: app}]\n",
    "  containers: [\n    {name: app},\n    {name: other}\n  ]\n",
    "  containers: &all\n  - name: app\n    env: &env\n    - name: a\n      value: \"1\\n2\"\n  - name: other\n    env: *env\n",
];

const VOLUMES: [&str; 6] = [
    "",
    "  volumes:\n",
    "  volumes: []\n",
    "  volumes:\n  - name: data\n    configMap: {name: x, defaultMode: 0644}\n",
    "  volumes:\n      - name: data\n        hostPath: {path: /x}\n\n      # last\n      - emptyDir: {}\n        name: tmp\n",
    "  volumes: [{name: data, emptyDir: {}}]\n",
];

const INIT: [&str; 3] = [
    "",
    "  initContainers:\n  - name: first\n    command: [\"sh\", \"-c\", 'echo \"hi\" # no']\n",
    "  initContainers: [ ]\n",
];

const ARGUMENTS: [&[&str]; 3] = [&[], &["--native-sidecar"], &["--labels", "literal"]];

/// Every way of writing the metadata with every one of writing the containers, and of the rest each with some of both.
fn corpus() -> Vec<String> {
    let mut all = Vec::new();
    for (row, metadata) in METADATA.iter().enumerate() {
        for (column, containers) in CONTAINERS.iter().enumerate() {
            for (more, volumes) in VOLUMES.iter().enumerate().skip((row + column) % 3).step_by(3) {
                let init = INIT[(row + column + more / 3) % INIT.len()];
                let head = "# head\napiVersion: v1\nkind: Pod\n";
                all.push([head, metadata, "spec:\n  serviceAccountName: p\n", init, containers, volumes].concat());
                all.push([head, "spec:\n", volumes, containers, init, "  serviceAccountName: p\n", metadata].concat());
            }
        }
    }
    all
}

fn json(text: &str) -> Value {
    Sheet::new(text, 1, Path::new("")).unwrap().parse(Path::new("")).unwrap()
}

/// Leaves out what is ours by its name, and what is empty: written apart from what the command itself is proven by.
fn without_ours(value: &mut Value) {
    let is_ours = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("meshgate-"));
    let is_empty = |value: &Value| {
        value.is_null()
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty)
    };
    match value {
        Value::Array(items) => {
            items.retain(|item| !item.get("name").is_some_and(is_ours));
            items.iter_mut().for_each(without_ours);
        }
        Value::Object(entries) => {
            entries
                .retain(|key, _| !key.starts_with("meshgate.io/") && key != "kubectl.kubernetes.io/default-container");
            entries.values_mut().for_each(without_ours);
            entries.retain(|_, value| !is_empty(value));
        }
        _ => {}
    }
}

/// Lines of `kept` in `text`, in this order: nothing is lost, nothing is moved.
fn keeps_lines(text: &str, kept: &str) -> bool {
    let mut lines = text.lines();
    kept.lines().all(|line| lines.by_ref().any(|other| other == line))
}

#[test]
fn every_value_is_what_it_was_and_injecting_again_changes_no_byte() {
    for (index, source) in corpus().iter().enumerate() {
        let arguments = ARGUMENTS[index % ARGUMENTS.len()];
        let text = injected(arguments, source);
        let (mut before, mut after) = (json(source), json(&text));
        assert!(after["spec"]["initContainers"][0]["name"] == "meshgate-init", "{text}");
        without_ours(&mut before);
        without_ours(&mut after);
        assert_eq!(after, before, "{source}\n{text}");
        assert_eq!(injected(arguments, &text), text, "{source}");
    }
}

#[test]
fn taking_out_gives_back_what_was() {
    for source in corpus() {
        let text = injected(&[], &source);
        let back = injected(&["--uninject"], &text);
        let (mut before, mut after) = (json(&source), json(&back));
        assert!(!back.contains("meshgate"), "{back}");
        without_ours(&mut before);
        without_ours(&mut after);
        assert_eq!(after, before, "{source}\n{back}");
        // What was there and empty goes with what was put into it; all else comes back to the byte.
        let had_empty =
            ["annotations:\n  l", "annotations:\ns", "annotations: {}", "volumes:\n  s", "volumes: []", "[ ]"];
        let ends_empty = source.trim_end().ends_with(':')
            || ["volumes:\n  c", "volumes:\n  #"].iter().any(|empty| source.contains(empty));
        if !ends_empty && !had_empty.iter().any(|empty| source.contains(empty)) {
            assert_eq!(back, source);
        }
    }
}

#[test]
fn block_text_keeps_every_line() {
    for source in corpus().iter().filter(|source| !source.contains(['[', '{']) && !source.contains("s:\n  l")) {
        let text = injected(&[], source);
        assert!(keeps_lines(&text, source), "{source}\n{text}");
    }
}

#[test]
fn line_breaks_of_windows_stay() {
    for source in corpus().iter().step_by(9) {
        let source = source.replace('\n', "\r\n");
        let text = injected(&[], &source);
        assert!(!text.replace("\r\n", "").contains('\n'), "{text:?}");
        assert_eq!(injected(&[], &text), text);
    }
}
