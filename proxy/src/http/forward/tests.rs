//! One proxy in this process, whose candidates are sockets that do as they are told.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshgate_config::{Bootstrap, ConfigStore, Remote, Share};
use meshgate_identity::IdentityStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::access_log::Writer;
use crate::connection::Protocol;
use crate::http::layers::{self, Exchange};
use crate::http::pool::{HttpVersion, Security, Upstream};
use crate::http::retry::Budget;
use crate::http::server::{self, Reporting};
use crate::metrics::RequestCounters;
use crate::open::Place;
use crate::sandbox::{PodSpec, Sandbox, until};
use crate::worker::{Shared, Worker};
use crate::{drain, jwks, orig_dst, readiness, report, runtime};

mod answers;
mod bodies;
mod http2;
mod resting;
mod unanswered;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const SICK: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nsick";

fn run<F: Future>(test: F) -> F::Output {
    runtime::local().unwrap().block_on(async { soon(test).await })
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(crate::sandbox::PATIENCE, future).await.expect("within the time anything may take")
}

/// What an upstream does with a request it has read.
#[derive(Debug, Clone, Copy)]
enum Act {
    Answer(&'static str),
    /// Ends the connection without a byte.
    Close,
    Reset,
    /// Keeps the connection and says nothing.
    Hang,
    /// Resets as soon as the head and so many bytes of the body are there.
    ResetAt(usize),
    /// Answers as soon as the head and so many bytes of the body are there.
    AnswerAt(usize, &'static str),
    /// Answers and ends the connection.
    AnswerAndClose(&'static str),
}

/// An upstream that takes one act a request, whatever connection it comes on; the last again and again.
struct Server {
    address: SocketAddr,
    seen: Rc<RefCell<Vec<String>>>,
    connections: Rc<Cell<usize>>,
    /// Connections whose other end has closed them.
    ended: Rc<Cell<usize>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn of(acts: &[Act]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acts = Rc::new((acts.to_vec(), Cell::new(0)));
        let (seen, connections, ended) = <(Rc<RefCell<Vec<_>>>, Rc<Cell<_>>, Rc<Cell<_>>)>::default();
        let (kept, counted, over) = (Rc::clone(&seen), Rc::clone(&connections), Rc::clone(&ended));
        let task = tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.set(counted.get() + 1);
                let (acts, kept, over) = (Rc::clone(&acts), Rc::clone(&kept), Rc::clone(&over));
                tokio::task::spawn_local(async move {
                    serve(stream, &acts, &kept).await;
                    over.set(over.get() + 1);
                });
            }
        });
        Self { address, seen, connections, ended, task }
    }

    async fn ok() -> Self {
        Self::of(&[Act::Answer(OK)]).await
    }

    /// Heads and bodies as they came.
    fn seen(&self) -> Vec<String> {
        self.seen.borrow().clone()
    }

