//! Sends a request to the first upstream that takes it, and the answer back down. Bodies stream both ways.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response, StatusCode, Version};

use crate::balance::{Candidate, Outcome};
use crate::error::{ErrorKind, ProxyError};
use crate::http::body::{Received, RequestBody, ResponseBody};
use crate::http::layers::Refused;
use crate::http::pool::HttpVersion;
use crate::http::{client, headers};
use crate::report::Report;
use crate::worker::WorkerRef;

/// Tries `candidates` in turn while nothing of the request has been sent.
///
/// # Errors
/// The last upstream's error, or [`ErrorKind::NoEndpoint`] when there was none.
pub async fn forward(
    worker: &WorkerRef,
    candidates: impl Iterator<Item = Rc<Candidate>>,
    request: Request<Received>,
    mut report: Report,
) -> Result<Response<ResponseBody>, Refused> {
    let (parts, body) = request.into_parts();
    let (body, progress) = RequestBody::new(body, report.standing());
    report.receiving(progress.clone());
    let mut request = Request::from_parts(parts, body);
    let mut failed: Option<ProxyError> = None;
    for candidate in candidates {
        let slot = candidate.slot();
        let attempt = candidate.begin();
        // The last one is logged with the report.
        if let Some(earlier) = &failed {
            earlier.log();
        }
        *request.version_mut() = match slot.upstream().version {
            HttpVersion::Http1 => Version::HTTP_11,
            HttpVersion::Http2 => Version::HTTP_2,
        };
        report.upstream(slot);
        // Pinned where it is made: it is large, and moving it would show in a profile.
        let mut sending = pin!(client::send(worker, slot, request, progress.clone()));
        let sent = poll_fn(|cx| match report.poll_withdrawn(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => sending.as_mut().poll(cx).map(Some),
        });
        let Some(sent) = sent.await else { return Err(Refused::withdrawn(report)) };
        match sent {
            Ok((response, _)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                // Upgrade was taken out of the request. Whatever comes behind this head is no HTTP: the connection is closed.
                let error = ProxyError::new(ErrorKind::UpstreamProtocol, "101 that nobody asked for");
                return Err(Refused::failed(error, report));
            }
            Ok((mut response, lease)) => {
                attempt.went(Outcome::Answered(response.status().as_u16()));
                headers::sanitise_response(&mut response);
                report.status(response.status().as_u16());
                return Ok(response.map(|body| ResponseBody::upstream(body, Some(lease), report)));
            }
            Err(client::Failed { error, request: Some(unsent) }) => {
                attempt.went(Outcome::Failed(error.kind));
                request = unsent;
                failed = Some(error);
            }
            Err(client::Failed { error, request: None }) => {
                attempt.went(Outcome::Failed(error.kind));
                return Err(Refused::failed(error, report));
            }
        }
    }
    let error = failed.unwrap_or_else(|| ProxyError::new(ErrorKind::NoEndpoint, "no endpoint to try"));
    Err(Refused::failed(error, report))
}
