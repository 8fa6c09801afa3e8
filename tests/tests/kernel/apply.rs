//! `meshgate iptables apply`, `check`, `clean` and `validate`, against the kernel and every tool there is.

mod drift;
mod killed;

use std::fs::File;
use std::process::{Command, Output};

use crate::support::command::{feed, stdout, text};
use crate::support::network::Network;
use crate::support::requirements;

/// The back ends of `--backend`.
const BACK_ENDS: [&str; 3] = ["nft", "iptables-nft", "iptables-legacy"];

/// What shows rules, in each way that there can be any.
const SHOWS: [&[&str]; 5] = [
    &["nft", "-s", "list", "ruleset"],
    &["iptables-nft-save"],
    &["ip6tables-nft-save"],
    &["iptables-legacy-save"],
    &["ip6tables-legacy-save"],
];

/// Options of every kind: what the rules are made of.
const OPTIONS: [&str; 18] = [
    "",
    "-d 15020,15021 -o 3306,9000-9010 -x 169.254.169.254/32,10.0.0.0/8,fd00:1::/64",
    "-b 8080,8443",
    "-i 10.96.0.0/12,fd00:10::/108 -q 6379,27017",
    "-b= -i=",
    "-u 1337,1338 -g 1337",
    "-d 1001,1003,1005,1007,1009,1011,1013,1015,1017,1019,1021,1023,1025,1027,1029,1031,2000-2010",
    "-m TPROXY",
    "-m TPROXY -t 77 -r 88 --drop-invalid",
    "-m TPROXY -b 80,81",
    "--redirect-dns --capture-all-dns",
    "--redirect-dns --dns-servers 10.96.0.10,fd00::10",
    "-c eth1,eth2 -k tap0,tap1",
    "--drop-invalid --outbound-owner-groups 1,2,3",
    "--outbound-owner-groups-exclude 7",
    "--ipv6 false",
    "--inbound-cidrs-exclude 10.0.0.0/8,fd00::/8",
    "-e none --outbound-port 4140 --inbound-port 4143",
];

/// A namespace with addresses and nothing else in it.
struct Place(Network);

impl Place {
    /// `None`, said loudly, where the machine cannot do it.
    fn new() -> Option<Self> {
        requirements::all_back_ends_met().then(|| {
            let place = Self(Network::new(&["pod"]).unwrap());
            place.ip("route add default via 10.77.0.200\n-6 route add default via fd00:77::200\n");
            place
        })
    }

    fn ip(&self, lines: &str) {
        for line in lines.lines() {
            feed(self.0.enter(0, 0).arg("ip").args(line.split(' ')), "").unwrap();
        }
    }

    fn root(&self) -> Command {
        self.0.enter(0, 0)
    }

    /// `meshgate iptables`, with words as a shell would split them.
    fn command(&self, words: &str) -> Command {
        self.command_with(&[], words)
    }

    /// As [`Place::command`], with variables as `env` takes them.
    fn command_with(&self, variables: &[String], words: &str) -> Command {
        let mut command = self.root();
        command.arg("env").args(variables).arg(crate::binary()).arg("iptables").args(words.split_whitespace());
        command
    }

    fn run(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs it and fails the test unless it ends with a status.
    #[track_caller]
    fn ends(&self, words: &str, status: i32) -> String {
        let output = self.run(words);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words}: {said}");
        said
    }

    fn shown(&self, command: &[&str]) -> String {
        let text = stdout(&self.root().args(command).output().unwrap());
        // How many packets the kernel itself sent meanwhile (neighbours, multicast groups) is no rule.
        let rule = |line: &str| match line.split_once(" [") {
            Some((chain, _)) if line.starts_with(':') => format!("{chain} [0:0]\n"),
            _ => format!("{line}\n"),
        };
        text.lines().filter(|line| !line.starts_with('#')).map(rule).collect()
    }

    /// Whatever is loaded by whichever way, with routing and the loopback interface's addresses.
    fn everything(&self) -> String {
        let routing: [&[&str]; 3] = [&["ip", "rule"], &["ip", "-6", "rule"], &["ip", "-6", "addr", "show", "lo"]];
        SHOWS.into_iter().chain(routing).map(|command| self.shown(command)).collect()
    }
}

fn is_of_ours(text: &str) -> bool {
    ["meshgate", "MESHGATE", "15006:", "::6/128"].iter().any(|ours| text.contains(ours))
}

