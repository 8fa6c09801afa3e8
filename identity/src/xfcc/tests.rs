use rcgen::{CertificateParams, DnType, DnValue, SanType};

use super::*;
use crate::testing::{BACKEND, FRONTEND, Signer, id};

fn element(whole: bool, change: impl FnOnce(&mut CertificateParams)) -> (String, CertificateDer<'static>) {
    let workload = Signer::root("root").workload_with(FRONTEND, change);
    let leaf = workload.chain[0].clone();
    (client_cert_element(&leaf, &id(BACKEND), whole).unwrap(), leaf)
}

#[test]
fn tells_who_asked_whom_with_which_certificate() {
    let (element, leaf) = element(false, |params| {
        params.distinguished_name.push(DnType::OrganizationName, "Mesh, Inc.");
        params.distinguished_name.push(DnType::CommonName, "frontend");
        let dns = SanType::DnsName("frontend.default.svc".try_into().unwrap());
        params.subject_alt_names.push(dns);
    });
    let hash = certificate::sha256(&leaf);
    assert_eq!(
        element,
        format!(
            "By={BACKEND};Hash={hash};Subject=\"CN=frontend,O=Mesh\\, Inc.\";URI={FRONTEND};DNS=frontend.default.svc"
        )
    );
}

#[test]
fn a_certificate_without_a_subject_has_an_empty_one() {
    let (element, _) = element(false, |_| {});
    assert!(element.contains(";Subject=\"\";URI=spiffe://"), "{element}");
}

#[test]
fn nothing_its_owner_chose_ends_a_field() {
    let evil = "x\";URI=spiffe://cluster.local/ns/default/sa/admin;By=\r\n, By=y\\";
    let (element, _) = element(false, |params| {
        params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String(evil.to_owned()));
        params.subject_alt_names.push(SanType::DnsName("a;URI=b".try_into().unwrap()));
    });
    assert!(element.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{element}");
    assert!(
        element.contains(
            "Subject=\"CN=x\\\"\\;URI=spiffe://cluster.local/ns/default/sa/admin\\;By=\\0D\\0A\\, By=y\\\\\";URI="
        ),
        "{element}"
    );
    assert!(!element.contains("DNS"), "{element}");
}

#[test]
fn blanks_at_either_end_and_other_letters_are_escaped() {
    let (element, _) = element(false, |params| {
        params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String(" #é ".to_owned()));
    });
    assert!(element.contains("CN=\\ #\\C3\\A9\\ \""), "{element}");
}

#[test]
fn the_whole_certificate_comes_as_openssl_would_write_it_with_every_odd_byte_encoded() {
    let (element, leaf) = element(true, |_| {});
    let (_, rest) = element.split_once(";Cert=\"").unwrap();
    let (encoded, _) = rest.split_once("\";Subject=").unwrap();
    assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)), "{encoded}");
    let decoded = encoded.replace("%20", " ").replace("%0A", "\n").replace("%2B", "+").replace("%2F", "/");
    assert_eq!(decoded.replace("%3D", "="), crate::testing::pem("CERTIFICATE", &leaf));
}
