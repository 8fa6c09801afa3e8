//! Makes the outer session to a gateway: a socket to the first of its addresses that answers, and mutual TLS with exactly the
//! gateway's identity; or to a workload itself, with its own. Needs no worker, so that whoever asks a gateway from the main thread comes this way, too.

use std::net::SocketAddr;
use std::time::Duration;

use meshgate_config::GatewayAddress;
use meshgate_identity::{ClientAlpn, Expected, Identity, Who, alpn};
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::clusters::Gateway;
use crate::error::{ErrorKind, ProxyError};
use crate::orig_dst::OwnAddresses;
use crate::socket;
use crate::stream::Stream;
use crate::tls;

/// Connects to a gateway within `timeout`, its addresses in turn: each gets its share of the time that is left, so that one that
/// is silent leaves some for the next.
///
/// # Errors
/// [`ErrorKind::GatewayFailed`], [`ErrorKind::GatewayTls`] or [`ErrorKind::Loop`]: those of the last address tried.
pub async fn dial(
    gateway: &Gateway,
    identity: &Identity,
    own: &OwnAddresses,
    timeout: Duration,
) -> Result<TlsStream<Stream>, ProxyError> {
    let addresses = gateway.addresses();
    let deadline = Instant::now() + timeout;
    let mut failed = None;
    for (tried, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len().saturating_sub(tried)).unwrap_or(u32::MAX);
        let until = now + deadline.saturating_duration_since(now).checked_div(left).unwrap_or_default();
        let outcome = timeout_at(until, dial_one(gateway, identity, own, *address)).await;
        match outcome.unwrap_or_else(|_| Err(unreachable(gateway, *address, "no session in time"))) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| {
        ProxyError::new(ErrorKind::GatewayFailed, format!("gateway {}: its name has no address", gateway.address()))
    }))
}

/// Whom a gateway's certificate must name, and by whose word.
pub fn expected(gateway: &GatewayAddress) -> Expected {
    Expected { who: Who::Exactly(gateway.identity.clone()), cluster: Some(gateway.cluster.shared()) }
}

/// Connects to who takes tunnels for a workload at `address` within `timeout`.
///
/// # Errors
/// [`ErrorKind::ConnectFailed`], [`ErrorKind::ConnectTimeout`] or [`ErrorKind::UpstreamTls`].
pub async fn dial_workload(
    address: SocketAddr,
    expected: &Expected,
    identity: &Identity,
    timeout: Duration,
) -> Result<TlsStream<Stream>, ProxyError> {
    let failed = |kind, what: &str| ProxyError::new(kind, format!("tunnels of {address}: {what}"));
    let dialling = async {
        let stream = socket::connect(address, None).await;
        let stream = stream.map_err(|error| failed(ErrorKind::ConnectFailed, "cannot connect").caused_by(error))?;
        let config = identity.client_config(expected, ClientAlpn::Tunnels);
        match TlsConnector::from(config).connect(address.ip().into(), Stream::new(stream)).await {
            Ok(stream) => Ok(stream),
            Err(error) if !tls::is_tls(&error) => {
                Err(failed(ErrorKind::ConnectFailed, "in the TLS handshake").caused_by(error))
            }
            Err(error) => {
                let what = format!("expected {expected}: {}", tls::reason(&error));
                Err(failed(ErrorKind::UpstreamTls, &what))
            }
        }
    };
    let stream = tokio::time::timeout(timeout, dialling).await;
    let stream = stream.unwrap_or_else(|_| Err(failed(ErrorKind::ConnectTimeout, "no session in time")))?;
    match alpn::protocol(stream.get_ref().1.alpn_protocol()) {
        alpn::Negotiated::Http2 => Ok(stream),
        _ => Err(failed(ErrorKind::ConnectFailed, "does not speak HTTP/2")),
    }
}

async fn dial_one(
    gateway: &Gateway,
    identity: &Identity,
    own: &OwnAddresses,
    address: SocketAddr,
) -> Result<TlsStream<Stream>, ProxyError> {
    let wanted = gateway.address();
    if own.is_own(address, None) {
        return Err(ProxyError::new(ErrorKind::Loop, format!("gateway {wanted}: {address} is an own listener")));
    }
    let stream = socket::connect(address, None)
        .await
        .map_err(|error| unreachable(gateway, address, "cannot connect").caused_by(error))?;
    let expected = expected(wanted);
    let config = identity.client_config(&expected, ClientAlpn::Http2);
    let name = ServerName::try_from(&*wanted.host).map_or_else(|_| address.ip().into(), |name| name.to_owned());
    let stream = match TlsConnector::from(config).connect(name, Stream::new(stream)).await {
        Ok(stream) => stream,
        // One that just closes (full, draining, restarting) has said nothing about identities.
        Err(error) if !tls::is_tls(&error) => {
            return Err(unreachable(gateway, address, "in the TLS handshake").caused_by(error));
        }
        Err(error) => {
            let detail = format!("gateway {wanted} at {address}: expected {expected}: {}", tls::reason(&error));
            return Err(ProxyError::new(ErrorKind::GatewayTls, detail));
        }
    };
    match alpn::protocol(stream.get_ref().1.alpn_protocol()) {
        alpn::Negotiated::Http2 => Ok(stream),
        _ => Err(unreachable(gateway, address, "does not speak HTTP/2")),
    }
}

fn unreachable(gateway: &Gateway, address: SocketAddr, what: &str) -> ProxyError {
    ProxyError::new(ErrorKind::GatewayFailed, format!("gateway {} at {address}: {what}", gateway.address()))
}
