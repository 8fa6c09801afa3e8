//! The application's probes, as the kubelet asks the admin endpoint for them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use meshgate::sandbox::{Answer, POD_PORT, Sidecar, request};
use meshgate_tests::run;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};

use crate::support::app::{App, nobody, ok};
use crate::support::backend::{Backend, mtls};

/// Asks as the kubelet does, and gives the status and what was said with it.
async fn probe(sidecar: &Sidecar, path: &str) -> (u16, String) {
    match request(sidecar.admin(), "10.0.0.7:15021", Method::GET, path).await {
        Answer::Http { status, headers, body } => {
            assert!(!headers.contains_key("x-told") && !headers.contains_key("location"), "{headers:?}");
            (status, body)
        }
        other => panic!("{path}: {other}"),
    }
}

/// A backend that takes mutual TLS only, with these probes.
async fn backend(probes: &[(&str, String)]) -> Backend {
    let probes: String = probes.iter().map(|(path, asks)| format!("  /app-health/{path}: {asks}\n")).collect();
    Backend::start_with(|sandbox, spec| {
        sandbox.write_resource("policy.yaml", &mtls("STRICT")).unwrap();
        spec.bootstrap = format!("appProbes:\n{probes}");
    })
    .await
}

fn get(app: SocketAddr, more: &str) -> String {
    format!("{{httpGet: {{port: {}{more}}}, timeoutSeconds: 5}}", app.port())
}

fn tcp(app: SocketAddr) -> String {
    format!("{{tcpSocket: {{port: {}}}}}", app.port())
}

#[test]
fn a_probe_passes_where_mutual_tls_is_strict_and_says_what_the_application_said() {
    run(async {
        let app = App::http1(|request| match request.target() {
            "/ok?a=b" => ok("secret"),
            "/moved" => {
                "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\nx-told: 1\r\ncontent-length: 0\r\n\r\n"
                    .into()
            }
            "/empty" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
            "/odd" => "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n".into(),
            _ => "HTTP/1.1 500 Internal Server Error\r\nx-told: 1\r\ncontent-length: 6\r\n\r\nsecret".into(),
        })
        .await;
        let headers =
            ", path: \"/ok?a=b\", httpHeaders: [{name: Host, value: app.example}, {name: X-Probe, value: \"1\"}]";
        let at = |path| get(app.address(), &format!(", path: {path}"));
        let backend = backend(&[
            ("app/livez", get(app.address(), headers)),
            ("app/readyz", at("/broken")),
            ("app/startupz", at("/moved")),
            ("other/livez", at("/empty")),
            ("other/readyz", at("/odd")),
            ("other/startupz", tcp(app.address())),
        ])
        .await;
        // What the kubelet would get from the application itself.
        assert!(!matches!(backend.get("/ok").await, Answer::Http { status: 200, .. }));
        let asked = async |path: &str| probe(&backend.sidecar, &format!("/app-health/{path}")).await;
        assert_eq!(asked("app/livez").await, (200, String::new()));
        let seen = app.take_seen();
        assert_eq!((seen.len(), seen[0].start.as_str()), (1, "GET /ok?a=b HTTP/1.1"));
        assert_eq!((seen[0].all("host"), seen[0].all("x-probe")), (vec!["app.example"], vec!["1"]));
        assert!(seen[0].field("user-agent").unwrap().starts_with("kube-probe/"));
        assert_eq!(asked("app/readyz").await, (500, String::new()));
        assert_eq!(asked("app/startupz").await, (302, String::new()));
        assert_eq!(asked("other/livez").await, (204, String::new()));
        assert_eq!(asked("other/readyz").await.0, 502);
        let before = app.take_seen().len();
        assert_eq!(asked("other/startupz").await, (200, String::new()));
        assert_eq!((before, app.take_seen().len()), (4, 0), "a connection is all that tcpSocket asks for");
        assert_eq!(backend.hits(), 0);
    });
}

