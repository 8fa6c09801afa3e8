//! Sends one request to one upstream, over a connection of the pool or a new one.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshgate_identity::ClientAlpn;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::circuit::Use;
use crate::error::{ErrorKind, ProxyError};
use crate::http::body::{Progress, RequestBody};
use crate::http::pool::{CheckoutH2, Http1, HttpVersion, Lease, STREAMS_MAX, Slot};
use crate::http::retry::Ended;
use crate::http::server::{HTTP1_BUFFER, HYPER_MAX_HEADERS, LocalExecutor, STREAM_WINDOW, connection_window};
use crate::tls::connect::{self, Connected};
use crate::worker::WorkerRef;

/// A request that got no answer.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: ProxyError,
    /// The request itself, when nothing of it was sent.
    pub request: Option<Request<RequestBody>>,
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
}

impl Failed {
    fn unsent(error: ProxyError, request: Request<RequestBody>) -> Self {
        Self { error, request: Some(request), ended: Ended::Unsent }
    }

    fn sent(slot: &Slot, error: hyper::Error, reused: bool) -> Self {
        let (kind, ended) = match h2_error(&error) {
            _ if error.is_parse() => (ErrorKind::UpstreamProtocol, Ended::Garbled),
            Some(error) if is_unprocessed(error) => (ErrorKind::UpstreamReset, Ended::Unprocessed),
            // A stream that the upstream ended says nothing about its connection.
            Some(error) if error.is_reset() => (ErrorKind::UpstreamReset, Ended::Lost { reused: false }),
            _ => (ErrorKind::UpstreamReset, Ended::Lost { reused }),
        };
        let error = ProxyError::new(kind, slot.upstream().address.to_string()).caused_by(error);
        Self { error, request: None, ended }
    }

