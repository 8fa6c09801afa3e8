//! What becomes of a request whose try did not go well.
//!
//! The one idea: how a try ended says by itself where the request may go next ([`Ended::next`]); whether it can is a matter of what
//! is kept of it ([`Kept`]), of the tries it has left and of the service's [`Budget`]. Which endpoint comes next is the route's
//! affair, sending the client's.

mod budget;
mod kept;

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, Version, header};
use http_body::Body;

use crate::balance::Candidate;
use crate::http::body::{Received, RequestBody};
use crate::http::client::How;
use crate::http::expect::Held;
use crate::http::pool::HttpVersion;
use crate::http::standing::Standing;
use crate::metrics::{Metrics, RetryLabels};
use crate::worker::Worker;

pub use budget::{Budget, Budgets};
pub use kept::{Kept, Replay, Tee};

/// What a route lets its requests do.
#[derive(Debug, Default)]
pub struct Terms {
    /// What pays for tries beyond the first; `None` = they are few anyway, as toward the local application, which is tried
    /// again only for a connection that was lost while it was reused.
    pub budget: Option<Arc<Budget>>,
    /// An answer that says that the server failed is asked for once more in another cluster.
    pub fail_over: bool,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing of the request was sent.
    Unsent,
    /// It was sent, and the upstream has said that nobody looked at it (RFC 9113, sections 6.8 and 8.7).
    Unprocessed,
    /// It was sent, and the connection or the stream ended before the head of an answer.
    Lost {
        /// The connection had carried requests before, so that its end may have had nothing to do with this one.
        reused: bool,
    },
    /// It was sent, and no head of an answer came in time.
    TimedOut,
    /// What came was no answer.
    Garbled,
    /// With the head of an answer, of this status.
    Answered(u16),
}

/// Where a request may be sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// To an endpoint that has not been tried.
    Another,
    /// As [`Next::Another`]; where there is none, to the same again over another connection.
    AnotherConnection,
    /// To an endpoint in another cluster.
    AnotherCluster,
}

impl Ended {
    /// Where the request may go next. `kept` says that all of it that was sent can be sent once more, which is never so of a
    /// request that must not be ([`may_be_kept`]); `fail_over` that the route asks other clusters.
    pub fn next(self, kept: bool, fail_over: bool) -> Option<Next> {
        match self {
            Self::Unsent => Some(Next::Another),
            Self::Unprocessed | Self::Lost { reused: true } if kept => Some(Next::AnotherConnection),
            Self::Lost { reused: false } | Self::TimedOut if kept => Some(Next::Another),
            Self::Answered(500..) if kept && fail_over => Some(Next::AnotherCluster),
            Self::Unprocessed | Self::Lost { .. } | Self::TimedOut | Self::Garbled | Self::Answered(_) => None,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Unprocessed => "unprocessed",
            Self::Lost { .. } | Self::Garbled => "lost",
            Self::TimedOut => "timeout",
            Self::Answered(_) => "answer",
        }
    }
}

/// Whether a request may be sent twice at all: its method is idempotent (RFC 9110, section 9.2.2), and its client was not told
/// to go on because somebody would look at the body.
pub fn may_be_kept(method: &Method, headers: &HeaderMap) -> bool {
    method.is_idempotent() && !headers.contains_key(header::EXPECT)
}

/// One try to be.
#[derive(Debug)]
pub struct Turn {
    /// Whom to try.
    pub candidate: Rc<Candidate>,
    /// What to send.
    pub request: Request<RequestBody>,
    /// And how.
    pub how: How,
}

/// The tries of one request.
#[derive(Debug)]
pub struct Tries<'a, I> {
    candidates: I,
    terms: &'a Terms,
    kept: Option<Kept>,
    standing: Option<Rc<Standing>>,
    made: usize,
    max: usize,
    /// The first answer said that the server failed; its cluster is not asked again.
    failed: Option<Rc<Candidate>>,
    how: How,
    again: Again<'a>,
    /// There was no budget for another.
    refused: bool,
}

