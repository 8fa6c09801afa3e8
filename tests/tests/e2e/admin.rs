//! The admin endpoint: what it shows, to whom, and that whoever asks keeps nobody else from being answered.

use http::Method;
use meshgate::sandbox::{Answer, Sidecar, request, request_with, until};
use meshgate_tests::run;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::app::App;
use super::support::mesh::{BACKEND, Mesh, Spec, policy};
use super::support::wire::Wire;

/// What only callers on this machine get, and nobody under another name or for another site's page.
const PRIVATE: [&str; 9] =
    ["/connections", "/clusters", "/config_dump", "/certs", "/policies", "/edges", "/refusals", "/logging", "/events"];

async fn shown(sidecar: &Sidecar, path: &str) -> Value {
    serde_json::from_str(&sidecar.admin_page(path).await.unwrap()).unwrap()
}

async fn mesh(bootstrap: &str) -> (App, Mesh) {
    let app = App::ok().await;
    let mut spec = Spec::of(&[app.address()]);
    spec.backend = bootstrap.to_owned();
    (app, Mesh::start(spec).await)
}

fn status(answer: &Answer) -> u16 {
    match answer {
        Answer::Http { status, .. } => *status,
        other => panic!("{other}"),
    }
}

#[test]
fn edges_count_requests_refusals_and_bytes_of_each_caller_and_only_grow() {
    run(async {
        let (_app, mesh) = mesh("").await;
        mesh.policies(&policy("none", "DENY", "[{to: [{operation: {paths: [/secret]}}]}]")).await;
        for path in ["/", "/", "/secret"] {
            mesh.get(path).await;
        }
        let edge = async |sidecar: &Sidecar, total: u64| {
            let found = until("the edge", async || {
                let page = shown(sidecar, "/edges").await;
                page["edges"].as_array()?.iter().find(|edge| edge["requests"]["total"] == total).cloned()
            });
            found.await.unwrap()
        };
        for (sidecar, reporter) in [(mesh.backend(), "destination"), (&mesh.frontend, "source")] {
            let seen = edge(sidecar, 3).await;
            assert_eq!(seen["reporter"], reporter);
            assert_eq!(seen["security"], "mutual_tls", "{seen:#}");
            assert_eq!(seen["source"]["principal"], "spiffe://cluster.local/ns/default/sa/frontend");
            assert_eq!(seen["destination"]["service"], BACKEND);
            assert_eq!((&seen["requests"]["ok"], &seen["requests"]["client_errors"]), (&2.into(), &1.into()));
            assert!(seen["latency"]["p99_ms"].as_f64() > Some(0.0), "{seen:#}");
        }
        assert_eq!(edge(mesh.backend(), 3).await["requests"]["refused"], 1);
        mesh.get("/").await;
        assert_eq!(edge(mesh.backend(), 4).await["requests"]["ok"], 3);
    });
}

#[test]
fn policies_tell_where_they_are_written_and_how_often_they_decided() {
    run(async {
        let (_app, mesh) = mesh("").await;
        mesh.policies(&policy("none", "DENY", "[{to: [{operation: {paths: [/secret]}}]}]")).await;
        mesh.get("/secret").await;
        let found = until("the hit", async || {
            let page = shown(mesh.backend(), "/policies").await;
            (page["policies"][0]["hits"]["denied"] == 1).then_some(page)
        });
        let page = found.await.unwrap();
        let shown_policy = &page["policies"][0];
        assert_eq!((&shown_policy["name"], &shown_policy["action"]), (&"default/none".into(), &"DENY".into()));
        assert!(shown_policy["place"].as_str().unwrap().ends_with("policies.yaml:1"), "{page:#}");
        assert_eq!(page["mtls"]["mode"], "PERMISSIVE");
        // Those of others are not among them.
        assert_eq!(shown(&mesh.frontend, "/policies").await["policies"], Value::Array(vec![]));
    });
}

