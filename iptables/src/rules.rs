//! The redirection itself: an ordered list of firewall rules, of no particular tool.
//!
//! The one idea: one list serves both address families and every renderer. A rule that names addresses is there once
//! a family; all others stand for both. The order is Istio's, and it carries meaning: see `docs/redirection.md`.
//! Nothing here is applied or read from a kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::list::{PortRange, Selection};
use crate::options::{Options, OptionsError};

/// The rules for all families, in the order in which they must be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    rules: Vec<Rule>,
    ipv6: bool,
}

impl RuleSet {
    /// All rules, of both families.
    pub fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules that hold for one family.
    pub fn of(&self, family: Family) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.family.is_none_or(|only| only == family))
    }

    /// The families that are captured.
    pub fn families(&self) -> &'static [Family] {
        families(self.ipv6)
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The address of an application that talks to itself.
    fn loopback(self) -> IpNet {
        IpNet::from(match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        })
    }

    /// The source address of the proxy's inbound side when it dials the application. It is Istio's: an address of
    /// the loopback interface that nothing else uses, so that this connection is told from all others of the proxy.
    fn inbound_source(self) -> IpNet {
        IpNet::from(match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
        })
    }

    fn of(network: &IpNet) -> Family {
        match network {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }
}

/// One rule: when all of `matches` hold, `target` is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The chain it is appended to.
    pub chain: Chain,
    /// The only family it holds for; both when `None`.
    pub family: Option<Family>,
    /// What a connection's first packet must look like.
    pub matches: Vec<Match>,
    /// What is done with the connection.
    pub target: Target,
    /// Why the rule is there, in a few words: shown by the firewall tools as `meshgate/<name>`.
    pub name: &'static str,
}

impl Rule {
    fn only(self, family: Family) -> Rule {
        Rule { family: Some(family), ..self }
    }
}

/// A chain of the `nat` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// The kernel's: connections from elsewhere.
    Prerouting,
    /// The kernel's: connections from here.
    Output,
    /// What comes from elsewhere.
    Inbound,
    /// To the inbound listener.
    InboundRedirect,
    /// What the workload sends.
    Outbound,
    /// To the outbound listener.
    OutboundRedirect,
}

impl Chain {
    /// The chains that are made for the mesh, in the order of their declaration.
    pub const OWN: [Chain; 4] = [Chain::InboundRedirect, Chain::OutboundRedirect, Chain::Inbound, Chain::Outbound];
}

/// A condition on the first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The protocol is TCP.
    Tcp,
    /// It leaves by the loopback interface.
    OverLoopback,
    /// It comes from this network.
    From(IpNet),
    /// It goes to this network.
    To(IpNet),
    /// It goes anywhere but to this network.
    NotTo(IpNet),
    /// It goes to one of these ports: no more of them than one rule can name.
    ToPorts(Vec<PortRange>),
    /// The sending process is this one.
    SentBy(Owner),
    /// The sending process is not this one.
    NotSentBy(Owner),
}

/// Who owns a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A user id.
    Uid(u32),
    /// A group id.
    Gid(u32),
}

/// What is done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Leave this chain: the connection goes where it was going.
    Return,
    /// Go on in another chain.
    Jump(Chain),
    /// Send it to this local port.
    Redirect(u16),
}

/// How many ports one rule can name: the limit of the kernel's multiport match, in which a range counts twice.
const PORTS_PER_RULE: usize = 15;

/// The rules that these options ask for.
///
/// # Errors
/// What [`Options::validate`] refuses.
pub fn rules(options: &Options) -> Result<RuleSet, OptionsError> {
    options.validate()?;
    let rules = [redirects(options), inbound(options), outbound(options)].concat();
    Ok(RuleSet { rules, ipv6: options.ipv6 })
}

/// The two chains that send a connection to the proxy.
fn redirects(options: &Options) -> Vec<Rule> {
    let to = |chain, port, name| rule(chain, [Match::Tcp], Target::Redirect(port), name);
    vec![
        to(Chain::InboundRedirect, options.inbound_capture_port, "redirect-inbound"),
        to(Chain::OutboundRedirect, options.outbound_port, "redirect-outbound"),
    ]
}

/// What comes from elsewhere: excluded ports first, then all, or the listed ones.
fn inbound(options: &Options) -> Vec<Rule> {
    let capture = Target::Jump(Chain::InboundRedirect);
    let captured = match &options.inbound_ports {
        Selection::Listed(ports) => by_port(Chain::Inbound, ports.ranges(), capture, "capture-inbound-ports"),
        Selection::All => {
            let excluded = options.inbound_ports_exclude.ranges();
            let mut rules = by_port(Chain::Inbound, excluded, Target::Return, "skip-inbound-ports");
            rules.push(rule(Chain::Inbound, [Match::Tcp], capture, "capture-inbound"));
            rules
        }
    };
    if captured.is_empty() {
        return captured;
    }
    [vec![hook(options, Chain::Prerouting, Chain::Inbound, "install-inbound")], captured].concat()
}

