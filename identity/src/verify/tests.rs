//! Certificates of many shapes through rustls's own handshake, each at both ends.

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair, KeyUsagePurpose as Ku, SanType,
};
use rustls::Error as TlsError;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::crl::RevocationLists;
use crate::testing::*;
use crate::{ClientAlpn, Identity};

const FRIEND: &str = "friend.example";

const SAN: [u64; 4] = [2, 5, 29, 17];
const KEY_USAGE: [u64; 4] = [2, 5, 29, 15];
const BASIC_CONSTRAINTS: [u64; 4] = [2, 5, 29, 19];
const NAME_CONSTRAINTS: [u64; 4] = [2, 5, 29, 30];

/// A mesh of one domain, federated with a second one, and two correct identities in it.
struct Mesh {
    home: Signer,
    friend: Signer,
    frontend: Identity,
    backend: Identity,
}

impl Mesh {
    fn new() -> Self {
        let (home, friend) = (Signer::root("home"), Signer::root("friend"));
        let load = |id| home.workload(id).identity(&[&home], &[(FRIEND, &friend)]);
        let (frontend, backend) = (load(FRONTEND), load(BACKEND));
        Self { home, friend, frontend, backend }
    }

    /// What our server makes of a client with this certificate.
    fn as_client(&self, client: &Workload) -> Result<SpiffeId, TlsError> {
        let mut config = (*self.frontend.client_config(&id(BACKEND).into(), ClientAlpn::Http2)).clone();
        config.client_auth_cert_resolver = client.resolver();
        let handshake = Handshake::run(Arc::new(config), self.backend.server_config());
        handshake.server_result?;
        Ok(peer_identity(&handshake.server.peer_certificates().unwrap()[0]).unwrap())
    }

    /// What our client makes of a server with this certificate, when it expects `expected`.
    fn as_server(&self, server: &Workload, expected: &str) -> Result<SpiffeId, TlsError> {
        let mut config = (*self.backend.server_config()).clone();
        config.cert_resolver = server.resolver();
        let client = self.frontend.client_config(&id(expected).into(), ClientAlpn::Http2);
        let handshake = Handshake::run(client, Arc::new(config));
        handshake.client_result?;
        Ok(peer_identity(&handshake.client.peer_certificates().unwrap()[0]).unwrap())
    }

    /// Both ends must accept.
    fn accepts(&self, what: &str, workload: &Workload, expected: &str) {
        assert_eq!(self.as_client(workload), Ok(id(expected)), "{what}, as a client");
        assert_eq!(self.as_server(workload, expected), Ok(id(expected)), "{what}, as a server");
    }

    /// Both ends must refuse, for this reason.
    fn refuses(&self, what: &str, workload: &Workload, reason: &str) {
        assert_refused(&format!("{what}, as a client"), self.as_client(workload), reason);
        assert_refused(&format!("{what}, as a server"), self.as_server(workload, FRONTEND), reason);
    }
}

fn assert_refused(what: &str, outcome: Result<SpiffeId, TlsError>, reason: &str) {
    let error = outcome.expect_err(what);
    let peer = PeerError::of(&error).unwrap_or_else(|| panic!("{what}: another error, {error}"));
    assert!(peer.to_string().contains(reason), "{what}: {reason:?} expected, found {peer}");
}

type Change = fn(&mut CertificateParams);

/// A key usage that rcgen would not write.
fn usage_by_hand(p: &mut CertificateParams, critical: bool, content: &[u8]) {
    p.key_usages.clear();
    p.custom_extensions.push(extension(&KEY_USAGE, critical, content));
}

