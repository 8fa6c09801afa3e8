//! One connection and its requests: judged when they come, and again when the configuration changes.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Response};
use meshgate_config::{InboundListener, Snapshot};
use meshgate_policy::{ConnectionFacts, RequestView, Token, Verdict};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Plan, counters, facts, plan, prefix, upstream};
use crate::balance::Candidate;
use crate::connection::{Connection, Peer, Protocol};
use crate::error::{ErrorKind, ProxyError};
use crate::ext_authz::{self, Change, Question, Subject};
use crate::http::authentication::authenticate;
use crate::http::body::ResponseBody;
use crate::http::forward::forward as forward_http;
use crate::http::forwarded::Forwarded;
use crate::http::layers::{self, Exchange, Refused, Why};
use crate::http::retry::Terms;
use crate::http::server::{self, Onward, Reporting};
use crate::http::standing::{Head, InProgress};
use crate::http::{headers, view};
use crate::tcp;
use crate::worker::WorkerRef;

/// One inbound connection, once it is known who calls and what they speak.
#[derive(Debug)]
pub struct Side {
    worker: WorkerRef,
    connection: Connection,
    destination: SocketAddr,
    peer: Peer,
    protocol: Protocol,
    application: Rc<Candidate>,
    reporting: Rc<Reporting>,
    forwarded: Forwarded,
    plan: RefCell<Rc<Plan>>,
}

impl Side {
    pub(super) fn new(
        worker: &WorkerRef,
        snapshot: &Snapshot,
        connection: Connection,
        listener: &InboundListener,
        destination: SocketAddr,
        peer: Peer,
        protocol: Protocol,
    ) -> Rc<Self> {
        let hint = snapshot.services.app_protocol(destination);
        let slot = worker.pool.slot(&upstream(worker, listener, destination, protocol, hint));
        let application = Candidate::new(slot, None);
        let facts = facts(worker, snapshot, &connection, destination, &peer, protocol);
        let plan = RefCell::new(Rc::new(plan(snapshot, &facts, &worker.residuals)));
        tracing::debug!(remote = %connection.remote, %destination, ?protocol, peer = ?peer.id, plan = ?plan.borrow(), "inbound");
        let counters = counters(worker, snapshot, &connection, destination, &peer);
        let place = Arc::clone(&connection.place);
        let reporting = Rc::new(Reporting { prefix: prefix(&connection, destination, &peer), counters, place });
        let forwarded = Forwarded::of(&worker.shared.bootstrap.headers, &peer, connection.remote.ip());
        Rc::new(Self {
            worker: Rc::clone(worker),
            connection,
            destination,
            peer,
            protocol,
            application,
            reporting,
            forwarded,
            plan,
        })
    }

