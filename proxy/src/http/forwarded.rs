//! What the application is told about who called and from where: `x-forwarded-client-cert` and `x-forwarded-for`.
//!
//! The one idea: what can be said of a connection is worked out with it; a request costs nothing unless the bootstrap asks for
//! one of these headers. Only trusted peers may speak for others, and nobody for itself.
//!
//! Not here: which spellings of these names there are ([`super::headers`]), and what policies make of them.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use meshgate_config::{ForwardClientCert, ForwardedFor, HeaderSettings};
use meshgate_identity::{SpiffeId, client_cert_element};
use rustls::pki_types::CertificateDer;

use super::headers::{self, CLIENT_CERT, ClientCert, FORWARDED_FOR};
use crate::connection::Peer;
use crate::error::{ErrorKind, ProxyError};

/// Other headers that tell an application where a request came from.
const ADDRESSES: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];

/// What is said about one connection's caller.
#[derive(Debug)]
pub struct Forwarded {
    certificate: ForwardClientCert,
    addresses: ForwardedFor,
    trusted: bool,
    element: Option<HeaderValue>,
    from: IpAddr,
}

impl Forwarded {
    /// About `peer`, calling from the address `from`.
    pub fn of(settings: &HeaderSettings, peer: &Peer, from: IpAddr) -> Self {
        Self {
            certificate: settings.forward_client_cert,
            addresses: settings.forwarded_for,
            trusted: settings.trusted_peers.contains(peer.id.as_ref()),
            element: peer.client_cert.clone(),
            from,
        }
    }

    /// What the application of `own` is told about the certificate that a peer showed; `None` in the modes that tell nothing.
    ///
    /// # Errors
    /// The certificate cannot be put into a header, which a verified one always can.
    pub fn element(
        settings: &HeaderSettings,
        own: &SpiffeId,
        leaf: Option<&CertificateDer<'_>>,
    ) -> Result<Option<HeaderValue>, ProxyError> {
        if !matches!(settings.forward_client_cert, ForwardClientCert::SanitizeSet | ForwardClientCert::AppendForward) {
            return Ok(None);
        }
        let wrong = || ProxyError::new(ErrorKind::DownstreamTls, "client certificate");
        let leaf = leaf.ok_or_else(wrong)?;
        let element = client_cert_element(leaf, own, settings.forward_whole_cert);
        let value = HeaderValue::try_from(element.map_err(|error| wrong().caused_by(error))?);
        value.map(Some).map_err(|error| wrong().caused_by(error))
    }

    /// What becomes of the `x-forwarded-client-cert` that a request came with.
    pub fn received(&self) -> ClientCert {
        match self.certificate {
            ForwardClientCert::AlwaysForwardOnly => ClientCert::Keep,
            ForwardClientCert::AppendForward | ForwardClientCert::ForwardOnly if self.trusted => ClientCert::Keep,
            _ => ClientCert::Remove,
        }
    }

    /// Adds what is said about the caller's certificate, behind what was kept of what it said itself, all in one line.
    pub fn tell_certificate(&self, headers: &mut HeaderMap) {
        if let Some(element) = &self.element {
            add(headers, &CLIENT_CERT, b",", element);
        }
    }

    /// Whether this peer's word about others counts.
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Makes `x-forwarded-for` what the application is to read. After the policies, which see it as it came.
    pub fn tell_address(&self, headers: &mut HeaderMap) {
        if self.addresses == ForwardedFor::Preserve {
            return;
        }
        if !self.trusted {
            headers::remove_spellings(headers, &ADDRESSES);
        }
        if self.addresses == ForwardedFor::Append
            && let Ok(address) = HeaderValue::try_from(self.from.to_string())
        {
            add(headers, &FORWARDED_FOR, b", ", &address);
        }
    }
}

/// One line of all there are, and `last` at the end.
fn add(headers: &mut HeaderMap, name: &HeaderName, separator: &[u8], last: &HeaderValue) {
    if !headers.contains_key(name) {
        headers.insert(name, last.clone());
        return;
    }
    let mut joined = Vec::new();
    for line in headers.get_all(name).iter().chain([last]) {
        if !joined.is_empty() {
            joined.extend_from_slice(separator);
        }
        joined.extend_from_slice(line.as_bytes());
    }
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        Ok(value) => _ = headers.insert(name, value),
        // Made of values, so it is one; if ever not, what we say goes before what others said.
        Err(_) => _ = headers.insert(name, last.clone()),
    }
}

#[cfg(test)]
mod tests;
