//! `meshgate wait`: returns when the proxy is ready. As a container's `postStart` it holds the application back until then.
//!
//! It looks again and again rather than being told: the proxy may not have been started yet, and may end and be started anew.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio::time::{self, Instant};

use crate::cli::progress::Progress;
use crate::cli::{NO, Output, admin, advice, complain, fail, hint, print};
use crate::runtime;

/// Between two looks: an application's start is held up by no more than this, and a second of looks costs next to nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// For one look: a proxy that takes longer to say whether it is ready is not.
const PATIENCE: Duration = Duration::from_secs(2);

/// Options of `meshgate wait`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The proxy's admin endpoint; of one that listens at every address, loopback is asked
    #[arg(long, value_name = "ADDRESS", env = "MESHGATE_ADMIN_ADDRESS", default_value = "127.0.0.1:15000")]
    admin: String,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    timeout: Duration,
    /// Text, which is nothing when it is ready, or JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

fn duration(text: &str) -> Result<Duration, String> {
    meshgate_config::duration::parse(text).map_err(|error| error.to_string())
}

pub(super) fn run(args: &Args) -> ExitCode {
    let Some(address) = admin::address(&args.admin).map(admin::reachable) else {
        return fail(admin::no_address(&args.admin));
    };
    let runtime = match runtime::local() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    let began = Instant::now();
    let progress = Progress::new(format!("waiting for the proxy at {address}"));
    let reason = runtime.block_on(until_ready(address, args.timeout)).err();
    drop(progress);
    if args.output == Output::Json {
        let waited = began.elapsed().as_secs_f64();
        let found =
            json!({ "ready": reason.is_none(), "address": address, "waited_seconds": waited, "reason": reason });
        if let Err(error) = print(found) {
            return fail(error);
        }
    }
    let Some(last) = reason else { return ExitCode::SUCCESS };
    let last = last.strip_prefix("not ready: ").unwrap_or(&last);
    complain(format_args!("the proxy at {address} is not ready after {:?}: {last}", args.timeout));
    advice::of_system(last).iter().for_each(hint);
    ExitCode::from(NO)
}

/// Looks until the proxy says that it is ready.
///
/// # Errors
/// What was in the way at the last look, when the time is over.
async fn until_ready(address: SocketAddr, timeout: Duration) -> Result<(), String> {
    let end = Instant::now() + timeout;
    loop {
        let last = match look(address, end).await {
            Ok(()) => return Ok(()),
            Err(last) => last,
        };
        if Instant::now() + PAUSE >= end {
            return Err(last);
        }
        time::sleep(PAUSE).await;
    }
}

async fn look(address: SocketAddr, end: Instant) -> Result<(), String> {
    let request = Request::get("/ready").body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
    match time::timeout_at(end.min(Instant::now() + PATIENCE), admin::send(address, request)).await {
        Ok(Ok((StatusCode::OK, _))) => Ok(()),
        Ok(Ok((_, text))) => Err(admin::first_line(&text)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it does not answer".to_owned()),
    }
}
