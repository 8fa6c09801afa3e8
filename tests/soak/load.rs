//! The callers: HTTP/1 and HTTP/2, kept connections and new ones, small and large bodies, and some who leave in the middle.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshgate::http::server::LocalExecutor;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::echo::{TAG, pattern};
use crate::setting::{SERVICE, Setting};

/// Between two requests of one client: together some hundred a second, on two cores that do everything else too.
const PACE: Duration = Duration::from_millis(20);

/// No answer takes longer, whatever is killed meanwhile.
const PATIENCE: Duration = Duration::from_secs(15);

/// The most bytes of a body.
const LARGEST: u64 = 96 * 1024;

/// What a policy that comes and goes refuses.
const SOMETIMES: &str = "/sometimes";

/// What became of all requests.
#[derive(Default)]
pub(crate) struct Tally {
    sent: Cell<u64>,
    good: Cell<u64>,
    refused: Cell<u64>,
    cut: Cell<u64>,
    /// Failed while the application they were on their way to was killed.
    explained: RefCell<BTreeMap<String, u64>>,
    unexplained: RefCell<Vec<String>>,
    slowest: Cell<Duration>,
    /// When applications were killed, and came back.
    pub(crate) killed: RefCell<Vec<(Instant, Instant)>>,
    pub(crate) policies: Cell<u64>,
    pub(crate) rotations: Cell<u64>,
}

impl Tally {
    pub(crate) fn line(&self) -> String {
        let explained: u64 = self.explained.borrow().values().sum();
        let unexplained = self.unexplained.borrow().len();
        format!(
            "{} sent, {} good, {} refused, {} cut, {explained} explained, {unexplained} unexplained, slowest {:?}",
            self.sent.get(),
            self.good.get(),
            self.refused.get(),
            self.cut.get(),
            self.slowest.get()
        )
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.unexplained.borrow().iter().take(20).cloned().collect();
        let lost = self.sent.get() - self.good.get() - self.refused.get() - self.cut.get();
        let known = self.explained.borrow().values().sum::<u64>() + self.unexplained.borrow().len() as u64;
        if lost != known {
            problems.push(format!("{lost} requests have no answer, but only {known} failed"));
        }
        for (what, count) in [("answered", self.good.get()), ("refused", self.refused.get()), ("cut", self.cut.get())] {
            if count == 0 {
                problems.push(format!("nothing was {what}: the soak has not shown what it is for"));
            }
        }
        problems
    }

    /// Whether an application was killed while a request was under way that began then.
    fn was_killed_since(&self, began: Instant) -> bool {
        let slack = Duration::from_millis(500);
        self.killed.borrow().iter().any(|(_, back)| *back + slack >= began)
    }

    fn count(&self, counter: &Cell<u64>) {
        counter.set(counter.get() + 1);
    }

    fn failed(&self, began: Instant, asked: &Asked, what: &str) {
        // What was answered wrong is never explained, and what can be asked again is asked again.
        let excusable = asked.method == Method::POST || what.starts_with("body: ");
        if excusable && !what.starts_with("wrong") && self.was_killed_since(began) {
            *self.explained.borrow_mut().entry(format!("{} {what}", asked.method)).or_default() += 1;
        } else {
            let (method, at) = (&asked.method, self.sent.get());
            self.unexplained.borrow_mut().push(format!("{method} {} (about number {at}): {what}", asked.path()));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.line())?;
        for (what, count) in &*self.explained.borrow() {
            writeln!(f, "  {count} times, while an application was killed: {what}")?;
        }
        let (kills, policies) = (self.killed.borrow().len(), self.policies.get());
        write!(f, "{policies} policy changes, {} certificate rotations, {kills} kills", self.rotations.get())
    }
}

/// One request.
struct Asked {
    tag: String,
    method: Method,
    len: usize,
    sometimes: bool,
}

impl Asked {
    fn path(&self) -> String {
        let path = if self.sometimes { SOMETIMES } else { "/" };
        match self.method {
            Method::GET => format!("{path}?bytes={}", self.len),
            _ => path.to_owned(),
        }
    }

    fn request(&self, http2: bool) -> Request<Full<Bytes>> {
        let body = if self.method == Method::GET { Bytes::new() } else { pattern(self.tag.as_bytes(), self.len) };
        let request = Request::builder().method(self.method.clone()).header(TAG, &self.tag);
        let request = match http2 {
            true => request.uri(format!("http://{SERVICE}{}", self.path())),
            false => request.uri(self.path()).header("host", SERVICE),
        };
        request.body(Full::new(body)).unwrap()
    }

    /// Whether the answer is the one to this request, whole.
    async fn check(&self, response: Response<Incoming>, tally: &Tally) -> Result<(), String> {
        let (status, tag) = (response.status(), response.headers().get(TAG).cloned());
        let body = response.into_body().collect().await.map_err(|error| format!("body: {error}"))?.to_bytes();
        match status.as_u16() {
            200 if tag.as_ref().is_none_or(|tag| tag != &self.tag) => Err(format!("wrong answer: it is {tag:?}'s")),
            200 if body != pattern(self.tag.as_bytes(), self.len) => Err(format!("wrong body of {} bytes", body.len())),
            200 => {
                tally.count(&tally.good);
                Ok(())
            }
            403 if self.sometimes => {
                tally.count(&tally.refused);
                Ok(())
            }
            _ => Err(format!("{status}: {}", String::from_utf8_lossy(&body))),
        }
    }
}

