//! Certificates, as a peer shows them and as files hold them.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meshgate_identity::{SpiffeId, ca, client_cert_element, peer_identity};
use rustls_pki_types::CertificateDer;

use super::documents::written;

static OWN: LazyLock<SpiffeId> =
    LazyLock::new(|| "spiffe://cluster.local/ns/default/sa/backend".parse().expect("an ID"));

/// A certificate's DER; or, when it begins with a hyphen, a PEM file. What names a caller names it once, and nothing of what its
/// owner chose ends a field of what an application is told.
pub fn certificate(data: &[u8]) {
    if data.starts_with(b"-") {
        shown(data);
        return;
    }
    let leaf = CertificateDer::from(data);
    let identity = peer_identity(&leaf);
    for whole in [false, true] {
        match (&identity, client_cert_element(&leaf, &OWN, whole)) {
            (Ok(id), Ok(element)) => says_what_it_is_to(&element, id, whole),
            (Ok(id), Err(error)) => panic!("{id} cannot be told of: {error}"),
            (Err(error), _) => assert!(!error.to_string().is_empty()),
        }
    }
    if identity.is_ok() {
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(data));
        shown(pem.as_bytes());
    }
}

/// A request for a certificate: DER; or, when it begins with a hyphen, PEM. What is one is for us only if it names nobody else.
pub fn certificate_request(data: &[u8]) {
    let text = match data.starts_with(b"-") {
        true => String::from_utf8_lossy(data).into_owned(),
        false => {
            let encoded = STANDARD.encode(data);
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{encoded}\n-----END CERTIFICATE REQUEST-----\n")
        }
    };
    match ca::SigningRequest::parse(&text) {
        Ok(request) => match request.check_names(&OWN) {
            Ok(()) => assert!(request.names().all(|name| name == OWN.as_str())),
            Err(ca::RequestError::Name { asked, .. }) => assert_ne!(asked, OWN.as_str()),
            Err(other) => panic!("{other}"),
        },
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn says_what_it_is_to(element: &str, id: &SpiffeId, whole: bool) {
    assert!(element.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{element:?}");
    let fields = fields(element);
    let mut names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let value = |wanted: &str| fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    assert_eq!(value("By"), Some(OWN.to_string().as_str()));
    assert_eq!(value("URI"), Some(id.to_string().as_str()), "{element}");
    while names.last() == Some(&"DNS") {
        names.pop();
    }
    let cert = if whole { &["Cert"][..] } else { &[] };
    assert_eq!(names, [&["By", "Hash"], cert, &["Subject", "URI"]].concat(), "{element}");
}

/// As Envoy and others take an element apart: at semicolons and commas outside of quotes, in which a backslash escapes.
fn fields(element: &str) -> Vec<(&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    let ends = |character| {
        let is_escaped = std::mem::take(&mut escaped);
        match character {
            '\\' => escaped = quoted && !is_escaped,
            '"' if !is_escaped => quoted = !quoted,
            _ => {}
        }
        !quoted && [';', ','].contains(&character)
    };
    element.split(ends).map(|field| field.split_once('=').expect("a name and a value")).collect()
}

fn shown(pem: &[u8]) {
    let file = written("certificates", "fuzzed.pem", pem).join("fuzzed.pem");
    let Ok(all) = ca::show(&file) else { return };
    assert!(!all.is_empty());
    for one in all {
        let texts = [&one.subject, &one.issuer].into_iter().chain(&one.dns_names).chain(&one.problems);
        for text in texts.chain(&one.extended_key_usages) {
            assert!(!text.contains(char::is_control), "{text:?}");
        }
        if let Some(id) = one.spiffe_id {
            assert_eq!(id.to_string().parse::<SpiffeId>(), Ok(id));
        }
    }
}
