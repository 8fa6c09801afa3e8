//! DNS capture: queries of the workload go to a DNS proxy beside it.
//!
//! Over UDP the proxy's own query to a server and the workload's query to the same server can look alike to connection
//! tracking, and the answer to one be taken for the other's. So, as Istio does, the two are tracked in zones of their own:
//! zone 1 between the proxy and the servers, zone 2 between the workload and the proxy.

use ipnet::IpNet;

use super::build::{owners, rule, skip_interfaces};
use super::{Chain, DNS_PORT, Family, Hook, Match, Rule, Table, Target};
use crate::list::PortRange;
use crate::options::Options;

/// Between the proxy and DNS servers.
const SERVERS: Target = Target::Zone(1);
/// Between the workload and the proxy.
const WORKLOAD: Target = Target::Zone(2);

/// `nat`: queries to the DNS proxy, TCP and UDP.
pub(super) fn redirects(options: &Options) -> Vec<Rule> {
    if !options.redirect_dns {
        return Vec::new();
    }
    let mut rules = Vec::new();
    for protocol in [Match::Tcp, Match::Udp] {
        let query = [protocol, to_dns()];
        rules.extend(a_server(
            options,
            Chain::Dns,
            &query,
            Match::To,
            Target::Redirect(options.dns_port),
            "redirect-dns",
        ));
    }
    rules
}

/// `raw`: the zones of what is sent and of what comes back.
pub(super) fn zones(options: &Options) -> Vec<Rule> {
    if !options.redirect_dns {
        return Vec::new();
    }
    let hook = |hook, into, name| rule(Chain::Kernel(Table::Raw, hook), [Match::Udp], Target::Jump(into), name);
    let queries = Chain::DnsQueries;
    let mut rules = vec![hook(Hook::Output, queries, "install-dns-queries")];
    rules.extend(skip_interfaces(options, queries, Match::OverInterface));
    for owner in owners(options) {
        let query = [Match::Udp, to_dns(), Match::SentBy(owner)];
        rules.push(rule(queries, query, SERVERS, "dns-proxy-asks"));
        let answer = [Match::Udp, Match::FromPort(options.dns_port), Match::SentBy(owner)];
        rules.push(rule(queries, answer, WORKLOAD, "dns-proxy-answers"));
    }
    // After the proxy's own: the first rule that gives a packet a zone decides.
    rules.extend(a_server(options, queries, &[Match::Udp, to_dns()], Match::To, WORKLOAD, "dns-workload-asks"));
    rules.push(hook(Hook::Prerouting, Chain::DnsAnswers, "install-dns-answers"));
    rules.extend(skip_interfaces(options, Chain::DnsAnswers, Match::FromInterface));
    let answer = [Match::Udp, Match::FromPort(DNS_PORT)];
    rules.extend(a_server(options, Chain::DnsAnswers, &answer, Match::From, SERVERS, "dns-server-answers"));
    rules
}

fn to_dns() -> Match {
    Match::ToPorts(vec![PortRange::single(DNS_PORT)])
}

/// One rule for all servers, or one for each that is named.
fn a_server(
    options: &Options,
    chain: Chain,
    matches: &[Match],
    server: fn(IpNet) -> Match,
    target: Target,
    name: &'static str,
) -> Vec<Rule> {
    if options.capture_all_dns {
        return vec![rule(chain, matches, target, name)];
    }
    let of = |address: &_| {
        let network = IpNet::from(*address);
        rule(chain, [matches, &[server(network)]].concat(), target, name).only(Family::of(&network))
    };
    options.dns_servers.items().iter().map(of).collect()
}
