use super::*;
use crate::options::{Ipv6, Options};
use crate::rules::Family;
use crate::testing::Script;

const NONE: &str = "Error: No such file or directory";
const NO_TABLE: &str = "can't initialize ip6tables table `nat': Table does not exist (do you need to insmod?)";
const REQUEST: Request = Request { backend: Choice::Auto, lock_seconds: 5, dry_run: false, allow_host_network: false };
const LOCAL: &str =
    "00000000000000000000000000000001 01 80 10 80 lo\n00000000000000000000000000000006 01 80 00 80 lo\n";
const ADDRESSED: &str = "fd000077000000000000000000000001 02 40 00 80 eth0\n";

fn saved(family: Family, options: &Options) -> String {
    crate::restore(&crate::rules(options).unwrap(), family)
}

fn legacy(script: Script) -> Script {
    let files = script.file("/proc/net/if_inet6", LOCAL);
    files.prints("iptables-legacy-restore", &[""]).prints("ip6tables-legacy-save", &[""])
}

fn run(script: &Script, options: &Options, request: Request) -> Result<Applied, Error> {
    apply(script, &Wanted::settle(script, options)?, request)
}

#[test]
fn the_next_back_end_is_tried_when_one_refuses() {
    let options = Options { ipv6: Ipv6::Off, ..Options::default() };
    let after = saved(Family::V4, &options);
    let script = legacy(Script::default())
        .fails("nft -s", NONE)
        .fails("nft -f", "Error: Could not process rule: Operation not supported")
        .prints("iptables-legacy-save", &["", "", &after]);
    let applied = run(&script, &options, REQUEST).unwrap();
    assert_eq!((applied.backend, applied.cleaned.len()), (Backend::IptablesLegacy, 0));
    assert!(script.notes.borrow()[0].contains("nft does not work here"), "{:?}", script.notes);
    assert_eq!(script.fed("iptables-legacy-restore").len(), 1);
}

#[test]
fn the_first_family_is_turned_back_when_the_second_fails() {
    let options = Options { ipv6: Ipv6::On, ..Options::default() };
    let after = saved(Family::V4, &options);
    let before = "*nat\n:MESHGATE_OLD - [0:0]\n-A OUTPUT -j MESHGATE_OLD\nCOMMIT\n";
    let script = legacy(Script::default())
        .prints("iptables-legacy-save", &[before, before, &after, before])
        .fails("ip6tables-legacy-restore", NO_TABLE);
    let error = run(&script, &options, REQUEST).unwrap_err();
    assert!(error.to_string().contains("modprobe"), "{error}");
    let fed = script.fed("iptables-legacy-restore");
    assert_eq!(fed.len(), 2);
    assert!(fed[0].contains("-A OUTPUT -p tcp") && fed[0].contains("-D OUTPUT -j MESHGATE_OLD"), "{}", fed[0]);
    assert!(fed[1].contains("-A OUTPUT -j MESHGATE_OLD") && fed[1].contains("-D OUTPUT -p tcp"), "{}", fed[1]);
}

#[test]
fn ipv6_that_the_machine_does_not_take_is_done_without_only_where_nobody_has_it() {
    let auto = Options::default();
    let after = saved(Family::V4, &Options { ipv6: Ipv6::Off, ..auto.clone() });
    let script = |addresses: &str| {
        let script = legacy(Script::default()).file("/proc/net/if_inet6", addresses);
        let turns = ["", "", "", "", "", "", &after];
        script.prints("iptables-legacy-save", &turns).fails("ip6tables-legacy-restore", NO_TABLE)
    };
    let harmless = script(LOCAL);
    assert_eq!(run(&harmless, &auto, REQUEST).unwrap().rules.families(), [Family::V4]);
    assert!(harmless.notes.borrow().iter().any(|note| note.contains("IPv6 is not captured")), "{:?}", harmless.notes);
    let bypass = run(&script(ADDRESSED), &auto, REQUEST).unwrap_err();
    assert!(matches!(bypass, Error::Ipv6Uncaptured(_)), "{bypass}");
    let demanded = run(&script(LOCAL), &Options { ipv6: Ipv6::On, ..auto }, REQUEST).unwrap_err();
    assert!(matches!(demanded, Error::NoBackend(_)), "{demanded}");
}

#[test]
fn a_kernel_without_ipv6_is_refused_only_on_demand() {
    let off = || Script::default().fails("nft -s", NONE).prints("nft -f", &[""]);
    let applied = run(&off(), &Options::default(), REQUEST).unwrap();
    assert_eq!(applied.rules.families(), [Family::V4]);
    let error = run(&off(), &Options { ipv6: Ipv6::On, ..Options::default() }, REQUEST).unwrap_err();
    assert!(matches!(error, Error::Ipv6Off(_)), "{error}");
}

#[test]
fn a_machines_own_namespace_is_refused_unless_it_is_meant() {
    let options = Options { ipv6: Ipv6::Off, ..Options::default() };
    let host = || Script::default().fails("nft -s", NONE).prints("nft -f", &[""]);
    let node = "*nat\n:KUBE-SERVICES - [0:0]\n-A OUTPUT -j KUBE-SERVICES\nCOMMIT\n";
    for script in [
        host().file("/proc/sys/net/core/dev_weight", "64"),
        legacy(host()).prints("iptables-legacy-save", &[node]).prints("ip6tables-legacy-restore", &[""]),
    ] {
        let error = run(&script, &options, REQUEST).unwrap_err();
        assert!(matches!(error, Error::HostNetwork(_)), "{error}");
        assert!(script.fed("nft -f").is_empty() && script.fed("iptables-legacy-restore").is_empty());
    }
    let script = host().file("/proc/sys/net/core/dev_weight", "64");
    run(&script, &options, Request { allow_host_network: true, ..REQUEST }).unwrap();
    assert_eq!(script.fed("nft -f").len(), 1);
}
