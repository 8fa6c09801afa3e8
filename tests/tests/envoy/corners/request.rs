//! Hosts, methods, paths, headers; and how a refusal looks.

use serde_json::{Value, json};

use super::{Corner, check};
use crate::call::{Call, What};
use crate::people::{FRONTEND, NOBODY};

fn operation(field: &str, values: &[&str]) -> Value {
    json!({"rules": [{"to": [{"operation": {field: values}}]}]})
}

fn when(key: &str, values: &[&str]) -> Value {
    json!({"rules": [{"when": [{"key": key, "values": values}]}]})
}

fn deny_when(key: &str, form: &str, values: &[&str]) -> Value {
    json!({"action": "DENY", "rules": [{"when": [{"key": key, form: values}]}]})
}

/// A request without anything but its first line and these lines.
fn raw(lines: &str) -> Call {
    Call::http1(NOBODY, lines)
}

fn host(host: &str) -> Call {
    raw(&format!("GET / HTTP/1.1\r\nhost:{host}"))
}

fn headers(lines: &str) -> Call {
    raw(&format!("GET / HTTP/1.1\r\nhost: h\r\n{lines}x-end: 1"))
}

fn http2(method: &'static str, authority: &str, path: &str, headers: &[(&'static str, &'static str)]) -> Call {
    let (authority, path, headers) = (authority.to_owned(), path.to_owned(), headers.to_vec());
    Call { who: FRONTEND, source: 1, sni: None, what: What::Http2 { method, authority, path, headers } }
}

#[test]
fn hosts_are_compared_whole_and_without_case() {
    check(vec![
        Corner::new(
            [operation("hosts", &["example.com"])],
            [
                (host(" example.com"), "allowed /"),
                (host("Example.COM"), "allowed /"),
                (host("   example.com  "), "allowed /"),
                (host(" example.com:80"), "403"),
                (host(" example.com."), "403"),
                (host(" a.example.com"), "403"),
                (host(" examplexcom"), "403"),
                (host(""), "403"),
                (raw("GET / HTTP/1.1"), "400"),
                (raw("GET http://example.com/p HTTP/1.1\r\nhost: other"), "allowed /p"),
                (raw("GET HTTP://EXAMPLE.com/p HTTP/1.1\r\nhost: other"), "allowed /p"),
                (raw("GET http://example.com HTTP/1.1\r\nhost: other"), "allowed /"),
                (raw("GET example.com HTTP/1.1\r\nhost: example.com"), "400"),
                (raw("GET example.com:80 HTTP/1.1\r\nhost: example.com"), "400"),
                (raw("GET ftp://example.com/p HTTP/1.1\r\nhost: example.com"), "400"),
                (raw("GET http://other/p HTTP/1.1\r\nhost: example.com"), "403"),
                (raw("GET http://example.com:80/p HTTP/1.1\r\nhost: example.com"), "403"),
                (raw("GET / HTTP/1.1\r\nhost: other\r\nx-forwarded-host: example.com"), "403"),
                (http2("GET", "example.com", "/", &[]), "allowed /"),
                (http2("GET", "EXAMPLE.com", "/", &[]), "allowed /"),
                (http2("GET", "other", "/", &[]), "403"),
            ],
        ),
        Corner::new(
            [operation("hosts", &["EXAMPLE.com", "Example.com:*", "*.Svc"])],
            [
                (host("example.com"), "allowed /"),
                (host("example.com:1"), "allowed /"),
                (host("a.SVC"), "allowed /"),
                (host(".svc"), "allowed /"),
                (host("svc"), "403"),
            ],
        ),
        Corner::new([operation("hosts", &["*"])], [(host(""), "allowed /"), (host("a"), "allowed /")]),
        Corner::new(
            [operation("notHosts", &["a"])],
            [(host(""), "allowed /"), (host("A"), "403"), (host("a:80"), "allowed /")],
        ),
        // The pseudo-header is compared with case.
        Corner::new(
            [when("request.headers[:authority]", &["Example.com"])],
            [(host("example.com"), "403"), (host("Example.com"), "allowed /")],
        ),
        Corner::new(
            [when("request.headers[Host]", &["example.com"])],
            [(host("example.com"), "allowed /"), (host("Example.com"), "403")],
        ),
    ]);
}

