//! gRPC providers: one in this process whose bytes are written by hand, and Google's gRPC server with Envoy's definitions.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::Frame;
use meshgate_tests::run;
use serde_json::Value;

use super::{call, custom, get, grpc_provider, mesh, only};
use crate::support::app::{App, Frames};
use crate::support::foreign::Foreign;
use crate::support::mesh::{BACKEND, logged_path, policy};

/// How a provider written by hand answers.
#[derive(Clone)]
pub(super) enum Says {
    /// A message, and that all went well.
    Message(Vec<u8>),
    /// Headers and nothing else.
    Headers(u16, &'static [(&'static str, &'static str)]),
    /// A message, and no end.
    Unfinished,
}

/// A provider and the messages it got, each with its prefix.
pub(super) struct Provider {
    pub(super) app: App,
    pub(super) seen: Rc<RefCell<Vec<(HeaderMap, Bytes)>>>,
}

impl Provider {
    pub(super) async fn saying(answer: impl Fn(&[u8]) -> Says + 'static) -> Self {
        let seen = Rc::<RefCell<Vec<(HeaderMap, Bytes)>>>::default();
        let kept = Rc::clone(&seen);
        let app = App::http2(async move |request| {
            assert_eq!(request.uri().path(), "/envoy.service.auth.v3.Authorization/Check");
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let says = answer(&body);
            kept.borrow_mut().push((head.headers, body));
            let (sender, frames) = Frames::channel();
            let mut response = Response::new(frames);
            response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            match says {
                Says::Headers(status, fields) => {
                    *response.status_mut() = status.try_into().unwrap();
                    for (name, value) in fields {
                        response.headers_mut().insert(*name, value.parse().unwrap());
                    }
                }
                Says::Unfinished => {
                    tokio::task::spawn_local(async move {
                        let _ = sender.send(Frame::data(Bytes::from_static(&[0, 0, 0]))).await;
                        sender.closed().await;
                    });
                }
                Says::Message(message) => {
                    let mut framed = vec![0];
                    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
                    framed.extend(message);
                    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
                    tokio::task::spawn_local(async move {
                        // A caller that has had enough does not hear the rest.
                        let _ = sender.send(Frame::data(framed.into())).await;
                        let _ = sender.send(Frame::trailers(trailers)).await;
                    });
                }
            }
            response
        })
        .await;
        Self { app, seen }
    }

    pub(super) fn port(&self) -> u16 {
        self.app.address().port()
    }
}

/// A field of a message: its number and its bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        field.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap());
    field.extend(bytes);
    field
}

/// `ok_response` with one header that replaces.
fn yes(name: &str, value: &str) -> Vec<u8> {
    let header = [field(1, name.as_bytes()), field(2, value.as_bytes())].concat();
    [field(1, b""), field(3, &field(2, &field(1, &header)))].concat()
}

/// `status` 7 and a `denied_response` with a body and a status of 401.
pub(super) fn no(body: &str) -> Vec<u8> {
    let denied = [field(1, &[0x08, 0x91, 0x03]), field(3, body.as_bytes())].concat();
    [field(1, &[0x08, 0x07]), field(2, &denied)].concat()
}

#[test]
fn a_provider_gets_one_message_and_its_answer_is_carried_out() {
    run(async {
        let app = App::ok().await;
        let provider = Provider::saying(|check| {
            let denied = check.windows(5).any(|part| part == b"/deny");
            Says::Message(if denied { no("who are you?") } else { yes("x-user", "alice") })
        })
        .await;
        let mesh = mesh(&app, &grpc_provider("p", provider.port(), "")).await;
        let alice = "[{when: [{key: \"request.headers[x-user]\", values: [alice]}]}]";
        mesh.policies(&(custom("custom", "p", "[{}]") + &policy("allow", "ALLOW", alice))).await;
        let mut client = mesh.wire().await;
        for _ in 0..3 {
            assert_eq!(client.ask(get("/a?b=c", "x-user: mallory\r\nx-one: 1\r\n")).await.status(), 200);
            assert_eq!(only(&app).all("x-user"), ["alice"]);
        }
        let answer = client.ask(get("/deny", "")).await;
        assert_eq!((answer.status(), answer.text().as_str()), (401, "who are you?"));
        assert_eq!(provider.app.connections(), 1, "the connection is used again");
        let (headers, message) = provider.seen.borrow()[0].clone();
        assert_eq!(
            (&headers["content-type"], &headers["te"]),
            (&"application/grpc".parse().unwrap(), &"trailers".parse().unwrap())
        );
        assert_eq!(headers["grpc-timeout"], "10000m");
        assert_eq!(message[..5], [&[0], &u32::try_from(message.len() - 5).unwrap().to_be_bytes()[..]].concat());
        let has = |bytes: &[u8]| message.windows(bytes.len()).any(|part| part == bytes);
        for (number, text) in [
            (4, "spiffe://cluster.local/ns/default/sa/frontend"),
            (4, "spiffe://cluster.local/ns/default/sa/backend"),
            (2, "GET"),
            (4, "/a?b=c"),
            (5, BACKEND),
            (6, "https"),
            (10, "HTTP/1.1"),
        ] {
            assert!(has(&field(number, text.as_bytes())), "field {number}, {text}: {message:?}");
        }
        assert!(has(&[field(1, b"x-user"), field(2, b"mallory")].concat()), "{message:?}");
        let line = logged_path(mesh.backend(), "/deny").await;
        assert_eq!((line["reason"].as_str(), line["ext_authz_provider"].as_str()), (Some("custom_denied"), Some("p")));
    });
}

