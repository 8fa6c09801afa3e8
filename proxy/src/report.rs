//! What an exchange leaves behind: one access log line and one count, exactly once, however it ended.
//!
//! A [`Report`] is begun with the exchange and travels with it (request handler, then response body). It finishes when it is
//! dropped, so an exchange that was cancelled half-way is reported like any other.

mod answer;
mod counts;
mod decided;
pub mod describe;
mod destination;
mod headless;
pub mod refusals;
mod span;
mod totals;
mod upgrade;

use std::borrow::Cow;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Version};
use tokio::time::Instant;

use crate::access_log::{Field, Line, field};
use crate::balance::Candidate;
use crate::error::{ErrorKind, ProxyError};
use crate::http::body::{Messages, Progress};
use crate::http::deadline::{self, Cut, Deadline};
use crate::http::idle::InFlight;
use crate::http::server::Reporting;
use crate::http::stall::Over;
use crate::http::standing::{Head, Standing};
use crate::http::{authentication, headers};
use crate::metrics::{Amounts, Ending, RequestCounters, UNKNOWN};
use crate::trace::Span;
use crate::worker::WorkerRef;
use refusals::{By, Wanted};

pub use counts::{Asked, count_asked, count_decision, count_detection};
pub use destination::{DESTINATION, source_facts, toward};
pub use headless::{connection_refused, slow_head, unparsed};
pub use totals::Totals;

/// No flag: the answer is the upstream's own.
pub const NO_FLAGS: &str = "-";

/// The flag of what a policy refused, or a new configuration ended.
pub const DENIED: &str = "RBAC";
/// The field of the endpoints that were not even considered.
pub const LEFT_OUT: Field = field!("endpoints_left_out");

/// One request's report.
#[derive(Debug)]
pub struct Report(Box<Inner>);

#[derive(Debug)]
struct Inner {
    worker: WorkerRef,
    counters: Rc<RequestCounters>,
    line: Option<Line>,
    started: Instant,
    code: u16,
    flags: &'static str,
    detail: Option<Cow<'static, str>>,
    refused_by: Option<By>,
    /// Of what gets no upstream's answer.
    wanted: Option<Box<Wanted>>,
    upstream: Option<Rc<Candidate>>,
    attempts: u64,
    /// When the last of them began; kept for the log alone.
    asked: Option<Instant>,
    received: Option<Rc<Progress>>,
    sent: u64,
    complete: bool,
    last_try: bool,
    no_budget: bool,
    grpc: bool,
    /// What became of it, where it speaks gRPC.
    grpc_status: Option<&'static str>,
    /// The gRPC messages of the answer.
    messages: Messages,
    http2: bool,
    upgrade: Option<HeaderValue>,
    deadline: Deadline,
    /// What a tunnel took from the downstream.
    tunnelled: u64,
    in_flight: Option<InFlight>,
    /// It is one of as many requests as there may be.
    admitted: bool,
    /// Where it is recorded.
    span: Option<Box<Span>>,
}

impl Report {
    /// Begins the report of a request that has just been read.
    pub fn begin<B>(worker: &WorkerRef, reporting: &Reporting, request: &Request<B>) -> Self {
        let grpc = headers::is_grpc(request.headers());
        Self(Box::new(Inner {
            worker: Rc::clone(worker),
            counters: Rc::clone(&reporting.counters),
            line: worker.access_log.begin(&reporting.prefix),
            started: Instant::now(),
            code: 0,
            flags: NO_FLAGS,
            detail: None,
            refused_by: None,
            wanted: None,
            upstream: None,
            attempts: 0,
            asked: None,
            received: None,
            sent: 0,
            complete: false,
            last_try: false,
            no_budget: false,
            grpc,
            grpc_status: grpc.then_some(UNKNOWN),
            messages: Messages::default(),
            http2: request.version() == Version::HTTP_2,
            upgrade: None,
            deadline: Deadline::begin(deadline::of(request.headers(), grpc)),
            tunnelled: 0,
            in_flight: None,
            admitted: worker.shared.requests.enter(),
            span: None,
        }))
    }

    /// There is room for the request beside those that are in flight.
    pub fn is_admitted(&self) -> bool {
        self.0.admitted
    }

    /// When the request was read.
    pub fn started(&self) -> Instant {
        self.0.started
    }

    /// Keeps the connection from being taken for idle until the report ends.
    pub fn in_flight(&mut self, in_flight: InFlight) {
        self.0.in_flight = Some(in_flight);
    }

