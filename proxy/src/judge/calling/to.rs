//! What is called, as one writes it: a URL, or a name or address with a port.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::uri::Authority;

const HTTP_PORT: u16 = 80;

/// Where a call goes and what is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct To {
    host: String,
    port: u16,
    tcp: bool,
}

impl To {
    /// Bytes, whatever a service says of its port. A caller's own TLS is bytes.
    pub(super) fn is_tcp(&self) -> bool {
        self.tcp
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// As clients send it as a Host: without the usual port.
    pub(super) fn authority(&self) -> String {
        if self.says_port() { format!("{}:{}", self.host, self.port) } else { self.host.clone() }
    }

    /// Whether a client's Host has the port.
    pub(super) fn says_port(&self) -> bool {
        self.tcp || self.port != HTTP_PORT
    }

    /// Where that is no name.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, self.port))
    }
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected such as http://backend.shop:8080/, backend.shop:8080 or tcp://10.96.0.10:5432";
        let wrong = || format!("`{text}`: {expected}");
        let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
        let (tcp, usual) = match scheme {
            None | Some("http") => (false, Some(HTTP_PORT)),
            Some("https") => (true, Some(443)),
            Some("tcp") => (true, None),
            Some(_) => return Err(wrong()),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let parsed: Authority = authority.parse().map_err(|_| wrong())?;
        let written = authority.strip_prefix(parsed.host()).and_then(|rest| rest.strip_prefix(':'));
        let port = match written {
            None => usual.filter(|_| parsed.host() == authority),
            Some(_) => parsed.port_u16(),
        };
        match port {
            Some(port @ 1..) if !parsed.host().is_empty() => Ok(Self { host: parsed.host().to_owned(), port, tcp }),
            _ => Err(wrong()),
        }
    }
}