#[test]
fn methods_are_compared_with_case() {
    let method = |method: &str| raw(&format!("{method} / HTTP/1.1\r\nhost: h"));
    check(vec![
        Corner::new(
            [operation("methods", &["GET", "P*"])],
            [
                (method("GET"), "allowed /"),
                (method("HEAD"), "403"),
                (method("POST"), "allowed /"),
                (method("PATCH"), "allowed /"),
                (method("DELETE"), "403"),
                (method("OPTIONS"), "403"),
                (http2("GET", "h", "/", &[]), "allowed /"),
                (http2("get", "h", "/", &[]), "403"),
                (http2("PROP", "h", "/", &[]), "allowed /"),
            ],
        ),
        Corner::new(
            [operation("methods", &["*"])],
            [(method("GET"), "allowed /"), (http2("x", "h", "/", &[]), "allowed /")],
        ),
        Corner::new(
            [operation("methods", &["*T"])],
            [(method("GET"), "allowed /"), (method("PUT"), "allowed /"), (method("HEAD"), "403")],
        ),
        Corner::new(
            [operation("notMethods", &["GET"])],
            [(method("GET"), "403"), (http2("get", "h", "/", &[]), "allowed /")],
        ),
        Corner::new(
            [when("request.headers[:method]", &["GET"])],
            [(method("GET"), "allowed /"), (method("PUT"), "403")],
        ),
        Corner::new([operation("methods", &["get"])], [(method("GET"), "403")]),
    ]);
}

#[test]
fn paths_are_compared_without_their_query() {
    let get = |path: &str| Call::get(NOBODY, path);
    check(vec![
        Corner::new(
            [operation("paths", &["/a", "/b/*", "*/c", "/q?x", "/d*e"])],
            [
                (get("/a"), "allowed /a"),
                (get("/a?x=1"), "allowed /a?x=1"),
                (get("/a?"), "allowed /a?"),
                (get("/a/"), "403"),
                (get("/A"), "403"),
                (get("/b"), "403"),
                (get("/b/"), "allowed /b/"),
                (get("/b/x?/c"), "allowed /b/x?/c"),
                (get("/x/c"), "allowed /x/c"),
                (get("/c"), "allowed /c"),
                (get("/x?y=/c"), "403"),
                (get("/q?x"), "403"),
                (get("/q%3Fx"), "403"),
                (get("/d*e"), "allowed /d*e"),
                (get("/dxe"), "403"),
                (get("/a;x"), "403"),
                (get("/a%20"), "403"),
                (http2("GET", "h", "/a?x", &[]), "allowed /a?x"),
                (http2("GET", "h", "/x/../a", &[]), "allowed /a"),
            ],
        ),
        Corner::new([operation("paths", &["*"])], [(get("/"), "allowed /"), (get("/?"), "allowed /?")]),
        Corner::new([operation("notPaths", &["*"])], [(get("/"), "403")]),
        Corner::new(
            [when("request.headers[:path]", &["/a?x", "/b*", "*?y"])],
            [
                (get("/a?x"), "allowed /a?x"),
                (get("/a"), "403"),
                (get("/b?z"), "allowed /b?z"),
                (get("/./%62?z"), "allowed /b?z"),
                (get("/c?y"), "allowed /c?y"),
            ],
        ),
        Corner::new(
            [operation("paths", &["/t/{*}/x", "/r/{**}", "/s/{**}/c", "/u/{*}/v/{**}"])],
            [
                (get("/t/1/x"), "allowed /t/1/x"),
                (get("/t//x"), "403"),
                (get("/t/1/2/x"), "403"),
                (get("/t/a-._~%25!$&'()+,;:@=*/x"), "allowed /t/a-._~%25!$&'()+,;:@=*/x"),
                (get("/t/[/x"), "403"),
                (get("/r/"), "allowed /r/"),
                (get("/r"), "403"),
                (get("/r/a/b/c?x"), "allowed /r/a/b/c?x"),
                (get("/s/c"), "403"),
                (get("/s/a/b/c"), "allowed /s/a/b/c"),
                (get("/u/1/v/"), "allowed /u/1/v/"),
                (get("/u/1/v"), "403"),
                (get("/u//v/x"), "403"),
            ],
        ),
    ]);
}

