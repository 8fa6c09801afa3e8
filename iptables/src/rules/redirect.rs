//! The `nat` table: new connections get another destination, a listener of the proxy.

use super::build::{
    by_network, by_port, captures_inbound, inbound_exclusions, loopback, owners, rule, skip_interfaces,
};
use super::{Chain, DNS_PORT, Family, Hook, Match, Owner, Rule, Table, Target};
use crate::list::{PortRange, Selection};
use crate::options::{Interception, Options};

/// The two chains that send a connection to the proxy.
pub(super) fn redirects(options: &Options) -> Vec<Rule> {
    let to = |chain, port, name| rule(chain, [Match::Tcp], Target::Redirect(port), name);
    vec![
        to(Chain::InboundRedirect, options.inbound_capture_port, "redirect-inbound"),
        to(Chain::OutboundRedirect, options.outbound_port, "redirect-outbound"),
    ]
}

/// What comes from elsewhere: a virtual machine's connections are outbound ones; of the others, what is excluded first,
/// then all, or the listed ports. With TPROXY the latter is done elsewhere.
pub(super) fn inbound(options: &Options) -> Vec<Rule> {
    let mut rules = virtual_machines(options);
    if options.interception == Interception::Redirect && captures_inbound(options) {
        rules.extend(inbound_exclusions(options, Chain::Inbound));
        let capture = Target::Jump(Chain::InboundRedirect);
        match &options.inbound_ports {
            Selection::All => rules.push(rule(Chain::Inbound, [Match::Tcp], capture, "capture-inbound")),
            Selection::Listed(ports) => {
                let captured = by_port(Chain::Inbound, &Match::Tcp, ports.ranges(), capture, "capture-inbound-ports");
                rules.extend(captured);
            }
        }
    }
    if rules.is_empty() {
        return rules;
    }
    let from = Chain::Kernel(Table::Nat, Hook::Prerouting);
    let hook = rule(from, [Match::Tcp], Target::Jump(Chain::Inbound), "install-inbound");
    [vec![hook], rules].concat()
}

/// What comes in by a virtual machine's interface is sent by a workload of this pod.
fn virtual_machines(options: &Options) -> Vec<Rule> {
    let mut rules = Vec::new();
    for interface in options.kube_virt_interfaces.items() {
        let from = Match::FromInterface(interface.clone());
        let capture = |matches: Vec<Match>| {
            rule(Chain::Inbound, matches, Target::Jump(Chain::OutboundRedirect), "capture-virtual-machine")
        };
        match &options.outbound_cidrs {
            Selection::All => rules.push(capture(vec![from.clone()])),
            Selection::Listed(cidrs) => {
                let to = |cidr: &_| capture(vec![from.clone(), Match::To(*cidr)]).only(Family::of(cidr));
                rules.extend(cidrs.items().iter().map(to));
            }
        }
        rules.push(rule(Chain::Inbound, [from], Target::Return, "skip-virtual-machine"));
    }
    rules
}

/// What the workload sends, in this order: what is exempted by interface and port, the proxy's own, loopback, what is
/// exempted by group, DNS, what is exempted by address; then what is captured.
pub(super) fn outbound(options: &Options) -> Vec<Rule> {
    let from = Chain::Kernel(Table::Nat, Hook::Output);
    let into = Target::Jump(Chain::Outbound);
    let mut rules = vec![rule(from, [Match::Tcp], into, "install-outbound")];
    if options.redirect_dns {
        rules.extend(by_port(from, &Match::Udp, &[PortRange::single(DNS_PORT)], into, "install-dns"));
    }
    rules.extend(skip_interfaces(options, Chain::Outbound, Match::OverInterface));
    let excluded = options.outbound_ports_exclude.ranges();
    rules.extend(by_port(Chain::Outbound, &Match::Tcp, excluded, Target::Return, "skip-outbound-ports"));
    for family in Family::ALL {
        let matches = [Match::OverLoopback, Match::From(family.inbound_source())];
        rules.push(rule(Chain::Outbound, matches, Target::Return, "inbound-to-application").only(family));
    }
    rules.extend(proxy_own(options));
    rules.extend(owner_groups(options));
    if options.redirect_dns {
        rules.push(rule(Chain::Outbound, [], Target::Jump(Chain::Dns), "dns"));
    }
    for family in Family::ALL {
        let matches = [Match::To(loopback(options, family))];
        rules.push(rule(Chain::Outbound, matches, Target::Return, "skip-loopback").only(family));
    }
    rules.extend(captured(options));
    rules
}

