//! Sends a request to an upstream that answers it, and the answer back down. Bodies stream both ways.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;

use crate::balance::{Attempt, Candidate, Outcome};
use crate::error::{ErrorKind, ProxyError};
use crate::http::body::{Held, Received, ResponseBody};
use crate::http::deadline::Cut;
use crate::http::layers::Refused;
use crate::http::pool::{Lease, Switched};
use crate::http::proxy_status::{self, Unserved};
use crate::http::retry::{Ended, Terms, Tries, Turn};
use crate::http::stall::Over;
use crate::http::{client, expect, headers, refusal, upgrade};
use crate::report::Report;
use crate::worker::WorkerRef;

/// Tries `candidates` in turn, as long as what became of the one before lets another be tried on these `terms`. A caller that
/// goes away ends it wherever it is.
///
/// # Errors
/// The last upstream's error, or [`ErrorKind::NoEndpoint`] when there was none.
pub async fn forward(
    worker: &WorkerRef,
    candidates: impl Iterator<Item = Rc<Candidate>>,
    terms: &Terms,
    request: Request<Received>,
    mut report: Report,
) -> Result<Response<ResponseBody>, Refused> {
    let http2 = request.version() == Version::HTTP_2;
    let (mut tries, mut next) = Tries::begin(worker, candidates, terms, request, report.standing());
    let (mut answered, mut failed, mut unread) = (None::<Box<Answer>>, None::<ProxyError>, None::<Incoming>);
    while let Some(Turn { candidate, request, mut how }) = next {
        how.upgrade = report.upgrade().is_some();
        // The last one is logged with the report.
        if let Some(earlier) = failed.take() {
            earlier.log();
        }
        let attempt = candidate.begin();
        report.attempt(&candidate, how.progress.as_ref());
        // Pinned where it is made: it is large, and moving it would show in a profile.
        let mut sending = pin!(client::send(worker, candidate.slot(), request, how));
        let sent = poll_fn(|cx| match report.poll_cut(cx) {
            Poll::Ready(cut) => Poll::Ready(Err(cut)),
            Poll::Pending => sending.as_mut().poll(cx).map(Ok),
        });
        let sent = match sent.await {
            Ok(sent) => heed(&candidate, sent).await,
            Err(cut) => return Err(cut_off(cut, &candidate, &attempt, report)),
        };
        next = match sent {
            Ok((response, lease)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let asked = report.upgrade().is_some_and(|protocol| upgrade::is_answer(&response, protocol));
                if let Some(upstream) = lease.into_switched().filter(|_| asked) {
                    return switched(response, upstream, attempt, report);
                }
                // Whatever comes behind this head is no HTTP: the connection is closed.
                attempt.went(Outcome::Failed(ErrorKind::UpstreamProtocol));
                failed = Some(ProxyError::new(ErrorKind::UpstreamProtocol, "101 that nobody asked for"));
                tries.next(Ended::Garbled, &candidate, &mut None)
            }
            Ok((response, lease)) => {
                let status = response.status().as_u16();
                attempt.went(Outcome::Answered(proxy_status::status(&response).as_u16()));
                let answer = Answer { response, held: Held { lease, attempt } };
                let Some(elsewhere) = tries.next(Ended::Answered(status), &candidate, &mut None) else {
                    answered.into_iter().for_each(|answered| answered.discard());
                    return Ok(answer.give(report));
                };
                answered = Some(Box::new(answer));
                Some(elsewhere)
            }
            Err(client::Failed { error, mut request, ended }) => {
                attempt.went(Outcome::Failed(error.kind));
                failed = Some(error);
                let next = tries.next(ended, &candidate, &mut request);
                let unsent = request.filter(|request| !http2 && !expect::may_wait(request.headers()));
                unread = unsent.and_then(|request| request.into_body().into_rest());
                next
            }
        };
    }
    // Whatever an answer says is better than none.
    if let Some(answer) = answered {
        failed.iter().for_each(ProxyError::log);
        report.upstream(answer.held.attempt.candidate());
        return Ok(answer.give(report));
    }
    report.not_again(tries.is_over_limit(), tries.is_over_budget());
    let error = failed.unwrap_or_else(|| ProxyError::new(ErrorKind::NoEndpoint, "no endpoint to try"));
    Err(Refused::failed(error, report).leaving(unread).telling(tries.unserved()))
}

/// An answer in which the upstream's own proxy says that there is none from the application is none.
async fn heed(
    candidate: &Candidate,
    sent: Result<(Response<Incoming>, Lease), client::Failed>,
) -> Result<(Response<Incoming>, Lease), client::Failed> {
    let (response, lease) = sent?;
    let slot = candidate.slot();
    let Some(unserved) = Unserved::told(slot, &response) else { return Ok((response, lease)) };
    // It is short, and its connection may carry the next request.
    let mut body = response.into_body();
    Box::pin(refusal::discard(&mut body)).await;
    if body.is_end_stream() {
        lease.release();
    }
    let (error, ended) = unserved.failed(slot);
    Err(client::Failed { error, request: None, ended })
}

/// The end of a request that had no answer in time, or may not have one any more.
fn cut_off(cut: Cut, candidate: &Candidate, attempt: &Attempt, report: Report) -> Refused {
    let Cut::Over(over) = cut else { return Refused::cut(cut, report) };
    let error = over_before_answer(over, candidate, &report);
    attempt.went(Outcome::Failed(error.kind));
    Refused::failed(error, report)
}

/// Makes a tunnel of a connection that was switched as was asked.
fn switched(
    response: Response<Incoming>,
    upstream: Switched,
    attempt: Attempt,
    report: Report,
) -> Result<Response<ResponseBody>, Refused> {
    attempt.went(Outcome::Answered(response.status().as_u16()));
    // A client waits for the 101 (RFC 6455, section 4.1). What did not was read as HTTP, and may be either.
    if report.is_ahead() {
        let error = ProxyError::new(ErrorKind::BadRequest, "bytes behind an upgrade before its 101");
        return Err(Refused::failed(error, report));
    }
    Ok(upgrade::accept(response, upstream, attempt, report))
}

fn over_before_answer(over: Over, candidate: &Candidate, report: &Report) -> ProxyError {
    let kind = match over {
        Over::Stalled if report.waits_for_client() => ErrorKind::SlowRequest,
        over => over.kind(),
    };
    ProxyError::new(kind, format!("{}: no answer", candidate.slot().label()))
}

/// An answer whose head has come.
#[derive(Debug)]
struct Answer {
    response: Response<Incoming>,
    held: Held,
}

impl Answer {
    fn give(self, mut report: Report) -> Response<ResponseBody> {
        let Self { mut response, held } = self;
        headers::sanitise_response(&mut response);
        report.status(response.status().as_u16());
        report.grpc_status(response.headers());
        report.head_came();
        response.map(|body| ResponseBody::upstream(body, held, report))
    }

    /// Nobody will read it. A body that is still to come costs its connection.
    fn discard(self) {
        if self.response.body().is_end_stream() {
            self.held.lease.release();
        }
    }
}

#[cfg(test)]
mod tests;
