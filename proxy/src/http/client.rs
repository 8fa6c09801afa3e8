//! Sends one request to one upstream, over a connection of the pool or a new one.

mod switch;
mod version;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshgate_identity::ClientAlpn;
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::timeout;
use version::Begun;
pub use version::as_http1;

use crate::circuit::Use;
use crate::error::{ErrorKind, ProxyError};
use crate::http::body::{Progress, RequestBody};
use crate::http::cork::{self, Cork, Corked, Driven};
use crate::http::guard;
use crate::http::guard::http1::{Breach, Signals};
use crate::http::guard::http2::Role;
use crate::http::headers;
use crate::http::headers::is_grpc;
use crate::http::pool::{Bell, CheckoutH2, Http1, HttpVersion, Lease, Origin, STREAMS_MAX, Slot};
use crate::http::retry::Ended;
use crate::http::server::{HTTP1_BUFFER, HYPER_MAX_HEADERS, STREAM_WINDOW, connection_window};
use crate::sessions::Session;
use crate::tls::connect::{self, Connected};
use crate::worker::WorkerRef;

/// A request that got no answer.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: ProxyError,
    /// The request itself, when nothing of it was sent.
    pub request: Option<Box<Request<RequestBody>>>,
    /// How far it had come.
    pub ended: Ended,
}

/// What there is to know for sending a request.
#[derive(Debug, Clone, Default)]
pub struct How {
    /// How far its body has come; `None` when there is none.
    pub progress: Option<Rc<Progress>>,
    /// How long the head of the answer may take once the request was sent; of the client's own time nothing counts.
    pub within: Option<Duration>,
    /// Over an HTTP/1 connection that has carried nothing before.
    pub new_connection: bool,
    /// It asks to go on in another protocol: its connection is its own, before and after.
    pub upgrade: bool,
}

impl Failed {
    fn unsent(error: ProxyError, request: Box<Request<RequestBody>>) -> Self {
        Self { error, request: Some(request), ended: Ended::Unsent }
    }

    fn sent(slot: &Slot, error: hyper::Error, reused: bool, breach: Option<Breach>) -> Self {
        let (kind, ended) = match h2_error(&error) {
            // The request's own body broke off, which says nothing about the upstream. What there is of it is not sent again.
            _ if error.is_user() => (broke_off(&error), Ended::Garbled),
            Some(error) if is_own_reset(error) => (ErrorKind::DownstreamGone, Ended::Garbled),
            _ if error.is_parse() => (ErrorKind::UpstreamProtocol, Ended::Garbled),
            Some(error) if is_unprocessed(error) => (ErrorKind::UpstreamReset, Ended::Unprocessed),
            // A stream that the upstream ended says nothing about its connection.
            Some(error) if error.is_reset() => (ErrorKind::UpstreamReset, Ended::Lost { reused: false }),
            _ => (ErrorKind::UpstreamReset, Ended::Lost { reused }),
        };
        let error = match breach.filter(|_| kind == ErrorKind::UpstreamProtocol) {
            Some(breach) => ProxyError::new(kind, format!("{}: {breach}", slot.upstream().address)),
            None => ProxyError::new(kind, slot.upstream().address.to_string()).caused_by(error),
        };
        Self { error, request: None, ended }
    }

    fn timed_out(slot: &Slot, within: Option<Duration>) -> Self {
        let address = slot.upstream().address;
        let detail = format!("{address}: no answer within {:?}", within.unwrap_or_default());
        let error = ProxyError::new(ErrorKind::UpstreamTimeout, detail);
        Self { error, request: None, ended: Ended::TimedOut }
    }
}

/// What we reset ourselves, not for what the upstream sent.
fn is_own_reset(error: &h2::Error) -> bool {
    error.is_reset() && !error.is_remote() && !error.is_library()
}

