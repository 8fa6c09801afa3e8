//! One call, as bytes, and what a client sees of the answer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use meshgate::http::server::LocalExecutor;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::people::{HTTP1, HTTP2, NOBODY, People, TCP};
use crate::support::soon;

/// The header in which both sides tell the path that was forwarded.
pub(crate) const SEEN_PATH: &str = "x-seen-path";
/// What is said on a connection that is not HTTP. Ends as a head does, so that nobody waits for more.
const BYTES: &[u8] = b"\x01not http\r\n\r\n";
/// How long a refused connection may stay open without a word before it counts as hanging.
const SILENCE: Duration = Duration::from_secs(10);

/// Who calls, from where, and what is said.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) who: &'static str,
    /// The last part of the address in 127.0.0.0/24 that is called from.
    pub(crate) source: u8,
    pub(crate) sni: Option<&'static str>,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// These bytes.
    Http1(Vec<u8>),
    /// `GET` and such; headers in order.
    Http2 { method: &'static str, authority: String, path: String, headers: Vec<(&'static str, &'static str)> },
    /// Bytes that are no HTTP.
    Tcp,
}

/// What a client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The application was reached, with this path.
    Allowed(String),
    /// The application was reached, as bytes.
    Echoed,
    /// The answer that a policy gives.
    Denied,
    /// The same, to gRPC.
    GrpcDenied,
    /// Another status.
    Status(u16),
    /// The connection ended without an answer; which is how bytes, and handshakes, are refused.
    Closed,
    /// Something else.
    Other(String),
}

impl Call {
    /// A request by its first lines, without the empty one at the end.
    pub(crate) fn http1(who: &'static str, head: &str) -> Self {
        Self { who, source: 1, sni: None, what: What::Http1(format!("{head}\r\n\r\n").into_bytes()) }
    }

    /// A GET of a path.
    pub(crate) fn get(who: &'static str, path: &str) -> Self {
        Self::http1(who, &format!("GET {path} HTTP/1.1\r\nhost: backend"))
    }

    /// Bytes.
    pub(crate) fn tcp(who: &'static str) -> Self {
        Self { who, source: 1, sni: None, what: What::Tcp }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.what, What::Tcp)
    }

    /// Makes the call.
    pub(crate) async fn make(&self, people: &People, server: SocketAddr) -> Outcome {
        let exchange = async {
            match tokio::time::timeout(SILENCE, self.exchange(people, server)).await {
                Ok(Ok(outcome)) => outcome,
                // A reset, an alert, an end in the middle of a handshake: nobody answered.
                Ok(Err(_)) => Outcome::Closed,
                Err(_) => Outcome::Other(format!("nothing within {SILENCE:?}")),
            }
        };
        soon("the end of a call", exchange).await
    }

    async fn exchange(&self, people: &People, server: SocketAddr) -> Result<Outcome, Failure> {
        let socket = TcpSocket::new_v4()?;
        // Many calls to one address from one address: the port is chosen when both are known.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, self.source)), 0))?;
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        if self.who == NOBODY {
            return self.converse(stream).await;
        }
        let alpn = match self.what {
            What::Http1(_) => HTTP1,
            What::Http2 { .. } => HTTP2,
            What::Tcp => TCP,
        };
        let name = match self.sni {
            Some(name) => ServerName::try_from(name)?,
            None => ServerName::from(server.ip()),
        };
        self.converse(handshake(people, alpn, self.who, name, stream).await?).await
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin + 'static>(&self, mut stream: S) -> Result<Outcome, Failure> {
        match &self.what {
            What::Tcp => {
                stream.write_all(BYTES).await?;
                let mut echo = vec![0; BYTES.len()];
                stream.read_exact(&mut echo).await?;
                Ok(if echo == BYTES { Outcome::Echoed } else { Outcome::Other(format!("{echo:?}")) })
            }
            What::Http1(bytes) => {
                stream.write_all(bytes).await?;
                http1_answer(stream, bytes.starts_with(b"HEAD ")).await
            }
            What::Http2 { method, authority, path, headers } => {
                let uri = format!("https://{authority}{path}");
                let mut request = Request::builder().method(*method).uri(uri);
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                http2_answer(stream, request.body(Empty::new())?).await
            }
        }
    }
}

type Failure = Box<dyn std::error::Error>;

async fn handshake(
    people: &People,
    alpn: &'static str,
    who: &'static str,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
    Ok(TlsConnector::from(people.config(alpn, who)).connect(name, stream).await?)
}

async fn http1_answer(mut stream: impl AsyncRead + Unpin, bodyless: bool) -> Result<Outcome, Failure> {
    let mut read = Vec::new();
    let head = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break String::from_utf8_lossy(&read[..end]).into_owned();
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(Outcome::Closed);
        }
    };
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let field = |name: &str| {
        let mut fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = field("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
    let start = head.len() + 4;
    while !bodyless && read.len() < start + length && stream.read_buf(&mut read).await? > 0 {}
    let body = String::from_utf8_lossy(&read[start..]).into_owned();
    let denied = bodyless || body == "RBAC: access denied";
    Ok(outcome(status.unwrap_or_default(), field(SEEN_PATH), field("grpc-status").as_deref(), denied))
}

async fn http2_answer<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Outcome, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut sender, connection) = http2::handshake(LocalExecutor, TokioIo::new(stream)).await?;
    let connection = tokio::task::spawn_local(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    let field = |name: &str| Some(parts.headers.get(name)?.to_str().ok()?.to_owned());
    Ok(outcome(parts.status.as_u16(), field(SEEN_PATH), field("grpc-status").as_deref(), body == "RBAC: access denied"))
}

fn outcome(status: u16, path: Option<String>, grpc: Option<&str>, denied: bool) -> Outcome {
    match (status, path, grpc) {
        (200, Some(path), _) => Outcome::Allowed(path),
        (200, None, Some("7")) => Outcome::GrpcDenied,
        (403, None, _) if denied => Outcome::Denied,
        (status, _, _) => Outcome::Status(status),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Allowed(path) => write!(f, "allowed {path}"),
            Outcome::Echoed => f.write_str("allowed"),
            Outcome::Denied => f.write_str("403"),
            Outcome::GrpcDenied => f.write_str("grpc 7"),
            Outcome::Status(403) => f.write_str("403, but by no policy"),
            Outcome::Status(status) => write!(f, "{status}"),
            Outcome::Closed => f.write_str("closed"),
            Outcome::Other(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { who, source, sni, what } = self;
        let who = if who.is_empty() { "nobody" } else { who };
        write!(f, "{who} from 127.0.0.{source}")?;
        if let Some(sni) = sni {
            write!(f, " for {sni}")?;
        }
        match what {
            What::Http1(bytes) => write!(f, ": {:?}", String::from_utf8_lossy(bytes)),
            What::Http2 { method, authority, path, headers } => {
                write!(f, ": HTTP/2 {method} {authority} {path} {headers:?}")
            }
            What::Tcp => f.write_str(": bytes"),
        }
    }
}
