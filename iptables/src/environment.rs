//! What this network namespace is: the machine's own or a pod's, with IPv6 or without.
//!
//! The one idea: only what the kernel itself says counts, read from `/proc`, which needs no rights and no tool.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::list::Selection;
use crate::options::Options;
use crate::rules::Family;
use crate::system::System;

/// Whether this is the namespace that the machine started with: what every process of a node shares, and a pod with
/// `hostNetwork` too. It is told by settings of all of the kernel's network queues, which the kernel shows in no other
/// namespace. That holds inside of process namespaces and containers as well, where comparing with process 1 says nothing.
///
/// What it cannot tell is a node that is itself a container, as kind's are: there Kubernetes' chains tell.
pub(crate) fn is_of_the_machine(system: &impl System) -> bool {
    system.read(ONLY_IN_THE_FIRST).is_some()
}

/// How much IPv6 there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ipv6 {
    /// None, and how that is told.
    Off(&'static str),
    /// Nothing but the addresses that every interface has.
    Local,
    /// An address that others can reach.
    Addressed,
}

/// How much IPv6 this namespace has.
pub(crate) fn ipv6(system: &impl System) -> Ipv6 {
    let Some(addresses) = system.read(ADDRESSES) else { return Ipv6::Off("the kernel has no IPv6") };
    let mut addresses = addresses.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).peekable();
    if addresses.peek().is_none() && system.read(DISABLED).is_some_and(|value| value.trim() == "1") {
        return Ipv6::Off("IPv6 is off (net.ipv6.conf.all.disable_ipv6 is 1)");
    }
    let reachable = |words: Vec<&str>| match words.as_slice() {
        [_, _, _, scope, _, interface] => *interface != "lo" && !LOCAL_SCOPES.contains(scope),
        _ => false,
    };
    if addresses.any(reachable) { Ipv6::Addressed } else { Ipv6::Local }
}

/// Whether the loopback interface has the address from which the inbound side calls the application.
pub(crate) fn has_inbound_source(system: &impl System) -> bool {
    let addresses = system.read(ADDRESSES).unwrap_or_default();
    addresses.lines().any(|line| line.starts_with(INBOUND_SOURCE) && line.ends_with(" lo"))
}

/// As whom this process makes connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Identity {
    /// Whether the rules take this process for the proxy.
    pub(crate) fn is_proxy(&self, options: &Options) -> bool {
        options.proxy_uid.items().contains(&self.user) || options.proxy_gid.items().contains(&self.group)
    }

    /// Whether the options capture what this process's group sends.
    pub(crate) fn sends_captured(&self, options: &Options) -> bool {
        match &options.outbound_owner_groups {
            Selection::All => !options.outbound_owner_groups_exclude.items().contains(&self.group),
            Selection::Listed(groups) => groups.items().contains(&self.group),
        }
    }
}

/// As whom this process makes connections: the file system ids, which are the ones that the kernel's match looks at.
pub(crate) fn identity(system: &impl System) -> Option<Identity> {
    let status = system.read("/proc/self/status")?;
    let id =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().last()?.parse().ok();
    Some(Identity { user: id("Uid:")?, group: id("Gid:")? })
}

/// An address of this namespace that is not loopback's.
pub(crate) fn own_address(system: &impl System, family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => {
            let tables = system.read(ROUTES)?;
            let lines: Vec<&str> = tables.lines().map(str::trim).collect();
            let local = lines.windows(2).filter_map(|pair| match pair {
                [address, "/32 host LOCAL"] => address.strip_prefix("|-- ")?.parse::<Ipv4Addr>().ok(),
                _ => None,
            });
            local.into_iter().find(|address| !address.is_loopback()).map(IpAddr::from)
        }
        Family::V6 => {
            system.read(ADDRESSES)?.lines().find_map(|line| match *line.split_whitespace().collect::<Vec<_>>() {
                [address, _, _, scope, _, interface] if interface != "lo" && !LOCAL_SCOPES.contains(&scope) => {
                    u128::from_str_radix(address, 16).ok().map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)))
                }
                _ => None,
            })
        }
    }
}

/// `net.core.dev_weight` is one of those that the kernel registers for its first namespace alone.
const ONLY_IN_THE_FIRST: &str = "/proc/sys/net/core/dev_weight";
/// The addresses of this namespace: address, index, prefix, scope, flags, interface.
const ADDRESSES: &str = "/proc/net/if_inet6";
const DISABLED: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
/// The routing tables with their local addresses.
const ROUTES: &str = "/proc/net/fib_trie";
/// Host and link.
const LOCAL_SCOPES: [&str; 2] = ["10", "20"];
/// `::6`
const INBOUND_SOURCE: &str = "00000000000000000000000000000006";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    const LO: &str = "00000000000000000000000000000001 01 80 10 80       lo\n";
    const LINK: &str = "fe80000000000000d47d2dfffe2b35ec 02 40 20 80     eth0\n";
    const GLOBAL: &str = "fd000077000000000000000000000001 02 40 00 80     eth0\n";
    const SOURCE: &str = "00000000000000000000000000000006 01 80 00 80       lo\n";

    #[test]
    fn tells_how_much_ipv6_there_is() {
        let off = "IPv6 is off (net.ipv6.conf.all.disable_ipv6 is 1)";
        for (addresses, disabled, expected) in [
            (None, "0", Ipv6::Off("the kernel has no IPv6")),
            (Some(String::new()), "1", Ipv6::Off(off)),
            (Some(LO.to_owned()), "0", Ipv6::Local),
            (Some(format!("{LO}{LINK}{SOURCE}")), "0", Ipv6::Local),
            (Some(format!("{LO}{GLOBAL}")), "0", Ipv6::Addressed),
            // Switched on again for one interface.
            (Some(GLOBAL.to_owned()), "1", Ipv6::Addressed),
        ] {
            let mut script = Script::default().file(DISABLED, disabled);
            if let Some(addresses) = &addresses {
                script = script.file(ADDRESSES, addresses);
            }
            assert_eq!(ipv6(&script), expected, "{addresses:?} {disabled}");
        }
    }

    #[test]
    fn finds_the_inbound_source_on_loopback_alone() {
        assert!(has_inbound_source(&Script::default().file(ADDRESSES, SOURCE)));
        assert!(!has_inbound_source(&Script::default().file(ADDRESSES, &SOURCE.replace("lo", "eth0"))));
        assert!(!has_inbound_source(&Script::default().file(ADDRESSES, LO)));
    }
}
