//! `Expect: 100-continue` (RFC 9110, section 10.1.1), end to end.
//!
//! The expectation goes on to the application, and its answer comes back: nobody asks the client for a body that the application
//! does not want. hyper says 100 to the client at the moment when the body is first asked for, so all that is to be done is not to ask
//! before the application has said so itself. One that never says it, because it knows nothing of expectations, is sent the body
//! after a while. Over HTTP/2 nobody is told to go on, and nobody held back: there the client sends when it has waited long enough.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::{HeaderMap, Request, StatusCode, Version, header};
use http_body::Body;
use tokio::time::Sleep;

use crate::error::{ErrorKind, ProxyError};

const CONTINUE: &[u8] = b"100-continue";

/// Leaves of `Expect` what can be met: 100-continue for a body that is still to come.
///
/// # Errors
/// [`ErrorKind::ExpectationFailed`] for any other.
pub fn sanitise<B: Body>(request: &mut Request<B>) -> Result<(), ProxyError> {
    if !request.headers().contains_key(header::EXPECT) {
        return Ok(());
    }
    if !is_continue(request.headers()) {
        return Err(ProxyError::new(ErrorKind::ExpectationFailed, "an expectation other than 100-continue"));
    }
    // From HTTP/1.0 it is to be ignored.
    if request.version() == Version::HTTP_10 || request.body().is_end_stream() {
        request.headers_mut().remove(header::EXPECT);
    }
    Ok(())
}

fn is_continue(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::EXPECT).iter();
    values.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(CONTINUE)) && values.next().is_none()
}

/// Whether the sender may not have sent its body, because it waits to be told to go on.
pub fn may_wait(headers: &HeaderMap) -> bool {
    headers.get_all(header::EXPECT).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(CONTINUE))
}

/// A body that is not asked for yet.
#[derive(Debug)]
pub struct Held {
    told: Arc<Told>,
    within: Duration,
    /// Since the upstream has had the head.
    waits: Option<Pin<Box<Sleep>>>,
}

/// Shared with hyper, which wants it to be fit for other threads.
#[derive(Debug, Default)]
struct Told {
    go_on: AtomicBool,
    waker: AtomicWaker,
}

impl Held {
    /// Until the upstream that `request` is sent to says 100, or has said nothing for as long as `within`.
    pub fn until_told<B>(request: &mut Request<B>, within: Duration) -> Self {
        let told = Arc::<Told>::default();
        let teller = Arc::clone(&told);
        hyper::ext::on_informational(request, move |said| {
            if said.status() == StatusCode::CONTINUE {
                teller.go_on.store(true, Ordering::Release);
                teller.waker.wake();
            }
        });
        Self { told, within, waits: None }
    }

    /// Ready once the body may be asked for.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.told.waker.register(cx.waker());
        if self.told.go_on.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let within = self.within;
        self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(within))).as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Empty, Full};

    use super::*;

    fn left<B: Body>(mut request: Request<B>) -> Result<bool, ErrorKind> {
        sanitise(&mut request).map_err(|error| error.kind)?;
        Ok(request.headers().contains_key(header::EXPECT))
    }

    #[test]
    fn only_100_continue_for_a_body_is_left() {
        let put = |values: &[&str]| {
            let mut request = Request::put("/").body(Full::<Bytes>::from("body")).unwrap();
            for value in values {
                request.headers_mut().append(header::EXPECT, value.parse().unwrap());
            }
            request
        };
        for (values, expected) in [
            (&[][..], Ok(false)),
            (&["100-continue"], Ok(true)),
            (&["100-Continue"], Ok(true)),
            (&["100-continue, x"], Err(ErrorKind::ExpectationFailed)),
            (&["100-continue", "100-continue"], Err(ErrorKind::ExpectationFailed)),
            (&["a=b"], Err(ErrorKind::ExpectationFailed)),
            (&[""], Err(ErrorKind::ExpectationFailed)),
        ] {
            assert_eq!(left(put(values)), expected, "{values:?}");
        }
        let mut old = put(&["100-continue"]);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(left(old), Ok(false));
        assert_eq!(left(put(&["100-continue"]).map(|_| Empty::<Bytes>::new())), Ok(false));
    }
}
