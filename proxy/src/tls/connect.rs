//! Connects to an upstream, with mutual TLS where the plan says so.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use meshgate_identity::{ClientAlpn, Expected, Identity, PeerRole};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{ErrorKind, ProxyError};
use crate::http::pool::{Security, Upstream};
use crate::sessions::Session;
use crate::stream::Stream;
use crate::worker::{Worker, WorkerRef};
use crate::{socket, tunnel};

/// Configurations kept before the map is started anew; each is a few hundred bytes around shared parts, and a mesh with more
/// peer identities than this per worker only makes some again.
const KEPT_MAX: usize = 4096;

/// A connection to an upstream.
#[derive(Debug)]
pub enum Connected {
    /// Without TLS.
    Plain(Stream),
    /// With mutual TLS, the far identity checked, and what it rests on.
    Tls(Box<TlsStream<Stream>>, Rc<Session>),
}

/// Client configurations by whom they expect, made once per own certificate.
#[derive(Debug, Default)]
pub struct Configs(RefCell<Kept>);

#[derive(Debug, Default)]
struct Kept {
    generation: u64,
    configs: HashMap<(Expected, ClientAlpn), Arc<ClientConfig>>,
}

impl Configs {
    fn for_peer(&self, identity: &Identity, expected: &Expected, alpn: ClientAlpn) -> Arc<ClientConfig> {
        let mut kept = self.0.borrow_mut();
        if kept.generation != identity.generation() || kept.configs.len() >= KEPT_MAX {
            kept.configs.clear();
            kept.generation = identity.generation();
        }
        let config =
            kept.configs.entry((expected.clone(), alpn)).or_insert_with(|| identity.client_config(expected, alpn));
        Arc::clone(config)
    }
}

/// Connects within the upstream's time-out.
///
/// # Errors
/// [`ErrorKind::Loop`], [`ErrorKind::ConnectFailed`], [`ErrorKind::ConnectTimeout`], [`ErrorKind::UpstreamTls`], or one of
/// [`tunnel::pool::open`]'s; nothing of a request was sent in any of them.
pub async fn connect(worker: &WorkerRef, upstream: &Upstream, alpn: ClientAlpn) -> Result<Connected, ProxyError> {
    let deadline = Instant::now() + upstream.connect_timeout;
    let late = |_| {
        let detail = format!("{upstream}: no connection within {:?}", upstream.connect_timeout);
        // Once a gateway has let us through, it is not the gateway that is slow.
        let kind = if upstream.via.is_some() { ErrorKind::TunnelNoEndpoint } else { ErrorKind::ConnectTimeout };
        ProxyError::new(kind, detail)
    };
    let stream = match &upstream.via {
        // Has its own deadline, because it knows who was late.
        Some(via) => Stream::tunnel(tunnel::pool::open(worker, via, deadline).await?),
        None => timeout_at(deadline, socket(worker, upstream)).await.map_err(late)??,
    };
    let Security::Mtls { expected, server_name } = &upstream.security else { return Ok(Connected::Plain(stream)) };
    let handshake = handshake(worker, upstream, expected, server_name, alpn, stream);
    timeout_at(deadline, handshake).await.map_err(late)?
}

async fn socket(worker: &Worker, upstream: &Upstream) -> Result<Stream, ProxyError> {
    let address = upstream.address;
    if worker.shared.own.is_own(address, None) && upstream.security == Security::Plaintext {
        return Err(ProxyError::new(ErrorKind::Loop, format!("{address} is an own listener")));
    }
    let connected = socket::connect(address, upstream.source).await;
    connected
        .map(Stream::new)
        .map_err(|error| ProxyError::new(ErrorKind::ConnectFailed, address.to_string()).caused_by(error))
}

async fn handshake(
    worker: &Worker,
    upstream: &Upstream,
    expected: &Expected,
    server_name: &str,
    alpn: ClientAlpn,
    stream: Stream,
) -> Result<Connected, ProxyError> {
    let identity = Arc::clone(&worker.identity.borrow());
    let config = worker.client_tls.for_peer(&identity, expected, alpn);
    // A service name that is no DNS name cannot be sent as SNI; the identity, not the name, is what is verified.
    let name = ServerName::try_from(server_name).map_or_else(|_| upstream.address.ip().into(), |name| name.to_owned());
    let outcome = TlsConnector::from(config).connect(name, stream).await;
    worker.shared.metrics.handshake(crate::connection::Direction::Outbound, super::outcome(&outcome));
    match outcome {
        Ok(stream) => {
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let session = worker.sessions.enter(worker, &identity, certificates, PeerRole::Server(expected.clone()));
            Ok(Connected::Tls(Box::new(stream), session))
        }
        // A far side that just closes (full, draining, restarting) has said nothing about identities.
        Err(error) if !super::is_tls(&error) => {
            let detail = format!("{upstream}: in the TLS handshake");
            let kind = if upstream.via.is_some() { ErrorKind::TunnelNoEndpoint } else { ErrorKind::ConnectFailed };
            Err(ProxyError::new(kind, detail).caused_by(error))
        }
        Err(error) => {
            let detail = format!("{upstream}: expected {expected}: {}", super::reason(&error));
            Err(ProxyError::new(ErrorKind::UpstreamTls, detail))
        }
    }
}
