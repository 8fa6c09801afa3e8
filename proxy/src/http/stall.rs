//! Requests that get nowhere: when did a byte of each last move, and has it taken too long as a whole?
//!
//! The one idea: nobody sets a timer for a request. A body notes the time whenever a part of it moves, either way; the single
//! timer of the downstream connection looks at what is in flight ([`Flows::look`]) and says of a request that it is over. Who
//! holds the request sees that at its next turn: before the head of an answer it is answered, after it broken off. HTTP/2 has
//! many in flight, and stops asking for an answer's body while its reader does not read; there a stream's task is ended from
//! outside ([`StreamExecutor`]).
//!
//! Only bytes of bodies count, and the head of an answer. A part of a head, PING and WINDOW_UPDATE do not.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::error::ErrorKind;
use crate::http::body::Progress;

/// Why a request is over before its answer is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nothing of it has moved for `timeouts.stream`.
    Stalled,
    /// It has taken `timeouts.request`.
    TooLong,
}

impl Over {
    /// As what it failed.
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Stalled => ErrorKind::Stalled,
            Self::TooLong => ErrorKind::TooLong,
        }
    }
}

/// How long requests may take; `None` = as long as they like.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Without a byte either way.
    pub stream: Option<Duration>,
    /// As a whole.
    pub request: Option<Duration>,
}

/// One request in flight, among its connection's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    place: usize,
    serial: u64,
}

/// What is in flight on one downstream connection.
#[derive(Debug, Default)]
pub struct Flows {
    /// Places are used again, so that a request costs no allocation.
    places: RefCell<Vec<Place>>,
    serial: Cell<u64>,
    /// The request that was read last, until the task that serves it is started.
    newest: Cell<Option<Flow>>,
}

#[derive(Debug)]
struct Place {
    /// Whose it is; `None` = free.
    serial: Option<u64>,
    started: Instant,
    moved: Instant,
    upload: Option<Rc<Progress>>,
    over: Option<Over>,
    task: Option<Waker>,
}

impl Place {
    fn last_moved(&self) -> Instant {
        let uploaded = self.upload.as_ref().and_then(|upload| upload.moved.get());
        uploaded.map_or(self.moved, |uploaded| uploaded.max(self.moved))
    }

    /// When the request is over if nothing moves, and why.
    fn ends(&self, patience: Patience) -> Option<(Instant, Over)> {
        let stalled = patience.stream.map(|stream| (self.last_moved() + stream, Over::Stalled));
        let too_long = patience.request.map(|request| (self.started + request, Over::TooLong));
        [stalled, too_long].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

impl Flows {
    /// A request that was read at `started`.
    pub fn begin(&self, started: Instant) -> Flow {
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        let place = Place { serial: Some(serial), started, moved: started, upload: None, over: None, task: None };
        let mut places = self.places.borrow_mut();
        let free = places.iter().position(|place| place.serial.is_none());
        let at = match free.and_then(|at| Some((at, places.get_mut(at)?))) {
            Some((at, old)) => {
                *old = place;
                at
            }
            None => {
                places.push(place);
                places.len() - 1
            }
        };
        let flow = Flow { place: at, serial };
        self.newest.set(Some(flow));
        flow
    }

    /// It has ended.
    pub fn end(&self, flow: Flow) {
        self.with(flow, |place| {
            (place.serial, place.upload, place.task) = (None, None, None);
        });
    }

    /// Gives back the memory of places that nobody uses.
    pub fn forget_places(&self) {
        let mut places = self.places.borrow_mut();
        if places.iter().all(|place| place.serial.is_none()) {
            *places = Vec::new();
        }
    }

    /// A part of its answer has moved.
    pub fn moved(&self, flow: Flow) {
        self.with(flow, |place| place.moved = Instant::now());
    }

    /// Its body is on its way upstream.
    pub fn uploads(&self, flow: Flow, upload: Option<&Rc<Progress>>) {
        self.with(flow, |place| place.upload = upload.cloned());
    }

    /// Why it is over, if it is.
    pub fn over(&self, flow: Flow) -> Option<Over> {
        self.with(flow, |place| place.over).flatten()
    }

    /// Ends what has taken too long by `now`. Says when to look again, if there is anything to wait for, and whether something
    /// that was over at the last look is still there: HTTP/1 has no way to end it but with its connection.
    pub fn look(&self, now: Instant, patience: Patience) -> (Option<Instant>, bool) {
        let (mut next, mut stuck) = (None::<Instant>, false);
        for place in self.places.borrow_mut().iter_mut().filter(|place| place.serial.is_some()) {
            if place.over.is_some() {
                stuck = true;
                continue;
            }
            let Some((at, why)) = place.ends(patience) else { continue };
            if at <= now {
                place.over = Some(why);
                if let Some(task) = place.task.take() {
                    task.wake();
                }
            }
            next = Some(next.map_or(at, |next| next.min(at)).max(now));
        }
        (next, stuck)
    }

    /// Ends all: their connection takes nothing.
    pub fn stall(&self) {
        for place in self.places.borrow_mut().iter_mut() {
            place.over = place.over.or(Some(Over::Stalled));
        }
    }

    fn with<T>(&self, flow: Flow, f: impl FnOnce(&mut Place) -> T) -> Option<T> {
        let mut places = self.places.borrow_mut();
        places.get_mut(flow.place).filter(|place| place.serial == Some(flow.serial)).map(f)
    }
}

/// Runs the streams of one HTTP/2 connection, each until its request is over. hyper starts a stream's task right after it has
/// called the service with its request, which is how the two are brought together.
#[derive(Debug, Clone)]
pub struct StreamExecutor(pub Rc<Flows>);

impl<F: Future + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        let (flows, flow) = (Rc::clone(&self.0), self.0.newest.take());
        tokio::task::spawn_local(Bounded { future, flows, flow });
    }
}

