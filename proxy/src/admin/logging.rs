//! `GET` and `PUT /logging`: the level of the process's own log while it runs.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use super::{TEXT, text};
use crate::log;

/// Bytes of a level: it may name modules.
const MAX_LEVEL: usize = 4096;

/// A level that takes longer to arrive is not waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers who may ask.
pub(super) async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::PUT {
        return match log::level() {
            Some(level) => text(StatusCode::OK, TEXT, level + "\n"),
            None => text(StatusCode::NOT_FOUND, TEXT, "this process has no log of its own\n".into()),
        };
    }
    let body = Limited::new(request.into_body(), MAX_LEVEL).collect();
    let Ok(Ok(body)) = tokio::time::timeout(BODY_TIMEOUT, body).await else {
        return text(StatusCode::BAD_REQUEST, TEXT, format!("expected a level of at most {MAX_LEVEL} bytes\n"));
    };
    let body = body.to_bytes();
    let Some(level) = std::str::from_utf8(&body).ok().map(str::trim).filter(|level| !level.is_empty()) else {
        return text(StatusCode::BAD_REQUEST, TEXT, "expected a level, such as `debug`\n".into());
    };
    match log::set_level(level) {
        Ok(()) => {
            tracing::info!(level, "PUT /logging: another log level");
            text(StatusCode::OK, TEXT, format!("{level}\n"))
        }
        Err(error) => text(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
    }
}