impl<'a, I: Iterator<Item = Rc<Candidate>>> Tries<'a, I> {
    /// The tries of a request, and the first of them, if there is anybody to try.
    pub fn begin(
        worker: &'a Worker,
        candidates: I,
        terms: &'a Terms,
        request: Request<Received>,
        standing: Option<&Rc<Standing>>,
    ) -> (Self, Option<Turn>) {
        let settings = &worker.shared.bootstrap.retries;
        if let Some(budget) = &terms.budget {
            budget.request();
        }
        let alone = candidates.size_hint().1.is_some_and(|most| most < 2);
        let kept_bytes = if alone { 0 } else { settings.buffer_bytes };
        let (parts, body) = request.into_parts();
        let keep = settings.attempts > 1
            && may_be_kept(&parts.method, &parts.headers)
            && (body.is_end_stream() || (kept_bytes > 0 && body.size_hint().lower() <= kept_bytes as u64));
        let tee_of = |body: Received| {
            let tee = Tee::new(body, kept_bytes);
            let again = RequestBody::again(Some(&tee), standing);
            (Some(tee), again)
        };
        let (tee, (body, progress)) = match keep && !body.is_end_stream() {
            true => tee_of(body),
            false => (None, RequestBody::new(body, standing)),
        };
        let kept = keep.then(|| Kept::new(&parts, tee));
        let waits =
            progress.is_some() && parts.version != Version::HTTP_2 && parts.headers.contains_key(header::EXPECT);
        let mut request = Request::from_parts(parts, body);
        if waits {
            let held = Held::until_told(&mut request, worker.shared.bootstrap.http.expect_continue);
            request.body_mut().hold(held);
        }
        let mut tries = Self {
            candidates,
            terms,
            kept,
            standing: standing.cloned(),
            made: 0,
            max: settings.attempts,
            failed: None,
            how: How { progress, within: settings.per_try_timeout, new_connection: false, upgrade: false },
            again: Again { metrics: &worker.shared.metrics, reason: None },
            refused: false,
        };
        let first = tries.candidates.next();
        let first = first.map(|candidate| tries.turn(candidate, request));
        (tries, first)
    }

    /// The next try after one that `ended`; `unsent` is the request where it came back.
    pub fn next(&mut self, ended: Ended, tried: &Rc<Candidate>, unsent: Option<Request<RequestBody>>) -> Option<Turn> {
        self.again.ended(if matches!(ended, Ended::Answered(_)) { "answered" } else { "failed" });
        let kept = self.kept.as_ref().is_some_and(|kept| kept.is_whole(matches!(ended, Ended::Answered(_))));
        // One answer is asked for once more; the second is what it is.
        let fail_over = self.terms.fail_over && self.failed.is_none();
        let next = ended.next(kept, fail_over).filter(|_| self.made < self.max)?;
        if next == Next::AnotherCluster {
            self.failed = Some(Rc::clone(tried));
        }
        let failed = self.failed.as_deref();
        let elsewhere = self.candidates.find(|candidate| failed.is_none_or(|failed| !same_cluster(failed, candidate)));
        let (candidate, new_connection) = match elsewhere {
            Some(candidate) => (candidate, false),
            None if next == Next::AnotherConnection => (Rc::clone(tried), true),
            None => return None,
        };
        if self.terms.budget.as_ref().is_some_and(|budget| !budget.withdraw()) {
            self.refused = true;
            self.again.refused(ended.reason());
            return None;
        }
        let request = match unsent {
            Some(unsent) => unsent,
            None => {
                let (request, progress) = self.kept.as_ref()?.request(self.standing.as_ref());
                self.how.progress = progress;
                request
            }
        };
        self.again.reason = Some(ended.reason());
        self.how.new_connection = new_connection;
        Some(self.turn(candidate, request))
    }

    /// Whether the last try was the last because there may not be more.
    pub fn is_over_limit(&self) -> bool {
        self.made > 1 && self.made == self.max
    }

    /// Whether there would have been another try, had there been budget for it.
    pub fn is_over_budget(&self) -> bool {
        self.refused
    }

    fn turn(&mut self, candidate: Rc<Candidate>, mut request: Request<RequestBody>) -> Turn {
        self.made += 1;
        *request.version_mut() = match candidate.slot().upstream().version {
            HttpVersion::Http1 => Version::HTTP_11,
            HttpVersion::Http2 => Version::HTTP_2,
        };
        Turn { candidate, request, how: self.how.clone() }
    }
}

fn same_cluster(one: &Candidate, other: &Candidate) -> bool {
    let cluster = |candidate: &Candidate| candidate.remote().map(|remote| remote.cluster.shared());
    cluster(one) == cluster(other)
}

/// A try beyond the first, counted when it is known how it ended.
#[derive(Debug)]
struct Again<'a> {
    metrics: &'a Metrics,
    reason: Option<&'static str>,
}

impl Again<'_> {
    fn ended(&mut self, outcome: &'static str) {
        if let Some(reason) = self.reason.take() {
            self.metrics.retries.get_or_create(&RetryLabels { reason, outcome }).inc();
        }
    }

    fn refused(&self, reason: &'static str) {
        self.metrics.retries.get_or_create(&RetryLabels { reason, outcome: "no_budget" }).inc();
        self.metrics.retry_budget_exhausted.inc();
    }
}

impl Drop for Again<'_> {
    fn drop(&mut self) {
        self.ended("cancelled");
    }
}

#[cfg(test)]
mod tests;
