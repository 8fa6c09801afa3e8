//! A client for the sandbox: a request, most often on a connection of its own, and what came of it.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::sandbox::PATIENCE;

/// What a client saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP answer.
    Http {
        /// The status.
        status: u16,
        /// The headers.
        headers: HeaderMap,
        /// The body, as text.
        body: String,
    },
    /// The connection was accepted and closed without a byte.
    Closed,
    /// Nobody listens.
    Refused,
    /// Something else.
    Broken(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { status: 200, .. } => f.write_str("200"),
            Self::Http { status, body, .. } => write!(f, "{status} {}", body.trim_end()),
            Self::Closed => f.write_str("closed"),
            Self::Refused => f.write_str("connection refused"),
            Self::Broken(error) => f.write_str(error),
        }
    }
}

/// Sends one request to `address`, whatever `host` it is for.
pub async fn request(address: SocketAddr, host: &str, method: Method, path: &str) -> Answer {
    request_with(address, host, method, path, &[]).await
}

/// As [`request`], with more header fields.
pub async fn request_with(
    address: SocketAddr,
    host: &str,
    method: Method,
    path: &str,
    fields: &[(&'static str, &str)],
) -> Answer {
    within(async {
        match Caller::connect(address).await {
            Ok(mut caller) => caller.exchange(host, method, path, fields).await,
            Err(answer) => answer,
        }
    })
    .await
}

/// A client that keeps its connection.
#[derive(Debug)]
pub struct Caller(http1::SendRequest<Empty<Bytes>>);

impl Caller {
    /// Connects to `address`.
    ///
    /// # Errors
    /// What a client would see.
    pub async fn connect(address: SocketAddr) -> Result<Self, Answer> {
        let stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Err(Answer::Refused),
            Err(error) => return Err(Answer::Broken(error.to_string())),
        };
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| Answer::Broken(error.to_string()))?;
        tokio::task::spawn_local(connection);
        Ok(Self(sender))
    }

    /// Sends one request, and waits until the connection can take another.
    pub async fn request(&mut self, host: &str, method: Method, path: &str) -> Answer {
        within(self.exchange(host, method, path, &[])).await
    }

    async fn exchange(&mut self, host: &str, method: Method, path: &str, fields: &[(&'static str, &str)]) -> Answer {
        match self.send(host, method, path, fields).await {
            Ok(answer) => answer,
            Err(error) if is_close(&*error) => Answer::Closed,
            Err(error) => Answer::Broken(error.to_string()),
        }
    }

    async fn send(
        &mut self,
        host: &str,
        method: Method,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<Answer, BoxError> {
        let mut request = Request::builder().method(method).uri(path).header("host", host);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.0.ready().await?;
        let response = self.0.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer::Http { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

async fn within(answer: impl Future<Output = Answer>) -> Answer {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Answer::Broken(format!("no answer within {PATIENCE:?}")),
    }
}

/// What comes back for bytes that are no HTTP, up to the end of the connection.
pub async fn send_bytes(address: SocketAddr, bytes: &[u8]) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(bytes).await?;
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await?;
        Ok::<_, std::io::Error>(read)
    };
    within(async {
        match exchange.await {
            Ok(read) if read.is_empty() => Answer::Closed,
            Ok(read) => Answer::Broken(String::from_utf8_lossy(&read).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Answer::Refused,
            Err(error) if is_close(&error) => Answer::Closed,
            Err(error) => Answer::Broken(error.to_string()),
        }
    })
    .await
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A server that closes on bytes it has not read resets the connection; to a client that is the same.
fn is_close(error: &(dyn std::error::Error + 'static)) -> bool {
    let closed = |error: &hyper::Error| error.is_incomplete_message() || error.is_canceled() || error.is_closed();
    let reset = |error: &std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe)
    };
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref().is_some_and(closed) || error.downcast_ref().is_some_and(reset) {
            return true;
        }
        next = error.source();
    }
    false
}