#[test]
fn accepts_certificates_that_are_svids() {
    let mesh = Mesh::new();
    let shapes: [(&str, Change); 5] = [
        ("plain", |_| {}),
        ("with DNS names too", |p| p.subject_alt_names.push(SanType::DnsName("a.b".try_into().unwrap()))),
        ("without extended key usage", |p| p.extended_key_usages.clear()),
        ("with a further extended key usage", |p| p.extended_key_usages.push(Eku::CodeSigning)),
        ("without basic constraints", |p| p.is_ca = IsCa::NoCa),
    ];
    for (what, change) in shapes {
        mesh.accepts(what, &mesh.home.workload_with(FRONTEND, change), FRONTEND);
    }
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        mesh.accepts("another kind of key", &mesh.home.workload_of(key, FRONTEND, |_| {}), FRONTEND);
    }
}

#[test]
fn refuses_names_that_are_not_one_spiffe_id() {
    let mesh = Mesh::new();
    // A SAN extension by hand: a sequence of context tag 6, with bytes that rcgen would not write.
    fn raw_uris(p: &mut CertificateParams, uris: &[&[u8]]) {
        let names: Vec<u8> = uris.iter().flat_map(|uri| [&[0x86, uri.len() as u8], *uri].concat()).collect();
        p.subject_alt_names.clear();
        p.custom_extensions.push(extension(&SAN, true, &[&[0x30, names.len() as u8], names.as_slice()].concat()));
    }
    let shapes: [(&str, Change, &str); 20] = [
        ("no names", |p| p.subject_alt_names.clear(), "0 URI names"),
        ("a DNS name only", |p| p.subject_alt_names = vec![SanType::DnsName("a.b".try_into().unwrap())], "0 URI names"),
        ("two IDs", |p| p.subject_alt_names.push(uri(BACKEND)), "2 URI names"),
        ("the same ID twice", |p| p.subject_alt_names.push(uri(FRONTEND)), "2 URI names"),
        ("an ID and a web page", |p| p.subject_alt_names.push(uri("https://a.b/")), "2 URI names"),
        ("a web page and an ID", |p| p.subject_alt_names.insert(0, uri("https://a.b/")), "2 URI names"),
        ("a web page", |p| p.subject_alt_names = vec![uri("https://a.b/")], "does not start with"),
        ("an empty URI", |p| p.subject_alt_names = vec![uri("")], "does not start with"),
        ("capitals", |p| p.subject_alt_names = vec![uri("SPIFFE://cluster.local/ns/a/sa/b")], "does not start with"),
        ("a capital domain", |p| p.subject_alt_names = vec![uri("spiffe://Cluster.local/x")], "'C' at byte 9"),
        ("a port", |p| p.subject_alt_names = vec![uri("spiffe://cluster.local:1/x")], "':' at byte 22"),
        ("the domain's own ID", |p| p.subject_alt_names = vec![uri("spiffe://cluster.local")], "has no path"),
        ("a root path", |p| p.subject_alt_names = vec![uri("spiffe://cluster.local/")], "ends in '/'"),
        ("dot segments", |p| p.subject_alt_names = vec![uri("spiffe://cluster.local/ns/../x")], "\"..\" at byte 26"),
        ("percent", |p| p.subject_alt_names = vec![uri("spiffe://cluster.local/n%73")], "'%' at byte 24"),
        ("a NUL", |p| p.subject_alt_names = vec![uri("spiffe://cluster.local/x\0.evil")], "'\\0' at byte 24"),
        ("UTF-8", |p| raw_uris(p, &["spiffe://cluster.local/\u{e4}".as_bytes()]), "'\u{e4}' at byte 23"),
        ("not UTF-8", |p| raw_uris(p, &[b"spiffe://cluster.local/\xff"]), "name cannot be read"),
        ("an ID and a URI that is not UTF-8", |p| raw_uris(p, &[FRONTEND.as_bytes(), b"\xff"]), "name cannot be read"),
        ("two extensions", |p| p.custom_extensions.push(extension(&SAN, false, &[0x30, 0])), "duplicate extension"),
    ];
    for (what, change, reason) in shapes {
        mesh.refuses(what, &mesh.home.workload_with(FRONTEND, change), reason);
    }
}

