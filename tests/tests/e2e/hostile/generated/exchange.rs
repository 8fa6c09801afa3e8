//! Both ends of the wire: a caller that writes any bytes, and an application that keeps those it got.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::calls::Call;
use crate::support::app::{App, Local, full, ok};
use crate::support::soon;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DENIED: &[u8] = b"RBAC: access denied";

/// Frame types and flags of RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What the caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// By the application.
    Served,
    /// By a policy.
    Denied,
    /// Otherwise: no such request.
    Refused,
}

/// What is judged of a request.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) method: Vec<u8>,
    /// With the query.
    pub(super) target: Vec<u8>,
    pub(super) host: Vec<u8>,
    /// Lines of `x-role`, of `x-group`, of `cookie`.
    pub(super) roles: Vec<Vec<u8>>,
    pub(super) groups: Vec<Vec<u8>>,
    pub(super) cookies: Vec<Vec<u8>>,
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, target, host, roles, groups, cookies } = self;
        write!(f, "{} {} to {}", method.escape_ascii(), target.escape_ascii(), host.escape_ascii())?;
        for line in [roles, groups, cookies].into_iter().flatten().take(12) {
            write!(f, ", {:?}", line.escape_ascii().to_string())?;
        }
        Ok(())
    }
}

/// An application for HTTP/1.1, read as bytes, and HTTP/2.
pub(super) struct Recorder {
    app: App,
    received: Rc<RefCell<Vec<Received>>>,
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let received = Rc::<RefCell<Vec<Received>>>::default();
        let kept = Rc::clone(&received);
        let app = App::tcp(async move |stream: TcpStream| {
            let mut first = [0; 3];
            while stream.peek(&mut first).await.is_ok_and(|count| (1..3).contains(&count)) {
                tokio::task::yield_now().await;
            }
            if &first == b"PRI" { serve_http2(stream, &kept).await } else { serve_http1(stream, &kept).await }
        })
        .await;
        Self { app, received }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.app.address()
    }

    pub(super) fn take(&self) -> Vec<Received> {
        self.received.take()
    }
}

async fn serve_http1(mut stream: TcpStream, kept: &RefCell<Vec<Received>>) {
    let mut read = Vec::new();
    while let Some(head) = head(&mut stream, &mut read).await {
        kept.borrow_mut().push(parsed(&head));
        if stream.write_all(ok("ok").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn serve_http2(stream: TcpStream, kept: &Rc<RefCell<Vec<Received>>>) {
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let lines = |name: &str| -> Vec<Vec<u8>> {
            let all = HeaderMap::get_all(request.headers(), name);
            all.iter().map(|value| value.as_bytes().to_vec()).collect()
        };
        kept.borrow_mut().push(Received {
            method: request.method().as_str().into(),
            target: request.uri().path_and_query().map_or("", |target| target.as_str()).into(),
            host: request.uri().authority().map_or("", |authority| authority.as_str()).into(),
            roles: lines("x-role"),
            groups: lines("x-group"),
            cookies: lines("cookie"),
        });
        async { Ok::<_, Infallible>(Response::new(full("ok"))) }
    });
    // How a client's connection ends is the client's affair.
    let _ = http2::Builder::new(Local).serve_connection(TokioIo::new(stream), service).await;
}

/// The next head, without its empty line; no request of the test has a body.
async fn head(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = read.split_off(at + 4);
            let mut head = std::mem::replace(read, rest);
            head.truncate(at);
            return Some(head);
        }
        if !matches!(stream.read_buf(read).await, Ok(count) if count > 0) {
            return None;
        }
    }
}

/// Taken apart at the bytes that must be there, and nowhere else.
fn parsed(head: &[u8]) -> Received {
    let text = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines: Vec<&[u8]> = text.collect();
    let mut start = lines[0].splitn(2, |&byte| byte == b' ');
    let method = start.next().unwrap().to_vec();
    let target = start.next().unwrap().strip_suffix(b" HTTP/1.1").unwrap().to_vec();
    let named = |name: &str| -> Vec<Vec<u8>> {
        let fields = lines[1..].iter().map(|line| line.split_at(line.iter().position(|&byte| byte == b':').unwrap()));
        let found = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value[1..].trim_ascii().to_vec()).collect()
    };
    let host = named("host").concat();
    Received { method, target, host, roles: named("x-role"), groups: named("x-group"), cookies: named("cookie") }
}

/// A caller that keeps its connection as long as it is kept.
pub(super) struct Caller {
    address: SocketAddr,
    http2: bool,
    open: Option<Open>,
}

struct Open {
    stream: TcpStream,
    read: Vec<u8>,
    /// The last of HTTP/2.
    last: u32,
}

impl Caller {
    pub(super) fn new(address: SocketAddr, http2: bool) -> Self {
        Self { address, http2, open: None }
    }

