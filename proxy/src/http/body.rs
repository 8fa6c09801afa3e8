//! Bodies stream through: no frame is kept, each is only counted. The response body carries the request's [`Report`] and the
//! lease on the upstream connection, because it is what ends last.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http::headers;
use crate::http::pool::Lease;
use crate::report::Report;

/// How far a request body has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes taken from the downstream.
    pub bytes: Cell<u64>,
    /// The whole body was taken.
    pub ended: Cell<bool>,
}

/// A request body on its way upstream.
#[derive(Debug)]
pub struct RequestBody {
    inner: Incoming,
    progress: Option<Rc<Progress>>,
}

impl RequestBody {
    /// Wraps what the downstream sends; the progress is `None` when there is no body.
    pub fn new(inner: Incoming) -> (Self, Option<Rc<Progress>>) {
        let progress = (!inner.is_end_stream()).then(Rc::<Progress>::default);
        (Self { inner, progress: progress.clone() }, progress)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        sanitise(&mut frame);
        if let Some(progress) = &self.progress {
            match &frame {
                Some(Ok(frame)) => {
                    let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                    progress.bytes.set(progress.bytes.get() + len);
                    progress.ended.set(self.inner.is_end_stream());
                }
                None => progress.ended.set(true),
                Some(Err(_)) => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn sanitise(frame: &mut Option<Result<Frame<Bytes>, hyper::Error>>) {
    if let Some(Ok(frame)) = frame
        && let Some(trailers) = frame.trailers_mut()
    {
        headers::sanitise_trailers(trailers);
    }
}

/// A response body on its way downstream. Dropping it finishes the report.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    report: Report,
}

#[derive(Debug)]
enum Source {
    Upstream { inner: Incoming, lease: Option<Lease> },
    Local(Option<Bytes>),
}

impl ResponseBody {
    /// An upstream's answer. The lease goes back to the pool once the body was read to its end.
    pub fn upstream(inner: Incoming, lease: Option<Lease>, report: Report) -> Self {
        let mut body = Self { source: Source::Upstream { inner, lease }, report };
        if body.is_end_stream() {
            body.ended();
        }
        body
    }

    /// An answer of our own.
    pub fn local(text: &'static str, mut report: Report) -> Self {
        let bytes = (!text.is_empty()).then(|| Bytes::from_static(text.as_bytes()));
        report.complete();
        Self { source: Source::Local(bytes), report }
    }

    fn ended(&mut self) {
        self.report.complete();
        if let Source::Upstream { lease, .. } = &mut self.source
            && let Some(lease) = lease.take()
        {
            lease.release();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut frame = match &mut this.source {
            Source::Upstream { inner, .. } => std::task::ready!(Pin::new(inner).poll_frame(cx)),
            Source::Local(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
        };
        sanitise(&mut frame);
        match &frame {
            Some(Ok(frame)) => {
                this.report.sent(frame.data_ref().map_or(0, Bytes::len));
                if this.is_end_stream() {
                    this.ended();
                }
            }
            Some(Err(_)) => this.report.upstream_broke(),
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
