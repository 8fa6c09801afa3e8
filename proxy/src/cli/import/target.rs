//! Where gateways are, as written on the command line and as looked up.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use meshgate_config::ClusterKey;

use super::{Complaints, Offer};

/// A host, which may be a name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPort {
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// `KEY=DIR,HOST:PORT`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FromFiles {
    pub(super) key: ClusterKey,
    pub(super) directory: PathBuf,
    pub(super) gateway: HostPort,
}

/// `[KEY=]HOST:PORT`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FromGateway {
    pub(super) key: Option<ClusterKey>,
    pub(super) gateway: HostPort,
}

impl HostPort {
    /// The address, when the host is one.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not HOST:PORT, such as 192.168.1.110:15443 or [fd00::1]:15443");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?.to_string(),
            None => host.to_owned(),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        let is_host = bare.is_some() || !host.is_empty() && host.bytes().all(is_name);
        if is_host { Ok(Self { host, port }) } else { Err(wrong()) }
    }
}

impl FromStr for FromFiles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, rest) = text.split_once('=').ok_or("expected KEY=DIR,HOST:PORT")?;
        let (directory, gateway) = rest.rsplit_once(',').ok_or("expected KEY=DIR,HOST:PORT")?;
        if directory.is_empty() {
            return Err("expected KEY=DIR,HOST:PORT, and DIR is empty".to_owned());
        }
        Ok(Self { key: cluster_key(key)?, directory: directory.into(), gateway: gateway.parse()? })
    }
}

impl FromStr for FromGateway {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, gateway)) => Ok(Self { key: Some(cluster_key(key)?), gateway: gateway.parse()? }),
            None => Ok(Self { key: None, gateway: text.parse()? }),
        }
    }
}

fn cluster_key(text: &str) -> Result<ClusterKey, String> {
    text.parse().map_err(|error| format!("`{text}`: {error}"))
}

/// The address of each gateway that is given by name, by that name. The same one whenever the resolver says the same.
/// A name without one is a note.
pub(super) fn resolve(offers: &[Offer], complaints: &mut Complaints) -> Vec<(String, IpAddr)> {
    let mut found: Vec<(String, IpAddr)> = Vec::new();
    for HostPort { host, port } in offers.iter().map(|offer| &offer.gateway).filter(|gateway| gateway.ip().is_none()) {
        if found.iter().any(|(known, _)| known == host) {
            continue;
        }
        let addresses = (host.as_str(), *port).to_socket_addrs();
        // IPv4 sorts before IPv6.
        match addresses.ok().and_then(|all| all.map(|address| address.ip()).min()) {
            Some(ip) => found.push((host.clone(), ip)),
            None => complaints.notes.push(format!("{host} has no address now: `ip` is left out")),
        }
    }
    found
}
