//! HTTP/1 through a pair of sidecars: framing, order, and what the proxy itself answers.

mod corners;
mod grpc;
mod http2;
mod report;
mod told;
mod upgrade;
mod versions;

use meshgate_tests::run;

use crate::support::app::{App, nobody, ok};
use crate::support::curl;
use crate::support::mesh::{BACKEND, Mesh, logged_path, policy};
use crate::support::wire::Wire;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")
}

#[test]
fn many_requests_on_one_connection_are_answered_over_one_upstream_connection() {
    run(async {
        let app = App::http1(|request| ok(request.target())).await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        for number in 0..200 {
            let path = format!("/{number}");
            assert_eq!(client.ask(get(&path)).await.text(), path);
        }
        assert_eq!(app.take_seen().len(), 200);
        assert_eq!(app.connections(), 1);
    });
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    run(async {
        let app = App::http1(|request| ok(request.target())).await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        let paths: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
        client.send(paths.iter().map(|path| get(path)).collect::<String>()).await;
        for path in paths {
            assert_eq!(client.answer().await.text(), path);
        }
    });
}

#[test]
fn http_1_0_gets_a_close_delimited_answer_whatever_the_application_frames() {
    run(async {
        let app = App::http1(|_| chunked(&["hel", "lo"], "")).await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        let answer = client.ask("GET /old HTTP/1.0\r\nhost: backend\r\n\r\n").await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
        assert_eq!(answer.field("transfer-encoding"), None);
        assert_eq!(client.rest().await, b"");
        assert_eq!(app.take_seen()[0].start, "GET /old HTTP/1.1");
        let line = logged_path(&mesh.frontend, "/old").await;
        assert_eq!(line["protocol"], "HTTP/1.0");
    });
}

#[test]
fn answers_without_a_body_keep_their_fields_and_the_connection() {
    run(async {
        let app = App::http1(|request| match request.target() {
            "/204" => "HTTP/1.1 204 No Content\r\nx-kind: none\r\n\r\n".to_owned(),
            "/304" => "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n".to_owned(),
            "/head" => "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n".to_owned(),
            _ => ok("after"),
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        let answer = client.ask(get("/204")).await;
        assert_eq!((answer.status(), answer.field("x-kind")), (204, Some("none")));
        assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), (None, None));
        let answer = client.ask(get("/304")).await;
        assert_eq!((answer.status(), answer.field("etag")), (304, Some("\"a\"")));
        client.send(format!("HEAD /head HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")).await;
        let answer = client.head().await.unwrap();
        assert_eq!((answer.status(), answer.field("content-length")), (200, Some("1234")));
        // A byte of a body that must not be there would be read as part of this answer.
        assert_eq!(client.ask(get("/after")).await.text(), "after");
    });
}

#[test]
fn chunked_bodies_pass_both_ways_however_they_are_cut() {
    run(async {
        let app = App::http1(|request| {
            let body = request.text();
            chunked(&[&body[..1], &body[1..]], "")
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        client.send(format!("POST / HTTP/1.1\r\nhost: {BACKEND}\r\ntransfer-encoding: chunked\r\n\r\n")).await;
        for piece in ["5\r\nhel", "lo\r", "\n6;a=b\r\n world\r\n0", "\r\n\r", "\n"] {
            client.send(piece).await;
        }
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello world"));
        assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
        let seen = app.take_seen();
        assert_eq!(seen[0].text(), "hello world");
        assert_eq!((seen[0].field("transfer-encoding"), seen[0].field("content-length")), (Some("chunked"), None));
        assert_eq!(client.ask(post("/known", "xyz")).await.text(), "xyz");
        assert_eq!(app.take_seen()[0].field("content-length"), Some("3"));
    });
}

#[test]
fn trailers_pass_both_ways_but_never_identity_or_framing() {
    run(async {
        let trailers =
            "x-sum: 42\r\ncontent-length: 3\r\nauthorization: a\r\nx-forwarded-client-cert: By=spiffe://a\r\n";
        let app = App::http1(move |_| chunked(&["ok"], trailers)).await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        let answer = client
            .ask(format!(
                "POST / HTTP/1.1\r\nhost: {BACKEND}\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\
                 trailer: x-sum, x-forwarded-client-cert, x_forwarded_client_cert, authorization, host\r\n\r\n2\r\nhi\r\n0\r\n\
                 x-sum: 7\r\nx-forwarded-client-cert: By=spiffe://evil\r\nx_forwarded_client_cert: By=spiffe://evil\r\n\
                 authorization: Basic YTpi\r\nhost: other\r\n\r\n"
            ))
            .await;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(answer.trailers, [pair("x-sum", "42")]);
        assert_eq!(app.take_seen()[0].trailers, [pair("x-sum", "7")]);
    });
}

#[test]
fn expect_100_continue_is_answered_before_the_body_is_sent() {
    run(async {
        let app = App::http1(|request| ok(&request.text())).await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        let head = format!("PUT / HTTP/1.1\r\nhost: {BACKEND}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
        assert_eq!(client.ask(&head).await.status(), 100);
        assert_eq!(client.ask("body").await.text(), "body");
        mesh.policies(&policy("no-put", "DENY", "[{to: [{operation: {methods: [PUT]}}]}]")).await;
        app.take_seen();
        // Who is refused need not send the body at all.
        assert_eq!(mesh.outside().await.ask(&head).await.status(), 403);
        assert_eq!(app.take_seen(), []);
    });
}

#[test]
fn curl_waiting_for_100_continue_is_not_kept_waiting() {
    run(async {
        let app = App::http1(|request| ok(&request.body.len().to_string())).await;
        let mesh = Mesh::of(app.address()).await;
        let file = mesh.sandbox.path("upload");
        std::fs::write(&file, vec![b'x'; 100_000]).unwrap();
        let (host, url) = (format!("host: {BACKEND}"), format!("http://{}/", mesh.frontend.outbound()));
        let upload = ["-H", &host, "-H", "expect: 100-continue", "--expect100-timeout", "50", "--max-time", "20"];
        let Some(output) = curl(&[&upload[..], &["-T", file.to_str().unwrap(), &url]].concat()).await else { return };
        assert_eq!(String::from_utf8_lossy(&output.stdout), "100000", "{output:?}");
    });
}

#[test]
fn an_early_answer_arrives_while_the_upload_still_goes() {
    run(async {
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            if wire.head().await.is_some() {
                wire.send("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 5\r\n\r\nlarge").await;
                wire.rest().await;
            }
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut client = mesh.wire().await;
        client.send(format!("POST / HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-length: 1000000000\r\n\r\nbegin")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text().as_str()), (413, "large"));
        // The rest of that body must never be taken for a request on this connection or the one to the application.
        client.try_send(get("/smuggled")).await;
        assert_eq!(client.rest().await, b"");
        assert_eq!(mesh.get("/next").await.to_string(), "413 large");
        assert_eq!(app.connections(), 2);
    });
}

#[test]
fn a_refusal_says_only_what_istio_says() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("none", "ALLOW", "[]")).await;
        let mut client = mesh.wire().await;
        let answer = client.ask(get("/secret")).await;
        assert_eq!(answer.start, "HTTP/1.1 403 Forbidden");
        assert_eq!(answer.text(), "RBAC: access denied");
        assert_eq!(answer.field("content-type"), Some("text/plain"));
        assert_eq!(answer.field("content-length"), Some("19"));
        assert_eq!(answer.fields.len(), 2, "{answer:?}");
        client.send(format!("HEAD /secret HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")).await;
        let head = client.head().await.unwrap();
        assert_eq!((head.status(), head.field("content-type")), (403, Some("text/plain")));
        // The next answer would begin with the body that a HEAD must not have.
        assert_eq!(client.ask(get("/secret")).await, answer);
        assert_eq!(app.connections(), 0);
    });
}

