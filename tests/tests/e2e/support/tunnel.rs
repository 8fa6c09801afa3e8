//! A client of HBONE that says what it likes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use meshgate::tunnel::{Open, TunnelStream};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::client::{handshake, tls};
use super::pki::Credentials;
use super::soon;

/// An outer connection.
pub(crate) struct Outer {
    sender: SendRequest<Bytes>,
    driving: JoinHandle<Result<(), h2::Error>>,
}

impl Outer {
    /// As ztunnel makes it, with this certificate.
    pub(crate) async fn connect(address: SocketAddr, own: &Credentials) -> Self {
        Self::with(address, tls(Some(own), "h2")).await.unwrap()
    }

    pub(crate) async fn with(address: SocketAddr, config: ClientConfig) -> io::Result<Self> {
        let stream = soon("the outer handshake", handshake(address, &Arc::new(config))).await?;
        let (sender, mut connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
        let mut pings = connection.ping_pong().unwrap();
        let driving = tokio::task::spawn_local(connection);
        // Only who has found our certificate good, and us welcome, answers.
        soon("an answer to PING", pings.ping(h2::Ping::opaque())).await.map_err(io::Error::other)?;
        Ok(Self { sender, driving })
    }

    /// Asks for a tunnel.
    pub(crate) async fn open(&self, authority: &str) -> Result<TunnelStream, StatusCode> {
        self.open_with(authority, HeaderMap::new()).await
    }

    /// Asks for a tunnel and says more besides.
    pub(crate) async fn open_with(&self, authority: &str, headers: HeaderMap) -> Result<TunnelStream, StatusCode> {
        let mut request = Request::builder().method(Method::CONNECT).uri(authority).version(Version::HTTP_2);
        *request.headers_mut().unwrap() = headers;
        let (answer, send) = self.send(request.body(()).unwrap(), false).await.unwrap();
        let answer = soon("an answer to CONNECT", answer).await.unwrap();
        match answer.status() {
            StatusCode::OK => Ok(TunnelStream::new(send, answer.into_body(), Open::default().hold())),
            status => Err(status),
        }
    }

    /// What any other request is answered.
    pub(crate) async fn status(&self, request: Request<()>) -> StatusCode {
        let (answer, _) = self.send(request, true).await.unwrap();
        soon("an answer", answer).await.unwrap().status()
    }

    /// Sends a request.
    pub(crate) async fn send(
        &self,
        request: Request<()>,
        end: bool,
    ) -> Result<(h2::client::ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        soon("a stream", self.sender.clone().ready()).await?.send_request(request, end)
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.driving.is_finished()
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

/// One request in a tunnel of its own, and everything that comes back.
pub(crate) async fn ask(tunnel: &mut TunnelStream, request: &str) -> String {
    tunnel.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", tunnel.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}
