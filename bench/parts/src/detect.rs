//! First bytes, told apart.

use std::hint::black_box;
use std::sync::Arc;

use meshgate::detect::bytes::{H2_PREFACE, classify};
use meshgate_identity::ClientAlpn;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::{Part, Work};

pub(crate) fn parts() -> Vec<Part> {
    let request = b"GET /api/v1/data?page=2 HTTP/1.1\r\nHost: backend.default\r\n\r\n".to_vec();
    let heads = [
        ("detect/client-hello", hello()),
        ("detect/http1", request),
        ("detect/http2", [H2_PREFACE, &[0, 0, 18, 4]].concat()),
        ("detect/garbage", (0..=255).rev().collect()),
    ];
    heads.map(|(name, bytes)| Part::new(name, move || work(bytes.clone()))).into()
}

fn work(bytes: Vec<u8>) -> Work {
    Box::new(move || {
        black_box(classify(black_box(&bytes)));
    })
}

/// As a sidecar says it.
fn hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = ClientAlpn::Http1.offers().iter().map(|name| name.to_vec()).collect();
    let mut client = ClientConnection::new(Arc::new(config), "backend.example".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}
