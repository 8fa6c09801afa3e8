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
use crate::http::proxy_status::Unserved;
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
    /// Who sent the request calls for others, and may ask elsewhere.
    pub tells: bool,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing of the request was sent.
    Unsent,
    /// It was sent, and the upstream has said that nobody looked at it (RFC 9113, sections 6.8 and 8.7).
    Unprocessed,
    /// It was sent, and the upstream's own proxy has said that the application got nothing of it.
    Unreached,
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

/// When what was sent of a request can be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repeat {
    /// Never: it is not kept, or not all of it.
    Never,
    /// Where nobody has looked at it: its method is not idempotent.
    Unseen,
    /// Whatever became of it.
    Always,
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
    /// Where the request may go next. `fail_over` says that the route asks other clusters.
    pub fn next(self, repeat: Repeat, fail_over: bool) -> Option<Next> {
        let (unseen, always) = (repeat >= Repeat::Unseen, repeat == Repeat::Always);
        match self {
            Self::Unsent => Some(Next::Another),
            Self::Unprocessed if unseen => Some(Next::AnotherConnection),
            Self::Unreached if unseen => Some(Next::Another),
            Self::Lost { reused: true } if always => Some(Next::AnotherConnection),
            Self::Lost { reused: false } | Self::TimedOut if always => Some(Next::Another),
            Self::Answered(500..) if always && fail_over => Some(Next::AnotherCluster),
            Self::Unprocessed
            | Self::Unreached
            | Self::Lost { .. }
            | Self::TimedOut
            | Self::Garbled
            | Self::Answered(_) => None,
        }
    }

    /// What a caller may be told of a request that ended so; nothing where it may still be at work.
    fn unserved(self) -> Option<Unserved> {
        match self {
            Self::Unsent | Self::Unprocessed | Self::Unreached => Some(Unserved::Unreached),
            Self::Lost { .. } => Some(Unserved::Lost),
            Self::TimedOut | Self::Garbled | Self::Answered(_) => None,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Unprocessed => "unprocessed",
            Self::Unreached => "unreached",
            Self::Lost { .. } | Self::Garbled => "lost",
            Self::TimedOut => "timeout",
            Self::Answered(_) => "answer",
        }
    }
}

/// When a request may be sent twice: whatever became of it, if its method is idempotent (RFC 9110, section 9.2.2); and never, if its
/// client was told to go on because somebody would look at the body.
pub fn may_repeat(method: &Method, headers: &HeaderMap) -> Repeat {
    match (headers.contains_key(header::EXPECT), method.is_idempotent()) {
        (true, _) => Repeat::Never,
        (false, true) => Repeat::Always,
        (false, false) => Repeat::Unseen,
    }
}

/// One try to be.
#[derive(Debug)]
pub struct Turn {
    /// Whom to try.
    pub candidate: Rc<Candidate>,
    /// What to send.
    pub request: Box<Request<RequestBody>>,
    /// And how.
    pub how: How,
}

/// The tries of one request.
#[derive(Debug)]
pub struct Tries<'a, I> {
    candidates: I,
    terms: &'a Terms,
    kept: Option<Kept>,
    /// Of what is kept.
    repeat: Repeat,
    /// Of the tries so far, what is worst for another; `None` = one of them may still be at work, or was answered.
    unserved: Option<Unserved>,
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
        let repeat = may_repeat(&parts.method, &parts.headers);
        // Nobody else could be asked for what nobody looked at.
        let keep = settings.attempts > 1
            && repeat > if alone { Repeat::Unseen } else { Repeat::Never }
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
        let mut request = Box::new(Request::from_parts(parts, body));
        if waits {
            let held = Held::until_told(&mut request, worker.shared.bootstrap.http.expect_continue);
            request.body_mut().hold(held);
        }
        let mut tries = Self {
            candidates,
            terms,
            kept,
            repeat,
            unserved: Some(Unserved::Unreached),
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

    /// The next try after one that `ended`; `unsent` is the request where it came back, and is left where there is none.
    pub fn next(
        &mut self,
        ended: Ended,
        tried: &Rc<Candidate>,
        unsent: &mut Option<Box<Request<RequestBody>>>,
    ) -> Option<Turn> {
        self.unserved = worst(self.unserved, ended);
        self.again.ended(if matches!(ended, Ended::Answered(_)) { "answered" } else { "failed" });
        let kept = self.kept.as_ref().is_some_and(|kept| kept.is_whole(matches!(ended, Ended::Answered(_))));
        let repeat = if kept { self.repeat } else { Repeat::Never };
        // One answer is asked for once more; the second is what it is.
        let fail_over = self.terms.fail_over && self.failed.is_none();
        let next = ended.next(repeat, fail_over).filter(|_| self.made < self.max)?;
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
        let request = match unsent.take() {
            Some(unsent) => unsent,
            None => {
                let (request, progress) = self.kept.as_ref()?.request(self.standing.as_ref());
                self.how.progress = progress;
                Box::new(request)
            }
        };
        self.again.reason = Some(ended.reason());
        self.how.new_connection = new_connection;
        Some(self.turn(candidate, request))
    }

    /// What there is to tell of all tries to who may ask elsewhere.
    pub fn unserved(&self) -> Option<Unserved> {
        self.unserved.filter(|_| self.terms.tells && self.made > 0)
    }

    /// Whether the last try was the last because there may not be more.
    pub fn is_over_limit(&self) -> bool {
        self.made > 1 && self.made == self.max
    }

    /// Whether there would have been another try, had there been budget for it.
    pub fn is_over_budget(&self) -> bool {
        self.refused
    }

    fn turn(&mut self, candidate: Rc<Candidate>, mut request: Box<Request<RequestBody>>) -> Turn {
        self.made += 1;
        *request.version_mut() = match candidate.slot().upstream().version {
            HttpVersion::Http1 => Version::HTTP_11,
            HttpVersion::Http2 => Version::HTTP_2,
        };
        Turn { candidate, request, how: self.how.clone() }
    }
}

/// What there is to tell after one more try that `ended`.
fn worst(before: Option<Unserved>, ended: Ended) -> Option<Unserved> {
    match (before, ended.unserved()) {
        (Some(Unserved::Unreached), this) => this,
        (Some(Unserved::Lost), Some(_)) => Some(Unserved::Lost),
        (Some(Unserved::Lost), None) | (None, _) => None,
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
