//! One open call of `FetchX509SVID`: gRPC over HTTP/2 on a unix socket.
//!
//! A message is five bytes (not compressed, its length) and the message itself (gRPC's `PROTOCOL-HTTP2.md`), which needs no framework.

use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, client};
use http::header::{CONTENT_TYPE, HeaderMap, TE};
use http::{Method, Request, StatusCode};
use prost::Message;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::Failure;
use super::proto::X509SvidResponse;

/// The host says nothing on a unix socket.
const METHOD: &str = "http://localhost/SpiffeWorkloadAPI/FetchX509SVID";

/// The standard demands it of every call (SPIFFE Workload Endpoint, 6.1): who was tricked into sending a request to the socket can't send it.
const SECURITY_HEADER: &str = "workload.spiffe.io";

/// A flag for compression and the length of the message.
const PREFIX: usize = 5;

/// Bytes of one answer: gRPC's own default, thousands of certificates.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// An open call. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Call {
    body: RecvStream,
    received: BytesMut,
    connection: JoinHandle<()>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Call {
    /// Connects and asks; waits for the head of the answer.
    pub(super) async fn begin(endpoint: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(endpoint).await?;
        let (sender, connection) = client::handshake(stream).await?;
        // Its error comes out of the call as well.
        let connection = tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        let asked = ask(sender).await;
        match asked {
            Ok(body) => Ok(Self { body, received: BytesMut::new(), connection }),
            Err(error) => {
                connection.abort();
                Err(error)
            }
        }
    }

    /// The next answer. Returns when there is one, however long that takes.
    pub(super) async fn next(&mut self) -> Result<X509SvidResponse, Failure> {
        loop {
            if let Some(message) = self.message()? {
                return X509SvidResponse::decode(message)
                    .map_err(|error| Failure::Answer(format!("no message: {error}")));
            }
            match self.body.data().await {
                Some(chunk) => {
                    let chunk = chunk?;
                    self.body.flow_control().release_capacity(chunk.len())?;
                    self.received.extend_from_slice(&chunk);
                }
                None => {
                    let trailers = self.body.trailers().await?.unwrap_or_default();
                    return Err(status(&trailers).unwrap_or_else(|| Failure::Answer("an end".to_owned())));
                }
            }
        }
    }

    /// A message, if a whole one is there.
    fn message(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some((prefix, rest)) = self.received.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if compressed != 0 {
            return Err(Failure::Answer("a compressed message".to_owned()));
        }
        if length > ANSWER_MAX {
            return Err(Failure::Answer(format!("{length} bytes, at most {ANSWER_MAX} are read")));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.received.advance(PREFIX);
        Ok(Some(self.received.split_to(length).freeze()))
    }
}

async fn ask(sender: client::SendRequest<Bytes>) -> Result<RecvStream, Failure> {
    let mut sender = sender.ready().await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(METHOD)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(SECURITY_HEADER, "true")
        .body(())
        .map_err(|error| Failure::Answer(error.to_string()))?;
    let (response, mut body) = sender.send_request(request, false)?;
    // The request has no fields: a message of no bytes.
    body.send_data(Bytes::from_static(&[0; PREFIX]), true)?;
    let response = response.await?;
    if response.status() != StatusCode::OK {
        return Err(Failure::Answer(format!("HTTP status {}", response.status())));
    }
    // A refusal has no body, and its status stands in the head.
    if let Some(refused) = status(response.headers()) {
        return Err(refused);
    }
    Ok(response.into_body())
}

/// What gRPC says of the end; `None` where it says nothing yet.
fn status(headers: &HeaderMap) -> Option<Failure> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let message = text("grpc-message").unwrap_or_default();
    Some(Failure::Status { code: text("grpc-status")?, message })
}
