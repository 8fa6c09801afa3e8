//! Where to send a probe that the options capture.
//!
//! The one idea: an address of a network that is reserved for documentation, so that nobody is bothered when the redirection
//! does not act; an address of a listed network only where nothing else is captured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::environment::Identity;
use crate::list::Selection;
use crate::options::Options;
use crate::rules::Family;

/// A destination of one family that the options capture when `who` connects to it, at `port` unless that is excluded. `None`
/// when there is none.
pub(crate) fn destination(options: &Options, family: Family, port: u16, who: &Identity) -> Option<SocketAddr> {
    if !who.sends_captured(options) {
        return None;
    }
    let is_free = |address: &IpAddr| !options.outbound_cidrs_exclude.items().iter().any(|net| net.contains(address));
    let nowhere = || nowhere(family).into_iter().find(is_free);
    let ports = [port].into_iter().chain(OTHER_PORTS);
    let port = ports.into_iter().find(|port| !options.outbound_ports_exclude.contains(*port));
    let listed = options.outbound_ports.ranges().first().map(|range| range.first());
    match (&options.outbound_cidrs, port, listed) {
        (Selection::All, Some(port), _) => nowhere().map(|address| SocketAddr::new(address, port)),
        (Selection::Listed(_), _, Some(port)) => nowhere().map(|address| SocketAddr::new(address, port)),
        (Selection::Listed(networks), Some(port), None) => {
            let of_family = networks.items().iter().filter(|network| is_of(network, family));
            let mut addresses = of_family.flat_map(|network| network.hosts().take(MAX_HOSTS));
            addresses.find(is_free).map(|address| SocketAddr::new(address, port))
        }
        _ => None,
    }
}

fn is_of(network: &IpNet, family: Family) -> bool {
    matches!((network, family), (IpNet::V4(_), Family::V4) | (IpNet::V6(_), Family::V6))
}

/// Addresses that nobody has (RFC 5737, RFC 3849, RFC 9637).
fn nowhere(family: Family) -> Vec<IpAddr> {
    match family {
        Family::V4 => [[192, 0, 2, 2], [198, 51, 100, 2], [203, 0, 113, 2]].map(|ip| Ipv4Addr::from(ip).into()).into(),
        Family::V6 => [[0x2001, 0xdb8, 0, 0, 0, 0, 0, 2], [0x3fff, 0, 0, 0, 0, 0, 0, 2]]
            .map(|ip: [u16; 8]| Ipv6Addr::from(ip).into())
            .into(),
    }
}

/// Tried when the wanted port is excluded; all three of them are only by somebody who excludes ranges.
const OTHER_PORTS: [u16; 3] = [80, 8080, 49_151];

/// How many addresses of a listed network are looked at for one that is not excluded.
const MAX_HOSTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Identity;

    #[test]
    fn finds_what_the_options_capture() {
        let list = |text: &str| Selection::Listed(text.parse().unwrap());
        for (cidrs, excluded, ports, excluded_ports, v4, v6) in [
            (Selection::All, "", "", "", "192.0.2.2:15002", "[2001:db8::2]:15002"),
            (Selection::All, "192.0.2.0/24,2001:db8::/32", "", "15002", "198.51.100.2:80", "[3fff::2]:80"),
            (list("10.96.0.0/12"), "10.96.0.1", "", "", "10.96.0.2:15002", ""),
            (list("10.96.0.0/12,fd00::/64"), "", "6379", "", "192.0.2.2:6379", "[2001:db8::2]:6379"),
            (list(""), "", "", "", "", ""),
        ] {
            let options = Options {
                outbound_cidrs: cidrs,
                outbound_cidrs_exclude: excluded.parse().unwrap(),
                outbound_ports: ports.parse().unwrap(),
                outbound_ports_exclude: excluded_ports.parse().unwrap(),
                ..Options::default()
            };
            let of = |family| destination(&options, family, 15002, &Identity::default());
            let text = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
            assert_eq!((text(of(Family::V4)).as_str(), text(of(Family::V6)).as_str()), (v4, v6), "{options:?}");
        }
    }
}
