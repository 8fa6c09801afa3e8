//! What a request goes through, in reading order. Each layer is a function one can read; the stacks are written out in
//! [`inbound()`] and [`outbound()`].
//!
//! An exchange is in a box, and so is the future of the last layer: every layer, and the library around them, moves what it is given
//! on, and thousands of bytes of it would show in a profile. What a layer hands on is that box ([`Coming`]), so that a layer that only
//! looks costs nothing when the answer is waited for.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::ready;
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use meshgate_policy::Token;
use tower::{Layer, Service, ServiceBuilder};

use crate::error::{ErrorKind, ProxyError};
use crate::ext_authz::{self, Refusal};
use crate::gateway::compatibility;
use crate::http::authentication::BadToken;
use crate::http::body::{Received, ResponseBody};
use crate::http::deadline::Cut;
use crate::http::forwarded::Forwarded;
use crate::http::headers::ClientCert;
use crate::http::proxy_status::{PROXY_STATUS, Unserved};
use crate::http::{expect, headers, proxy_status, refusal, upgrade};
use crate::report::Report;
use crate::worker::{Worker, WorkerRef};
use crate::{inbound, outbound};

/// A request and the report that follows it.
#[derive(Debug)]
pub struct Exchange {
    /// As it will be forwarded, once it has passed [`crate::http::headers::sanitise_request`].
    pub request: Request<Received>,
    /// What its token says, once that has been found good; `None` without one.
    pub token: Option<Arc<Token>>,
    /// What will be logged and counted.
    pub report: Report,
    /// The plan it is judged by, once it is known; inbound only.
    pub plan: Option<Rc<inbound::Plan>>,
}

/// Why a request has no answer: its connection is to end at once and without a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("closed without an answer")]
pub struct Closed;

/// An exchange that gets no upstream's answer.
#[derive(Debug)]
pub struct Refused {
    why: Why,
    report: Report,
    unread: Option<Incoming>,
}

/// Why an exchange ends without an upstream's answer.
#[derive(Debug)]
pub enum Why {
    /// A policy said no.
    Denied,
    /// A provider said no.
    Answered(Box<Refusal>),
    /// Its token is not a good one.
    BadToken(BadToken),
    /// It failed.
    Failed(ProxyError),
    /// As `Failed`; the caller is to hear how far it came.
    Unserved(ProxyError, Unserved),
    /// A new configuration ends it.
    Withdrawn,
}

impl From<ProxyError> for Why {
    fn from(error: ProxyError) -> Self {
        Self::Failed(error)
    }
}

impl Refused {
    /// It ended before anything was sent upstream.
    pub fn unsent(why: impl Into<Why>, exchange: Exchange) -> Self {
        let (report, unread) = exchange.abandon();
        Self { why: why.into(), report, unread }
    }

    /// A policy said no.
    pub fn denied(exchange: Exchange) -> Self {
        Self::unsent(Why::Denied, exchange)
    }

    /// A provider said no.
    pub fn answered(refusal: Refusal, exchange: Exchange) -> Self {
        Self::unsent(Why::Answered(Box::new(refusal)), exchange)
    }

    /// It had to end before it had an answer.
    pub fn cut(cut: Cut, report: Report) -> Self {
        match cut {
            Cut::Withdrawn => Self { why: Why::Withdrawn, report, unread: None },
            Cut::Late => Self::failed(ProxyError::new(ErrorKind::DeadlineExceeded, "no answer in its time"), report),
            Cut::Over(over) => Self::failed(ProxyError::new(over.kind(), "no answer in its time"), report),
        }
    }

    /// It failed after its body was given to an upstream.
    pub fn failed(error: ProxyError, report: Report) -> Self {
        Self { why: Why::Failed(error), report, unread: None }
    }

    /// As [`Refused::failed`]; a body that was not sent is still to be read.
    #[must_use]
    pub fn leaving(self, unread: Option<Incoming>) -> Self {
        Self { unread, ..self }
    }

    /// Tells its caller, who calls for others and may ask elsewhere, how far a request came that failed.
    #[must_use]
    pub fn telling(self, unserved: Option<Unserved>) -> Self {
        let why = match (self.why, unserved) {
            (Why::Failed(error), Some(unserved)) => Why::Unserved(error, unserved),
            (why, _) => why,
        };
        Self { why, ..self }
    }
}

impl Exchange {
    /// The report, and what is left to read of a request body that is on its way. A client that waits to be told to go on
    /// has not sent it, and one that speaks HTTP/2 can be told to stop.
    fn abandon(mut self) -> (Report, Option<Incoming>) {
        self.report.abandoned(&self.request);
        let coming = self.request.version() != Version::HTTP_2 && !expect::may_wait(self.request.headers());
        let body = self.request.into_body();
        (self.report, (coming && !body.is_end_stream()).then(|| body.into_rest()))
    }
}

