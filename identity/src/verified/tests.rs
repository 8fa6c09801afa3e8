use std::sync::Arc;
use std::time::Duration;

use rcgen::CertificateParams;
use rustls::Error as TlsError;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;

use crate::crl::RevocationLists;
use crate::testing::*;
use crate::tls::provider;
use crate::verified::Found;
use crate::verify::{ClientVerifier, PeerVerifier};
use crate::{PeerError, TrustBundles};

fn verifier(root: &Signer) -> ClientVerifier {
    let algorithms = provider().signature_verification_algorithms;
    let bundles = TrustBundles::of_one(HOME, &root.pem);
    let peers = Arc::new(PeerVerifier::new(bundles, RevocationLists::default(), algorithms));
    ClientVerifier { peers, mandatory: true }
}

fn later(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + seconds))
}

/// Twice, so that the second time it is known.
fn learn(verifier: &ClientVerifier, chain: &[CertificateDer<'static>], now: UnixTime) {
    for _ in 0..2 {
        verifier.verify_client_cert(&chain[0], &chain[1..], now).unwrap();
    }
    assert!(verifier.peers.knows(&chain[0], &chain[1..], now), "what is tested here is a chain that is known");
}

fn refused(verifier: &ClientVerifier, chain: &[CertificateDer<'static>], now: UnixTime) -> PeerError {
    assert!(!verifier.peers.knows(&chain[0], &chain[1..], now));
    let error: TlsError = verifier.verify_client_cert(&chain[0], &chain[1..], now).unwrap_err();
    PeerError::of(&error).unwrap().clone()
}

fn ends_in(seconds: i64) -> impl Fn(&mut CertificateParams) {
    move |params| params.not_after = OffsetDateTime::now_utc() + time::Duration::seconds(seconds)
}

#[test]
fn a_known_chain_is_not_let_in_by_what_it_was_once_ended() {
    let root = Signer::root("home");
    let short_root = Signer::root_with("home", ends_in(60));
    let between = root.intermediate("between", ends_in(60));
    for (what, root, workload) in [
        ("the certificate ends", &root, root.workload_with(FRONTEND, ends_in(60))),
        ("the root ends", &short_root, short_root.workload(FRONTEND)),
        ("an intermediate ends", &root, between.workload(FRONTEND)),
    ] {
        let verifier = verifier(root);
        let chain = workload.chain;
        learn(&verifier, &chain, UnixTime::now());
        assert!(verifier.peers.knows(&chain[0], &chain[1..], later(50)), "{what}: still good");
        refused(&verifier, &chain, later(70));
    }
}

#[test]
fn a_known_chain_with_one_byte_changed_is_a_stranger() {
    let root = Signer::root("home");
    let between = root.intermediate("between", |_| {});
    let verifier = verifier(&root);
    let chain = between.workload(FRONTEND).chain;
    let now = UnixTime::now();
    learn(&verifier, &chain, now);
    for (certificate, of) in chain.iter().zip(0..) {
        for at in (0..certificate.len()).step_by(7).chain([certificate.len() - 1]) {
            let mut changed = chain.clone();
            let mut bytes = certificate.to_vec();
            bytes[at] ^= 1;
            changed[of] = bytes.into();
            assert!(!verifier.peers.knows(&changed[0], &changed[1..], now));
            assert!(verifier.verify_client_cert(&changed[0], &changed[1..], now).is_err(), "byte {at} of {of}");
        }
    }
    // Nor is a part of it, or the same bytes cut elsewhere.
    refused(&verifier, &chain[..1], now);
    let whole: Vec<u8> = chain.iter().flat_map(|certificate| certificate.to_vec()).collect();
    assert!(verifier.verify_client_cert(&whole.into(), &[], now).is_err());
}

#[test]
fn other_bundles_know_nothing_of_it() {
    let (root, successor) = (Signer::root("home"), Signer::root("home"));
    let chain = root.workload(FRONTEND).chain;
    let now = UnixTime::now();
    learn(&verifier(&root), &chain, now);
    refused(&verifier(&successor), &chain, now);
}

#[test]
fn a_refused_chain_and_one_that_is_too_long_are_not_kept() {
    let (root, stranger) = (Signer::root("home"), Signer::root("stranger"));
    let verifier = verifier(&root);
    let now = UnixTime::now();
    refused(&verifier, &stranger.workload(FRONTEND).chain, now);
    refused(&verifier, &stranger.workload(FRONTEND).chain, now);
    let mut long = root.workload(FRONTEND).chain;
    long.extend((0..10).map(|_| stranger.der.clone()));
    verifier.verify_client_cert(&long[0], &long[1..], now).unwrap();
    assert!(!verifier.peers.knows(&long[0], &long[1..], now));
}

#[test]
fn a_full_list_begins_anew() {
    let list = super::Verified::default();
    let now = UnixTime::now();
    for number in 0..=super::KEPT_MAX {
        list.keep(number.to_be_bytes().to_vec(), Found { peer: id(FRONTEND), root: None, until: now }, now);
    }
    assert_eq!(list.0.lock().unwrap().len(), 1);
}

#[test]
fn whose_a_good_chain_is_is_told_alike_whether_it_is_known_or_not() {
    let root = Signer::root("home");
    let verifier = verifier(&root);
    let chain = root.workload(FRONTEND).chain;
    let stranger = verifier.peers.caller(&chain).unwrap();
    learn(&verifier, &chain, UnixTime::now());
    assert_eq!((stranger.as_str(), verifier.peers.caller(&chain).unwrap().as_str()), (FRONTEND, FRONTEND));
    assert!(verifier.peers.caller(&[]).is_err());
}