/// What the workload sends, in this order: what is exempted by port, the proxy's own, loopback, what is exempted by
/// address; then what is captured.
fn outbound(options: &Options) -> Vec<Rule> {
    let mut rules = vec![hook(options, Chain::Output, Chain::Outbound, "install-outbound")];
    let excluded = options.outbound_ports_exclude.ranges();
    rules.extend(by_port(Chain::Outbound, excluded, Target::Return, "skip-outbound-ports"));
    for family in families(options.ipv6) {
        let matches = [Match::OverLoopback, Match::From(family.inbound_source())];
        rules.push(rule(Chain::Outbound, matches, Target::Return, "inbound-to-application").only(*family));
    }
    rules.extend(proxy_own(options));
    for family in families(options.ipv6) {
        let matches = [Match::To(family.loopback())];
        rules.push(rule(Chain::Outbound, matches, Target::Return, "skip-loopback").only(*family));
    }
    let excluded = options.outbound_cidrs_exclude.networks();
    rules.extend(by_destination(options, excluded, Target::Return, "skip-outbound-cidr"));
    let capture = Target::Jump(Chain::OutboundRedirect);
    rules.extend(by_port(Chain::Outbound, options.outbound_ports.ranges(), capture, "capture-outbound-ports"));
    match &options.outbound_cidrs {
        Selection::All => rules.push(rule(Chain::Outbound, [], capture, "capture-outbound")),
        Selection::Listed(cidrs) => {
            rules.extend(by_destination(options, cidrs.networks(), capture, "capture-outbound-cidr"));
        }
    }
    rules
}

/// Istio's three rules about the proxy's own traffic. An application that calls its own service, and is balanced to
/// itself, comes back through inbound, so that policy and mutual TLS apply to it as to any other caller; one that
/// calls its own address stays untouched; and all else that the proxy sends leaves as it is.
///
/// With one owner this is Istio's list. With several, Istio writes the three once an owner, and the second of the
/// first owner then lets the others' self-calls past inbound; here no owner's self-call gets past.
fn proxy_own(options: &Options) -> Vec<Rule> {
    let uids = options.proxy_uid.iter().map(|uid| Owner::Uid(*uid));
    let owners: Vec<Owner> = uids.chain(options.proxy_gid.iter().map(|gid| Owner::Gid(*gid))).collect();
    let mut rules = Vec::new();
    for owner in &owners {
        for family in families(options.ipv6) {
            let matches = [Match::Tcp, Match::OverLoopback, Match::NotTo(family.loopback()), Match::SentBy(*owner)];
            let target = Target::Jump(Chain::InboundRedirect);
            rules.push(rule(Chain::Outbound, matches, target, "self-call-through-inbound").only(*family));
        }
    }
    let others = owners.iter().map(|owner| Match::NotSentBy(*owner));
    let matches: Vec<Match> = std::iter::once(Match::OverLoopback).chain(others).collect();
    rules.push(rule(Chain::Outbound, matches, Target::Return, "application-over-loopback"));
    for owner in &owners {
        rules.push(rule(Chain::Outbound, [Match::SentBy(*owner)], Target::Return, "proxy-itself"));
    }
    rules
}

/// The way from one of the kernel's chains into ours. Every packet passes it, so it is here that what is not TCP, and
/// IPv6 when it is off, turns away.
fn hook(options: &Options, from: Chain, into: Chain, name: &'static str) -> Rule {
    let hook = rule(from, [Match::Tcp], Target::Jump(into), name);
    if options.ipv6 { hook } else { hook.only(Family::V4) }
}

fn by_port(chain: Chain, ports: &[PortRange], target: Target, name: &'static str) -> Vec<Rule> {
    groups(ports).into_iter().map(|group| rule(chain, [Match::Tcp, Match::ToPorts(group)], target, name)).collect()
}

fn by_destination(options: &Options, networks: &[IpNet], target: Target, name: &'static str) -> Vec<Rule> {
    let captured = |network: &&IpNet| families(options.ipv6).contains(&Family::of(network));
    let to = |network: &IpNet| rule(Chain::Outbound, [Match::To(*network)], target, name).only(Family::of(network));
    networks.iter().filter(captured).map(to).collect()
}

/// Ports in as many groups as [`PORTS_PER_RULE`] asks for.
fn groups(ports: &[PortRange]) -> Vec<Vec<PortRange>> {
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

fn families(ipv6: bool) -> &'static [Family] {
    if ipv6 { &[Family::V4, Family::V6] } else { &[Family::V4] }
}

fn rule(chain: Chain, matches: impl Into<Vec<Match>>, target: Target, name: &'static str) -> Rule {
    Rule { chain, family: None, matches: matches.into(), target, name }
}

#[cfg(test)]
mod tests;
