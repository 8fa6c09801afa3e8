//! TLS on the data path: handshakes with a deadline, the peer's identity out.

pub mod accept;
pub mod connect;

use std::io;

use meshgate_identity::PeerError;

/// Whether a handshake failed of TLS itself, and not of the connection.
pub(crate) fn is_tls(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some()
}

/// How a handshake came out, for its metric.
pub(crate) fn outcome<T>(result: &io::Result<T>) -> &'static str {
    let Err(error) = result else { return "ok" };
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if tls.and_then(PeerError::of).is_some_and(PeerError::is_revoked) { "revoked" } else { "error" }
}

/// Why a handshake failed, in words: our own verifiers' reason where they gave one, else what the TLS library said.
pub(crate) fn reason(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls.and_then(PeerError::of) {
        Some(ours) => ours.to_string(),
        None => error.to_string(),
    }
}