/// Toward the application: made sound, judged, forwarded.
pub fn inbound(
    worker: &WorkerRef,
    side: &Rc<inbound::Side>,
) -> impl Service<Box<Exchange>, Response = Response<ResponseBody>, Error = Closed> + Clone + 'static {
    let (worker, ask) = (Rc::clone(worker), Rc::clone(side));
    let (zeroth, first, second, last) = (Rc::clone(side), Rc::clone(side), Rc::clone(side), Rc::clone(side));
    ServiceBuilder::new()
        .layer_fn(Answer)
        .layer(CheckLayer(move |exchange: &mut Exchange| {
            sanitise(&worker, Some(zeroth.forwarded()), &worker.shared.bootstrap.http.upgrades, exchange)
        }))
        .layer(CheckLayer(admit))
        .layer_fn(move |inner| Ask { side: Rc::clone(&ask), inner })
        .layer(CheckLayer(move |exchange: &mut Exchange| first.authenticate(exchange)))
        .layer(CheckLayer(move |exchange: &mut Exchange| second.authorize(exchange)))
        .service_fn(move |exchange| -> Coming { Box::pin(inbound::forward(Rc::clone(&last), exchange)) })
}

/// From the application: made sound, routed, balanced and forwarded.
pub fn outbound(
    worker: &WorkerRef,
    side: &Rc<outbound::Side>,
) -> impl Service<Box<Exchange>, Response = Response<ResponseBody>, Error = Closed> + Clone + 'static {
    let (worker, last) = (Rc::clone(worker), Rc::clone(side));
    ServiceBuilder::new()
        .layer_fn(Answer)
        .layer(CheckLayer(move |exchange: &mut Exchange| {
            sanitise(&worker, None, &worker.shared.bootstrap.http.upgrades, exchange)
        }))
        .layer(CheckLayer(admit))
        .service_fn(move |exchange| -> Coming { Box::pin(outbound::forward(Rc::clone(&last), exchange)) })
}

/// Through a gateway without a tunnel: made sound, judged, found by its path and forwarded.
pub fn compatibility(
    worker: &WorkerRef,
    side: &Rc<compatibility::Side>,
) -> impl Service<Box<Exchange>, Response = Response<ResponseBody>, Error = Closed> + Clone + 'static {
    let (worker, first, last) = (Rc::clone(worker), Rc::clone(side), Rc::clone(side));
    ServiceBuilder::new()
        .layer_fn(Answer)
        .layer(CheckLayer(move |exchange: &mut Exchange| sanitise(&worker, None, &[], exchange)))
        .layer(CheckLayer(admit))
        .layer(CheckLayer(move |exchange: &mut Exchange| first.authorize(exchange)))
        .service_fn(move |exchange| -> Coming { Box::pin(compatibility::forward(Rc::clone(&last), exchange)) })
}

/// Lets in as many requests as there may be at once. Who comes when it is full hears so at once: waiting for a turn would only
/// make those late that are in.
fn admit(exchange: &mut Exchange) -> Result<(), Why> {
    if exchange.report.is_admitted() {
        return Ok(());
    }
    Err(ProxyError::new(ErrorKind::Overflow, "limits.requestsInFlight reached").into())
}

/// Makes the request fit to be judged and forwarded, and puts it into the report as it then is; `forwarded` is what the
/// application is told about its caller, where there is one to be told, and of the protocols that it asks to go on in, `upgrades`
/// are left.
fn sanitise(
    worker: &Worker,
    forwarded: Option<&Forwarded>,
    upgrades: &[String],
    exchange: &mut Exchange,
) -> Result<(), Why> {
    let bootstrap = &worker.shared.bootstrap;
    let (level, received) = (bootstrap.authorization.path_normalization, forwarded.map(Forwarded::received));
    // Before all that is the hop's own is gone.
    let upgrade = upgrade::asked(&exchange.request, upgrades);
    let sane = headers::sanitise_request(&mut exchange.request, level, received.unwrap_or(ClientCert::Remove));
    let fields = exchange.request.headers().len();
    if sane.is_ok() {
        let headers = exchange.request.headers_mut();
        if let Some(forwarded) = forwarded {
            forwarded.tell_certificate(headers);
        }
        if bootstrap.headers.request_id {
            worker.request_ids.ensure(headers);
        }
    }
    exchange.report.trace(&mut exchange.request);
    exchange.report.request(&exchange.request);
    // Over HTTP/1 it does not come this far. Crumbs of a cookie are one by now; their bytes had a bound of their own.
    if fields > bootstrap.limits.request_headers {
        return Err(ProxyError::new(ErrorKind::HeadTooLarge, format!("{fields} header fields")).into());
    }
    sane?;
    expect::sanitise(&mut exchange.request)?;
    if let Some(protocol) = upgrade? {
        upgrade::write(exchange.request.headers_mut(), &protocol);
        exchange.report.asks_to_upgrade(protocol);
    }
    Ok(())
}