/// Clients that ask until they are told to stop.
pub(crate) struct Load {
    over: Rc<Cell<bool>>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Client {
    setting: Rc<Setting>,
    tally: Rc<Tally>,
    over: Rc<Cell<bool>>,
    number: u64,
    dice: Rc<Cell<u64>>,
}

impl Load {
    pub(crate) fn start(setting: &Rc<Setting>, tally: &Rc<Tally>) -> Self {
        let over = Rc::<Cell<bool>>::default();
        let client = |number: u64| Client {
            setting: Rc::clone(setting),
            tally: Rc::clone(tally),
            over: Rc::clone(&over),
            number,
            dice: Rc::new(Cell::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)),
        };
        let mut clients = Vec::new();
        for number in 0..16 {
            let client = client(number);
            clients.push(match number % 8 {
                0..4 => tokio::task::spawn_local(client.http1(true)),
                4 => tokio::task::spawn_local(client.http1(false)),
                5 | 6 => tokio::task::spawn_local(client.http2()),
                _ => tokio::task::spawn_local(client.cutting()),
            });
        }
        Self { over, clients }
    }

    pub(crate) async fn end(self) {
        self.over.set(true);
        for client in self.clients {
            client.await.unwrap();
        }
    }
}

impl Client {
    /// xorshift64: the same soak each time, as far as it is up to the clients.
    fn roll(&self, below: u64) -> u64 {
        let mut state = self.dice.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.dice.set(state);
        state % below
    }

    fn next(&self) -> Asked {
        self.tally.count(&self.tally.sent);
        let method = if self.roll(3) == 0 { Method::POST } else { Method::GET };
        // Most are small, as most are.
        let len = if self.roll(8) == 0 { self.roll(LARGEST) } else { self.roll(512) };
        Asked {
            tag: format!("{}-{}-", self.number, self.tally.sent.get()),
            method,
            len: usize::try_from(len).unwrap(),
            sometimes: self.roll(10) == 0,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.setting.caller.outbound()).await.unwrap()
    }

    async fn settle(&self, asked: &Asked, exchange: impl Future<Output = Result<(), String>>) -> bool {
        let began = Instant::now();
        let result = tokio::time::timeout(PATIENCE, exchange).await;
        let took = began.elapsed();
        self.tally.slowest.set(self.tally.slowest.get().max(took));
        match result.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))) {
            Ok(()) => true,
            Err(what) => {
                self.tally.failed(began, asked, &what);
                false
            }
        }
    }

    async fn http1(self, keeps: bool) {
        let mut kept: Option<http1::SendRequest<Full<Bytes>>> = None;
        while !self.over.get() {
            let mut sender = match kept.take().filter(|sender| !sender.is_closed()) {
                Some(sender) => sender,
                None => {
                    let (sender, connection) = http1::handshake(TokioIo::new(self.connect().await)).await.unwrap();
                    tokio::task::spawn_local(connection);
                    sender
                }
            };
            // The connection may be closed while it is idle; that is not the request's fault.
            if sender.ready().await.is_err() {
                continue;
            }
            let asked = self.next();
            let exchange = async {
                let response = sender.send_request(asked.request(false)).await.map_err(|error| error.to_string())?;
                asked.check(response, &self.tally).await
            };
            if self.settle(&asked, exchange).await && keeps {
                kept = Some(sender);
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn http2(self) {
        const STREAMS: usize = 6;
        let mut kept: Option<http2::SendRequest<Full<Bytes>>> = None;
        while !self.over.get() {
            let sender = match kept.take().filter(|sender| !sender.is_closed()) {
                Some(sender) => sender,
                None => {
                    let io = TokioIo::new(self.connect().await);
                    let (sender, connection) = http2::handshake(LocalExecutor, io).await.unwrap();
                    tokio::task::spawn_local(connection);
                    sender
                }
            };
            let streams = (0..STREAMS).map(|_| {
                let (client, mut sender) = (self.clone(), sender.clone());
                let asked = self.next();
                async move {
                    let exchange = async {
                        let response = sender.send_request(asked.request(true)).await;
                        asked.check(response.map_err(|error| format!("{error:?}"))?, &client.tally).await
                    };
                    client.settle(&asked, exchange).await
                }
            });
            let streams: Vec<_> = streams.map(tokio::task::spawn_local).collect();
            for stream in streams {
                stream.await.unwrap();
            }
            kept = Some(sender);
            tokio::time::sleep(PACE * 4).await;
        }
    }

    /// Leaves in the middle of whatever it gets.
    async fn cutting(self) {
        while !self.over.get() {
            let mut asked = self.next();
            asked.len += 64 * 1024;
            asked.sometimes = false;
            let http2 = self.roll(2) == 0;
            let io = TokioIo::new(self.connect().await);
            let wait = Duration::from_micros(self.roll(20_000));
            if http2 {
                let (mut sender, connection) = http2::handshake(LocalExecutor, io).await.unwrap();
                let connection = tokio::task::spawn_local(connection);
                let _ = tokio::time::timeout(wait, sender.send_request(asked.request(true))).await;
                connection.abort();
            } else {
                let (mut sender, connection) = http1::handshake(io).await.unwrap();
                let connection = tokio::task::spawn_local(connection);
                let _ = tokio::time::timeout(wait, sender.send_request(asked.request(false))).await;
                connection.abort();
            }
            self.tally.count(&self.tally.cut);
            tokio::time::sleep(PACE * 2).await;
        }
    }
}