#[test]
fn headers_are_compared_line_by_line() {
    check(vec![
        Corner::new(
            [when("request.headers[X-A]", &["user", "pre*", "*post"])],
            [
                (headers("x-a: user\r\n"), "allowed /"),
                (headers("X-A:user\r\n"), "allowed /"),
                (headers("x-a: \t user \t\r\n"), "allowed /"),
                (headers("x-a: User\r\n"), "403"),
                (headers("x_a: user\r\n"), "403"),
                (headers("x-a: user,admin\r\n"), "403"),
                (headers("x-a: prefix\r\n"), "allowed /"),
                (headers("x-a: the post\r\n"), "allowed /"),
                (headers("x-a:\r\n"), "403"),
                (headers(""), "403"),
                (headers("x-a: user\r\nx-a: prefix\r\n"), "allowed /"),
                (headers("x-a: admin\r\nx-a: root\r\n"), "403"),
                (http2("GET", "h", "/", &[("x-a", "user")]), "allowed /"),
            ],
        ),
        Corner::new(
            [when("request.headers[x-a]", &["*"])],
            [(headers("x-a:\r\n"), "allowed /"), (headers("x-a: 1\r\n"), "allowed /"), (headers(""), "403")],
        ),
        Corner::new(
            [deny_when("request.headers[x-a]", "values", &["bad"])],
            [
                (headers("x-a: bad\r\n"), "403"),
                (headers("x-a: good\r\nx-a: bad\r\n"), "403"),
                (headers("x-a: bad\r\nx-a: good\r\n"), "403"),
                (headers("x-a: good,bad\r\n"), "allowed /"),
                (headers(""), "allowed /"),
            ],
        ),
    ]);
}

#[test]
fn absent_headers_joined_cookies_and_what_is_no_header() {
    check(vec![
        Corner::new(
            [deny_when("request.headers[x-a]", "notValues", &["*"])],
            [(headers(""), "403"), (headers("x-a:\r\n"), "allowed /"), (headers("x-a: 1\r\n"), "allowed /")],
        ),
        Corner::new(
            [json!({"rules": [{"when": [{"key": "request.headers[x-a]", "notValues": ["bad"]}]}]})],
            [
                (headers(""), "allowed /"),
                (headers("x-a: good\r\n"), "allowed /"),
                (headers("x-a: good\r\nx-a: bad\r\n"), "403"),
            ],
        ),
        Corner::new(
            [when("request.headers[cookie]", &["a=1; b=2"])],
            [
                (headers("cookie: a=1; b=2\r\n"), "allowed /"),
                (http2("GET", "h", "/", &[("cookie", "a=1"), ("cookie", "b=2")]), "allowed /"),
                (http2("GET", "h", "/", &[("cookie", "a=1")]), "403"),
                (headers("cookie: a=1\r\ncookie: b=2\r\n"), "403"),
            ],
        ),
        Corner::new(
            [when("request.headers[:scheme]", &["https"])],
            [(headers(""), "403"), (Call::get(FRONTEND, "/"), "allowed /"), (http2("GET", "h", "/", &[]), "allowed /")],
        ),
        // A header that Connection names belongs to the hop: it is not judged, and not forwarded.
        Corner::new(
            [deny_when("request.headers[x-a]", "values", &["bad"])],
            [(headers("connection: x-a\r\nx-a: bad\r\n"), "allowed /")],
        ),
        // Without a RequestAuthentication no token is read: nothing matches. `tokens` has the rest.
        Corner::new([when("request.auth.claims[a][b]", &["*"])], [(headers("authorization: Bearer x\r\n"), "403")]),
        Corner::new([deny_when("request.auth.principal", "notValues", &["*"])], [(headers(""), "403")]),
        Corner::new([deny_when("request.auth.presenter", "values", &["*"])], [(headers(""), "allowed /")]),
    ]);
}

#[test]
fn a_refusal_is_in_the_callers_terms() {
    let grpc = |kind: &'static str| http2("POST", "h", "/s/m", &[("content-type", kind)]);
    check(vec![Corner::new(
        [json!({})],
        [
            (raw("HEAD / HTTP/1.1\r\nhost: h"), "403"),
            (grpc("application/grpc"), "grpc 7"),
            (grpc("application/grpc+proto"), "grpc 7"),
            (grpc("application/grpc; charset=x"), "403"),
            (grpc("application/grpc-web"), "403"),
            (grpc("application/json"), "403"),
            (headers("content-type: application/grpc\r\n"), "grpc 7"),
        ],
    )]);
}
