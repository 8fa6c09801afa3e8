//! The properties that every rule set has, whatever the options; the exact lists are the goldens.

use super::build::groups;
use super::*;
use crate::list::{IdList, Selection};

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
        Options { interception: Interception::Tproxy, ..Options::default() },
        Options {
            interception: Interception::Tproxy,
            exclude_interfaces: "eth1".parse().unwrap(),
            kube_virt_interfaces: "k6t-eth0".parse().unwrap(),
            redirect_dns: true,
            dns_servers: "10.96.0.10".parse().unwrap(),
            drop_invalid: true,
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
fn every_redirect_goes_to_a_port_of_the_proxy_and_speaks_tcp_unless_it_is_dns() {
    for options in option_sets() {
        for rule in rules(&options).unwrap().all() {
            if let Target::Redirect(port) = rule.target {
                if port == options.dns_port {
                    assert_eq!(rule.chain, Chain::Dns);
                    continue;
                }
                assert!([options.outbound_port, options.inbound_capture_port].contains(&port));
                assert!(rule.matches.contains(&Match::Tcp));
            }
        }
    }
}

#[test]
fn every_chain_that_is_jumped_to_is_declared_in_its_table_and_family() {
    for options in option_sets() {
        let set = rules(&options).unwrap();
        for (family, rule) in Family::ALL.into_iter().flat_map(|family| set.of(family).map(move |rule| (family, rule)))
        {
            let Target::Jump(into) = rule.target else { continue };
            assert_eq!(into.table(), rule.chain.table(), "{rule:?}");
            assert!(set.chains(into.table(), family).any(|chain| chain == into), "{rule:?}");
        }
    }
}

#[test]
fn the_kernels_chains_hold_nothing_but_ways_into_ours() {
    for options in option_sets() {
        let set = rules(&options).unwrap();
        for family in Family::ALL {
            let hooks: Vec<&Rule> = Table::ALL.into_iter().flat_map(|table| set.hooks(table, family)).collect();
            assert!(hooks.iter().all(|hook| matches!(hook.target, Target::Jump(_))), "{options:?}");
            assert!(hooks.iter().all(|hook| hook.name.starts_with("install-")), "{options:?}");
            let of_kernel = set.of(family).filter(|rule| matches!(rule.chain, Chain::Kernel(..))).count();
            assert_eq!(hooks.len(), of_kernel);
        }
    }
}

#[test]
fn own_chains_have_names_that_the_kernel_takes_and_no_other_has() {
    let names: Vec<&str> = Chain::OWN.into_iter().map(Chain::name).collect();
    for name in &names {
        assert!(name.starts_with("MESHGATE_") && name.len() <= 28, "{name}");
        assert_eq!(names.iter().filter(|other| other == &name).count(), 1, "{name}");
    }
    let by_table: usize = Table::ALL.into_iter().map(|table| Chain::own(table).count()).sum();
    assert_eq!(by_table, names.len());
}

#[test]
fn routing_is_needed_where_tproxy_captures_something() {
    let tproxy = Options { interception: Interception::Tproxy, ..Options::default() };
    assert_eq!(rules(&tproxy).unwrap().routing(), Some(Routing { mark: 1337, table: 133 }));
    assert_eq!(rules(&Options::default()).unwrap().routing(), None);
    let nothing = Options { inbound_ports: "".parse().unwrap(), ..tproxy };
    let set = rules(&nothing).unwrap();
    assert_eq!(set.routing(), None);
    assert!(set.all().iter().all(|rule| rule.chain.table() == Table::Nat));
}

#[test]
fn without_ipv6_is_what_the_option_gives() {
    for options in option_sets() {
        let off = rules(&Options { ipv6: Ipv6::Off, outbound_cidrs: Selection::All, ..options.clone() }).unwrap();
        let auto = rules(&Options { ipv6: Ipv6::Auto, outbound_cidrs: Selection::All, ..options }).unwrap();
        assert_eq!(auto.without_ipv6(), off);
        assert_eq!(crate::restore(&off, Family::V6), "");
    }
}

#[test]
fn a_tunnel_and_the_admin_port_are_reached_without_redirection() {
    for options in [Options::default(), Options { interception: Interception::Tproxy, ..Options::default() }] {
        let set = rules(&options).unwrap();
        let chain = if options.interception == Interception::Tproxy { Chain::TproxyInbound } else { Chain::Inbound };
        let inbound: Vec<&Rule> = set.all().iter().filter(|rule| rule.chain == chain).collect();
        for (name, port) in [("inbound-tunnel", 15008), ("skip-inbound-ports", 15000), ("skip-inbound-ports", 15021)] {
            let at = position(&inbound, name);
            assert!(at < position(&inbound, "capture-inbound"));
            assert_eq!(inbound[at].target, Target::Return);
            let names = |condition: &Match| matches!(condition, Match::ToPorts(ports) if ports.iter().any(|p| p.contains(port)));
            assert!(inbound[at].matches.iter().any(names), "{port}");
        }
    }
}

fn named(set: &RuleSet, family: Family, chain: Chain) -> Vec<&Rule> {
    set.of(family).filter(|rule| rule.chain == chain).collect()
}

#[test]
fn what_tproxy_finds_no_listener_for_is_dropped_and_not_let_past() {
    let set = rules(&Options { interception: Interception::Tproxy, ..Options::default() }).unwrap();
    for family in Family::ALL {
        let chain = named(&set, family, Chain::TproxyRedirect);
        let [handed_over, dropped] = chain[..] else { panic!("{chain:?}") };
        assert!(matches!(handed_over.target, Target::Tproxy { port: 15006, mark: 1337 }));
        assert_eq!((&handed_over.matches, Target::Drop), (&dropped.matches, dropped.target));
    }
}

#[test]
fn the_dns_proxys_own_packets_are_told_from_the_applications() {
    let options = Options { redirect_dns: true, capture_all_dns: true, proxy_gid: ids(&[1337]), ..Options::default() };
    let set = rules(&options).unwrap();
    let queries = named(&set, Family::V4, Chain::DnsQueries);
    // The first rule that gives a zone decides.
    let own = queries.iter().rposition(|rule| rule.name.starts_with("dns-proxy-")).unwrap();
    assert!(own < position(&queries, "dns-workload-asks"));
    let outbound = named(&set, Family::V4, Chain::Outbound);
    let itself = outbound.iter().rposition(|rule| rule.name == "proxy-itself").unwrap();
    assert!(itself < position(&outbound, "dns"));
    assert!(position(&outbound, "dns") < position(&outbound, "skip-loopback"));
    let dns = Match::NotToPorts(ports("53,15008"));
    let self_calls = outbound.iter().filter(|rule| rule.name == "self-call-through-inbound");
    assert_eq!(self_calls.filter(|rule| rule.matches.contains(&dns)).count(), 2);
}

#[test]
fn loopback_networks_are_captured_where_they_are_asked_for() {
    let set = rules(&Options { outbound_cidrs: "127.1.0.0/16".parse().unwrap(), ..Options::default() }).unwrap();
    let of_v4 = named(&set, Family::V4, Chain::Outbound);
    assert!(!of_v4.iter().any(|rule| rule.name == "application-over-loopback"));
    assert!(position(&of_v4, "skip-loopback") < position(&of_v4, "capture-outbound-cidr"));
    position(&named(&set, Family::V6, Chain::Outbound), "application-over-loopback");
}

#[test]
fn groups_are_let_past_before_anything_is_captured() {
    for (included, excluded, matches) in [
        ("1001,1002", "", vec![Match::NotSentBy(Owner::Gid(1001)), Match::NotSentBy(Owner::Gid(1002))]),
        ("*", "1003", vec![Match::SentBy(Owner::Gid(1003))]),
    ] {
        let options = Options {
            outbound_owner_groups: included.parse().unwrap(),
            outbound_owner_groups_exclude: excluded.parse().unwrap(),
            ..Options::default()
        };
        let set = rules(&options).unwrap();
        let outbound = named(&set, Family::V6, Chain::Outbound);
        let at = position(&outbound, "skip-owner-group");
        assert_eq!(outbound[at].matches, matches);
        assert!(position(&outbound, "proxy-itself") < at && at < position(&outbound, "capture-outbound"));
    }
}

#[test]
fn a_virtual_machine_is_outbound_however_inbound_is_intercepted() {
    for interception in [Interception::Redirect, Interception::Tproxy] {
        let machines = "k6t-eth0".parse().unwrap();
        let set = rules(&Options { interception, kube_virt_interfaces: machines, ..Options::default() }).unwrap();
        let inbound = named(&set, Family::V4, Chain::Inbound);
        assert_eq!(inbound[0].target, Target::Jump(Chain::OutboundRedirect));
        assert_eq!((inbound[1].target, inbound[1].name), (Target::Return, "skip-virtual-machine"));
        let transparent = named(&set, Family::V4, Chain::TproxyInbound);
        if interception == Interception::Tproxy {
            assert!(position(&transparent, "skip-virtual-machine") < position(&transparent, "capture-known"));
        }
    }
}

#[test]
fn an_excluded_interface_is_left_alone_by_every_chain_that_is_hooked() {
    let options = Options {
        interception: Interception::Tproxy,
        exclude_interfaces: "eth1".parse().unwrap(),
        redirect_dns: true,
        capture_all_dns: true,
        drop_invalid: true,
        ..Options::default()
    };
    for options in [Options { interception: Interception::Redirect, ..options.clone() }, options] {
        let set = rules(&options).unwrap();
        for hook in Table::ALL.into_iter().flat_map(|table| set.hooks(table, Family::V4)) {
            let Target::Jump(into) = hook.target else { panic!("{hook:?}") };
            position(&named(&set, Family::V4, into), "skip-interface");
        }
    }
}
