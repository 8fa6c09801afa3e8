//! External authorization: CUSTOM policies' rules ask a provider, over Envoy's ext_authz API, and its answer is carried out.
//!
//! The one idea: a check ends, one way or the other, within the provider's time-out, and what is not a clear yes is a no,
//! unless the operator wrote `failOpen`. The provider is reached as any upstream is: by the plan of [`crate::outbound`], with
//! mutual TLS where it is a service of the mesh, over pooled connections.
//!
//! `http` and `grpc` are the two ways of asking, `answer` is what an answer may change. Which requests are asked about
//! is the policy engine's to say; a yes does not skip the DENY and ALLOW policies.

mod answer;
mod grpc;
mod http;
mod proto;
mod query;
mod reach;

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use bytes::Bytes;
use hyper::body::Incoming;
use meshgate_config::{ExtensionProvider, HttpCheck, ProviderTransport};
use meshgate_identity::SpiffeId;
use meshgate_policy::normalize::Level;
use meshgate_policy::{Custom, Decision, ObjectName, ProviderFault, Reason, RuleRef};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::{ErrorKind, ProxyError};
use crate::http::body::{self, RequestBody};
use crate::http::client::{self, How};
use crate::http::layers::{Exchange, Refused};
use crate::http::pool::{HttpVersion, Lease, Slot};
use crate::report::Asked;
use crate::tcp;
use crate::throttle;
use crate::worker::{Worker, WorkerRef};

pub use answer::{Change, Refusal, change};

use answer::Answer;

/// The most of an answer that is read: a page for a browser fits, a provider gone wrong costs little memory.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Tells the application that nobody said yes: the provider could not be asked and has `failOpen`. Envoy's name.
/// Only we may say it: where a CUSTOM policy applies, a caller's is taken out.
static FAILURE_MODE_ALLOWED: HeaderName = HeaderName::from_static("x-envoy-auth-failure-mode-allowed");

/// Only we may say that: also not in the spelling that many servers take for the same.
pub fn remove_failure_mode(headers: &mut HeaderMap) {
    headers.remove(&FAILURE_MODE_ALLOWED);
    headers.remove("x_envoy_auth_failure_mode_allowed");
}

/// What a CUSTOM rule wants to be asked.
#[derive(Debug)]
pub struct Question {
    provider: String,
    policy: ObjectName,
    rule: usize,
    fault: Option<ProviderFault>,
}

/// The connection, as a provider is told of it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Who calls; `None` on plaintext.
    pub peer: Option<&'a SpiffeId>,
    /// Where the connection comes from.
    pub source: SocketAddr,
    /// Where it was going.
    pub destination: SocketAddr,
    /// The server name of its TLS hello.
    pub sni: Option<&'a str>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The time-out of the check passed.
    TimedOut,
    /// The provider could not be reached, or broke off.
    Broken(ProxyError),
    /// The provider answered with a server's error.
    Status(StatusCode),
    /// The provider's answer makes no sense.
    Answer(String),
}

/// As much of a request's body as the provider is shown.
#[derive(Debug, Clone)]
struct Shown {
    data: Bytes,
    whole: bool,
}

impl Question {
    /// What the matching rule asks.
    pub fn new(custom: &Custom<'_>) -> Self {
        Self {
            provider: custom.provider.to_owned(),
            policy: custom.rule.policy.clone(),
            rule: custom.rule.rule,
            fault: custom.fault,
        }
    }

    /// The name of who is asked.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    fn refused(&self, reason: Reason) -> Decision<'_> {
        Decision::refused(reason, Some(RuleRef { policy: &self.policy, rule: self.rule }))
    }

    /// Who is asked; complains when nobody can be.
    fn settings<'a>(&self, worker: &'a Worker) -> Option<&'a ExtensionProvider> {
        let known = &worker.shared.bootstrap.extension_providers;
        let found = known.iter().find(|provider| provider.name == self.provider);
        let fault = self.fault.or(found.is_none().then_some(ProviderFault::Unknown));
        let Some(fault) = fault else { return found };
        if let Some(left_out) = throttle::admit() {
            let (policy, rule) = (&self.policy, self.rule);
            tracing::warn!(provider = ?self.provider, %policy, rule, left_out, "nobody can be asked: {fault}");
        }
        None
    }
}

