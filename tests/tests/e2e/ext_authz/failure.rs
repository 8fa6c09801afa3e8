//! Providers that cannot be asked, or misbehave: the request is refused, unless the operator wrote otherwise.

use std::cell::RefCell;
use std::rc::Rc;

use meshgate_tests::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};

use super::{call, custom, get, http_provider, mesh, only};
use crate::support::app::{App, nobody, ok};
use crate::support::mesh::{logged_path, policy};

const MARK: &str = "x-envoy-auth-failure-mode-allowed";

/// Takes the check, says these bytes, and then nothing more until the sidecar gives up.
async fn hanging(says: &'static str) -> App {
    App::tcp(async move |mut stream| {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(says.as_bytes()).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

#[test]
fn what_is_no_answer_is_a_no_unless_it_is_to_fail_open() {
    run(async {
        let app = App::ok().await;
        let (_held, nowhere) = nobody();
        let broken = App::http1(|_| "HTTP/1.1 503 Later\r\ncontent-length: 2\r\n\r\nno".to_owned()).await;
        let garbage = App::tcp(async |mut stream| drop(stream.write_all(b"SSH-2.0-x\r\n\r\n").await)).await;
        let closes = App::tcp(async |stream| drop(stream)).await;
        let (silent, half) = (hanging("").await, hanging("HTTP/1.1 200 OK\r\nx-a: ").await);
        let endless = App::tcp(async |mut stream| while stream.write_all(&[b'a'; 4096]).await.is_ok() {}).await;
        let cases = [
            ("refused", nowhere.port(), "error"),
            ("broken", broken.address().port(), "error"),
            ("garbage", garbage.address().port(), "error"),
            ("closes", closes.address().port(), "error"),
            ("endless", endless.address().port(), "error"),
            ("silent", silent.address().port(), "timeout"),
            ("half", half.address().port(), "timeout"),
        ];
        let mut providers = String::new();
        for (name, port, result) in cases {
            // Short where the time-out is what is waited for; elsewhere it must not be what decides.
            let timeout = if result == "timeout" { "300ms" } else { "10s" };
            for (suffix, fields) in [("", ""), ("-status", ", statusOnError: \"503\""), ("-open", ", failOpen: true")] {
                providers += &format!(
                    "- {{name: {name}{suffix}, envoyExtAuthzHttp: {{service: 127.0.0.1, port: {port}, timeout: {timeout}{fields}}}}}\n"
                );
            }
        }
        let mesh = mesh(&app, &providers).await;
        for (name, _, result) in cases {
            for (suffix, expected) in [("", 403), ("-status", 503), ("-open", 200)] {
                let provider = format!("{name}{suffix}");
                mesh.policies(&custom(&format!("ask-{provider}"), &provider, "[{}]")).await;
                let path = format!("/{provider}");
                let answer = mesh.wire().await.ask(get(&path, &format!("{MARK}: mine\r\n"))).await;
                assert_eq!(answer.status(), expected, "{provider}");
                if expected == 200 {
                    assert_eq!(only(&app).field(MARK), Some("true"), "{provider}");
                } else {
                    assert_eq!((app.take_seen().len(), answer.text().as_str()), (0, ""), "{provider}");
                }
                let line = logged_path(mesh.backend(), &path).await;
                let reason = if expected == 200 { "no_policy" } else { "custom_failed" };
                assert_eq!(
                    (line["ext_authz_result"].as_str(), line["reason"].as_str()),
                    (Some(result), Some(reason)),
                    "{line:#}"
                );
                assert!(line["ext_authz_error"].is_string(), "{line:#}");
                let series = format!("mesh_ext_authz_requests_total{{provider=\"{provider}\",result=\"{result}\"}}");
                assert_eq!(mesh.backend().metric(&series).await, Some(1.0));
            }
        }
    });
}

#[test]
fn nobody_can_pretend_that_nobody_was_asked() {
    run(async {
        let (app, provider) = (App::ok().await, App::ok().await);
        let mesh = mesh(&app, &http_provider("p", &provider, "")).await;
        mesh.policies(&custom("custom", "p", "[{to: [{operation: {paths: [/asked]}}]}]")).await;
        for path in ["/asked", "/not"] {
            assert_eq!(mesh.wire().await.ask(get(path, &format!("{MARK}: true\r\n"))).await.status(), 200);
            assert_eq!(only(&app).field(MARK), None, "{path}");
        }
    });
}

#[test]
fn a_no_with_a_body_that_is_too_long_or_never_ends_is_a_no_without_it() {
    run(async {
        let app = App::ok().await;
        let huge = App::http1(|_| {
            format!("HTTP/1.1 401 No\r\ncontent-length: 1000000\r\nx-why: a\r\n\r\n{}", "a".repeat(1_000_000))
        })
        .await;
        let hangs = hanging("HTTP/1.1 401 No\r\ncontent-length: 9\r\nx-why: a\r\n\r\nab").await;
        let large = App::http1(|_| ok(&"a".repeat(1_000_000))).await;
        let open = ", failOpen: true";
        let mut providers = http_provider("huge", &huge, open) + &http_provider("large", &large, "");
        providers += &http_provider("hangs", &hangs, open).replace("10s", "300ms");
        let mesh = mesh(&app, &providers).await;
        for name in ["huge", "hangs"] {
            mesh.policies(&custom(name, name, "[{}]")).await;
            let answer = mesh.wire().await.ask(get("/", "")).await;
            assert_eq!(
                (answer.status(), answer.field("x-why"), answer.text().as_str()),
                (401, Some("a"), ""),
                "{name}"
            );
        }
        assert_eq!(app.connections(), 0);
        mesh.policies(&custom("large", "large", "[{}]")).await;
        assert_eq!(call(&mesh, "/").await, 200, "the body of a yes is nobody's business");
    });
}

#[test]
fn with_an_unknown_provider_or_two_what_the_rules_match_is_refused_and_the_rest_passes() {
    run(async {
        let (app, one, two) = (App::ok().await, App::ok().await, App::ok().await);
        let mesh =
            mesh(&app, &(http_provider("one", &one, ", failOpen: true") + &http_provider("two", &two, ""))).await;
        let paths = |path: &str| format!("[{{to: [{{operation: {{paths: [\"{path}\"]}}}}]}}]");
        let both = custom("a", "one", &paths("/a")) + &custom("b", "two", &paths("/b"));
        for (policies, answers) in [
            (custom("a", "nobody", &paths("/a")), [403, 200, 200]),
            (both, [403, 403, 200]),
            (custom("a", "one", &paths("/a")), [200, 200, 200]),
        ] {
            mesh.policies(&policies).await;
            for (path, expected) in ["/a", "/b", "/c"].into_iter().zip(answers) {
                assert_eq!(call(&mesh, path).await, expected, "{path}: {policies}");
            }
        }
        assert_eq!((one.take_seen().len(), two.take_seen().len()), (1, 0));
        let line = logged_path(mesh.backend(), "/b").await;
        assert_eq!(line["reason"], "no_policy");
        let series = "mesh_policy_decisions_total{decision=\"deny\",reason=\"custom_failed\"}";
        assert_eq!(mesh.backend().metric(series).await, Some(3.0));
    });
}

#[test]
fn a_reload_changes_who_is_asked_on_an_open_connection() {
    run(async {
        let (app, one, two) = (App::ok().await, App::ok().await, App::ok().await);
        let mesh = mesh(&app, &(http_provider("one", &one, "") + &http_provider("two", &two, ""))).await;
        let mut client = mesh.wire().await;
        for (policies, seen) in [
            (custom("a", "one", "[{}]"), (1, 0)),
            (custom("a", "two", "[{}]"), (0, 1)),
            (String::new(), (0, 0)),
            (custom("a", "one", "[{}]"), (1, 0)),
        ] {
            mesh.policies(&policies).await;
            assert_eq!(client.ask(get("/", "")).await.status(), 200);
            assert_eq!((one.take_seen().len(), two.take_seen().len()), seen, "{policies}");
        }
    });
}

#[test]
fn a_request_is_judged_by_the_configuration_under_which_it_was_asked_about() {
    run(async {
        let app = App::ok().await;
        let (asked, wait_asked) = oneshot::channel();
        let (asked, go_on) = (RefCell::new(Some(asked)), Rc::new(Notify::new()));
        let answers = Rc::clone(&go_on);
        let provider = App::tcp(async move |mut stream| {
            let _ = stream.read(&mut [0; 4096]).await;
            let asked = asked.borrow_mut().take();
            asked.map(|asked| asked.send(()));
            answers.notified().await;
            let _ = stream.write_all(ok("").as_bytes()).await;
        })
        .await;
        let mesh = mesh(&app, &http_provider("p", &provider, "")).await;
        mesh.policies(&custom("custom", "p", "[{}]")).await;
        let mut client = mesh.wire().await;
        client.send(get("/", "")).await;
        wait_asked.await.unwrap();
        // Not everything: a connection on which nothing is allowed any more would end.
        mesh.policies(&policy("deny", "DENY", "[{to: [{operation: {methods: [GET]}}]}]")).await;
        go_on.notify_one();
        assert_eq!(client.answer().await.status(), 200);
        assert_eq!(client.ask(get("/", "")).await.status(), 403);
    });
}
