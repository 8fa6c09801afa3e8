//! Opaque forwarding: bytes to one upstream and back, reported at the end, cut off when a new configuration forbids it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use meshgate_identity::ClientAlpn;
use meshgate_policy::{Decision, Nearest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::access_log::{Line, field};
use crate::balance::{Candidate, Outcome};
use crate::circuit::Use;
use crate::copy::{Copy, End};
use crate::drain::Phase;
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::{RequestCounters, TcpSeries};
use crate::open::Place;
use crate::report::refusals::{self, By};
use crate::report::{self, NO_FLAGS, Totals, describe};
use crate::sessions::Session;
use crate::tls::connect::{self, Connected};
use crate::worker::WorkerRef;

/// What is read of a connection that gets no answer.
const HANG_UP_BYTES: usize = 64 * 1024;

/// See [`HANG_UP_BYTES`].
const HANG_UP_TIME: Duration = Duration::from_secs(1);

/// One TCP connection's report; finishes when dropped.
#[derive(Debug)]
pub struct Report {
    worker: WorkerRef,
    place: Arc<Place>,
    line: Option<Line>,
    counters: Rc<RequestCounters>,
    /// Of what it counts while it is open; `None` before.
    series: Option<Arc<TcpSeries>>,
    started: Instant,
    flags: &'static str,
    detail: Option<String>,
    refused_by: Option<By>,
    code: Option<u16>,
    moved: (u64, u64),
    upstream: Option<Rc<Candidate>>,
    attempts: u64,
    /// The sessions that it rests on, and whose fault it is when one ends: the downstream's, the upstream's.
    sessions: [Option<(ErrorKind, Rc<Session>)>; 2],
}

impl Report {
    /// Begins the report of a connection whose protocol is not HTTP.
    pub fn begin(worker: &WorkerRef, place: &Arc<Place>, prefix: &[u8], counters: &Rc<RequestCounters>) -> Self {
        let mut line = worker.access_log.begin(prefix);
        if let Some(line) = &mut line {
            line.text(field!("protocol"), "TCP");
        }
        Self {
            worker: Rc::clone(worker),
            place: Arc::clone(place),
            line,
            counters: Rc::clone(counters),
            series: None,
            started: Instant::now(),
            flags: NO_FLAGS,
            detail: None,
            refused_by: None,
            code: None,
            moved: (0, 0),
            upstream: None,
            attempts: 0,
            sessions: [None, None],
        }
    }

    /// The policy engine's decision.
    pub fn decision(&mut self, decision: &Decision<'_>) {
        report::count_decision(&self.worker, decision);
        self.refused_by = By::of(decision);
        if let Some(line) = &mut self.line {
            describe::decision(decision, line);
        }
    }

    /// An external provider was asked.
    pub fn asked(&mut self, asked: &report::Asked<'_>) {
        report::count_asked(&self.worker, asked);
        if let Some(line) = &mut self.line {
            describe::asked(asked, line);
        }
    }

    /// What would have let it in; asked only if it is logged.
    pub fn nearest<'a>(&mut self, nearest: impl FnOnce() -> Option<Nearest<'a>>) {
        if let Some(line) = &mut self.line {
            describe::nearest(nearest(), line);
        }
    }

    /// The service it goes to.
    pub fn service(&mut self, host: &str) {
        if let Some(line) = &mut self.line {
            line.text(field!("upstream_cluster"), host);
        }
    }

    /// The TrafficSplit by which it goes where it goes.
    pub fn split(&mut self, name: Option<&str>) {
        if let (Some(line), Some(name)) = (&mut self.line, name) {
            line.text(field!("split"), name);
        }
    }

    /// Endpoints that no TrafficTarget lets this workload call.
    pub fn left_out(&mut self, endpoints: Option<&str>) {
        if let (Some(line), Some(endpoints)) = (&mut self.line, endpoints) {
            line.text(report::LEFT_OUT, endpoints);
        }
    }

    /// It is to end with this session, if there is one, as such a failure.
    pub fn rests_on(&mut self, kind: ErrorKind, session: Option<&Rc<Session>>) {
        if let Some(place) = self.sessions.iter_mut().find(|place| place.is_none()) {
            *place = session.map(|session| (kind, Rc::clone(session)));
        }
    }

    /// What has become of a session that it rests on, if it has to end for it.
    fn lost(&self) -> Option<ProxyError> {
        self.sessions.iter().flatten().find_map(|(kind, session)| Some(ProxyError::new(*kind, session.over()?)))
    }

    /// A policy refused it.
    pub fn refused(&mut self) {
        self.flags = report::DENIED;
    }

    /// Why it ended as it did.
    pub fn because(&mut self, detail: &str) {
        self.detail = Some(detail.to_owned());
    }

    /// It failed.
    pub fn failed(&mut self, error: &ProxyError) {
        error.log();
        if let Some(line) = &mut self.line {
            describe::refusal(error, line);
        }
        self.flags = error.kind.flag();
        self.detail = Some(error.to_string());
    }

    fn broke(&mut self, kind: ErrorKind, error: std::io::Error) {
        self.failed(&ProxyError::new(kind, "while copying").caused_by(error));
    }

    /// What a tunnel was asked for.
    pub fn authority(&mut self, authority: &str) {
        if let Some(line) = &mut self.line {
            line.text(field!("authority"), authority);
        }
    }

    /// A tunnel was answered with this status.
    pub fn answered(&mut self, code: u16) {
        self.code = Some(code);
    }

    /// Where it goes.
    pub fn upstream_address(&mut self, address: SocketAddr) {
        self.place.leads_to(address);
        if let Some(line) = &mut self.line {
            line.address(field!("upstream_host"), address);
        }
    }

    /// Counts as open from now on: it is known where it goes, or that it goes nowhere.
    fn open(&mut self) -> Option<Arc<TcpSeries>> {
        if self.series.is_none() {
            self.counters = report::toward(&self.worker, &self.counters, self.upstream.as_ref());
            self.series = self.counters.tcp(&self.worker.shared.metrics, NO_FLAGS);
            self.series.iter().for_each(|series| series.opened());
        }
        self.series.clone()
    }

    fn attempt(&mut self, candidate: &Rc<Candidate>) {
        self.upstream = Some(Rc::clone(candidate));
        self.attempts += 1;
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.open();
        if let Some(series) = self.counters.tcp(&self.worker.shared.metrics, self.flags) {
            series.closed();
        }
        let by = self.refused_by.as_ref();
        let end =
            refusals::End { wanted: None, code: self.code, flags: self.flags, by, details: self.detail.as_deref() };
        self.worker.refusals.note(self.counters.facts(), end);
        let direction = self.place.entrance().direction.as_str();
        tracing::debug!(direction, flags = self.flags, "tcp connection ended");
        let Some(mut line) = self.line.take() else { return };
        if let Some(upstream) = &self.upstream {
            describe::upstream(upstream, self.attempts, &mut line);
        }
        if let Some(detail) = &self.detail {
            line.text(field!("connection_termination_details"), detail);
        }
        let totals =
            Totals { code: self.code, grpc: None, flags: self.flags, received: self.moved.0, sent: self.moved.1 };
        totals.finish(&self.worker, line, self.started.elapsed());
    }
}