pin_project! {
    /// A stream's task. Once its request is over it has one more turn, to answer or to break off; one that cannot, because its
    /// peer takes nothing, is dropped, and its stream reset.
    struct Bounded<F> {
        #[pin]
        future: F,
        flows: Rc<Flows>,
        flow: Option<Flow>,
    }
}

impl<F: Future> Future for Bounded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let was_over = this.flow.and_then(|flow| this.flows.over(flow)).is_some();
        if this.future.poll(cx).is_ready() || was_over {
            return Poll::Ready(());
        }
        if let Some(flow) = *this.flow {
            let waits = this.flows.with(flow, |place| {
                if !place.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                    place.task = Some(cx.waker().clone());
                }
            });
            // Its report has ended, and nothing is left but to send what is there.
            if waits.is_none() {
                *this.flow = None;
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { stream: Some(Duration::from_secs(10)), request: Some(Duration::from_secs(25)) };

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_request_and_so_does_its_whole_time() {
        let flows = Flows::default();
        let (silent, busy) = (flows.begin(Instant::now()), flows.begin(Instant::now()));
        let begun = Instant::now();
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(8)).await;
            flows.look(Instant::now(), PATIENCE);
            flows.moved(busy);
        }
        assert_eq!((flows.over(silent), flows.over(busy)), (Some(Over::Stalled), None));
        let (next, stuck) = flows.look(Instant::now(), PATIENCE);
        assert_eq!((next, stuck), (Some(begun + Duration::from_secs(25)), true));
        tokio::time::advance(Duration::from_secs(1)).await;
        flows.look(Instant::now(), PATIENCE);
        assert_eq!(flows.over(busy), Some(Over::TooLong));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_used_again_and_its_former_request_says_nothing_about_the_next() {
        let flows = Flows::default();
        let first = flows.begin(Instant::now());
        flows.end(first);
        tokio::time::advance(Duration::from_secs(9)).await;
        let second = flows.begin(Instant::now());
        assert_eq!((first.place, flows.places.borrow().len()), (second.place, 1));
        tokio::time::advance(Duration::from_secs(5)).await;
        flows.moved(first);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(flows.look(Instant::now(), PATIENCE), (Some(Instant::now() + Duration::from_secs(1)), false));
        flows.end(second);
        assert_eq!(flows.look(Instant::now(), PATIENCE), (None, false));
    }

    #[tokio::test]
    async fn places_are_given_back_when_nobody_uses_one_and_an_old_request_finds_none_of_the_new() {
        let flows = Flows::default();
        let (first, second) = (flows.begin(Instant::now()), flows.begin(Instant::now()));
        flows.end(first);
        flows.forget_places();
        assert_eq!(flows.places.borrow().len(), 2);
        flows.end(second);
        flows.forget_places();
        assert_eq!(flows.places.borrow().capacity(), 0);
        let third = flows.begin(Instant::now());
        flows.stall();
        assert_eq!((flows.over(first), flows.over(third)), (None, Some(Over::Stalled)));
    }

    #[tokio::test(start_paused = true)]
    async fn either_way_is_progress() {
        let flows = Flows::default();
        let (up, down) = (flows.begin(Instant::now()), flows.begin(Instant::now()));
        let progress = Rc::<Progress>::default();
        [up, down].into_iter().for_each(|flow| flows.uploads(flow, Some(&progress)));
        progress.moved.set(Some(Instant::now()));
        tokio::time::advance(Duration::from_secs(8)).await;
        flows.moved(down);
        tokio::time::advance(Duration::from_secs(1)).await;
        let alone = flows.begin(Instant::now());
        flows.uploads(alone, Some(&progress));
        tokio::time::advance(Duration::from_secs(2)).await;
        flows.look(Instant::now(), PATIENCE);
        let over = [up, down, alone].map(|flow| flows.over(flow));
        assert_eq!(over, [Some(Over::Stalled), None, None]);
        progress.moved.set(Some(Instant::now()));
        tokio::time::advance(Duration::from_secs(8)).await;
        flows.look(Instant::now(), PATIENCE);
        assert_eq!(flows.over(down), None);
        flows.stall();
        assert_eq!(flows.over(down), Some(Over::Stalled));
    }

    #[test]
    fn a_stream_whose_request_is_over_has_one_more_turn_and_then_none() {
        use hyper::rt::Executor;
        crate::runtime::local().unwrap().block_on(async {
            let flows = Rc::<Flows>::default();
            let flow = flows.begin(Instant::now() - Duration::from_secs(11));
            let turns = Rc::new(Cell::new(0));
            let counted = Rc::clone(&turns);
            StreamExecutor(Rc::clone(&flows)).execute(std::future::poll_fn(move |_| {
                counted.set(counted.get() + 1);
                Poll::<()>::Pending
            }));
            let settle = async || {
                for _ in 0..9 {
                    tokio::task::yield_now().await;
                }
            };
            settle().await;
            assert_eq!((turns.get(), Rc::strong_count(&turns)), (1, 2));
            flows.look(Instant::now(), PATIENCE);
            assert_eq!(flows.over(flow), Some(Over::Stalled));
            settle().await;
            assert_eq!((turns.get(), Rc::strong_count(&turns)), (2, 1));
        });
    }
}