    pub(super) async fn call(&mut self, call: &Call) -> Outcome {
        loop {
            let is_new = self.open.is_none();
            let mut open = match self.open.take() {
                Some(open) => open,
                None => Open::new(self.address, self.http2).await,
            };
            let outcome =
                soon("an answer", async { if self.http2 { open.http2(call).await } else { open.http1(call).await } })
                    .await;
            match outcome {
                Some((outcome, stays)) => {
                    self.open = stays.then_some(open);
                    return outcome;
                }
                // Closed without an answer: an old connection may have ended by itself.
                None if is_new => return Outcome::Refused,
                None => {}
            }
        }
    }
}

impl Open {
    async fn new(address: SocketAddr, http2: bool) -> Self {
        let mut stream = soon("connect", TcpStream::connect(address)).await.unwrap();
        if http2 {
            let room = frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
            stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &room].concat()).await.unwrap();
        }
        Self { stream, read: Vec::new(), last: 0 }
    }

    /// The outcome, and whether the connection can be used again.
    async fn http1(&mut self, call: &Call) -> Option<(Outcome, bool)> {
        let mut bytes = [&call.method, b" ".as_slice(), &call.target, b" HTTP/1.1\r\n"].concat();
        let number = ("x-request-id", call.number.clone().into_bytes());
        let hosts = call.hosts.iter().map(|host| ("host", host.clone()));
        for (name, value) in std::iter::once(number).chain(hosts).chain(call.fields.iter().cloned()) {
            bytes.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
        }
        bytes.extend(b"\r\n");
        self.stream.write_all(&bytes).await.ok()?;
        let head = head(&mut self.stream, &mut self.read).await?;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        let length: usize = length.unwrap_or(0);
        while self.read.len() < length {
            self.stream.read_buf(&mut self.read).await.ok().filter(|count| *count > 0)?;
        }
        let body: Vec<u8> = self.read.drain(..length).collect();
        let outcome = outcome(&body);
        assert_eq!(head.starts_with("http/1.1 403"), outcome == Outcome::Denied, "{head}");
        Some((outcome, outcome != Outcome::Refused))
    }

    async fn http2(&mut self, call: &Call) -> Option<(Outcome, bool)> {
        self.last += if self.last == 0 { 1 } else { 2 };
        let mut block = Vec::new();
        for (name, value) in [
            (":method", &call.method),
            (":scheme", &b"http".to_vec()),
            (":authority", &call.hosts[0]),
            (":path", &call.target),
            ("x-request-id", &call.number.clone().into_bytes()),
        ] {
            literal(name, value, &mut block);
        }
        call.hosts[1..].iter().for_each(|host| literal("host", host, &mut block));
        call.fields.iter().for_each(|(name, value)| literal(name, value, &mut block));
        let headers = frame(HEADERS, END_STREAM | END_HEADERS, self.last, &block);
        self.stream.write_all(&headers).await.ok()?;
        let mut body = Vec::new();
        loop {
            let (kind, flags, stream, payload) = self.frame().await?;
            match kind {
                SETTINGS if flags & ACK == 0 => {
                    self.stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await.ok()?;
                }
                GOAWAY => return None,
                RST_STREAM if stream == self.last => return Some((Outcome::Refused, true)),
                DATA if stream == self.last => body.extend(payload),
                _ => {}
            }
            if stream == self.last && (kind == DATA || kind == HEADERS) && flags & END_STREAM != 0 {
                return Some((outcome(&body), true));
            }
        }
    }

    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut length = 9;
        while self.read.len() < length || length == 9 {
            if let Some(&[high, middle, low]) = self.read.get(..3) {
                length = 9 + u32::from_be_bytes([0, high, middle, low]) as usize;
                if self.read.len() >= length {
                    break;
                }
            }
            self.stream.read_buf(&mut self.read).await.ok().filter(|count| *count > 0)?;
        }
        let frame: Vec<u8> = self.read.drain(..length).collect();
        let stream = u32::from_be_bytes(frame[5..9].try_into().unwrap());
        Some((frame[3], frame[4], stream, frame[9..].to_vec()))
    }
}

fn outcome(body: &[u8]) -> Outcome {
    match body {
        b"ok" => Outcome::Served,
        body if body == DENIED => Outcome::Denied,
        _ => Outcome::Refused,
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field as HPACK's literal without indexing, nothing compressed (RFC 7541, sections 5.1 and 6.2.2).
fn literal(name: &str, value: &[u8], block: &mut Vec<u8>) {
    block.push(0);
    for text in [name.as_bytes(), value] {
        match u8::try_from(text.len()) {
            Ok(length @ ..127) => block.push(length),
            _ => {
                block.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    block.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                block.push(u8::try_from(rest).unwrap());
            }
        }
        block.extend(text);
    }
}