/// Ends a connection without a byte. What the other side has sent is read first, for a while: closing on unread bytes would
/// reset the connection, which says more than that nobody answers.
pub async fn hang_up<I: AsyncRead + AsyncWrite + Unpin>(mut stream: I) {
    // One that is gone already needs no end.
    let _ = stream.shutdown().await;
    let reading = async {
        let mut buffer = [0; 1024];
        let mut left = HANG_UP_BYTES;
        while left > 0 {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    };
    // Too slow is as good as too much.
    let _ = timeout(HANG_UP_TIME, reading).await;
}

/// Connects to the first upstream that takes the connection, of as many as may be tried, and moves bytes until both sides ended, nothing moved for the
/// idle time, the drain is over, or `allowed` no longer holds under a new configuration.
pub async fn forward<I>(
    worker: &WorkerRef,
    downstream: I,
    candidates: impl Iterator<Item = Rc<Candidate>>,
    mut report: Report,
    allowed: impl Fn() -> bool,
) where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut failed: Option<ProxyError> = None;
    for candidate in candidates.take(worker.shared.bootstrap.retries.attempts) {
        // Until the connection ends: it counts as in progress.
        let attempt = candidate.begin();
        report.attempt(&candidate);
        // The last one is logged with the report.
        if let Some(earlier) = &failed {
            earlier.log();
        }
        // In a box of its own: what it takes to connect is gone while bytes move.
        match Box::pin(connected(worker, &candidate)).await {
            Ok((stream, _held)) => {
                attempt.went(Outcome::Connected);
                report.place.leads_to(candidate.slot().upstream().address);
                match stream {
                    Connected::Plain(stream) => run(worker, Copy::new(downstream, stream), report, allowed).await,
                    Connected::Tls(stream, session) => {
                        report.rests_on(ErrorKind::UpstreamTls, Some(&session));
                        run(worker, Copy::new(downstream, stream), report, allowed).await;
                    }
                }
                return;
            }
            Err(error) => {
                attempt.went(Outcome::Failed(error.kind));
                failed = Some(error);
            }
        }
    }
    report.failed(&failed.unwrap_or_else(|| ProxyError::new(ErrorKind::NoEndpoint, "no endpoint to try")));
}

