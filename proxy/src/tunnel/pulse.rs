//! Whether the other end of an outer connection is still there.
//!
//! The kernel notices a host that vanished in minutes, and never a process that hangs: its sockets take bytes until they are full.
//! So each end asks with a PING that the other must answer by itself (RFC 9113, section 6.7).

use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

/// Between two questions, while tunnels are open.
const INTERVAL: Duration = Duration::from_secs(5);

/// For the answer. Together they are the time after which a hung gateway is noticed.
const ANSWER: Duration = Duration::from_secs(5);

/// Returns when the other end has not answered in time. Asks only while it is `wanted`: a connection at rest costs nothing.
pub async fn lost(pings: Option<PingPong>, wanted: impl Fn() -> bool) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        sleep(INTERVAL).await;
        if wanted() && !matches!(timeout(ANSWER, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}