    fn count(&self) -> usize {
        self.seen.borrow().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, acts: &(Vec<Act>, Cell<usize>), seen: &RefCell<Vec<String>>) {
    let mut read = Vec::new();
    loop {
        let Some(head) = until_read(&mut stream, &mut read, head_len).await else { return };
        let turn = acts.1.replace(acts.1.get() + 1);
        let act = acts.0[turn.min(acts.0.len() - 1)];
        let body = match act {
            Act::ResetAt(bytes) | Act::AnswerAt(bytes, _) => {
                until_read(&mut stream, &mut read, |read| (read.len() >= head + bytes).then_some(head + bytes)).await
            }
            _ => until_read(&mut stream, &mut read, |read| whole(read, head)).await,
        };
        let len = body.unwrap_or(read.len());
        seen.borrow_mut().push(String::from_utf8_lossy(&read[..len]).into_owned());
        read.drain(..len);
        match act {
            Act::Answer(text) | Act::AnswerAt(_, text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Act::AnswerAndClose(text) => return stream.write_all(text.as_bytes()).await.unwrap(),
            Act::Close => return,
            Act::Reset | Act::ResetAt(_) => {
                stream.set_zero_linger().unwrap();
                return;
            }
            // Until the other end has had enough.
            Act::Hang => drop(until_read(&mut stream, &mut read, |_| None).await),
        }
    }
}

async fn until_read(stream: &mut TcpStream, read: &mut Vec<u8>, len: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
    loop {
        if let Some(len) = len(read) {
            return Some(len);
        }
        if !matches!(stream.read_buf(read).await, Ok(1..)) {
            return None;
        }
    }
}

fn head_len(read: &[u8]) -> Option<usize> {
    Some(read.windows(4).position(|window| window == b"\r\n\r\n")? + 4)
}

fn whole(read: &[u8], head: usize) -> Option<usize> {
    let text = String::from_utf8_lossy(&read[..head]).to_lowercase();
    if text.contains("transfer-encoding") {
        let last = read[head..].windows(3).position(|window| window == b"0\r\n")?;
        return read[head + last..].windows(4).position(|window| window == b"\r\n\r\n").map(|at| head + last + at + 4);
    }
    let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let len = head + length.map_or(0, |length| length.parse::<usize>().unwrap());
    (read.len() >= len).then_some(len)
}

/// A proxy whose requests all go to the same candidates, in their order.
struct Proxy {
    worker: WorkerRef,
    sandbox: Sandbox,
    candidates: Vec<Rc<Candidate>>,
    terms: Rc<Terms>,
    _kept: (ConfigStore, IdentityStore, drain::Controller, Writer),
}

impl Proxy {
    /// With these `retries` in its bootstrap.
    fn new(retries: &str) -> Self {
        let mut sandbox = Sandbox::new(Path::new("none")).unwrap();
        let address = sandbox.next_address();
        let spec = PodSpec {
            name: "proxy".to_owned(),
            service_account: "proxy".to_owned(),
            bootstrap: format!("retries: {{{retries}}}\n"),
            ..PodSpec::default()
        };
        let path = sandbox.prepare(&spec, address).unwrap();
        let bootstrap = Bootstrap::load(&path, []).unwrap();
        let identity = IdentityStore::open(bootstrap.identity_sources().unwrap()).unwrap();
        let config = ConfigStore::open(&bootstrap).unwrap();
        let jwks = jwks::Client::new(None).unwrap();
        let terms = Rc::new(Terms {
            budget: Some(Arc::new(Budget::new(
                bootstrap.retries.budget_percent,
                bootstrap.retries.budget_min_per_second,
            ))),
            ..Terms::default()
        });
        let shared = Arc::new(Shared::new(bootstrap, orig_dst::OwnAddresses::new([]), readiness::Readiness::new([])));
        let log = Writer::open(&sandbox.path("access.log")).unwrap();
        let sink = log.sink(shared.metrics.access_log_dropped.clone());
        let (_, keys) = jwks::channel(&shared, jwks);
        let (controller, drain) = drain::channel();
        let worker = Rc::new(Worker::new(shared, config.subscribe(), identity.subscribe(), keys, sink, None, drain));
        Self { worker, sandbox, candidates: Vec::new(), terms, _kept: (config, identity, controller, log) }
    }

    fn to(mut self, servers: &[&Server]) -> Self {
        let candidate = |server: &&Server| self.candidate(server.address, HttpVersion::Http1, None);
        let more: Vec<_> = servers.iter().map(candidate).collect();
        self.candidates.extend(more);
        self
    }

    fn elsewhere(mut self, cluster: &str, servers: &[&Server]) -> Self {
        let remote = Arc::new(Remote {
            cluster: format!("default/default/default/{cluster}").parse().unwrap(),
            share: Share::default(),
            gateway: None,
            authority: "authority".into(),
        });
        let candidate =
            |server: &&Server| self.candidate(server.address, HttpVersion::Http1, Some(Arc::clone(&remote)));
        let more: Vec<_> = servers.iter().map(candidate).collect();
        self.candidates.extend(more);
        self
    }

    fn failing_over(mut self) -> Self {
        self.terms = Rc::new(Terms { budget: self.terms.budget.clone(), fail_over: true, ..Terms::default() });
        self
    }

    fn without_budget(mut self) -> Self {
        self.terms = Rc::new(Terms { budget: None, fail_over: self.terms.fail_over, ..Terms::default() });
        self
    }

    fn candidate(&self, address: SocketAddr, version: HttpVersion, remote: Option<Arc<Remote>>) -> Rc<Candidate> {
        let security = Security::Plaintext;
        let connect_timeout = self.worker.shared.bootstrap.timeouts.connect;
        let upstream = Upstream { address, version, security, source: None, connect_timeout, via: None };
        Candidate::new(self.worker.pool.slot(&upstream), remote)
    }

    /// A connection of a client's.
    fn client(&self) -> DuplexStream {
        let (client, io) = tokio::io::duplex(1024 * 1024);
        let (worker, candidates, terms) = (Rc::clone(&self.worker), self.candidates.clone(), Rc::clone(&self.terms));
        let facts = report::source_facts(&worker, None, &Security::Plaintext);
        let (counters, place) = (Rc::new(RequestCounters::new(facts)), Place::testing());
        let reporting = Rc::new(Reporting { prefix: Vec::new(), counters, place });
        tokio::task::spawn_local(async move {
            let own = Rc::clone(&worker);
            let service = tower::service_fn(move |mut exchange: Box<Exchange>| {
                let (worker, candidates, terms) = (Rc::clone(&own), candidates.clone(), Rc::clone(&terms));
                async move {
                    exchange.report.request(&exchange.request);
                    let Exchange { request, report, .. } = *exchange;
                    match forward(&worker, candidates.into_iter(), &terms, request, report).await {
                        Ok(response) => Ok(response),
                        Err(refused) => layers::refuse(refused).await,
                    }
                }
            });
            server::serve(&worker, io, Protocol::Http1, &reporting, service, |_| server::Onward::GoOn).await;
        });
        client
    }

    /// The status and the body of the answer to one request on a connection of its own.
    async fn ask(&self, request: &str) -> (u16, String) {
        let mut client = self.client();
        client.write_all(request.as_bytes()).await.unwrap();
        answer(&mut client).await
    }

    async fn get(&self) -> (u16, String) {
        self.ask(GET).await
    }

    /// The access log line of the request that was answered last.
    async fn line(&self) -> serde_json::Value {
        self.lines(1).await.pop().unwrap()
    }

    async fn lines(&self, count: usize) -> Vec<serde_json::Value> {
        let path = self.sandbox.path("access.log");
        let read = async || {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<_> = text.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
            (lines.len() >= count).then_some(lines)
        };
        until("access log lines", read).await.unwrap()
    }

    fn metric(&self, series: &str) -> u64 {
        let page = self.worker.shared.metrics.render();
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    fn retries(&self, reason: &str, outcome: &str) -> u64 {
        self.metric(&format!("mesh_retries_total{{reason=\"{reason}\",outcome=\"{outcome}\"}}"))
    }
}

const GET: &str = "GET / HTTP/1.1\r\nhost: service\r\nx-own: a\r\nx-own: b\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: service\r\ncontent-length: 4\r\n\r\nbody";
const PUT: &str = "PUT /thing?a=b HTTP/1.1\r\nhost: service\r\ncontent-length: 4\r\n\r\nbody";

async fn answer(client: &mut DuplexStream) -> (u16, String) {
    let mut read = Vec::new();
    loop {
        if let Some(head) = head_len(&read)
            && let Some(len) = whole(&read, head)
        {
            let text = String::from_utf8_lossy(&read).into_owned();
            return (text.split(' ').nth(1).unwrap().parse().unwrap(), text[head..len].to_owned());
        }
        let more = soon(client.read_buf(&mut read)).await.unwrap();
        assert!(more > 0, "the connection ended after {:?}", String::from_utf8_lossy(&read));
    }
}

/// An address where nobody listens, for as long as the socket is held.
fn nobody() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}
