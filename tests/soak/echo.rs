//! The application behind the service: says back what it was asked, over HTTP/1 and HTTP/2. It can be killed.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshgate::http::server::LocalExecutor;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Tells which request an answer belongs to.
pub(crate) const TAG: &str = "x-soak";

pub(crate) struct Echo {
    address: SocketAddr,
    task: Option<JoinHandle<()>>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, task: Some(tokio::task::spawn_local(serve(listener))) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the listener and every connection, wherever it is.
    pub(crate) fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Listens again where it did before.
    pub(crate) fn restart(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.task = Some(tokio::task::spawn_local(serve(socket.listen(1024).unwrap())));
    }
}

/// Until aborted; the connections go with it.
async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                connections.spawn_local(connection(stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream) {
    let mut first = [0; 3];
    // A request's first bytes come together; nobody else speaks to this application.
    if stream.peek(&mut first).await.is_err() {
        return;
    }
    let service = hyper::service::service_fn(answer);
    // How it ends is the client's affair.
    if &first == b"PRI" {
        let _ = http2::Builder::new(LocalExecutor).serve_connection(TokioIo::new(stream), service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}

/// A POST's own body, or as many bytes as a GET asks for, made of its tag.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let tag = request.headers().get(TAG).cloned();
    let asked = request.uri().query().and_then(|query| query.strip_prefix("bytes=")?.parse().ok());
    let body = match (asked, &tag) {
        (Some(len), Some(tag)) => pattern(tag.as_bytes(), len),
        _ => match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            // It was cut; nobody reads the answer.
            Err(_) => Bytes::new(),
        },
    };
    let mut response = Response::new(Full::new(body));
    if let Some(tag) = tag {
        response.headers_mut().insert(TAG, tag);
    }
    Ok(response)
}

/// `len` bytes that only this tag has.
pub(crate) fn pattern(tag: &[u8], len: usize) -> Bytes {
    tag.iter().copied().cycle().take(len).collect()
}
