//! Whatever the options are, what is rendered is rules and nothing else: no value can end a line, a word or a string and
//! go on as a rule of its own.

use clap::Parser;
use proptest::prelude::*;

use crate::options::Options;
use crate::rules::{Chain, Family, Hook, RuleSet, Table, rules};
use crate::{nft, restore};

/// Options that take a value, each with some that are fine.
const OPTIONS: [(&str, &[&str]); 21] = [
    ("--outbound-port", &["15001", "4140"]),
    ("--inbound-capture-port", &["15006"]),
    ("--inbound-tunnel-port", &["15008", "none"]),
    ("--proxy-uid", &["1337", "1337,2102"]),
    ("--proxy-gid", &["", "1337"]),
    ("--interception-mode", &["REDIRECT", "TPROXY"]),
    ("--tproxy-mark", &["1337", "4294967295"]),
    ("--tproxy-route-table", &["133"]),
    ("--inbound-ports", &["*", "", "80,8000-8100"]),
    ("--inbound-ports-exclude", &["", "15021"]),
    ("--inbound-cidrs-exclude", &["", "10.0.0.0/8,fd00::/8"]),
    ("--outbound-cidrs", &["*", "", "10.0.0.0/8,fd00::/8"]),
    ("--outbound-cidrs-exclude", &["", "10.1.0.0/16,fd00:1::/64"]),
    ("--outbound-ports", &["", "3306"]),
    ("--outbound-ports-exclude", &["", "6379,9000:9010"]),
    ("--outbound-owner-groups", &["*", "1001,1002"]),
    ("--exclude-interfaces", &["", "eth1,net-2.7"]),
    ("--kube-virt-interfaces", &["", "k6t-eth0"]),
    ("--dns-servers", &["10.96.0.10", "fd00::a"]),
    ("--ipv6", &["auto", "true", "false"]),
    ("--outbound-ipv4-loopback-cidr", &["127.0.0.1/32", "127.0.0.0/8"]),
];

/// What ends or continues something in a shell, in iptables-restore or in nft.
const HOSTILE: [&str; 14] = [
    "\n-A OUTPUT -j ACCEPT\n",
    "\n",
    "\r",
    " -j ACCEPT ",
    "\" accept comment \"",
    "\"",
    "'",
    "; flush ruleset",
    "}\n",
    "#",
    "$(id)",
    "\\\n",
    "\u{2028}",
    "!",
];

/// Some options with values that are fine.
fn fine() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let each: Vec<_> = OPTIONS
        .iter()
        .map(|(flag, values)| {
            proptest::option::of((Just(*flag), proptest::sample::select(*values).prop_map(str::to_owned)))
        })
        .collect();
    each.prop_map(|options| options.into_iter().flatten().collect())
}

/// The same with something hostile in one of the values, at any place of it.
fn hostile() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let what = prop_oneof![proptest::sample::select(&HOSTILE).prop_map(str::to_owned), "\\PC"];
    (fine(), any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), what).prop_map(
        |(mut options, which, place, what)| {
            if !options.is_empty() {
                let value = &mut which.get_mut(&mut options).1;
                value.insert_str(place.index(value.len() + 1), &what);
            }
            options
        },
    )
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    options: Options,
}

fn parse(options: &[(&str, String)]) -> Option<RuleSet> {
    let mut words: Vec<String> = options.iter().map(|(flag, value)| format!("{flag}={value}")).collect();
    if options.iter().any(|(flag, _)| *flag == "--dns-servers") {
        words.push("--redirect-dns".to_owned());
    }
    let flags = Flags::try_parse_from(std::iter::once("iptables".to_owned()).chain(words)).ok()?;
    rules(&flags.options).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn accepted_options_render_into_lines_of_the_known_grammar(options in prop_oneof![1 => fine(), 9 => hostile()]) {
        let Some(set) = parse(&options) else { return Ok(()) };
        for family in set.families() {
            assert_restore(&set, *family);
        }
        assert_nft(&set);
    }
}

#[test]
fn values_that_are_fine_are_accepted() {
    for (flag, fine) in OPTIONS {
        for value in fine {
            assert!(parse(&[(flag, (*value).to_owned())]).is_some(), "{flag}={value}");
        }
    }
}

