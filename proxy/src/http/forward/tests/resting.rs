//! Connections that rest between two messages. Time stands still but where a test moves it: everything is in this process.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use http_body_util::BodyExt;
use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::advance;

use super::*;
use crate::drain::Phase;
use crate::http::body::{Received, ResponseBody};
use crate::open::Place;

/// Where no clock but the test's own ends anything.
fn still<F: Future>(test: F) -> F::Output {
    runtime::local().unwrap().block_on(test)
}

/// What a connection reads into while it rests; awake it has four times as much.
const AT_REST: usize = 2 * 1024;

/// One end of a connection, which tells how much room its last reader had.
struct Told {
    inner: DuplexStream,
    room: Rc<Cell<usize>>,
}

impl AsyncRead for Told {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.room.set(buf.remaining());
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Told {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A caller, and what is known of the other end of its connection.
struct Caller {
    proxy: Proxy,
    stream: DuplexStream,
    room: Rc<Cell<usize>>,
    may_go_on: Rc<Cell<bool>>,
    /// Bodies that nobody reads.
    left: Rc<RefCell<Vec<Received>>>,
}

impl Caller {
    fn new(buffered: usize) -> Self {
        tokio::time::pause();
        let (stream, inner) = io::duplex(buffered);
        let (room, may_go_on, left) = (Rc::default(), Rc::new(Cell::new(true)), Rc::default());
        let caller = Self { proxy: Proxy::new(""), stream, room, may_go_on, left };
        let io = Told { inner, room: Rc::clone(&caller.room) };
        let (worker, may_go_on) = (Rc::clone(&caller.proxy.worker), Rc::clone(&caller.may_go_on));
        let left = Rc::clone(&caller.left);
        tokio::task::spawn_local(async move {
            let facts = report::source_facts(&worker, None, &Security::Plaintext);
            let (counters, place) = (Rc::new(RequestCounters::new(facts)), Place::testing());
            let reporting = Rc::new(Reporting { prefix: Vec::new(), counters, place });
            let service = tower::service_fn(move |exchange: Box<Exchange>| {
                let left = Rc::clone(&left);
                async move {
                    let (head, body) = exchange.request.into_parts();
                    match head.uri.path() {
                        "/left" => left.borrow_mut().push(body),
                        // As those do who take trailers for the end.
                        "/trailers" => {
                            let mut body = std::pin::pin!(body);
                            while body.frame().await.unwrap().unwrap().is_data() {}
                        }
                        // As an upstream does that answers first.
                        "/later" => drop(tokio::task::spawn_local(body.collect())),
                        _ => drop(body.collect().await),
                    }
                    Ok(Response::new(ResponseBody::local(head.uri.path().to_owned(), exchange.report)))
                }
            });
            server::serve(&worker, io, Protocol::Http1, &reporting, service, |_| {
                if may_go_on.get() { server::Onward::GoOn } else { server::Onward::End }
            })
            .await;
        });
        caller
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// One request, which is answered; then long enough for the connection to rest.
    async fn at_rest() -> Self {
        let mut caller = Self::new(64 * 1024);
        caller.get("/one").await;
        assert_ne!(caller.room.get(), AT_REST);
        pass(2).await;
        assert_eq!(caller.room.get(), AT_REST, "it rests");
        caller
    }

    async fn get(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: service\r\n\r\n")).await;
        assert_eq!(answer(&mut self.stream).await, (200, path.to_owned()));
    }

    async fn is_open(&mut self) -> bool {
        let mut byte = [0];
        tokio::select! {
            biased;
            read = self.stream.read(&mut byte) => {
                assert_eq!(read.unwrap(), 0);
                false
            }
            () = settle() => true,
        }
    }
}

/// Lets everything run that can.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

async fn pass(seconds: u64) {
    settle().await;
    advance(Duration::from_secs(seconds)).await;
    settle().await;
}

#[test]
fn a_resting_connection_is_put_away_and_serves_the_next_request_again_and_again() {
    still(async {
        let mut caller = Caller::at_rest().await;
        for path in ["/two", "/three"] {
            caller.get(path).await;
            assert_ne!(caller.room.get(), AT_REST);
            pass(2).await;
            assert_eq!(caller.room.get(), AT_REST);
        }
    });
}

#[test]
fn a_connection_on_which_nothing_was_asked_yet_is_put_away_too() {
    still(async {
        let mut caller = Caller::new(64 * 1024);
        pass(2).await;
        assert_eq!(caller.room.get(), AT_REST);
        caller.get("/one").await;
    });
}

#[test]
fn what_was_read_of_the_next_request_is_not_lost_and_is_no_rest() {
    still(async {
        let mut caller = Caller::new(64 * 1024);
        caller.send("GET /one HTTP/1.1\r\nhost: service\r\n\r\nGET /tw").await;
        assert_eq!(answer(&mut caller.stream).await.1, "/one");
        pass(2).await;
        assert_ne!(caller.room.get(), AT_REST);
        caller.send("o HTTP/1.1\r\nhost: service\r\n\r\n").await;
        assert_eq!(answer(&mut caller.stream).await.1, "/two");
    });
}

#[test]
fn a_head_that_begins_after_a_rest_and_stops_is_too_slow() {
    still(async {
        let mut caller = Caller::at_rest().await;
        caller.send("GET /tw").await;
        pass(9).await;
        assert!(caller.is_open().await);
        pass(11).await;
        pass(11).await;
        // Whether it is told why or not, it is over.
        let mut rest = Vec::new();
        soon(caller.stream.read_to_end(&mut rest)).await.unwrap();
    });
}

#[test]
fn a_request_that_was_not_taken_to_its_end_is_no_rest() {
    still(async {
        let mut caller = Caller::new(64 * 1024);
        caller.send("POST /left HTTP/1.1\r\nhost: service\r\ncontent-length: 400\r\n\r\nhalf").await;
        assert_eq!(answer(&mut caller.stream).await.1, "/left");
        for _ in 0..5 {
            pass(2).await;
            assert_ne!(caller.room.get(), AT_REST);
        }
    });
}

#[test]
fn a_request_whose_body_was_taken_can_be_followed_by_a_rest() {
    for request in [
        "POST /all HTTP/1.1\r\nhost: service\r\ncontent-length: 4\r\n\r\nbody",
        "POST /all HTTP/1.1\r\nhost: service\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "POST /all HTTP/1.1\r\nhost: service\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nt: 1\r\n\r\n",
        "POST /trailers HTTP/1.1\r\nhost: service\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nt: 1\r\n\r\n",
    ] {
        still(async {
            let mut caller = Caller::new(64 * 1024);
            caller.send(request).await;
            assert_eq!(answer(&mut caller.stream).await.0, 200);
            pass(2).await;
            assert_eq!(caller.room.get(), AT_REST, "{request}");
            caller.get("/two").await;
        });
    }
}

#[test]
fn an_answer_that_the_caller_has_not_taken_is_no_rest() {
    still(async {
        let mut caller = Caller::new(16);
        let path = format!("/{}", "a".repeat(300));
        caller.send(&format!("GET {path} HTTP/1.1\r\nhost: service\r\n\r\n")).await;
        for _ in 0..3 {
            pass(2).await;
            assert_ne!(caller.room.get(), AT_REST);
        }
        assert_eq!(answer(&mut caller.stream).await, (200, path));
        caller.get("/two").await;
    });
}

#[test]
fn what_still_comes_of_a_request_that_is_answered_is_no_slow_head() {
    still(async {
        let mut caller = Caller::new(64 * 1024);
        caller.send("POST /later HTTP/1.1\r\nhost: service\r\ncontent-length: 16\r\n\r\n").await;
        assert_eq!(answer(&mut caller.stream).await.1, "/later");
        for _ in 0..8 {
            caller.send("ab").await;
            pass(4).await;
        }
        caller.get("/two").await;
    });
}

#[test]
fn a_head_that_begins_behind_another_request_and_stops_is_too_slow() {
    still(async {
        let mut caller = Caller::new(64 * 1024);
        caller.send("GET /one HTTP/1.1\r\nhost: service\r\n\r\nGET /tw").await;
        assert_eq!(answer(&mut caller.stream).await.1, "/one");
        pass(9).await;
        assert!(caller.is_open().await);
        pass(2).await;
        assert_eq!(answer(&mut caller.stream).await.0, 408);
    });
}

#[test]
fn what_comes_while_an_answer_is_not_taken_is_no_slow_head_in_the_middle_of_it() {
    still(async {
        let mut caller = Caller::new(64);
        let path = format!("/{}", "a".repeat(300));
        caller.send(&format!("GET {path} HTTP/1.1\r\nhost: service\r\n\r\n")).await;
        settle().await;
        caller.send("GET /tw").await;
        for _ in 0..4 {
            pass(6).await;
        }
        assert_eq!(answer(&mut caller.stream).await, (200, path));
        caller.send("o HTTP/1.1\r\nhost: service\r\n\r\n").await;
        assert_eq!(answer(&mut caller.stream).await, (200, "/two".to_owned()));
    });
}

#[test]
fn an_empty_line_behind_a_message_is_neither_a_slow_head_nor_lost_nor_doubled() {
    for behind in ["\r\n", "\r"] {
        still(async {
            let mut caller = Caller::new(64 * 1024);
            let post = "POST /all HTTP/1.1\r\nhost: service\r\ncontent-length: 4\r\n\r\nbody";
            caller.send(&format!("{post}{behind}")).await;
            assert_eq!(answer(&mut caller.stream).await.1, "/all");
            pass(2).await;
            caller.send("\r\n".strip_prefix(behind).unwrap()).await;
            pass(20).await;
            caller.get("/two").await;
            // Awake, it is looked at as often as a head may take.
            pass(11).await;
            assert_eq!(caller.room.get(), AT_REST);
        });
    }
}

#[test]
fn a_connection_that_rests_longer_than_a_little_ends_with_the_drain() {
    for seconds in [0, 2] {
        still(async {
            let mut caller = Caller::new(64 * 1024);
            caller.get("/one").await;
            pass(seconds).await;
            caller.proxy._kept.2.advance(Phase::Draining);
            settle().await;
            advance(Duration::from_millis(990)).await;
            assert!(caller.is_open().await, "after {seconds} s");
            advance(Duration::from_millis(20)).await;
            assert!(!caller.is_open().await, "after {seconds} s");
        });
    }
}

#[test]
fn requests_one_behind_another_are_all_answered_around_rests() {
    still(async {
        let mut caller = Caller::at_rest().await;
        let get = |number: u32| format!("GET /{number} HTTP/1.1\r\nhost: service\r\n\r\n");
        for round in 0..3 {
            let many: String = (0..200).map(|number| get(round * 200 + number)).collect();
            let (most, rest) = many.split_at(many.len() - 9);
            caller.send(most).await;
            pass(2).await;
            caller.send(rest).await;
            let mut all = Vec::new();
            let last = format!("/{}", round * 200 + 199);
            while !all.ends_with(last.as_bytes()) {
                assert_ne!(soon(caller.stream.read_buf(&mut all)).await.unwrap(), 0);
            }
            assert_eq!(String::from_utf8(all).unwrap().matches("HTTP/1.1 200 OK").count(), 200);
            pass(11).await;
            assert_eq!(caller.room.get(), AT_REST);
        }
    });
}

#[test]
fn what_is_asked_as_the_drain_begins_is_answered_and_is_the_last() {
    const POST: &str = "POST /two HTTP/1.1\r\nhost: service\r\ncontent-length: 4\r\n\r\nbody";
    // Awake or at rest, and with as much of the next request there as this.
    for seconds in [0, 2] {
        for there in [0, 1, 30, POST.len() - 5, POST.len() - 2] {
            still(async {
                let mut caller = Caller::new(64 * 1024);
                caller.get("/one").await;
                pass(seconds).await;
                let (before, after) = POST.split_at(there);
                caller.send(before).await;
                settle().await;
                caller.proxy._kept.2.advance(Phase::Draining);
                settle().await;
                caller.send(after).await;
                let mut text = String::new();
                soon(caller.stream.read_to_string(&mut text)).await.unwrap();
                let told = text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\r\nconnection: close\r\n");
                assert!(told && text.ends_with("/two"), "after {seconds} s, with {there} bytes: {text}");
            });
        }
    }
}

#[test]
fn a_request_that_nobody_took_to_its_end_does_not_hold_up_the_drain() {
    still(async {
        let mut caller = Caller::new(64 * 1024);
        caller.send("POST /left HTTP/1.1\r\nhost: service\r\ncontent-length: 400\r\n\r\nhalf").await;
        assert_eq!(answer(&mut caller.stream).await.1, "/left");
        caller.left.borrow_mut().clear();
        caller.proxy._kept.2.advance(Phase::Draining);
        pass(1).await;
        pass(1).await;
        assert!(!caller.is_open().await);
    });
}

#[test]
fn a_resting_connection_ends_when_it_has_rested_too_long_and_not_before() {
    still(async {
        let mut caller = Caller::at_rest().await;
        let idle = caller.proxy.worker.shared.bootstrap.timeouts.idle.as_secs();
        pass(idle - 5).await;
        assert!(caller.is_open().await);
        // Timers are a millisecond late.
        pass(6).await;
        assert!(!caller.is_open().await);
    });
}

#[test]
fn a_resting_connection_is_judged_again_when_the_configuration_changes() {
    still(async {
        let mut caller = Caller::at_rest().await;
        caller.proxy.worker.changes.announce();
        assert!(caller.is_open().await);
        caller.get("/two").await;
        pass(2).await;
        assert_eq!(caller.room.get(), AT_REST);
        caller.may_go_on.set(false);
        caller.proxy.worker.changes.announce();
        assert!(!caller.is_open().await);
    });
}
