//! Serves one downstream HTTP connection: limits, idleness and drain around hyper, a request at a time to the layers.

mod http2;

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt;
use http::{HeaderValue, Request, Response, header};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, timeout};
use tower::Service;

use crate::connection::Protocol;
use crate::drain::{LAST_CALL, Phase};
use crate::http::body::{Received, ResponseBody};
use crate::http::guard;
use crate::http::idle::{Activity, Due, Limits, Watched};
use crate::http::layers::{Closed, Exchange};
use crate::http::rest;
use crate::http::stall::Patience;
use crate::http::standing::InProgress;
use crate::http::upgrade::{self, Switch};
use crate::metrics::RequestCounters;
use crate::open::Place;
use crate::report::{self, Report};
use crate::rewind::Rewind;
use crate::tcp;
use crate::worker::WorkerRef;

/// Flow-control window of an HTTP/2 stream, on either side: what one stream may have in flight, and so the most of a body that
/// waits in our memory when the other side is slow. It fills 1 Gbit/s at half a millisecond, which is what lies between pods.
pub const STREAM_WINDOW: u32 = 64 * 1024;

/// Bytes of one HTTP/1 connection that wait on either side of it: of an answer that its reader does not take, or ahead of a
/// request body. Two TLS records' worth of each would do; below this, large bodies cost more system calls.
pub const HTTP1_BUFFER: usize = 128 * 1024;

/// What a caller is told whose request head does not come.
const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How long telling it may take: it fits into any window that is open at all.
const SLOW_HEAD_TIME: Duration = Duration::from_millis(100);

/// Streams that a peer may open and reset before we have looked at them; beyond it the connection is closed with
/// ENHANCE_YOUR_CALM (CVE-2023-44487).
pub(crate) const PENDING_RESETS: usize = 20;

/// Streams reset because of the peer's own errors, before the connection is closed likewise (CVE-2025-8671). h2 counts them over
/// the life of a connection, which may be weeks, so its number is one that no honest peer comes to; [`guard`](crate::http::guard::http2) counts
/// those of late.
pub(crate) const LOCAL_RESETS: usize = 1 << 20;

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
    /// What others may know of the connection.
    pub place: Arc<Place>,
}

/// What becomes of a connection when something has changed that it was let in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onward {
    /// It goes on.
    GoOn,
    /// It finishes what it is at, and takes no more.
    Finish,
    /// It ends, with what is in progress.
    End,
}

/// Serves `io` until it ends, rests too long, or the drain says so. `onward` is asked whenever something has changed, and ends
/// what is in progress and no longer allowed; `layers` answer each request.
pub async fn serve<I, S>(
    worker: &WorkerRef,
    io: I,
    protocol: Protocol,
    reporting: &Rc<Reporting>,
    layers: S,
    onward: impl Fn(&InProgress) -> Onward,
) where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service<Box<Exchange>, Response = Response<ResponseBody>, Error = Closed> + Clone + Unpin + 'static,
{
    let switch = Rc::<Switch>::default();
    let activity = Activity::new(&switch, &reporting.place);
    let answer = {
        let (activity, worker, reporting) = (Rc::clone(&activity), Rc::clone(worker), Rc::clone(reporting));
        let switch = Rc::clone(&switch);
        move |request: Request<Incoming>| {
            switch.request(&request);
            let mut report = Report::begin(&worker, &reporting, &request);
            report.in_flight(activity.request(report.started(), !request.body().is_end_stream()));
            // The layers are always ready: waiting happens in the call, where it is bounded and reported.
            let version = request.version();
            let request = request.map(|body| Received::new(body, version, activity.body()));
            layers.clone().call(Box::new(Exchange { request, token: None, report, plan: None }))
        }
    };
    if protocol == Protocol::Http2 {
        // In a box of its own, so that HTTP/1 has no room for it.
        Box::pin(http2::serve(worker, &activity, reporting, io, service_fn(answer), &onward)).await;
        return;
    }
    let service = {
        let activity = Rc::clone(&activity);
        service_fn(move |request| {
            let activity = Rc::clone(&activity);
            answer(request).map_ok(move |answer| last_words(answer, &activity))
        })
    };
    let mut io = Rewind::new(io);
    loop {
        // In a box of its own, so that a connection that rests has none of it.
        let awake = Box::pin(http1(worker, &activity, &switch, reporting, io, service.clone(), &onward));
        let Some(resting) = awake.await else { return };
        io = resting;
        if !rest::rest(worker, &activity, &mut io, &onward).await {
            return;
        }
    }
}

