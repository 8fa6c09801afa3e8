use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, PKCS_ECDSA_P521_SHA512, SanType};
use tempfile::TempDir;

use super::*;
use crate::ca::{InitOptions, init};
use crate::testing::*;
use crate::{PendingSvid, RequestKey, peer_identity};

fn authority() -> (TempDir, Authority) {
    let dir = TempDir::new().unwrap();
    let authority = init(dir.path(), &InitOptions::new(HOME.parse().unwrap())).unwrap();
    (dir, authority)
}

fn request(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    change(&mut params);
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn certificate_of(signed: &Signed) -> rustls_pki_types::CertificateDer<'static> {
    rustls_pki_types::CertificateDer::from_pem_slice(signed.certificate_pem.as_bytes()).unwrap()
}

#[test]
fn a_request_gets_a_leaf_for_who_was_proven_and_nothing_else_that_it_asks_for() {
    let (_dir, authority) = authority();
    let pem = request(&KeyPair::generate().unwrap(), |params| {
        params.subject_alt_names = vec![uri(FRONTEND)];
        params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    });
    let request = SigningRequest::parse(&pem).unwrap();
    request.check_names(&id(FRONTEND)).unwrap();
    let signed = authority.sign(&request, id(FRONTEND), Duration::from_secs(600)).unwrap();
    let der = certificate_of(&signed);
    assert_eq!(peer_identity(&der).unwrap(), id(FRONTEND));
    let parsed = certificate::parse(&der).unwrap();
    assert!(!certificate::is_ca(&parsed).unwrap() && !certificate::may_sign_certificates(&parsed));
    assert_eq!(parsed.subject().iter().count(), 0);
    assert_eq!(certificate::serial(&parsed), signed.serial);
    assert_eq!(certificate::validity(&parsed).1, signed.not_after);
    let left = signed.not_after.duration_since(SystemTime::now()).unwrap();
    assert!(left <= Duration::from_secs(600) && left > Duration::from_secs(590), "{left:?}");
}

#[test]
fn a_name_that_is_not_the_proven_one_is_refused_and_none_is_none() {
    let check = |names: Vec<SanType>| {
        let pem = request(&KeyPair::generate().unwrap(), |params| params.subject_alt_names = names);
        SigningRequest::parse(&pem).unwrap().check_names(&id(FRONTEND))
    };
    assert_eq!(check(vec![]), Ok(()));
    assert_eq!(check(vec![uri(FRONTEND)]), Ok(()));
    for names in [
        vec![uri(BACKEND)],
        vec![uri(FRONTEND), uri(BACKEND)],
        vec![uri(FRONTEND), SanType::DnsName("frontend.default.svc".try_into().unwrap())],
        vec![SanType::IpAddress([10, 0, 0, 1].into())],
    ] {
        assert!(matches!(check(names.clone()), Err(RequestError::Name { .. })), "{names:?}");
    }
}

#[test]
fn only_a_whole_request_by_its_own_key_is_one() {
    let key = KeyPair::generate().unwrap();
    let pem = request(&key, |_| {});
    assert!(SigningRequest::parse(&pem).is_ok());
    for text in [String::new(), pem.repeat(2), pem.replace("CERTIFICATE REQUEST", "CERTIFICATE"), pem.replace("M", "")]
    {
        assert!(matches!(SigningRequest::parse(&text), Err(RequestError::Form(_))), "{text}");
    }
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
    let followed = crate::delivered::section("CERTIFICATE REQUEST", &[&der[..], &[0]].concat());
    assert!(matches!(SigningRequest::parse(&followed), Err(RequestError::Form(_))));
    // Another's key in a request that was good.
    let other = KeyPair::generate().unwrap();
    let (own, others) = (key.public_key_raw(), other.public_key_raw());
    let at = der.windows(own.len()).position(|window| window == own).unwrap();
    let mut stolen = der.to_vec();
    stolen[at..at + own.len()].copy_from_slice(others);
    let stolen = crate::delivered::section("CERTIFICATE REQUEST", &stolen);
    assert_eq!(SigningRequest::parse(&stolen).unwrap_err(), RequestError::Signature);
}

#[test]
fn keys_of_other_kinds_are_refused() {
    for (algorithm, good) in [
        (&PKCS_ECDSA_P256_SHA256, true),
        (&PKCS_ECDSA_P384_SHA384, true),
        (&PKCS_ED25519, true),
        (&PKCS_ECDSA_P521_SHA512, false),
    ] {
        let pem = request(&KeyPair::generate_for(algorithm).unwrap(), |_| {});
        let parsed = SigningRequest::parse(&pem);
        assert_eq!(parsed.is_ok(), good, "{algorithm:?}");
        assert!(good || matches!(parsed, Err(RequestError::Key)));
    }
}

#[test]
fn an_answer_is_taken_with_the_key_it_was_asked_for_and_without_its_root() {
    let (dir, authority) = authority();
    for kind in [RequestKey::P256, RequestKey::P384] {
        let pending = PendingSvid::new(&id(FRONTEND), kind).unwrap();
        let request = SigningRequest::parse(pending.request_pem()).unwrap();
        request.check_names(&id(FRONTEND)).unwrap();
        let signed = authority.sign(&request, id(FRONTEND), Duration::from_secs(600)).unwrap();
        let chain = [signed.certificate_pem.clone(), authority.certificate_pem().to_owned()];
        let delivered = pending.answered(chain.iter().map(String::as_str)).unwrap();
        let sources = crate::Sources {
            trust_bundle: dir.path().join(crate::ca::CERTIFICATE_FILE),
            ..crate::Sources::workload_api(id(FRONTEND), "ca.example:15012".into())
        };
        let store = crate::IdentityStore::delivered(sources.clone(), delivered).unwrap();
        assert_eq!(store.current().svid().chain().len(), 1);
        assert_eq!(store.paths(), std::slice::from_ref(&sources.trust_bundle));
        // The certificate of another's key.
        let other = PendingSvid::new(&id(FRONTEND), kind).unwrap();
        let error = store.deliver(other.answered(chain.iter().map(String::as_str)).unwrap()).unwrap_err();
        assert!(matches!(error, crate::IdentityError::KeyMismatch { .. }), "{error}");
    }
    let pending = || PendingSvid::new(&id(FRONTEND), RequestKey::P256).unwrap();
    assert!(pending().answered([]).err().unwrap().contains("no certificate"));
    assert!(pending().answered(["-----BEGIN CERTIFICATE-----\nAA"]).is_err());
    let many = authority.certificate_pem().repeat(13);
    assert!(pending().answered([many.as_str()]).err().unwrap().contains("13 certificates"));
}

#[test]
fn no_byte_of_what_is_signed_can_be_changed_or_cut() {
    let key = KeyPair::generate().unwrap();
    let pem = request(&key, |params| params.subject_alt_names = vec![uri(FRONTEND)]);
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
    let parse = |der: &[u8]| SigningRequest::parse(&crate::delivered::section("CERTIFICATE REQUEST", der));
    let (_, parsed) = X509CertificationRequest::from_der(&der).unwrap();
    let signed = parsed.certification_request_info.raw;
    let start = der.windows(signed.len()).position(|window| window == signed).unwrap();
    for at in 0..der.len() {
        assert!(parse(&der[..at]).is_err(), "cut at {at}");
        let mut changed = der.to_vec();
        changed[at] ^= 1;
        // What says how it is signed is not signed, and means nothing: the key does.
        let outcome = parse(&changed);
        assert!(!(start..start + signed.len()).contains(&at) || outcome.is_err(), "changed at {at}");
    }
}
