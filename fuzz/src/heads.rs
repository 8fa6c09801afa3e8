//! Heads of requests and answers, after the HTTP library has read them: one meaning is left, and nothing that is not the sender's
//! to say.

use std::net::IpAddr;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version, header};
use meshgate::connection::Peer;
use meshgate::http::forwarded::Forwarded;
use meshgate::http::headers::{self, CLIENT_CERT, ClientCert, FORWARDED_FOR};
use meshgate::http::request_id::RequestIds;
use meshgate::http::{deadline, expect};
use meshgate::trace::context::{Caller, Ours};
use meshgate_config::{ForwardClientCert, ForwardedFor, HeaderSettings};
use meshgate_policy::normalize::{Level, normalize};

const LEVELS: [Level; 4] = [Level::None, Level::Base, Level::MergeSlashes, Level::DecodeAndMergeSlashes];
/// RFC 9110, section 7.6.1, and those that came to be of one hop by custom.
const OF_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
    "upgrade",
    "transfer-encoding",
    "proxy-authorization",
    "proxy-authenticate",
];
/// Who the caller is, which is ours to say.
const CLAIMS: [&str; 3] = ["x-forwarded-client-cert", "serviceidentity", "l5d-client-id"];

/// The first byte says the version and what is configured, the first line has the method and the target, the others are headers,
/// and behind an empty one trailers.
pub fn request_head(data: &[u8]) {
    let Some((how, text)) = data.split_first() else { return };
    let mut lines = text.split(|byte| *byte == b'\n');
    let Some(mut request) = lines.next().and_then(|line| asked(*how, line)) else { return };
    *request.headers_mut() = fields(&mut lines);
    answer(request.headers());
    traced(request.headers().clone());
    trailers(fields(&mut lines));
    let level = LEVELS[usize::from(how >> 2) % 4];
    let told = if how & 16 == 0 { ClientCert::Remove } else { ClientCert::Keep };
    let _ = headers::forwarded_for(request.headers(), u32::from(how >> 5));
    let _ = deadline::of(request.headers(), headers::is_grpc(request.headers()));
    if let Err(error) = headers::sanitise_request(&mut request, level, told) {
        assert!(!error.to_string().is_empty());
        return;
    }
    sound(&request, level);
    let mut claimed = request.headers().keys().filter(|name| CLAIMS.contains(&plain(name).as_str()));
    assert!(claimed.all(|name| told == ClientCert::Keep && *name == CLIENT_CERT), "nobody says who it is");
    let once = request.clone();
    headers::sanitise_request(&mut request, level, told).expect("what is sound stays so");
    assert_eq!((request.uri(), request.headers()), (once.uri(), once.headers()), "and as it is");
    spoken_for(&mut request, told);
}

fn asked(how: u8, line: &[u8]) -> Option<Request<String>> {
    let mut parts = line.splitn(2, |byte| *byte == b' ');
    let method = Method::from_bytes(parts.next()?).ok()?;
    let target = Uri::try_from(parts.next()?).ok()?;
    let version = [Version::HTTP_11, Version::HTTP_2, Version::HTTP_10, Version::HTTP_11][usize::from(how % 4)];
    Request::builder().method(method).uri(target).version(version).body("a body".to_owned()).ok()
}

fn fields<'a>(lines: &mut impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    fields
}

/// As applications read names: those that come by CGI cannot tell the two apart.
fn plain(name: &HeaderName) -> String {
    name.as_str().replace('_', "-")
}