/// Why the body of a request ended early: its client broke the rules of its framing, or just went away.
fn broke_off(error: &hyper::Error) -> ErrorKind {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
        {
            return ErrorKind::BadRequest;
        }
        source = error.source();
    }
    ErrorKind::DownstreamGone
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// A refused stream, or one beyond the last that a GOAWAY speaks of: h2 ends no other with the peer's GOAWAY.
fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Sends the request and waits for the head of the answer. The request is in a box until it is sent: it is handed on several times.
///
/// # Errors
/// Connecting failed (the request comes back unsent), or the upstream went away or misbehaved after it was sent.
pub async fn send(
    worker: &WorkerRef,
    slot: &Rc<Slot>,
    request: Box<Request<RequestBody>>,
    how: How,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let place = match slot.circuit().request() {
        Ok(place) => place,
        Err(error) => return Err(Failed::unsent(error, request)),
    };
    let sent = match slot.upstream().version {
        // In a future of its own: it is large, and rare.
        _ if how.upgrade => Box::pin(switch::send(worker, slot, request, how)).await,
        HttpVersion::Http2 if !slot.is_http1_alone() || is_grpc(request.headers()) => {
            send_http2(worker, slot, request, how).await
        }
        _ => send_http1(worker, slot, request, how).await,
    };
    sent.map(|(response, lease)| (response, lease.counted(place)))
}

async fn send_http1(
    worker: &WorkerRef,
    slot: &Rc<Slot>,
    mut request: Box<Request<RequestBody>>,
    how: How,
) -> Result<(Response<Incoming>, Lease), Failed> {
    as_http1(&mut request);
    let current = slot.generation(worker.identity.borrow().generation());
    headers::prepare_http1(&mut request);
    loop {
        let pooled = if how.new_connection { None } else { slot.checkout(current) };
        let (mut connection, reused) = match pooled {
            Some(connection) => (connection, true),
            // In a future of its own, like everything here that is large and rare: a request is moved with its future.
            None => match Box::pin(connect_http1(worker, slot, current)).await {
                Ok(connection) => (connection, false),
                Err(error) => return Err(Failed::unsent(error, request)),
            },
        };
        if let Err(error) = connection.sender.ready().await {
            if reused {
                continue;
            }
            return Err(Failed::unsent(gone(slot, error), request));
        }
        connection.signals.ask(*request.method() == Method::HEAD);
        let asked = pin!(connection.sender.try_send_request(*request));
        let answer = in_time(&how, asked).await;
        match answer.ok_or_else(|| Failed::timed_out(slot, how.within))? {
            Ok(response) => return Ok((response, Lease::whole(slot, connection, how.progress))),
            Err(mut refused) => match refused.take_message() {
                // An idle connection that the upstream closed meanwhile: nothing was sent, so another one may do.
                Some(unsent) if reused => request = Box::new(unsent),
                Some(unsent) => {
                    return Err(Failed::unsent(gone(slot, refused.into_error()), Box::new(unsent)));
                }
                None => return Err(Failed::sent(slot, refused.into_error(), reused, connection.signals.breach())),
            },
        }
    }
}

async fn send_http2(
    worker: &WorkerRef,
    slot: &Rc<Slot>,
    mut request: Box<Request<RequestBody>>,
    how: How,
) -> Result<(Response<Incoming>, Lease), Failed> {
    version::as_http2(&mut request);
    let current = slot.generation(worker.identity.borrow().generation());
    loop {
        let (mut sender, lease, reused) = match slot.checkout_h2(current).await {
            CheckoutH2::Ready(sender, lease) => (sender, lease, true),
            CheckoutH2::Refused(error) => return Err(Failed::unsent(error, request)),
            CheckoutH2::Connect(connecting) => match Box::pin(connect_http2(worker, slot)).await {
                Ok(Some((sender, session))) => {
                    let lease = connecting.done(&sender, Origin::new(current, session));
                    (sender, lease, false)
                }
                Ok(None) if is_grpc(request.headers()) => {
                    let detail = format!("{}: gRPC to an application without HTTP/2", slot.label());
                    return Err(Failed::unsent(ProxyError::new(ErrorKind::UpstreamProtocol, detail), request));
                }
                Ok(None) => {
                    drop(connecting);
                    slot.speaks_http1_alone();
                    return Box::pin(send_http1(worker, slot, request, how)).await;
                }
                Err(error) => return Err(Failed::unsent(error, request)),
            },
        };
        if let Err(error) = sender.ready().await {
            if reused {
                continue;
            }
            return Err(Failed::unsent(gone(slot, error), request));
        }
        let asked = pin!(sender.try_send_request(*request));
        let answer = in_time(&how, asked).await;
        match answer.ok_or_else(|| Failed::timed_out(slot, how.within))? {
            Ok(response) => return Ok((response, lease)),
            Err(mut refused) => match refused.take_message() {
                Some(unsent) if reused => request = Box::new(unsent),
                Some(unsent) => {
                    return Err(Failed::unsent(gone(slot, refused.into_error()), Box::new(unsent)));
                }
                None => return Err(Failed::sent(slot, refused.into_error(), reused, None)),
            },
        }
    }
}

