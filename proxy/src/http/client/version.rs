//! The two shapes of a request, and how to tell which of them an application in plaintext understands.
//!
//! A request goes on in the version it came in, so that nothing is lost in translation. Where that is HTTP/2 and the application answers the preface with
//! something else than SETTINGS, it speaks HTTP/1 alone, and gets the same request in that shape. gRPC is HTTP/2, and is never translated.

use std::cell::Cell;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Request, Uri, Version, header};
use tokio::sync::oneshot;

use crate::http::guard::http2::{Excess, Watch};
use crate::worker::WorkerRef;

/// Never twice the same. The library's header compression would keep each, push out by them what is worth keeping, and compare
/// each with all that it keeps of its name, if it were not told to leave them alone (RFC 7541, section 6.2.3).
static ONCE: [HeaderName; 2] = [HeaderName::from_static("x-request-id"), HeaderName::from_static("traceparent")];

/// Watches an upstream connection over HTTP/2, and tells once whether it is one.
pub(super) struct Begun {
    worker: WorkerRef,
    tell: Cell<Option<oneshot::Sender<bool>>>,
}

impl Begun {
    pub(super) fn new(worker: WorkerRef) -> (Self, oneshot::Receiver<bool>) {
        let (tell, told) = oneshot::channel();
        (Self { worker, tell: Cell::new(Some(tell)) }, told)
    }

    fn tell(&self, is_http2: bool) {
        if let Some(tell) = self.tell.take() {
            // Where TLS has said what is spoken, nobody asks.
            let _ = tell.send(is_http2);
        }
    }
}

impl Watch for Begun {
    fn within_head(&self, is_within: bool) {
        if !is_within {
            self.tell(true);
        }
    }

    fn excess(&self, excess: Excess) {
        self.tell(excess != Excess::Preface);
        self.worker.shared.metrics.http2_excess("upstream", excess);
    }
}

/// The request as HTTP/1 has it: a path, and a Host.
pub fn as_http1<B>(request: &mut Request<B>) {
    let Some(authority) = request.uri().authority() else { return };
    // An authority is made of what may stand in a value.
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        request.headers_mut().insert(header::HOST, host);
    }
    let target = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(target);
    *request.version_mut() = Version::HTTP_11;
}

/// The request as HTTP/2 has it: an authority, and no Host. One without a valid Host, which HTTP/1.0 allows, stays as it is.
pub(super) fn as_http2<B>(request: &mut Request<B>) {
    if request.uri().authority().is_none()
        && let Some(host) = request.headers().get(header::HOST)
        && let Ok(authority) = Authority::try_from(host.as_bytes())
    {
        let mut parts = request.uri().clone().into_parts();
        (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(authority));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
            request.headers_mut().remove(header::HOST);
        }
    }
    for name in &ONCE {
        if let Some(value) = request.headers_mut().get_mut(name) {
            value.set_sensitive(true);
        }
    }
    *request.version_mut() = Version::HTTP_2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_twice_the_same_is_not_kept_by_header_compression() {
        let mut request = Request::get("/").header("x-request-id", "1").header("accept", "2").body(()).unwrap();
        as_http2(&mut request);
        assert!(request.headers()["x-request-id"].is_sensitive() && !request.headers()["accept"].is_sensitive());
    }

    #[test]
    fn a_request_says_the_same_in_either_shape() {
        for target in ["/a?b=c", "/", "*"] {
            let mut request = Request::get(target).header("host", "a.example:8080").body(()).unwrap();
            as_http2(&mut request);
            assert_eq!(request.uri().authority().unwrap(), "a.example:8080");
            assert_eq!((request.headers().len(), request.version()), (0, Version::HTTP_2));
            as_http1(&mut request);
            assert_eq!(request.uri(), target);
            assert_eq!(
                (&request.headers()["host"], request.version()),
                (&HeaderValue::from_static("a.example:8080"), Version::HTTP_11)
            );
        }
    }
}