fn sound(request: &Request<String>, level: Level) {
    let fields = request.headers();
    let count = |name: HeaderName| fields.get_all(name).iter().count();
    let is_http2 = request.version() == Version::HTTP_2;
    match (is_http2, request.version()) {
        (true, _) => assert!(request.uri().authority().is_some() && count(header::HOST) == 0, "{request:?}"),
        (_, Version::HTTP_11) => {
            assert!(request.uri().authority().is_none() && count(header::HOST) == 1, "{request:?}");
        }
        _ => assert!(request.uri().authority().is_none() && count(header::HOST) <= 1, "{request:?}"),
    }
    assert!(headers::host(request).unwrap_or_default().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@'));
    assert!(count(header::CONTENT_LENGTH) <= 1);
    nothing_of_a_hop(fields);
    assert!(fields.get_all(header::TE).iter().all(|value| value == "trailers"));
    for name in ["content-length", "transfer-encoding", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"] {
        assert!(!fields.contains_key(name.replace('-', "_")), "another spelling of what frames or routes");
    }
    let target = request.uri().path_and_query().expect("a path").as_str();
    assert_eq!(normalize(target, level).as_deref(), Ok(target), "judged is forwarded");
    // Part by part: `*` behind an authority, which HTTP/2 has, is no URI that could be read again.
    // As text: of no path at all the library says "/", and that it is not the same as "/".
    let again: Option<PathAndQuery> = target.parse().ok();
    assert_eq!(again.as_ref().map(PathAndQuery::as_str), Some(target), "and read again as it was");
    let authority = request.uri().authority();
    assert_eq!(authority.and_then(|text| text.as_str().parse::<Authority>().ok()).as_ref(), authority);
}

fn nothing_of_a_hop(fields: &HeaderMap) {
    let left = OF_HOP.iter().find(|name| fields.contains_key(**name));
    assert_eq!(left, None, "of one hop: {fields:?}");
}

fn answer(fields: &HeaderMap) {
    let mut response = Response::new(());
    *response.headers_mut() = fields.clone();
    headers::sanitise_response(&mut response);
    nothing_of_a_hop(response.headers());
}

/// Whatever trace a request says it is of, what we write is what the next one reads.
fn traced(mut fields: HeaderMap) {
    let came = Caller::read(&fields);
    let (trace, parent) = came.ids().map_or((1, None), |(trace, span)| (trace, Some(span)));
    assert!(trace != 0 && parent != Some(0), "zero is none");
    let sampled = came.sampled().unwrap_or(true);
    came.write(&mut fields, &Ours { trace, span: 2, parent, sampled });
    let goes = Caller::read(&fields);
    assert_eq!((goes.ids(), goes.sampled()), (Some((trace, 2)), Some(sampled)), "{fields:?}");
}

fn trailers(mut fields: HeaderMap) {
    headers::sanitise_trailers(&mut fields);
    for name in fields.keys() {
        assert!(!CLAIMS.contains(&plain(name).as_str()), "{name}");
        assert!(!["host", "content-length", "transfer-encoding", "authorization"].contains(&plain(name).as_str()));
    }
}

fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Vec<&'a [u8]> {
    fields.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

/// What we say of the caller is all that is said, unless it may speak for others.
fn spoken_for(request: &mut Request<String>, told: ClientCert) {
    let settings = HeaderSettings {
        trusted_peers: Default::default(),
        forward_client_cert: ForwardClientCert::SanitizeSet,
        forward_whole_cert: false,
        forwarded_for: ForwardedFor::Append,
        request_id: true,
    };
    let peer = Peer { client_cert: Some(HeaderValue::from_static("By=us")), ..Peer::default() };
    let forwarded = Forwarded::of(&settings, &peer, IpAddr::from([192, 0, 2, 1]));
    assert_eq!(forwarded.received(), ClientCert::Remove, "nobody is trusted");
    forwarded.tell_address(request.headers_mut());
    assert_eq!(only(request.headers(), &FORWARDED_FOR), [b"192.0.2.1"]);
    assert!(!request.headers().contains_key(header::FORWARDED) && !request.headers().contains_key("x-real-ip"));
    forwarded.tell_certificate(request.headers_mut());
    let said = only(request.headers(), &CLIENT_CERT);
    assert!(matches!(said[..], [line] if line.ends_with(b"By=us") && (told == ClientCert::Keep || line == b"By=us")));
    RequestIds::default().ensure(request.headers_mut());
    let ids = only(request.headers(), &headers::REQUEST_ID);
    assert!(matches!(ids[..], [id] if !id.is_empty() && id.iter().all(u8::is_ascii_graphic)));
    if expect::sanitise(request).is_ok() {
        assert!(
            only(request.headers(), &header::EXPECT).iter().all(|value| value.eq_ignore_ascii_case(b"100-continue"))
        );
    }
}