/// What `asked` comes to; `None` when there is no head of an answer in time. While the upstream waits for the client there is time,
/// and whenever the request's body has moved on the time begins anew.
async fn in_time<T>(how: &How, mut asked: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let Some(within) = how.within else { return Some(asked.await) };
    let state = || how.progress.as_ref().map(|progress| (progress.bytes.get(), progress.ended.get()));
    loop {
        let before = state();
        if let Ok(answer) = timeout(within, asked.as_mut()).await {
            return Some(answer);
        }
        let waits = how.progress.as_ref().is_some_and(|progress| progress.waits.get());
        if !waits && state() == before {
            return None;
        }
    }
}

fn http1_builder(worker: &WorkerRef) -> http1::Builder {
    let limits = &worker.shared.bootstrap.limits;
    let mut builder = http1::Builder::new();
    builder.max_header_size(limits.request_header_bytes);
    builder.max_buf_size(HTTP1_BUFFER.max(limits.request_header_bytes));
    if limits.request_headers != HYPER_MAX_HEADERS {
        builder.max_headers(limits.request_headers);
    }
    builder
}

/// A way to send, and what it rests on.
type Way<S> = (S, Option<Rc<Session>>);

async fn connect_http1(worker: &WorkerRef, slot: &Slot, generation: u64) -> Result<Http1, ProxyError> {
    let builder = http1_builder(worker);
    let signals = Rc::<Signals>::default();
    let bell = Arc::<Bell>::default();
    let _waits = slot.circuit().wait()?;
    let (connected, held) = connect(worker, slot, ClientAlpn::Http1).await?;
    let (sender, session, task) = match connected {
        Connected::Plain(stream) => {
            let io = TokioIo::new(guard::http1::Guarded::answers(stream, Rc::clone(&signals)));
            let (sender, connection) = builder.handshake(io).await.map_err(|e| gone(slot, e))?;
            (sender, None, spawn_local(drive(ringing(&bell, connection), held)))
        }
        Connected::Tls(stream, session) => {
            let io = TokioIo::new(guard::http1::Guarded::answers(stream, Rc::clone(&signals)));
            let (sender, connection) = builder.handshake(io).await.map_err(|e| gone(slot, e))?;
            let task = spawn_local(drive_while(Rc::clone(&session), ringing(&bell, connection), held));
            (sender, Some(session), task)
        }
    };
    Ok(slot.connected(sender, signals, Origin::new(generation, session), task.abort_handle(), bell))
}

