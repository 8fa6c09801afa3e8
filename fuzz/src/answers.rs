//! What a provider of external authorization answers: it decides and adds, and never redirects, reframes or names the caller.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use meshgate::ext_authz::Received;
use meshgate_config::{HeaderNames, HttpCheck};
use meshgate_policy::normalize::Level;

/// For no provider to write into a request.
const FIXED: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "upgrade",
    "x-forwarded-client-cert",
    "x_forwarded_client_cert",
    "x-forwarded-for",
];
/// What an operator asks for by name, which is more than is good for anybody.
const ASKED_FOR: [&str; 9] =
    ["x-*", "x_*", "content-*", "host", "transfer-encoding", "connection", "te", "upgrade", "set-cookie"];
/// Nor into an answer.
const FRAMING: [&str; 5] = ["content-length", "transfer-encoding", "connection", "upgrade", "trailer"];

/// The first byte says how the answer comes: as a gRPC message behind its prefix, as a gRPC body as it is, or as HTTP, whose
/// headers are `name: value` lines.
pub fn ext_authz_answer(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let mut request = Request::post("/a/b?x=1&y=2").version(http::Version::HTTP_11).body(()).expect("a request");
    for name in FIXED {
        request.headers_mut().insert(name, HeaderValue::from_static("ours"));
    }
    request.headers_mut().insert("x-user", HeaderValue::from_static("spoofed"));
    // Every other time there is nothing to be replaced.
    if how & 0x80 != 0 {
        request.headers_mut().clear();
    }
    let before = request.clone();
    let any = HttpCheck {
        to_upstream_on_allow: HeaderNames::parse(&ASKED_FOR).expect("names"),
        to_downstream_on_allow: HeaderNames::parse(&ASKED_FOR).expect("names"),
        ..HttpCheck::default()
    };
    let received = match how & 0x7f {
        b'm' => Received::Grpc(framed(rest)),
        b'g' => Received::Grpc(Bytes::copy_from_slice(rest)),
        how => Received::Http(&any, http_answer(how, rest)),
    };
    let outcome = received.carry_out(&mut request, Level::MergeSlashes);
    let fixed = |headers: &HeaderMap| FIXED.map(|name| headers.get_all(name).iter().cloned().collect::<Vec<_>>());
    assert_eq!(fixed(request.headers()), fixed(before.headers()));
    assert_eq!((request.method(), request.version()), (before.method(), before.version()));
    assert_eq!(request.uri().path(), before.uri().path());
    assert_eq!(request.uri().authority(), None);
    assert_eq!(request.uri().to_string().parse::<Uri>().ok().as_ref(), Some(request.uri()), "it can be read again");
    let reframes = |name: &HeaderName| FRAMING.contains(&name.as_str());
    match outcome {
        Ok(Ok(changes)) => assert!(!changes.iter().any(|change| reframes(&change.name))),
        Ok(Err(refusal)) => {
            assert!(!refusal.headers.keys().any(reframes));
            assert!(!refusal.status.is_informational());
            unchanged(&request, &before);
        }
        Err(failure) => {
            assert!(!failure.to_string().is_empty());
            unchanged(&request, &before);
        }
    }
}

fn unchanged(request: &Request<()>, before: &Request<()>) {
    assert_eq!((request.uri(), request.headers()), (before.uri(), before.headers()), "what is no yes changes nothing");
}

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a fuzzer's input is short");
    [&[0][..], &length.to_be_bytes(), message].concat().into()
}

fn http_answer(how: u8, text: &[u8]) -> Response<Bytes> {
    let statuses = [StatusCode::OK, StatusCode::FOUND, StatusCode::FORBIDDEN, StatusCode::BAD_GATEWAY];
    let mut response = Response::new(Bytes::from_static(b"no"));
    *response.status_mut() = statuses[usize::from(how) % statuses.len()];
    for line in text.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
