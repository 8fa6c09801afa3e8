//! `meshgate explain`, by the resources of a folder.

use serde_json::Value;

use super::{folder, meshgate, meshgate_reading};
use crate::support::backend::{FRONTEND, OTHER, deny_path, policy};

const EXPLAIN: [&str; 5] = ["explain", "--resources", ".", "--label", "app=backend"];

/// What `meshgate explain` answers as JSON, whose exit status must fit.
fn explained(yaml: &str, arguments: &[&str]) -> Value {
    let dir = folder(yaml);
    let (status, json, errors) =
        meshgate(dir.path(), &[&["explain", "--resources", ".", "--output", "json"], arguments].concat());
    assert_eq!(errors, "");
    let answer: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status == 0, answer["verdict"] == "allow", "{answer:#}");
    answer
}

#[test]
fn explain_says_which_rule_decides() {
    let dir = folder(&deny_path("/a"));
    let (status, text, _) = meshgate(dir.path(), &[&EXPLAIN[..], &["--peer", FRONTEND, "--path", "/b"]].concat());
    assert_eq!(status, 0, "{text}");
    let (status, text, _) = meshgate(dir.path(), &[&EXPLAIN[..], &["--peer", FRONTEND, "--path", "//x/../a"]].concat());
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("default/deny-path"), "{text}");
}

#[test]
fn explain_answers_machines_too() {
    let allow = "{rules: [{from: [{source: {principals: [\"cluster.local/ns/default/sa/frontend\"]}}]}]}";
    let dir = folder(&policy("allow-frontend", allow));
    for (peer, status, verdict) in [(FRONTEND, 0, "allow"), (OTHER, 1, "deny")] {
        let arguments = [&EXPLAIN[..], &["--peer", peer, "--output", "json"]].concat();
        let (found, json, _) = meshgate(dir.path(), &arguments);
        let answer: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((found, &answer["verdict"]), (status, &verdict.into()), "{answer}");
        if status == 0 {
            assert_eq!(answer["rule"], serde_json::json!({"policy": "default/allow-frontend", "rule": 0}), "{answer}");
        }
    }
}

#[test]
fn explain_refuses_to_judge_what_it_cannot_read() {
    let dir = folder(&deny_path("/a").replace("action", "actoin"));
    let (status, text, errors) = meshgate(dir.path(), &EXPLAIN);
    assert_eq!((status, text.as_str()), (2, ""), "{errors}");
    assert!(errors.contains("policy.yaml:4: "), "{errors}");
    let dir = folder(&deny_path("/a"));
    for (wrong, about) in [
        (["--port", "70000"], "--port"),
        (["--port", "http"], "--port: `http` is a name, and without a workload that is known"),
        (["--token", "[]"], "--token"),
        (["--provider", "maybe"], "--provider"),
        (["--scheme", "ftp"], "--scheme"),
        (["--peer", "spiffe://Cluster/ns/a"], "--peer"),
        (["--header", "no colon"], "--header"),
        (["--destination", "here"], "--destination"),
    ] {
        let (status, text, errors) = meshgate(dir.path(), &[&EXPLAIN[..], &wrong].concat());
        assert_eq!((status, text.as_str()), (2, ""), "{wrong:?}");
        assert!(errors.contains(about), "{errors}");
    }
}

#[test]
fn explain_gives_a_verdict_on_what_the_proxy_refuses_by_itself() {
    for (arguments, status) in [
        (&["--path", "/a%00"][..], 400),
        (&["--path", "relative"], 400),
        (&["--host", "a b"], 400),
        (&["--host", "a", "--header", "host: b"], 400),
        (&["--method", "CONNECT"], 405),
    ] {
        let answer = explained("", arguments);
        assert_eq!(
            (&answer["verdict"], &answer["status"]),
            (&"400".into(), &status.into()),
            "{arguments:?} {answer:#}"
        );
        assert_eq!((&answer["reason"], &answer["policies"]), (&"bad_request".into(), &serde_json::json!([])));
        assert!(answer["detail"].as_str().unwrap().len() > 10, "{answer:#}");
    }
}