    pub(super) async fn run<I: AsyncRead + AsyncWrite + Unpin + 'static>(self: Rc<Self>, stream: I) {
        if self.protocol == Protocol::Tcp {
            // In a box of its own, so that a connection that speaks HTTP has no room for it.
            return Box::pin(self.run_tcp(stream)).await;
        }
        let layers = layers::inbound(&self.worker, &self);
        let onward = |in_progress: &InProgress| self.judge_again(in_progress);
        server::serve(&self.worker, stream, self.protocol, &self.reporting, layers, onward).await;
    }

    /// Ends what is no longer allowed, by the configuration in force or because of the caller's certificate; says what becomes
    /// of the connection.
    fn judge_again(&self, in_progress: &InProgress) -> Onward {
        let plan = self.plan();
        if let Some(why) = self.untrusted() {
            in_progress.end(why);
            return Onward::End;
        }
        if !plan.allows_anything() {
            in_progress.end("nothing is allowed on the connection any more");
            return Onward::End;
        }
        let ended = in_progress.withdraw(|head| self.refusal(&plan, head));
        match &self.peer.session {
            // HTTP/1 has no other end in the middle of an answer.
            _ if ended && self.protocol != Protocol::Http2 => Onward::End,
            Some(session) if !session.is_good() => Onward::Finish,
            _ => Onward::GoOn,
        }
    }

    /// Why the caller is nobody any more, if so.
    fn untrusted(&self) -> Option<&'static str> {
        self.peer.session.as_ref()?.over()
    }

    /// Why a request that was let in would no longer be. Providers are not asked again.
    fn refusal(&self, plan: &Plan, head: &Head) -> Option<String> {
        let decision = head.decide_again(&plan.residual, self.scheme());
        (decision.verdict == Verdict::Deny).then(|| match decision.rule {
            Some(rule) => format!("{} {rule}", decision.reason),
            None => decision.reason.to_string(),
        })
    }

    async fn run_tcp<I: AsyncRead + AsyncWrite + Unpin + 'static>(self: Rc<Self>, stream: I) {
        let mut report =
            tcp::Report::begin(&self.worker, &self.connection.place, &self.reporting.prefix, &self.reporting.counters);
        report.rests_on(ErrorKind::DownstreamTls, self.peer.session.as_ref());
        let plan = self.plan();
        let question = plan.residual.custom_connection().filter(|_| plan.admitted);
        let question = question.map(|custom| Question::new(&custom));
        if let Some(question) = &question
            && !ext_authz::about_connection(&self.worker, &self.subject(), question, &mut report).await
        {
            report.refused();
            return;
        }
        let decision = plan.residual.decide_connection();
        report.decision(&decision);
        report.nearest(|| plan.residual.nearest(&decision, &self.facts(&self.worker.snapshot()), None));
        if decision.verdict == Verdict::Deny || !plan.admitted {
            report.refused();
            return;
        }
        let allowed = || {
            let plan = self.plan();
            // A connection is asked about once. Where another provider has to be asked by now, nobody has said yes to it.
            let asked = question.as_ref().map(Question::provider);
            let custom = plan.residual.custom_connection();
            plan.admitted
                && custom.is_none_or(|custom| custom.fault.is_none() && Some(custom.provider) == asked)
                && plan.residual.decide_connection().verdict == Verdict::Allow
        };
        let application = std::iter::once(Rc::clone(&self.application));
        tcp::forward(&self.worker, stream, application, report, allowed).await;
    }

    /// The plan under the configuration in force now.
    fn plan(&self) -> Rc<Plan> {
        let current = self.worker.generation();
        if self.plan.borrow().generation != current {
            let snapshot = self.worker.snapshot();
            let facts = self.facts(&snapshot);
            let fresh = Rc::new(plan(&snapshot, &facts, &self.worker.residuals));
            self.plan.replace(fresh);
        }
        Rc::clone(&self.plan.borrow())
    }

    /// What has to be asked about a request before it is authorized. The plan that says so is kept with the request, which is
    /// let in by it or not. Costs a look at an empty list where no CUSTOM policy applies.
    pub fn question(&self, exchange: &mut Exchange) -> Option<Question> {
        let plan = exchange.plan.insert(self.plan());
        if !plan.residual.may_ask() || !plan.admitted {
            return None;
        }
        ext_authz::remove_failure_mode(exchange.request.headers_mut());
        // A provider would take a caller's word for a token's; what the provider says there goes with the tokens' own layer.
        if let Some(rules) = &plan.authentication {
            rules.remove_reserved(exchange.request.headers_mut());
        }
        let custom = plan.residual.custom(&self.view(&exchange.request, None))?;
        Some(Question::new(&custom))
    }

    /// The layer of the CUSTOM policies, for a request that one of them asks about.
    ///
    /// # Errors
    /// As [`ext_authz::about_request`].
    pub async fn ask(&self, question: Question, exchange: Exchange) -> Result<(Exchange, Vec<Change>), Refused> {
        ext_authz::about_request(&self.worker, &self.subject(), question, exchange).await
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            peer: self.peer.id.as_ref(),
            source: self.connection.remote,
            destination: self.destination,
            sni: self.peer.sni.as_deref(),
        }
    }

    fn facts(&self, snapshot: &Snapshot) -> ConnectionFacts<'_> {
        facts(&self.worker, snapshot, &self.connection, self.destination, &self.peer, self.protocol)
    }

    /// The layer of the tokens.
    ///
    /// # Errors
    /// A token is there and not good.
    pub fn authenticate(&self, exchange: &mut Exchange) -> Result<(), Why> {
        let plan = exchange.plan.clone().unwrap_or_else(|| self.plan());
        match &plan.authentication {
            None => Ok(()),
            Some(rules) => {
                exchange.request.body_mut().reserve(rules);
                authenticate(&self.worker, rules, plan.generation, self.scheme(), exchange)
            }
        }
    }

    /// The layer of the policies.
    ///
    /// # Errors
    /// A policy, or the mTLS mode, refuses the request.
    pub fn authorize(&self, exchange: &mut Exchange) -> Result<(), Why> {
        let plan = exchange.plan.take().unwrap_or_else(|| self.plan());
        if let Some(why) = self.untrusted() {
            return Err(ProxyError::new(ErrorKind::DownstreamTls, why).into());
        }
        if !plan.admitted {
            let why = "mutual TLS has become mandatory on this port";
            return Err(ProxyError::new(ErrorKind::DownstreamTls, why).into());
        }
        let view = self.view(&exchange.request, exchange.token.as_deref());
        let decision = plan.residual.decide(&view);
        exchange.report.decision(&decision);
        match decision.verdict {
            Verdict::Allow => {
                let (names, remote_ip) = (plan.residual.headers(), view.remote_ip);
                let token = exchange.token.clone();
                exchange.report.let_in(Head::keep(&exchange.request, names, token, remote_ip));
                Ok(())
            }
            Verdict::Deny => {
                let facts = || self.facts(&self.worker.snapshot());
                exchange.report.nearest(|| plan.residual.nearest(&decision, &facts(), Some(&view)));
                Err(Why::Denied)
            }
        }
    }

    /// The request as the policies see it: as it will be forwarded.
    fn view<'a, B>(&self, request: &'a http::Request<B>, token: Option<&'a Token>) -> RequestView<'a> {
        let remote_ip = self.remote_ip(request.headers());
        RequestView { token, ..view::of(request, self.scheme(), remote_ip) }
    }

    /// What the application is told about the caller.
    pub fn forwarded(&self) -> &Forwarded {
        &self.forwarded
    }

    fn scheme(&self) -> &'static str {
        if self.peer.id.is_some() { "https" } else { "http" }
    }

    fn remote_ip(&self, headers: &HeaderMap) -> IpAddr {
        let bootstrap = &self.worker.shared.bootstrap;
        // Where it is said whose word counts, nobody else's does.
        let believed = bootstrap.headers.trusted_peers.is_empty() || self.forwarded.is_trusted();
        let hops = if believed { bootstrap.authorization.num_trusted_proxies } else { 0 };
        headers::forwarded_for(headers, hops).unwrap_or(self.connection.remote.ip())
    }
}

/// The last layer: to the application.
///
/// # Errors
/// The application could not be reached or broke off.
pub async fn forward(side: Rc<Side>, exchange: Box<Exchange>) -> Result<Response<ResponseBody>, Refused> {
    let application = Rc::clone(&side.application);
    let Exchange { mut request, report, .. } = *exchange;
    side.forwarded.tell_address(request.headers_mut());
    // Who has shown a certificate calls for others; to anybody else our errors are answers.
    let terms = Terms { tells: side.peer.id.is_some(), ..Terms::default() };
    forward_http(&side.worker, std::iter::once(application), &terms, request, report).await
}
