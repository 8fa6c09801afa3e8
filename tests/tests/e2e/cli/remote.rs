//! `meshgate explain --admin`: asking a running proxy.

use std::path::Path;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::meshgate;
use crate::support::backend::{Backend, FRONTEND, GENERATION, deny_path};

const CASE: &str = r#"{"path": "/a", "peer": "cluster.local/ns/default/sa/frontend"}"#;

/// One request to the admin endpoint, as curl sends it: the status and the body.
fn curl(backend: &Backend, arguments: &[&str], body: &str) -> (StatusCode, String) {
    let url = format!("http://{}/explain", backend.sidecar.admin());
    let mut command = std::process::Command::new("curl");
    command.args(["-sS", "--max-time", "20", "-w", "\n%{http_code}", "--data-binary", "@-", &url]).args(arguments);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), body.as_bytes()).unwrap();
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let (body, status) = output.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[test]
fn a_running_proxy_says_what_it_would_decide() {
    meshgate_tests::run(async {
        let backend = Backend::start(&deny_path("/a")).await;
        let (status, body) = curl(&backend, &[], CASE);
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200, "{body}");
        assert_eq!((&answer["verdict"], &answer["generation"]), (&json!("deny"), &json!(1)), "{body}");
        assert_eq!(answer["workload"], "default/backend");
        backend.sandbox.write_resource("policy.yaml", &deny_path("/b")).unwrap();
        backend.sidecar.until_metric(GENERATION, |generation| generation > 1.0).await.unwrap();
        let (_, body) = curl(&backend, &[], CASE);
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&answer["verdict"], &answer["generation"]), (&json!("allow"), &json!(2)), "{body}");
    });
}

#[test]
fn the_command_asks_a_running_proxy() {
    meshgate_tests::run(async {
        let backend = Backend::start(&deny_path("/a")).await;
        let admin = backend.sidecar.admin().to_string();
        let ask = async |arguments: Vec<String>| {
            let admin = ["explain".to_owned(), "--admin".to_owned()].into_iter().chain(arguments).collect::<Vec<_>>();
            let run = move || meshgate(Path::new("/"), &admin.iter().map(String::as_str).collect::<Vec<_>>());
            tokio::task::spawn_blocking(run).await.unwrap()
        };
        let arguments = |rest: &[&str]| [&[admin.as_str()], rest].concat().into_iter().map(str::to_owned).collect();
        let (status, text, errors) = ask(arguments(&["--peer", FRONTEND, "--path", "//a"])).await;
        assert_eq!((status, errors.as_str()), (1, ""));
        assert!(text.starts_with("deny: a rule of a DENY policy matched, default/deny-path rule 0"), "{text}");
        assert!(text.contains("called: default/backend at ") && text.contains("generation 1"), "{text}");
        let header = ["--path", "/b", "--header", "x-a: 1", "--output", "json", "--token", r#"{"iss": "i"}"#];
        let (status, json, _) = ask(arguments(&header)).await;
        assert_eq!((status, &serde_json::from_str::<Value>(&json).unwrap()["generation"]), (0, &json!(1)));
        let (status, _, errors) = ask(arguments(&["--port", "nope"])).await;
        assert!(status == 2 && errors.starts_with("error: --port: "), "{errors}");
        let bootstrap = backend.sandbox.path("backend.yaml");
        let by_bootstrap = ["--bootstrap", bootstrap.to_str().unwrap()].map(str::to_owned).to_vec();
        let (status, text, errors) = ask(by_bootstrap).await;
        assert!(status == 0 && text.starts_with("allow: "), "{text}{errors}");
    });
}

#[test]
fn nobody_there_is_said_so() {
    let (status, _, errors) = meshgate(Path::new("/"), &["explain", "--admin", "127.0.0.1:1"]);
    assert!(status == 2 && errors.contains("cannot ask the proxy at 127.0.0.1:1: Connection refused"), "{errors}");
    let (status, _, errors) = meshgate(Path::new("/"), &["explain", "--admin", "http://"]);
    assert!(status == 2 && errors.contains("is no address: expected such as 127.0.0.1:15000"), "{errors}");
}

#[test]
fn bad_cases_are_refused_with_the_field() {
    meshgate_tests::run(async {
        let backend = Backend::start("").await;
        for (body, field, message) in [
            ("", Value::Null, "expected one case"),
            ("{}\n---\n{}", Value::Null, "expected one case"),
            ("[]", Value::Null, "invalid type"),
            ("{\"path\": ", Value::Null, ""),
            ("{\"path\": [5]}", "path".into(), "invalid type"),
            ("{\"headers\": {\"a b\": \"c\"}}", "headers".into(), "is no header name"),
            ("{\"metod\": \"GET\"}", "metod".into(), "did you mean `method`?"),
            ("{\"workload\": \"a/b\"}", "workload".into(), "its own workload only"),
            ("{\"port\": \"http\"}", "port".into(), "`http`"),
        ] {
            let (status, answer) = curl(&backend, &[], body);
            let error = &serde_json::from_str::<Value>(&answer).unwrap()["error"];
            assert_eq!((status, &error["field"]), (StatusCode::BAD_REQUEST, &field), "{body}: {answer}");
            assert!(error["message"].as_str().unwrap().contains(message), "{body}: {answer}");
        }
        let (status, answer) = curl(&backend, &[], &format!("{{\"path\": \"/{}\"}}", "a".repeat(300 << 10)));
        assert!(status == 413 && answer.contains("256 KiB"), "{answer}");
        let (status, _) = curl(&backend, &["-X", "GET"], "");
        assert_eq!(status, 405);
        // Everything else is as it was.
        assert!(backend.sidecar.admin_page("/ready").await.is_some());
    });
}

#[test]
fn names_of_others_get_no_answer() {
    meshgate_tests::run(async {
        let backend = Backend::start("").await;
        for (host, expected) in
            [("localhost:15000", 200), ("[::1]", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403)]
        {
            let (status, body) = curl(&backend, &["-H", &format!("Host: {host}")], "{}");
            assert_eq!(status, expected, "{host}: {body}");
        }
    });
}

#[test]
fn a_case_that_does_not_arrive_holds_nobody_up() {
    meshgate_tests::run(async {
        let backend = Backend::start("").await;
        let mut stream = TcpStream::connect(backend.sidecar.admin()).await.unwrap();
        let head = "POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        let (status, _) = curl(&backend, &[], "{}");
        assert_eq!(status, 200);
    });
}
