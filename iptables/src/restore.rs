//! Writes a rule set as input of `iptables-restore --noflush` or `ip6tables-restore --noflush`.
//!
//! The one idea: restore applies a table at once, so there is no moment at which half of a table's rules are in force,
//! and what redirects comes last. Declaring a chain of ours empties it and leaves the chains of others alone; the jumps from
//! the kernel's own chains ([`RuleSet::hooks`]) are appended, so the text belongs in a namespace that does not have them yet.

use crate::list::PortRange;
use crate::rules::{Family, Match, Owner, Rule, RuleSet, Table, Target};

/// The rules of one family, as the text of one transaction for each table that has any. Empty when the family is not captured.
pub fn restore(rules: &RuleSet, family: Family) -> String {
    if !rules.families().contains(&family) {
        return String::new();
    }
    Table::ALL.into_iter().map(|table| of_table(rules, table, family)).collect()
}

/// The words of a rule after `-A CHAIN`, `-C CHAIN` or `-D CHAIN`: arguments for the `iptables` command.
pub fn rule_words(rule: &Rule) -> Vec<String> {
    let conditions = rule.matches.iter().map(condition);
    let comment = format!("-m comment --comment meshgate/{}", rule.name);
    let text: Vec<String> = conditions.chain([comment, target(rule.target)]).collect();
    text.iter().flat_map(|words| words.split(' ')).map(str::to_owned).collect()
}

fn of_table(rules: &RuleSet, table: Table, family: Family) -> String {
    let of_table: Vec<&Rule> = rules.of(family).filter(|rule| rule.chain.table() == table).collect();
    if of_table.is_empty() {
        return String::new();
    }
    let mut text = format!("*{}\n", table.name());
    for chain in rules.chains(table, family) {
        text.push_str(&format!(":{} - [0:0]\n", chain.name()));
    }
    for rule in of_table {
        text.push_str(&format!("-A {} {}\n", rule.chain.name(), rule_words(rule).join(" ")));
    }
    text.push_str("COMMIT\n");
    text
}

fn target(target: Target) -> String {
    match target {
        Target::Return => "-j RETURN".to_owned(),
        Target::Accept => "-j ACCEPT".to_owned(),
        Target::Drop => "-j DROP".to_owned(),
        Target::Jump(chain) => format!("-j {}", chain.name()),
        Target::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
        Target::Tproxy { port, mark } => format!("-j TPROXY --on-port {port} --tproxy-mark {mark}/0xffffffff"),
        Target::Mark(mark) => format!("-j MARK --set-mark {mark}"),
        Target::SaveMark => "-j CONNMARK --save-mark".to_owned(),
        Target::RestoreMark => "-j CONNMARK --restore-mark".to_owned(),
        Target::Zone(zone) => format!("-j CT --zone {zone}"),
    }
}

fn condition(condition: &Match) -> String {
    match condition {
        Match::Tcp => "-p tcp".to_owned(),
        Match::Udp => "-p udp".to_owned(),
        Match::FromLoopback => "-i lo".to_owned(),
        Match::OverLoopback => "-o lo".to_owned(),
        Match::FromInterface(interface) => format!("-i {interface}"),
        Match::OverInterface(interface) => format!("-o {interface}"),
        Match::From(network) => format!("-s {network}"),
        Match::To(network) => format!("-d {network}"),
        Match::NotTo(network) => format!("! -d {network}"),
        Match::FromPort(port) => format!("-m multiport --sports {port}"),
        Match::ToPorts(ports) => format!("-m multiport --dports {}", join(ports)),
        Match::NotToPorts(ports) => format!("-m multiport ! --dports {}", join(ports)),
        Match::SentBy(owner) => format!("-m owner {}", flag(*owner)),
        Match::NotSentBy(owner) => format!("-m owner ! {}", flag(*owner)),
        Match::Marked(mark) => format!("-m mark --mark {mark}"),
        Match::NotMarked(mark) => format!("-m mark ! --mark {mark}"),
        Match::ConnectionMarked(mark) => format!("-m connmark --mark {mark}"),
        Match::Established => "-m conntrack --ctstate RELATED,ESTABLISHED".to_owned(),
        Match::Invalid => "-m conntrack --ctstate INVALID".to_owned(),
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
