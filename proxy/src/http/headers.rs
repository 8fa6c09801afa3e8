//! One message, one meaning: what is checked and removed before anybody decides on a request or forwards it.
//!
//! After [`sanitise_request`] a request has one authority and one normalised path, which policy, routing and the upstream all
//! see alike (RFC 9110, sections 4.2.4 and 7.2; RFC 9112, sections 3.2 and 6), no header that belongs to one hop, and no
//! identity header that its sender was not entitled to set.

mod authority;
mod seen;

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version};
use http_body::Body;
use meshgate_policy::normalize::{Level, normalize};

use crate::error::{ErrorKind, ProxyError};
use crate::http::proxy_status::{self, PROXY_STATUS};
use seen::Seen;

/// `x-request-id`.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `x-forwarded-for`.
pub static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// `x-forwarded-client-cert`.
pub static CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// Who a caller is, as proxies tell applications: Envoy and Istio, FSM, Linkerd. No caller may say it of itself.
const CLAIMS: [&str; 3] = ["x-forwarded-client-cert", "serviceidentity", "l5d-client-id"];
/// Names that must have one spelling: to servers that take `_` for `-` another would be the same field once more.
const ONE_SPELLING: [&str; 6] = [
    "content-length",
    "transfer-encoding",
    "proxy-authorization",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// What becomes of the `x-forwarded-client-cert` that a request comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCert {
    /// It goes, in every spelling.
    Remove,
    /// It stays, in its own spelling: its sender may speak for others.
    Keep,
}

/// The authority a request is for: what policy matches hosts against and the upstream is told.
pub fn host<B>(request: &Request<B>) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(header::HOST).and_then(|value| value.to_str().ok()),
    }
}

/// The client's address as `hops` trusted proxies before us wrote it: the `hops`-th entry of `x-forwarded-for` from the right,
/// all its lines taken as one list. `None` when nothing is trusted, or that entry is no address.
pub fn forwarded_for(headers: &HeaderMap, hops: u32) -> Option<IpAddr> {
    let from_right = usize::try_from(hops).ok()?.checked_sub(1)?;
    let lines = headers.get_all(&FORWARDED_FOR).iter().rev();
    let mut entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let entry = std::str::from_utf8(entries.nth(from_right)?).ok()?;
    entry.trim().parse().ok()
}

/// The first line of each of these fields, whose names are in lower case. One pass over what a request has takes less than a look-up for
/// each name.
#[inline]
pub fn first_lines<'a, const N: usize>(
    headers: &'a HeaderMap,
    names: [&'static str; N],
) -> [Option<&'a HeaderValue>; N] {
    let mut lines = [None; N];
    for (name, value) in headers {
        for (line, wanted) in lines.iter_mut().zip(names) {
            if name.as_str() == wanted && line.is_none() {
                *line = Some(value);
            }
        }
    }
    lines
}

/// Whether the message is gRPC, by its content type (`application/grpc` or `application/grpc+…`).
pub fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    headers.get(header::CONTENT_TYPE).is_some_and(|value| match value.as_bytes().strip_prefix(GRPC) {
        Some([]) => true,
        Some([next, ..]) => *next == b'+',
        None => false,
    })
}

/// Makes a request fit to be judged and forwarded.
///
/// # Errors
/// [`ErrorKind::BadRequest`] when two parsers could read it differently, [`ErrorKind::ConnectNotAllowed`] for CONNECT.
pub fn sanitise_request<B>(request: &mut Request<B>, level: Level, told: ClientCert) -> Result<(), ProxyError> {
    if request.method() == Method::CONNECT {
        return Err(ProxyError::new(ErrorKind::ConnectNotAllowed, "CONNECT to a sidecar"));
    }
    let seen = Seen::of(request.headers());
    if seen.misspelled {
        return Err(bad("_ for - in the name of a field that frames or routes"));
    }
    one_framing(&seen, request)?;
    authority::settle(seen.hosts, request)?;
    one_path(request, level)?;
    let http2 = request.version() == Version::HTTP_2;
    if http2 && request.headers().values().any(has_blank_around) {
        return Err(bad("blanks around a value"));
    }
    if http2 && request.headers().keys().any(has_quote) {
        return Err(bad("a quote in the name of a field"));
    }
    let headers = request.headers_mut();
    seen.remove_hop_by_hop(headers);
    if seen.identity {
        remove_claimed_identity(headers, told);
    }
    if seen.cookies && http2 {
        join_cookies(headers);
    }
    Ok(())
}

