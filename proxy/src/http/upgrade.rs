//! Connections that go on in another protocol, such as WebSocket (RFC 9110, section 7.8; RFC 6455).
//!
//! A request that asks for one of the allowed protocols is judged and forwarded like any other, with the two fields that ask, and
//! over an upstream connection of its own. Only the application's 101 for just that protocol makes a tunnel of the two
//! connections: it is left in the [`Switch`], and whoever serves the downstream connection runs it once the 101 has gone out. Until
//! then what the client sends is HTTP, and after any other answer it is again. Nothing here looks into a tunnel.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::balance::Attempt;
use crate::copy::{Copy, End};
use crate::drain::Phase;
use crate::error::{ErrorKind, ProxyError};
use crate::http::body::ResponseBody;
use crate::http::headers;
use crate::http::pool::{Footing, Switched};
use crate::metrics::RequestCounters;
use crate::open::Place;
use crate::report::{DENIED, NO_FLAGS, Report};
use crate::worker::WorkerRef;

/// What a connection is to go on with once its answer has gone out; empty while it speaks HTTP.
#[derive(Debug, Default)]
pub struct Switch {
    tunnel: RefCell<Option<Tunnel>>,
    asked: Cell<bool>,
}

/// The upstream's end of a tunnel.
#[derive(Debug)]
pub struct Tunnel {
    upstream: Switched,
    report: Report,
    /// It counts as in progress.
    _attempt: Attempt,
}

impl Switch {
    /// The tunnel, if there is to be one.
    pub fn take(&self) -> Option<Tunnel> {
        self.tunnel.take()
    }

    /// To be told of every request of the connection.
    pub fn request<B>(&self, request: &Request<B>) {
        if request.extensions().get::<OnUpgrade>().is_some() {
            self.asked.set(true);
        }
    }

    /// Whether any request had an `Upgrade`, whatever became of it: then hyper leaves it to us to end the connection.
    pub fn was_asked(&self) -> bool {
        self.asked.get()
    }
}

/// The protocol that a request asks to go on in, if it is one of those that are `allowed`. A wish for others is no more than
/// that: whoever gets the request need not know of it.
///
/// # Errors
/// [`ErrorKind::BadRequest`] for one that is allowed and not asked for as it has to be: with GET, without a body, named in
/// `Connection`. What comes behind such a request could be taken for a message by one and for a stream by another.
pub fn asked<B: Body>(request: &Request<B>, allowed: &[String]) -> Result<Option<HeaderValue>, ProxyError> {
    let headers = request.headers();
    // HTTP/1.0 has no upgrades, and HTTP/2 has no such field.
    if request.version() != Version::HTTP_11 || !headers.contains_key(header::UPGRADE) {
        return Ok(None);
    }
    let known = |token: &[u8]| allowed.iter().find(|protocol| token.eq_ignore_ascii_case(protocol.as_bytes()));
    let Some(protocol) = tokens(headers, &header::UPGRADE).find_map(known) else { return Ok(None) };
    let bad = |detail| Err(ProxyError::new(ErrorKind::BadRequest, detail));
    if request.method() != Method::GET {
        return bad("an upgrade with another method than GET");
    }
    if !request.body().is_end_stream() || headers.contains_key(header::TRANSFER_ENCODING) {
        return bad("an upgrade with a body");
    }
    if !names_upgrade(headers) {
        return bad("an upgrade that Connection does not name");
    }
    // Of configuration that was checked, so it is a header's value.
    HeaderValue::from_str(protocol).map(Some).map_err(|error| {
        ProxyError::new(ErrorKind::Internal, "an upgrade that cannot stand in a header").caused_by(error)
    })
}

/// Asks, or answers: of all that was there before, these two fields alone belong to the next hop as well.
pub fn write(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol.clone());
}

/// Whether a 101 is one for the protocol that was asked for.
pub fn is_answer<B>(response: &Response<B>, protocol: &HeaderValue) -> bool {
    let mut named = tokens(response.headers(), &header::UPGRADE);
    let same = named.next().is_some_and(|token| token.eq_ignore_ascii_case(protocol.as_bytes()));
    same && named.next().is_none() && names_upgrade(response.headers())
}

fn names_upgrade(headers: &HeaderMap) -> bool {
    tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let elements = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    elements.map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Leaves the tunnel for when the 101 has gone out, which is what this makes of the upstream's.
pub fn accept(
    mut response: Response<Incoming>,
    upstream: Switched,
    attempt: Attempt,
    mut report: Report,
) -> Response<ResponseBody> {
    headers::sanitise_response(&mut response);
    // A 101 has no body to frame (RFC 9110, sections 8.6 and 15.2).
    response.headers_mut().remove(header::CONTENT_LENGTH);
    if let Some(protocol) = report.upgrade() {
        write(response.headers_mut(), protocol);
    }
    report.status(response.status().as_u16());
    report.tunnel();
    if let Some(switch) = report.switch() {
        switch.tunnel.replace(Some(Tunnel { upstream, report, _attempt: attempt }));
    }
    response.map(|_| ResponseBody::none())
}

/// Moves bytes until both sides have ended, nothing moved for the idle time, the drain is over, or the request that it began
/// with may not `go_on` under a new configuration. `early` is what the downstream sent before it had the 101. A tunnel counts as
/// a TCP connection beside the request.
pub async fn run<I>(
    worker: &WorkerRef,
    place: &Arc<Place>,
    downstream: I,
    early: Bytes,
    tunnel: Tunnel,
    go_on: impl Fn() -> bool,
) where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let Tunnel { upstream, report, _attempt } = tunnel;
    let Footing { session: rests_on, held: _held, request: _request } = upstream.footing;
    let go_on = || go_on() && rests_on.as_ref().is_none_or(|session| session.over().is_none());
    let counters = report.counters();
    let series = counters.tcp(&worker.shared.metrics, NO_FLAGS);
    series.iter().for_each(|series| series.opened());
    let mut copy = Copy::begun(downstream, upstream.io, &early, &upstream.early);
    report.upstream_address().into_iter().for_each(|address| place.leads_to(address));
    copy.counted(series, place);
    drop((early, upstream.early));
    Running { worker: Rc::clone(worker), copy, report, counters, flags: NO_FLAGS }.until_over(go_on).await;
}

