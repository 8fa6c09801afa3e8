//! What a verdict is taken on, borrowed from the connection and the request.
//!
//! Two structs, because they are known at different times: [`ConnectionFacts`] once a connection, [`RequestView`] once
//! a request. Everything in them has been checked by the caller: the peer by the TLS handshake, the path by
//! [`normalize`](crate::normalize), the host for being one.

use std::net::{IpAddr, SocketAddr};

use meshgate_identity::SpiffeId;

use crate::token::Token;

/// What holds for a connection as long as it lives.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts<'a> {
    /// The verified identity; `None` on plaintext and on TLS without a client certificate.
    pub peer: Option<&'a SpiffeId>,
    /// The other end of the TCP connection: never a forwarding header, never the PROXY protocol.
    pub source_ip: IpAddr,
    /// Where the client's own address comes from.
    pub remote_ip: RemoteIp,
    /// The address the connection was made to, before redirection.
    pub destination: SocketAddr,
    /// The port of the service that the called address belongs to, where there is one.
    pub service_port: Option<u16>,
    /// Whether a service declares the port to carry no requests. Where none does, [`Protocol::Tcp`] is no more than what
    /// the caller's bytes look like.
    pub opaque_port: bool,
    /// The server name of the TLS hello, as sent.
    pub sni: Option<&'a str>,
    /// How the bytes are read.
    pub protocol: Protocol,
}

/// The client's address, which a proxy in between may report (`remote.ip`, `remoteIpBlocks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteIp {
    /// The same for the whole connection.
    Fixed(IpAddr),
    /// Each request names its own: [`RequestView::remote_ip`]. On [`Protocol::Tcp`], where there are no requests,
    /// this means the source address.
    PerRequest,
}

/// How the proxy reads the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Request by request.
    Http,
    /// As bytes: fields that need HTTP have nothing to look at.
    Tcp,
}

/// One HTTP request, as it will be forwarded.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Case-sensitive, as sent.
    pub method: &'a str,
    /// Normalized, without the query.
    pub path: &'a str,
    /// Normalized, with the query.
    pub path_and_query: &'a str,
    /// `:authority` or the one Host line, with the port if it has one; compared without regard to case.
    pub host: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// After the proxy removed what the caller was not entitled to set.
    pub headers: &'a http::HeaderMap,
    /// What its verified token says; `None` without one.
    pub token: Option<&'a Token>,
    /// The client's address; looked at only with [`RemoteIp::PerRequest`].
    pub remote_ip: IpAddr,
}
