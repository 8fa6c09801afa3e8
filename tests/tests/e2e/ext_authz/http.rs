//! HTTP providers that answer.

use std::sync::Arc;

use meshgate::sandbox::PodSpec;
use meshgate_tests::run;

use super::{call, custom, get, http_provider, mesh, only};
use crate::support::app::{App, full, ok};
use crate::support::backend::FRONTEND;
use crate::support::client::{Client, MESH_HTTP2, MESH_TCP, handshake, tls};
use crate::support::mesh::{BACKEND, logged_path, pod, policy};
use crate::support::pki::Authority;

const ADMIN: &str = "[{to: [{operation: {paths: [\"/admin*\"]}}]}]";

#[test]
fn only_what_a_rule_matches_is_asked_about_and_is_shown_as_configured() {
    run(async {
        let (app, provider) = (App::ok().await, App::ok().await);
        let fields = ", pathPrefix: /check, includeRequestHeadersInCheck: [x-shown-*], \
                      includeAdditionalHeadersInCheck: {x-from: mesh}";
        let mesh = mesh(&app, &http_provider("p", &provider, fields)).await;
        mesh.policies(&custom("custom", "p", ADMIN)).await;
        assert_eq!(call(&mesh, "/public").await, 200);
        assert_eq!(provider.connections(), 0);
        let headers = "authorization: Basic eA==\r\nx-shown-one: 1\r\nx-hidden: 2\r\nte: trailers\r\n";
        let mut client = mesh.wire().await;
        for _ in 0..3 {
            app.take_seen();
            let answer = client.ask(get("/x/../admin/a?b=c", headers)).await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
            let check = only(&provider);
            // The path as it will be forwarded: normalised.
            assert_eq!(check.start, "GET /check/admin/a?b=c HTTP/1.1");
            let mut fields: Vec<_> = check.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            fields.sort();
            let expected = [
                "authorization: Basic eA==",
                "content-length: 0",
                &format!("host: {BACKEND}"),
                "x-from: mesh",
                "x-shown-one: 1",
            ];
            assert_eq!(fields, expected);
            assert_eq!(only(&app).target(), "/admin/a?b=c");
        }
        assert_eq!(provider.connections(), 1, "connections to the provider are used again");
        let line = logged_path(mesh.backend(), "/admin/a?b=c").await;
        assert_eq!(
            (line["ext_authz_provider"].as_str(), line["ext_authz_result"].as_str()),
            (Some("p"), Some("allow"))
        );
        assert!(line["ext_authz_duration"].is_number() && line["reason"] == "no_policy", "{line:#}");
        let series = "mesh_ext_authz_requests_total{provider=\"p\",result=\"allow\"}";
        mesh.backend().until_metric(series, |count| count == 3.0).await.unwrap();
    });
}

