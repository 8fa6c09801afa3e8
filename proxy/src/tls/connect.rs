//! Connects to an upstream, with mutual TLS where the plan says so.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use meshgate_identity::{ClientAlpn, Expected};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{ErrorKind, ProxyError};
use crate::http::pool::{Security, Upstream};
use crate::socket;
use crate::stream::Stream;
use crate::worker::Worker;

/// Configurations kept before the map is started anew; each is a few hundred bytes around shared parts, and a mesh with more
/// peer identities than this per worker only makes some again.
const KEPT_MAX: usize = 4096;

/// A connection to an upstream.
#[derive(Debug)]
pub enum Connected {
    /// Without TLS.
    Plain(Stream),
    /// With mutual TLS, the far identity checked.
    Tls(Box<TlsStream<Stream>>),
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
    fn for_peer(&self, worker: &Worker, expected: &Expected, alpn: ClientAlpn) -> Arc<ClientConfig> {
        let identity = worker.identity.borrow();
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
/// [`ErrorKind::Loop`], [`ErrorKind::ConnectFailed`], [`ErrorKind::ConnectTimeout`] or [`ErrorKind::UpstreamTls`]; nothing of
/// a request was sent in any of them.
pub async fn connect(worker: &Worker, upstream: &Upstream, alpn: ClientAlpn) -> Result<Connected, ProxyError> {
    let address = upstream.address;
    if worker.shared.own.is_own(address, None) && upstream.security == Security::Plaintext {
        return Err(ProxyError::new(ErrorKind::Loop, format!("{address} is an own listener")));
    }
    match timeout(upstream.connect_timeout, establish(worker, upstream, alpn)).await {
        Ok(result) => result,
        Err(_) => Err(ProxyError::new(
            ErrorKind::ConnectTimeout,
            format!("{address}: no connection within {:?}", upstream.connect_timeout),
        )),
    }
}

async fn establish(worker: &Worker, upstream: &Upstream, alpn: ClientAlpn) -> Result<Connected, ProxyError> {
    let address = upstream.address;
    let stream = socket::connect(address, upstream.source)
        .await
        .map_err(|error| ProxyError::new(ErrorKind::ConnectFailed, address.to_string()).caused_by(error))?;
    let stream = Stream::new(stream);
    let Security::Mtls { expected, server_name } = &upstream.security else { return Ok(Connected::Plain(stream)) };
    let config = worker.client_tls.for_peer(worker, expected, alpn);
    // A service name that is no DNS name cannot be sent as SNI; the identity, not the name, is what is verified.
    let name = ServerName::try_from(&**server_name).map_or_else(|_| address.ip().into(), |name| name.to_owned());
    let outcome = TlsConnector::from(config).connect(name, stream).await;
    let result = if outcome.is_ok() { "ok" } else { "error" };
    worker.shared.metrics.handshake(crate::connection::Direction::Outbound, result);
    match outcome {
        Ok(stream) => Ok(Connected::Tls(Box::new(stream))),
        // A far side that just closes (full, draining, restarting) has said nothing about identities.
        Err(error) if !super::is_tls(&error) => {
            Err(ProxyError::new(ErrorKind::ConnectFailed, format!("{address}: in the TLS handshake")).caused_by(error))
        }
        Err(error) => {
            let detail = format!("{address}: expected {expected}: {}", super::reason(&error));
            Err(ProxyError::new(ErrorKind::UpstreamTls, detail))
        }
    }
}