#[test]
fn refuses_usages_that_are_not_a_workloads() {
    let mesh = Mesh::new();
    let ca = "certificate of a certificate authority";
    let shapes: [(&str, Change, &str); 18] = [
        ("a CA", |p| (p.is_ca, p.key_usages) = (IsCa::Ca(BasicConstraints::Unconstrained), vec![Ku::KeyCertSign]), ca),
        ("a CA with a leaf's usage", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), ca),
        ("a CA of path length 0", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), ca),
        ("keyCertSign", |p| p.key_usages.push(Ku::KeyCertSign), "has keyCertSign"),
        ("cRLSign", |p| p.key_usages.push(Ku::CrlSign), "has cRLSign"),
        ("no digitalSignature", |p| p.key_usages = vec![Ku::KeyEncipherment], "no digitalSignature"),
        ("no usage", |p| p.key_usages.clear(), "has no key usage"),
        ("usage not critical", |p| usage_by_hand(p, false, &[3, 2, 7, 0x80]), "not critical"),
        ("usage not readable", |p| usage_by_hand(p, true, &[4, 1, 0]), "key usage: "),
        ("usage twice", |p| p.custom_extensions.push(extension(&KEY_USAGE, true, &[3, 2, 7, 0x80])), "duplicate"),
        ("for clients only", |p| p.extended_key_usages = vec![Eku::ClientAuth], "no serverAuth"),
        ("for servers only", |p| p.extended_key_usages = vec![Eku::ServerAuth], "no clientAuth"),
        ("for signing code", |p| p.extended_key_usages = vec![Eku::CodeSigning], "no serverAuth"),
        ("for anything", |p| p.extended_key_usages = vec![Eku::Any], "no serverAuth"),
        (
            "basic constraints not readable",
            |p| {
                p.is_ca = IsCa::NoCa;
                p.custom_extensions.push(extension(&BASIC_CONSTRAINTS, true, &[0x04, 0x01, 0x00]));
            },
            "basic constraints cannot be read",
        ),
        (
            "basic constraints twice",
            |p| p.custom_extensions.push(extension(&BASIC_CONSTRAINTS, true, &[0x30, 0x03, 0x01, 0x01, 0xff])),
            "duplicate",
        ),
        (
            "an extension nobody knows",
            |p| p.custom_extensions.push(extension(&[1, 2, 3, 4], true, &[5, 0])),
            "UnsupportedCriticalExtension",
        ),
        (
            "empty extended key usage",
            |p| {
                p.extended_key_usages.clear();
                p.custom_extensions.push(extension(&[2, 5, 29, 37], false, &[0x30, 0]));
            },
            "no serverAuth",
        ),
    ];
    for (what, change, reason) in shapes {
        mesh.refuses(what, &mesh.home.workload_with(FRONTEND, change), reason);
    }
}

#[test]
fn refuses_certificates_out_of_their_time() {
    let mesh = Mesh::new();
    let now = OffsetDateTime::now_utc;
    let expired = mesh.home.workload_with(FRONTEND, |p| p.not_after = now() - Duration::minutes(1));
    mesh.refuses("expired", &expired, "has expired");
    let early = mesh.home.workload_with(FRONTEND, |p| p.not_before = now() + Duration::minutes(1));
    mesh.refuses("not yet valid", &early, "is not valid yet");
}

#[test]
fn a_root_vouches_for_its_own_trust_domain_only() {
    let mesh = Mesh::new();
    let abroad = "spiffe://friend.example/ns/default/sa/frontend";
    mesh.accepts("a federated domain", &mesh.friend.workload(abroad), abroad);
    mesh.refuses(
        "ours, signed by the friend",
        &mesh.friend.workload(FRONTEND),
        "not valid: it does not lead to a root",
    );
    mesh.refuses("the friend's, signed by us", &mesh.home.workload(abroad), "not valid: it does not lead to a root");
    for domain in ["stranger.example", "cluster.loca", "cluster.local.friend.example", "local"] {
        let workload = mesh.home.workload(&format!("spiffe://{domain}/ns/default/sa/frontend"));
        mesh.refuses(domain, &workload, "without a trust bundle");
    }
}

