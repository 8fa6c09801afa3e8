//! `GET /events`: the state of the live page once a second, as server-sent events (HTML standard, section 9.2).
//!
//! The one idea: who does not read is not written to. A state is made when a listener's connection has room for it, once for all
//! listeners of a second; nothing is queued.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use meshgate_config::Snapshot;
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};

use super::visitors::{Busy, Visitor};
use super::{Admin, certs, clusters, edges, policies, problems, status};
use crate::access_log::rfc3339;
use crate::report::refusals::Refused;

/// Between two states.
const PERIOD: Duration = Duration::from_secs(1);

/// For so long a state serves another listener too: a little less than the period, so that one listener's is never its last one.
const FRESH: Duration = Duration::from_millis(900);

/// After this a listener is let go, so that one who forgot to leave does not keep others out; a browser comes back by itself.
const LONGEST: Duration = Duration::from_secs(3600);

/// Refusals, problems and endpoints in a state: what a person looks through. The pages of their own have all.
const REFUSALS: usize = 64;
const PROBLEMS: usize = 50;
const ENDPOINTS: usize = 200;
const EDGES: usize = 200;

/// What the listeners share.
#[derive(Debug, Default)]
pub(super) struct Feed {
    listeners: Cell<usize>,
    last: RefCell<Option<(Instant, Bytes)>>,
}

/// One listener's events.
#[derive(Debug)]
pub(super) struct Events {
    admin: Rc<Admin>,
    tick: Interval,
    end: Pin<Box<Sleep>>,
    /// One who does not read is not asked for the end: its visit is over at some time.
    _busy: Busy,
}

/// All that the live page shows.
#[derive(Serialize)]
struct State {
    at: String,
    process: status::Status,
    mtls: policies::Mtls,
    certs: certs::Page,
    edges: edges::Page,
    edges_left_out: usize,
    refusals: Vec<Refused>,
    clusters: clusters::Page,
    problems: Vec<problems::Shown>,
    problems_left_out: usize,
}

impl State {
    fn new(admin: &Admin, snapshot: &Snapshot) -> Self {
        let shared = &admin.shared;
        let mut edges = edges::page(&shared.metrics);
        let edges_left_out = edges.edges.len().saturating_sub(EDGES);
        edges.edges.truncate(EDGES);
        let mut refusals = shared.refusals.all();
        refusals.truncate(REFUSALS);
        Self {
            at: rfc3339(SystemTime::now()),
            process: status::status(shared, snapshot),
            mtls: policies::mtls(snapshot),
            certs: certs::page(&admin.identity.borrow(), &shared.metrics),
            edges,
            edges_left_out,
            refusals,
            clusters: clusters::page(shared, snapshot, ENDPOINTS),
            problems: snapshot.problems.iter().take(PROBLEMS).map(problems::Shown::from).collect(),
            problems_left_out: snapshot.problems.len().saturating_sub(PROBLEMS),
        }
    }
}

impl Feed {
    /// The state as an event. JSON has no line breaks of its own, so that it is one field.
    fn current(&self, admin: &Admin) -> Bytes {
        let now = Instant::now();
        let mut last = self.last.borrow_mut();
        if let Some((made, event)) = &*last
            && now.saturating_duration_since(*made) < FRESH
        {
            return event.clone();
        }
        let state = State::new(admin, &admin.snapshot());
        // Strings and numbers can always be written.
        let event = Bytes::from(format!("data: {}\n\n", serde_json::to_string(&state).unwrap_or_default()));
        *last = Some((now, event.clone()));
        event
    }
}

impl Events {
    /// One more listener; `None` when there are as many as there may be.
    pub(super) fn new(admin: &Rc<Admin>, visitor: &Rc<Visitor>) -> Option<Self> {
        let listeners = &admin.feed.listeners;
        if listeners.get() >= admin.shared.bootstrap.admin.event_listeners {
            return None;
        }
        listeners.set(listeners.get() + 1);
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let busy = visitor.asks(LONGEST + admin.shared.bootstrap.admin.request);
        Some(Self { admin: Rc::clone(admin), tick, end: Box::pin(tokio::time::sleep(LONGEST)), _busy: busy })
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        self.tick.poll_tick(cx).map(|_| Some(Ok(Frame::data(self.admin.feed.current(&self.admin)))))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let feed = &self.admin.feed;
        feed.listeners.set(feed.listeners.get().saturating_sub(1));
        if feed.listeners.get() == 0 {
            feed.last.take();
        }
    }
}
