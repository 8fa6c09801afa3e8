//! Whatever is done to the rules, `check` notices.

use super::Place;
use crate::support::command::feed;

/// Rules of every kind that can be in one rule set.
const RICH: &str = "-d 15020,15021 -o 3306,9000-9010 -x 10.0.0.0/8,fd00:1::/64 -q 6379 -g 1338 --drop-invalid \
                    --redirect-dns --capture-all-dns -m TPROXY";

/// A text of rules, line by line, and every text that differs from it by one rule: one taken out, one twice, two of a chain
/// changed round.
fn mutations(text: &str, chain_of: impl Fn(&[&str], usize) -> Option<String>) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let whole = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let mut texts = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(chain) = chain_of(&lines, index) else { continue };
        let mut less = lines.clone();
        less.remove(index);
        texts.push((format!("without {line}"), whole(&less)));
        let mut more = lines.clone();
        more.insert(index, line);
        texts.push((format!("twice {line}"), whole(&more)));
        if lines.get(index + 1) != Some(line) && chain_of(&lines, index + 1) == Some(chain) {
            let mut swapped = lines.clone();
            swapped.swap(index, index + 1);
            texts.push((format!("before its time {line}"), whole(&swapped)));
        }
    }
    assert!(texts.len() > 20, "{text}");
    texts
}

#[test]
fn every_single_change_is_noticed_in_nft() {
    let Some(place) = Place::new() else { return };
    place.ends(&format!("apply --backend nft {RICH}"), 0);
    let listed = place.shown(&["nft", "-s", "list", "table", "inet", "meshgate"]);
    let rule_of = |lines: &[&str], index: usize| {
        let line = lines.get(index)?;
        let is_rule = line.starts_with("\t\t") && !line.trim_start().starts_with("type ");
        let chain = lines[..index].iter().rev().find(|line| line.starts_with("\tchain "))?;
        is_rule.then(|| (*chain).to_owned())
    };
    for (what, text) in mutations(&listed, rule_of) {
        feed(place.root().args(["nft", "-f", "-"]), &format!("delete table inet meshgate\n{text}")).unwrap();
        assert!(place.run(&format!("check {RICH}")).status.code() == Some(1), "{what}");
    }
    feed(place.root().args(["nft", "-f", "-"]), &format!("delete table inet meshgate\n{listed}")).unwrap();
    place.ends(&format!("check {RICH}"), 0);
}

#[test]
fn every_single_change_is_noticed_in_iptables_nft() {
    every_single_change_is_noticed_in("nft");
}

#[test]
fn every_single_change_is_noticed_in_iptables_legacy() {
    every_single_change_is_noticed_in("legacy");
}

fn every_single_change_is_noticed_in(kind: &str) {
    let Some(place) = Place::new() else { return };
    place.ends(&format!("apply --backend iptables-{kind} {RICH}"), 0);
    let rule_of = |lines: &[&str], index: usize| {
        let mut words = lines.get(index)?.strip_prefix("-A ")?.split(' ');
        words.next().map(str::to_owned)
    };
    for family in ["iptables", "ip6tables"] {
        let [save, restore] = ["save", "restore"].map(|verb| format!("{family}-{kind}-{verb}"));
        let saved = place.shown(&[&save]);
        for (what, text) in mutations(&saved, rule_of) {
            feed(place.root().arg(&restore), &text).unwrap();
            assert!(place.run(&format!("check {RICH}")).status.code() == Some(1), "{family}: {what}");
        }
        feed(place.root().arg(&restore), &saved).unwrap();
        place.ends(&format!("check {RICH}"), 0);
    }
}

#[test]
fn routing_and_what_another_back_end_has_are_noticed() {
    let Some(place) = Place::new() else { return };
    let check = format!("check {RICH}");
    let apply = format!("apply --backend nft {RICH}");
    for change in [
        "rule del priority 15006",
        "-6 rule del priority 15006",
        "rule add priority 15006 fwmark 5 lookup 5",
        "route del local default dev lo table 133",
        "-6 route del local default dev lo table 133",
        "-6 addr del ::6/128 dev lo",
    ] {
        place.ends(&apply, 0);
        place.ends(&check, 0);
        place.ip(change);
        place.ends(&check, 1);
    }
    place.ends(&apply, 0);
    let stray = "*nat\n:MESHGATE_OUTBOUND - [0:0]\nCOMMIT\n";
    feed(place.root().args(["ip6tables-legacy-restore", "--noflush"]), stray).unwrap();
    assert!(place.ends(&check, 1).contains("iptables-legacy: ip6 nat MESHGATE_OUTBOUND: not wanted"));
    place.ends(&apply, 0);
    place.ends(&check, 0);
}