/// Istio's three rules about the proxy's own traffic. An application that calls its own service, and is balanced to
/// itself, comes back through inbound, so that policy and mutual TLS apply to it as to any other caller; one that
/// calls its own address stays untouched; and all else that the proxy sends leaves as it is.
///
/// With one owner this is Istio's list. With several, Istio writes the three once an owner, and the second of the
/// first owner then lets the others' self-calls past inbound; here no owner's self-call gets past.
fn proxy_own(options: &Options) -> Vec<Rule> {
    let mut rules = Vec::new();
    for owner in owners(options) {
        for family in Family::ALL {
            let mut matches = vec![Match::Tcp, Match::OverLoopback, Match::NotTo(loopback(options, family))];
            matches.extend(not_through_inbound(options));
            matches.push(Match::SentBy(owner));
            let target = Target::Jump(Chain::InboundRedirect);
            rules.push(rule(Chain::Outbound, matches, target, "self-call-through-inbound").only(family));
        }
    }
    rules.extend(application_over_loopback(options));
    let itself = |owner| rule(Chain::Outbound, [Match::SentBy(owner)], Target::Return, "proxy-itself");
    rules.extend(owners(options).map(itself));
    rules
}

/// Of what the proxy sends to its own workload, what has nothing to do with inbound: a tunnel, whose listener is inbound's
/// anyhow, and a DNS server in the pod.
fn not_through_inbound(options: &Options) -> Option<Match> {
    let dns = options.redirect_dns.then_some(DNS_PORT);
    let ports = dns.into_iter().chain(options.inbound_tunnel_port.port());
    let ports: Vec<PortRange> = ports.map(PortRange::single).collect();
    if ports.is_empty() { None } else { Some(Match::NotToPorts(ports)) }
}

/// The second of the three. It must let through to the rules below it what they capture of loopback: DNS, and the loopback
/// networks that are asked for.
fn application_over_loopback(options: &Options) -> Vec<Rule> {
    let mut matches = Vec::new();
    if options.redirect_dns {
        matches.extend([Match::Tcp, Match::NotToPorts(vec![PortRange::single(DNS_PORT)])]);
    }
    matches.push(Match::OverLoopback);
    matches.extend(owners(options).map(Match::NotSentBy));
    let rule = rule(Chain::Outbound, matches, Target::Return, "application-over-loopback");
    vec![if options.captures_loopback() { rule.only(Family::V6) } else { rule }]
}

/// What is not captured because of the group that sends it.
fn owner_groups(options: &Options) -> Vec<Rule> {
    let skip = |matches: Vec<Match>| rule(Chain::Outbound, matches, Target::Return, "skip-owner-group");
    let groups = |ids: &[u32]| ids.iter().map(|gid| Owner::Gid(*gid)).collect::<Vec<_>>();
    match &options.outbound_owner_groups {
        Selection::Listed(included) => {
            vec![skip(groups(included.items()).into_iter().map(Match::NotSentBy).collect())]
        }
        Selection::All => {
            let excluded = groups(options.outbound_owner_groups_exclude.items());
            excluded.into_iter().map(|group| skip(vec![Match::SentBy(group)])).collect()
        }
    }
}

/// By address and port: what is exempted, and what of the rest is captured.
fn captured(options: &Options) -> Vec<Rule> {
    let chain = Chain::Outbound;
    let excluded = options.outbound_cidrs_exclude.items();
    let mut rules = by_network(chain, excluded, Match::To, Target::Return, "skip-outbound-cidr");
    let capture = Target::Jump(Chain::OutboundRedirect);
    let ports = options.outbound_ports.ranges();
    rules.extend(by_port(chain, &Match::Tcp, ports, capture, "capture-outbound-ports"));
    match &options.outbound_cidrs {
        Selection::All => rules.push(rule(chain, [], capture, "capture-outbound")),
        Selection::Listed(cidrs) => {
            rules.extend(by_network(chain, cidrs.items(), Match::To, capture, "capture-outbound-cidr"));
        }
    }
    rules
}