#[test]
fn explain_judges_what_the_proxy_would_forward() {
    let path = explained(&deny_path("/a"), &["--label", "app=backend", "--path", "//x/../%61?q=//"]);
    assert_eq!(path["path"], serde_json::json!({"asked": "//x/../%61?q=//", "seen": "/a?q=//"}));
    assert_eq!(path["verdict"], "deny");
    // A claim of identity that a caller has no right to make is gone before policies look.
    let claim = policy(
        "p",
        "{action: DENY, rules: [{when: [{key: 'request.headers[x-forwarded-client-cert]', values: ['*']}]}]}",
    );
    assert_eq!(explained(&claim, &["--header", "X-Forwarded-Client-Cert: By=a"])["verdict"], "allow");
    let header = claim.replace("x-forwarded-client-cert", "x-other");
    assert_eq!(explained(&header, &["--header", "X-Other: a"])["verdict"], "deny");
    let remote = policy("p", "{rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]}]}");
    assert_eq!(explained(&remote, &["--remote-ip", "10.1.1.1"])["verdict"], "allow");
    assert_eq!(explained(&remote, &["--source-ip", "10.1.1.1"])["verdict"], "allow");
    assert_eq!(explained(&remote, &["--source-ip", "10.1.1.1", "--remote-ip", "9.1.1.1"])["verdict"], "deny");
}

const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  selector: {app: backend}
  ports: [{name: web, port: 80, targetPort: main}, {name: tcp-raw, port: 90, targetPort: 9000}]
