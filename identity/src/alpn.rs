//! The application protocols of mesh TLS, in Istio's spelling.
//!
//! The one idea: between two proxies ALPN says both that the other end is a mesh peer and what is spoken inside, so that
//! nothing has to be guessed from the first bytes. It is the peer's word and not authenticated beyond being the peer's:
//! what a peer names must never lead to fewer checks than what it then speaks.

/// HTTP/2 between mesh peers.
pub const ISTIO_H2: &[u8] = b"istio-h2";
/// HTTP/1.1 between mesh peers.
pub const ISTIO_HTTP_11: &[u8] = b"istio-http/1.1";
/// HTTP/1.0 between mesh peers; accepted, never offered.
pub const ISTIO_HTTP_10: &[u8] = b"istio-http/1.0";
/// Bytes behind a preamble in which Istio's sidecars tell each other about themselves. Recognised, but neither offered nor chosen: whoever
/// agrees to it and knows no preamble passes the peer's on to the application, as if it had been sent to it.
pub const ISTIO_PEER_EXCHANGE: &[u8] = b"istio-peer-exchange";
/// Opaque bytes between two of us.
pub const MESHGATE_TCP: &[u8] = b"meshgate-tcp";
/// A mesh peer that does not say what it speaks.
pub const ISTIO: &[u8] = b"istio";
/// HTTP/2 (RFC 9113).
pub const H2: &[u8] = b"h2";
/// HTTP/1.1 (RFC 7301).
pub const HTTP_11: &[u8] = b"http/1.1";

/// What a server accepts; of several that a client offers, the first of this list is taken.
///
/// Names that say "mesh" and "what" stand before those that say one of the two, and `istio` before the plain names, so
/// that a mesh peer is never taken for another. Of the plain names HTTP/1.1 comes first: a client that offers both (curl, a
/// browser) gets what every application behind us understands, one that needs HTTP/2 (gRPC) offers it alone.
pub(crate) const SERVER: [&[u8]; 7] = [ISTIO_H2, ISTIO_HTTP_11, ISTIO_HTTP_10, MESHGATE_TCP, ISTIO, HTTP_11, H2];

/// What a connection to another proxy will carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientAlpn {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Opaque bytes.
    Tcp,
    /// HTTP/2 with tunnels in it, to who speaks nothing else (HBONE).
    Tunnels,
}

impl ClientAlpn {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::Tcp, Self::Tunnels];

    /// What is offered to the server, the most wanted first.
    pub fn offers(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http1 => &[ISTIO_HTTP_11, ISTIO, HTTP_11],
            Self::Http2 => &[ISTIO_H2, ISTIO, H2],
            Self::Tcp => &[MESHGATE_TCP, ISTIO],
            Self::Tunnels => &[H2],
        }
    }
}

/// What the negotiated protocol says about the bytes inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Negotiated {
    /// HTTP/1.1 or HTTP/1.0.
    Http1,
    /// HTTP/2.
    Http2,
    /// Opaque bytes.
    Tcp,
    /// Nothing: no ALPN, `istio` alone, or a name that is not ours.
    Unstated,
}

/// Whether the name is one that only mesh proxies use.
pub fn is_mesh(protocol: &[u8]) -> bool {
    [ISTIO_H2, ISTIO_HTTP_11, ISTIO_HTTP_10, ISTIO_PEER_EXCHANGE, MESHGATE_TCP, ISTIO].contains(&protocol)
}

/// What the protocol that the handshake settled on says about the bytes inside.
pub fn protocol(negotiated: Option<&[u8]>) -> Negotiated {
    match negotiated {
        Some(ISTIO_H2 | H2) => Negotiated::Http2,
        Some(ISTIO_HTTP_11 | ISTIO_HTTP_10 | HTTP_11) => Negotiated::Http1,
        Some(MESHGATE_TCP) => Negotiated::Tcp,
        _ => Negotiated::Unstated,
    }
}

