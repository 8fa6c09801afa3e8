//! Who is connected to the admin endpoint: so many at a time, and nobody for longer than an answer takes.
//!
//! The one idea: a probe must get its answer whoever else has connected. So when all places are taken, the connection that has rested
//! longest makes room for the one that comes; only where every one of them is being answered is the new one told so and closed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::metrics::{Metrics, ReasonLabels};
use crate::throttle;

/// What somebody is told for whom there is no room.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 46\r\n\r\nas many are connected as admin.connections is\n";

/// All of them.
#[derive(Debug)]
pub(super) struct Visitors {
    most: usize,
    request: Duration,
    metrics: Metrics,
    here: RefCell<BTreeMap<u64, Rc<Visitor>>>,
    count: Cell<u64>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Visitor {
    /// Answers that are being made or followed.
    busy: Cell<u32>,
    /// When it connected, or asked last.
    since: Cell<Instant>,
    /// When it has to have asked for something else.
    until: Cell<Instant>,
    leave: Notify,
}

/// A visitor's place; its drop is the end of the visit.
#[derive(Debug)]
pub(super) struct Visit {
    all: Rc<Visitors>,
    number: u64,
    visitor: Rc<Visitor>,
}

/// An answer that is being made or followed.
#[derive(Debug)]
pub(super) struct Busy(Rc<Visitor>);

impl Visitors {
    /// Nobody is here yet; at most so many may be, and each request be done within `request`.
    pub(super) fn new(most: usize, request: Duration, metrics: &Metrics) -> Rc<Self> {
        let (here, count) = (RefCell::default(), Cell::new(0));
        Rc::new(Self { most, request, metrics: metrics.clone(), here, count })
    }

    /// One more, if there is room or can be made.
    pub(super) fn enter(self: &Rc<Self>) -> Option<Visit> {
        if self.here.borrow().len() >= self.most && !self.make_room() {
            self.limited("full");
            if let Some(left_out) = throttle::admit() {
                tracing::warn!(left_out, "admin: connection refused: admin.connections reached");
            }
            return None;
        }
        let (number, now) = (self.count.get() + 1, Instant::now());
        self.count.set(number);
        let until = Cell::new(now + self.request);
        let visitor = Visitor { busy: Cell::new(0), since: Cell::new(now), until, leave: Notify::new() };
        let visitor = Rc::new(visitor);
        self.here.borrow_mut().insert(number, Rc::clone(&visitor));
        Some(Visit { all: Rc::clone(self), number, visitor })
    }

    /// Sends the one away that has rested longest; whether there is one.
    fn make_room(&self) -> bool {
        let mut here = self.here.borrow_mut();
        let resting = here.iter().filter(|(_, visitor)| visitor.busy.get() == 0);
        let Some(number) = resting.min_by_key(|(_, visitor)| visitor.since.get()).map(|(number, _)| *number) else {
            return false;
        };
        // Out of the list at once: until its task has had its turn others may come.
        if let Some(visitor) = here.remove(&number) {
            visitor.leave.notify_one();
        }
        self.limited("displaced");
        true
    }

    /// Counts what a limit did.
    pub(super) fn limited(&self, reason: &'static str) {
        self.metrics.admin_limited.get_or_create(&ReasonLabels { reason }).inc();
    }
}

impl Visit {
    /// For what serves it.
    pub(super) fn visitor(&self) -> Rc<Visitor> {
        Rc::clone(&self.visitor)
    }

    /// Returns when the visit has to end.
    pub(super) async fn over(&self) {
        loop {
            let until = self.visitor.until.get();
            tokio::select! {
                () = self.visitor.leave.notified() => return,
                () = sleep_until(until) => {}
            }
            if self.visitor.until.get() <= Instant::now() {
                self.all.limited("slow");
                return;
            }
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.all.here.borrow_mut().remove(&self.number);
    }
}

impl Visitor {
    /// It asks for something that is to be made, and taken, within this time.
    pub(super) fn asks(self: &Rc<Self>, within: Duration) -> Busy {
        let now = Instant::now();
        self.busy.set(self.busy.get() + 1);
        self.since.set(now);
        self.until.set(now + within);
        Busy(Rc::clone(self))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get().saturating_sub(1));
    }
}

/// Tells somebody for whom there is no room, if that costs no wait.
pub(super) fn turn_away(stream: &TcpStream) {
    // Whoever takes nothing yet is closed all the same.
    let _ = stream.try_write(FULL);
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const REQUEST: Duration = Duration::from_secs(60);

    fn displaced(visit: &Visit) -> bool {
        visit.over().now_or_never().is_some()
    }

    #[test]
    fn what_is_said_has_the_length_that_it_says() {
        let (_, body) = std::str::from_utf8(FULL).unwrap().split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len(), 46);
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_has_rested_longest_makes_room_and_nobody_who_is_being_answered() {
        let visitors = Visitors::new(3, REQUEST, &Metrics::default());
        let mut first = Vec::new();
        for _ in 0..3 {
            first.push(visitors.enter().unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let busy = first[0].visitor().asks(REQUEST);
        let fourth = visitors.enter().unwrap();
        assert_eq!(first.iter().map(displaced).collect::<Vec<_>>(), [false, true, false]);
        let all_busy: Vec<_> = [&first[2], &fourth].map(|visit| visit.visitor().asks(REQUEST)).into();
        assert!(visitors.enter().is_none());
        drop(busy);
        assert!(visitors.enter().is_some());
        assert!(displaced(&first[0]));
        drop((all_busy, first, fourth));
        assert!(visitors.here.borrow().is_empty());
        let limited = |reason| visitors.metrics.admin_limited.get_or_create(&ReasonLabels { reason }).get();
        assert_eq!((limited("full"), limited("displaced")), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_visit_lasts_as_long_as_something_is_asked_in_time() {
        let visitors = Visitors::new(3, REQUEST, &Metrics::default());
        let visit = visitors.enter().unwrap();
        let began = Instant::now();
        let asking = async {
            tokio::time::sleep(Duration::from_secs(50)).await;
            drop(visit.visitor().asks(REQUEST));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = asking => {}
            () = visit.over() => {}
        }
        assert_eq!(began.elapsed(), Duration::from_secs(110));
    }
}
