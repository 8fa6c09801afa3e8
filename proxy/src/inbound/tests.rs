use super::*;

#[test]
fn takes_connections_as_peer_authentication_says() {
    use Admission::{Gone, Plain, Refuse, Terminate};
    use Detected::{Closed, Http1, Http2, Opaque, TimedOut, Tls};
    let refuse = Refuse("plaintext on a port with STRICT mutual TLS");
    for (mode, detected, expected) in [
        (MtlsMode::Strict, Tls { mesh: true }, Terminate),
        (MtlsMode::Strict, Tls { mesh: false }, Terminate),
        (MtlsMode::Strict, Http1, refuse),
        (MtlsMode::Strict, Opaque, refuse),
        (MtlsMode::Strict, TimedOut, refuse),
        (MtlsMode::Strict, Closed, Gone),
        (MtlsMode::Permissive, Tls { mesh: true }, Terminate),
        (MtlsMode::Permissive, Tls { mesh: false }, Plain(Protocol::Tcp)),
        (MtlsMode::Permissive, Http1, Plain(Protocol::Http1)),
        (MtlsMode::Permissive, Http2, Plain(Protocol::Http2)),
        (MtlsMode::Permissive, TimedOut, Plain(Protocol::Tcp)),
        (MtlsMode::Disable, Tls { mesh: true }, Plain(Protocol::Tcp)),
        (MtlsMode::Disable, Http1, Plain(Protocol::Http1)),
        (MtlsMode::Disable, Opaque, Plain(Protocol::Tcp)),
    ] {
        assert_eq!(admit(mode, detected, AppProtocol::Auto), expected, "{mode:?} {detected:?}");
    }
}

#[test]
fn a_port_that_is_tcp_as_declared_or_by_number_is_never_parsed_but_still_takes_mutual_tls() {
    use Admission::{Plain, Terminate};
    for (mode, detected, expected) in [
        (MtlsMode::Permissive, Detected::Tls { mesh: true }, Terminate),
        (MtlsMode::Strict, Detected::Tls { mesh: true }, Terminate),
        (MtlsMode::Permissive, Detected::Http1, Plain(Protocol::Tcp)),
        (MtlsMode::Permissive, Detected::TimedOut, Plain(Protocol::Tcp)),
        (MtlsMode::Disable, Detected::Http2, Plain(Protocol::Tcp)),
    ] {
        for hint in [AppProtocol::Tcp, AppProtocol::Opaque] {
            assert_eq!(admit(mode, detected, hint), expected, "{mode:?} {detected:?} {hint:?}");
        }
    }
}

#[test]
fn a_port_declared_http_is_parsed_whatever_the_caller_sends_and_when() {
    use Detected::{Http1, Http2, Opaque, TimedOut};
    for (mode, detected, hint, expected) in [
        (MtlsMode::Permissive, Opaque, AppProtocol::Http, Protocol::Http1),
        (MtlsMode::Permissive, TimedOut, AppProtocol::Http, Protocol::Http1),
        (MtlsMode::Disable, Opaque, AppProtocol::Http2, Protocol::Http2),
        (MtlsMode::Disable, Http2, AppProtocol::Http, Protocol::Http2),
        (MtlsMode::Disable, Http1, AppProtocol::Http2, Protocol::Http1),
    ] {
        assert_eq!(admit(mode, detected, hint), Admission::Plain(expected), "{mode:?} {detected:?} {hint:?}");
    }
}
