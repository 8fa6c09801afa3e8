//! Writes a rule set as one `nft -f` transaction on a table of our own.
//!
//! The one idea: the table is replaced whole, so loading the text twice is loading it once, and deleting the table is
//! all there is to cleaning up. One `inet` table holds both families.

use crate::rules::{Chain, Family, Match, Owner, Rule, RuleSet, Target};

/// The rules of all families, as the text of one transaction.
pub fn nft(rules: &RuleSet) -> String {
    // Naming the table first makes the deletion succeed when there is none yet.
    let mut text = format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    for chain in CHAINS {
        let of_chain: Vec<&Rule> = rules.all().iter().filter(|rule| rule.chain == chain).collect();
        if of_chain.is_empty() {
            continue;
        }
        text.push_str(&format!("\tchain {} {{\n", name(chain)));
        if let Some(hook) = hook(chain) {
            text.push_str(&format!("\t\ttype nat hook {hook} priority {NAT_PRIORITY}; policy accept;\n"));
        }
        for rule in of_chain {
            text.push_str(&format!("\t\t{}\n", statement(rule)));
        }
        text.push_str("\t}\n");
    }
    text.push_str("}\n");
    text
}

fn statement(rule: &Rule) -> String {
    let mut words = Vec::new();
    if let (Some(family), false) = (rule.family, rule.matches.iter().any(names_address)) {
        words.push(format!("meta nfproto {}", if family == Family::V4 { "ipv4" } else { "ipv6" }));
    }
    // A port match says tcp itself.
    let has_ports = rule.matches.iter().any(|condition| matches!(condition, Match::ToPorts(_)));
    let wanted = |condition: &&Match| !(has_ports && **condition == Match::Tcp);
    words.extend(rule.matches.iter().filter(wanted).map(|condition| expression(condition, rule.family)));
    words.push("counter".to_owned());
    words.push(match rule.target {
        Target::Return => "return".to_owned(),
        Target::Jump(chain) => format!("jump {}", name(chain)),
        Target::Redirect(port) => format!("redirect to :{port}"),
    });
    words.push(format!("comment \"meshgate/{}\"", rule.name));
    words.join(" ")
}

fn expression(condition: &Match, family: Option<Family>) -> String {
    let ip = if family == Some(Family::V6) { "ip6" } else { "ip" };
    match condition {
        Match::Tcp => "meta l4proto tcp".to_owned(),
        Match::OverLoopback => "oifname \"lo\"".to_owned(),
        Match::From(network) => format!("{ip} saddr {network}"),
        Match::To(network) => format!("{ip} daddr {network}"),
        Match::NotTo(network) => format!("{ip} daddr != {network}"),
        Match::ToPorts(ports) => {
            let ports = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("tcp dport {{ {ports} }}")
        }
        Match::SentBy(owner) => sent_by("", *owner),
        Match::NotSentBy(owner) => sent_by("!= ", *owner),
    }
}

fn sent_by(relation: &str, owner: Owner) -> String {
    match owner {
        Owner::Uid(uid) => format!("meta skuid {relation}{uid}"),
        Owner::Gid(gid) => format!("meta skgid {relation}{gid}"),
    }
}

fn names_address(condition: &Match) -> bool {
    matches!(condition, Match::From(_) | Match::To(_) | Match::NotTo(_))
}

fn name(chain: Chain) -> &'static str {
    match chain {
        Chain::Prerouting => "prerouting",
        Chain::Output => "output",
        Chain::Inbound => "inbound",
        Chain::InboundRedirect => "inbound_redirect",
        Chain::Outbound => "outbound",
        Chain::OutboundRedirect => "outbound_redirect",
    }
}

fn hook(chain: Chain) -> Option<&'static str> {
    match chain {
        Chain::Prerouting => Some("prerouting"),
        Chain::Output => Some("output"),
        Chain::Inbound | Chain::InboundRedirect | Chain::Outbound | Chain::OutboundRedirect => None,
    }
}

/// Nothing else may use a table of this name: it is deleted with all that is in it.
pub(crate) const TABLE: &str = "meshgate";

/// Where the kernel itself translates destinations; what `iptables -t nat` hooks to as well.
const NAT_PRIORITY: i32 = -100;

/// Chains before the jumps into them.
const CHAINS: [Chain; 6] = [
    Chain::InboundRedirect,
    Chain::OutboundRedirect,
    Chain::Inbound,
    Chain::Outbound,
    Chain::Prerouting,
    Chain::Output,
];
