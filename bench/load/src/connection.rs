//! A kept connection, opened again after it failed.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::arguments::Arguments;

/// Without a byte of an answer; far longer than any answer takes, and shorter than anyone waits for a benchmark.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes; a head with a small body is one read.
const BUFFER: usize = 16 * 1024;

pub(crate) struct Connection {
    address: SocketAddr,
    request: Vec<u8>,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// What a head says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes, with the empty line.
    len: usize,
    /// Bytes of the body behind it.
    body: usize,
    /// Nothing comes after the body.
    last: bool,
}

impl Connection {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", arguments.path, arguments.host);
        Self { address: arguments.address, request: request.into_bytes(), stream: None, buffer: vec![0; BUFFER] }
    }

    /// One request, to the end of its answer: the status.
    pub(crate) fn ask(&mut self) -> Result<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => open(self.address)?,
        };
        stream.write_all(&self.request)?;
        let head = self.answer(&mut stream)?;
        if !head.last {
            self.stream = Some(stream);
        }
        Ok(head.status)
    }

    fn answer(&mut self, stream: &mut TcpStream) -> Result<Head> {
        let mut filled = 0;
        let head = loop {
            let room = self
                .buffer
                .get_mut(filled..)
                .filter(|room| !room.is_empty())
                .ok_or_else(|| wrong("a head too long"))?;
            filled += some(stream.read(room)?)?;
            if let Some(head) = self.buffer.get(..filled).map(head).transpose()?.flatten() {
                break head;
            }
        };
        let mut left = (head.len + head.body).checked_sub(filled).ok_or_else(|| wrong("more than was asked for"))?;
        while left > 0 {
            let room = left.min(BUFFER);
            left -= some(stream.read(self.buffer.get_mut(..room).unwrap_or_default())?)?;
        }
        Ok(head)
    }
}

fn open(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// None as long as the empty line has not come.
fn head(bytes: &[u8]) -> Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok());
    let mut head = Head { status: status.ok_or_else(|| wrong("no status"))?, len: end + 4, body: 0, last: false };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.body = value.parse().map_err(|_| wrong("no length"))?;
        } else if name.eq_ignore_ascii_case("connection") {
            head.last = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            // The applications of the benchmarks know how much they have to say.
            return Err(wrong("a body of unknown length"));
        }
    }
    Ok(Some(head))
}

fn some(read: usize) -> Result<usize> {
    if read == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let text = b"HTTP/1.1 204 No Content\r\nContent-length: 3\r\nCONNECTION: close\r\n\r\nabc";
        assert_eq!(head(&text[..40]).unwrap(), None);
        assert_eq!(head(text).unwrap(), Some(Head { status: 204, len: text.len() - 3, body: 3, last: true }));
        assert!(head(b"nonsense\r\n\r\n").is_err());
        assert!(head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn a_connection_is_kept_and_opened_again_when_it_failed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            for answers in [2, 1] {
                let (mut stream, _) = listener.accept().unwrap();
                for _ in 0..answers {
                    assert_ne!(stream.read(&mut [0; 1024]).unwrap(), 0);
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
                }
            }
        });
        let words = ["--address".to_owned(), address.to_string()];
        let mut connection = Connection::new(&Arguments::from_words(words.into_iter()).unwrap());
        assert_eq!((connection.ask().unwrap(), connection.ask().unwrap()), (200, 200));
        connection.ask().unwrap_err();
        assert_eq!(connection.ask().unwrap(), 200);
        server.join().unwrap();
    }
}
