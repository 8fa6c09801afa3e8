//! The product between two pipes, HTTP/2 on this side of it and HTTP/1 on the other: its guards, the library as it is set up in the
//! data path, its header rules, its bodies.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use meshgate::http::body::{Received, RequestBody};
use meshgate::http::client::as_http1;
use meshgate::http::guard::http1;
use meshgate::http::guard::http2::{Excess, Guarded, Limits, Role};
use meshgate::http::headers::{self, ClientCert};
use meshgate::http::server::{LocalExecutor, STREAM_WINDOW, connection_window};
use meshgate_policy::normalize::Level;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use super::call::Call;
use super::wire::{Client, Ended};
use super::{NUMBER, SERVED};
use crate::dice::Dice;
use crate::reader::{Kind, STRICT};

/// Of a pipe: more than all that is in it at once.
const ROOM: usize = 1 << 20;

/// Whoever says nothing for so long says nothing any more: all of this is in memory.
const PATIENCE: Duration = Duration::from_secs(20);

/// As by default (`limits.concurrentStreams`).
const STREAMS: u32 = 100;

/// What is counted is not what this is about: only the framing of messages.
const LIMITS: Limits = Limits { control_frames: u32::MAX / 32, resets: u32::MAX / 32, header_block_bytes: 64 * 1024 };

/// A request that came through.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) method: Vec<u8>,
    /// As it was judged.
    pub(super) target: Vec<u8>,
    pub(super) host: Vec<u8>,
    /// What went upstream, byte by byte.
    pub(super) sent: RefCell<Vec<u8>>,
    /// Upstream got all of it, and its answer came.
    pub(super) answered: Cell<bool>,
    /// Its head was.
    pub(super) refused: bool,
}

/// What became of one request: what its client saw, unless the connection ended, and what came through.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ended: Option<Ended>,
    pub(super) record: Option<Rc<Record>>,
}

#[derive(Default)]
struct Kept {
    records: RefCell<BTreeMap<usize, Rc<Record>>>,
    applications: RefCell<Vec<JoinHandle<()>>>,
}

impl Kept {
    fn outcome(&self, number: usize, ended: Option<Ended>) -> Outcome {
        Outcome { ended, record: self.records.borrow().get(&number).cloned() }
    }
}

/// Sends these over one connection, some at a time. Where some end it, each of them is sent again over one of its own.
pub(super) async fn requests(level: Level, dice: &mut Dice, calls: &[Call], together: usize) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while outcomes.len() < calls.len() {
        let rest = &calls[outcomes.len()..];
        let (done, kept) = connection(level, dice, rest, together).await;
        outcomes.extend(done.iter().enumerate().map(|(number, ended)| kept.outcome(number, Some(*ended))));
        for call in rest[done.len()..].iter().take(together) {
            let (done, kept) = connection(level, dice, std::slice::from_ref(call), 1).await;
            outcomes.push(kept.outcome(0, done.first().copied()));
        }
    }
    outcomes
}

/// One connection: what became of its streams, as far as it lasted.
async fn connection(level: Level, dice: &mut Dice, calls: &[Call], together: usize) -> (Vec<Ended>, Rc<Kept>) {
    let kept = Rc::<Kept>::default();
    let (near, far) = duplex(ROOM);
    let keeps = Rc::clone(&kept);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let kept = Rc::clone(&keeps);
        async move { Ok::<_, Infallible>(serve(level, request, &kept).await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
    builder
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(64 * 1024)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(connection_window(STREAMS))
        .max_local_error_reset_streams(1 << 20)
        .max_pending_accept_reset_streams(STREAMS as usize);
    let io = TokioIo::new(Guarded::new(far, Role::Server, &LIMITS, |_: Excess| {}));
    let server = builder.serve_connection(io, service);
    let client = async {
        let (mut client, mut done) = (Client::new(near).await, Vec::new());
        for some in calls.chunks(together) {
            let Some(ended) = client.ask(dice, some, done.len()).await else { break };
            done.extend(ended);
        }
        done
    };
    let (_, done) = tokio::join!(server, client);
    let applications = kept.applications.take();
    for application in applications {
        application.await.unwrap();
    }
    (done, kept)
}

async fn serve(level: Level, mut request: Request<Incoming>, kept: &Kept) -> Response<Full<Bytes>> {
    let number = request.headers_mut().remove(NUMBER).unwrap();
    let number = number.to_str().unwrap().parse().unwrap();
    let keep = |record| {
        let record = Rc::new(record);
        kept.records.borrow_mut().insert(number, Rc::clone(&record));
        record
    };
    let answer = |status, body: &'static str| Response::builder().status(status).body(Full::new(body.into())).unwrap();
    if headers::sanitise_request(&mut request, level, ClientCert::Remove).is_err() {
        keep(Record { refused: true, ..Record::default() });
        return answer(StatusCode::BAD_REQUEST, "");
    }
    let record = keep(Record {
        method: request.method().as_str().as_bytes().to_vec(),
        target: request.uri().path_and_query().map_or("", |target| target.as_str()).as_bytes().to_vec(),
        host: headers::host(&request).unwrap_or_default().as_bytes().to_vec(),
        ..Record::default()
    });
    forward(request, &record, kept).await;
    if record.answered.get() { answer(StatusCode::OK, SERVED) } else { answer(StatusCode::BAD_GATEWAY, "") }
}

async fn forward(request: Request<Incoming>, record: &Rc<Record>, kept: &Kept) {
    let mut request = request.map(|body| RequestBody::new(Received::new(body, Version::HTTP_2, None), None).0);
    as_http1(&mut request);
    headers::prepare_http1(&mut request);
    let (near, far) = duplex(ROOM);
    // In a task of its own: what went out is kept also of a request that is dropped on its way.
    kept.applications.borrow_mut().push(spawn_local(application(far, Rc::clone(record))));
    let signals = Rc::<http1::Signals>::default();
    let io = TokioIo::new(http1::Guarded::answers(near, Rc::clone(&signals)));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let client = async {
        signals.ask(request.method() == http::Method::HEAD);
        let answer = sender.try_send_request(request).await;
        drop(sender);
        record.answered.set(answer.is_ok());
    };
    let _ = tokio::join!(client, connection);
}

/// Answers what by the letter is a whole request, and keeps all there is.
async fn application(mut far: DuplexStream, record: Rc<Record>) {
    let (mut sent, mut answered) = (Vec::new(), false);
    while let Ok(Ok(1..)) = timeout(PATIENCE, far.read_buf(&mut sent)).await {
        if !answered && STRICT.read(Kind::Request, &sent, 0).is_ok() {
            answered = true;
            let _ = far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    }
    record.sent.replace(sent);
}
