//! Asking a running proxy's admin endpoint: what the commands that do so have in common.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Bytes of an answer: an explanation of ten thousand policies is some megabytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Characters of an answer that is no proxy's, where it is shown.
const MAX_LINE: usize = 200;

/// Whatever went wrong before there was an answer.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The address in `address:port`, with or without `http://`.
pub(super) fn address(written: &str) -> Option<SocketAddr> {
    let bare = written.strip_prefix("http://").unwrap_or(written).trim_end_matches('/');
    bare.to_socket_addrs().ok().and_then(|mut all| all.next())
}

/// Why [`address`] finds none, and what was expected instead.
pub(super) fn no_address(written: &str) -> String {
    let bare = written.strip_prefix("http://").unwrap_or(written).trim_end_matches('/');
    match bare.to_socket_addrs() {
        Err(error)
            if bare.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) =>
        {
            format!("--admin: `{written}` cannot be looked up: {error}")
        }
        _ => format!("--admin: `{written}` is no address: expected such as 127.0.0.1:15000 or http://localhost:15000"),
    }
}

/// Nobody can connect to "every address".
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The beginning of what was answered: who is no proxy of ours answers with a whole page.
pub(super) fn first_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().take(MAX_LINE).collect()
}

/// Sends a request, on a [`crate::runtime::local`], and waits for the whole answer.
pub(super) async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<(StatusCode, String), BoxError> {
    let response = begin(address, request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Sends a request and waits for the head of its answer.
async fn begin(address: SocketAddr, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, BoxError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    request.headers_mut().insert(header::HOST, address.to_string().parse()?);
    Ok(sender.send_request(request).await?)
}

/// Server-sent events (HTML standard, section 9.2), each of one line of data, as the admin endpoint sends them.
#[derive(Debug)]
pub(super) struct Events {
    body: Incoming,
    read: Vec<u8>,
}

impl Events {
    /// Follows those of `path`.
    ///
    /// # Errors
    /// There is nobody, or what there is has no events; what it says instead.
    pub(super) async fn follow(address: SocketAddr, path: &str) -> Result<Self, BoxError> {
        let response = begin(address, Request::get(path).body(Full::new(Bytes::new()))?).await?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
            return Err(format!("it answered {status}: {}", first_line(&String::from_utf8_lossy(&body))).into());
        }
        Ok(Self { body: response.into_body(), read: Vec::new() })
    }

    /// The next event's data. Cancel-safe.
    ///
    /// # Errors
    /// There are no more of them, or one is larger than an answer may be.
    pub(super) async fn next(&mut self) -> Result<String, BoxError> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\n\n") {
                let event: Vec<_> = self.read.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event).into_owned();
                return Ok(event.trim_end().strip_prefix("data: ").unwrap_or_default().to_owned());
            }
            if self.read.len() > MAX_ANSWER {
                return Err("it sends an event that does not end".into());
            }
            match self.body.frame().await {
                Some(frame) => self.read.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data)),
                None => return Err("it has ended".into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_page_a_line_is_shown() {
        assert_eq!(first_line("\n<html>\n<p>no</p>\n"), "<html>");
        assert_eq!(first_line(&"ä".repeat(1000)).chars().count(), MAX_LINE);
    }

    #[test]
    fn every_address_is_asked_on_loopback() {
        for (listens, asked) in
            [("0.0.0.0:15021", "127.0.0.1:15021"), ("[::]:1", "[::1]:1"), ("10.0.0.1:2", "10.0.0.1:2")]
        {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
