use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::Seen::{Known, Open};
use super::*;

/// A client's first flight that offers these application protocols, with a post-quantum key share as current clients have.
pub(in crate::detect) fn hello(alpn: &[Vec<u8>]) -> Vec<u8> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.insert(0, rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768);
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = alpn.to_vec();
    let mut client = ClientConnection::new(Arc::new(config), "backend.example".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn protocols_are_told_by_their_first_bytes() {
    use Detected::{Http1, Http2, Opaque, TimedOut, Tls};
    for (bytes, expected) in [
        (&b""[..], Open(TimedOut)),
        (b"GET / HTTP/1.1\r\n", Known(Http1)),
        (b"M-SEARCH * HTTP/1.1", Known(Http1)),
        (b"PROPFIND /", Known(Http1)),
        (b"UPDATEREDIRECTREF /", Known(Http1)),
        // A request line that is none of HTTP is for the HTTP parser to refuse.
        (b"GET  ", Known(Http1)),
        (b"G", Open(TimedOut)),
        (b"GET", Open(TimedOut)),
        (b"GET\t/ HTTP/1.1\r\n", Known(Opaque)),
        (b"GET\r\n", Known(Opaque)),
        (b"GET/ HTTP/1.1\r\n", Known(Opaque)),
        (b" GET / HTTP/1.1\r\n", Known(Opaque)),
        (b"\r\nGET / HTTP/1.1\r\n", Known(Opaque)),
        // Methods are case-sensitive, and none that is registered looks like these.
        (b"get / HTTP/1.1\r\n", Known(Opaque)),
        (b"Get / HTTP/1.1\r\n", Known(Opaque)),
        (b"X_CUSTOM / HTTP/1.1\r\n", Known(Opaque)),
        (b"M1 / HTTP/1.1\r\n", Known(Opaque)),
        (b"GET\x00 / HTTP/1.1\r\n", Known(Opaque)),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", Known(Opaque)),
        (b"ABCDEFGHIJKLMNOPQR /", Known(Opaque)),
        // The preface, and what begins like it.
        (H2_PREFACE, Known(Http2)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04", Known(Http2)),
        (b"PRI", Open(TimedOut)),
        (b"PRI ", Open(Http2)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Open(Http2)),
        (b"PRI * HTTP/2.0\r\n\r\nXM\r\n\r\n", Known(Http1)),
        (b"PRI /other HTTP/1.1\r\n", Known(Http1)),
        (b"PRIVATE", Open(TimedOut)),
        (b"PRIVATE / HTTP/1.1\r\n", Known(Http1)),
        // TLS.
        (b"\x16", Open(TimedOut)),
        (b"\x16\x07", Known(Opaque)),
        (b"\x16\x03", Open(Tls { mesh: false })),
        (b"\x16\x03\x01\x02\x00\x01", Open(Tls { mesh: false })),
        // A handshake record with a ServerHello in it.
        (b"\x16\x03\x03\x00\x04\x02\x00\x00\x00", Known(Tls { mesh: false })),
        (b"\x15\x03\x03\x00\x02\x01\x00", Known(Opaque)),
        (b"\x80\x2e\x01\x00\x02", Known(Opaque)),
        // What others begin with.
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Known(Opaque)),
        (b"*1\r\n$4\r\nPING\r\n", Known(Opaque)),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Known(Opaque)),
        (b"JDWP-Handshake", Known(Opaque)),
        (b"AMQP\x00\x00\x09\x01", Known(Opaque)),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Known(Http1)),
        (b"\r\n\r\n\x00\r\nQUIT\n", Known(Opaque)),
    ] {
        assert_eq!(classify(bytes), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn what_is_known_stays_known_whatever_follows() {
    let mesh = hello(&[b"istio".to_vec()]);
    let other = hello(&[b"h2".to_vec()]);
    for (whole, expected) in [
        (mesh.as_slice(), Detected::Tls { mesh: true }),
        (&other, Detected::Tls { mesh: false }),
        (H2_PREFACE, Detected::Http2),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", Detected::Http1),
    ] {
        let known = (0..=whole.len()).find(|len| matches!(classify(&whole[..*len]), Known(_))).unwrap();
        for len in known..=whole.len() {
            assert_eq!(classify(&whole[..len]), Known(expected), "the first {len}");
        }
        for more in [&b"\x16"[..], b"\x16\x03\x03\xff\xff", b"GET / ", &[0; 9000], &[0xff; 300]] {
            assert_eq!(classify(&[whole, more].concat()), Known(expected), "and {}", more.escape_ascii());
        }
    }
}
