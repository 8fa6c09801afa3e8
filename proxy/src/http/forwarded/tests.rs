use std::collections::BTreeSet;

use meshgate_config::TrustedPeers;

use super::*;

const GATEWAY: &str = "spiffe://cluster.local/ns/ingress/sa/gateway";
const OTHER: &str = "spiffe://cluster.local/ns/default/sa/other";
const OURS: &str = "By=us;URI=them";

fn told(certificate: ForwardClientCert, addresses: ForwardedFor, caller: Option<&str>) -> Forwarded {
    let settings = HeaderSettings {
        trusted_peers: TrustedPeers::of(BTreeSet::from([GATEWAY.parse().unwrap()])),
        forward_client_cert: certificate,
        forward_whole_cert: false,
        forwarded_for: addresses,
        request_id: true,
    };
    let tells =
        [ForwardClientCert::SanitizeSet, ForwardClientCert::AppendForward].contains(&certificate) && caller.is_some();
    let client_cert = tells.then(|| HeaderValue::from_static(OURS));
    let peer = Peer { id: caller.map(|id| id.parse().unwrap()), sni: None, client_cert, session: None };
    Forwarded::of(&settings, &peer, "192.0.2.7".parse().unwrap())
}

/// What is there of a header after these lines came in it; the lines of one that stays are given as they are.
fn lines(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers.get_all(name).iter().map(|line| line.to_str().unwrap().to_owned()).collect()
}

#[test]
fn client_certificates_are_told_as_each_mode_says() {
    use ForwardClientCert::{AlwaysForwardOnly, AppendForward, ForwardOnly, Sanitize, SanitizeSet};
    for (mode, trusted, mesh, plain) in [
        (Sanitize, &[][..], &[][..], &[][..]),
        (SanitizeSet, &[OURS], &[OURS], &[]),
        (AppendForward, &["a,b,By=us;URI=them"], &[OURS], &[]),
        (ForwardOnly, &["a", "b"], &[], &[]),
        (AlwaysForwardOnly, &["a", "b"], &["a", "b"], &["a", "b"]),
    ] {
        for (caller, expected) in [(Some(GATEWAY), trusted), (Some(OTHER), mesh), (None, plain)] {
            let forwarded = told(mode, ForwardedFor::Preserve, caller);
            let mut headers = HeaderMap::new();
            if forwarded.received() == ClientCert::Keep {
                headers.append(&CLIENT_CERT, HeaderValue::from_static("a"));
                headers.append(&CLIENT_CERT, HeaderValue::from_static("b"));
            }
            forwarded.tell_certificate(&mut headers);
            assert_eq!(lines(&headers, &CLIENT_CERT), expected, "{mode:?} {caller:?}");
        }
    }
}

#[test]
fn addresses_are_told_as_each_mode_says() {
    use ForwardedFor::{Append, Preserve, Sanitize};
    for (mode, trusted, other) in [
        (Preserve, &["1.1.1.1", "2.2.2.2"][..], &["1.1.1.1", "2.2.2.2"][..]),
        (Append, &["1.1.1.1, 2.2.2.2, 192.0.2.7"], &["192.0.2.7"]),
        (Sanitize, &["1.1.1.1", "2.2.2.2"], &[]),
    ] {
        for (caller, expected) in [(Some(GATEWAY), trusted), (Some(OTHER), other), (None, other)] {
            let mut headers = HeaderMap::new();
            headers.append(&FORWARDED_FOR, HeaderValue::from_static("1.1.1.1"));
            headers.append(&FORWARDED_FOR, HeaderValue::from_static("2.2.2.2"));
            for name in ["forwarded", "x-real-ip", "x_forwarded_for", "x-forwarded_for"] {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static("3.3.3.3"));
            }
            told(ForwardClientCert::Sanitize, mode, caller).tell_address(&mut headers);
            assert_eq!(lines(&headers, &FORWARDED_FOR), expected, "{mode:?} {caller:?}");
            let others = headers.values().filter(|value| *value == "3.3.3.3").count();
            let kept = mode == Preserve || caller == Some(GATEWAY);
            assert_eq!(others, if kept { 4 } else { 0 }, "{mode:?} {caller:?}");
        }
    }
}
