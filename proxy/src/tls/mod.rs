//! TLS on the data path: handshakes with a deadline, the peer's identity out.

pub mod accept;
pub mod connect;
pub mod outside;

use std::io;

use meshgate_identity::PeerError;
use rustls::CertificateError;

/// Whether a handshake failed of TLS itself, and not of the connection.
pub(crate) fn is_tls(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some()
}

/// Why a handshake failed, as the counter of handshakes has it; see [`HandshakeLabels`](crate::metrics::HandshakeLabels).
pub(crate) fn failure(error: &io::Error) -> &'static str {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else { return "closed" };
    match tls {
        rustls::Error::NoCertificatesPresented => "no_certificate",
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
            CertificateError::UnknownIssuer => "untrusted",
            _ => match PeerError::of(tls) {
                Some(why) if why.is_revoked() => "revoked",
                Some(_) => "identity",
                None => "untrusted",
            },
        },
        rustls::Error::AlertReceived(_) => "alert",
        _ => "protocol",
    }
}

/// Why a handshake failed, in words: our own verifiers' reason where they gave one, else what the TLS library said.
pub(crate) fn reason(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls.and_then(PeerError::of) {
        Some(ours) => ours.to_string(),
        None => error.to_string(),
    }
}
