//! What is left behind by requests that never had a whole head, and so never became any for the layers.

use std::time::Duration;

use crate::access_log::field;
use crate::connection::{Connection, Direction};
use crate::error::{ErrorKind, ProxyError};
use crate::http::guard::http1::Breach;
use crate::metrics::{Amounts, Ending, RequestCounters};
use crate::report::Totals;
use crate::worker::WorkerRef;

/// Reports a request whose head did not come in time.
pub fn slow_head(worker: &WorkerRef, prefix: &[u8], counters: &RequestCounters) {
    let (code, flags) = (ErrorKind::SlowRequest.status().as_u16(), ErrorKind::SlowRequest.flag());
    counters.count(&worker.shared.metrics, Ending { code, flags, grpc: None }, &Amounts::default());
    let Some(mut line) = worker.access_log.begin(prefix) else { return };
    line.text(field!("response_code_details"), "the head took longer than timeouts.requestHeader");
    let totals = Totals { code: Some(code), grpc: None, flags, received: 0, sent: 0 };
    totals.finish(worker, line, Duration::ZERO);
}

/// Reports a request that was no HTTP, and so never became one for the layers; what the guard found is why it did not parse.
pub fn unparsed(
    worker: &WorkerRef,
    prefix: &[u8],
    counters: &RequestCounters,
    error: &hyper::Error,
    breach: Option<Breach>,
) {
    let code = if error.is_parse_too_large() { 431 } else { 400 };
    let flags = ErrorKind::BadRequest.flag();
    counters.count(&worker.shared.metrics, Ending { code, flags, grpc: None }, &Amounts::default());
    let Some(mut line) = worker.access_log.begin(prefix) else { return };
    match breach {
        Some(breach) => line.display(field!("response_code_details"), format_args!("{error}: {breach}")),
        None => line.display(field!("response_code_details"), error),
    }
    let totals = Totals { code: Some(code), grpc: None, flags, received: 0, sent: 0 };
    totals.finish(worker, line, Duration::ZERO);
}

/// Reports a connection that ended before a request or a byte of payload could be served.
pub fn connection_refused(worker: &WorkerRef, direction: Direction, connection: &Connection, error: &ProxyError) {
    error.log();
    let Some(mut line) = worker.access_log.begin(&[]) else { return };
    line.text(field!("direction"), direction.as_str());
    line.address(field!("downstream_remote_address"), connection.remote);
    if let Some(destination) = connection.destination {
        line.address(field!("downstream_local_address"), destination);
    }
    line.display(field!("connection_termination_details"), error);
    let totals = Totals { code: None, grpc: None, flags: error.kind.flag(), received: 0, sent: 0 };
    totals.finish(worker, line, connection.place.begun().elapsed());
}