/// An answer that says so where it is the last of its connection.
fn last_words<B>(mut answer: Response<B>, activity: &Activity) -> Response<B> {
    // A 101 has the last word on its connection anyway.
    if activity.is_last() && !answer.status().is_informational() {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Serves HTTP/1 until the connection ends, or until it rests: then it comes back, with what was read of it and not used.
async fn http1<I, S>(
    worker: &WorkerRef,
    activity: &Rc<Activity>,
    switch: &Switch,
    reporting: &Reporting,
    io: Rewind<I>,
    service: S,
    onward: impl Fn(&InProgress) -> Onward,
) -> Option<Rewind<I>>
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    S: HttpService<Incoming, ResBody = ResponseBody> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limits = &worker.shared.bootstrap.limits;
    let mut builder = http1::Builder::new();
    // What comes during the drain (outbound only), or to a connection that was told to go, gets one answer.
    builder.keep_alive(worker.drain.phase() == Phase::Running && !activity.is_last());
    builder.auto_date_header(false).header_read_timeout(None).max_header_size(limits.request_header_bytes);
    if limits.request_headers != HYPER_MAX_HEADERS {
        builder.max_headers(limits.request_headers);
    }
    builder.max_buf_size(HTTP1_BUFFER.max(limits.request_header_bytes));
    let io = guard::http1::Guarded::requests(io, Rc::clone(activity.signals()));
    let io = Watched::new(io, Rc::clone(activity), true);
    let mut connection = builder.serve_connection(TokioIo::new(io), service);
    let pinned = Pin::new(&mut connection);
    let end = run(worker, activity, reporting, pinned, http1::Connection::graceful_shutdown, &onward, true).await;
    if end == End::Cut {
        return None;
    }
    let http1::Parts { io, read_buf, .. } = connection.into_parts();
    let mut io = io.into_inner().into_inner().into_inner();
    match end {
        End::Rests => {
            io.put_back(&read_buf);
            activity.flows().forget_places();
            return Some(io);
        }
        End::SlowHead => {
            report::slow_head(worker, &reporting.prefix, &reporting.counters);
            refuse_slow_head(io).await;
            return None;
        }
        End::Own | End::Cut => {}
    }
    // The last answer has gone out. A 101 was the last of HTTP: from here on nobody reads messages any more.
    match switch.take() {
        Some(tunnel) => {
            upgrade::run(worker, &reporting.place, io, read_buf, tunnel, || {
                onward(activity.in_progress()) != Onward::End
            })
            .await;
        }
        // hyper leaves it to us. One that does not end in time ends as it is.
        None if switch.was_asked() => {
            drop(timeout(worker.shared.bootstrap.timeouts.request_header, io.shutdown()).await);
        }
        None => {}
    }
    None
}

/// Tells a caller why its connection ends, where it takes anything.
async fn refuse_slow_head<I: AsyncRead + AsyncWrite + Unpin>(mut io: I) {
    let told = async {
        io.write_all(SLOW_HEAD).await?;
        io.flush().await
    };
    if let Ok(Ok(())) = timeout(SLOW_HEAD_TIME, told).await {
        tcp::hang_up(io).await;
    }
}

/// How serving a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It came to its own end.
    Own,
    /// It failed, or was ended where it stood.
    Cut,
    /// A request's head did not come in time, and its caller has not been told yet.
    SlowHead,
    /// It stands between two messages.
    Rests,
}

