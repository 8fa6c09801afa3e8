//! An HTTP/1 connection between two messages, at its smallest.
//!
//! The one idea: what hyper holds for a connection (its buffers alone are 16 KiB) is of use only while something moves. So a
//! connection that is found standing between two messages is taken out of it, and given to a new one when there is something
//! to read; only the stream itself waits. Nothing that was read is lost: what hyper had not used yet is read again.
//!
//! When the drain begins, or its caller is to go, it rests a little longer, for who is about to ask.
//!
//! What this does not do: wait for less than a whole message. A head or a body that stops halfway is an exchange, with its own
//! limits, and HTTP/2 has streams and windows that cannot be put away.

use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use crate::drain::{LAST_CALL, Phase};
use crate::http::idle::Activity;
use crate::http::server::Onward;
use crate::http::standing::InProgress;
use crate::rewind::Rewind;
use crate::worker::Worker;

/// How long a connection stays awake before it is looked at for the first time: long against the time between the requests
/// of a busy caller, short against the seconds in which thousands of callers connect.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Waits for the next request, or whatever else ends the wait. Says whether there is something to read; if not, the connection is
/// over: it rested too long, or a little too long after it was to be the end of it, or it may not go `onward`.
pub(super) async fn rest<I: AsyncRead + AsyncWrite + Unpin>(
    worker: &Worker,
    activity: &Activity,
    io: &mut Rewind<I>,
    onward: impl Fn(&InProgress) -> Onward,
) -> bool {
    let timeouts = &worker.shared.bootstrap.timeouts;
    let mut drain = worker.drain.clone();
    let mut next = Phase::Draining;
    let idle = activity.rests_since() + timeouts.idle;
    let over = if activity.is_last() { idle.min(Instant::now() + LAST_CALL) } else { idle };
    let mut timer = pin!(sleep_until(over));
    let mut changes = worker.changes.follow();
    loop {
        // The stream comes first: a request that is there already is served, whatever else is due.
        tokio::select! {
            biased;
            () = io.readable() => return true,
            () = changes.changed() => match onward(activity.in_progress()) {
                Onward::GoOn => {}
                Onward::Finish if activity.is_last() => {}
                Onward::Finish => {
                    activity.last();
                    timer.as_mut().reset(idle.min(Instant::now() + LAST_CALL));
                }
                Onward::End => return false,
            },
            () = drain.reached(next) => match next {
                Phase::Ended => return false,
                _ => {
                    next = Phase::Ended;
                    activity.last();
                    let over = timer.deadline().min(Instant::now() + LAST_CALL);
                    timer.as_mut().reset(over);
                }
            },
            () = timer.as_mut() => break,
        }
    }
    // Whoever does not take the goodbye in time goes without. In a box, so that what rests has no room for it.
    drop(Box::pin(timeout(timeouts.request_header, io.shutdown())).await);
    false
}
