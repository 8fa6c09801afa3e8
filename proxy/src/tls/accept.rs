//! Terminates mutual TLS: the handshake with its deadline, and who is at the other end.

use std::borrow::Cow;
use std::time::Duration;

use meshgate_identity::{Identity, PeerRole, alpn};
use rustls::server::Acceptor;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
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
    /// What the client said it would speak, in what was agreed on or in what it offered (see [`alpn::offered`]).
    pub negotiated: alpn::Negotiated,
}

impl Accepted {
    /// From here on the peer is judged again whenever something has changed that it was judged by; `identity` is what it was
    /// accepted under.
    ///
    /// # Errors
    /// What it was accepted under has been replaced since, and nobody vouches for it any more.
    pub fn enter(&mut self, worker: &Worker, identity: &Identity) -> Result<(), ProxyError> {
        let certificates = self.stream.get_ref().1.peer_certificates().unwrap_or_default();
        let session = worker.sessions.enter(worker, identity, certificates, PeerRole::Caller);
        // Nobody tells a connection that begins now of what is over already.
        if let Some(why) = session.over() {
            return Err(refused(why));
        }
        self.peer.session = Some(session);
        Ok(())
    }
}

/// A handshake that came to nothing.
#[derive(Debug)]
pub struct Failed {
    /// As the counter of handshakes has it.
    pub reason: &'static str,
    /// As the log has it.
    pub error: ProxyError,
}

impl From<Failed> for ProxyError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

/// Performs the handshake as the server.
///
/// # Errors
/// The handshake failed or took too long; the peer was told by a TLS alert where the protocol has one for it.
pub async fn accept(stream: Stream, identity: &Identity, deadline: Duration) -> Result<Accepted, Failed> {
    let failed = |reason, error| Err(Failed { reason, error });
    let handshake = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let offered = alpn::offered(start.client_hello().alpn().into_iter().flatten());
        start.into_stream(identity.server_config()).await.map(|stream| (stream, offered))
    };
    let outcome = timeout(deadline, handshake).await;
    let (stream, offered) = match outcome {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => {
            let why = refused(format!("handshake failed: {}", super::reason(&error)));
            return failed(super::failure(&error), why);
        }
        Err(_) => return failed("timeout", refused("handshake took too long")),
    };
    let (_, session) = stream.get_ref();
    let Some(chain) = session.peer_certificates() else {
        return failed("no_certificate", refused("no client certificate"));
    };
    let id = match identity.caller(chain) {
        Ok(id) => id,
        Err(error) => return failed("identity", refused("client certificate").caused_by(error)),
    };
    let sni = session.server_name().map(str::to_ascii_lowercase);
    let peer = Peer { id: Some(id), sni, client_cert: None, session: None };
    let negotiated = match alpn::protocol(session.alpn_protocol()) {
        alpn::Negotiated::Unstated => offered,
        stated => stated,
    };
    Ok(Accepted { stream, peer, negotiated })
}

fn refused(detail: impl Into<Cow<'static, str>>) -> ProxyError {
    ProxyError::new(ErrorKind::DownstreamTls, detail)
}
