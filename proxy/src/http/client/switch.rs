//! Sends a request that asks to go on in another protocol, over a connection of its own: after a 101 that connection is given
//! away as it is, after any other answer it ends with it.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use meshgate_identity::ClientAlpn;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Failed, How, connect, drive, drive_while, gone, http1_builder, in_time};
use crate::http::body::RequestBody;
use crate::http::guard::http1::{Guarded, Signals};
use crate::http::headers;
use crate::http::pool::{Footing, Lease, Slot, Switched};
use crate::tls::connect::Connected;
use crate::worker::WorkerRef;

/// As [`super::send`]; the lease of a 101 is [`Lease::switched`].
pub(super) async fn send(
    worker: &WorkerRef,
    slot: &Rc<Slot>,
    request: Box<Request<RequestBody>>,
    how: How,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let connecting = async {
        let _waits = slot.circuit().wait()?;
        connect(worker, slot, ClientAlpn::Http1).await
    };
    match connecting.await {
        Ok((Connected::Plain(stream), held)) => {
            over(worker, slot, stream, Footing { session: None, held, request: None }, request, how).await
        }
        Ok((Connected::Tls(stream, session), held)) => {
            over(worker, slot, stream, Footing { session: Some(session), held, request: None }, request, how).await
        }
        Err(error) => Err(Failed::unsent(error, request)),
    }
}

async fn over<I: AsyncRead + AsyncWrite + Unpin + 'static>(
    worker: &WorkerRef,
    slot: &Rc<Slot>,
    stream: I,
    footing: Footing,
    mut request: Box<Request<RequestBody>>,
    how: How,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let signals = Rc::<Signals>::default();
    let stream = Guarded::answers(stream, Rc::clone(&signals));
    let (mut sender, mut connection) = match http1_builder(worker).handshake(TokioIo::new(stream)).await {
        Ok(connected) => connected,
        Err(error) => return Err(Failed::unsent(gone(slot, error), request)),
    };
    // Driven here and not in a task of its own, so that it can be taken apart, and ends with whoever waits for it.
    let mut over = None;
    headers::prepare_http1(&mut request);
    signals.ask(false);
    let answer = {
        let asked = pin!(sender.try_send_request(*request));
        let mut asked = pin!(in_time(&how, asked));
        let both = poll_fn(|cx| {
            if over.is_none()
                && let Poll::Ready(result) = connection.poll_without_shutdown(cx)
            {
                over = Some(result);
            }
            asked.as_mut().poll(cx)
        });
        both.await
    };
    match answer.ok_or_else(|| Failed::timed_out(slot, how.within))? {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let ended = match over {
                Some(ended) => ended,
                None => poll_fn(|cx| connection.poll_without_shutdown(cx)).await,
            };
            ended.map_err(|error| Failed::sent(slot, error, false, signals.breach()))?;
            let parts = connection.into_parts();
            let switched =
                Switched { io: Box::new(parts.io.into_inner().into_inner()), early: parts.read_buf, footing };
            Ok((response, Lease::switched(switched)))
        }
        Ok(response) => {
            if over.is_none() {
                let Footing { session, held, .. } = footing;
                match session {
                    Some(session) => tokio::task::spawn_local(drive_while(session, connection, held)),
                    None => tokio::task::spawn_local(drive(connection, held)),
                };
            }
            Ok((response, Lease::alone(sender)))
        }
        Err(mut refused) => match refused.take_message() {
            Some(unsent) => Err(Failed::unsent(gone(slot, refused.into_error()), Box::new(unsent))),
            None => Err(Failed::sent(slot, refused.into_error(), false, signals.breach())),
        },
    }
}