impl Failure {
    /// As in the log and the counter.
    pub fn result(&self) -> &'static str {
        match self {
            Self::TimedOut => "timeout",
            Self::Broken(_) | Self::Status(_) | Self::Answer(_) => "error",
        }
    }

    fn log(&self, provider: &str) {
        let Some(left_out) = throttle::admit() else { return };
        // Debug formatting escapes what a provider may have written.
        tracing::warn!(provider = ?provider, error = ?self.to_string(), left_out, "external authorization failed");
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Broken(error) => error.fmt(f),
            Self::Status(status) => write!(f, "it answered with status {}", status.as_u16()),
            Self::Answer(why) => f.write_str(why),
        }
    }
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        Self::Broken(error)
    }
}

/// An answer as it came, for tests without a socket.
#[derive(Debug)]
pub enum Received<'a> {
    /// The body of a gRPC answer: the message behind its prefix.
    Grpc(Bytes),
    /// An HTTP answer, and what the provider's settings say of it.
    Http(&'a HttpCheck, Response<Bytes>),
}

impl Received<'_> {
    /// Carries it out. `level` is that of the request's path. Comes back with the changes to the application's answer, or with the
    /// refusal.
    ///
    /// # Errors
    /// It is no answer, or would make no valid request.
    pub fn carry_out<B>(self, request: &mut Request<B>, level: Level) -> Result<Result<Vec<Change>, Refusal>, Failure> {
        let answer = match self {
            Self::Grpc(framed) => grpc::read(framed)?,
            Self::Http(settings, response) => {
                let (head, body) = response.into_parts();
                http::check_status(head.status)?;
                http::read(settings, &head, body)
            }
        };
        answer.carry_out(request, level)
    }
}

/// Asks about a request and carries the answer out. With the request come back the changes to make to its answer.
///
/// # Errors
/// The request is refused: by the provider, or because it could not be asked.
pub async fn about_request(
    worker: &WorkerRef,
    subject: &Subject<'_>,
    question: Question,
    mut exchange: Exchange,
) -> Result<(Exchange, Vec<Change>), Refused> {
    let Some(provider) = question.settings(worker) else {
        exchange.report.decision(&question.refused(Reason::CustomFailed));
        return Err(Refused::denied(exchange));
    };
    let (mut exchange, shown) = show(worker, provider, &question, exchange).await?;
    let started = Instant::now();
    let level = worker.shared.bootstrap.authorization.path_normalization;
    let outcome = check(worker, provider, subject, Some((&exchange.request, shown.as_ref()))).await;
    let outcome = outcome.and_then(|answer| answer.carry_out(&mut exchange.request, level));
    let mut asked = Asked { provider: &provider.name, result: "allow", failure: None, took: started.elapsed() };
    match outcome {
        Ok(Ok(changes)) => {
            exchange.report.asked(&asked);
            Ok((exchange, changes))
        }
        Ok(Err(refusal)) => {
            asked.result = "deny";
            exchange.report.asked(&asked);
            exchange.report.decision(&question.refused(Reason::CustomDenied));
            Err(Refused::answered(refusal, exchange))
        }
        Err(failure) => {
            failure.log(&provider.name);
            asked.result = failure.result();
            asked.failure = Some(&failure);
            exchange.report.asked(&asked);
            if provider.fail_open {
                exchange.request.headers_mut().insert(FAILURE_MODE_ALLOWED.clone(), HeaderValue::from_static("true"));
                return Ok((exchange, Vec::new()));
            }
            exchange.report.decision(&question.refused(Reason::CustomFailed));
            Err(Refused::answered(Refusal::status(provider.status_on_error), exchange))
        }
    }
}

/// Asks about a connection whose requests are not seen; says whether it may go on.
pub async fn about_connection(
    worker: &WorkerRef,
    subject: &Subject<'_>,
    question: &Question,
    report: &mut tcp::Report,
) -> bool {
    let Some(provider) = question.settings(worker) else {
        report.decision(&question.refused(Reason::CustomFailed));
        return false;
    };
    let started = Instant::now();
    let outcome = check(worker, provider, subject, None).await;
    let mut asked = Asked { provider: &provider.name, result: "allow", failure: None, took: started.elapsed() };
    let refused = match &outcome {
        Ok(Answer::Allow(_)) => None,
        Ok(Answer::Deny(_)) => {
            asked.result = "deny";
            Some(Reason::CustomDenied)
        }
        Err(failure) => {
            failure.log(&provider.name);
            asked.result = failure.result();
            asked.failure = Some(failure);
            (!provider.fail_open).then_some(Reason::CustomFailed)
        }
    };
    report.asked(&asked);
    if let Some(reason) = refused {
        report.decision(&question.refused(reason));
    }
    refused.is_none()
}