#[test]
fn refuses_signatures_by_anyone_else() {
    let mesh = Mesh::new();
    mesh.refuses("a stranger's root", &Signer::root("stranger").workload(FRONTEND), "does not lead to a root");
    mesh.refuses("a root of the same name", &Signer::root("home").workload(FRONTEND), "InvalidSignatureForPublicKey");
    let key = KeyPair::generate().unwrap();
    let itself = workload_params(FRONTEND).self_signed(&key).unwrap();
    mesh.refuses("itself", &Workload { chain: vec![itself.der().clone()], key }, "does not lead to a root");
    // The root's own certificate as the "intermediate" of someone else's leaf changes nothing.
    let mut with_root = Signer::root("stranger").workload(FRONTEND);
    with_root.chain.push(mesh.home.der.clone());
    mesh.refuses("a stranger with our root", &with_root, "does not lead to a root");
}

#[test]
fn refuses_a_certificate_without_its_key() {
    let mesh = Mesh::new();
    let mut thief = mesh.home.workload(FRONTEND);
    thief.key = KeyPair::generate().unwrap();
    for outcome in [mesh.as_client(&thief), mesh.as_server(&thief, FRONTEND)] {
        assert_eq!(outcome, Err(TlsError::InvalidCertificate(rustls::CertificateError::BadSignature)));
    }
}

#[test]
fn refuses_a_client_without_a_certificate() {
    let mesh = Mesh::new();
    let provider = crate::tls::provider();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier {
            peers: Arc::new(PeerVerifier::new(
                TrustBundles::of_one(HOME, &mesh.home.pem),
                RevocationLists::default(),
                crate::tls::provider().signature_verification_algorithms,
            )),
            expected: id(BACKEND).into(),
        }))
        .with_no_client_auth();
    let handshake = Handshake::run(Arc::new(config), mesh.backend.server_config());
    assert_eq!(handshake.server_result, Err(TlsError::NoCertificatesPresented));
}

#[test]
fn a_server_must_be_the_expected_workload() {
    let mesh = Mesh::new();
    for found in [
        "spiffe://cluster.local/ns/default/sa/backend2",
        "spiffe://cluster.local/ns/default/sa/backen",
        "spiffe://cluster.local/ns/default/sa/Backend",
        "spiffe://cluster.local/ns/default/sa/backend/x",
        "spiffe://cluster.local/ns/other/sa/backend",
        FRONTEND,
    ] {
        let outcome = mesh.as_server(&mesh.home.workload(found), BACKEND);
        assert_refused(found, outcome, &format!("the server is {found}, expected was {BACKEND}"));
    }
    // Dots do not stand for any character.
    let dotted = "spiffe://cluster.local/ns/default/sa/a.b";
    let outcome = mesh.as_server(&mesh.home.workload("spiffe://cluster.local/ns/default/sa/axb"), dotted);
    assert_refused("a dot", outcome, "expected was");
    // The same path in another trusted domain.
    let abroad = mesh.friend.workload("spiffe://friend.example/ns/default/sa/backend");
    assert_refused("another domain", mesh.as_server(&abroad, BACKEND), "expected was");
}

#[test]
fn follows_intermediates_that_may_sign() {
    let mesh = Mesh::new();
    let one = mesh.home.intermediate("one", |_| {});
    let two = one.intermediate("two", |_| {});
    mesh.accepts("one intermediate", &one.workload(FRONTEND), FRONTEND);
    mesh.accepts("two intermediates", &two.workload(FRONTEND), FRONTEND);
    let free = mesh.home.intermediate("no key usage", |p| p.key_usages.clear());
    mesh.accepts("an intermediate without key usage", &free.workload(FRONTEND), FRONTEND);

    let mut extra = one.workload(FRONTEND);
    extra.chain.extend((2..=10).map(|_| mesh.friend.der.clone()));
    mesh.accepts("ten certificates more, nine of them no use", &extra, FRONTEND);
    extra.chain.push(mesh.friend.der.clone());
    mesh.refuses("eleven", &extra, "sent 11 intermediate certificates, at most 10");
}