/// HTTP/2 carries blanks around a value as part of it, which make a message malformed (RFC 9113, section 8.2.1): HTTP/1 would lose
/// them, and the application read another value than was judged.
fn has_blank_around(value: &HeaderValue) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last())
}

/// The library takes a quote for a part of a name, which it is not (RFC 9110, section 5.6.2): over HTTP/1 the guard has seen to it.
fn has_quote(name: &HeaderName) -> bool {
    name.as_str().contains('"')
}

/// HTTP/2 may split a cookie into lines, which are one value to everybody else (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(header::COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let mut joined = Vec::new();
    // An empty one would leave a blank at the end, which policies would see and the next reader of HTTP/1 would not.
    for crumb in crumbs.iter().filter(|crumb| !crumb.is_empty()) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    // Made of header values and a separator that may stand in one, so it is one.
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, value);
    }
}

/// Adds what HTTP/1.1 wants of a request and nobody else adds.
///
/// A body whose length is not known is chunked. The library says so by itself but for GET and HEAD, whose body it leaves out unless
/// told: the request would be whole upstream before it is here. And there is a Host, if an empty one (RFC 9112, section 3.2),
/// also of a request that came over HTTP/1.0 without.
pub fn prepare_http1<B: Body>(request: &mut Request<B>) {
    let rarely_has_body = [Method::GET, Method::HEAD].contains(request.method());
    if rarely_has_body && !request.body().is_end_stream() && request.body().size_hint().exact().is_none() {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
        request.headers_mut().insert(header::HOST, HeaderValue::from_static(""));
    }
}

/// Removes from trailers what may only stand in a head: whatever frames, routes, authorises or identifies came too late to be
/// judged (RFC 9110, section 6.5.1).
pub fn sanitise_trailers(trailers: &mut HeaderMap) {
    let names = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::HOST,
        header::TE,
        header::CONNECTION,
        header::TRAILER,
        header::UPGRADE,
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
        header::WWW_AUTHENTICATE,
        header::COOKIE,
        header::SET_COOKIE,
        header::EXPECT,
        header::MAX_FORWARDS,
        header::FORWARDED,
        header::LOCATION,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
    ];
    for name in names.iter().chain([&KEEP_ALIVE, &PROXY_CONNECTION, &HTTP2_SETTINGS, &REQUEST_ID]) {
        trailers.remove(name);
    }
    remove_all(trailers, |name| claims_identity(name) || is_spelled(name, &ONE_SPELLING) || has_quote(name));
}

/// Whether a name is one of [`CLAIMS`] to a server that takes `_` for `-` (CGI, WSGI).
fn claims_identity(name: &HeaderName) -> bool {
    is_spelled(name, &CLAIMS)
}

/// Whether a name is one of these, with `-` or with `_`.
fn is_spelled(name: &HeaderName, names: &[&str]) -> bool {
    let name = name.as_str().as_bytes();
    let same = |(ours, theirs): (u8, &u8)| ours == *theirs || (ours == b'-' && *theirs == b'_');
    names.iter().any(|one| name.len() == one.len() && one.bytes().zip(name).all(same))
}

/// Whether a name is one of [`ONE_SPELLING`] in another.
fn is_misspelled(name: &HeaderName) -> bool {
    name.as_str().contains('_') && is_spelled(name, &ONE_SPELLING)
}

/// Whether a header of a request is for nobody outside this proxy to set or remove: it frames or routes the message, belongs
/// to one hop, or says who or where the caller is.
pub fn is_fixed(name: &HeaderName) -> bool {
    is_of_hop(name) || *name == header::HOST || *name == FORWARDED_FOR || claims_identity(name)
}

/// Whether a header frames the message or belongs to one hop, in either direction (RFC 9110, section 7.6.1); or is what proxies
/// tell each other.
pub fn is_of_hop(name: &HeaderName) -> bool {
    let known = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
    ];
    known.contains(name) || [&KEEP_ALIVE, &PROXY_CONNECTION, &HTTP2_SETTINGS, &PROXY_STATUS].contains(&name)
}

