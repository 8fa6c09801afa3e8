use super::*;

fn request(target: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().uri(target);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

fn sanitised(target: &str, headers: &[(&str, &str)]) -> Result<Request<()>, ProxyError> {
    let mut request = request(target, headers);
    sanitise_request(&mut request, Level::MergeSlashes, ClientCert::Remove).map(|()| request)
}

#[test]
fn refuses_what_two_parsers_could_read_differently() {
    for (name, target, headers) in [
        ("no host", "/", &[][..]),
        ("two hosts", "/", &[("host", "a"), ("host", "b")]),
        ("two equal hosts", "/", &[("host", "a"), ("host", "a")]),
        ("userinfo in host", "/", &[("host", "a@b")]),
        ("slash in host", "/", &[("host", "a/b")]),
        ("userinfo in absolute form", "http://u@a/", &[("host", "a")]),
        ("another scheme", "ftp://a/", &[("host", "a")]),
        ("an authority alone", "a:80", &[("host", "a")]),
        ("a name alone", "a", &[("host", "a")]),
        ("a port that is none", "/", &[("host", "a:b")]),
        ("two ports", "/", &[("host", "a:1:2")]),
        ("a port too long", "/", &[("host", "a:123456")]),
        ("an address that does not end", "/", &[("host", "[::1")]),
        ("something behind an address", "/", &[("host", "[::1]x")]),
        ("no address in brackets", "/", &[("host", "[]")]),
        ("absolute form without host", "http://a/", &[]),
        ("absolute form beside two hosts", "http://a/", &[("host", "a"), ("host", "b")]),
        ("a length by another name", "/", &[("host", "a"), ("content_length", "3")]),
        ("an encoding by another name", "/", &[("host", "a"), ("transfer_encoding", "chunked")]),
        ("an address by another name", "/", &[("host", "a"), ("x_forwarded-for", "1.1.1.1")]),
        ("both framings", "/", &[("host", "a"), ("content-length", "3"), ("transfer-encoding", "chunked")]),
        ("a length of nothing", "/", &[("host", "a"), ("content-length", "")]),
        ("a length with a sign", "/", &[("host", "a"), ("content-length", "+3")]),
        ("two lengths", "/", &[("host", "a"), ("content-length", "3"), ("content-length", "3")]),
        ("unknown coding", "/", &[("host", "a"), ("transfer-encoding", "gzip, chunked")]),
        ("chunked twice", "/", &[("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
        ("NUL in path", "/a%00b", &[("host", "a")]),
    ] {
        let error = sanitised(target, headers).expect_err(name);
        assert_eq!(error.kind, ErrorKind::BadRequest, "{name}");
    }
}

#[test]
fn forwards_the_path_that_is_judged() {
    let request = sanitised("/a/../b//c/%2e%2e/d?x=../y", &[("host", "a")]).unwrap();
    assert_eq!(request.uri().path_and_query().unwrap(), "/b/d?x=../y");
}

#[test]
fn a_fragment_without_a_path_is_refused_over_http_2() {
    // As the library makes it of `:path: #x`: it reads as /, and would go out as nothing.
    for path in ["#", "#x", "#/admin"] {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = Some("a".parse().unwrap());
        parts.path_and_query = Some(path.parse().unwrap());
        let mut request = request("/", &[]);
        (*request.uri_mut(), *request.version_mut()) = (Uri::from_parts(parts).unwrap(), Version::HTTP_2);
        let error = sanitise_request(&mut request, Level::None, ClientCert::Remove).expect_err(path);
        assert_eq!(error.kind, ErrorKind::BadRequest, "{path}");
    }
    assert!(sanitised("/", &[("host", "a")]).is_ok());
}

#[test]
fn absolute_form_replaces_host() {
    let request = sanitised("http://real.example:81/p?q", &[("host", "other.example")]).unwrap();
    assert_eq!(request.headers()[header::HOST], "real.example:81");
    assert_eq!(request.uri().to_string(), "/p?q");
    assert_eq!(host(&request), Some("real.example:81"));
}

#[test]
fn absolute_form_with_nothing_but_a_fragment_has_a_path() {
    for target in ["http://real.example", "http://real.example#/admin"] {
        let request = sanitised(target, &[("host", "other.example")]).unwrap();
        assert_eq!((host(&request), request.uri().to_string()), (Some("real.example"), "/".to_owned()), "{target}");
    }
}

#[test]
fn http2_has_one_authority() {
    let with = |host: Option<&str>| {
        let mut request = request("http://a.example/x", &[]);
        *request.version_mut() = Version::HTTP_2;
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        sanitise_request(&mut request, Level::Base, ClientCert::Remove).map(|()| request)
    };
    assert!(with(Some("b.example")).is_err());
    let same = with(Some("a.example")).unwrap();
    assert!(!same.headers().contains_key(header::HOST));
    assert_eq!(host(&with(None).unwrap()), Some("a.example"));
}

#[test]
fn removes_what_belongs_to_the_hop_and_what_claims_an_identity() {
    let request = sanitised(
        "/",
        &[
            ("host", "a"),
            ("connection", "close, x-drop, Host, authorization"),
            ("x-drop", "1"),
            ("authorization", "kept"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("te", "gzip"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("proxy-authorization", "secret"),
            ("x-forwarded-client-cert", "URI=spiffe://forged"),
            ("x_forwarded_client_cert", "URI=spiffe://forged"),
            ("x-forwarded_client-cert", "URI=spiffe://forged"),
            ("serviceidentity", "forged.default"),
            ("l5d-client-id", "forged"),
            ("l5d_client_id", "forged"),
            ("x-other", "kept"),
        ],
    )
    .unwrap();
    let mut left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["authorization", "host", "te", "x-other"]);
    assert_eq!(request.headers()[header::TE], "trailers");
}

#[test]
fn an_answer_loses_its_hop_headers_too() {
    let mut response = Response::builder()
        .header("connection", "x-internal")
        .header("x-internal", "1")
        .header("keep-alive", "timeout=5")
        .header("x-kept", "1")
        .body(())
        .unwrap();
    sanitise_response(&mut response);
    let left: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(left, ["x-kept"]);
}

#[test]
fn trailers_lose_what_may_only_stand_in_a_head() {
    let names = [
        "content-length",
        "Content_Length",
        "transfer-encoding",
        "host",
        "te",
        "connection",
        "trailer",
        "upgrade",
        "expect",
        "authorization",
        "proxy-authorization",
        "www-authenticate",
        "cookie",
        "set-cookie",
        "content-type",
        "content-encoding",
        "content-range",
        "location",
        "forwarded",
        "x-forwarded-for",
        "x_forwarded_for",
        "x-forwarded-host",
        "x-forwarded-client-cert",
        "X_Forwarded_Client_Cert",
        "l5d-client-id",
        "x-request-id",
        "grpc-status",
        "x-checksum",
    ];
    let mut trailers = HeaderMap::new();
    for name in names {
        trailers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("x"));
        trailers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("y"));
    }
    sanitise_trailers(&mut trailers);
    let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["grpc-status", "x-checksum"]);
}

#[test]
fn connect_is_not_for_sidecars() {
    let mut request = request("a.example:443", &[("host", "a.example:443")]);
    *request.method_mut() = Method::CONNECT;
    let error = sanitise_request(&mut request, Level::Base, ClientCert::Remove).unwrap_err();
    assert_eq!(error.kind, ErrorKind::ConnectNotAllowed);
}

#[test]
fn grpc_is_told_by_its_content_type() {
    for (value, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;x", false),
        ("application/grpc-web", false),
        ("text/plain", false),
    ] {
        let request = request("/", &[("content-type", value)]);
        assert_eq!(is_grpc(request.headers()), expected, "{value}");
    }
}

#[test]
fn the_trusted_hop_names_the_client() {
    let mut headers = HeaderMap::new();
    headers.append(&FORWARDED_FOR, HeaderValue::from_static("9.9.9.9, 1.1.1.1"));
    headers.append(&FORWARDED_FOR, HeaderValue::from_static("2.2.2.2,x"));
    let at = |hops| forwarded_for(&headers, hops).map(|ip| ip.to_string());
    assert_eq!(at(0), None);
    assert_eq!(at(1), None, "text is no address");
    assert_eq!(at(2).as_deref(), Some("2.2.2.2"));
    assert_eq!(at(3).as_deref(), Some("1.1.1.1"));
    assert_eq!(at(4).as_deref(), Some("9.9.9.9"));
    assert_eq!(at(5), None);
}

#[test]
fn a_rewritten_path_is_one_that_could_have_come_in() {
    for (rewritten, expected) in [
        ("/get", Some("/get?q=1")),
        ("/a/../../b", Some("/b?q=1")),
        ("/%2e%2e/b", Some("/b?q=1")),
        ("//a//b", Some("/a/b?q=1")),
        ("/a\\..\\b", Some("/b?q=1")),
        ("", None),
        ("get", None),
        ("http://elsewhere/", None),
        ("*", None),
        ("/a?b", None),
        ("/a#b", None),
        ("/a b", None),
        ("/a\r\nx: y", None),
        ("/a\0", None),
    ] {
        let mut request = request("/short?q=1", &[("host", "a")]);
        let replaced = replace_path(&mut request, rewritten, Level::MergeSlashes);
        match expected {
            Some(expected) => assert_eq!(request.uri().to_string(), expected, "{rewritten:?}"),
            None => assert!(replaced.is_err(), "{rewritten:?}: {}", request.uri()),
        }
    }
}

#[test]
fn crumbs_of_a_cookie_are_joined_without_the_empty_ones() {
    for (crumbs, expected) in [
        (&["a=1"][..], "a=1"),
        (&["a=1", "b=2", "c=3"], "a=1; b=2; c=3"),
        (&["a=1", ""], "a=1"),
        (&["", "a=1", "", "b=2"], "a=1; b=2"),
        (&["", ""], ""),
    ] {
        let headers: Vec<_> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
        let mut request = request("https://a/", &headers);
        *request.version_mut() = Version::HTTP_2;
        sanitise_request(&mut request, Level::MergeSlashes, ClientCert::Remove).unwrap();
        let lines: Vec<_> = request.headers().get_all(header::COOKIE).iter().collect();
        assert_eq!(lines, [expected], "{crumbs:?}");
    }
}

#[test]
fn of_each_field_that_is_asked_for_the_first_line_is_found() {
    let mut headers = HeaderMap::new();
    for (name, value) in [("x-a", "1"), ("x-b", "2"), ("x-b", "3"), ("user-agent", "4")] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let found = first_lines(&headers, ["x-b", "user-agent", "x-c"]).map(|line| line.map(HeaderValue::as_bytes));
    assert_eq!(found, [Some(&b"2"[..]), Some(b"4"), None]);
}