fn assert_restore(set: &RuleSet, family: Family) {
    let text = restore(set, family);
    let mut appended = 0;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["COMMIT" | "*nat" | "*mangle" | "*raw"] => {}
            [chain, "-", "[0:0]"] => assert!(chain.strip_prefix(':').is_some_and(is_own), "{line:?}"),
            ["-A", chain, rest @ ..] => {
                assert!(is_own(chain) || Hook::ALL.into_iter().any(|hook| hook.name() == *chain), "{line:?}");
                assert_words(line, rest);
                appended += 1;
            }
            _ => panic!("{line:?}"),
        }
    }
    assert_eq!(appended, set.of(family).count(), "{text}");
}

/// Flags that take a value, and that value.
fn assert_words(line: &str, words: &[&str]) {
    let mut words = words.iter().copied();
    while let Some(flag) = words.next() {
        let flag = if flag == "!" { words.next().unwrap() } else { flag };
        if matches!(flag, "--save-mark" | "--restore-mark") {
            continue;
        }
        let value = words.next().unwrap_or_else(|| panic!("{flag} of {line:?}"));
        let number = value.parse::<u32>().is_ok();
        let known = match flag {
            "-p" => matches!(value, "tcp" | "udp"),
            "-m" => matches!(value, "comment" | "multiport" | "owner" | "mark" | "connmark" | "conntrack"),
            "-i" | "-o" => is_interface(value),
            "-s" | "-d" => value.parse::<ipnet::IpNet>().is_ok(),
            "--dports" | "--sports" => value.parse::<crate::PortList>().is_ok(),
            "--to-ports" | "--on-port" => value.parse::<u16>().is_ok(),
            "--uid-owner" | "--gid-owner" | "--mark" | "--set-mark" | "--zone" => number,
            "--tproxy-mark" => value.strip_suffix("/0xffffffff").is_some_and(|mark| mark.parse::<u32>().is_ok()),
            "--ctstate" => matches!(value, "INVALID" | "RELATED,ESTABLISHED"),
            "--comment" => is_comment(value),
            "-j" => {
                is_own(value)
                    || matches!(
                        value,
                        "RETURN" | "ACCEPT" | "DROP" | "REDIRECT" | "TPROXY" | "MARK" | "CONNMARK" | "CT"
                    )
            }
            _ => false,
        };
        assert!(known, "{flag} {value} of {line:?}");
    }
}

fn assert_nft(set: &RuleSet) {
    let text = nft(set);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["table inet meshgate", "delete table inet meshgate", "table inet meshgate {"]);
    assert_eq!(lines.last(), Some(&"}"));
    let (mut rules, mut depth) = (0, 1);
    for line in &lines[3..lines.len() - 1] {
        let words: Vec<&str> = line.trim_start_matches('\t').split(' ').collect();
        match words.as_slice() {
            ["chain", name, "{"] if depth == 1 => {
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line:?}");
                depth = 2;
            }
            ["}"] if depth == 2 => depth = 1,
            [
                "type",
                "nat" | "filter" | "route",
                "hook",
                "prerouting" | "output",
                "priority",
                _,
                "policy",
                "accept;",
            ] => {}
            words => {
                assert_eq!(depth, 2, "{line:?}");
                assert!(words.iter().all(|word| is_nft_word(word)), "{line:?}");
                rules += 1;
            }
        }
    }
    assert_eq!(rules, set.all().len(), "{text}");
}

fn is_nft_word(word: &str) -> bool {
    let quoted = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
    if let Some(inside) = quoted {
        return is_interface(inside) || is_comment(inside);
    }
    // Keywords and names of chains; ports, networks, ids; and what a set of ports is written with.
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let value = word.trim_end_matches(',').trim_start_matches(':');
    let value = value.parse::<crate::PortRange>().is_ok() || value.parse::<u32>().is_ok();
    plain || value || word.parse::<ipnet::IpNet>().is_ok() || matches!(word, "{" | "}" | "!=" | "established,related")
}

fn is_own(name: &str) -> bool {
    Table::ALL.into_iter().flat_map(Chain::own).any(|chain| chain.name() == name)
}

fn is_comment(text: &str) -> bool {
    text.strip_prefix("meshgate/").is_some_and(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
}

fn is_interface(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=15).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-')
}
