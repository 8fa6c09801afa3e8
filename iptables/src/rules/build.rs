//! What the rules of every table are made of.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::{Chain, Family, Match, Owner, Rule, Target};
use crate::list::{Interface, PortRange, Selection};
use crate::options::Options;

/// How many ports one rule can name: the limit of the kernel's multiport match, in which a range counts twice.
pub(super) const PORTS_PER_RULE: usize = 15;

/// A rule for both families.
pub(super) fn rule(chain: Chain, matches: impl Into<Vec<Match>>, target: Target, name: &'static str) -> Rule {
    Rule { chain, family: None, matches: matches.into(), target, name }
}

impl Rule {
    /// The same for one family.
    pub(super) fn only(self, family: Family) -> Rule {
        Rule { family: Some(family), ..self }
    }

    /// The same with one more condition in front.
    fn on(mut self, condition: Match) -> Rule {
        self.matches.insert(0, condition);
        self
    }
}

/// One rule a group of ports, for the protocol that `protocol` is.
pub(super) fn by_port(
    chain: Chain,
    protocol: &Match,
    ports: &[PortRange],
    target: Target,
    name: &'static str,
) -> Vec<Rule> {
    let of_group = |group| rule(chain, [Match::ToPorts(group)], target, name).on(protocol.clone());
    groups(ports).into_iter().map(of_group).collect()
}

/// One rule a network, for the family it is of.
pub(super) fn by_network(
    chain: Chain,
    networks: &[IpNet],
    condition: fn(IpNet) -> Match,
    target: Target,
    name: &'static str,
) -> Vec<Rule> {
    let of = |network: &IpNet| rule(chain, [condition(*network)], target, name).only(Family::of(network));
    networks.iter().map(of).collect()
}

/// Ports in as many groups as [`PORTS_PER_RULE`] asks for.
pub(super) fn groups(ports: &[PortRange]) -> Vec<Vec<PortRange>> {
    let mut groups: Vec<Vec<PortRange>> = Vec::new();
    let mut room = 0;
    for range in ports {
        let cost = if range.is_single() { 1 } else { 2 };
        match groups.last_mut() {
            Some(group) if cost <= room => group.push(*range),
            _ => {
                groups.push(vec![*range]);
                room = PORTS_PER_RULE;
            }
        }
        room -= cost;
    }
    groups
}

/// Whom the proxy runs as: users, then groups.
pub(super) fn owners(options: &Options) -> impl Iterator<Item = Owner> {
    let uids = options.proxy_uid.items().iter().map(|uid| Owner::Uid(*uid));
    uids.chain(options.proxy_gid.items().iter().map(|gid| Owner::Gid(*gid)))
}

/// Where an application calls itself.
pub(super) fn loopback(options: &Options, family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(options.outbound_ipv4_loopback_cidr),
        Family::V6 => IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    }
}

/// Whether any inbound connection is captured.
pub(super) fn captures_inbound(options: &Options) -> bool {
    match &options.inbound_ports {
        Selection::All => true,
        Selection::Listed(ports) => !ports.is_empty(),
    }
}

/// One rule for each interface whose traffic is not captured.
pub(super) fn skip_interfaces(options: &Options, chain: Chain, condition: fn(Interface) -> Match) -> Vec<Rule> {
    let skip = |interface: &Interface| rule(chain, [condition(interface.clone())], Target::Return, "skip-interface");
    options.exclude_interfaces.items().iter().map(skip).collect()
}

/// What inbound leaves alone, whatever captures the rest: interfaces, tunnels, sources; then, of all ports, the excluded.
pub(super) fn inbound_exclusions(options: &Options, chain: Chain) -> Vec<Rule> {
    let mut rules = skip_interfaces(options, chain, Match::FromInterface);
    if let Some(port) = options.inbound_tunnel_port.port() {
        rules.extend(by_port(chain, &Match::Tcp, &[PortRange::single(port)], Target::Return, "inbound-tunnel"));
    }
    let sources = options.inbound_cidrs_exclude.items();
    rules.extend(by_network(chain, sources, Match::From, Target::Return, "skip-inbound-cidr"));
    if options.inbound_ports == Selection::All {
        let excluded = options.inbound_ports_exclude.ranges();
        rules.extend(by_port(chain, &Match::Tcp, excluded, Target::Return, "skip-inbound-ports"));
    }
    rules
}
