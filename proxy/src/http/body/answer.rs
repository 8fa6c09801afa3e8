//! The body of an answer, and the report that ends with it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{Broken, poll_whole, sanitise};
use crate::balance::Attempt;
use crate::http::deadline::Cut;
use crate::http::pool::Lease;
use crate::report::Report;

/// What an answer holds on to until its body has ended.
#[derive(Debug)]
pub struct Held {
    /// The upstream connection.
    pub lease: Lease,
    /// The try, which counts as in progress.
    pub attempt: Attempt,
}

/// A response body on its way downstream. Dropping it finishes the report.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    /// `None` when a tunnel has it, which begins where this answer ends.
    report: Option<Report>,
}

#[derive(Debug)]
enum Source {
    Upstream { inner: Incoming, http2: bool, held: Option<Held> },
    Local(Option<Bytes>),
}

impl ResponseBody {
    /// An upstream's answer. The lease goes back to the pool once the body was read to its end.
    pub fn upstream(inner: Incoming, held: Held, report: Report) -> Self {
        let http2 = held.lease.is_stream();
        let mut body = Self { source: Source::Upstream { inner, http2, held: Some(held) }, report: Some(report) };
        if body.is_end_stream() {
            body.ended();
        } else {
            body.report.iter().for_each(Report::moved);
        }
        body
    }

    /// An answer of our own.
    pub fn local(text: impl Into<Bytes>, mut report: Report) -> Self {
        let bytes = text.into();
        report.complete();
        Self { source: Source::Local((!bytes.is_empty()).then_some(bytes)), report: Some(report) }
    }

    /// None at all, of an exchange that is not over.
    pub fn none() -> Self {
        Self { source: Source::Local(None), report: None }
    }

    fn ended(&mut self) {
        if let Some(report) = &mut self.report {
            report.complete();
        }
        if let Source::Upstream { held, .. } = &mut self.source
            && let Some(Held { lease, .. }) = held.take()
        {
            lease.release();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        if let Some(report) = &mut this.report
            && let Poll::Ready(cut) = report.poll_cut(cx)
        {
            // Of what is over an answer of our own is there already.
            if !matches!((cut, &this.source), (Cut::Over(_), Source::Local(_))) {
                return Poll::Ready(Some(Err(Broken::cut(cut, report))));
            }
        }
        let mut frame = match &mut this.source {
            Source::Upstream { inner, http2, held } => std::task::ready!(match held {
                Some(held) => held.lease.take(inner, |inner| poll_whole(inner, *http2, cx)),
                None => poll_whole(inner, *http2, cx),
            }),
            Source::Local(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
        };
        sanitise(&mut frame);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(report) = &mut this.report {
                    match (frame.data_ref(), frame.trailers_ref()) {
                        (Some(data), _) => report.sent(data),
                        (None, Some(trailers)) => report.grpc_status(trailers),
                        (None, None) => {}
                    }
                }
                if this.is_end_stream() {
                    this.ended();
                } else {
                    this.report.iter().for_each(Report::moved);
                }
            }
            Some(Err(_)) => this.report.iter_mut().for_each(Report::upstream_broke),
            None => this.ended(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Upstream { inner, .. } => inner.is_end_stream(),
            Source::Local(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Upstream { inner, .. } => inner.size_hint(),
            Source::Local(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}
