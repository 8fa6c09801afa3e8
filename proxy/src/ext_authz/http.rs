//! Asking over HTTP: a request like the one in question, to which 200 means yes.
//!
//! As Envoy's HTTP filter does it with the settings that Istio derives from `envoyExtAuthzHttp`: the method, the path with a
//! prefix, the Host and the `authorization` header are shown, and of everything else what the provider's lists name.

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE,
};
use http::response::Parts;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use meshgate_config::{HeaderNames, HttpCheck};
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Change, Changes, How, Refusal};
use super::{ANSWER_BYTES_MAX, Failure, Shown};
use crate::http::body::RequestBody;
use crate::http::headers;
use crate::http::pool::Lease;

/// Says whether the body is only a part. Envoy's name.
pub(super) static PARTIAL_BODY: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");

/// In a yes: names of request headers to take out, with commas. Envoy's name.
static TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// The check for a request.
pub(super) fn request<B>(
    settings: &HttpCheck,
    request: &Request<B>,
    shown: Option<&Shown>,
) -> Result<Request<RequestBody>, Failure> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::Answer(format!("the check would be no valid request: {error}"));
    let path = match request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str) {
        "*" => "/",
        path => path,
    };
    let target = Uri::try_from(format!("{}{path}", settings.path_prefix)).map_err(|error| wrong(&error))?;
    let host = HeaderValue::from_str(headers::host(request).unwrap_or_default()).map_err(|error| wrong(&error))?;
    let body = shown.map(|shown| shown.data.clone()).unwrap_or_default();
    let mut fields = HeaderMap::new();
    fields.insert(HOST, host);
    for (name, value) in request.headers() {
        let is_shown = *name == AUTHORIZATION || settings.request_headers.contains(name);
        if is_shown && *name != HOST && !headers::is_of_hop(name) {
            fields.append(name, value.clone());
        }
    }
    fields.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if let Some(shown) = shown {
        fields.insert(PARTIAL_BODY.clone(), HeaderValue::from_static(if shown.whole { "false" } else { "true" }));
    }
    for (name, value) in &settings.additional_headers {
        if !headers::is_of_hop(name) {
            fields.insert(name, value.clone());
        }
    }
    let mut check = Request::new(RequestBody::own(body));
    *check.method_mut() = request.method().clone();
    *check.uri_mut() = target;
    *check.version_mut() = Version::HTTP_11;
    *check.headers_mut() = fields;
    Ok(check)
}

/// What the answer says. A no is a no by its head: its body is for the caller, and one that is too long or too slow is left
/// out.
///
/// # Errors
/// It is a server's error, or no answer to a request.
pub(super) async fn answer(
    settings: &HttpCheck,
    response: Response<Incoming>,
    lease: Lease,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let (head, body) = response.into_parts();
    check_status(head.status)?;
    let body = timeout_at(deadline, Limited::new(body, ANSWER_BYTES_MAX).collect()).await;
    let body = match body {
        Ok(Ok(body)) => {
            lease.release();
            body.to_bytes()
        }
        Ok(Err(_)) | Err(_) => Bytes::new(),
    };
    Ok(read(settings, &head, body))
}

/// Whether an answer of this status answers anything.
pub(super) fn check_status(status: StatusCode) -> Result<(), Failure> {
    match status.is_server_error() || status == StatusCode::SWITCHING_PROTOCOLS {
        true => Err(Failure::Status(status)),
        false => Ok(()),
    }
}

/// Reads an answer that is one.
pub(super) fn read(settings: &HttpCheck, head: &Parts, body: Bytes) -> Answer {
    if head.status == StatusCode::OK {
        return Answer::Allow(Changes {
            remove: to_remove(&head.headers),
            headers: listed(&settings.to_upstream_on_allow, &head.headers),
            downstream: listed(&settings.to_downstream_on_allow, &head.headers),
            ..Changes::default()
        });
    }
    let headers = refusal_headers(&settings.to_downstream_on_deny, &head.headers);
    Answer::Deny(Refusal { status: head.status, headers, body })
}

/// The headers that a list names: the first line of each replaces what was there, further ones follow it.
fn listed(names: &HeaderNames, headers: &HeaderMap) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| names.contains(name)) {
        let how = if changes.iter().any(|earlier| earlier.name == *name) { How::Append } else { How::Replace };
        changes.push(Change { name: name.clone(), value: value.clone(), how });
    }
    changes
}

fn to_remove(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(&TO_REMOVE).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}

/// All of them when no list says which; else those, and what a refusal cannot do without.
fn refusal_headers(names: &HeaderNames, all: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, value) in all {
        let wanted = names.is_empty() || names.contains(name) || *name == WWW_AUTHENTICATE || *name == LOCATION;
        if wanted && *name != HOST && !headers::is_of_hop(name) {
            kept.append(name, value.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &HttpCheck, shown: Option<&Shown>) -> Request<RequestBody> {
        let asked = Request::post("/a/b?c=d")
            .header("host", "backend:8080")
            .header("authorization", "Bearer x")
            .header("x-one", "1")
            .header("x-one", "2")
            .header("content-length", "7")
            .header("te", "trailers")
            .body(());
        request(settings, &asked.unwrap(), shown).unwrap()
    }

    fn fields(check: &Request<RequestBody>) -> Vec<String> {
        let text = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        check.headers().iter().map(text).collect()
    }

    #[test]
    fn shows_what_istio_shows() {
        let least = check(&HttpCheck::default(), None);
        assert_eq!((least.method().as_str(), least.uri().to_string().as_str()), ("POST", "/a/b?c=d"));
        assert_eq!(fields(&least), ["host: backend:8080", "authorization: Bearer x", "content-length: 0"]);
        let settings = HttpCheck {
            path_prefix: "/check".into(),
            request_headers: HeaderNames::parse(&["x-*", "te", "content-*"]).unwrap(),
            additional_headers: vec![(HeaderName::from_static("x-from"), HeaderValue::from_static("mesh"))],
            ..HttpCheck::default()
        };
        let more = check(&settings, Some(&Shown { data: Bytes::from_static(b"abc"), whole: false }));
        assert_eq!(more.uri(), "/check/a/b?c=d");
        assert_eq!(
            fields(&more),
            [
                "host: backend:8080",
                "authorization: Bearer x",
                "x-one: 1",
                "x-one: 2",
                "content-length: 3",
                "x-envoy-auth-partial-body: true",
                "x-from: mesh",
            ]
        );
    }

    #[test]
    fn a_yes_may_name_headers_to_remove() {
        let mut headers = HeaderMap::new();
        headers.append(&TO_REMOVE, HeaderValue::from_static("X-Secret, cookie"));
        headers.append(&TO_REMOVE, HeaderValue::from_static(",a b,x-last"));
        assert_eq!(to_remove(&headers), ["x-secret", "cookie", "x-last"]);
    }

    #[test]
    fn a_refusal_has_all_headers_or_those_listed_and_never_a_hops() {
        let mut all = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/html"),
            ("content-length", "3"),
            ("connection", "close"),
            ("location", "/login"),
            ("x-why", "no"),
        ] {
            all.append(name, HeaderValue::from_static(value));
        }
        let names = |list: &[&str]| -> Vec<String> {
            let kept = refusal_headers(&HeaderNames::parse(list).unwrap(), &all);
            kept.keys().map(ToString::to_string).collect()
        };
        assert_eq!(names(&[]), ["content-type", "location", "x-why"]);
        assert_eq!(names(&["x-*", "connection"]), ["location", "x-why"]);
    }
}
