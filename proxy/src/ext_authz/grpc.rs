//! Asking by gRPC: one unary call of `envoy.service.auth.v3.Authorization/Check` over HTTP/2.
//!
//! A unary call is one message each way ([`crate::grpc`]); more than one message in an answer is none.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use meshgate_config::{BodyInCheck, ExtensionProvider};
use prost::Message;

use super::answer::{Answer, Change, Changes, How, Refusal};
use super::proto;
use super::{ANSWER_BYTES_MAX, Failure, Shown, Subject};
use crate::grpc;
use crate::http::body::{Received, RequestBody};
use crate::http::headers;
use crate::http::pool::Lease;
use crate::worker::Worker;

/// Headers of one answer: a request would not hold more of them either (Envoy takes 100 of a client).
const CHANGES_MAX: usize = 1000;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// gRPC's OK, as a number of `google.rpc.Status`.
const OK: i32 = 0;

/// The call for a request, or for a connection when there is none.
pub(super) fn request(
    worker: &Worker,
    provider: &ExtensionProvider,
    subject: &Subject<'_>,
    asked: Option<(&Request<Received>, Option<&Shown>)>,
) -> Result<Request<RequestBody>, Failure> {
    let own = worker.identity.borrow().svid().id().to_string();
    let http = asked.map(|(request, shown)| http_request(subject, request, shown, provider.body));
    let message = proto::CheckRequest { attributes: Some(attributes(subject, own, http, SystemTime::now())) };
    let authority = format!("{}:{}", bracketed(&provider.service.host), provider.service.port);
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(CHECK).build();
    let uri = uri.map_err(|error| Failure::Answer(format!("the provider's name: {error}")))?;
    let mut call = grpc::head(Request::new(RequestBody::own(grpc::framed(&message))));
    *call.uri_mut() = uri;
    let fields = call.headers_mut();
    // At most eight digits (gRPC's PROTOCOL-HTTP2.md).
    let millis = provider.timeout.as_millis().clamp(1, 99_999_999);
    if let Ok(value) = HeaderValue::try_from(format!("{millis}m")) {
        fields.insert("grpc-timeout", value);
    }
    Ok(call)
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn attributes(
    subject: &Subject<'_>,
    own: String,
    http: Option<proto::HttpRequest>,
    now: SystemTime,
) -> proto::AttributeContext {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = proto::Timestamp {
        seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(now.subsec_nanos()).unwrap_or_default(),
    };
    let peer = |address: SocketAddr, principal: String| proto::Peer {
        address: Some(proto::Address {
            socket_address: Some(proto::SocketAddress {
                address: address.ip().to_string(),
                port_value: u32::from(address.port()),
            }),
        }),
        principal,
    };
    let caller = subject.peer.map(ToString::to_string).unwrap_or_default();
    // Without TLS there is no principal of ours either.
    let own = if subject.peer.is_some() { own } else { String::new() };
    proto::AttributeContext {
        source: Some(peer(subject.source, caller)),
        destination: Some(peer(subject.destination, own)),
        request: http.map(|http| proto::AskedRequest { time: Some(time), http: Some(http) }),
        context_extensions: BTreeMap::new(),
        tls_session: subject.sni.map(|sni| proto::TlsSession { sni: sni.to_owned() }),
    }
}

fn http_request<B: Body>(
    subject: &Subject<'_>,
    request: &Request<B>,
    shown: Option<&Shown>,
    wanted: Option<BodyInCheck>,
) -> proto::HttpRequest {
    let method = request.method().to_string();
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let host = headers::host(request).unwrap_or_default().to_owned();
    let scheme = if subject.peer.is_some() { "https" } else { "http" }.to_owned();
    let mut fields = fields(request.headers());
    for (name, value) in [(":method", &method), (":path", &path), (":authority", &host), (":scheme", &scheme)] {
        fields.insert(name.to_owned(), value.clone());
    }
    fields.remove("host");
    let (mut body, mut raw_body) = (String::new(), Bytes::new());
    if let Some(shown) = shown {
        fields.insert(super::http::PARTIAL_BODY.to_string(), (!shown.whole).to_string());
        match wanted {
            Some(BodyInCheck { as_bytes: true, .. }) => raw_body = shown.data.clone(),
            _ => body = text(&shown.data),
        }
    }
    let exact = request.body().size_hint().exact();
    proto::HttpRequest {
        id: request.headers().get(&headers::REQUEST_ID).map(|id| text(id.as_bytes())).unwrap_or_default(),
        method,
        headers: fields,
        path,
        host,
        scheme,
        size: exact.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1),
        protocol: if request.version() == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" }.to_owned(),
        body,
        raw_body,
    }
}

/// Repeated headers are one value, joined by commas.
fn fields(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = text(value.as_bytes());
        match fields.get_mut(name.as_str()) {
            Some(earlier) => {
                earlier.push(',');
                earlier.push_str(&value);
            }
            None => {
                fields.insert(name.as_str().to_owned(), value);
            }
        }
    }
    fields
}

/// Protocol buffers' strings are UTF-8; what is not becomes `!`, as in Envoy.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace(char::REPLACEMENT_CHARACTER, "!")
}