/// `None` where there is an application without HTTP/2.
async fn connect_http2(
    worker: &WorkerRef,
    slot: &Slot,
) -> Result<Option<Way<http2::SendRequest<RequestBody>>>, ProxyError> {
    let (connected, held) = connect(worker, slot, ClientAlpn::Http2).await?;
    match connected {
        Connected::Plain(stream) => {
            let (io, cork, begun) = guarded(worker, stream);
            let (sender, connection) = http2_builder(worker, cork).handshake(io).await.map_err(|e| gone(slot, e))?;
            spawn_local(drive(connection, held));
            // Who says nothing at all may still answer.
            let is_http2 = !matches!(timeout(slot.upstream().connect_timeout, begun).await, Ok(Ok(false)));
            Ok(is_http2.then_some((sender, None)))
        }
        Connected::Tls(stream, session) => {
            let (io, cork, _) = guarded(worker, stream);
            let (sender, connection) = http2_builder(worker, cork).handshake(io).await.map_err(|e| gone(slot, e))?;
            spawn_local(drive_while(Rc::clone(&session), connection, held));
            Ok(Some((sender, Some(session))))
        }
    }
}

fn http2_builder<T>(worker: &WorkerRef, cork: Cork<T>) -> http2::Builder<Tasks<T>> {
    let limits = &worker.shared.bootstrap.limits;
    let mut builder = http2::Builder::new(Tasks(Rc::new(Cell::new(Some(cork)))));
    builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(connection_window(STREAMS_MAX));
    builder.max_header_list_size(u32::try_from(limits.request_header_bytes).unwrap_or(u32::MAX));
    builder
}

/// Starts what a connection consists of, on the worker's own thread. What drives it comes first: hyper starts that in its handshake,
/// before there is a request.
struct Tasks<T>(Rc<Cell<Option<Cork<T>>>>);

impl<T> Clone for Tasks<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<F: Future + 'static, T: AsyncWrite + Unpin + 'static> hyper::rt::Executor<F> for Tasks<T> {
    fn execute(&self, future: F) {
        match self.0.take() {
            Some(cork) => drop(spawn_local(ended(Driven::new(future, cork)))),
            None => drop(spawn_local(ended(future))),
        }
    }
}

async fn ended(future: impl Future) {
    future.await;
}

/// What a new upstream connection is read from and written to, what ends its turns, and whether it turned out to be HTTP/2.
type Watched<I> = (TokioIo<Corked<Http2<I>>>, Cork<Http2<I>>, oneshot::Receiver<bool>);

type Http2<I> = guard::http2::Guarded<I, Begun>;

fn guarded<I>(worker: &WorkerRef, stream: I) -> Watched<I> {
    let (watch, begun) = Begun::new(Rc::clone(worker));
    let limits = worker.shared.bootstrap.limits.http2;
    let (io, cork) = cork::cork(guard::http2::Guarded::new(stream, Role::Client, &limits, watch));
    (TokioIo::new(io), cork, begun)
}

/// A connection, and its place among its endpoint's.
async fn connect(worker: &WorkerRef, slot: &Slot, alpn: ClientAlpn) -> Result<(Connected, Use), ProxyError> {
    let circuit = slot.circuit();
    let held = circuit.connection()?;
    circuit.offered(connect::connect(worker, slot.upstream(), alpn).await).map(|connected| (connected, held))
}

/// A connection that is woken by its bell.
fn ringing<F: Future + Unpin>(bell: &Arc<Bell>, mut connection: F) -> impl Future<Output = F::Output> + use<F> {
    let bell = Arc::clone(bell);
    poll_fn(move |cx| bell.poll(Pin::new(&mut connection), cx))
}

/// Owns an upstream connection until it ends. How it ended is told to the request that used it; what is left is a matter for
/// debugging.
async fn drive(connection: impl Future<Output = Result<(), hyper::Error>>, _held: Use) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "upstream connection ended");
    }
}

/// The same, but not beyond the end of what the connection rests on.
async fn drive_while(session: Rc<Session>, connection: impl Future<Output = Result<(), hyper::Error>>, held: Use) {
    tokio::select! {
        biased;
        () = session.ended() => tracing::debug!(why = session.over(), "upstream connection cut"),
        () = drive(connection, held) => {}
    }
}

fn gone(slot: &Slot, error: hyper::Error) -> ProxyError {
    ProxyError::new(ErrorKind::UpstreamReset, slot.label().to_owned()).caused_by(error)
}
