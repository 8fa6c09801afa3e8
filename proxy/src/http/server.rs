//! Serves one downstream HTTP connection: limits, idleness and drain around hyper, a request at a time to the layers.

use std::pin::{Pin, pin};
use std::rc::Rc;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower::Service;

use crate::connection::Protocol;
use crate::drain::Phase;
use crate::http::body::{Received, ResponseBody};
use crate::http::idle::{Activity, Due, Watched};
use crate::http::layers::{Closed, Exchange};
use crate::http::rest;
use crate::http::standing::InProgress;
use crate::metrics::RequestCounters;
use crate::report::{self, Report};
use crate::rewind::Rewind;
use crate::worker::WorkerRef;

/// Flow-control window of an HTTP/2 stream, on either side: what one stream may have in flight, and so the most of a body that
/// waits in our memory when the other side is slow. It fills 1 Gbit/s at half a millisecond, which is what lies between pods.
pub const STREAM_WINDOW: u32 = 64 * 1024;

/// Answer bytes of one HTTP/2 stream that wait for the downstream's window.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that a peer may open and reset before we have looked at them; beyond it the connection is closed with
/// ENHANCE_YOUR_CALM (CVE-2023-44487).
pub(crate) const PENDING_RESETS: usize = 20;

/// Streams reset because of the peer's own errors, before the connection is closed likewise (CVE-2025-8671).
pub(crate) const LOCAL_RESETS: usize = 1024;

/// What hyper takes without being told, and then parses into a buffer on the stack; told a number, even this one, it fills and
/// moves several kilobytes for every message, which shows in a profile.
pub const HYPER_MAX_HEADERS: usize = 100;

/// The window of a connection: enough for all its streams, so that a few that nobody reads from do not stop the others. HTTP/2
/// allows 2^31 - 1.
pub fn connection_window(streams: u32) -> u32 {
    STREAM_WINDOW.saturating_mul(streams).min((1 << 31) - 1)
}

/// Spawns on the worker's own thread, so that nothing needs to be `Send`.
#[derive(Debug, Clone, Copy)]
pub struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// What the requests of a connection have in common in the log and the counters.
#[derive(Debug)]
pub struct Reporting {
    /// The log fields of the connection, see [`crate::access_log::Line::prefix`].
    pub prefix: Vec<u8>,
    /// Where its requests are counted until their destination is known.
    pub counters: Rc<RequestCounters>,
}