/// An answer to come.
pub type Coming = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Refused>>>>;

/// Whatever happened, the caller gets an answer, or sees the connection end.
#[derive(Debug, Clone)]
struct Answer<S>(S);

impl<S> Service<Box<Exchange>> for Answer<S>
where
    S: Service<Box<Exchange>, Response = Response<ResponseBody>, Error = Refused, Future = Coming>,
{
    type Response = Response<ResponseBody>;
    type Error = Closed;
    type Future = Answering;

    /// Always: the layers never wait outside of a call, where waiting is bounded and reported.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: Box<Exchange>) -> Answering {
        Answering::Coming(self.0.call(exchange))
    }
}

/// An answer to come, or the one that says why there is none.
enum Answering {
    Coming(Coming),
    Refusing(Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Closed>>>>),
}

impl Future for Answering {
    type Output = Result<Response<ResponseBody>, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut *self {
                Self::Coming(coming) => match std::task::ready!(coming.as_mut().poll(cx)) {
                    Ok(response) => return Poll::Ready(Ok(response)),
                    Err(refused) => *self = Self::Refusing(Box::pin(refuse(refused))),
                },
                Self::Refusing(answer) => return answer.as_mut().poll(cx),
            }
        }
    }
}

/// The answer to a request that gets none from an upstream.
pub(super) async fn refuse(refused: Refused) -> Result<Response<ResponseBody>, Closed> {
    let Refused { why, report, unread } = refused;
    if let Some(mut body) = unread {
        refusal::discard(&mut body).await;
    }
    match why {
        Why::Denied => Ok(refusal::denied(report)),
        Why::Answered(answer) => Ok(refusal::answered(*answer, report)),
        Why::BadToken(why) => Ok(refusal::bad_token(why, report)),
        Why::Failed(error) if error.kind.is_silent() && !report.is_http2() => {
            refusal::unanswered(&error, report);
            Err(Closed)
        }
        Why::Failed(error) => Ok(refusal::failed(&error, report)),
        Why::Unserved(error, unserved) => {
            let mut response = refusal::failed(&error, report);
            if proxy_status::status(&response) == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().insert(PROXY_STATUS.clone(), unserved.value());
            }
            Ok(response)
        }
        // The report says why, as it says of an answer that has begun.
        Why::Withdrawn => Err(Closed),
    }
}

/// The layer of CUSTOM policies: the one that waits, for a provider's answer. A request that no CUSTOM rule matches passes
/// through it without a future of its own.
#[derive(Debug, Clone)]
struct Ask<S> {
    side: Rc<inbound::Side>,
    inner: S,
}

impl<S> Service<Box<Exchange>> for Ask<S>
where
    S: Service<Box<Exchange>, Response = Response<ResponseBody>, Error = Refused, Future = Coming> + Clone + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Refused;
    type Future = Coming;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut exchange: Box<Exchange>) -> Coming {
        let Some(question) = self.side.question(&mut exchange) else {
            return self.inner.call(exchange);
        };
        let (side, mut inner) = (Rc::clone(&self.side), self.inner.clone());
        Box::pin(async move {
            let (exchange, added) = side.ask(question, *exchange).await?;
            let mut response = inner.call(Box::new(exchange)).await?;
            ext_authz::change(&added, response.headers_mut());
            Ok(response)
        })
    }
}

/// A layer that looks at an exchange, and lets it pass or ends it; it never waits.
#[derive(Debug, Clone)]
struct CheckLayer<F>(F);

impl<F: Clone, S> Layer<S> for CheckLayer<F> {
    type Service = Check<F, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Check { check: self.0.clone(), inner }
    }
}

#[derive(Debug, Clone)]
struct Check<F, S> {
    check: F,
    inner: S,
}

impl<F, S> Service<Box<Exchange>> for Check<F, S>
where
    F: Fn(&mut Exchange) -> Result<(), Why>,
    S: Service<Box<Exchange>, Response = Response<ResponseBody>, Error = Refused, Future = Coming>,
{
    type Response = Response<ResponseBody>;
    type Error = Refused;
    type Future = Coming;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut exchange: Box<Exchange>) -> Coming {
        match (self.check)(&mut exchange) {
            Ok(()) => self.inner.call(exchange),
            Err(why) => Box::pin(ready(Err(Refused::unsent(why, *exchange)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future of a stack of layers, which is made of the two.
    fn size_of_future<A, B, S: Service<Box<Exchange>>>(_: fn(A, B) -> S) -> usize {
        size_of::<S::Future>()
    }

    #[test]
    fn what_is_moved_for_each_request_is_small() {
        for (stack, size) in [
            ("inbound", size_of_future(inbound)),
            ("outbound", size_of_future(outbound)),
            ("compatibility", size_of_future(compatibility)),
        ] {
            assert!(size <= 32, "{stack}: {size} bytes");
        }
    }
}
