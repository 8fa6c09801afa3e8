//! The whole way from arguments to text: against goldens, and against the tools that the text is for.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Parser;

use crate::cli::{Format, IptablesCommand, run};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    command: IptablesCommand,
}

/// One golden a format each. The arguments are a shell's, without quoting but for `''`.
const CASES: [(&str, &str); 24] = [
    ("plain", ""),
    ("excluded", "-d 15020,15021,15090 -o 3306,9000-9010 -x 169.254.169.254/32,10.0.0.0/8,fd00:1::/64"),
    ("listed_inbound", "-b 8080,8443"),
    ("listed_outbound", "-i 10.96.0.0/12,fd00:10::/108 -q 6379,27017"),
    ("nothing_captured", "-b '' -i ''"),
    ("uids_and_gid", "-u 1337,1338 -g 1337"),
    ("many_ports", "-d 1001,1003,1005,1007,1009,1011,1013,1015,1017,1019,1021,1023,1025,1027,1029,1031,2000-2010"),
    ("other_ports", "--outbound-port 4140 --inbound-port 4143 -u 2102 -e 15443"),
    ("ipv4_only", "--ipv6 false -x fd00::/8"),
    ("no_tunnel_port", "-e none -d ''"),
    ("sources_excluded", "--inbound-cidrs-exclude 10.1.0.0/16,fd00:1::/64 -b 8080"),
    ("interfaces", "-c eth1,net-2.7"),
    ("virtual_machine", "-k k6t-eth0,k6t-eth1"),
    ("virtual_machine_listed", "-k k6t-eth0 -b '' -i 10.96.0.0/12,fd00:10::/108"),
    ("owner_groups", "--outbound-owner-groups 1001,1002"),
    ("owner_groups_excluded", "--outbound-owner-groups-exclude 0,1002"),
    ("loopback_captured", "-i 127.1.2.3/32,10.0.0.0/8"),
    ("loopback_network", "--outbound-ipv4-loopback-cidr 127.0.0.0/8"),
    ("drop_invalid", "--drop-invalid -c eth1"),
    ("dns_all", "--redirect-dns --capture-all-dns -g 1337 -o 3306"),
    ("dns_servers", "--redirect-dns --dns-servers 10.96.0.10,fd00:10::a --dns-port 5353"),
    ("tproxy", "-m TPROXY"),
    ("tproxy_listed", "-m tproxy -b 8080,8443 -t 77 -r 78 -g 1337"),
    (
        "tproxy_everything",
        "-m TPROXY -c eth1 -k k6t-eth0 --drop-invalid --redirect-dns --capture-all-dns \
         --inbound-cidrs-exclude 10.1.0.0/16,fd00:1::/64 --ipv6=true",
    ),
];

fn print(format: Format, arguments: &str) -> String {
    let format = match format {
        Format::Nft => "nft",
        Format::Iptables => "iptables",
        Format::Ip6tables => "ip6tables",
    };
    let words = arguments.split_whitespace().map(|word| if word == "''" { "" } else { word });
    let cli = Cli::try_parse_from(["iptables", "print", "--format", format].into_iter().chain(words)).unwrap();
    let mut out = Vec::new();
    run(&cli.command, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn compare(case: &str, suffix: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/testdata/{case}.{suffix}.golden"));
    if std::env::var_os("UPDATE_GOLDENS").is_some_and(|value| value == "1") {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDENS=1 makes it", path.display()));
    assert_eq!(text, golden, "{} differs; after a look at the difference, UPDATE_GOLDENS=1 accepts it", path.display());
}

#[test]
fn prints_what_the_goldens_say() {
    for (case, arguments) in CASES {
        compare(case, "iptables", &print(Format::Iptables, arguments));
        compare(case, "ip6tables", &print(Format::Ip6tables, arguments));
        compare(case, "nft", &print(Format::Nft, arguments));
    }
}

#[test]
fn refuses_contradictions_before_writing() {
    let cli = Cli::try_parse_from(["iptables", "print", "--proxy-uid", "0"]).unwrap();
    let mut out = Vec::new();
    assert!(run(&cli.command, &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn both_backends_of_iptables_restore_accept_every_golden() {
    let Some(namespace) = Namespace::or_skip("both_backends_of_iptables_restore_accept_every_golden") else { return };
    for (case, arguments) in CASES {
        for (family, format) in [("iptables", Format::Iptables), ("ip6tables", Format::Ip6tables)] {
            let text = print(format, arguments);
            for backend in ["nft", "legacy"] {
                let tool = format!("{family}-{backend}-restore");
                namespace.feed(case, &[&tool, "--test", "--noflush"], &text);
                // --test alone does not ask the kernel.
                namespace.feed(case, &[&tool, "--noflush"], &text);
            }
        }
    }
}

#[test]
fn nft_accepts_every_golden_twice_over() {
    let Some(namespace) = Namespace::or_skip("nft_accepts_every_golden_twice_over") else { return };
    for (case, arguments) in CASES {
        let text = print(Format::Nft, arguments);
        namespace.feed(case, &["nft", "-c", "-f", "-"], &text);
        // In one namespace: the second transaction finds the table of the first.
        namespace.feed(case, &["nft", "-f", "-"], &format!("{text}{text}"));
    }
}

/// The right to make network namespaces, each gone with the program that ran in it.
struct Namespace;

impl Namespace {
    /// `None`, and a line that no test harness captures, when this machine cannot do it.
    fn or_skip(test: &str) -> Option<Namespace> {
        let tools = ["iptables-nft-restore", "iptables-legacy-restore", "nft"];
        let missing = tools.into_iter().find(|tool| !runs(Command::new(tool).arg("--version")));
        let reason = match missing {
            Some(tool) => format!("{tool} is not installed"),
            None if !runs(Command::new("unshare").args(["--net", "true"])) => {
                "no right to make a network namespace (needs root)".to_owned()
            }
            None => return Some(Namespace),
        };
        // Straight to the descriptor: the harness keeps what eprintln! writes in a test that passes.
        writeln!(std::io::stderr(), "\n*** SKIPPED {test}: {reason} ***").unwrap();
        None
    }

    fn feed(&self, case: &str, command: &[&str], input: &str) {
        let mut child = Command::new("unshare")
            .arg("--net")
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{case}: {}: {said}", command.join(" "));
    }
}

fn runs(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
