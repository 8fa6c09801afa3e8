//! Writes a rule set as input of `iptables-restore --noflush` or `ip6tables-restore --noflush`.
//!
//! The one idea: restore applies a table at once, so there is no moment at which half of the rules are in force.
//! Declaring a chain of ours empties it and leaves the chains of others alone; the two jumps from the kernel's own
//! chains are appended, so the text belongs in a namespace that does not have them yet.

use crate::list::PortRange;
use crate::rules::{Chain, Family, Match, Owner, Rule, RuleSet, Target};

/// The rules of one family, as the text of one transaction on the `nat` table.
pub fn restore(rules: &RuleSet, family: Family) -> String {
    let mut text = String::from("*nat\n");
    for chain in Chain::OWN {
        text.push_str(&format!(":{} - [0:0]\n", name(chain)));
    }
    for rule in rules.of(family) {
        text.push_str(&format!("{}\n", append(rule)));
    }
    text.push_str("COMMIT\n");
    text
}

fn append(rule: &Rule) -> String {
    let mut words = vec![format!("-A {}", name(rule.chain))];
    words.extend(rule.matches.iter().map(condition));
    words.push(format!("-m comment --comment meshgate/{}", rule.name));
    words.push(match rule.target {
        Target::Return => "-j RETURN".to_owned(),
        Target::Jump(chain) => format!("-j {}", name(chain)),
        Target::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
    });
    words.join(" ")
}

fn condition(condition: &Match) -> String {
    match condition {
        Match::Tcp => "-p tcp".to_owned(),
        Match::OverLoopback => "-o lo".to_owned(),
        Match::From(network) => format!("-s {network}"),
        Match::To(network) => format!("-d {network}"),
        Match::NotTo(network) => format!("! -d {network}"),
        Match::ToPorts(ports) => format!("-m multiport --dports {}", join(ports)),
        Match::SentBy(owner) => format!("-m owner {}", flag(*owner)),
        Match::NotSentBy(owner) => format!("-m owner ! {}", flag(*owner)),
    }
}

fn flag(owner: Owner) -> String {
    match owner {
        Owner::Uid(uid) => format!("--uid-owner {uid}"),
        Owner::Gid(gid) => format!("--gid-owner {gid}"),
    }
}

fn join(ports: &[PortRange]) -> String {
    let port = |range: &PortRange| match range.is_single() {
        true => range.first().to_string(),
        false => format!("{}:{}", range.first(), range.last()),
    };
    ports.iter().map(port).collect::<Vec<_>>().join(",")
}

/// At most 28 characters: the kernel's limit.
fn name(chain: Chain) -> &'static str {
    match chain {
        Chain::Prerouting => "PREROUTING",
        Chain::Output => "OUTPUT",
        Chain::Inbound => "MESHGATE_INBOUND",
        Chain::InboundRedirect => "MESHGATE_INBOUND_REDIRECT",
        Chain::Outbound => "MESHGATE_OUTBOUND",
        Chain::OutboundRedirect => "MESHGATE_OUTBOUND_REDIRECT",
    }
}