/// Serves `io` until it ends, rests too long, the drain says so, or may not `go_on` under a new configuration, which also ends
/// what is in progress and no longer allowed; `layers` answer each request.
pub async fn serve<I, S>(
    worker: &WorkerRef,
    io: I,
    protocol: Protocol,
    reporting: &Rc<Reporting>,
    layers: S,
    go_on: impl Fn(&InProgress) -> bool,
) where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service<Exchange, Response = Response<ResponseBody>, Error = Closed> + Clone + 'static,
{
    let activity = Activity::new();
    let service = {
        let (activity, worker, reporting) = (Rc::clone(&activity), Rc::clone(worker), Rc::clone(reporting));
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut report = Report::begin(&worker, &reporting, &request);
            report.in_flight(activity.request(!request.body().is_end_stream()));
            let request = request.map(|body| Received::new(body, activity.body()));
            // The layers are always ready: waiting happens in the call, where it is bounded and reported.
            layers.clone().call(Exchange { request, token: None, report, plan: None })
        })
    };
    let limits = &worker.shared.bootstrap.limits;
    if protocol == Protocol::Http2 {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .auto_date_header(false)
            .max_concurrent_streams(limits.concurrent_streams)
            .max_header_list_size(u32::try_from(limits.request_header_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(connection_window(limits.concurrent_streams))
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(LOCAL_RESETS);
        let connection = builder.serve_connection(TokioIo::new(io), service);
        let shutdown = http2::Connection::graceful_shutdown;
        Box::pin(async move { run(worker, &activity, reporting, pin!(connection), shutdown, &go_on, false).await })
            .await;
    } else {
        let mut io = Rewind::new(io);
        loop {
            // In a box of its own, so that a connection that rests has none of it.
            let awake = Box::pin(http1(worker, &activity, reporting, io, service.clone(), &go_on));
            let Some(resting) = awake.await else { return };
            io = resting;
            if !rest::rest(worker, &activity, &mut io, &go_on).await {
                return;
            }
        }
    }
}

/// Serves HTTP/1 until the connection ends, or until it rests: then it comes back, with what was read of it and not used.
async fn http1<I, S>(
    worker: &WorkerRef,
    activity: &Rc<Activity>,
    reporting: &Reporting,
    io: Rewind<I>,
    service: S,
    go_on: impl Fn(&InProgress) -> bool,
) -> Option<Rewind<I>>
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    S: HttpService<Incoming, ResBody = ResponseBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limits = &worker.shared.bootstrap.limits;
    let mut builder = http1::Builder::new();
    // What comes during the drain (outbound only) gets one answer.
    builder.keep_alive(worker.drain.phase() == Phase::Running);
    builder.auto_date_header(false).header_read_timeout(None).max_header_size(limits.request_header_bytes);
    if limits.request_headers != HYPER_MAX_HEADERS {
        builder.max_headers(limits.request_headers);
    }
    let io = Watched::new(io, Rc::clone(activity));
    let mut connection = builder.serve_connection(TokioIo::new(io), service);
    let pinned = Pin::new(&mut connection);
    match run(worker, activity, reporting, pinned, http1::Connection::graceful_shutdown, go_on, true).await {
        End::Over => None,
        End::Rests => {
            let parts = connection.into_parts();
            let mut io = parts.io.into_inner().into_inner();
            io.put_back(&parts.read_buf);
            Some(io)
        }
    }
}

/// How serving a connection ended.
enum End {
    /// With the connection.
    Over,
    /// It stands between two messages.
    Rests,
}

async fn run<C>(
    worker: &WorkerRef,
    activity: &Activity,
    reporting: &Reporting,
    mut connection: Pin<&mut C>,
    shutdown: impl Fn(Pin<&mut C>),
    go_on: impl Fn(&InProgress) -> bool,
    may_rest: bool,
) -> End
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let timeouts = &worker.shared.bootstrap.timeouts;
    let (head, idle) = (timeouts.request_header, timeouts.idle);
    let mut drain = worker.drain.clone();
    // A connection that comes during the drain is not told to end before it has been served.
    let mut next = if drain.phase() == Phase::Running { Phase::Draining } else { Phase::Ended };
    let first = if may_rest { head.min(rest::FIRST_LOOK) } else { head };
    let mut timer = pin!(tokio::time::sleep(first.min(idle)));
    let mut resting = false;
    // What was decided before this is decided again at the next request; nothing is in flight yet.
    let mut changes = worker.changes.follow();
    loop {
        // The connection comes first: whatever else is due, an answer that is ready goes out.
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "downstream connection ended");
                    if error.is_parse() {
                        report::unparsed(worker, &reporting.prefix, &reporting.counters, &error);
                    }
                }
                return End::Over;
            }
            () = drain.reached(next) => {
                if next == Phase::Ended {
                    return End::Over;
                }
                shutdown(connection.as_mut());
                next = Phase::Ended;
            }
            () = changes.changed() => if !go_on(activity.in_progress()) {
                return End::Over;
            },
            () = timer.as_mut() => match activity.due(Instant::now(), head, idle) {
                Due::Later(_) if may_rest && next == Phase::Draining && activity.is_between_messages() => {
                    return End::Rests;
                }
                Due::Later(at) => {
                    resting = false;
                    timer.as_mut().reset(at);
                }
                Due::SlowHead => {
                    tracing::debug!("request head took too long");
                    return End::Over;
                }
                // Told before, and still there: an HTTP/2 peer that does not answer is not waited for.
                Due::Idle if resting => return End::Over,
                Due::Idle => {
                    shutdown(connection.as_mut());
                    resting = true;
                    timer.as_mut().reset(Instant::now() + head);
                }
            },
        }
    }
}