/// What the names that a client offers say about the bytes inside where what was agreed on says nothing: an Istio sidecar tells
/// bytes by a name that must not be chosen ([`ISTIO_PEER_EXCHANGE`]), and gets [`ISTIO`]. One that offers HTTP beside it has not
/// said so.
pub fn offered<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Negotiated {
    let mut means_bytes = false;
    for name in names {
        match protocol(Some(name)) {
            Negotiated::Http1 | Negotiated::Http2 => return Negotiated::Unstated,
            _ => means_bytes |= name == ISTIO_PEER_EXCHANGE,
        }
    }
    if means_bytes { Negotiated::Tcp } else { Negotiated::Unstated }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As rustls chooses: the server's order decides.
    fn chosen(offers: &[&[u8]]) -> Option<&'static [u8]> {
        SERVER.into_iter().find(|name| offers.contains(name))
    }

    #[test]
    fn each_offer_is_answered_with_what_is_spoken() {
        for (offers, name, inside, mesh) in [
            (ClientAlpn::Http1.offers(), Some(ISTIO_HTTP_11), Negotiated::Http1, true),
            (ClientAlpn::Http2.offers(), Some(ISTIO_H2), Negotiated::Http2, true),
            (ClientAlpn::Tcp.offers(), Some(MESHGATE_TCP), Negotiated::Tcp, true),
            (ClientAlpn::Tunnels.offers(), Some(H2), Negotiated::Http2, false),
            (&[ISTIO_HTTP_10, ISTIO, b"http/1.0"], Some(ISTIO_HTTP_10), Negotiated::Http1, true),
            (&[ISTIO], Some(ISTIO), Negotiated::Unstated, true),
            (&[H2, HTTP_11], Some(HTTP_11), Negotiated::Http1, false),
            (&[H2], Some(H2), Negotiated::Http2, false),
            (&[HTTP_11], Some(HTTP_11), Negotiated::Http1, false),
            (&[b"spdy/3"], None, Negotiated::Unstated, false),
        ] {
            let answer = chosen(offers);
            assert_eq!(answer, name);
            assert_eq!(protocol(answer), inside);
            assert_eq!(answer.is_some_and(is_mesh), mesh);
        }
    }

    #[test]
    fn an_istio_sidecar_is_understood_and_its_preamble_never_agreed_to() {
        for (offers, name, inside) in [
            // Clusters of TCP, of HTTP behind the filter that sets the names, and of HTTP/2 without it.
            (&[ISTIO_PEER_EXCHANGE, ISTIO][..], Some(ISTIO), Negotiated::Tcp),
            (&[ISTIO_HTTP_11, ISTIO, HTTP_11], Some(ISTIO_HTTP_11), Negotiated::Http1),
            (&[ISTIO_H2, ISTIO, H2], Some(ISTIO_H2), Negotiated::Http2),
            (&[ISTIO_PEER_EXCHANGE, ISTIO, H2], Some(ISTIO), Negotiated::Unstated),
            (&[ISTIO_PEER_EXCHANGE, ISTIO_HTTP_11, ISTIO], Some(ISTIO_HTTP_11), Negotiated::Http1),
            (&[ISTIO], Some(ISTIO), Negotiated::Unstated),
            (&[ISTIO_PEER_EXCHANGE], None, Negotiated::Tcp),
        ] {
            let answer = chosen(offers);
            assert_eq!(answer, name);
            let stated = protocol(answer);
            let told = if stated == Negotiated::Unstated { offered(offers.iter().copied()) } else { stated };
            assert_eq!(told, inside, "{offers:?}");
        }
        for alpn in ClientAlpn::ALL {
            assert!(!alpn.offers().contains(&ISTIO_PEER_EXCHANGE));
        }
    }

    #[test]
    fn names_are_compared_whole() {
        assert!(!is_mesh(b"istio-h2x"));
        assert!(!is_mesh(b""));
        assert_eq!(protocol(Some(b"h2c")), Negotiated::Unstated);
        assert_eq!(protocol(None), Negotiated::Unstated);
    }

    #[test]
    fn all_lists_every_value() {
        let mut offers: Vec<_> = ClientAlpn::ALL.iter().map(|alpn| alpn.offers()).collect();
        offers.dedup();
        assert_eq!(offers.len(), 4);
    }
}
