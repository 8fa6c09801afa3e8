//! What an application is told about its caller's certificate: one element of `x-forwarded-client-cert`, as Envoy writes it.
//!
//! The one idea: nothing that a certificate's owner can choose may end a field or the element. Names that could are escaped
//! (subjects, by RFC 2253) or left out (DNS names). Format: Envoy's documentation of `x-forwarded-client-cert`.
//!
//! Not here: which callers are told of, and what becomes of elements that were there before.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::certificate;
use crate::{PeerIdentityError, SpiffeId};

/// Characters that RFC 2253, section 2.4, escapes wherever they stand in a value.
const SPECIAL: &[char] = &[',', '+', '"', '\\', '<', '>', ';'];

/// The element about the certificate `leaf`, which was shown to `own`: `By`, `Hash`, `Subject`, `URI` and `DNS`, as in Istio's
/// sidecars, and with `whole` also `Cert`. Printable ASCII without a line end.
///
/// # Errors
/// The certificate cannot be parsed, which the handshake would have refused.
pub fn client_cert_element(
    leaf: &CertificateDer<'_>,
    own: &SpiffeId,
    whole: bool,
) -> Result<String, PeerIdentityError> {
    let parsed = certificate::parse(leaf).map_err(PeerIdentityError::Malformed)?;
    let mut element = format!("By={own};Hash={};", certificate::sha256(leaf));
    if whole {
        element.push_str("Cert=\"");
        percent_encoded(&pem(leaf), &mut element);
        element.push_str("\";");
    }
    element.push_str("Subject=\"");
    subject(parsed.subject(), &mut element);
    element.push_str("\";URI=");
    for uri in certificate::uri_names(&parsed).map_err(PeerIdentityError::Malformed)? {
        element.push_str(uri);
    }
    for name in dns_names(&parsed) {
        element.push_str(";DNS=");
        element.push_str(name);
    }
    Ok(element)
}

/// Those that are names as DNS has them; others could be taken for something else.
fn dns_names<'a>(certificate: &'a X509Certificate<'_>) -> impl Iterator<Item = &'a str> {
    let plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte));
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let dns = |name: &'a GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    };
    names.iter().filter_map(dns).filter(plain)
}

/// The name as RFC 2253 writes it: the last component first.
fn subject(name: &X509Name<'_>, out: &mut String) {
    let components: Vec<_> = name.iter().collect();
    for (index, component) in components.iter().rev().enumerate() {
        if index > 0 {
            out.push(',');
        }
        for (index, attribute) in component.iter().enumerate() {
            if index > 0 {
                out.push('+');
            }
            attribute_text(attribute, out);
        }
    }
}

/// `CN=value`; of a kind without a short name, or a value that is no text, the hexadecimal of its encoding.
fn attribute_text(attribute: &AttributeTypeAndValue<'_>, out: &mut String) {
    let oid = attribute.attr_type();
    match (oid2abbrev(oid, oid_registry()), attribute.as_str()) {
        (Ok(name), Ok(value)) => {
            out.push_str(name);
            out.push('=');
            escaped(value, out);
        }
        (name, _) => {
            out.push_str(&name.map_or_else(|_| oid.to_id_string(), str::to_owned));
            out.push_str("=#");
            out.push_str(&certificate::hex(attribute.attr_value().data));
        }
    }
}

fn escaped(value: &str, out: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        let at_an_end = (index == 0 && (character == ' ' || character == '#')) || (index == last && character == ' ');
        if SPECIAL.contains(&character) || at_an_end {
            out.push('\\');
            out.push(character);
        } else if character == ' ' || character.is_ascii_graphic() {
            out.push(character);
        } else {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
}

/// RFC 7468: lines of 64 characters, which hold 48 bytes each.
fn pem(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// Everything but the unreserved characters of RFC 3986, as Envoy does.
fn percent_encoded(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests;
