//! HTTP/2 from downstream: its limits, the guard below it, and the cork that puts together what it says in one turn.

use std::pin::{Pin, pin};
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{LOCAL_RESETS, Onward, PENDING_RESETS, Reporting, STREAM_WINDOW, connection_window, run};
use crate::http::body::ResponseBody;
use crate::http::cork::{self, Driven};
use crate::http::guard;
use crate::http::guard::http2::{Excess, Role, Watch};
use crate::http::idle::{Activity, Watched};
use crate::http::stall::StreamExecutor;
use crate::http::standing::InProgress;
use crate::worker::WorkerRef;

/// Answer bytes of one HTTP/2 stream that wait for the downstream's window.
const SEND_BUFFER: usize = 64 * 1024;

/// Serves HTTP/2 until the connection ends.
pub(super) async fn serve<I, S>(
    worker: &WorkerRef,
    activity: &Rc<Activity>,
    reporting: &Reporting,
    io: I,
    service: S,
    onward: impl Fn(&InProgress) -> Onward,
) where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    S: HttpService<Incoming, ResBody = ResponseBody> + Unpin,
    S::Future: 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limits = &worker.shared.bootstrap.limits;
    let mut builder = http2::Builder::new(StreamExecutor(Rc::clone(activity.flows())));
    builder
        .auto_date_header(false)
        .max_concurrent_streams(limits.concurrent_streams)
        .max_header_list_size(u32::try_from(limits.request_header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(connection_window(limits.concurrent_streams))
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS);
    let watch = Downstream { activity: Rc::clone(activity), worker: Rc::clone(worker) };
    let io = Watched::new(io, Rc::clone(activity), false);
    let (io, cork) = cork::cork(guard::http2::Guarded::new(io, Role::Server, &limits.http2, watch));
    let connection = pin!(Driven::new(builder.serve_connection(TokioIo::new(io), service), cork));
    let shutdown = |driven: Pin<&mut Driven<http2::Connection<_, _, _>, _>>| driven.connection().graceful_shutdown();
    run(worker, activity, reporting, connection, shutdown, &onward, false).await;
}

/// What the guard of a downstream HTTP/2 connection tells.
struct Downstream {
    activity: Rc<Activity>,
    worker: WorkerRef,
}

impl Watch for Downstream {
    fn within_head(&self, is_within: bool) {
        self.activity.within_head(is_within);
    }

    fn excess(&self, excess: Excess) {
        self.worker.shared.metrics.http2_excess("downstream", excess);
    }
}