#[test]
fn a_provider_is_shown_no_header_that_only_a_token_may_set() {
    run(async {
        let (app, provider) = (App::ok().await, App::ok().await);
        let fields = ", includeRequestHeadersInCheck: [\"x*\"]";
        let mesh = mesh(&app, &http_provider("p", &provider, fields)).await;
        // No key is needed for a request without a token.
        let tokens = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
                      metadata: {name: jwt, namespace: default}\n\
                      spec: {jwtRules: [{issuer: i, jwksUri: \"http://127.0.0.1:9/\", \
                      outputClaimToHeaders: [{header: x-user, claim: sub}]}]}\n---\n";
        mesh.policies(&(custom("custom", "p", ADMIN) + tokens)).await;
        let headers = "x-user: mallory\r\nx_user: mallory\r\nx-other: 1\r\n";
        assert_eq!(mesh.wire().await.ask(get("/admin", headers)).await.status(), 200);
        for seen in [only(&provider), only(&app)] {
            assert_eq!((seen.field("x-user"), seen.field("x_user")), (None, None));
            assert_eq!(seen.field("x-other"), Some("1"));
        }
    });
}

#[test]
fn a_no_is_the_providers_own_words() {
    run(async {
        let app = App::ok().await;
        let no = |extra: &'static str| {
            App::http1(move |_| {
                format!(
                    "HTTP/1.1 {extra}content-length: 5\r\nx-why: a\\\"b\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\nsorry"
                )
            })
        };
        let (all, some) =
            (no("401 No\r\nwww-authenticate: Basic\r\n").await, no("302 Go\r\nlocation: /login\r\n").await);
        let providers =
            http_provider("all", &all, "") + &http_provider("some", &some, ", headersToDownstreamOnDeny: [X-W*]");
        let mesh = mesh(&app, &providers).await;
        mesh.policies(&custom("custom", "all", ADMIN)).await;
        let answer = mesh.wire().await.ask(get("/admin", "")).await;
        assert_eq!((answer.status(), answer.text().as_str()), (401, "sorry"));
        assert_eq!((answer.field("www-authenticate"), answer.field("x-why")), (Some("Basic"), Some("a\\\"b")));
        assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
        let line = logged_path(mesh.backend(), "/admin").await;
        assert_eq!((line["verdict"].as_str(), line["reason"].as_str()), (Some("deny"), Some("custom_denied")));
        assert_eq!(
            (line["policy"].as_str(), line["ext_authz_result"].as_str()),
            (Some("default/custom rule 0"), Some("deny"))
        );
        assert_eq!((line["response_code"].as_u64(), line["response_flags"].as_str()), (Some(401), Some("UAEX")));
        let series = "mesh_policy_decisions_total{decision=\"deny\",reason=\"custom_denied\"}";
        assert_eq!(mesh.backend().metric(series).await, Some(1.0));

        mesh.policies(&custom("custom", "some", ADMIN)).await;
        let answer = mesh.wire().await.ask(get("/admin", "")).await;
        assert_eq!(
            (answer.status(), answer.field("location"), answer.field("x-why")),
            (302, Some("/login"), Some("a\\\"b"))
        );
        assert_eq!(answer.all("set-cookie"), Vec::<&str>::new());
        assert_eq!(app.connections(), 0);

        let grpc = format!(
            "POST /admin HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n"
        );
        mesh.policies(&custom("custom", "all", ADMIN)).await;
        let answer = mesh.wire().await.ask(grpc).await;
        assert_eq!((answer.status(), answer.field("grpc-status")), (200, Some("16")), "{answer:?}");
        assert_eq!((answer.field("grpc-message"), answer.text().as_str()), (Some("sorry"), ""));
    });
}

#[test]
fn what_a_yes_changes_is_what_the_policies_see_and_the_application_gets() {
    run(async {
        let app = App::ok().await;
        let yes = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-user: alice\r\nx-user: admins\r\nx-other: 1\r\n\
                   x-envoy-auth-headers-to-remove: x-secret, host\r\n\
                   x-forwarded-client-cert: URI=spiffe://evil\r\nhost: evil\r\nx-seen: yes\r\nconnection: x-seen\r\n\r\n";
        let provider = App::http1(move |_| yes.to_owned()).await;
        let fields = ", headersToUpstreamOnAllow: [x-user, x-forwarded-*, host, connection], \
                      headersToDownstreamOnAllow: [x-seen, content-*]";
        let mesh = mesh(&app, &http_provider("p", &provider, fields)).await;
        let alice = "[{when: [{key: \"request.headers[x-user]\", values: [alice, admins]}]}]";
        mesh.policies(&(custom("custom", "p", ADMIN) + &policy("allow", "ALLOW", alice))).await;
        // Without the provider's word nobody is alice, and with it the caller's own word is gone.
        assert_eq!(call(&mesh, "/").await, 403);
        let answer = mesh.wire().await.ask(get("/admin", "x-user: mallory\r\nx-other: mine\r\nx-secret: s\r\n")).await;
        assert_eq!((answer.status(), answer.text().as_str(), answer.field("x-seen")), (200, "ok", Some("yes")));
        let seen = only(&app);
        assert_eq!((seen.all("x-user"), seen.field("x-other")), (vec!["alice", "admins"], Some("mine")));
        assert_eq!((seen.field("host"), seen.field("x-forwarded-client-cert")), (Some(BACKEND), None));
        assert_eq!(seen.field("x-secret"), None);
        let line = logged_path(mesh.backend(), "/admin").await;
        assert_eq!((line["reason"].as_str(), line["ext_authz_result"].as_str()), (Some("allow_rule"), Some("allow")));
    });
}

#[test]
fn a_yes_does_not_skip_the_other_policies() {
    run(async {
        let (app, provider) = (App::ok().await, App::ok().await);
        let mesh = mesh(&app, &http_provider("p", &provider, "")).await;
        mesh.policies(&(custom("custom", "p", "[{}]") + &policy("deny", "DENY", ADMIN))).await;
        assert_eq!((call(&mesh, "/").await, call(&mesh, "/admin").await), (200, 403));
        assert_eq!(provider.take_seen().len(), 2);
        let line = logged_path(mesh.backend(), "/admin").await;
        assert_eq!(
            (line["reason"].as_str(), line["policy"].as_str()),
            (Some("deny_rule"), Some("default/deny rule 0"))
        );
    });
}

#[test]
fn a_body_is_shown_as_far_as_configured_and_forwarded_whole() {
    run(async {
        let (app, provider) = (App::ok().await, App::ok().await);
        let body = ", includeRequestBodyInCheck: {maxRequestBytes: 10, allowPartialMessage: ";
        let providers = http_provider("part", &provider, &format!("{body}true}}"))
            + &http_provider("whole", &provider, &format!("{body}false}}"));
        let mesh = mesh(&app, &providers).await;
        let long = "0123456789abcdef".repeat(20_000);
        let post =
            |body: &str| format!("POST /a HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let chunked = |body: &str| {
            let head = format!("POST /a HTTP/1.1\r\nhost: {BACKEND}\r\ntransfer-encoding: chunked\r\n\r\n");
            let chunks: String = body
                .as_bytes()
                .chunks(7)
                .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()))
                .collect();
            format!("{head}{chunks}0\r\n\r\n")
        };
        mesh.policies(&custom("custom", "part", "[{}]")).await;
        for (request, sent, shown, partial) in [
            (post("0123456789"), "0123456789", "0123456789", "false"),
            (post("0123456789a"), "0123456789a", "0123456789", "true"),
            (post(&long), long.as_str(), "0123456789", "true"),
            (chunked("0123456789abcdef"), "0123456789abcdef", "0123456789", "true"),
            (chunked(&long[..4000]), &long[..4000], "0123456789", "true"),
            (chunked("abc"), "abc", "abc", "false"),
        ] {
            let answer = mesh.wire().await.ask(&request).await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
            let check = only(&provider);
            assert_eq!((check.text().as_str(), check.field("x-envoy-auth-partial-body")), (shown, Some(partial)));
            assert!(only(&app).text() == sent, "the application got another body than the one of {} bytes", sent.len());
        }
        mesh.policies(&custom("custom", "whole", "[{}]")).await;
        for (request, expected) in [
            (post("0123456789"), 200),
            (post("0123456789a"), 413),
            (chunked("0123456789"), 200),
            (chunked("0123456789abcdef"), 413),
        ] {
            assert_eq!(mesh.wire().await.ask(request).await.status(), expected);
            assert_eq!(
                (provider.take_seen().len(), app.take_seen().len()),
                if expected == 200 { (1, 1) } else { (0, 0) }
            );
        }
        // Nothing to show of a request that has none.
        assert_eq!(mesh.wire().await.ask(get("/a", "")).await.status(), 200);
        assert_eq!(only(&provider).field("x-envoy-auth-partial-body"), None);
    });
}

