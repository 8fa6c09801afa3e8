//! Answers of our own: a policy's refusal and our errors, in the caller's terms. The reason is for the log, never for the caller.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::error::{ErrorKind, ProxyError};
use crate::ext_authz::Refusal;
use crate::http::authentication::BadToken;
use crate::http::body::ResponseBody;
use crate::report::{DENIED, Report};

/// What Istio answers, so that clients and dashboards that know it go on working.
pub const DENIED_BODY: &str = "RBAC: access denied";

/// gRPC's PERMISSION_DENIED.
const GRPC_PERMISSION_DENIED: &str = "7";

/// Bytes of a provider's answer that fit into a header of ours.
const GRPC_MESSAGE_MAX: usize = 1024;
/// gRPC's UNAUTHENTICATED.
const GRPC_UNAUTHENTICATED: &str = "16";

/// Of a refused request's body so much is read and thrown away before the answer, because closing on unread bytes would reset
/// the connection and the answer with it. Whoever sends more, or for longer than [`DISCARD_TIME`], loses that courtesy.
const DISCARD_BYTES: usize = 1024 * 1024;

/// See [`DISCARD_BYTES`].
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Reads a body that nobody wants, within limits.
pub async fn discard(body: &mut Incoming) {
    let reading = async {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // Too slow is as good as too long.
    let _ = timeout(DISCARD_TIME, reading).await;
}

/// The policy said no.
pub fn denied(mut report: Report) -> Response<ResponseBody> {
    report.answered_by_us(StatusCode::FORBIDDEN.as_u16(), DENIED);
    answer(StatusCode::FORBIDDEN, GRPC_PERMISSION_DENIED, DENIED_BODY, report)
}

/// An external provider said no, or could not be asked: its answer, or the one that stands for it.
pub fn answered(refusal: Refusal, mut report: Report) -> Response<ResponseBody> {
    let Refusal { status, headers, body } = refusal;
    report.answered_by_us(status.as_u16(), "UAEX");
    let mut response = if report.is_grpc() {
        report.grpc(grpc_status(status));
        let mut response = Response::new(ResponseBody::local("", report));
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert("grpc-status", HeaderValue::from_static(grpc_status(status)));
        if let Ok(message) = HeaderValue::try_from(grpc_message(&body)) {
            fields.insert("grpc-message", message);
        }
        response
    } else {
        let mut response = Response::new(ResponseBody::local(body, report));
        *response.status_mut() = status;
        response
    };
    for (name, value) in &headers {
        // The provider's content type is that of a body which a gRPC caller does not get.
        if *name != header::CONTENT_TYPE || !response.headers().contains_key(header::CONTENT_TYPE) {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

/// A token is there and not good.
pub fn bad_token(BadToken { rejection, challenge }: BadToken, mut report: Report) -> Response<ResponseBody> {
    let status = rejection.status();
    report.answered_by_us(status.as_u16(), "JWT");
    report.because(rejection.text());
    let grpc = if status == StatusCode::FORBIDDEN { GRPC_PERMISSION_DENIED } else { GRPC_UNAUTHENTICATED };
    let mut response = answer(status, grpc, rejection.text(), report);
    if let Some(challenge) = challenge {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// gRPC's `http-grpc-status-mapping.md`.
fn grpc_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "13",
        401 => "16",
        403 => GRPC_PERMISSION_DENIED,
        404 => "12",
        429 | 502..=504 => "14",
        _ => "2",
    }
}

/// The text of a body, percent-encoded as `grpc-message` has it.
fn grpc_message(body: &[u8]) -> String {
    let body = body.get(..GRPC_MESSAGE_MAX).unwrap_or(body);
    let mut message = String::with_capacity(body.len());
    for byte in body {
        match byte {
            b' '..=b'~' if *byte != b'%' => message.push(char::from(*byte)),
            _ => message.push_str(&format!("%{byte:02X}")),
        }
    }
    message
}

/// The request could not be served.
pub fn failed(error: &ProxyError, mut report: Report) -> Response<ResponseBody> {
    report.failed(error);
    let status = error.kind.status();
    report.status(status.as_u16());
    // After a message that could be read in two ways, or did not come whole, nobody can say where the next one begins.
    let ends = matches!(error.kind, ErrorKind::BadRequest | ErrorKind::ConnectNotAllowed | ErrorKind::SlowRequest)
        && !report.is_http2();
    let mut response = answer(status, error.kind.grpc_status(), error.kind.body(), report);
    if ends {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The request gets no answer; its connection is closed by who asked.
pub fn unanswered(error: &ProxyError, mut report: Report) {
    report.failed(error);
}

/// HTTP callers get a status and a short text; gRPC callers a status 200 with the outcome in the headers ("Trailers-Only" in
/// gRPC's protocol description).
fn answer(status: StatusCode, grpc: &'static str, text: &'static str, mut report: Report) -> Response<ResponseBody> {
    if report.is_grpc() {
        report.grpc(grpc);
        let mut response = Response::new(ResponseBody::local("", report));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(grpc));
        headers.insert("grpc-message", HeaderValue::from_static(text));
        return response;
    }
    let mut response = Response::new(ResponseBody::local(text, report));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
