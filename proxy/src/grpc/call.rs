//! One call that we make on a connection of its own: one message out, one or several back.

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, client};
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use super::{OK, Status, head, next, status};

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The socket, or the connection.
    #[error("it cannot be reached: {0}")]
    Connect(#[from] std::io::Error),
    /// HTTP/2 beneath the call.
    #[error("the connection: {0}")]
    Http2(#[from] h2::Error),
    /// gRPC's status, and what the other side says to it.
    #[error("it answers with status {code}: {message:?}")]
    Status {
        /// As in gRPC's list.
        code: String,
        /// The other side's words.
        message: String,
    },
    /// Not what was asked for.
    #[error("it answers with {0}")]
    Answer(String),
}

impl From<Status> for CallError {
    fn from(Status { code, message }: Status) -> Self {
        Self::Status { code, message }
    }
}

/// An open call. Ends, with its connection, when it is dropped.
#[derive(Debug)]
pub struct Call {
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
    /// Asks over `stream`, which is connected, with what its address and other headers are; waits for the head of the answer. Needs a local
    /// runtime.
    ///
    /// # Errors
    /// The call is refused, or there is nobody who speaks HTTP/2.
    pub async fn begin<S>(stream: S, request: Request<()>, message: Bytes) -> Result<Self, CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, connection) = client::handshake(stream).await?;
        // Its error comes out of the call as well.
        let connection = tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        match ask(sender, request, message).await {
            Ok(body) => Ok(Self { body, received: BytesMut::new(), connection }),
            Err(error) => {
                connection.abort();
                Err(error)
            }
        }
    }

    /// The next answer, of at most `max` bytes. Returns when there is one, however long that takes.
    ///
    /// # Errors
    /// The call has ended, well or not, or what comes is no answer.
    pub async fn next<M: Message + Default>(&mut self, max: usize) -> Result<M, CallError> {
        loop {
            let message = next(&mut self.received, max);
            let message = message.map_err(|error| CallError::Answer(format!("a message that is none: {error}")))?;
            if let Some(message) = message {
                return M::decode(message).map_err(|error| CallError::Answer(format!("no message: {error}")));
            }
            match self.body.data().await {
                Some(chunk) => {
                    let chunk = chunk?;
                    self.body.flow_control().release_capacity(chunk.len())?;
                    self.received.extend_from_slice(&chunk);
                }
                None => {
                    return Err(self.end().await?.map_or_else(|| CallError::Answer("an end".to_owned()), Into::into));
                }
            }
        }
    }

    /// The end of a call that has had its one answer.
    ///
    /// # Errors
    /// It did not end well.
    pub async fn finish(mut self) -> Result<(), CallError> {
        while let Some(chunk) = self.body.data().await {
            if !chunk?.is_empty() {
                return Err(CallError::Answer("more than one message".to_owned()));
            }
        }
        if !self.received.is_empty() {
            return Err(CallError::Answer("more than one message".to_owned()));
        }
        match self.end().await? {
            Some(end) if end.code == OK => Ok(()),
            Some(end) => Err(end.into()),
            None => Err(CallError::Answer("no status".to_owned())),
        }
    }

    async fn end(&mut self) -> Result<Option<Status>, CallError> {
        let trailers: HeaderMap = self.body.trailers().await?.unwrap_or_default();
        Ok(status(&trailers))
    }
}

async fn ask(
    sender: client::SendRequest<Bytes>,
    request: Request<()>,
    message: Bytes,
) -> Result<RecvStream, CallError> {
    let mut sender = sender.ready().await?;
    let (response, mut body) = sender.send_request(head(request), false)?;
    body.send_data(message, true)?;
    let response = response.await?;
    if response.status() != StatusCode::OK {
        return Err(CallError::Answer(format!("HTTP status {}", response.status())));
    }
    // A refusal has no body, and its status stands in the head.
    if let Some(refused) = status(response.headers()) {
        return Err(refused.into());
    }
    Ok(response.into_body())
}