#[test]
fn refuses_intermediates_that_may_not_sign() {
    let mesh = Mesh::new();
    let mut missing = mesh.home.intermediate("one", |_| {}).workload(FRONTEND);
    missing.chain.truncate(1);
    mesh.refuses("not sent", &missing, "does not lead to a root");

    let shapes: [(&str, Change, &str); 7] = [
        ("usage not readable", |p| usage_by_hand(p, true, &[4, 1, 0]), "has no keyCertSign"),
        ("no keyCertSign", |p| p.key_usages = vec![Ku::DigitalSignature, Ku::CrlSign], "has no keyCertSign"),
        ("not a CA", |p| p.is_ca = IsCa::ExplicitNoCa, "EndEntityUsedAsCa"),
        ("expired", |p| p.not_after = OffsetDateTime::now_utc() - Duration::minutes(1), "has expired"),
        ("not yet valid", |p| p.not_before = OffsetDateTime::now_utc() + Duration::minutes(1), "is not valid yet"),
        ("an unknown extension", |p| p.custom_extensions.push(extension(&[1, 2, 3], true, &[5, 0])), "Unsupported"),
        (
            // permittedSubtrees: URI cluster.local. webpki cannot check it, and so refuses.
            "URI name constraints",
            |p| {
                let content = [&[0x30, 0x13, 0xa0, 0x11, 0x30, 0x0f, 0x86, 0x0d], b"cluster.local".as_slice()].concat();
                p.custom_extensions.push(extension(&NAME_CONSTRAINTS, true, &content));
            },
            "NameConstraint",
        ),
    ];
    for (what, change, reason) in shapes {
        mesh.refuses(what, &mesh.home.intermediate("odd", change).workload(FRONTEND), reason);
    }

    let short = mesh.home.intermediate("short", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = short.intermediate("below", |_| {});
    mesh.refuses("path length", &below.workload(FRONTEND), "PathLenConstraintViolated");

    let mut deep = mesh.home.intermediate("1", |_| {});
    for depth in 2..=7 {
        deep = deep.intermediate(&depth.to_string(), |_| {});
    }
    mesh.refuses("seven deep", &deep.workload(FRONTEND), "MaximumPathDepthExceeded");
}

#[test]
fn a_workload_cannot_sign_for_another() {
    let mesh = Mesh::new();
    let mut params = workload_params(BACKEND);
    params.distinguished_name.push(rcgen::DnType::CommonName, "backend");
    let key = KeyPair::generate().unwrap();
    let backend = params.signed_by(&key, &mesh.home.issuer).unwrap();
    let forger = rcgen::Issuer::new(params, key);
    let forged_key = KeyPair::generate().unwrap();
    let forged = workload_params(FRONTEND).signed_by(&forged_key, &forger).unwrap();
    let chain = vec![forged.der().clone(), backend.der().clone()];
    mesh.refuses("signed by a workload", &Workload { chain, key: forged_key }, "EndEntityUsedAsCa");
}

#[test]
fn old_and_new_roots_overlap() {
    let (old, new) = (Signer::root("root"), Signer::root("root"));
    let frontend = old.workload(FRONTEND).identity(&[&old, &new], &[]);
    let backend = new.workload(BACKEND).identity(&[&new, &old], &[]);
    let client = frontend.client_config(&id(BACKEND).into(), ClientAlpn::Http1);
    let handshake = Handshake::run(client, backend.server_config());
    assert_eq!((handshake.client_result, handshake.server_result), (Ok(()), Ok(())));
}

/// Checks that cannot be reached through a handshake, because the provider does not load such a key.
fn verify_pem(leaf: &[u8], root: &str, now: UnixTime) -> Result<SpiffeId, PeerError> {
    let bundles = TrustBundles::of_one(HOME, root);
    let algorithms = crate::tls::provider().signature_verification_algorithms;
    let leaf = CertificateDer::from_pem_slice(leaf).unwrap();
    PeerVerifier::new(bundles, RevocationLists::default(), algorithms)
        .verify_caller(&leaf, &[], now)
        .map(|found| found.peer)
}

#[test]
fn refuses_sha1_and_short_rsa_keys() {
    // In the years the stored certificates are valid in, whatever the clock here says.
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(2_000_000_000));
    let root = include_str!("../../testdata/sha1-root.pem");
    let error = verify_pem(include_bytes!("../../testdata/sha1-leaf.pem"), root, now).unwrap_err();
    assert!(error.to_string().contains("UnsupportedSignatureAlgorithm"), "{error}");
    let error = verify_pem(include_bytes!("../../testdata/rsa1024-leaf.pem"), root, now).unwrap_err();
    assert!(error.to_string().contains("RSA key has 1024 bits"), "{error}");
}

