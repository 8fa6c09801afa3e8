//! Answers of our own: a policy's refusal and our errors, in the caller's terms. The reason is for the log, never for the caller.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::error::{ErrorKind, ProxyError};
use crate::http::authentication::BadToken;
use crate::http::body::ResponseBody;
use crate::report::Report;

/// What Istio answers, so that clients and dashboards that know it go on working.
pub const DENIED_BODY: &str = "RBAC: access denied";

/// gRPC's PERMISSION_DENIED.
const GRPC_PERMISSION_DENIED: &str = "7";

/// gRPC's UNAUTHENTICATED.
const GRPC_UNAUTHENTICATED: &str = "16";

/// Of a refused request's body so much is read and thrown away before the answer, because closing on unread bytes would reset
/// the connection and the answer with it. Whoever sends more, or for longer than [`DISCARD_TIME`], loses that courtesy.
const DISCARD_BYTES: usize = 1024 * 1024;

/// See [`DISCARD_BYTES`].
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Reads a body that nobody wants, within limits.
pub async fn discard(mut body: Incoming) {
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
    report.answered_by_us(StatusCode::FORBIDDEN.as_u16(), "RBAC");
    answer(StatusCode::FORBIDDEN, GRPC_PERMISSION_DENIED, DENIED_BODY, report)
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

/// The request could not be served.
pub fn failed(error: &ProxyError, mut report: Report) -> Response<ResponseBody> {
    report.failed(error);
    let status = error.kind.status();
    report.status(status.as_u16());
    // After a message that could be read in two ways, nobody can say where the next one begins.
    let ends = matches!(error.kind, ErrorKind::BadRequest | ErrorKind::ConnectNotAllowed) && !report.is_http2();
    let mut response = answer(status, error.kind.grpc_status(), error.kind.body(), report);
    if ends {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// HTTP callers get a status and a short text; gRPC callers a status 200 with the outcome in the headers ("Trailers-Only" in
/// gRPC's protocol description).
fn answer(status: StatusCode, grpc: &'static str, text: &'static str, report: Report) -> Response<ResponseBody> {
    if report.is_grpc() {
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