/// What the answer says.
///
/// # Errors
/// The call failed, or its message is too long or none.
pub(super) async fn answer(response: Response<Incoming>, lease: Lease) -> Result<Answer, Failure> {
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(Failure::Status(head.status));
    }
    if !headers::is_grpc(&head.headers) {
        return Err(Failure::Answer("the answer is not gRPC".to_owned()));
    }
    outcome(&head.headers)?;
    let body = Limited::new(body, grpc::PREFIX + ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| Failure::Answer(format!("the answer broke off: {error}")))?;
    match body.trailers() {
        Some(trailers) if trailers.contains_key(grpc::STATUS) => outcome(trailers)?,
        _ if head.headers.contains_key(grpc::STATUS) => {}
        _ => return Err(Failure::Answer("the answer has no grpc-status".to_owned())),
    }
    lease.release();
    read(body.to_bytes())
}

/// Whether headers or trailers that have the call's status say that it went well.
fn outcome(fields: &HeaderMap) -> Result<(), Failure> {
    match grpc::status(fields) {
        Some(status) if status.code != grpc::OK => {
            let (code, message) = (text(status.code.as_bytes()), text(status.message.as_bytes()));
            Err(Failure::Answer(format!("gRPC status {code}: {message}")))
        }
        _ => Ok(()),
    }
}

/// Reads the one message of an answer.
pub(super) fn read(framed: Bytes) -> Result<Answer, Failure> {
    let wrong = |why: &str| Failure::Answer(format!("the answer's message: {why}"));
    let message = grpc::only(framed).map_err(|error| wrong(&error.to_string()))?;
    let response = proto::CheckResponse::decode(message).map_err(|error| wrong(&error.to_string()))?;
    let code = response.status.map_or(OK, |status| status.code);
    match (code, response.ok_response, response.denied_response) {
        (OK, ok, _) => ok.map_or_else(|| Ok(Changes::default()), allowed).map(Answer::Allow).map_err(|why| wrong(&why)),
        (_, _, denied) => Ok(Answer::Deny(denied.map_or_else(|| Refusal::status(StatusCode::FORBIDDEN), refusal))),
    }
}

/// A header that cannot be set is no yes: the caller's own would stay where the provider meant to replace it.
fn allowed(ok: proto::OkHttpResponse) -> Result<Changes, String> {
    let name = |name: &String| HeaderName::try_from(name.as_str()).ok();
    // Measured on Envoy 1.40: in a request, what is to be appended goes only behind what is there.
    let behind = |change: Change| match change.how {
        How::Append => Change { how: How::AppendIfPresent, ..change },
        _ => change,
    };
    if ok.headers.len() + ok.response_headers_to_add.len() > CHANGES_MAX {
        return Err("it changes too many headers".to_owned());
    }
    let changes = |options: &[proto::HeaderValueOption]| -> Result<Vec<Change>, String> {
        options.iter().filter_map(|option| change(option).transpose()).collect()
    };
    Ok(Changes {
        headers: changes(&ok.headers)?.into_iter().map(behind).collect(),
        remove: ok.headers_to_remove.iter().filter_map(name).collect(),
        query_set: ok.query_parameters_to_set.into_iter().map(|set| (set.key, set.value)).collect(),
        query_remove: ok.query_parameters_to_remove,
        downstream: changes(&ok.response_headers_to_add)?,
    })
}

fn refusal(denied: proto::DeniedHttpResponse) -> Refusal {
    let code = denied.status.and_then(|status| u16::try_from(status.code).ok());
    let status = code.and_then(|code| StatusCode::from_u16(code).ok()).filter(|status| !status.is_informational());
    // A no stays a no: what cannot be told to the caller is left out.
    let told = denied.headers.iter().take(CHANGES_MAX).filter_map(|option| change(option).ok().flatten());
    let changes: Vec<Change> = told.filter(|change| !headers::is_of_hop(&change.name)).collect();
    let mut headers = HeaderMap::new();
    super::change(&changes, &mut headers);
    Refusal { status: status.unwrap_or(StatusCode::FORBIDDEN), headers, body: denied.body.into() }
}

/// A header to change; `None` when it is none, as pseudo-headers are not.
///
/// # Errors
/// The name or the value cannot stand in a header.
fn change(option: &proto::HeaderValueOption) -> Result<Option<Change>, String> {
    let Some(header) = option.header.as_ref().filter(|header| !header.key.starts_with(':')) else { return Ok(None) };
    let value = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
    let how = match (option.append.as_ref(), option.append_action) {
        (Some(append), _) if append.value => How::Append,
        (None, 1) => How::AddIfAbsent,
        (None, 3) => How::ReplaceIfPresent,
        // In ext_authz a header without `append` replaces, whatever its enumeration's first value says.
        _ => How::Replace,
    };
    let name = HeaderName::try_from(header.key.as_str()).map_err(|_| "it has a header that is none".to_owned())?;
    let value = HeaderValue::from_bytes(value).map_err(|_| format!("its value for {name} cannot stand in a header"))?;
    Ok(Some(Change { name, value, how }))
}

#[cfg(test)]
mod tests;
