//! Streams of bytes: WebSocket, and TCP that says nothing of itself.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Client, PATIENCE};
use crate::echo::{TAG, pattern};
use crate::setting::SERVICE;
use crate::tally::{Asked, Bad, Good};

/// Between two pieces in one tunnel.
const PACE: Duration = Duration::from_millis(50);

/// The most bytes of a piece: more than anything on the way buffers for one direction in one go.
const LARGEST: u64 = 200_000;

/// The most pieces in one tunnel.
const PIECES: u64 = 40;

impl Client {
    pub(super) async fn websocket(self) {
        while !self.over.get() {
            self.tunnel("tunnel").await;
        }
    }

    pub(super) async fn tcp(self) {
        while !self.over.get() {
            self.tunnel("TCP").await;
        }
    }

    async fn tunnel(&self, kind: &'static str) {
        let number = self.tally.begin();
        let tag = format!("{}-{number}-", self.number);
        let began = Instant::now();
        // Nobody may send a tunnel's bytes again, but a tunnel that has not begun may begin elsewhere.
        let asked = Asked { kind, name: &tag, repeatable: true, kept: false, sometimes: false, began };
        let result = match kind {
            "TCP" => self.through(TcpStream::connect(self.setting.virtual_address()).await.unwrap(), &tag).await,
            _ => match timeout(PATIENCE, self.switched(&tag)).await {
                Ok(Ok(stream)) => self.through(stream, &tag).await,
                Ok(Err(bad)) => Err(bad),
                Err(_) => Err(Bad::Late),
            },
        };
        self.tally.ended(&asked, result);
        tokio::time::sleep(PACE).await;
    }

    /// A connection that has gone on as a WebSocket's.
    async fn switched(&self, tag: &str) -> Result<TcpStream, Bad> {
        let mut stream = self.connect().await;
        let head = format!(
            "GET / HTTP/1.1\r\nhost: {SERVICE}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{TAG}: {tag}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.map_err(|error| Bad::Lost(error.to_string()))?;
        let mut answer = Vec::new();
        // A byte at a time: what comes behind the head is the tunnel's.
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.map_err(|error| Bad::Lost(error.to_string()))?);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        match answer.get(9..12).and_then(|status| status.parse().ok()) {
            Some(101) if answer.contains(&format!("{TAG}: {tag}\r\n")) => Ok(stream),
            Some(101) | None => Err(Bad::Wrong(answer)),
            Some(status) => Err(Bad::Status(status, answer.lines().last().unwrap_or_default().to_owned())),
        }
    }

    /// Sends pieces and reads them back; one of three leaves in the middle of one.
    async fn through(&self, mut stream: TcpStream, tag: &str) -> Result<Good, Bad> {
        let pieces = self.roll(PIECES) + 1;
        let leaves = self.roll(3) == 0;
        for piece in 0..pieces {
            let len = if self.roll(8) == 0 { self.roll(LARGEST) } else { self.roll(512) } + 1;
            let sent = pattern(format!("{tag}{piece}-").as_bytes(), usize::try_from(len).unwrap());
            let (mut read, mut write) = stream.split();
            if leaves && piece + 1 == pieces {
                let half = sent.len() / 2;
                write.write_all(&sent[..half]).await.map_err(|error| Bad::Broken(error.to_string()))?;
                return Ok(Good::Cut);
            }
            let mut received = vec![0; sent.len()];
            let both = async { tokio::try_join!(write.write_all(&sent), read.read_exact(&mut received)) };
            match timeout(PATIENCE, both).await {
                Err(_) => return Err(Bad::Late),
                Ok(Err(error)) => return Err(Bad::Broken(error.to_string())),
                Ok(Ok(_)) if received != sent => return Err(Bad::Wrong(format!("piece {piece} of {len} bytes"))),
                Ok(Ok(_)) => self.tally.tunnelled.set(self.tally.tunnelled.get() + len),
            }
            tokio::time::sleep(PACE).await;
        }
        let mut rest = Vec::new();
        let end = async {
            stream.shutdown().await?;
            stream.read_to_end(&mut rest).await
        };
        match timeout(PATIENCE, end).await {
            Err(_) => Err(Bad::Late),
            Ok(Err(error)) => Err(Bad::Broken(format!("at its end: {error}"))),
            Ok(Ok(0)) => Ok(Good::Answered),
            Ok(Ok(more)) => Err(Bad::Wrong(format!("{more} bytes more than were sent"))),
        }
    }
}