/// Reads as much of the body as the provider is to see. A body that is too long for it ends the request with 413, as in Envoy.
async fn show(
    worker: &WorkerRef,
    provider: &ExtensionProvider,
    question: &Question,
    mut exchange: Exchange,
) -> Result<(Exchange, Option<Shown>), Refused> {
    use http_body::Body;
    let Some(wanted) = provider.body else { return Ok((exchange, None)) };
    if exchange.request.body().is_end_stream() {
        return Ok((exchange, None));
    }
    let max = wanted.max_bytes;
    // A client that stops in the middle of its body would otherwise hold what was read for as long as it likes.
    let patience = worker.shared.bootstrap.timeouts.request_header;
    let too_long = !wanted.allow_partial && exchange.request.body().size_hint().lower() > max as u64;
    let read = match too_long {
        true => Ok(None),
        false => match timeout(patience, exchange.request.body_mut().read_ahead(max)).await {
            Ok(Ok(read)) => Ok(Some(read)),
            Ok(Err(error)) => Err(ProxyError::new(ErrorKind::DownstreamGone, "in a body to check").caused_by(error)),
            Err(_) => Err(ProxyError::new(ErrorKind::BadRequest, "a body to check did not come in time")),
        },
    };
    match read {
        Ok(Some((data, ended))) if wanted.allow_partial || data.len() <= max => {
            let whole = ended && data.len() <= max;
            let data = data.slice(..data.len().min(max));
            Ok((exchange, Some(Shown { data, whole })))
        }
        Ok(_) => {
            exchange.report.decision(&question.refused(Reason::CustomFailed));
            Err(Refused::answered(Refusal::status(StatusCode::PAYLOAD_TOO_LARGE), exchange))
        }
        Err(error) => Err(Refused::unsent(error, exchange)),
    }
}

/// One check, within the provider's time-out from name resolution to the end of the answer.
async fn check(
    worker: &WorkerRef,
    provider: &ExtensionProvider,
    subject: &Subject<'_>,
    request: Option<(&Request<body::Received>, Option<&Shown>)>,
) -> Result<Answer, Failure> {
    let deadline = Instant::now() + provider.timeout;
    let (version, ask) = match (&provider.transport, request) {
        (ProviderTransport::Http(settings), Some((request, shown))) => {
            (HttpVersion::Http1, http::request(settings, request, shown)?)
        }
        (ProviderTransport::Http(_), None) => {
            return Err(Failure::Answer("an HTTP provider cannot be asked about a connection".to_owned()));
        }
        (ProviderTransport::Grpc, _) => (HttpVersion::Http2, grpc::request(worker, provider, subject, request)?),
    };
    let asking = async {
        let upstreams = reach::upstreams(worker, &provider.service, version).await?;
        send(worker, upstreams, ask).await
    };
    let (response, lease) = timeout_at(deadline, asking).await.map_err(|_| Failure::TimedOut)??;
    match &provider.transport {
        ProviderTransport::Http(settings) => http::answer(settings, response, lease, deadline).await,
        ProviderTransport::Grpc => {
            timeout_at(deadline, grpc::answer(response, lease)).await.map_err(|_| Failure::TimedOut)?
        }
    }
}

/// Sends to the first upstream that takes it.
async fn send(
    worker: &WorkerRef,
    upstreams: Vec<Rc<Slot>>,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), ProxyError> {
    let (mut request, mut failed) = (Box::new(request), None);
    for slot in upstreams {
        match client::send(worker, &slot, request, How::default()).await {
            Ok(answered) => return Ok(answered),
            Err(client::Failed { error, request: Some(unsent), .. }) => {
                request = unsent;
                failed = Some(error);
            }
            Err(client::Failed { error, request: None, .. }) => return Err(error),
        }
    }
    Err(failed.unwrap_or_else(|| ProxyError::new(ErrorKind::NoEndpoint, "no address to try")))
}