    /// It was let in, and will be judged again by this head when the configuration changes.
    pub fn let_in(&mut self, head: Head) {
        if let Some(in_flight) = &mut self.0.in_flight {
            in_flight.let_in(head);
        }
    }

    /// Of one that was let in.
    pub fn standing(&self) -> Option<&Rc<Standing>> {
        self.0.in_flight.as_ref()?.standing()
    }

    /// Its caller has sent more than the request already.
    pub fn is_ahead(&self) -> bool {
        self.0.in_flight.as_ref().is_some_and(InFlight::is_ahead)
    }

    /// What comes from its caller from now on is no HTTP: the answer is a 101 that is about to be written.
    pub fn tunnel(&self) {
        if let Some(in_flight) = &self.0.in_flight {
            in_flight.tunnel();
        }
    }

    /// Ready once the exchange has to end, for this reason.
    pub fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        if self.standing().is_some_and(|standing| standing.poll_answer(cx).is_ready()) {
            return Poll::Ready(Cut::Withdrawn);
        }
        if let Some(over) = self.over() {
            return Poll::Ready(Cut::Over(over));
        }
        self.0.deadline.poll(cx).map(|()| Cut::Late)
    }

    /// Why the exchange is over before its answer is whole, if it is.
    pub fn over(&self) -> Option<Over> {
        self.0.in_flight.as_ref()?.over()
    }

    /// A part of the answer has moved.
    pub fn moved(&self) {
        if let Some(in_flight) = &self.0.in_flight {
            in_flight.moved();
        }
    }

    /// The upstream has all of the request that its client has sent so far, and waits for the rest.
    pub fn waits_for_client(&self) -> bool {
        self.0.received.as_ref().is_some_and(|progress| progress.waits.get() && !progress.ended.get())
    }

    /// The caller speaks gRPC, and must be answered in its terms.
    pub fn is_grpc(&self) -> bool {
        self.0.grpc
    }

    /// The request came over HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.0.http2
    }

    /// The request as it will be forwarded (or, when it was refused as malformed, as it came).
    pub fn request<B>(&mut self, request: &Request<B>) {
        let Some(line) = &mut self.0.line else { return };
        line.text(field!("method"), request.method().as_str());
        if let Some(authority) = headers::host(request) {
            line.text(field!("authority"), authority);
        }
        let target = request.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str);
        if request.uri().query().is_some() {
            let authentication = &self.0.worker.config.borrow().authentication;
            line.text(field!("path"), authentication::without_tokens(authentication, target).as_bytes());
        } else {
            line.text(field!("path"), target);
        }
        line.word(field!("protocol"), version(request.version()));
        if let Some(span) = &self.0.span {
            line.display(field!("trace_id"), format_args!("{:032x}", span.trace));
        }
        let names = ["user-agent", "x-request-id", "x-forwarded-for"];
        let [user_agent, request_id, forwarded_for] = headers::first_lines(request.headers(), names);
        if let Some(value) = user_agent {
            line.text(field!("user_agent"), value);
        }
        if let Some(value) = request_id {
            line.text(field!("request_id"), value);
        }
        if let Some(value) = forwarded_for {
            line.text(field!("x_forwarded_for"), value);
        }
    }

    /// It gets no upstream's answer; what it asked for is kept, because it may be a refusal.
    pub fn abandoned<B>(&mut self, request: &Request<B>) {
        self.0.wanted = Some(Box::new(Wanted::of(request)));
    }

    /// Why it ended as it did.
    pub fn because(&mut self, detail: &'static str) {
        self.0.detail = Some(detail.into());
    }

    /// Counts under other labels from now on: the destination is known.
    pub fn destination(&mut self, counters: &Rc<RequestCounters>, service: &str) {
        self.0.counters = Rc::clone(counters);
        if let Some(line) = &mut self.0.line {
            line.text(field!("upstream_cluster"), service);
        }
    }

    /// Whose answer it is; where nothing was sent, who was next.
    pub fn upstream(&mut self, candidate: &Rc<Candidate>) {
        self.0.upstream = Some(Rc::clone(candidate));
    }

    /// It is being sent to this upstream; the bytes of its body are counted in `progress`.
    pub fn attempt(&mut self, candidate: &Rc<Candidate>, progress: Option<&Rc<Progress>>) {
        self.upstream(candidate);
        self.0.attempts += 1;
        self.0.asked = self.0.line.is_some().then(Instant::now);
        if let Some(progress) = progress.filter(|_| self.0.grpc) {
            progress.messages.set(Some(Messages::default()));
        }
        self.0.received = progress.cloned();
        if let Some(in_flight) = &self.0.in_flight {
            in_flight.uploads(progress);
        }
    }

    /// Why it was not tried again: there have been as many tries as there may be, or there is no budget for another.
    pub fn not_again(&mut self, over_limit: bool, over_budget: bool) {
        self.0.last_try = over_limit;
        self.0.no_budget = over_budget;
    }

    /// The status of the answer.
    pub fn status(&mut self, code: u16) {
        self.0.code = code;
    }

    /// The answer is ours, for this reason.
    pub fn answered_by_us(&mut self, code: u16, flags: &'static str) {
        self.0.code = code;
        self.0.flags = flags;
    }

    /// The exchange failed.
    pub fn failed(&mut self, error: &ProxyError) {
        if let Some(line) = &mut self.0.line {
            describe::refusal(error, line);
        }
        self.0.flags = if self.0.last_try { error.kind.flag_of_last_try() } else { error.kind.flag() };
        self.0.detail = Some(match self.0.no_budget {
            true => format!("{error}; not tried again: the retry budget is used up").into(),
            false => error.to_string().into(),
        });
        error.log();
    }

    /// Where it counts, as far as it is known where it goes.
    pub fn counters(&self) -> Rc<RequestCounters> {
        toward(&self.0.worker, &self.0.counters, self.0.upstream.as_ref())
    }

    /// The answer is whole.
    pub fn complete(&mut self) {
        self.0.complete = true;
    }

    /// The upstream broke off in the middle of its answer.
    pub fn upstream_broke(&mut self) {
        self.0.flags = ErrorKind::UpstreamReset.flag();
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let inner = &mut *self.0;
        if inner.admitted {
            inner.worker.shared.requests.leave();
        }
        if !inner.complete && inner.flags == NO_FLAGS {
            inner.flags = match inner.in_flight.as_ref().and_then(InFlight::withdrawn) {
                Some(why) => {
                    inner.detail = Some(format!("permission withdrawn: {why}").into());
                    DENIED
                }
                None => match cut_off(inner.in_flight.as_ref()) {
                    Some((kind, why)) => {
                        inner.detail = Some(why.into());
                        kind.flag()
                    }
                    None => ErrorKind::DownstreamGone.flag(),
                },
            };
        }
        let received = inner.received.as_ref().map_or(inner.tunnelled, |progress| progress.bytes.get());
        let took = inner.started.elapsed();
        if inner.worker.shared.metrics.enabled() {
            let messages = inner.received.as_ref().and_then(|progress| progress.messages.get()).unwrap_or_default();
            let messages = (messages.count, inner.messages.count);
            let amounts = Amounts { took, received, sent: inner.sent, messages };
            let ending = Ending { code: inner.code, flags: inner.flags, grpc: inner.grpc_status };
            let counters = toward(&inner.worker, &inner.counters, inner.upstream.as_ref());
            counters.count(&inner.worker.shared.metrics, ending, &amounts);
        }
        if let Some(span) = inner.span.take() {
            inner.end_span(span, took, received);
        }
        let end = refusals::End {
            wanted: inner.wanted.as_deref(),
            code: Some(inner.code),
            flags: inner.flags,
            by: inner.refused_by.as_ref(),
            details: inner.detail.as_deref(),
        };
        inner.worker.refusals.note(inner.counters.facts(), end);
        let Some(mut line) = inner.line.take() else { return };
        if let Some(upstream) = &inner.upstream {
            describe::upstream(upstream, inner.attempts, &mut line);
        }
        if let Some(detail) = &inner.detail {
            line.text(field!("response_code_details"), detail.as_bytes());
        }
        let totals =
            Totals { code: Some(inner.code), grpc: inner.grpc_status, flags: inner.flags, received, sent: inner.sent };
        totals.finish(&inner.worker, line, took);
    }
}

/// Why an answer was broken off that took too long.
fn cut_off(in_flight: Option<&InFlight>) -> Option<(ErrorKind, &'static str)> {
    in_flight.and_then(InFlight::over).map(|over| match over {
        Over::Stalled => (ErrorKind::Stalled, "nothing of it moved for timeouts.stream"),
        Over::TooLong => (ErrorKind::TooLong, "it took longer than timeouts.request"),
    })
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
