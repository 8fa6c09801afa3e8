//! Terminates mutual TLS: the handshake with its deadline, and who is at the other end.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use meshgate_identity::{Identity, PeerRole, SpiffeId, alpn, client_cert_element, peer_identity};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::connection::Peer;
use crate::error::{ErrorKind, ProxyError};
use crate::stream::Stream;
use crate::worker::Worker;

/// A terminated connection.
pub struct Accepted {
    /// Decrypted bytes.
    pub stream: TlsStream<Stream>,
    /// Who is at the other end: always an identity, because the handshake demands one.
    pub peer: Peer,
    /// What the client said it would speak.
    pub negotiated: alpn::Negotiated,
}

impl Accepted {
    /// From here on the peer is judged again whenever something has changed that it was judged by; `identity` is what it was
    /// accepted under.
    pub fn enter(&mut self, worker: &Worker, identity: &Identity) {
        let certificates = self.stream.get_ref().1.peer_certificates().unwrap_or_default();
        self.peer.session = Some(worker.sessions.enter(worker, identity, certificates, PeerRole::Caller));
    }

    /// Works out what the application of `own` is told about the peer's certificate.
    ///
    /// # Errors
    /// The certificate cannot be put into a header, which a verified one always can.
    pub fn tell_certificate(&mut self, own: &SpiffeId, whole: bool) -> Result<(), ProxyError> {
        let leaf = self
            .stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first)
            .ok_or_else(|| refused("no client certificate"))?;
        let element = client_cert_element(leaf, own, whole);
        let element = element.map_err(|error| refused("client certificate").caused_by(error))?;
        let value = HeaderValue::try_from(element);
        self.peer.client_cert = Some(value.map_err(|error| refused("client certificate").caused_by(error))?);
        Ok(())
    }
}

/// Performs the handshake as the server.
///
/// # Errors
/// The handshake failed or took too long; the peer was told by a TLS alert where the protocol has one for it.
pub async fn accept(stream: TcpStream, identity: &Identity, deadline: Duration) -> Result<Accepted, ProxyError> {
    let acceptor = TlsAcceptor::from(Arc::clone(&identity.server_config()));
    let stream = match timeout(deadline, acceptor.accept(Stream::new(stream))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(refused(format!("handshake failed: {}", super::reason(&error)))),
        Err(_) => return Err(refused("handshake took too long")),
    };
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates().and_then(<[_]>::first).ok_or_else(|| refused("no client certificate"))?;
    let id = peer_identity(leaf).map_err(|error| refused("client certificate").caused_by(error))?;
    let sni = session.server_name().map(str::to_ascii_lowercase);
    let peer = Peer { id: Some(id), sni, client_cert: None, session: None };
    let negotiated = alpn::protocol(session.alpn_protocol());
    Ok(Accepted { stream, peer, negotiated })
}

fn refused(detail: impl Into<Cow<'static, str>>) -> ProxyError {
    ProxyError::new(ErrorKind::DownstreamTls, detail)
}