fn remove_claimed_identity(headers: &mut HeaderMap, told: ClientCert) {
    remove_all(headers, |name| claims_identity(name) && !(told == ClientCert::Keep && *name == CLIENT_CERT));
}

/// Removes headers by name, `names` being in lower case, and whatever a server that takes `_` for `-` would read as one of them.
pub fn remove_spellings(headers: &mut HeaderMap, names: &[&str]) {
    remove_all(headers, |name| is_spelled(name, names));
}

fn remove_all(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Removes from an answer what belongs to the hop it came over, and what only a proxy of the mesh may say.
pub fn sanitise_response<B>(response: &mut Response<B>) {
    let seen = Seen::of(response.headers());
    seen.remove_hop_by_hop(response.headers_mut());
    if seen.proxy_status {
        proxy_status::remove_ours(response.headers_mut());
    }
    // The version is the hop's too; the server writes the one its own connection speaks.
    *response.version_mut() = Version::HTTP_11;
}

fn one_framing<B>(seen: &Seen, request: &Request<B>) -> Result<(), ProxyError> {
    if seen.transfer_encodings > 0 {
        let chunked = request
            .headers()
            .get(header::TRANSFER_ENCODING)
            .is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
        if seen.transfer_encodings > 1 || !chunked || request.version() != Version::HTTP_11 {
            return Err(bad("transfer-encoding other than one chunked"));
        }
        if seen.content_lengths > 0 {
            return Err(bad("both content-length and transfer-encoding"));
        }
    }
    if seen.content_lengths > 1 {
        return Err(bad("repeated content-length"));
    }
    // Over HTTP/1 the guard has seen to it; HTTP/2's library takes an empty one for none, and a server may not.
    let length = request.headers().get(header::CONTENT_LENGTH).filter(|_| seen.content_lengths == 1);
    if length.is_some_and(|length| length.is_empty() || !length.as_bytes().iter().all(u8::is_ascii_digit)) {
        return Err(bad("content-length that is no number"));
    }
    Ok(())
}

/// Puts another query behind the request's path, which stays as it is: normalised.
///
/// # Errors
/// [`ErrorKind::Internal`] when the query cannot stand in a request.
pub fn replace_query<B>(request: &mut Request<B>, query: &str, level: Level) -> Result<(), ProxyError> {
    let wrong = || ProxyError::new(ErrorKind::Internal, "a changed query that cannot stand in a request");
    let path = request.uri().path();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    if !matches!(normalize(&target, level), Ok(normal) if normal == target) {
        return Err(wrong());
    }
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|error| wrong().caused_by(error))?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| wrong().caused_by(error))?;
    Ok(())
}

/// Puts another path before the request's query, made normal like one that comes in.
///
/// # Errors
/// [`ErrorKind::BadRequest`] when it is no path, or cannot be made normal without doubt.
pub fn replace_path<B>(request: &mut Request<B>, path: &str, level: Level) -> Result<(), ProxyError> {
    if !path.starts_with('/') || path.contains(['?', '#']) {
        return Err(bad("a rewritten path that is none"));
    }
    let target = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let target = PathAndQuery::try_from(target).map_err(|error| bad("rewritten path").caused_by(error))?;
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(target);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| bad("rewritten target").caused_by(error))?;
    one_path(request, level)
}

fn one_path<B>(request: &mut Request<B>, level: Level) -> Result<(), ProxyError> {
    let uri = request.uri();
    let Some(target) = uri.path_and_query() else { return Err(bad("no path")) };
    if target == "*" && request.method() != Method::OPTIONS {
        return Err(bad("* is for OPTIONS alone"));
    }
    // What is left of a fragment without a path reads as / and is written as nothing: another request line than was judged.
    if target == "/" && *target != PathAndQuery::from_static("/") {
        return Err(bad("a fragment for a path"));
    }
    let normalized = match normalize(target.as_str(), level) {
        Ok(Cow::Borrowed(_)) => return Ok(()),
        Ok(Cow::Owned(normalized)) => normalized,
        Err(error) => return Err(bad("path").caused_by(error)),
    };
    let target = PathAndQuery::try_from(normalized).map_err(|error| bad("normalised path").caused_by(error))?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| bad("normalised target").caused_by(error))?;
    Ok(())
}

fn bad(detail: &'static str) -> ProxyError {
    ProxyError::new(ErrorKind::BadRequest, detail)
}

#[cfg(test)]
mod tests;
