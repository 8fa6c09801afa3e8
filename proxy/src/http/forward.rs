//! Sends a request to an upstream that answers it, and the answer back down. Bodies stream both ways.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;

use crate::balance::{Attempt, Candidate, Outcome};
use crate::error::{ErrorKind, ProxyError};
use crate::http::body::{Held, Received, ResponseBody};
use crate::http::deadline::Cut;
use crate::http::layers::Refused;
use crate::http::pool::Switched;
use crate::http::retry::{Ended, Terms, Tries, Turn};
use crate::http::stall::Over;
use crate::http::{client, headers, upgrade};
use crate::report::Report;
use crate::worker::WorkerRef;

/// In trailers; in the head where there is no message before them.
const GRPC_STATUS: &str = "grpc-status";

/// Of gRPC's status codes the one that says that somebody else may be asked.
const UNAVAILABLE: &str = "14";

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
    let (mut tries, mut next) = Tries::begin(worker, candidates, terms, request, report.standing());
    let mut answered: Option<Answer> = None;
    let mut failed: Option<ProxyError> = None;
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
            Ok(sent) => sent,
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
                let error = ProxyError::new(ErrorKind::UpstreamProtocol, "101 that nobody asked for");
                failed = Some(error);
                tries.next(Ended::Garbled, &candidate, None)
            }
            Ok((response, lease)) => {
                let status = response.status().as_u16();
                attempt.went(Outcome::Answered(told(&response)));
                let answer = Answer { response, held: Held { lease, attempt } };
                let Some(elsewhere) = tries.next(Ended::Answered(status), &candidate, None) else {
                    answered.into_iter().for_each(Answer::discard);
                    return Ok(answer.give(report));
                };
                answered = Some(answer);
                Some(elsewhere)
            }
            Err(client::Failed { error, request, ended }) => {
                attempt.went(Outcome::Failed(error.kind));
                failed = Some(error);
                tries.next(ended, &candidate, request)
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
    Err(Refused::failed(error, report))
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

/// The status that an answer comes to for whoever is asked next: gRPC says in a head of 200 that nobody is available.
fn told<B>(response: &Response<B>) -> u16 {
    let said = response.headers().get(GRPC_STATUS).filter(|_| headers::is_grpc(response.headers()));
    let status =
        if said.is_some_and(|said| said == UNAVAILABLE) { StatusCode::SERVICE_UNAVAILABLE } else { response.status() };
    status.as_u16()
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