#[test]
fn a_provider_in_the_mesh_is_asked_over_mutual_tls() {
    run(async {
        let (app, provider) = (
            App::ok().await,
            App::http1(|check| {
                if check.target() == "/no" { "HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n".to_owned() } else { ok("") }
            })
            .await,
        );
        let fields = "{service: default/ext-authz.default.svc.cluster.local, port: 80, timeout: 10s}";
        let mut mesh = mesh(&app, &format!("- {{name: p, envoyExtAuthzHttp: {fields}}}\n")).await;
        let address = mesh.sandbox.next_address();
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: ext-authz, namespace: default}\n\
                       spec: {selector: {app: ext-authz}, ports: [{name: http, port: 80, targetPort: 8080}]}\n";
        mesh.sandbox
            .write_resource("ext-authz.yaml", &(service.to_owned() + &pod("ext-authz", "ext-authz", address, "")))
            .unwrap();
        let spec = PodSpec {
            name: "ext-authz".to_owned(),
            service_account: "ext-authz".to_owned(),
            app: "ext-authz".to_owned(),
            application: Some(provider.address()),
            ..PodSpec::default()
        };
        let sidecar = mesh.sandbox.start(&spec, address).await.unwrap();
        mesh.policies(&custom("custom", "p", "[{}]")).await;
        assert_eq!((call(&mesh, "/yes").await, call(&mesh, "/no").await), (200, 403));
        let line = logged_path(&sidecar, "/yes").await;
        assert_eq!(line["peer"], "spiffe://cluster.local/ns/default/sa/backend");

        // Another identity where the provider should be: nobody is asked in the clear instead.
        let impostor = service.to_owned()
            + &pod("ext-authz", "frontend", address, "").replace("{app: frontend}", "{app: ext-authz}");
        mesh.sandbox.write_resource("ext-authz.yaml", &impostor).unwrap();
        mesh.policies(&custom("custom-2", "p", "[{}]")).await;
        provider.take_seen();
        assert_eq!(call(&mesh, "/after").await, 403);
        assert_eq!(provider.take_seen().len(), 0);
        let line = logged_path(mesh.backend(), "/after").await;
        assert_eq!(line["reason"], "custom_failed");
    });
}