/// A connection to an upstream, and its places among its endpoint's.
async fn connected(worker: &WorkerRef, candidate: &Candidate) -> Result<(Connected, [Use; 2]), ProxyError> {
    let circuit = candidate.slot().circuit();
    let held = [circuit.request()?, circuit.connection()?];
    let _waits = circuit.wait()?;
    let connected = connect::connect(worker, candidate.slot().upstream(), ClientAlpn::Tcp).await;
    circuit.offered(connected).map(|connected| (connected, held))
}

/// Moves bytes until both sides ended, nothing moved for the idle time, the drain is over, a session that it rests on is over, or
/// `allowed` no longer holds under a new configuration.
pub async fn run<A, B>(worker: &WorkerRef, copy: Copy<A, B>, report: Report, allowed: impl Fn() -> bool)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut running = Running { copy, report };
    let Running { copy, report } = &mut running;
    let timeouts = &worker.shared.bootstrap.timeouts;
    copy.counted(report.open(), &report.place);
    // Before the check below, so that no change slips between.
    let mut changes = worker.changes.follow();
    let mut drain = worker.drain.clone();
    loop {
        if let Some(error) = report.lost() {
            report.failed(&error);
            break;
        }
        if !allowed() {
            report.refused();
            break;
        }
        tokio::select! {
            biased;
            end = copy.run(timeouts.idle, timeouts.stream) => {
                match end {
                    // Its session has ended first.
                    End::Downstream(_) | End::Upstream(_) if report.lost().is_some() => continue,
                    End::Closed => {}
                    End::Idle => report.flags = ErrorKind::Stalled.flag(),
                    End::DownstreamStalled => {
                        report.flags = ErrorKind::Stalled.flag();
                        report.because("the downstream took nothing for timeouts.stream");
                    }
                    End::UpstreamStalled => {
                        report.flags = ErrorKind::Stalled.flag();
                        report.because("the upstream took nothing for timeouts.stream");
                    }
                    End::Downstream(error) => {
                        report.broke(ErrorKind::DownstreamGone, error);
                    }
                    End::Upstream(error) => {
                        report.broke(ErrorKind::UpstreamReset, error);
                    }
                }
                break;
            }
            () = drain.reached(Phase::Ended) => break,
            () = changes.changed() => {}
        }
    }
}

/// Its drop is its end, whatever brings it about: at the end of the drain tasks are dropped where they stand.
struct Running<A: AsyncRead + AsyncWrite + Unpin, B: AsyncRead + AsyncWrite + Unpin> {
    copy: Copy<A, B>,
    report: Report,
}

impl<A, B> Drop for Running<A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    fn drop(&mut self) {
        self.report.moved = self.copy.moved();
    }
}
