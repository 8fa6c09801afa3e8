//! Asking a running proxy's admin endpoint: what the commands that do so have in common.

use std::net::{SocketAddr, ToSocketAddrs};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Bytes of an answer: an explanation of ten thousand policies is some megabytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

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

/// Sends a request, on a [`crate::runtime::local`], and waits for the whole answer.
pub(super) async fn send(
    address: SocketAddr,
    mut request: Request<Full<Bytes>>,
) -> Result<(StatusCode, String), BoxError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    request.headers_mut().insert(header::HOST, address.to_string().parse()?);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
