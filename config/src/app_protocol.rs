//! What is spoken on a port, as far as it can be known before anybody speaks.
//!
//! The one idea: who declares a port says what it is; a number only says what it probably is. So a port that is opaque by its number
//! is not parsed either, but policies that need requests still refuse on it.

use std::collections::BTreeSet;

/// What is spoken on a service's port, by its `appProtocol` or the beginning of its name, as Istio reads them, else by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AppProtocol {
    /// Not said: to be detected.
    #[default]
    Auto,
    /// HTTP/1.1, which may turn into something else by upgrade.
    Http,
    /// HTTP/2, without negotiation; gRPC.
    Http2,
    /// Anything that is not to be parsed.
    Tcp,
    /// Not said, and one of the [`OpaquePorts`]: not to be parsed either.
    Opaque,
}

/// Ports that are not parsed where nobody says what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpaquePorts(BTreeSet<u16>);

impl Default for OpaquePorts {
    /// Where servers speak first, so that detection would keep both waiting, or what is spoken is easily taken for something else:
    /// SMTP (25, 587), DNS (53), MySQL (3306), Galera (4444), PostgreSQL (5432), Redis (6379), Elasticsearch (9300), Memcached
    /// (11211) and MongoDB (27017). These are Linkerd's and Istio's together.
    fn default() -> Self {
        [25, 53, 587, 3306, 4444, 5432, 6379, 9300, 11211, 27017].into_iter().collect()
    }
}

impl FromIterator<u16> for OpaquePorts {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        Self(ports.into_iter().collect())
    }
}

impl OpaquePorts {
    /// What a port is where nobody says it.
    pub(crate) fn undeclared(&self, port: u16) -> AppProtocol {
        if self.0.contains(&port) { AppProtocol::Opaque } else { AppProtocol::Auto }
    }
}

impl AppProtocol {
    /// Whether it is passed on as bytes, whatever they look like.
    pub fn is_bytes(self) -> bool {
        matches!(self, Self::Tcp | Self::Opaque)
    }

    /// By `appProtocol`, else by the port name's beginning, else by number. An `appProtocol` that says nothing to us still says that
    /// the name does not count.
    pub(crate) fn of(app_protocol: Option<&str>, name: Option<&str>, port: u16, opaque: &OpaquePorts) -> AppProtocol {
        if let Some(explicit) = app_protocol {
            return match explicit.to_ascii_lowercase().as_str() {
                "kubernetes.io/h2c" => AppProtocol::Http2,
                "kubernetes.io/ws" => AppProtocol::Http,
                "kubernetes.io/wss" => AppProtocol::Tcp,
                other => AppProtocol::word(other),
            };
        }
        let by_name = name.map(|name| {
            let name = name.to_ascii_lowercase();
            let prefix = if name.starts_with("grpc-web") { "grpc-web" } else { name.split('-').next().unwrap_or("") };
            AppProtocol::word(prefix)
        });
        match by_name {
            Some(known) if known != AppProtocol::Auto => known,
            _ => opaque.undeclared(port),
        }
    }

    fn word(word: &str) -> AppProtocol {
        match word {
            "http" | "grpc-web" => AppProtocol::Http,
            "http2" | "grpc" => AppProtocol::Http2,
            "tcp" | "tls" | "https" | "mongo" | "mysql" | "redis" => AppProtocol::Tcp,
            _ => AppProtocol::Auto,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_read_as_istio_reads_them() {
        use AppProtocol::{Auto, Http, Http2, Opaque, Tcp};
        let opaque = OpaquePorts::default();
        for (app_protocol, name, port, expected) in [
            (None, None, 80, Auto),
            (None, Some("http"), 80, Http),
            (None, Some("HTTP-web"), 80, Http),
            (None, Some("http2-api"), 80, Http2),
            (None, Some("grpc"), 80, Http2),
            (None, Some("grpc-web"), 80, Http),
            (None, Some("https"), 443, Tcp),
            (None, Some("mysql-main"), 80, Tcp),
            (None, Some("httpx"), 80, Auto),
            (None, None, 3306, Opaque),
            (None, Some("db"), 3306, Opaque),
            (None, Some("http"), 25, Http),
            (None, Some("tcp-db"), 3306, Tcp),
            (None, Some("tls"), 80, Tcp),
            (None, Some("mongo"), 80, Tcp),
            (None, Some("redis-0"), 80, Tcp),
            (None, Some("udp-dns"), 53, Opaque),
            (Some("tcp"), Some("http"), 80, Tcp),
            (Some("mysql"), None, 80, Tcp),
            (Some("https"), None, 80, Tcp),
            (Some("grpc"), None, 6379, Http2),
            (Some("kubernetes.io/wss"), None, 80, Tcp),
            (Some("kubernetes.io/h2c"), None, 80, Http2),
            (Some("kubernetes.io/ws"), Some("tcp"), 80, Http),
            (Some("HTTP"), None, 80, Http),
            (Some("example.com/mine"), Some("http"), 80, Auto),
        ] {
            assert_eq!(
                AppProtocol::of(app_protocol, name, port, &opaque),
                expected,
                "{app_protocol:?} {name:?} {port}"
            );
        }
    }

    #[test]
    fn the_ports_of_linkerd_and_istio_are_opaque_unless_others_are_given() {
        let of = |port, opaque: &OpaquePorts| AppProtocol::of(None, None, port, opaque);
        for port in [25, 53, 587, 3306, 4444, 5432, 6379, 9300, 11211, 27017] {
            assert_eq!(of(port, &OpaquePorts::default()), AppProtocol::Opaque, "{port}");
            assert_eq!(of(port, &OpaquePorts::from_iter([7])), AppProtocol::Auto, "{port}");
        }
        assert_eq!(of(7, &OpaquePorts::from_iter([7])), AppProtocol::Opaque);
    }
}
