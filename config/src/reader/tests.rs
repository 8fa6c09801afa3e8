use proptest::prelude::*;

use super::*;

const SEED: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, labels: {x: \"y\"}}
spec:
  selector: {matchLabels: {app: backend}}
  rules: [{to: [{operation: {ports: [\"80\"], paths: [/a*]}}], when: [{key: source.ip, values: [10.0.0.0/8]}]}]
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {}, status: {podIP: 10.0.0.2}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: e}
addressType: IPv4
endpoints: [{addresses: [10.0.0.2]}]
";

fn read_text(text: &str) -> FileReading {
    read(Path::new("a.yaml"), text, &mut Documents::new("istio-system"))
}

#[test]
fn documents_around_a_broken_one_are_read() {
    let reading = read_text(&format!("{SEED}---\n{{[\n---\n{}", SEED.replace("name: a,", "name: b,")));
    assert_eq!(reading.found.iter().filter(|found| found.outcome.is_ok()).count(), 8);
    assert_eq!(reading.problems.len(), 1);
    assert!(reading.unnamed);
}

#[test]
fn namespaces_default_where_there_are_any() {
    let reading = read_text(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: n, namespace: x}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: s}\n",
    );
    let keys: Vec<_> = reading.found.iter().map(|found| found.key.to_string()).collect();
    assert_eq!(keys, ["Namespace n", "ServiceAccount default/s"]);
}

#[test]
fn a_list_with_a_thousand_broken_items_is_bounded() {
    let item = "- {apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: x}]}}\n";
    let text = format!("apiVersion: v1\nkind: List\nitems:\n{}", item.repeat(5_000));
    let reading = read_text(&text);
    assert_eq!(reading.found.len(), 5_000);
    assert!(reading.found.iter().all(|found| found.outcome.is_err()));
}

#[test]
fn a_bomb_refuses_its_object() {
    let laughs: String =
        (1..12).map(|i| format!("  a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","))).collect();
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec:\n  a0: &a0 [lol]\n{laughs}  ports: [{{port: 80}}]\n"
    );
    let reading = read_text(&text);
    let broken = reading.found[0].outcome.as_ref().unwrap_err();
    assert!(broken.problems[0].message.contains("limit exceeded") || broken.problems[0].message.contains("expand"));
}

proptest! {
    #[test]
    fn never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_text(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn never_panics_on_damaged_documents(
        edits in proptest::collection::vec((0..SEED.len(), 0usize..20, "[-\\[\\]{}:,&*!|>'\"#%@`?~ \n\ta-z0-9]{0,4}"), 1..6)
    ) {
        let mut bytes = SEED.as_bytes().to_vec();
        for (at, length, with) in edits {
            let at = at.min(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, with.into_bytes());
        }
        read_text(&String::from_utf8_lossy(&bytes));
    }
}