/// Its drop is its end, whatever brings it about: at the end of the drain tasks are dropped where they stand.
struct Running<A: AsyncRead + AsyncWrite + Unpin, B: AsyncRead + AsyncWrite + Unpin> {
    worker: WorkerRef,
    copy: Copy<A, B>,
    report: Report,
    counters: Rc<RequestCounters>,
    flags: &'static str,
}

impl<A, B> Running<A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    async fn until_over(mut self, go_on: impl Fn() -> bool) {
        let worker = Rc::clone(&self.worker);
        let timeouts = &worker.shared.bootstrap.timeouts;
        let mut drain = worker.drain.clone();
        // From before the first look, so that no change slips between.
        let mut changes = worker.changes.follow();
        loop {
            if !go_on() {
                self.flags = DENIED;
                return;
            }
            tokio::select! {
                biased;
                end = self.copy.run(timeouts.idle, timeouts.stream) => {
                    self.flags = match end {
                        End::Closed => {
                            self.report.complete();
                            NO_FLAGS
                        }
                        End::Idle | End::DownstreamStalled | End::UpstreamStalled => ErrorKind::Stalled.flag(),
                        End::Downstream(_) => ErrorKind::DownstreamGone.flag(),
                        End::Upstream(_) => ErrorKind::UpstreamReset.flag(),
                    };
                    return;
                }
                () = drain.reached(Phase::Ended) => return,
                () = changes.changed() => {}
            }
        }
    }
}

impl<A, B> Drop for Running<A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    fn drop(&mut self) {
        let (received, sent) = self.copy.moved();
        self.report.tunnelled(received, sent);
        if self.flags == NO_FLAGS && self.worker.drain.phase() == Phase::Ended {
            self.report.because("the drain is over");
            self.report.complete();
        }
        // Of one whose permission was withdrawn the report knows, and says why.
        if self.flags != DENIED {
            self.report.ended_early(self.flags);
        }
        if let Some(series) = self.counters.tcp(&self.worker.shared.metrics, self.flags) {
            series.closed();
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Empty, Full};

    use super::*;

    fn allowed() -> Vec<String> {
        vec!["websocket".to_owned(), "spdy/3.1".to_owned()]
    }

    fn of(fields: &[(&str, &str)]) -> Request<Empty<Bytes>> {
        let mut request = Request::get("/").body(Empty::new()).unwrap();
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request
    }

    fn protocol(request: &Request<impl Body>) -> Result<Option<String>, ErrorKind> {
        let asked = asked(request, &allowed()).map_err(|error| error.kind)?;
        Ok(asked.map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn only_what_is_allowed_and_asked_for_as_it_must_be_is_asked_for() {
        for (fields, expected) in [
            (&[("upgrade", "websocket"), ("connection", "upgrade")][..], Ok(Some("websocket"))),
            (&[("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade")], Ok(Some("websocket"))),
            (
                &[("upgrade", "h2c, spdy/3.1"), ("connection", "HTTP2-Settings"), ("connection", "upgrade")],
                Ok(Some("spdy/3.1")),
            ),
            (&[("connection", "upgrade")], Ok(None)),
            (&[("upgrade", "h2c"), ("connection", "upgrade")], Ok(None)),
            (&[("upgrade", ""), ("connection", "upgrade")], Ok(None)),
            (&[("upgrade", "websockets"), ("connection", "upgrade")], Ok(None)),
            (&[("upgrade", "websocket")], Err(ErrorKind::BadRequest)),
            (&[("upgrade", "websocket"), ("connection", "close")], Err(ErrorKind::BadRequest)),
            (
                &[("upgrade", "websocket"), ("connection", "upgrade"), ("transfer-encoding", "chunked")],
                Err(ErrorKind::BadRequest),
            ),
        ] {
            assert_eq!(protocol(&of(fields)), expected.map(|some| some.map(str::to_owned)), "{fields:?}");
        }
    }

    #[test]
    fn a_method_or_a_body_that_it_may_not_have_is_refused_and_other_versions_know_no_upgrade() {
        let fields = [("upgrade", "websocket"), ("connection", "upgrade")];
        let mut request = of(&fields);
        *request.method_mut() = Method::POST;
        assert_eq!(protocol(&request), Err(ErrorKind::BadRequest));
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let mut request = of(&fields);
            *request.version_mut() = version;
            assert_eq!(protocol(&request), Ok(None));
        }
        assert_eq!(protocol(&of(&fields).map(|_| Full::<Bytes>::from("body"))), Err(ErrorKind::BadRequest));
    }

    #[test]
    fn an_answer_is_for_the_one_protocol_that_was_asked_for() {
        let wanted = HeaderValue::from_static("websocket");
        for (fields, expected) in [
            (&[("upgrade", "WebSocket"), ("connection", "Upgrade")][..], true),
            (&[("upgrade", "websocket")], false),
            (&[("connection", "upgrade")], false),
            (&[("upgrade", "h2c"), ("connection", "upgrade")], false),
            (&[("upgrade", "websocket, h2c"), ("connection", "upgrade")], false),
        ] {
            let mut response = Response::new(());
            *response.headers_mut() = of(fields).headers().clone();
            assert_eq!(is_answer(&response, &wanted), expected, "{fields:?}");
        }
    }
}