#[test]
fn nobody_gets_past_a_provider_by_sending_bytes_to_a_port_declared_http() {
    run(async {
        let app = App::ok().await;
        let provider = App::http1(|_| "HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
        let mesh = mesh(&app, &(http_provider("p", &provider, "") + "timeouts: {detect: 100ms}\n")).await;
        mesh.policies(&custom("custom", "p", "[{}]")).await;
        for request in [format!("\r\n{}", get("/", "")), get("/", "").replace("GET", "get")] {
            assert_eq!(mesh.outside().await.ask(request).await.status(), 401);
        }
        let mut late = mesh.outside().await;
        let timed_out = "mesh_detections_total{direction=\"inbound\",outcome=\"timeout\"}";
        mesh.backend().until_metric(timed_out, |count| count >= 1.0).await.unwrap();
        assert_eq!(late.ask(get("/", "")).await.status(), 401);
        let frontend = Authority::of(&mesh.sandbox).issue(FRONTEND);
        let config = Arc::new(tls(Some(&frontend), MESH_TCP));
        let mut client = Client::http1(handshake(mesh.backend().inbound(), &config).await.unwrap()).await;
        assert_eq!(client.get("/").await.unwrap().0, 401);
        assert!(app.take_seen().is_empty());
    });
}

#[test]
fn requests_over_http2_are_asked_about_alike() {
    run(async {
        let app = App::http2(async |_| http::Response::new(full("h2"))).await;
        let provider = App::http1(|check| match check.target() {
            "/no" => "HTTP/1.1 401 No\r\ncontent-length: 5\r\n\r\nsorry".to_owned(),
            _ => ok(""),
        })
        .await;
        let mesh = mesh(&app, &http_provider("p", &provider, "")).await;
        mesh.policies(&custom("custom", "p", "[{}]")).await;
        let frontend = Authority::of(&mesh.sandbox).issue(FRONTEND);
        let config = Arc::new(tls(Some(&frontend), MESH_HTTP2));
        let mut client = Client::http2(handshake(mesh.backend().inbound(), &config).await.unwrap()).await;
        assert_eq!(client.get("/yes").await.unwrap(), (200, "h2".to_owned()));
        assert_eq!(only(&provider).field("host"), Some(BACKEND));
        assert_eq!(client.get("/no").await.unwrap(), (401, "sorry".to_owned()));
        assert_eq!(client.get("/yes").await.unwrap(), (200, "h2".to_owned()));
    });
}
