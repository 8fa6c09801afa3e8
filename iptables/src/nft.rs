//! Writes a rule set as one `nft -f` transaction on a table of our own.
//!
//! The one idea: the table is replaced whole, so loading the text twice is loading it once, there is no moment without rules,
//! and deleting the table is all there is to cleaning up. One `inet` table holds both families and what are three tables
//! to iptables. Translating addresses in an `inet` table needs Linux 5.2; older kernels take the iptables texts.

use crate::list::PortRange;
use crate::rules::{Chain, Family, Hook, Match, Owner, Rule, RuleSet, Table, Target};

/// The name of our table, which is of the `inet` family. Nothing else may use it: it is deleted with all that is in it.
pub const NFT_TABLE: &str = "meshgate";

/// The rules of all families, as the text of one transaction.
pub fn nft(rules: &RuleSet) -> String {
    // Naming the table first makes the deletion succeed when there is none yet.
    let mut text = format!("table inet {NFT_TABLE}\ndelete table inet {NFT_TABLE}\ntable inet {NFT_TABLE} {{\n");
    // Chains before the jumps into them.
    let hooks = Table::ALL.into_iter().flat_map(|table| Hook::ALL.map(|hook| Chain::Kernel(table, hook)));
    for chain in Chain::OWN.into_iter().chain(hooks) {
        let of_chain: Vec<&Rule> = rules.all().iter().filter(|rule| rule.chain == chain).collect();
        if of_chain.is_empty() {
            continue;
        }
        text.push_str(&format!("\tchain {} {{\n", name(chain)));
        if let Chain::Kernel(table, hook) = chain {
            text.push_str(&format!("\t\t{}\n", base(table, hook)));
        }
        for rule in of_chain {
            text.push_str(&format!("\t\t{}\n", statement(rule)));
        }
        text.push_str("\t}\n");
    }
    text.push_str("}\n");
    text
}

/// Where a chain hooks into the kernel: where iptables' table of the same name does.
fn base(table: Table, hook: Hook) -> String {
    let priority = match table {
        Table::Raw => -300,
        Table::Mangle => -150,
        Table::Nat => -100,
    };
    let kind = match (table, hook) {
        (Table::Nat, _) => "nat",
        // A mark that is given on the way out must be routed by again.
        (Table::Mangle, Hook::Output) => "route",
        (Table::Mangle | Table::Raw, _) => "filter",
    };
    format!("type {kind} hook {} priority {priority}; policy accept;", hook.name().to_lowercase())
}

fn statement(rule: &Rule) -> String {
    let mut words = Vec::new();
    if let (Some(family), false) = (rule.family, rule.matches.iter().any(names_address)) {
        words.push(format!("meta nfproto {}", if family == Family::V4 { "ipv4" } else { "ipv6" }));
    }
    // A port match says the protocol itself.
    let has_ports = rule.matches.iter().any(names_port);
    let wanted = |condition: &&Match| !(has_ports && matches!(condition, Match::Tcp | Match::Udp));
    words.extend(rule.matches.iter().filter(wanted).map(|condition| expression(condition, rule)));
    words.push("counter".to_owned());
    words.push(verdict(rule));
    words.push(format!("comment \"meshgate/{}\"", rule.name));
    words.join(" ")
}

fn verdict(rule: &Rule) -> String {
    match rule.target {
        Target::Return => "return".to_owned(),
        Target::Accept => "accept".to_owned(),
        Target::Drop => "drop".to_owned(),
        Target::Jump(chain) => format!("jump {}", name(chain)),
        Target::Redirect(port) => format!("redirect to :{port}"),
        Target::Tproxy { port, mark } => {
            format!("tproxy {} to :{port} meta mark set {mark} accept", address_family(rule))
        }
        Target::Mark(mark) => format!("meta mark set {mark}"),
        Target::SaveMark => "ct mark set meta mark".to_owned(),
        Target::RestoreMark => "meta mark set ct mark".to_owned(),
        Target::Zone(zone) => format!("ct zone set {zone}"),
    }
}

fn expression(condition: &Match, rule: &Rule) -> String {
    let ip = address_family(rule);
    let protocol = if rule.matches.contains(&Match::Udp) { "udp" } else { "tcp" };
    match condition {
        Match::Tcp => "meta l4proto tcp".to_owned(),
        Match::Udp => "meta l4proto udp".to_owned(),
        Match::FromLoopback => "iifname \"lo\"".to_owned(),
        Match::OverLoopback => "oifname \"lo\"".to_owned(),
        Match::FromInterface(interface) => format!("iifname \"{interface}\""),
        Match::OverInterface(interface) => format!("oifname \"{interface}\""),
        Match::From(network) => format!("{ip} saddr {network}"),
        Match::To(network) => format!("{ip} daddr {network}"),
        Match::NotTo(network) => format!("{ip} daddr != {network}"),
        Match::FromPort(port) => format!("{protocol} sport {port}"),
        Match::ToPorts(ports) => format!("{protocol} dport {{ {} }}", join(ports)),
        Match::NotToPorts(ports) => format!("{protocol} dport != {{ {} }}", join(ports)),
        Match::SentBy(owner) => sent_by("", *owner),
        Match::NotSentBy(owner) => sent_by("!= ", *owner),
        Match::Marked(mark) => format!("meta mark {mark}"),
        Match::NotMarked(mark) => format!("meta mark != {mark}"),
        Match::ConnectionMarked(mark) => format!("ct mark {mark}"),
        Match::Established => "ct state established,related".to_owned(),
        Match::Invalid => "ct state invalid".to_owned(),
    }
}

fn address_family(rule: &Rule) -> &'static str {
    if rule.family == Some(Family::V6) { "ip6" } else { "ip" }
}

fn join(ports: &[PortRange]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
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

fn names_port(condition: &Match) -> bool {
    matches!(condition, Match::FromPort(_) | Match::ToPorts(_) | Match::NotToPorts(_))
}

/// iptables' name in small letters, without what the table says already.
fn name(chain: Chain) -> String {
    match chain {
        Chain::Kernel(Table::Nat, hook) => hook.name().to_lowercase(),
        Chain::Kernel(table, hook) => format!("{}_{}", table.name(), hook.name().to_lowercase()),
        own => own.name().trim_start_matches("MESHGATE_").to_lowercase(),
    }
}
