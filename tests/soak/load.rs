//! The callers: HTTP/1 and HTTP/2, kept connections and new ones, small and large bodies, and some who leave in the middle.

mod tunnel;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshgate::http::headers::REQUEST_ID;
use meshgate::http::server::LocalExecutor;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::echo::{TAG, pattern};
use crate::setting::{SERVICE, Setting};
use crate::tally::{Asked, Bad, Good, Tally};

/// No answer takes longer, whatever is killed meanwhile.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is kept of a body by default (`retries.bufferBytes`).
const KEPT: usize = 64 * 1024;

/// The most bytes of a body.
const LARGEST: u64 = 96 * 1024;

/// What a policy that comes and goes refuses.
const SOMETIMES: &str = "/sometimes";

/// One request.
struct Question {
    tag: String,
    method: Method,
    len: usize,
    sometimes: bool,
    began: Instant,
}

impl Question {
    fn path(&self) -> String {
        let path = if self.sometimes { SOMETIMES } else { "/" };
        match self.method {
            Method::GET => format!("{path}?bytes={}", self.len),
            _ => path.to_owned(),
        }
    }

    fn asked(&self) -> Asked<'_> {
        let repeatable = self.method == Method::GET;
        let kind = if repeatable { "GET" } else { "POST" };
        Asked {
            kind,
            name: &self.tag,
            repeatable,
            kept: self.len <= KEPT,
            sometimes: self.sometimes,
            began: self.began,
        }
    }

    fn request(&self, http2: bool) -> Request<Full<Bytes>> {
        let body = if self.method == Method::GET { Bytes::new() } else { pattern(self.tag.as_bytes(), self.len) };
        let request =
            Request::builder().method(self.method.clone()).header(TAG, &self.tag).header(&REQUEST_ID, &self.tag);
        let request = match http2 {
            true => request.uri(format!("http://{SERVICE}{}", self.path())),
            false => request.uri(self.path()).header("host", SERVICE),
        };
        request.body(Full::new(body)).unwrap()
    }

    /// Whether the answer is the one to this request, whole.
    async fn check(&self, response: hyper::Result<Response<Incoming>>) -> Result<Good, Bad> {
        let response = response.map_err(|error| Bad::Lost(format!("{error:?}")))?;
        let (status, tag) = (response.status(), response.headers().get(TAG).cloned());
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| Bad::Broken(format!("{error:?}")))?.to_bytes();
        match status.as_u16() {
            200 if tag.as_ref().is_none_or(|tag| tag != &self.tag) => Err(Bad::Wrong(format!("it is {tag:?}'s"))),
            200 if body != pattern(self.tag.as_bytes(), self.len) => {
                Err(Bad::Wrong(format!("a body of {} bytes, not {}", body.len(), self.len)))
            }
            200 => Ok(Good::Answered),
            403 if self.sometimes => Ok(Good::Refused),
            status => Err(Bad::Status(status, String::from_utf8_lossy(&body).into_owned())),
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
    pace: Rc<Pace>,
    number: u64,
    dice: Rc<Cell<u64>>,
}

/// So many requests a second of all clients together; what was missed is not made up for.
struct Pace {
    between: Duration,
    next: Cell<Instant>,
}

impl Pace {
    /// Waits until so many more may be sent.
    async fn turn(&self, requests: u32) {
        let at = self.next.get().max(Instant::now());
        self.next.set(at + self.between * requests);
        tokio::time::sleep_until(at).await;
    }
}

impl Load {
    pub(crate) fn start(setting: &Rc<Setting>, tally: &Rc<Tally>, rate: u32) -> Self {
        let over = Rc::<Cell<bool>>::default();
        let pace = Rc::new(Pace { between: Duration::from_secs(1) / rate, next: Cell::new(Instant::now()) });
        let client = |number: u64| Client {
            setting: Rc::clone(setting),
            tally: Rc::clone(tally),
            over: Rc::clone(&over),
            pace: Rc::clone(&pace),
            number,
            dice: Rc::new(Cell::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)),
        };
        let mut clients = Vec::new();
        for number in 0..20 {
            let client = client(number);
            clients.push(match number % 10 {
                0..4 => tokio::task::spawn_local(client.http1(true)),
                4 => tokio::task::spawn_local(client.http1(false)),
                5 | 6 => tokio::task::spawn_local(client.http2()),
                7 => tokio::task::spawn_local(client.cutting()),
                8 => tokio::task::spawn_local(client.websocket()),
                _ => tokio::task::spawn_local(client.tcp()),
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

    fn next(&self) -> Question {
        let number = self.tally.begin();
        let method = if self.roll(3) == 0 { Method::POST } else { Method::GET };
        // Most are small, as most are.
        let len = if self.roll(8) == 0 { self.roll(LARGEST) } else { self.roll(512) };
        Question {
            tag: format!("{}-{number}-", self.number),
            method,
            len: usize::try_from(len).unwrap(),
            sometimes: self.roll(10) == 0,
            began: Instant::now(),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.setting.caller.outbound()).await.unwrap()
    }

    async fn settle(&self, question: &Question, exchange: impl Future<Output = Result<Good, Bad>>) -> bool {
        let result = tokio::time::timeout(PATIENCE, exchange).await.unwrap_or(Err(Bad::Late));
        let went_well = result.is_ok();
        self.tally.ended(&question.asked(), result);
        went_well
    }

    async fn http1(self, keeps: bool) {
        let mut kept: Option<http1::SendRequest<Full<Bytes>>> = None;
        while !self.over.get() {
            self.pace.turn(1).await;
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
            let question = self.next();
            let exchange = async { question.check(sender.send_request(question.request(false)).await).await };
            if self.settle(&question, exchange).await && keeps {
                kept = Some(sender);
            }
        }
    }

    async fn http2(self) {
        const STREAMS: u32 = 6;
        let mut kept: Option<http2::SendRequest<Full<Bytes>>> = None;
        while !self.over.get() {
            self.pace.turn(STREAMS).await;
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
                let question = self.next();
                async move {
                    let exchange = async { question.check(sender.send_request(question.request(true)).await).await };
                    client.settle(&question, exchange).await
                }
            });
            let streams: Vec<_> = streams.map(tokio::task::spawn_local).collect();
            for stream in streams {
                stream.await.unwrap();
            }
            kept = Some(sender);
        }
    }

    /// Leaves in the middle of whatever it gets; an answer that was there before has to be a good one.
    async fn cutting(self) {
        while !self.over.get() {
            self.pace.turn(1).await;
            let mut question = self.next();
            question.len += 64 * 1024;
            question.sometimes = false;
            let http2 = self.roll(2) == 0;
            let io = TokioIo::new(self.connect().await);
            let wait = Duration::from_micros(self.roll(20_000));
            let result = if http2 {
                let (mut sender, connection) = http2::handshake(LocalExecutor, io).await.unwrap();
                let connection = tokio::task::spawn_local(connection);
                let exchange = async { question.check(sender.send_request(question.request(true)).await).await };
                let result = tokio::time::timeout(wait, exchange).await;
                connection.abort();
                result
            } else {
                let (mut sender, connection) = http1::handshake(io).await.unwrap();
                let connection = tokio::task::spawn_local(connection);
                let exchange = async { question.check(sender.send_request(question.request(false)).await).await };
                let result = tokio::time::timeout(wait, exchange).await;
                connection.abort();
                result
            };
            self.tally.ended(&question.asked(), result.unwrap_or(Ok(Good::Cut)));
        }
    }
}
