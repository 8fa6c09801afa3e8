//! Sends one request to one upstream, over a connection of the pool or a new one.

use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshgate_identity::ClientAlpn;

use crate::error::{ErrorKind, ProxyError};
use crate::http::body::{Progress, RequestBody};
use crate::http::pool::{CheckoutH2, HttpVersion, Lease, STREAMS_MAX, Slot};
use crate::http::server::{HYPER_MAX_HEADERS, LocalExecutor, STREAM_WINDOW, connection_window};
use crate::tls::connect::{self, Connected};
use crate::worker::WorkerRef;

/// A request that got no answer.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: ProxyError,
    /// The request itself, when nothing of it was sent.
    pub request: Option<Request<RequestBody>>,
}

impl Failed {
    fn unsent(error: ProxyError, request: Request<RequestBody>) -> Self {
        Self { error, request: Some(request) }
    }
}

/// Sends the request and waits for the head of the answer.
///
/// # Errors
/// Connecting failed (the request comes back unsent), or the upstream went away or misbehaved after it was sent.
pub async fn send(
    worker: &WorkerRef,
    slot: &Rc<Slot>,
    request: Request<RequestBody>,
    progress: Option<Rc<Progress>>,
) -> Result<(Response<Incoming>, Lease), Failed> {
    match slot.upstream().version {
        HttpVersion::Http1 => send_http1(worker, slot, request, progress).await,
        HttpVersion::Http2 => send_http2(worker, slot, request).await,
    }
}

async fn send_http1(
    worker: &WorkerRef,
    slot: &Rc<Slot>,
    mut request: Request<RequestBody>,
    progress: Option<Rc<Progress>>,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let current = worker.identity.borrow().generation();
    loop {
        let (mut sender, generation, reused) = match slot.checkout(current) {
            Some((sender, generation)) => (sender, generation, true),
            None => match connect_http1(worker, slot).await {
                Ok(sender) => (sender, current, false),
                Err(error) => return Err(Failed::unsent(error, request)),
            },
        };
        if let Err(error) = sender.ready().await {
            if reused {
                continue;
            }
            return Err(Failed::unsent(gone(slot, error), request));
        }
        match sender.try_send_request(request).await {
            Ok(response) => return Ok((response, Lease::whole(slot, sender, generation, progress))),
            Err(mut refused) => match refused.take_message() {
                // An idle connection that the upstream closed meanwhile: nothing was sent, so another one may do.
                Some(unsent) if reused => request = unsent,
                Some(unsent) => return Err(Failed::unsent(gone(slot, refused.into_error()), unsent)),
                None => return Err(Failed { error: broke(slot, refused.into_error()), request: None }),
            },
        }
    }
}

async fn send_http2(
    worker: &WorkerRef,
    slot: &Rc<Slot>,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let current = worker.identity.borrow().generation();
    loop {
        let (mut sender, lease, reused) = match slot.checkout_h2(current).await {
            CheckoutH2::Ready(sender, lease) => (sender, lease, true),
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
        match sender.try_send_request(request).await {
            Ok(response) => return Ok((response, lease)),
            Err(mut refused) => match refused.take_message() {
                Some(unsent) if reused => request = unsent,
                Some(unsent) => return Err(Failed::unsent(gone(slot, refused.into_error()), unsent)),
                None => return Err(Failed { error: broke(slot, refused.into_error()), request: None }),
            },
        }
    }
}

async fn connect_http1(worker: &WorkerRef, slot: &Slot) -> Result<http1::SendRequest<RequestBody>, ProxyError> {
    let limits = &worker.shared.bootstrap.limits;
    let mut builder = http1::Builder::new();
    builder.max_header_size(limits.request_header_bytes);
    if limits.request_headers != HYPER_MAX_HEADERS {
        builder.max_headers(limits.request_headers);
    }
    match connect::connect(worker, slot.upstream(), ClientAlpn::Http1).await? {
        Connected::Plain(stream) => {
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| gone(slot, e))?;
            tokio::task::spawn_local(drive(connection));
            Ok(sender)
        }
        Connected::Tls(stream) => {
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| gone(slot, e))?;
            tokio::task::spawn_local(drive(connection));
            Ok(sender)
        }
    }
}

async fn connect_http2(worker: &WorkerRef, slot: &Slot) -> Result<http2::SendRequest<RequestBody>, ProxyError> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(connection_window(STREAMS_MAX));
    builder
        .max_header_list_size(u32::try_from(worker.shared.bootstrap.limits.request_header_bytes).unwrap_or(u32::MAX));
    match connect::connect(worker, slot.upstream(), ClientAlpn::Http2).await? {
        Connected::Plain(stream) => {
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| gone(slot, e))?;
            tokio::task::spawn_local(drive(connection));
            Ok(sender)
        }
        Connected::Tls(stream) => {
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| gone(slot, e))?;
            tokio::task::spawn_local(drive(connection));
            Ok(sender)
        }
    }
}

/// Owns an upstream connection until it ends. How it ended is told to the request that used it; what is left is a matter for
/// debugging.
async fn drive(connection: impl Future<Output = Result<(), hyper::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "upstream connection ended");
    }
}

fn gone(slot: &Slot, error: hyper::Error) -> ProxyError {
    ProxyError::new(ErrorKind::UpstreamReset, slot.label().to_owned()).caused_by(error)
}

fn broke(slot: &Slot, error: hyper::Error) -> ProxyError {
    let kind = if error.is_parse() { ErrorKind::UpstreamProtocol } else { ErrorKind::UpstreamReset };
    ProxyError::new(kind, slot.label().to_owned()).caused_by(error)
}