---
apiVersion: v1
kind: Pod
metadata: {name: backend-1, namespace: shop, labels: {app: backend}}
spec: {serviceAccountName: backend, containers: [{ports: [{name: main, containerPort: 8080}]}]}
status: {podIP: 10.1.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: ports, namespace: shop}
spec: {selector: {matchLabels: {app: backend}}, portLevelMtls: {8080: {mode: STRICT}, 81: {mode: DISABLE}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: on-8080, namespace: shop}
spec: {selector: {matchLabels: {app: backend}}, rules: [{from: [{source: {principals: ['*']}}], to: [{operation: {ports: ['8080']}}]}]}
";

#[test]
fn explain_finds_the_workload_and_its_ports_among_the_resources() {
    for (arguments, destination, verdict) in [
        (["--workload", "shop/backend-1", "--port", "main"], "10.1.0.2:8080", "allow"),
        (["--workload", "shop/app=backend", "--port", "web"], "10.1.0.2:8080", "allow"),
        (["--workload", "shop/backend-1", "--port", "tcp-raw"], "10.1.0.2:9000", "deny"),
        (["--workload", "shop/backend-1", "--port", "82"], "10.1.0.2:82", "deny"),
        (["--workload", "shop/web-1", "--destination", "10.9.9.9:1"], "10.9.9.9:1", "allow"),
    ] {
        let answer = explained(MESH, &[&arguments[..], &["--peer", FRONTEND]].concat());
        assert_eq!((&answer["destination"], &answer["verdict"]), (&destination.into(), &verdict.into()), "{answer:#}");
    }
    let dir = folder(MESH);
    for (arguments, expected) in [
        (
            ["--workload", "shop/backend-2"],
            "--workload: there is no Pod or WorkloadEntry shop/backend-2 (did you mean `shop/backend-1`?)",
        ),
        (["--workload", "shop/app=x"], "--workload: no Pod or WorkloadEntry in namespace shop has the label app=x"),
    ] {
        let (status, _, errors) = meshgate(dir.path(), &[&["explain", "--resources", "."], &arguments[..]].concat());
        assert!(status == 2 && errors.contains(expected), "{errors}");
    }
    let wrong_port = ["explain", "--resources", ".", "--workload", "shop/backend-1", "--port", "http"];
    let (status, _, errors) = meshgate(dir.path(), &wrong_port);
    assert_eq!(status, 2);
    assert!(errors.contains("shop/backend-1 has no port `http`: main (8080), tcp-raw (9000), web (8080)"), "{errors}");
}

#[test]
fn explain_knows_what_mutual_tls_does() {
    let workload = ["--workload", "shop/backend-1"];
    let strict = explained(MESH, &[&workload[..], &["--port", "main"]].concat());
    assert_eq!((&strict["verdict"], &strict["reason"]), (&"deny".into(), &"plaintext_on_strict_port".into()));
    assert_eq!(
        (&strict["mtls"], &strict["status"], &strict["policies"]),
        (&"STRICT".into(), &Value::Null, &serde_json::json!([]))
    );
    let disabled = explained(MESH, &[&workload[..], &["--port", "81", "--peer", FRONTEND]].concat());
    assert_eq!((&disabled["mtls"], &disabled["verdict"]), (&"DISABLE".into(), &"deny".into()), "{disabled:#}");
    assert!(disabled["notes"][0].as_str().unwrap().contains("no identity"), "{disabled:#}");
    let declared = explained(MESH, &[&workload[..], &["--port", "tcp-raw", "--peer", FRONTEND]].concat());
    assert!(
        declared["notes"][0].as_str().unwrap().contains("port is TCP") && declared["status"].is_null(),
        "{declared:#}"
    );
}

const REQUESTS: &str = "\
- name: reads
  path: /b
- path: /a
  peer: plaintext
---
{\"name\": \"as JSON\", \"path\": \"/a%00\"}
";

#[test]
fn explain_takes_many_requests_at_once() {
    let dir = folder(&deny_path("/a"));
    let flags = ["--peer", FRONTEND, "--output", "json", "--request", "-"];
    let (status, json, errors) = meshgate_reading(dir.path(), &[&EXPLAIN[..], &flags].concat(), REQUESTS);
    assert_eq!((status, errors.as_str()), (1, ""));
    let all: Value = serde_json::from_str(&json).unwrap();
    let found: Vec<_> = all.as_array().unwrap().iter().map(|one| (&one["name"], &one["verdict"])).collect();
    let expected = [("reads", "allow"), ("request 2", "deny"), ("as JSON", "400")];
    assert_eq!(
        found,
        expected.map(|(name, verdict)| (name.into(), verdict.into())).each_ref().map(|(a, b): &(Value, Value)| (a, b))
    );
    assert_eq!((&all[0]["peer"], &all[1]["peer"]), (&FRONTEND.into(), &Value::Null));
    let text = [&EXPLAIN[..], &["--request", "-"]].concat();
    let (status, text, _) = meshgate_reading(dir.path(), &text, REQUESTS);
    assert_eq!(status, 1);
    assert!(text.starts_with("== reads\nallow: ") && text.contains("\n\n== request 2\ndeny: "), "{text}");
    // One alone is an object, and a list of one is a list.
    let one = |input| meshgate_reading(dir.path(), &[&EXPLAIN[..], &flags].concat(), input);
    let (status, json, _) = one("path: /b");
    assert!(status == 0 && json.starts_with('{'), "{json}");
    let (status, json, _) = one("- path: /b");
    assert!(status == 0 && serde_json::from_str::<Value>(&json).unwrap().is_array(), "{json}");
}

#[test]
fn explain_names_the_place_of_a_mistake_in_a_request() {
    let dir = folder(&deny_path("/a"));
    let requests = dir.path().join("requests.txt");
    for (text, expected) in [
        ("# nothing\n", "requests.txt: there is no request in it"),
        ("path: /a\n---\n- path: /\n- metod: GET\n", "requests.txt:4: [1].metod: unknown field `metod`"),
        ("path: [", "requests.txt:2: "),
        ("peer: Frontend", "requests.txt:1: peer: `Frontend`: no workload's identity"),
        (
            "- path: /\n- path: /\n  workload: shop/x\n",
            "requests.txt:3: [1].workload: there is no Pod or WorkloadEntry shop/x",
        ),
        ("protocol: tcp\npath: /\n", "requests.txt:2: path: has no meaning with `protocol: tcp`"),
        ("- &a [x]\n- <<: *a\n", "requests.txt:"),
        ("just words", "requests.txt:1: invalid type: string"),
    ] {
        std::fs::write(&requests, text).unwrap();
        let (status, output, errors) = meshgate(dir.path(), &[&EXPLAIN[..], &["--request", "requests.txt"]].concat());
        assert_eq!((status, output.as_str()), (2, ""), "{text}: {errors}");
        assert!(errors.starts_with(&format!("error: {expected}")), "{text}: {errors}");
    }
    std::fs::write(&requests, "a".repeat(5 << 20)).unwrap();
    let (status, _, errors) = meshgate(dir.path(), &[&EXPLAIN[..], &["--request", "requests.txt"]].concat());
    assert_eq!((status, errors.as_str()), (2, "error: requests.txt: is larger than 4 MiB, the most that is read\n"));
    let (status, _, errors) = meshgate(dir.path(), &[&EXPLAIN[..], &["--request", "nowhere.yaml"]].concat());
    assert!(status == 2 && errors.starts_with("error: nowhere.yaml: cannot be read"), "{errors}");
}

#[test]
fn explain_in_text_is_the_verdict_then_why_then_each_policy() {
    let dir = folder(&deny_path("/a"));
    let arguments = [&EXPLAIN[..], &["--peer", FRONTEND, "--path", "/a", "--method", "PUT"]].concat();
    let (_, text, _) = meshgate(dir.path(), &arguments);
    assert_eq!(
        text,
        "deny: a rule of a DENY policy matched, default/deny-path rule 0 (deny_rule)\n\
         called: a workload in default, app=backend at 127.0.0.1:80, mutual TLS PERMISSIVE\n\
         caller: spiffe://cluster.local/ns/default/sa/frontend\n\
         request: PUT /a\n\
         DENY default/deny-path\n  rule 0: matched\n"
    );
}
