//! HTTP/1 as bytes: nothing is corrected, hidden or reused, on either end.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
    /// A client's; an application waits for as long as it is left running.
    impatient: bool,
}

/// A request or an answer, as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) start: String,
    /// Names as written, values trimmed.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Message {
    /// An answer's status.
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// A request's target.
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The values of a field, one for each line.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let found = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that must not be there twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} more than once in {self:?}");
        all.first().copied()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = soon("connect", TcpStream::connect(address)).await.unwrap();
        Self { stream, read: Vec::new(), impatient: true }
    }

    /// The application's end.
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new(), impatient: false }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("send", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// As [`Wire::send`]; false when the other end has had enough.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        soon("send", self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// Forgets what has been read beyond the last message, and says how many bytes that was.
    pub(crate) fn buffered(&mut self) -> u64 {
        std::mem::take(&mut self.read).len() as u64
    }

    /// Ends our direction only.
    pub(crate) async fn end(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Everything up to the end of the connection; a reset is an end.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    /// Exactly this many bytes.
    pub(crate) async fn exactly(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.read.len() < len {
            if !self.more().await {
                return None;
            }
        }
        let rest = self.read.split_off(len);
        Some(std::mem::replace(&mut self.read, rest))
    }

    /// The next request with its body; `None` when the connection ends before.
    pub(crate) async fn request(&mut self) -> Option<Message> {
        let head = self.head().await?;
        self.body(head, false).await
    }

    /// The next request's head; the body is left where it is.
    pub(crate) async fn head(&mut self) -> Option<Message> {
        let head = self.until(b"\r\n\r\n").await?;
        let text = String::from_utf8_lossy(&head);
        let mut lines = text.trim_end().split("\r\n");
        let start = lines.next()?.to_owned();
        Some(Message { start, fields: lines.map(field).collect(), ..Message::default() })
    }

    /// The next answer with its body; fails the test when there is none.
    pub(crate) async fn answer(&mut self) -> Message {
        let head = self.head().await.expect("an answer");
        let status = head.status();
        if status < 200 || status == 204 || status == 304 {
            return head;
        }
        self.body(head, true).await.expect("a whole answer")
    }

    /// Sends and reads the answer.
    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request).await;
        self.answer().await
    }

    async fn body(&mut self, mut message: Message, to_close: bool) -> Option<Message> {
        if message.field("transfer-encoding").is_some() {
            loop {
                let line = self.line().await?;
                let size = usize::from_str_radix(line.split(';').next()?, 16).ok()?;
                if size == 0 {
                    break;
                }
                message.body.extend(self.exactly(size).await?);
                assert_eq!(self.exactly(2).await?, b"\r\n");
            }
            loop {
                match self.line().await?.as_str() {
                    "" => return Some(message),
                    line => message.trailers.push(field(line)),
                }
            }
        }
        match message.field("content-length") {
            Some(length) => message.body = self.exactly(length.parse().ok()?).await?,
            None if to_close => message.body = self.rest().await,
            None => {}
        }
        Some(message)
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let line = self.until(b"\r\n").await?;
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    async fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.read.windows(mark.len()).position(|window| window == mark) {
                let rest = self.read.split_off(at + mark.len());
                return Some(std::mem::replace(&mut self.read, rest));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn more(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.read);
        let result = if self.impatient { soon("more bytes, or the end", reading).await } else { reading.await };
        matches!(result, Ok(len) if len > 0)
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}