    fn timed_out(slot: &Slot, within: Option<Duration>) -> Self {
        let address = slot.upstream().address;
        let detail = format!("{address}: no answer within {:?}", within.unwrap_or_default());
        let error = ProxyError::new(ErrorKind::UpstreamTimeout, detail);
        Self { error, request: None, ended: Ended::TimedOut }
    }
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// A refused stream, or one beyond the last that a GOAWAY speaks of: h2 ends no other with the peer's GOAWAY.
fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Sends the request and waits for the head of the answer.
///
/// # Errors
/// Connecting failed (the request comes back unsent), or the upstream went away or misbehaved after it was sent.
pub async fn send(
    worker: &WorkerRef,
    slot: &Rc<Slot>,
    request: Request<RequestBody>,
    how: How,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let place = match slot.circuit().request() {
        Ok(place) => place,
        Err(error) => return Err(Failed::unsent(error, request)),
    };
    let sent = match slot.upstream().version {
        HttpVersion::Http1 => send_http1(worker, slot, request, how).await,
        HttpVersion::Http2 => send_http2(worker, slot, request, how).await,
    };
    sent.map(|(response, lease)| (response, lease.counted(place)))
}

async fn send_http1(
    worker: &WorkerRef,
    slot: &Rc<Slot>,
    mut request: Request<RequestBody>,
    how: How,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let current = slot.generation(worker.identity.borrow().generation());
    loop {
        let pooled = if how.new_connection { None } else { slot.checkout(current) };
        let (mut connection, reused) = match pooled {
            Some(connection) => (connection, true),
            None => match connect_http1(worker, slot, current).await {
                Ok(connection) => (connection, false),
                Err(error) => return Err(Failed::unsent(error, request)),
            },
        };
        let sender = &mut connection.sender;
        if let Err(error) = sender.ready().await {
            if reused {
                continue;
            }
            return Err(Failed::unsent(gone(slot, error), request));
        }
        let answer = in_time(&how, sender.try_send_request(request)).await;
        match answer.ok_or_else(|| Failed::timed_out(slot, how.within))? {
            Ok(response) => return Ok((response, Lease::whole(slot, connection, how.progress))),
            Err(mut refused) => match refused.take_message() {
                // An idle connection that the upstream closed meanwhile: nothing was sent, so another one may do.
                Some(unsent) if reused => request = unsent,
                Some(unsent) => return Err(Failed::unsent(gone(slot, refused.into_error()), unsent)),
                None => return Err(Failed::sent(slot, refused.into_error(), reused)),
            },
        }
    }
}

async fn send_http2(
    worker: &WorkerRef,
    slot: &Rc<Slot>,
    mut request: Request<RequestBody>,
    how: How,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let current = slot.generation(worker.identity.borrow().generation());
    loop {
        let (mut sender, lease, reused) = match slot.checkout_h2(current).await {
            CheckoutH2::Ready(sender, lease) => (sender, lease, true),
            CheckoutH2::Refused(error) => return Err(Failed::unsent(error, request)),
            CheckoutH2::Connect(connecting) => match connect_http2(worker, slot).await {
                Ok(sender) => {
                    let lease = connecting.done(&sender, current);
                    (sender, lease, false)
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
        let answer = in_time(&how, sender.try_send_request(request)).await;
        match answer.ok_or_else(|| Failed::timed_out(slot, how.within))? {
            Ok(response) => return Ok((response, lease)),
            Err(mut refused) => match refused.take_message() {
                Some(unsent) if reused => request = unsent,
                Some(unsent) => return Err(Failed::unsent(gone(slot, refused.into_error()), unsent)),
                None => return Err(Failed::sent(slot, refused.into_error(), reused)),
            },
        }
    }
}

/// What `asked` comes to; `None` when there is no head of an answer in time. While the upstream waits for the client there is time,
/// and whenever the request's body has moved on the time begins anew.
async fn in_time<T>(how: &How, asked: impl Future<Output = T>) -> Option<T> {
    let Some(within) = how.within else { return Some(asked.await) };
    let mut asked = pin!(asked);
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

async fn connect_http1(worker: &WorkerRef, slot: &Slot, generation: u64) -> Result<Http1, ProxyError> {
    let limits = &worker.shared.bootstrap.limits;
    let mut builder = http1::Builder::new();
    builder.max_header_size(limits.request_header_bytes);
    builder.max_buf_size(HTTP1_BUFFER.max(limits.request_header_bytes));
    if limits.request_headers != HYPER_MAX_HEADERS {
        builder.max_headers(limits.request_headers);
    }
    let _waits = slot.circuit().wait()?;
    let (connected, held) = connect(worker, slot, ClientAlpn::Http1).await?;
    let (sender, task) = match connected {
        Connected::Plain(stream) => {
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| gone(slot, e))?;
            (sender, spawn_local(drive(connection, held)))
        }
        Connected::Tls(stream) => {
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| gone(slot, e))?;
            (sender, spawn_local(drive(connection, held)))
        }
    };
    Ok(slot.connected(sender, generation, task.abort_handle()))
}

async fn connect_http2(worker: &WorkerRef, slot: &Slot) -> Result<http2::SendRequest<RequestBody>, ProxyError> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(connection_window(STREAMS_MAX));
    builder
        .max_header_list_size(u32::try_from(worker.shared.bootstrap.limits.request_header_bytes).unwrap_or(u32::MAX));
    let (connected, held) = connect(worker, slot, ClientAlpn::Http2).await?;
    match connected {
        Connected::Plain(stream) => {
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| gone(slot, e))?;
            spawn_local(drive(connection, held));
            Ok(sender)
        }
        Connected::Tls(stream) => {
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| gone(slot, e))?;
            spawn_local(drive(connection, held));
            Ok(sender)
        }
    }
}

/// A connection, and its place among its endpoint's.
async fn connect(worker: &WorkerRef, slot: &Slot, alpn: ClientAlpn) -> Result<(Connected, Use), ProxyError> {
    let circuit = slot.circuit();
    let held = circuit.connection()?;
    circuit.offered(connect::connect(worker, slot.upstream(), alpn).await).map(|connected| (connected, held))
}

/// Owns an upstream connection until it ends. How it ended is told to the request that used it; what is left is a matter for
/// debugging.
async fn drive(connection: impl Future<Output = Result<(), hyper::Error>>, _held: Use) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "upstream connection ended");
    }
}

fn gone(slot: &Slot, error: hyper::Error) -> ProxyError {
    ProxyError::new(ErrorKind::UpstreamReset, slot.label().to_owned()).caused_by(error)
}
