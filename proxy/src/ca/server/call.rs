//! One call, from its head to its status.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use meshgate_identity::ca::SigningRequest;
use prost::Message;
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, timeout};

use super::proof::{self, Proven, Shown};
use super::refusal::Refusal;
use super::{Desk, journal};
use crate::ca::proto::{CertificateRequest, CertificateResponse, PATH};
use crate::grpc::{self, Malformed};
use crate::throttle;

/// Bytes of a request: one for a key of RSA 8192 has under 4 KiB, and there may be metadata beside it.
const REQUEST_MAX: usize = 64 * 1024;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) peer: SocketAddr,
    /// Leaf first; empty where the handshake had none.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

/// Answers a call.
pub(super) async fn serve(
    desk: Rc<Desk>,
    caller: Rc<Caller>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let head = Response::builder().status(StatusCode::OK).header(CONTENT_TYPE, grpc::TYPE);
    let Ok(mut head) = head.body(()) else { return };
    // Whoever has gone meanwhile does not hear it.
    let outcome = match is_grpc(&request) {
        Ok(()) => answer(&desk, &caller, request).await,
        Err(status) => {
            *head.status_mut() = status;
            let _ = respond.send_response(head, true);
            return;
        }
    };
    match outcome {
        Ok(response) => {
            let Ok(mut body) = respond.send_response(head, false) else { return };
            if body.send_data(grpc::framed(&response), false).is_ok() {
                let _ = body.send_trailers(status(grpc::OK, ""));
            }
        }
        Err((code, message)) => {
            head.headers_mut().extend(status(code, message));
            let _ = respond.send_response(head, true);
        }
    }
}

fn is_grpc(request: &Request<RecvStream>) -> Result<(), StatusCode> {
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match (request.method(), kind) {
        (&Method::POST, b"application/grpc" | b"application/grpc+proto") => Ok(()),
        (&Method::POST, _) => Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        _ => Err(StatusCode::METHOD_NOT_ALLOWED),
    }
}

fn status(code: &'static str, message: &'static str) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(2);
    fields.insert(grpc::STATUS, HeaderValue::from_static(code));
    if !message.is_empty() {
        fields.insert(grpc::MESSAGE, HeaderValue::from_static(message));
    }
    fields
}

async fn answer(
    desk: &Desk,
    caller: &Caller,
    request: Request<RecvStream>,
) -> Result<CertificateResponse, (&'static str, &'static str)> {
    let mut proven = None;
    let refusal = match certificate(desk, caller, request, &mut proven).await {
        Ok(response) => return Ok(response),
        Err(refusal) => refusal,
    };
    desk.counts.refused(refusal.label());
    if let Some(left_out) = throttle::admit() {
        let (peer, id) = (caller.peer, proven.as_ref().map_or("unknown", |proven| proven.id.as_str()));
        match refusal.is_ours() {
            true => tracing::error!(%peer, id, error = %refusal, left_out, "no certificate"),
            // What a caller has written is in some of them.
            false => tracing::warn!(%peer, id, error = ?refusal.to_string(), left_out, "no certificate"),
        }
    }
    Err(refusal.status())
}

async fn certificate(
    desk: &Desk,
    caller: &Caller,
    request: Request<RecvStream>,
    who: &mut Option<Proven>,
) -> Result<CertificateResponse, Refusal> {
    if request.uri().path() != PATH {
        return Err(Refusal::Method(request.uri().path().to_owned()));
    }
    let now = SystemTime::now();
    let proven = {
        let (identity, _) = desk.tls();
        let tokens = desk.tokens.borrow().clone();
        let shown = Shown { headers: request.headers(), certificates: &caller.certificates };
        proof::proven(&shown, tokens.as_deref(), &identity, now)?
    };
    *who = Some(proven.clone());
    let message = timeout(desk.settings.timeout, message(request.into_body())).await.map_err(|_| Refusal::Slow)??;
    let asked = CertificateRequest::decode(message)?;
    let request = SigningRequest::parse(&asked.csr)?;
    request.check_names(&proven.id)?;
    desk.rates.borrow_mut().take(&proven.id, Instant::now()).map_err(Refusal::Rate)?;
    let signed = desk.authority.sign(&request, proven.id.clone(), desk.validity(asked.validity_duration))?;
    let line = journal::line(&signed, &proven, caller.peer, now);
    desk.journal.write(line).await.map_err(Refusal::Journal)?;
    desk.counts.issued(proven.by);
    tracing::info!(id = %proven.id, serial = signed.serial, proof = proven.by, peer = %caller.peer, "issued");
    Ok(CertificateResponse { cert_chain: vec![signed.certificate_pem, desk.authority.certificate_pem().to_owned()] })
}

impl Desk {
    /// How long a certificate is valid for which so many seconds were asked; none or less than none are as many as there are.
    fn validity(&self, asked: i64) -> Duration {
        let (min, max) = (self.settings.min_ttl.min(self.settings.max_ttl), self.settings.max_ttl);
        match u64::try_from(asked) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds).clamp(min, max),
            _ => max,
        }
    }
}

/// The one message of a body.
async fn message(mut body: RecvStream) -> Result<Bytes, Refusal> {
    let mut received = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        received.extend_from_slice(&chunk);
        // Its prefix says how long it will be, before it is there.
        if let Some(&[_, a, b, c, d]) = received.first_chunk::<{ grpc::PREFIX }>() {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let max = REQUEST_MAX;
            if length > max || received.len() > grpc::PREFIX + max {
                return Err(Malformed::TooLong { length: length.max(received.len()), max }.into());
            }
        }
    }
    Ok(grpc::only(received.freeze())?)
}