#[test]
fn what_is_dumped_of_identity_and_configuration_has_no_key_in_it() {
    run(async {
        let (_app, mesh) = mesh("").await;
        let certs = shown(mesh.backend(), "/certs").await;
        assert_eq!(certs["certificate"]["id"], "spiffe://cluster.local/ns/default/sa/backend");
        assert!(certs["certificate"]["seconds_left"].as_u64() > Some(0));
        assert_eq!(certs["roots"][0]["sha256"].as_str().unwrap().len(), 64);
        assert_eq!(certs["roots"][0]["trust_domain"], "cluster.local");
        let dump = mesh.backend().admin_page("/config_dump").await.unwrap();
        let parsed: Value = serde_json::from_str(&dump).unwrap();
        assert_eq!(parsed["process"]["workload"], "default/backend-0");
        assert_eq!(parsed["services"]["services"][0]["endpoints"][0]["health"], "healthy");
        assert_eq!(parsed["workloads"].as_array().unwrap().len(), 2);
        let key = std::fs::read_to_string(mesh.sandbox.path("identities/backend-0-key.pem")).unwrap();
        let line = key.lines().nth(1).unwrap();
        let public = ["/", "/ready", "/live", "/version", "/metrics"];
        for page in PRIVATE.iter().filter(|page| **page != "/events").chain(&public) {
            let page = mesh.backend().admin_page(page).await.unwrap();
            assert!(!page.contains(line) && !page.contains("PRIVATE"), "{page}");
        }
        let (mut events, _) = listener(mesh.backend()).await;
        let mut first = Vec::new();
        while !first.ends_with(b"\n\n\r\n") {
            events.read_buf(&mut first).await.unwrap();
        }
        let first = String::from_utf8(first).unwrap();
        assert!(first.contains("data: ") && !first.contains(line) && !first.contains("PRIVATE"), "{first}");
    });
}

