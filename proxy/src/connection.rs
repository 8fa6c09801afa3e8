//! The nouns of the main path: an accepted connection, who is at its other end, what it speaks.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use meshgate_identity::SpiffeId;

use crate::open::Place;
use crate::sessions::Session;

/// Which way a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Toward the local application.
    Inbound,
    /// From the local application.
    Outbound,
    /// From other clusters, through a gateway.
    Gateway,
}

impl Direction {
    /// As in logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Gateway => "gateway",
        }
    }
}

/// An accepted connection, before anything was read from it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Who connected; v4-mapped addresses are IPv4.
    pub remote: SocketAddr,
    /// Where it was going before redirection; `None` where only the Host can tell.
    pub destination: Option<SocketAddr>,
    /// What others may know of it while it is open.
    pub place: Arc<Place>,
}

/// The authenticated other end of a connection; all `None` on plaintext.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The SPIFFE ID of the verified certificate.
    pub id: Option<SpiffeId>,
    /// The server name the client asked for in its TLS hello, lower case.
    pub sni: Option<String>,
    /// What the application is told about its certificate (`x-forwarded-client-cert`); `None` unless the bootstrap says so.
    pub client_cert: Option<HeaderValue>,
    /// What its identity rests on.
    pub session: Option<Rc<Session>>,
}

/// What is spoken on a connection, once TLS is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2, by ALPN or by prior knowledge.
    Http2,
    /// Anything else: bytes.
    Tcp,
}

impl Protocol {
    /// As in logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 | Self::Http2 => "http",
            Self::Tcp => "tcp",
        }
    }

    /// As people name it, with its version.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "http/2",
            Self::Tcp => "tcp",
        }
    }

    /// What the policy engine needs to know.
    pub fn for_policy(self) -> meshgate_policy::Protocol {
        match self {
            Self::Http1 | Self::Http2 => meshgate_policy::Protocol::Http,
            Self::Tcp => meshgate_policy::Protocol::Tcp,
        }
    }
}
