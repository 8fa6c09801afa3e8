//! Requests that may not be sent twice, on connections of every kind, and what became of each.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshgate::http::server::LocalExecutor;
use meshgate::sandbox::until;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::backend::HOST;
use super::soon;

/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(4);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Clients of a sidecar that POST until they are told to stop: over HTTP/1.1 and HTTP/2 connections that they keep, and over a new one for
/// each request.
pub(crate) struct Steady {
    asked: Rc<Asked>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Asked {
    is_over: Cell<bool>,
    answered: Cell<usize>,
    failed: RefCell<Vec<String>>,
    /// Connections of those that keep theirs.
    kept: Cell<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Http1,
    Http2,
    New,
}

enum Open {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Steady {
    /// Two clients of each kind.
    pub(crate) fn on(outbound: SocketAddr) -> Self {
        let asked = Rc::<Asked>::default();
        let ways = [Way::Http1, Way::Http2, Way::New, Way::Http1, Way::Http2, Way::New];
        let client = |way| {
            let asked = Rc::clone(&asked);
            tokio::task::spawn_local(async move { keep_asking(outbound, way, &asked).await })
        };
        let clients = ways.into_iter().map(client).collect();
        Self { asked, clients }
    }

    /// Waits until so many more requests have been answered.
    pub(crate) async fn more(&self, requests: usize) {
        let wanted = self.asked.answered.get() + requests;
        until("answers", async || (self.asked.answered.get() >= wanted).then_some(())).await.unwrap();
    }

    /// Connections that were opened to be kept: four, as long as none of them ends.
    pub(crate) fn kept(&self) -> usize {
        self.asked.kept.get()
    }

    /// Ends it; how many were answered. Fails the test when any was not.
    pub(crate) async fn all_answered(self) -> usize {
        self.asked.is_over.set(true);
        for client in self.clients {
            client.await.unwrap();
        }
        let (answered, failed) = (self.asked.answered.get(), self.asked.failed.take());
        assert!(failed.is_empty(), "{} failed, {answered} were answered: {failed:?}", failed.len());
        answered
    }
}

async fn keep_asking(outbound: SocketAddr, way: Way, asked: &Asked) {
    let mut kept = None;
    while !asked.is_over.get() {
        match soon("an answer", ask(outbound, way, &mut kept, asked)).await {
            Ok(200) => asked.answered.set(asked.answered.get() + 1),
            Ok(status) => asked.failed.borrow_mut().push(format!("{way:?}: {status}")),
            Err(error) => {
                asked.failed.borrow_mut().push(format!("{way:?}: {error}"));
                kept = None;
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn ask(outbound: SocketAddr, way: Way, kept: &mut Option<Open>, asked: &Asked) -> Result<u16, Failure> {
    let body = || Full::from("once");
    let usable = match kept {
        Some(Open::Http1(sender)) => sender.ready().await.is_ok(),
        Some(Open::Http2(sender)) => sender.ready().await.is_ok(),
        None => false,
    };
    if !usable || matches!(way, Way::New) {
        *kept = Some(open(outbound, way).await?);
        if !matches!(way, Way::New) {
            asked.kept.set(asked.kept.get() + 1);
        }
    }
    let answer = match kept {
        Some(Open::Http1(sender)) => sender.send_request(Request::post("/").header("host", HOST).body(body())?).await?,
        Some(Open::Http2(sender)) => {
            sender.send_request(Request::post(format!("http://{HOST}/")).body(body())?).await?
        }
        None => return Err("no connection".into()),
    };
    let status = answer.status().as_u16();
    answer.into_body().collect().await?;
    Ok(status)
}

async fn open(outbound: SocketAddr, way: Way) -> Result<Open, Failure> {
    let stream = TokioIo::new(TcpStream::connect(outbound).await?);
    Ok(match way {
        Way::Http1 | Way::New => {
            let (sender, connection) = http1::handshake(stream).await?;
            tokio::task::spawn_local(connection);
            Open::Http1(sender)
        }
        Way::Http2 => {
            let (sender, connection) = http2::handshake(LocalExecutor, stream).await?;
            tokio::task::spawn_local(connection);
            Open::Http2(sender)
        }
    })
}
