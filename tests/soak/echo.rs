//! The applications behind the services: they say back what they were asked, over HTTP/1, HTTP/2, WebSocket and plain TCP. They
//! can be killed.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use meshgate::http::server::LocalExecutor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// Tells which request an answer belongs to.
pub(crate) const TAG: &str = "x-soak";

/// Set in the environment to `answer` or `bytes`, the application now and then gives what belongs to another request, so that
/// it can be seen that the soak finds it; `lose` never answers.
pub(crate) const BREAK: &str = "SOAK_BREAK";

pub(crate) struct Echo {
    address: SocketAddr,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, running: Some(Running::over(listener)) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What ends the listener and every connection, wherever it is; they have ended when it returns.
    pub(crate) fn killer(&mut self) -> impl Future<Output = ()> + use<> {
        let running = self.running.take();
        async move {
            if let Some(Running { stop, task }) = running {
                let _ = stop.send(());
                task.await.unwrap();
            }
        }
    }

    /// Listens again where it did before.
    pub(crate) fn restart(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.running = Some(Running::over(socket.listen(1024).unwrap()));
    }
}

impl Running {
    fn over(listener: TcpListener) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::task::spawn_local(serve(listener, stopped)) }
    }
}

async fn serve(listener: TcpListener, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                connections.spawn_local(connection(stream));
            }
            Some(_) = connections.join_next() => {}
            _ = &mut stopped => break,
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(stream: TcpStream) {
    let mut first = [0; 3];
    // A request's first bytes come together; nobody else speaks to this application.
    if stream.peek(&mut first).await.is_err() {
        return;
    }
    // How it ends is the client's affair.
    match &first {
        b"PRI" => {
            let service = hyper::service::service_fn(|request| answer(request, None));
            let _ = http2::Builder::new(LocalExecutor).serve_connection(TokioIo::new(stream), service).await;
        }
        b"GET" | b"POS" => {
            let switch = Switch::default();
            let service = hyper::service::service_fn(|request| answer(request, Some(Rc::clone(&switch))));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            let switched = switch.borrow_mut().take();
            if let Some(on) = switched
                && let Ok(upgraded) = on.await
            {
                say_back(TokioIo::new(upgraded)).await;
            }
        }
        _ => say_back(stream).await,
    }
}

/// Byte by byte what comes, until no more does.
async fn say_back(stream: impl AsyncRead + AsyncWrite) {
    let (mut read, mut write) = tokio::io::split(stream);
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

/// Where an HTTP/1 connection goes on as something else.
type Switch = Rc<RefCell<Option<OnUpgrade>>>;

/// A POST's own body, or as many bytes as a GET asks for, made of its tag.
async fn answer(mut request: Request<Incoming>, switch: Option<Switch>) -> Result<Response<Full<Bytes>>, Infallible> {
    let tag = request.headers().get(TAG).cloned();
    if let Some(switch) = switch
        && request.headers().get(header::UPGRADE).is_some_and(|value| value == "websocket")
    {
        switch.replace(Some(hyper::upgrade::on(&mut request)));
        let mut response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        response = response.header(header::CONNECTION, "upgrade").header(header::UPGRADE, "websocket");
        if let Some(tag) = tag {
            response = response.header(TAG, tag);
        }
        return Ok(response.body(Full::default()).unwrap());
    }
    let asked = request.uri().query().and_then(|query| query.strip_prefix("bytes=")?.parse().ok());
    let body = match (asked, &tag) {
        (Some(len), Some(tag)) => pattern(tag.as_bytes(), len),
        _ => match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            // It was cut; nobody reads the answer.
            Err(_) => Bytes::new(),
        },
    };
    let (tag, body) = broken(tag, body).await;
    let mut response = Response::new(Full::new(body));
    if let Some(tag) = tag {
        response.headers_mut().insert(TAG, tag);
    }
    Ok(response)
}

/// What [`BREAK`] makes of one answer in a few hundred.
async fn broken(tag: Option<http::HeaderValue>, body: Bytes) -> (Option<http::HeaderValue>, Bytes) {
    let Ok(how) = std::env::var(BREAK) else { return (tag, body) };
    if !tag.as_ref().is_some_and(|tag| tag.as_bytes().ends_with(b"77-")) {
        return (tag, body);
    }
    match how.as_str() {
        "answer" => (Some(http::HeaderValue::from_static("another")), body),
        "bytes" => (tag, body.iter().rev().copied().collect()),
        "lose" => std::future::pending().await,
        other => panic!("{BREAK}={other}: there are answer, bytes and lose"),
    }
}

/// `len` bytes that only this tag has.
pub(crate) fn pattern(tag: &[u8], len: usize) -> Bytes {
    tag.iter().copied().cycle().take(len).collect()
}
