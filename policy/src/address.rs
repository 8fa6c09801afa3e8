//! Addresses of servers, as operators and servers write them.

use http::uri::Authority;

/// Why nobody can be dialled at an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no port: expected 1 to 65535")]
pub struct PortError(String);

/// The port that an address says; `None` where it says none. `http` knows none either where what stands there is no port, and
/// whoever goes by that dials somebody else.
///
/// # Errors
/// What stands there is no port that could be dialled.
pub fn port(authority: &Authority) -> Result<Option<u16>, PortError> {
    let whole = authority.as_str();
    let server = whole.rsplit_once('@').map_or(whole, |(_, server)| server);
    match server.strip_prefix(authority.host()) {
        Some("") => Ok(None),
        rest => {
            let written = rest.and_then(|rest| rest.strip_prefix(':')).unwrap_or(server);
            let is_number = written.bytes().all(|byte| byte.is_ascii_digit());
            let port = written.parse().ok().filter(|port| is_number && *port > 0);
            port.map(Some).ok_or_else(|| PortError(written.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_port_is_not_taken_for_none() {
        let of = |address: &str| port(&address.parse().unwrap()).map_err(|error| error.0);
        for (address, port) in [
            ("h", None),
            ("h:80", Some(80)),
            ("u@h", None),
            ("u:1@h:65535", Some(65535)),
            ("[::1]", None),
            ("[::1]:443", Some(443)),
            ("127.0.0.1:1", Some(1)),
        ] {
            assert_eq!(of(address), Ok(port), "{address}");
        }
        for (address, written) in
            [("h:", ""), ("h:0", "0"), ("h:99999", "99999"), ("h:4318x", "4318x"), ("[::1]:65536", "65536")]
        {
            assert_eq!(of(address), Err(written.to_owned()), "{address}");
        }
        if let Ok(signed) = "h:+80".parse() {
            assert!(port(&signed).is_err());
        }
    }
}
