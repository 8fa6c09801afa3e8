//! A client for the sandbox: one request on a connection of its own, and what came of it.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
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
    match tokio::time::timeout(PATIENCE, exchange(address, host, method, path)).await {
        Ok(answer) => answer,
        Err(_) => Answer::Broken(format!("no answer within {PATIENCE:?}")),
    }
}

async fn exchange(address: SocketAddr, host: &str, method: Method, path: &str) -> Answer {
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Answer::Refused,
        Err(error) => return Answer::Broken(error.to_string()),
    };
    match send(stream, host, method, path).await {
        Ok(answer) => answer,
        Err(error) if is_close(&*error) => Answer::Closed,
        Err(error) => Answer::Broken(error.to_string()),
    }
}

async fn send(stream: TcpStream, host: &str, method: Method, path: &str) -> Result<Answer, BoxError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    let request = Request::builder().method(method).uri(path).header("host", host).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer::Http { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
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