#[test]
fn what_is_applied_is_what_is_checked_for() {
    let Some(place) = Place::new() else { return };
    for backend in BACK_ENDS {
        for options in OPTIONS {
            let said = place.ends(&format!("apply --backend {backend} {options}"), 0);
            assert!(!said.contains("listed otherwise"), "{backend} {options}: {said}");
            place.ends(&format!("check --backend {backend} {options}"), 0);
            let before = place.everything();
            let said = place.ends(&format!("apply --backend {backend} {options}"), 0);
            assert!(said.contains("unchanged"), "{said}");
            assert_eq!(place.everything(), before, "{backend} {options}");
        }
        place.ends("check --backend auto -p 4140", 1);
        // Of what the options left one after the other.
        assert_eq!(place.everything().matches("install-outbound").count(), if backend == "nft" { 1 } else { 2 });
    }
    place.ends("clean", 0);
    assert!(!is_of_ours(&place.everything()), "{}", place.everything());
    assert!(place.ends("clean", 0).contains("nothing to remove"));
    place.ends("check", 1);
}

#[test]
fn one_back_end_takes_over_from_another() {
    let Some(place) = Place::new() else { return };
    for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 2), (2, 1), (1, 0)] {
        let (from, to) = (BACK_ENDS[from], BACK_ENDS[to]);
        place.ends(&format!("apply --backend {from} -m TPROXY"), 0);
        let said = place.ends(&format!("apply --backend {to}"), 0);
        assert!(said.contains(&format!("those of {from} are removed")), "{said}");
        place.ends(&format!("check --backend {to}"), 0);
        // Left alone, it stays where it is.
        assert!(place.ends("apply -o 25", 0).contains(&format!("by {to} (our rules are there already)")));
        place.ends("check -o 25", 0);
        assert!(!place.everything().contains("15006:"), "routing of TPROXY is left");
        place.ends("clean", 0);
        assert!(!is_of_ours(&place.everything()));
    }
}

#[test]
fn rules_of_others_stay_as_they_are() {
    const OTHERS: &str = "*nat\n:CNI - [0:0]\n-A PREROUTING -p tcp -m tcp --dport 1 -j CNI\n-A OUTPUT -j CNI\n\
                          -A CNI -p tcp -m tcp --dport 2 -j RETURN\nCOMMIT\n";
    let Some(place) = Place::new() else { return };
    for tool in ["iptables-nft-restore", "ip6tables-nft-restore", "iptables-legacy-restore", "ip6tables-legacy-restore"]
    {
        feed(place.root().args([tool, "--noflush"]), OTHERS).unwrap();
    }
    feed(place.root().args(["nft", "-f", "-"]), "table inet others {\n chain a {\n counter accept\n }\n}\n").unwrap();
    place.ip("rule add priority 100 fwmark 1 lookup 99");
    // The address is what our own rules come with.
    let before = place.everything();
    for backend in BACK_ENDS {
        for options in ["", "-m TPROXY --redirect-dns --capture-all-dns", "-o 25"] {
            place.ends(&format!("apply --backend {backend} {options}"), 0);
            place.ends(&format!("check --backend {backend} {options}"), 0);
        }
        place.ends("clean", 0);
        let after: Vec<_> = place.everything().lines().map(str::to_owned).collect();
        let lost: Vec<_> = before.lines().filter(|line| !after.iter().any(|left| left == line)).collect();
        assert!(lost.is_empty() && !is_of_ours(&after.join("\n")), "{lost:?}");
    }
}

#[test]
fn two_at_once_leave_one_of_the_two() {
    let Some(place) = Place::new() else { return };
    for backend in BACK_ENDS {
        for _ in 0..5 {
            let options = ["-o 25", "-o 26 --drop-invalid"];
            // How long one waits for the other is not what is asked here.
            let words = options.map(|options| format!("apply --backend {backend} --lock-timeout 60 {options}"));
            let children = words.map(|words| place.command(&words).spawn().unwrap());
            for child in children {
                let output = child.wait_with_output().unwrap();
                assert!(output.status.success(), "{backend}: {}", text(&output.stderr));
            }
            let held = options.map(|options| place.run(&format!("check {options}")).status.code() == Some(0));
            assert!(held.contains(&true), "{backend}: {}", place.everything());
            place.ends(&format!("apply --backend {backend} -o 25"), 0);
            place.ends("check -o 25", 0);
        }
    }
}