#[test]
fn what_is_not_configured_is_not_asked() {
    run(async {
        let app = App::ok().await;
        let backend = backend(&[("app/livez", get(app.address(), ""))]).await;
        for path in ["app/readyz", "app/livez/", "app/livez/../readyz", "", "app", "app%2Flivez", "10.0.0.1:80/livez"] {
            assert_eq!(probe(&backend.sidecar, &format!("/app-health/{path}")).await.0, 404, "{path}");
        }
        let posted = request(backend.sidecar.admin(), "a", Method::POST, "/app-health/app/livez").await;
        assert!(matches!(posted, Answer::Http { status: 405, .. }), "{posted}");
        assert_eq!(app.connections(), 0);
    });
}

#[test]
fn an_application_that_cannot_be_asked_has_failed_its_probe() {
    run(async {
        let (_held, down) = nobody();
        let silent = App::tcp(async |stream| {
            let _stream = stream;
            std::future::pending::<()>().await;
        })
        .await;
        let garbled = App::tcp(async |stream| {
            stream.writable().await.unwrap();
            stream.try_write(b"220 mail.example ESMTP\r\n").unwrap();
        })
        .await;
        let late = format!("{{httpGet: {{port: {}}}, timeoutSeconds: 1}}", silent.address().port());
        let backend = backend(&[
            ("app/livez", get(down, "")),
            ("app/readyz", tcp(down)),
            ("other/livez", late),
            ("other/readyz", get(garbled.address(), "")),
        ])
        .await;
        for (path, status, reason) in [
            ("app/livez", 502, "cannot be connected to"),
            ("app/readyz", 502, "cannot be connected to"),
            ("other/livez", 504, "did not answer in time"),
            ("other/readyz", 502, "does not answer in HTTP/1"),
        ] {
            let (answered, said) = probe(&backend.sidecar, &format!("/app-health/{path}")).await;
            assert_eq!(answered, status, "{path}: {said}");
            assert!(said.contains(reason), "{path}: {said}");
        }
        let log = backend.sidecar.output();
        assert!(log.contains("the application's probe") && log.contains("/app-health/other/livez"), "{log}");
    });
}

#[test]
fn many_who_ask_at_once_cost_the_application_one_request() {
    run(async {
        let (asked, go) = (Rc::new(Notify::new()), Rc::new(Semaphore::new(0)));
        let (told, gate) = (Rc::clone(&asked), Rc::clone(&go));
        let app = App::tcp(async move |stream| {
            let mut wire = crate::support::wire::Wire::over(stream);
            wire.request().await.unwrap();
            told.notify_one();
            let _pass = gate.acquire().await.unwrap();
            wire.send(ok("")).await;
        })
        .await;
        let backend = backend(&[("app/livez", get(app.address(), ""))]).await;
        let admin = backend.sidecar.admin();
        let ask = move || async move { request(admin, "a", Method::GET, "/app-health/app/livez").await };
        let first = tokio::task::spawn_local(ask());
        asked.notified().await;
        let others: Vec<_> = (0..20).map(|_| tokio::task::spawn_local(ask())).collect();
        // All of them have connected when a request that was sent after them is answered.
        for _ in 0..20 {
            assert!(backend.sidecar.admin_page("/live").await.is_some());
        }
        go.add_permits(100);
        for answer in std::iter::once(first).chain(others) {
            let answer = answer.await.unwrap();
            assert!(matches!(answer, Answer::Http { status: 200, .. }), "{answer}");
        }
        assert!(app.connections() <= 2, "{} connections for 21 who asked", app.connections());
    });
}

#[test]
fn under_redirection_the_application_is_asked_from_the_address_that_the_rules_let_through() {
    run(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut backend = backend(&[("app/livez", tcp(listener.local_addr().unwrap()))]).await;
        let path = backend.sidecar.bootstrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let address = backend.sidecar.address();
        assert!(text.contains(&format!("{address}:{POD_PORT}")), "{text}");
        let kernel = format!("  - {{address: \"{address}:15006\", originalDestination: kernel}}\noutbound:\n");
        fs::write(&path, text.replacen("outbound:\n", &kernel, 1)).unwrap();
        backend.sidecar.restart().await.unwrap();
        let asks = probe(&backend.sidecar, "/app-health/app/livez");
        let (accepted, answer) = tokio::join!(tokio::time::timeout(Duration::from_secs(20), listener.accept()), asks);
        let (_stream, from) = accepted.unwrap().unwrap();
        assert_eq!((from.ip().to_string().as_str(), answer.0), ("127.0.0.6", 200));
    });
}