#[test]
fn an_application_that_is_down_is_a_503_that_says_whose_fault_it_is() {
    run(async {
        let (_held, address) = nobody();
        let mesh = Mesh::of(address).await;
        assert_eq!(mesh.get("/down").await.to_string(), "503 upstream connect error");
        let line = logged_path(mesh.backend(), "/down").await;
        assert_eq!((line["response_code"].as_u64(), line["response_flags"].as_str()), (Some(503), Some("UF")));
        // Nobody else could be asked, and it is the called side that says what failed.
        let line = logged_path(&mesh.frontend, "/down").await;
        assert_eq!((line["response_code"].as_u64(), line["response_flags"].as_str()), (Some(503), Some("UF")));
        let details = line["response_code_details"].as_str().unwrap_or_default();
        assert!(details.ends_with("its proxy did not reach the application"), "{details}");
    });
}

#[test]
fn an_application_that_closed_a_kept_connection_costs_no_request() {
    run(async {
        // Answers once, keeps the promise of keep-alive open, and closes: the next request must go over a new connection.
        let app = App::tcp(async |stream| {
            let mut wire = Wire::over(stream);
            if wire.request().await.is_some() {
                wire.send(ok("once")).await;
            }
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        for _ in 0..20 {
            assert_eq!(mesh.get("/").await.to_string(), "200");
        }
        assert_eq!(app.connections(), 20);
    });
}

#[test]
fn a_post_that_was_sent_is_never_sent_again() {
    run(async {
        let app = App::tcp(async |stream| {
            // Takes the request and goes away without an answer.
            Wire::over(stream).request().await;
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let answer = mesh.wire().await.ask(post("/once", "x")).await;
        assert_eq!(answer.status(), 503);
        assert_eq!(app.connections(), 1);
        assert_eq!(logged_path(mesh.backend(), "/once").await["response_flags"], "UC");
    });
}

#[test]
fn the_methods_of_a_rule_are_case_sensitive_and_any_token_passes_to_the_application() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("get", "ALLOW", "[{to: [{operation: {methods: [GET, PURGE]}}]}]")).await;
        let mut client = mesh.wire().await;
        for (method, status) in [("GET", 200), ("PURGE", 200), ("POST", 403), ("Get", 403)] {
            let answer = client.ask(format!("{method} / HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")).await;
            assert_eq!(answer.status(), status, "{method}");
        }
        let methods: Vec<String> = app.take_seen().into_iter().map(|request| request.start).collect();
        assert_eq!(methods, ["GET / HTTP/1.1", "PURGE / HTTP/1.1"]);
    });
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn chunked(chunks: &[&str], trailers: &str) -> String {
    let mut text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, authorization, x-forwarded-client-cert\r\n\r\n".to_owned();
    for chunk in chunks {
        text += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
    }
    text + "0\r\n" + trailers + "\r\n"
}