#[test]
fn what_is_no_answer_in_grpc_is_a_no() {
    run(async {
        let app = App::ok().await;
        let huge = no(&"a".repeat(300 * 1024));
        for (name, says, result) in [
            ("unavailable", Says::Headers(200, &[("grpc-status", "14"), ("grpc-message", "a\"b")]), "error"),
            ("status", Says::Headers(500, &[]), "error"),
            ("page", Says::Headers(200, &[("content-type", "text/html")]), "error"),
            ("empty", Says::Headers(200, &[("grpc-status", "0")]), "error"),
            ("statusless", Says::Headers(200, &[]), "error"),
            ("garbage", Says::Message(vec![0xff; 20]), "error"),
            ("huge", Says::Message(huge), "error"),
            ("unfinished", Says::Unfinished, "timeout"),
        ] {
            let provider = Provider::saying(move |_| says.clone()).await;
            let timeout = if result == "timeout" { "300ms" } else { "10s" };
            let closed = grpc_provider("closed", provider.port(), ", statusOnError: \"500\"").replace("10s", timeout);
            let open = grpc_provider("open", provider.port(), ", failOpen: true").replace("10s", timeout);
            let mesh = mesh(&app, &(closed + &open)).await;
            mesh.policies(&custom("custom", "closed", "[{}]")).await;
            assert_eq!(call(&mesh, "/a").await, 500, "{name}");
            let line = logged_path(mesh.backend(), "/a").await;
            assert_eq!(
                (line["reason"].as_str(), line["ext_authz_result"].as_str()),
                (Some("custom_failed"), Some(result)),
                "{name}"
            );
            mesh.policies(&custom("custom", "open", "[{}]")).await;
            assert_eq!(call(&mesh, "/b").await, 200, "{name}");
        }
    });
}

/// Google's server, in a process of its own.
fn foreign() -> Option<Foreign> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/ext_authz/provider.py");
    Foreign::start("a gRPC provider that is not ours", script, &[])
}

#[test]
fn googles_grpc_and_envoys_definitions_understand_us_and_we_them() {
    run(async {
        let Some(foreign) = foreign() else { return };
        let app = App::ok().await;
        let mesh = mesh(&app, &grpc_provider("p", foreign.port, "")).await;
        let alice = "[{when: [{key: \"request.headers[:path]\", values: [\"/change?a=1&who=alice\"]}, \
                     {key: \"request.headers[x-user]\", values: [alice]}]}]";
        mesh.policies(&(custom("custom", "p", "[{}]") + &policy("allow", "ALLOW", alice))).await;
        let mut client = mesh.wire().await;

        let headers = "x-user: mallory\r\nx-list: 1\r\nx-secret: s\r\n";
        let answer = client.ask(get("/change?a=1&%64ebug=1&who=mallory", headers)).await;
        assert_eq!((answer.status(), answer.field("x-seen")), (200, Some("yes")), "{answer:?}");
        let seen = only(&app);
        assert_eq!((seen.target(), seen.field("host")), ("/change?a=1&who=alice", Some(BACKEND)));
        assert_eq!(
            (seen.all("x-user"), seen.all("x-list"), seen.field("x-secret")),
            (vec!["alice"], vec!["1", "2"], None)
        );

        let answer = client.ask(get("/deny", "")).await;
        assert_eq!((answer.status(), answer.text().as_str()), (401, "who are you?"));
        assert_eq!(answer.field("www-authenticate"), Some("Basic"));
        assert_eq!(client.ask(get("/abort", "")).await.status(), 403);
        let line = logged_path(mesh.backend(), "/abort").await;
        assert_eq!(line["ext_authz_error"], "gRPC status 14: not today");
        // Allowed by the provider, and by nobody else.
        assert_eq!(client.ask(get("/other", "")).await.status(), 403);
    });
}

#[test]
fn googles_grpc_reads_in_a_check_what_envoy_would_have_written() {
    run(async {
        let Some(foreign) = foreign() else { return };
        let app = App::ok().await;
        let body = ", includeRequestBodyInCheck: {maxRequestBytes: 4, allowPartialMessage: true}";
        let mesh = mesh(&app, &grpc_provider("p", foreign.port, body)).await;
        mesh.policies(&custom("custom", "p", "[{}]")).await;
        let post = format!(
            "POST /show?q HTTP/1.1\r\nhost: {BACKEND}\r\nx-one: 1\r\nx-one: 2\r\ncontent-length: 6\r\n\r\nabcdef"
        );
        let answer = mesh.wire().await.ask(post).await;
        assert_eq!(answer.status(), 418);
        let shown: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(shown["source"]["principal"], "spiffe://cluster.local/ns/default/sa/frontend");
        assert_eq!(shown["destination"]["principal"], "spiffe://cluster.local/ns/default/sa/backend");
        let inbound = mesh.backend().inbound();
        let to = &shown["destination"]["address"]["socketAddress"];
        assert_eq!(
            (to["address"].as_str(), to["portValue"].as_u64()),
            (Some(inbound.ip().to_string().as_str()), Some(u64::from(inbound.port())))
        );
        assert_eq!(shown["tlsSession"]["sni"], BACKEND);
        assert!(shown["request"]["time"].is_string(), "{shown:#}");
        let http = &shown["request"]["http"];
        for (name, value) in [
            ("method", "POST"),
            ("path", "/show?q"),
            ("host", BACKEND),
            ("scheme", "https"),
            ("size", "6"),
            ("protocol", "HTTP/1.1"),
            ("body", "abcd"),
        ] {
            assert_eq!(http[name], value, "{shown:#}");
        }
        for (name, value) in [
            (":method", "POST"),
            (":path", "/show?q"),
            (":authority", BACKEND),
            (":scheme", "https"),
            ("x-one", "1,2"),
            ("x-envoy-auth-partial-body", "true"),
            ("content-length", "6"),
        ] {
            assert_eq!(http["headers"][name], value, "{shown:#}");
        }
    });
}