/// Until the first look at a connection: the shortest of all that may be over by then.
fn first_look(limits: Limits, may_rest: bool) -> Duration {
    let Limits { head, idle, patience } = limits;
    let looks = may_rest.then_some(rest::FIRST_LOOK);
    [Some(idle), patience.stream, patience.request, looks].into_iter().flatten().fold(head, Duration::min)
}

/// Writes down what was no request.
fn broke_off(worker: &WorkerRef, activity: &Activity, reporting: &Reporting, error: &hyper::Error) {
    tracing::debug!(%error, "downstream connection ended");
    if error.is_parse() {
        let breach = activity.signals().breach();
        report::unparsed(worker, &reporting.prefix, &reporting.counters, error, breach);
    }
}

/// Says whether it is to rest until it is over: hyper would end HTTP/1 between two messages at once, and what crosses would be lost.
fn tell_to_go(activity: &Activity, may_rest: bool, timer: Pin<&mut Sleep>, shutdown: impl FnOnce()) -> bool {
    if !may_rest {
        shutdown();
        return false;
    }
    activity.last();
    if !activity.is_between_messages() {
        timer.reset(Instant::now() + rest::FIRST_LOOK);
        return false;
    }
    true
}

async fn run<C>(
    worker: &WorkerRef,
    activity: &Activity,
    reporting: &Reporting,
    mut connection: Pin<&mut C>,
    shutdown: impl Fn(Pin<&mut C>),
    onward: impl Fn(&InProgress) -> Onward,
    may_rest: bool,
) -> End
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let timeouts = &worker.shared.bootstrap.timeouts;
    let patience = Patience { stream: timeouts.stream, request: timeouts.request };
    let limits = Limits { head: timeouts.request_header, idle: timeouts.idle, patience };
    let mut drain = worker.drain.clone();
    let mut next = Phase::Draining;
    // A connection that comes during the drain is not told to end before it has been served.
    let told_at = Instant::now() + if drain.phase() == Phase::Running { Duration::ZERO } else { LAST_CALL };
    let mut timer = pin!(tokio::time::sleep(first_look(limits, may_rest)));
    let mut resting = false;
    // What was decided before this is decided again at the next request; nothing is in flight yet.
    let mut changes = worker.changes.follow();
    loop {
        // The connection comes first: whatever else is due, an answer that is ready goes out.
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                let failed = result.inspect_err(|error| broke_off(worker, activity, reporting, error));
                return if failed.is_ok() { End::Own } else { End::Cut };
            }
            () = drain.reached_after(next, told_at) => {
                if next == Phase::Ended || drain.phase() == Phase::Ended {
                    return End::Cut;
                }
                next = Phase::Ended;
                if tell_to_go(activity, may_rest, timer.as_mut(), || shutdown(connection.as_mut())) {
                    return End::Rests;
                }
            }
            () = changes.changed() => match onward(activity.in_progress()) {
                Onward::GoOn => {}
                Onward::Finish => {
                    if tell_to_go(activity, may_rest, timer.as_mut(), || shutdown(connection.as_mut())) {
                        return End::Rests;
                    }
                }
                Onward::End => return End::Cut,
            },
            () = timer.as_mut() => match activity.due(Instant::now(), limits) {
                Due::Later(_) if may_rest && activity.is_between_messages() => return End::Rests,
                Due::Later(at) if activity.is_last() => {
                    if activity.is_left() {
                        shutdown(connection.as_mut());
                    }
                    timer.as_mut().reset(at.min(Instant::now() + rest::FIRST_LOOK));
                }
                Due::Later(at) => {
                    resting = false;
                    timer.as_mut().reset(at);
                }
                Due::SlowHead => return End::SlowHead,
                Due::Stuck => return End::Cut,
                // Told before, and still there: an HTTP/2 peer that does not answer is not waited for.
                Due::Idle if resting => return End::Cut,
                Due::Idle => {
                    shutdown(connection.as_mut());
                    resting = true;
                    timer.as_mut().reset(Instant::now() + limits.head);
                }
            },
        }
    }
}
