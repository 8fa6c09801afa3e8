//! The `mangle` table: inbound connections by TPROXY, which leaves their addresses as they are; and what is invalid.

use super::build::{captures_inbound, groups, inbound_exclusions, loopback, owners, rule, skip_interfaces};
use super::{Chain, Family, Hook, Match, OUTBOUND_MARK, Rule, Table, Target};
use crate::list::Selection;
use crate::options::{Interception, Options};

/// Packets that fit no connection are dropped before anything answers them. Redirected, they would be answered with a reset by
/// a socket that the sender knows nothing of, which ends a connection that was only out of step.
pub(super) fn drop_invalid(options: &Options) -> Vec<Rule> {
    if !options.drop_invalid {
        return Vec::new();
    }
    let hook = Chain::Kernel(Table::Mangle, Hook::Prerouting);
    let invalid = [Match::Tcp, Match::Invalid];
    let mut rules = vec![rule(hook, invalid, Target::Jump(Chain::DropInvalid), "install-drop-invalid")];
    rules.extend(skip_interfaces(options, Chain::DropInvalid, Match::FromInterface));
    rules.push(rule(Chain::DropInvalid, [], Target::Drop, "drop-invalid"));
    rules
}

/// All of TPROXY, when inbound connections are intercepted by it.
pub(super) fn rules(options: &Options) -> Vec<Rule> {
    if options.interception != Interception::Tproxy || !captures_inbound(options) {
        return Vec::new();
    }
    [handing_over(options), inbound(options), outbound(options)].concat()
}

/// The two chains by which a packet gets to the proxy.
fn handing_over(options: &Options) -> Vec<Rule> {
    let mark = options.tproxy_mark;
    let mut rules = vec![
        rule(Chain::TproxyDivert, [], Target::Mark(mark), "divert-mark"),
        rule(Chain::TproxyDivert, [], Target::Accept, "divert"),
    ];
    let target = Target::Tproxy { port: options.inbound_capture_port, mark };
    for (target, name) in [(target, "tproxy-inbound"), (Target::Drop, "no-proxy-no-connection")] {
        for family in Family::ALL {
            let matches = [Match::Tcp, Match::NotTo(loopback(options, family))];
            rules.push(rule(Chain::TproxyRedirect, matches, target, name).only(family));
        }
    }
    rules
}

/// What comes in. First what is on its way from the proxy to the application, then what stays on the machine, then what is
/// excluded; of the rest, packets of connections that are known and packets that begin one.
fn inbound(options: &Options) -> Vec<Rule> {
    let chain = Chain::TproxyInbound;
    let ours = Match::Marked(options.tproxy_mark);
    let hook = Chain::Kernel(Table::Mangle, Hook::Prerouting);
    let mut rules = vec![
        rule(hook, [Match::Tcp], Target::Jump(chain), "install-tproxy-inbound"),
        rule(chain, [Match::Tcp, ours.clone()], Target::SaveMark, "remember-proxy"),
        rule(chain, [Match::Tcp, ours], Target::Return, "proxy-to-application"),
    ];
    for family in Family::ALL {
        let matches = [Match::FromLoopback, Match::From(family.inbound_source())];
        rules.push(rule(chain, matches, Target::Return, "inbound-to-application").only(family));
    }
    let stays = [Match::FromLoopback, Match::NotMarked(OUTBOUND_MARK)];
    rules.push(rule(chain, stays, Target::Return, "application-over-loopback"));
    for interface in options.kube_virt_interfaces.items() {
        let matches = [Match::FromInterface(interface.clone())];
        rules.push(rule(chain, matches, Target::Return, "skip-virtual-machine"));
    }
    rules.extend(inbound_exclusions(options, chain));
    for matches in captured(options) {
        let known = [matches.as_slice(), &[Match::Established]].concat();
        rules.push(rule(chain, known, Target::Jump(Chain::TproxyDivert), "capture-known"));
        rules.push(rule(chain, matches, Target::Jump(Chain::TproxyRedirect), "capture-inbound"));
    }
    rules
}

/// What is captured: all, or the listed ports, in groups.
fn captured(options: &Options) -> Vec<Vec<Match>> {
    match &options.inbound_ports {
        Selection::All => vec![vec![Match::Tcp]],
        Selection::Listed(ports) => {
            groups(ports.ranges()).into_iter().map(|group| vec![Match::Tcp, Match::ToPorts(group)]).collect()
        }
    }
}

/// What is sent. The proxy's connections to its own workload are marked, so that inbound takes them; and what the
/// application answers to a connection that the proxy made in its caller's name is sent to the proxy and not to the caller.
fn outbound(options: &Options) -> Vec<Rule> {
    let chain = Chain::TproxyOutbound;
    let ours = options.tproxy_mark;
    let hook = Chain::Kernel(Table::Mangle, Hook::Output);
    let mut rules = vec![rule(hook, [Match::Tcp], Target::Jump(chain), "install-tproxy-outbound")];
    rules.extend(skip_interfaces(options, chain, Match::OverInterface));
    let marked = [Match::Tcp, Match::OverLoopback, Match::Marked(ours)];
    rules.push(rule(chain, marked, Target::Return, "proxy-to-application"));
    for owner in owners(options) {
        for family in Family::ALL {
            let to = Match::NotTo(loopback(options, family));
            let matches = [Match::Tcp, Match::OverLoopback, to, Match::SentBy(owner)];
            let rule = rule(chain, matches, Target::Mark(OUTBOUND_MARK), "self-call-through-inbound");
            rules.push(rule.only(family));
        }
    }
    let answer = [Match::Tcp, Match::ConnectionMarked(ours)];
    rules.push(rule(chain, answer, Target::RestoreMark, "answer-to-proxy"));
    rules
}
