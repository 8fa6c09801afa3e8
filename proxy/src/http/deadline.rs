//! How long a request may take in all, from its head to the last byte of its answer.
//!
//! A gRPC client says how long it waits (`grpc-timeout`, gRPC's `PROTOCOL-HTTP2.md`); there is no use in working longer for it. It
//! is the most that a request may take and never makes another limit longer, and what was too slow for a client that waits for a
//! nanosecond is not held against the endpoint. The header goes on as it is: the next one counts from when it came there.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::Sleep;

use crate::error::ErrorKind;
use crate::http::body::Broken;
use crate::http::stall::Over;
use crate::report::Report;

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The digits that a `grpc-timeout` may have.
const DIGITS_MAX: usize = 8;

/// When a request's time is over; costs nothing where there is no such time.
#[derive(Debug, Default)]
pub struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// From now on.
    pub fn begin(within: Option<Duration>) -> Self {
        Self(within.map(|within| Box::pin(tokio::time::sleep(within))))
    }

    /// Ready once the time is over.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// Why an exchange has to end before it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// A new configuration does not let it in.
    Withdrawn,
    /// It takes longer than its caller gives it.
    Late,
    /// Nothing moves, or it takes longer than any request may.
    Over(Over),
}

impl Broken {
    /// Why an answer breaks off that has to end.
    pub fn cut(cut: Cut, report: &mut Report) -> Self {
        match cut {
            Cut::Withdrawn => Self::Withdrawn,
            Cut::Over(_) => Self::Over,
            Cut::Late => {
                report.ended_early(ErrorKind::DeadlineExceeded.flag());
                Self::Late(h2::Reason::CANCEL.into())
            }
        }
    }
}

/// How long a call may take: what its client says, if it is gRPC. `timeouts.request` is for [`super::stall`] to keep.
pub fn of(headers: &HeaderMap, is_grpc: bool) -> Option<Duration> {
    is_grpc.then(|| grpc_timeout(headers)).flatten()
}

/// What `grpc-timeout` says; `None` for whatever is no such value, which counts as if it were not there.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let mut values = headers.get_all(&GRPC_TIMEOUT).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (digits, unit) = value.as_bytes().split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let time = match unit {
        b"H" => Duration::from_secs(number * 3600),
        b"M" => Duration::from_secs(number * 60),
        b"S" => Duration::from_secs(number),
        b"m" => Duration::from_millis(number),
        b"u" => Duration::from_micros(number),
        b"n" => Duration::from_nanos(number),
        _ => return None,
    };
    (!time.is_zero()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::headers::is_grpc;

    fn asked(content_type: &str, timeouts: &[&str]) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", content_type.parse().unwrap());
        for timeout in timeouts {
            headers.append(&GRPC_TIMEOUT, timeout.parse().unwrap());
        }
        of(&headers, is_grpc(&headers))
    }

    #[test]
    fn a_timeout_is_a_number_of_at_most_eight_digits_and_a_unit() {
        for (written, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("100m", Some(Duration::from_millis(100))),
            ("7u", Some(Duration::from_micros(7))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("0S", None),
            ("+5S", None),
            ("-5S", None),
            ("5 S", None),
            ("1.5S", None),
            ("100000000S", None),
        ] {
            assert_eq!(asked("application/grpc", &[written]), expected, "{written:?}");
        }
        assert_eq!(asked("application/grpc", &["1S", "2S"]), None);
        assert_eq!(asked("application/json", &["1S"]), None);
    }
}
