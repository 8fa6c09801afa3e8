//! The product between two pipes: its guard, the library as it is set up in the data path, its header rules, its bodies.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use meshgate::http::body::{Received, RequestBody};
use meshgate::http::guard::http1::{Guarded, Signals};
use meshgate::http::headers::{self, ClientCert};
use meshgate_policy::normalize::Level;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::reader::{Kind, STRICT};

/// Of a pipe: more than a stream has.
const ROOM: usize = 1 << 20;

/// A request that was let through, or refused for what its head says, with its connection going on behind it.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) method: Vec<u8>,
    /// As it was judged.
    pub(crate) target: Vec<u8>,
    pub(crate) host: Vec<u8>,
    /// What went upstream, byte by byte.
    pub(crate) sent: Vec<u8>,
    /// Upstream got all of it, and answered.
    pub(crate) answered: bool,
    pub(crate) refused: bool,
}

impl fmt::Debug for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, target, host, sent, answered, refused } = self;
        let texts = [method, target, host, sent].map(|bytes| bytes.escape_ascii().to_string());
        write!(f, "{texts:?}, answered: {answered}, refused: {refused}")
    }
}

/// What became of a stream of requests.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) passed: Vec<Passed>,
    /// Its answers, byte by byte.
    pub(crate) answers: Vec<u8>,
}

/// Runs something on one thread, to its end.
pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

/// Gives these segments to the product as requests of one connection.
pub(crate) async fn requests(level: Level, segments: &[&[u8]]) -> Outcome {
    let (near, far) = duplex(ROOM);
    let passed = Rc::<RefCell<Vec<Passed>>>::default();
    let kept = Rc::clone(&passed);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let kept = Rc::clone(&kept);
        async move { Ok::<_, Infallible>(serve(level, request, &kept).await) }
    });
    let io = TokioIo::new(Guarded::requests(far, Rc::default()));
    // As in the data path, but for the client's end, which must not end what is in flight.
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.auto_date_header(false).header_read_timeout(None).max_header_size(64 * 1024).half_close(true);
    let server = builder.serve_connection(io, service);
    let (_, answers) = tokio::join!(server, talk(near, segments));
    Outcome { passed: passed.take(), answers }
}

async fn talk(mut near: DuplexStream, segments: &[&[u8]]) -> Vec<u8> {
    for segment in segments {
        if near.write_all(segment).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let _ = near.shutdown().await;
    let mut answers = Vec::new();
    let _ = near.read_to_end(&mut answers).await;
    answers
}

async fn serve(level: Level, mut request: Request<Incoming>, kept: &RefCell<Vec<Passed>>) -> Response<Full<Bytes>> {
    let answer = |status| Response::builder().status(status).body(Full::new(Bytes::new())).unwrap();
    if headers::sanitise_request(&mut request, level, ClientCert::Remove).is_err() {
        // The product reads what is left of a body, as far as it has patience.
        let _ = request.into_body().collect().await;
        kept.borrow_mut().push(Passed { refused: true, ..Passed::default() });
        return answer(StatusCode::BAD_REQUEST);
    }
    let host = headers::host(&request).unwrap_or_default().as_bytes().to_vec();
    let method = request.method().as_str().as_bytes().to_vec();
    let target = request.uri().path_and_query().map_or("", |target| target.as_str()).as_bytes().to_vec();
    let (sent, answered) = forward(request).await;
    kept.borrow_mut().push(Passed { method, target, host, sent, answered, refused: false });
    answer(if answered { StatusCode::OK } else { StatusCode::BAD_GATEWAY })
}

/// What goes upstream, and whether an answer comes.
async fn forward(request: Request<Incoming>) -> (Vec<u8>, bool) {
    let mut request = request.map(|body| RequestBody::new(Received::new(body, Version::HTTP_11, None), None).0);
    *request.version_mut() = Version::HTTP_11;
    headers::prepare_http1(&mut request);
    let (near, far) = duplex(ROOM);
    let signals = Rc::<Signals>::default();
    let io = TokioIo::new(Guarded::answers(near, Rc::clone(&signals)));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let client = async {
        signals.ask(request.method() == http::Method::HEAD);
        let answer = sender.try_send_request(request).await;
        drop(sender);
        answer.is_ok()
    };
    let (answered, _, sent) = tokio::join!(client, connection, record(far));
    (sent, answered)
}

/// An application that answers what by the letter is a whole request, and keeps all there is.
async fn record(mut far: DuplexStream) -> Vec<u8> {
    let (mut sent, mut answered) = (Vec::new(), false);
    while far.read_buf(&mut sent).await.is_ok_and(|count| count > 0) {
        if !answered && STRICT.read(Kind::Request, &sent, 0).is_ok() {
            answered = true;
            let _ = far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    }
    sent
}

/// Gives these segments to the product as the answer to a request: its status, its body, and whether that ended as it should.
pub(crate) async fn answer(to_head: bool, segments: &[&[u8]]) -> Option<(u16, Vec<u8>, bool)> {
    let (near, mut far) = duplex(ROOM);
    let signals = Rc::<Signals>::default();
    let io = TokioIo::new(Guarded::answers(near, Rc::clone(&signals)));
    let mut builder = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) = builder.max_header_size(64 * 1024).handshake(io).await.unwrap();
    let client = async {
        signals.ask(to_head);
        let request = Request::builder().method(if to_head { "HEAD" } else { "GET" }).uri("/").header("host", "a");
        let answer = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await;
        let Ok(mut answer) = answer else { return None };
        headers::sanitise_response(&mut answer);
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        let mut is_whole = true;
        while let Some(frame) = answer.body_mut().frame().await {
            match frame {
                Ok(frame) => body.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Err(_) => is_whole = false,
            }
        }
        drop(sender);
        Some((status, body, is_whole))
    };
    let application = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if far.read_buf(&mut head).await.is_ok_and(|count| count == 0) {
                return;
            }
        }
        for segment in segments {
            if far.write_all(segment).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _ = far.shutdown().await;
        let mut rest = Vec::new();
        let _ = far.read_to_end(&mut rest).await;
    };
    let (answer, _, ()) = tokio::join!(client, connection, application);
    answer
}