#[test]
fn a_lock_that_is_held_is_waited_for_and_no_longer() {
    let Some(place) = Place::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xtables.lock");
    let apply = |seconds| {
        let words = format!("apply --backend iptables-legacy --lock-timeout {seconds}");
        place.command_with(&[format!("XTABLES_LOCKFILE={}", path.display())], &words)
    };
    let held = File::create(&path).unwrap();
    held.lock().unwrap();
    let output = apply(1).output().unwrap();
    assert!(text(&output.stderr).contains("--lock-timeout"), "{}", text(&output.stderr));
    assert!(!place.everything().contains("MESHGATE"), "{}", place.everything());
    let waiting = apply(60).spawn().unwrap();
    held.unlock().unwrap();
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    place.ends("check", 0);
}

#[test]
fn without_rights_nothing_is_done_and_the_missing_one_is_named() {
    let Some(place) = Place::new() else { return };
    for words in ["apply", "apply --backend nft", "apply --backend iptables-legacy", "clean", "check"] {
        let output =
            place.0.enter(0, 1000).arg(crate::binary()).arg("iptables").args(words.split(' ')).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {said}");
        assert!(said.contains("NET_ADMIN"), "{words}: {said}");
    }
    // Somebody who cannot look does not say that there is nothing.
    assert!(!is_of_ours(&place.everything().replace("::6/128", "")));
}

#[test]
fn the_machines_own_namespace_is_refused() {
    if !requirements::all_back_ends_met() {
        return;
    }
    // Only said what would be done, lest a mistake captures this machine.
    let mut command = crate::support::command::command(crate::binary());
    let output = command.args(["iptables", "apply", "--dry-run"]).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("--allow-host-network"), "{said}");
}

#[test]
fn a_namespace_without_ipv6_gets_rules_of_ipv4_unless_ipv6_is_demanded() {
    let Some(place) = Place::new() else { return };
    let off = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
    feed(place.root().args(["sh", "-c", off]), "").unwrap();
    for backend in BACK_ENDS {
        assert!(place.ends(&format!("apply --backend {backend}"), 0).contains("only IPv4 is captured"));
        place.ends(&format!("check --backend {backend}"), 0);
        assert!(place.ends(&format!("apply --backend {backend} --ipv6 true"), 2).contains("disable_ipv6"));
    }
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let Some(place) = Place::new() else { return };
    place.ends("apply --backend nft", 0);
    for backend in BACK_ENDS {
        let before = place.everything();
        let said = place.ends(&format!("apply --dry-run --backend {backend} -o 25 -m TPROXY"), 0);
        assert!(said.contains("skip-outbound-ports") && said.contains("would be applied"), "{said}");
        // A kernel table that is looked at is there from then on, empty.
        let rules = |text: &str| text.lines().filter(|line| line.starts_with("-A") || line.contains("counter")).count();
        assert_eq!(rules(&place.everything()), rules(&before), "{backend}: {}", place.everything());
        place.ends("check --backend nft", 0);
    }
}

#[test]
fn probes_tell_whether_the_redirection_acts() {
    let Some(place) = Place::new() else { return };
    place.ends("validate --probe-timeout 1", 31);
    for backend in BACK_ENDS {
        place.ends("clean", 0);
        place.ends(&format!("apply --validate --backend {backend}"), 0);
        place.ends("validate", 0);
        // The probe takes another way where its own is excluded, and says so where nobody told it.
        place.ends(&format!("apply --validate --backend {backend} -o 15002 -x 192.0.2.0/24"), 0);
        place.ends(&format!("apply --validate --backend {backend} -x 192.0.2.0/24"), 0);
        place.ends("validate --probe-timeout 1", 16 + 1);
        place.ends(&format!("apply --validate --backend {backend} --ipv6 false"), 0);
        place.ends("validate --probe-timeout 1", 16 + 2 + 8);
    }
    place.ends("apply --outbound-port 4140 --inbound-port 4143", 0);
    place.ends("validate --probe-timeout 1", 31);
    place.ends("validate --outbound-port 4140 --inbound-port 4143", 0);
    // The application may probe what it sends, the proxy's user what comes in.
    for (user, proved) in [(1000, "outbound IPv6"), (1337, "inbound IPv6")] {
        let mut command = place.0.enter(0, user);
        command.arg(crate::binary()).args([
            "iptables",
            "validate",
            "--outbound-port",
            "4140",
            "--inbound-port",
            "4143",
        ]);
        let said = stdout(&command.output().unwrap());
        assert!(said.lines().any(|line| line.starts_with(proved) && line.ends_with("is redirected")), "{said}");
        assert!(said.contains("not probed"), "{said}");
    }
}
