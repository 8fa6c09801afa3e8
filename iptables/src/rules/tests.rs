//! The properties that every rule set has, whatever the options; the exact lists are the goldens.

use super::build::groups;
use super::*;
use crate::list::IdList;

fn ports(text: &str) -> Vec<PortRange> {
    text.parse::<crate::PortList>().unwrap().ranges().to_vec()
}

fn ids(ids: &[u32]) -> IdList {
    ids.iter().copied().collect()
}

fn option_sets() -> Vec<Options> {
    let twenty = (9000..9040).step_by(2).map(|port: u16| port.to_string()).collect::<Vec<_>>().join(",");
    vec![
        Options::default(),
        Options { ipv6: Ipv6::Off, ..Options::default() },
        Options { proxy_uid: ids(&[1337, 1338]), proxy_gid: ids(&[1337]), ..Options::default() },
        Options {
            inbound_ports_exclude: twenty.parse().unwrap(),
            outbound_ports_exclude: twenty.parse().unwrap(),
            outbound_cidrs_exclude: "10.0.0.0/8,fd00::/8".parse().unwrap(),
            ..Options::default()
        },
        Options {
            inbound_ports: "80,443".parse().unwrap(),
            outbound_cidrs: "10.0.0.0/8,fd00::/8".parse().unwrap(),
            ..Options::default()
        },
    ]
}

fn position(rules: &[&Rule], name: &str) -> usize {
    rules.iter().position(|rule| rule.name == name).unwrap_or_else(|| panic!("no rule {name}"))
}

#[test]
fn ports_are_grouped_by_what_multiport_takes() {
    let singles: String = (1..=31).map(|port| format!("{},", port * 2)).collect();
    let singles = ports(singles.trim_end_matches(','));
    assert_eq!(groups(&singles).iter().map(Vec::len).collect::<Vec<_>>(), [15, 15, 1]);
    // Seven ranges cost fourteen: an eighth does not fit, a single port does.
    let ranges = ports("1-2,11-12,21-22,31-32,41-42,51-52,61-62,71-72");
    assert_eq!(groups(&ranges).iter().map(Vec::len).collect::<Vec<_>>(), [7, 1]);
    let mixed = ports("1-2,11-12,21-22,31-32,41-42,51-52,61-62,71,81-82");
    assert_eq!(groups(&mixed).iter().map(Vec::len).collect::<Vec<_>>(), [8, 1]);
    assert_eq!(groups(&mixed).concat(), mixed);
    assert!(groups(&[]).is_empty());
}

#[test]
fn refuses_options_that_do_not_validate() {
    let options = Options { proxy_uid: ids(&[0]), ..Options::default() };
    assert_eq!(rules(&options), Err(OptionsError::RootUid));
}

#[test]
fn no_family_sees_addresses_of_the_other() {
    for options in option_sets() {
        let set = rules(&options).unwrap();
        for family in [Family::V4, Family::V6] {
            for network in set.of(family).flat_map(|rule| &rule.matches).filter_map(network) {
                assert_eq!(Family::of(network), family, "{options:?}");
            }
        }
    }
}

fn network(condition: &Match) -> Option<&IpNet> {
    match condition {
        Match::From(network) | Match::To(network) | Match::NotTo(network) => Some(network),
        _ => None,
    }
}

#[test]
fn without_ipv6_nothing_is_hooked_into_it() {
    let set = rules(&Options { ipv6: Ipv6::Off, ..Options::default() }).unwrap();
    assert!(!set.of(Family::V6).any(|rule| matches!(rule.chain, Chain::Kernel(..))));
    assert_eq!(set.families(), [Family::V4]);
}

#[test]
fn nothing_is_captured_before_the_proxy_is_exempted() {
    for options in option_sets() {
        let set = rules(&options).unwrap();
        for family in set.families() {
            let outbound: Vec<&Rule> = set.of(*family).filter(|rule| rule.chain == Chain::Outbound).collect();
            let first_capture = outbound
                .iter()
                .position(|rule| rule.target == Target::Jump(Chain::OutboundRedirect))
                .expect("something is captured");
            for owner in options.proxy_uid.items().iter().map(|uid| Owner::Uid(*uid)) {
                let exempted = outbound.iter().position(|rule| rule.matches == [Match::SentBy(owner)]).unwrap();
                assert!(exempted < first_capture, "{options:?}");
            }
            assert!(position(&outbound, "inbound-to-application") < position(&outbound, "self-call-through-inbound"));
            assert!(position(&outbound, "self-call-through-inbound") < position(&outbound, "proxy-itself"));
        }
    }
}

#[test]
fn no_owner_lets_the_self_calls_of_another_past_inbound() {
    let options = Options { proxy_uid: ids(&[1337, 1338]), proxy_gid: ids(&[1339]), ..Options::default() };
    let set = rules(&options).unwrap();
    let outbound: Vec<&Rule> = set.all().iter().filter(|rule| rule.chain == Chain::Outbound).collect();
    let returned = position(&outbound, "application-over-loopback");
    let last_self_call = outbound.iter().rposition(|rule| rule.name == "self-call-through-inbound").unwrap();
    assert!(last_self_call < returned);
    let others = [Owner::Uid(1337), Owner::Uid(1338), Owner::Gid(1339)].map(Match::NotSentBy);
    assert_eq!(outbound[returned].matches[1..], others);
}

#[test]
fn capturing_nothing_inbound_leaves_prerouting_alone() {
    let set = rules(&Options { inbound_ports: "".parse().unwrap(), ..Options::default() }).unwrap();
    assert!(!set.all().iter().any(|rule| matches!(rule.chain, Chain::Inbound | Chain::Kernel(_, Hook::Prerouting))));
}

#[test]
fn every_redirect_goes_to_a_port_of_the_proxy_and_speaks_tcp() {
    for options in option_sets() {
        for rule in rules(&options).unwrap().all() {
            if let Target::Redirect(port) = rule.target {
                assert!([options.outbound_port, options.inbound_capture_port].contains(&port));
                assert!(rule.matches.contains(&Match::Tcp));
            }
        }
    }
}