#[test]
fn the_dump_has_every_rule_of_every_policy_and_says_which_are_in_force_here() {
    run(async {
        let (_app, mesh) = mesh("").await;
        let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                      metadata: {name: strict, namespace: default}\nspec: {mtls: {mode: STRICT}}\n";
        mesh.policies(&(policy("none", "DENY", "[{to: [{operation: {paths: [/secret]}}]}]") + strict)).await;
        let dump = shown(mesh.backend(), "/config_dump").await;
        let one = &dump["policies"][0];
        assert_eq!((&one["name"], &one["in_force"]), (&"default/none".into(), &true.into()), "{dump:#}");
        assert_eq!(one["selects"]["workloads"]["app"], "backend");
        let condition = serde_json::json!({"field": "to[0].operation.paths", "values": ["/secret"]});
        assert_eq!(one["rules"][0]["to"][0][0], condition, "{one:#}");
        assert_eq!(dump["peer_authentications"][0]["mode"], "STRICT", "{dump:#}");
        let kinds: Vec<_> = dump["listeners"].as_array().unwrap().iter().map(|one| one["kind"].as_str()).collect();
        for kind in ["inbound", "outbound", "admin"] {
            assert!(kinds.contains(&Some(kind)), "{kinds:?}");
        }
        assert_eq!(dump["inbound"]["mtls"]["mode"], "STRICT");
        until("the policy at the caller", async || {
            let seen = shown(&mesh.frontend, "/config_dump").await;
            (seen["policies"][0]["in_force"] == false).then_some(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn other_names_and_other_sites_pages_get_only_what_everybody_gets() {
    run(async {
        let (_app, mesh) = mesh("").await;
        let admin = mesh.backend().admin();
        let own = admin.to_string();
        let ask = async |method: &Method, path: &str, host: &str, fields: &[(&'static str, &str)]| {
            status(&request_with(admin, host, method.clone(), path, fields).await)
        };
        for path in PRIVATE {
            let answer =
                Wire::connect(admin).await.ask(&format!("DELETE {path} HTTP/1.1\r\nhost: {own}\r\n\r\n")).await;
            let allowed = if path == "/logging" { "GET, HEAD, PUT" } else { "GET, HEAD" };
            assert_eq!((answer.status(), answer.field("allow")), (405, Some(allowed)), "{path}");
            assert_eq!(ask(&Method::GET, path, "evil.example", &[]).await, 403, "{path}");
            assert_eq!(ask(&Method::GET, path, &own, &[("sec-fetch-site", "cross-site")]).await, 403, "{path}");
            assert_eq!(ask(&Method::GET, path, &own, &[("origin", "http://evil.example")]).await, 403, "{path}");
        }
        for (method, path) in
            [(Method::POST, "/explain"), (Method::PUT, "/logging"), (Method::POST, "/drain_listeners")]
        {
            assert_eq!(ask(&method, path, &own, &[("origin", "http://evil.example")]).await, 403, "{path}");
            assert_eq!(ask(&Method::DELETE, path, &own, &[]).await, 405, "{path}");
        }
        for path in ["/ready", "/live", "/metrics", "/version"] {
            assert_eq!(
                ask(&Method::GET, path, "evil.example", &[("sec-fetch-site", "cross-site")]).await,
                200,
                "{path}"
            );
            assert_eq!(ask(&Method::POST, path, &own, &[]).await, 405, "{path}");
        }
        for path in ["/ready", "/config_dump"] {
            let two = format!("GET {path} HTTP/1.1\r\nhost: {own}\r\nhost: evil.example\r\n\r\n");
            assert_eq!(Wire::connect(admin).await.ask(&two).await.status(), 400, "{path}");
        }
        // The page itself is for browsers under its own name; who follows a link to it may come from anywhere.
        let html = ("accept", "text/html,*/*;q=0.8");
        let kind = async |host: &str, fields: &[(&'static str, &str)]| match request_with(
            admin,
            host,
            Method::GET,
            "/",
            fields,
        )
        .await
        {
            Answer::Http { headers, .. } => headers["content-type"].to_str().unwrap().to_owned(),
            other => panic!("{other}"),
        };
        assert!(kind(&own, &[html, ("sec-fetch-site", "cross-site")]).await.starts_with("text/html"));
        assert!(kind(&own, &[]).await.starts_with("text/plain"));
        assert!(kind("evil.example", &[html]).await.starts_with("text/plain"));
    });
}

/// One that follows the events.
async fn listener(sidecar: &Sidecar) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(sidecar.admin()).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    (stream, String::from_utf8_lossy(&begin[9..]).into_owned())
}

#[test]
fn more_listeners_than_there_may_be_are_refused_and_keep_nobody_from_anything_else() {
    run(async {
        // The sandbox writes the field `admin` itself.
        let (_app, mut mesh) = mesh("").await;
        let backend = &mut mesh.backends[0];
        let file = backend.bootstrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("admin: {", "admin: {eventListeners: 2, ")).unwrap();
        backend.restart().await.unwrap();
        let (first, status) = listener(backend).await;
        assert_eq!(status, "200");
        // This one does not read what it gets.
        let (_second, status) = listener(backend).await;
        assert_eq!(status, "200");
        assert_eq!(listener(backend).await.1, "503");
        assert_eq!(request(backend.admin(), "localhost", Method::GET, "/live").await.to_string(), "200");
        drop(first);
        until("a place", async || (listener(backend).await.1 == "200").then_some(())).await.unwrap();
    });
}

#[test]
fn the_log_level_changes_while_it_runs() {
    run(async {
        let (_app, mesh) = mesh("").await;
        let admin = mesh.backend().admin();
        let put = async |level: &str| {
            let text =
                format!("PUT /logging HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{level}", level.len());
            Wire::connect(admin).await.ask(&text).await.status()
        };
        assert_eq!(mesh.backend().admin_page("/logging").await.unwrap(), "info\n");
        mesh.get("/").await;
        let log = || std::fs::read_to_string(mesh.sandbox.path("logs/backend-0.log")).unwrap();
        assert!(!log().contains("DEBUG"), "{}", log());
        assert_eq!(put("debug").await, 200);
        assert_eq!(mesh.backend().admin_page("/logging").await.unwrap(), "debug\n");
        until("a line", async || {
            mesh.get("/").await;
            log().contains("DEBUG").then_some(())
        })
        .await
        .unwrap();
        assert_eq!(put("no=such=level").await, 400);
        assert_eq!(put("").await, 400);
        assert_eq!(mesh.backend().admin_page("/logging").await.unwrap(), "debug\n");
    });
}

#[test]
fn drained_listeners_take_nobody_any_more_while_the_application_still_calls_others() {
    run(async {
        let app = App::ok().await;
        let mut spec = Spec::of(&[app.address()]);
        spec.frontend_application = Some(app.address());
        let mut mesh = Mesh::start(spec).await;
        let backend = &mut mesh.backends[0];
        let drain =
            async |backend: &Sidecar| request(backend.admin(), "localhost", Method::POST, "/drain_listeners").await;
        assert_eq!(drain(backend).await.to_string(), "403 admin.quit is not set");
        let file = backend.bootstrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("admin: {", "admin: {quit: true, ")).unwrap();
        backend.restart().await.unwrap();
        assert_eq!(drain(backend).await.to_string(), "200");
        until("the end of inbound", async || {
            let answer = request(backend.inbound(), BACKEND, Method::GET, "/").await;
            matches!(answer, Answer::Refused).then_some(())
        })
        .await
        .unwrap();
        let ready = request(backend.admin(), "localhost", Method::GET, "/ready").await;
        assert_eq!(ready.to_string(), "503 not ready: draining");
        let called = request(backend.outbound(), "frontend.default.svc.cluster.local", Method::GET, "/").await;
        assert_eq!(called.to_string(), "200");
        assert!(backend.child().try_wait().unwrap().is_none(), "it goes on until it is told to end");
    });
}