#[test]
fn a_root_is_trusted_only_while_it_is_valid() {
    let now = OffsetDateTime::now_utc;
    let expired = Signer::root_with("root", |p| p.not_after = now() - Duration::minutes(1));
    let future = Signer::root_with("root", |p| p.not_before = now() + Duration::minutes(1));
    let good = Signer::root("root");
    let to_pem = |der: &CertificateDer<'_>| pem("CERTIFICATE", der);
    for bad in [&expired, &future] {
        let leaf = to_pem(&bad.workload(FRONTEND).chain[0]);
        let error = verify_pem(leaf.as_bytes(), &bad.pem, UnixTime::now()).unwrap_err();
        assert_eq!(error, PeerError::NoValidRoot { peer: id(FRONTEND) });
        // Beside a good root it is no more trusted, and does no harm.
        let both = format!("{}{}", bad.pem, good.pem);
        assert!(matches!(verify_pem(leaf.as_bytes(), &both, UnixTime::now()), Err(PeerError::Chain { .. })));
        let leaf = to_pem(&good.workload(FRONTEND).chain[0]);
        assert_eq!(verify_pem(leaf.as_bytes(), &both, UnixTime::now()), Ok(id(FRONTEND)));
    }
}

#[test]
fn the_checks_have_stable_names() {
    let peer = id(FRONTEND);
    for (error, name) in [
        (PeerError::Identity(PeerIdentityError::NoKeyUsage), "identity"),
        (PeerError::UnknownTrustDomain { peer: peer.clone() }, "trust_domain"),
        (PeerError::IntermediateMayNotSign { peer: peer.clone() }, "chain"),
        (PeerError::UnexpectedServer { expected: Box::new(id(BACKEND).into()), found: peer }, "server_identity"),
    ] {
        assert_eq!(error.check(), name);
        assert_eq!(PeerError::of(&error.clone().into()), Some(&error));
    }
    assert_eq!(PeerError::of(&TlsError::NoCertificatesPresented), None);
}

#[test]
fn no_byte_of_a_certificate_can_be_changed_or_cut() {
    let root = Signer::root("root");
    let leaf = root.workload(FRONTEND).chain.swap_remove(0).to_vec();
    let algorithms = crate::tls::provider().signature_verification_algorithms;
    let verifier = PeerVerifier::new(TrustBundles::of_one(HOME, &root.pem), RevocationLists::default(), algorithms);
    let verify = |der: Vec<u8>| verifier.verify_caller(&CertificateDer::from(der), &[], UnixTime::now());
    assert_eq!(verify(leaf.clone()).map(|found| found.peer), Ok(id(FRONTEND)));
    for at in 0..leaf.len() {
        for bit in [0x01, 0x20, 0x80] {
            let mut changed = leaf.clone();
            changed[at] ^= bit;
            assert!(verify(changed).is_err(), "bit {bit:#x} of byte {at}");
        }
        assert!(verify(leaf[..at].to_vec()).is_err(), "cut at {at}");
    }
}
