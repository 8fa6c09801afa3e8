use rustls::ProtocolVersion;

use super::*;
use crate::Identity;
use crate::alpn::Negotiated;
use crate::testing::*;

fn pair() -> (Identity, Identity) {
    let root = Signer::root("root");
    (root.workload(FRONTEND).identity(&[&root], &[]), root.workload(BACKEND).identity(&[&root], &[]))
}

#[test]
fn mesh_peers_agree_on_tls_13_and_on_what_is_spoken() {
    let (frontend, backend) = pair();
    for (alpn, name, inside) in [
        (ClientAlpn::Http1, alpn::ISTIO_HTTP_11, Negotiated::Http1),
        (ClientAlpn::Http2, alpn::ISTIO_H2, Negotiated::Http2),
        (ClientAlpn::Tcp, alpn::MESHGATE_TCP, Negotiated::Tcp),
        (ClientAlpn::Tunnels, alpn::H2, Negotiated::Http2),
    ] {
        let handshake = Handshake::run(frontend.client_config(&id(BACKEND).into(), alpn), backend.server_config());
        assert_eq!((handshake.client_result, handshake.server_result), (Ok(()), Ok(())));
        assert_eq!(handshake.client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        for negotiated in [handshake.client.alpn_protocol(), handshake.server.alpn_protocol()] {
            assert_eq!(negotiated, Some(name));
            assert_eq!(alpn::protocol(negotiated), inside);
        }
    }
}

#[test]
fn refuses_protocols_it_does_not_know_and_accepts_none() {
    let (frontend, backend) = pair();
    let mut config = (*frontend.client_config(&id(BACKEND).into(), ClientAlpn::Http1)).clone();
    config.alpn_protocols = vec![b"spdy/3".to_vec()];
    let handshake = Handshake::run(Arc::new(config.clone()), backend.server_config());
    assert_eq!(handshake.server_result, Err(TlsError::NoApplicationProtocol));
    config.alpn_protocols.clear();
    let handshake = Handshake::run(Arc::new(config), backend.server_config());
    assert_eq!((handshake.server_result, handshake.server.alpn_protocol()), (Ok(()), None));
}

#[test]
fn a_peer_is_never_resumed() {
    let (frontend, backend) = pair();
    // A client that would like to: rustls's default remembers sessions and asks for tickets.
    let mut config = (*frontend.client_config(&id(BACKEND).into(), ClientAlpn::Http2)).clone();
    config.resumption = Resumption::default();
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..2 {
        let mut handshake = Handshake::run(Arc::clone(&config), backend.server_config());
        assert_eq!((&handshake.client_result, &handshake.server_result), (&Ok(()), &Ok(())));
        assert_eq!(handshake.client.tls13_tickets_received(), 0);
        assert_eq!(handshake.client.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert!(!handshake.client.is_early_data_accepted());
        assert!(handshake.server.early_data().is_none());
    }
    let server = backend.server_config();
    assert!(!server.session_storage.can_cache());
    assert!(!server.ticketer.enabled());
    assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
    assert!(!frontend.client_config(&id(BACKEND).into(), ClientAlpn::Http2).enable_early_data);
}

#[test]
fn we_do_not_resume_as_a_client_either() {
    let (frontend, backend) = pair();
    // A server that would like to: it remembers sessions and hands out tickets.
    let mut config = (*backend.server_config()).clone();
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    config.send_tls13_tickets = 2;
    let (client, server) = (frontend.client_config(&id(BACKEND).into(), ClientAlpn::Http2), Arc::new(config));
    for _ in 0..2 {
        let handshake = Handshake::run(Arc::clone(&client), Arc::clone(&server));
        assert_eq!((&handshake.client_result, &handshake.server_result), (&Ok(()), &Ok(())));
        assert_eq!(handshake.server.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[test]
fn a_client_of_tls_12_is_refused() {
    let (frontend, backend) = pair();
    let old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(frontend.svid().certified()))));
    let handshake = Handshake::run(Arc::new(old), backend.server_config());
    assert!(matches!(handshake.server_result, Err(TlsError::PeerIncompatible(_))), "{:?}", handshake.server_result);
}

#[test]
fn the_post_quantum_hybrid_is_offered() {
    let groups: Vec<_> = provider().kx_groups.iter().map(|group| group.name()).collect();
    assert!(groups.contains(&rustls::NamedGroup::X25519MLKEM768), "{groups:?}");
}

#[test]
fn client_configurations_share_what_costs() {
    let (frontend, _) = pair();
    let one = frontend.client_config(&id(BACKEND).into(), ClientAlpn::Http1);
    let two = frontend.client_config(&id(FRONTEND).into(), ClientAlpn::Tcp);
    assert!(Arc::ptr_eq(&one.client_auth_cert_resolver, &two.client_auth_cert_resolver));
    assert!(Arc::ptr_eq(one.crypto_provider(), two.crypto_provider()));
}
