//! `GET /metrics`: what was counted, and what is looked up only when somebody asks.
//!
//! All of it is read from atomics and short lists; no worker waits for it. It is written on a thread of its own, so that other questions
//! are answered meanwhile, and one page at a time, so that whoever asks often has no more than one core.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use meshgate_config::Snapshot;
use tokio::sync::Mutex;

use crate::metrics::exposition::{self, Format, Page, Source};
use crate::metrics::family::OVERFLOW;
use crate::metrics::process;
use crate::worker::Shared;

/// Whose turn it is to have a page written.
pub(super) type Turn = Arc<Mutex<()>>;

/// A page that is sent piece by piece; what is sent is let go of.
#[derive(Debug)]
pub(super) struct Pieces {
    rest: VecDeque<Bytes>,
    length: u64,
}

/// The page; `None` if writing it panicked.
pub(super) async fn page(turn: &Turn, shared: &Arc<Shared>, snapshot: Arc<Snapshot>, format: Format) -> Option<Pieces> {
    apart(turn, format, Everything { shared: Arc::clone(shared), snapshot }).await
}

/// Writes a page elsewhere. The turn ends with the writing, even if nobody waits for it any more.
async fn apart(turn: &Turn, format: Format, source: impl Source) -> Option<Pieces> {
    let turn = Arc::clone(turn).lock_owned().await;
    let writing = move || {
        let _turn = turn;
        exposition::pieces(format, source)
    };
    tokio::task::spawn_blocking(writing).await.ok().map(Pieces::from)
}

impl From<Vec<String>> for Pieces {
    fn from(pieces: Vec<String>) -> Self {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { rest: pieces.into_iter().map(Bytes::from).collect(), length }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.rest.pop_front();
        self.length -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

/// Where all that is on the page comes from.
#[derive(Debug)]
struct Everything {
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
}

impl Source for Everything {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        self.shared.metrics.write(page)?;
        self.endpoints(page)?;
        self.use_of_room(page)?;
        let blockers = self.shared.readiness.blockers();
        one(page, "mesh_ready", "Whether it is ready, as /ready says", usize::from(blockers.is_empty()))?;
        let is_draining = blockers.contains(&"draining");
        one(page, "mesh_draining", "Whether it is on its way to its end", usize::from(is_draining))?;
        process::write(page)
    }
}

fn one(page: &mut Page<'_>, name: &str, help: &str, value: usize) -> fmt::Result {
    page.gauge(name, help)?.level(value)
}

impl Everything {
    /// How many endpoints each service port has, ready and not; of as many services as a metric may have series.
    fn endpoints(&self, page: &mut Page<'_>) -> fmt::Result {
        let most = self.shared.bootstrap.metrics.max_series / 2;
        let (mut rest, mut ports) = ((0, 0), BTreeMap::new());
        for port in self.snapshot.services.iter() {
            let (ready, not) = (port.endpoints.len(), port.not_ready);
            if ports.len() < most {
                ports.insert((port.host.as_str(), port.port), (ready, not));
            } else {
                rest = (rest.0 + ready, rest.1 + not);
            }
        }
        let mut metric = page.gauge("mesh_endpoints", "Endpoints of services")?;
        let mut write = |service: &str, port: &str, (ready, not): (usize, usize)| {
            for (state, count) in [("ready", ready), ("not_ready", not)] {
                metric.of(&[("service", service), ("port", port), ("state", state)])?.level(count)?;
            }
            Ok(())
        };
        for ((host, port), counts) in ports {
            write(host, &port.to_string(), counts)?;
        }
        if rest == (0, 0) { Ok(()) } else { write(OVERFLOW, OVERFLOW, rest) }
    }

    /// How much there is of what there may only be so much of.
    fn use_of_room(&self, page: &mut Page<'_>) -> fmt::Result {
        let (connections, requests, pending) = self.shared.circuits.totals();
        let limits = &self.shared.bootstrap.limits;
        one(page, "mesh_upstream_connections", "Open connections to endpoints", connections)?;
        one(page, "mesh_upstream_requests", "Requests and TCP connections in progress at endpoints", requests)?;
        one(page, "mesh_upstream_pending", "Requests that wait for a connection to their endpoint", pending)?;
        one(page, "mesh_requests_in_flight", "Requests being served", self.shared.requests.used())?;
        let mut limit = page.gauge("mesh_limit", "How much there may be of what is limited as a whole")?;
        limit.of(&[("limit", "connections")])?.level(limits.connections)?;
        limit.of(&[("limit", "requests_in_flight")])?.level(limits.requests_in_flight)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Lock;
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;

    /// Waits to be told to write.
    #[derive(Debug)]
    struct Slow {
        go_on: Lock<Receiver<()>>,
        turn: Turn,
    }

    impl Source for Slow {
        fn write(&self, page: &mut Page<'_>) -> fmt::Result {
            let told = self.go_on.lock().unwrap().recv_timeout(Duration::from_secs(20));
            one(page, "x_told", "Whether it was", usize::from(told.is_ok()))?;
            one(page, "x_turn", "Whether others wait for their turn", usize::from(self.turn.try_lock().is_err()))
        }
    }

    #[tokio::test]
    async fn a_page_is_written_beside_everything_else_and_in_its_turn() {
        let (turn, (sender, receiver)) = (Turn::default(), sync_channel(1));
        let source = Slow { go_on: Lock::new(receiver), turn: Arc::clone(&turn) };
        // On this thread, which a page that was written here would keep from it.
        let tell = async { sender.send(()).unwrap() };
        let (page, ()) = tokio::join!(apart(&turn, Format::Text, source), tell);
        let page = page.unwrap();
        let length = page.size_hint().exact();
        let page = String::from_utf8(page.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert_eq!(length, Some(page.len() as u64));
        assert!(page.contains("\nx_told 1\n") && page.contains("\nx_turn 1\n"), "{page}");
        assert!(turn.try_lock().is_ok());
    }
}
