//! The redirection itself: an ordered list of firewall rules, of no particular tool.
//!
//! The one idea: one list serves both address families and every renderer. A rule that names addresses is there once
//! a family; all others stand for both. All logic is in chains of our own, which each of the kernel's chains enters
//! by one rule a purpose: what is in force can be checked and taken away by name. The order is Istio's, and it carries meaning:
//! see `docs/redirection.md`. Nothing here is applied or read from a kernel.

mod build;
mod chain;
mod dns;
mod redirect;
mod tproxy;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

pub use chain::{Chain, Hook, Table};

use crate::list::{Interface, PortRange};
use crate::options::{Interception, Ipv6, Options, OptionsError};

/// The rules for all families, in the order in which they must be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    rules: Vec<Rule>,
    ipv6: bool,
    routing: Option<Routing>,
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
        if self.ipv6 { &[Family::V4, Family::V6] } else { &[Family::V4] }
    }

    /// The chains of ours that one table has for one family, each after those that it jumps to.
    pub fn chains(&self, table: Table, family: Family) -> impl Iterator<Item = Chain> {
        Chain::own(table).filter(move |chain| self.of(family).any(|rule| rule.chain == *chain))
    }

    /// The rules of one table by which one of the kernel's chains enters ours. They are appended to chains that others
    /// have rules in as well, so they are what must not be added twice, and what is taken away first.
    pub fn hooks(&self, table: Table, family: Family) -> impl Iterator<Item = &Rule> {
        self.of(family).filter(move |rule| matches!(rule.chain, Chain::Kernel(of, _) if of == table))
    }

    /// What routing the rules need: `None` unless inbound connections are intercepted by TPROXY.
    pub fn routing(&self) -> Option<Routing> {
        self.routing
    }

    /// The same for a kernel without IPv6, or where that is to stay outside the mesh.
    #[must_use]
    pub fn without_ipv6(mut self) -> RuleSet {
        self.rules.retain(|rule| rule.family != Some(Family::V6));
        for rule in &mut self.rules {
            // The way in is enough: what IPv6 never enters need not say so rule by rule.
            if matches!(rule.chain, Chain::Kernel(..)) {
                rule.family = Some(Family::V4);
            }
        }
        self.ipv6 = false;
        self
    }
}

/// The policy routing that TPROXY needs in each captured family: `ip rule add fwmark MARK lookup TABLE`, and
/// `ip route add local default dev lo table TABLE`. Packets that are the proxy's, though they are addressed to others, are
/// delivered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    /// The mark of packets that are the proxy's.
    pub mark: u32,
    /// The routing table.
    pub table: u32,
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
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

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
    /// What a packet must look like; in the `nat` table, the first one of a connection.
    pub matches: Vec<Match>,
    /// What is done with it.
    pub target: Target,
    /// Why the rule is there, in a few words: shown by the firewall tools as `meshgate/<name>`.
    pub name: &'static str,
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The protocol is TCP.
    Tcp,
    /// The protocol is UDP.
    Udp,
    /// It comes in by the loopback interface.
    FromLoopback,
    /// It leaves by the loopback interface.
    OverLoopback,
    /// It comes in by this interface.
    FromInterface(Interface),
    /// It leaves by this interface.
    OverInterface(Interface),
    /// It comes from this network.
    From(IpNet),
    /// It goes to this network.
    To(IpNet),
    /// It goes anywhere but to this network.
    NotTo(IpNet),
    /// It comes from this port of the protocol that the rule matches.
    FromPort(u16),
    /// It goes to one of these ports of the protocol that the rule matches: no more of them than one rule can name.
    ToPorts(Vec<PortRange>),
    /// It goes to none of these ports of the protocol that the rule matches.
    NotToPorts(Vec<PortRange>),
    /// The sending process is this one.
    SentBy(Owner),
    /// The sending process is not this one.
    NotSentBy(Owner),
    /// It has this mark.
    Marked(u32),
    /// It has another mark than this, or none.
    NotMarked(u32),
    /// Its connection has this mark.
    ConnectionMarked(u32),
    /// Its connection is known to the kernel, or comes of one that is.
    Established,
    /// It fits no connection that the kernel knows, and begins none.
    Invalid,
}

/// Who owns a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A user id.
    Uid(u32),
    /// A group id.
    Gid(u32),
}

/// What is done with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Leave this chain: the packet goes where it was going.
    Return,
    /// Leave this table.
    Accept,
    /// Throw it away.
    Drop,
    /// Go on in another chain.
    Jump(Chain),
    /// Send the connection to this local port.
    Redirect(u16),
    /// Hand the packet as it is to the listener on this local port.
    Tproxy {
        /// The port.
        port: u16,
        /// The mark that makes routing deliver it here.
        mark: u32,
    },
    /// Mark the packet.
    Mark(u32),
    /// Give the connection the packet's mark.
    SaveMark,
    /// Give the packet its connection's mark.
    RestoreMark,
    /// Track the connection apart from those of other zones.
    Zone(u16),
}

/// The mark of what the proxy sends to its own workload, by which TPROXY lets it in through the inbound listener. Istio's.
pub const OUTBOUND_MARK: u32 = 1338;

/// Where DNS servers are asked.
pub(crate) const DNS_PORT: u16 = 53;

/// The rules that these options ask for. With [`Ipv6::Auto`] they hold for IPv6 too: where the kernel has none, apply
/// those of [`RuleSet::without_ipv6`].
///
/// # Errors
/// What [`Options::validate`] refuses.
pub fn rules(options: &Options) -> Result<RuleSet, OptionsError> {
    options.validate()?;
    let rules = [
        dns::zones(options),
        tproxy::drop_invalid(options),
        tproxy::rules(options),
        redirect::redirects(options),
        redirect::inbound(options),
        dns::redirects(options),
        redirect::outbound(options),
    ];
    let tproxied = options.interception == Interception::Tproxy && build::captures_inbound(options);
    let routing = tproxied.then_some(Routing { mark: options.tproxy_mark, table: options.tproxy_table });
    let both = RuleSet { rules: rules.concat(), ipv6: true, routing };
    Ok(if options.ipv6 == Ipv6::Off { both.without_ipv6() } else { both })
}

#[cfg(test)]
mod tests;
