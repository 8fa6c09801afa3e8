//! `apply` is killed at every moment at which it has a tool at work; a tool is stopped before and after it has done its work.
//!
//! The tools are the real ones behind a script that stops at the wanted moment, tells so, and goes on when it is told to. What
//! goes on does so without the command that started it, as it would when an init container is killed.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::Place;
use crate::support::command::text;
use crate::support::until;

const OLD: &str = "-o 25 -m TPROXY --redirect-dns --capture-all-dns";
const NEW: &str = "-o 26 -d 15020 --drop-invalid";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What changes anything.
const TOOLS: [&str; 6] = [
    "nft",
    "ip",
    "iptables-nft-restore",
    "ip6tables-nft-restore",
    "iptables-legacy-restore",
    "ip6tables-legacy-restore",
];

/// `$1` is what stands for the tool; the number of the call is a line in `calls`.
const SCRIPT: &str = r#"#!/bin/sh
here=FOLDER
echo call >> "$here/calls"
number=$(wc -l < "$here/calls")
stop() {
    if [ "$(cat "$here/stop")" = "$number $1" ]; then
        echo > "$here/stopped"
        read -r word < "$here/go"
        [ "$word" = on ] || exit 1
    fi
}
stop before
PATH=REAL TOOL "$@"
status=$?
stop after
echo "$number" > "$here/done"
exit $status
"#;

struct Tools(TempDir);

impl Tools {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for tool in TOOLS {
            let script = SCRIPT.replace("FOLDER", &folder.path().to_string_lossy());
            let path = folder.path().join(tool);
            fs::write(&path, script.replace("REAL", PATH).replace("TOOL", tool)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        assert!(Command::new("mkfifo").arg(folder.path().join("go")).status().unwrap().success());
        Self(folder)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// `apply` with these tools, which stop at the given moment.
    fn apply(&self, place: &Place, words: &str, stop: &str) -> Command {
        for name in ["calls", "stopped", "done"] {
            // One that is not there need not be removed.
            let _ = fs::remove_file(self.file(name));
        }
        fs::write(self.file("stop"), stop).unwrap();
        place.command_with(&[format!("PATH={}:{PATH}", self.0.path().display())], words)
    }

    /// How often `apply` calls a tool.
    fn calls(&self, place: &Place, words: &str) -> usize {
        let output = self.apply(place, words, "none").output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::read_to_string(self.file("calls")).unwrap().lines().count()
    }

    /// Kills `apply` at the given moment; the tool goes on, or is given up.
    fn kill(&self, place: &Place, words: &str, stop: &str, goes_on: bool) {
        let mut apply = self.apply(place, words, stop).spawn().unwrap();
        until("a tool that has stopped", || Path::new(&self.file("stopped")).exists().then_some(()));
        apply.kill().unwrap();
        apply.wait().unwrap();
        fs::write(self.file("go"), if goes_on { "on\n" } else { "off\n" }).unwrap();
        if goes_on {
            until("a tool that is done", || {
                let done = fs::read_to_string(self.file("done")).unwrap_or_default();
                (Some(done.trim()) == stop.split(' ').next()).then_some(())
            });
        }
    }
}

/// The rules of a text by chain, and the chains by table: `nat OUTPUT` and its rules in their order.
type Rules = BTreeMap<String, Vec<String>>;

/// Each table of each family, and nft's one table.
fn tables(place: &Place) -> BTreeMap<String, Rules> {
    let mut tables: BTreeMap<String, Rules> = BTreeMap::new();
    for kind in ["nft", "legacy"] {
        for family in ["iptables", "ip6tables"] {
            let saved = place.shown(&[&format!("{family}-{kind}-save")]);
            let mut table = String::new();
            for line in saved.lines() {
                if let Some(name) = line.strip_prefix('*') {
                    table = format!("{family}-{kind} {name}");
                    tables.entry(table.clone()).or_default();
                } else if let Some(rule) = line.strip_prefix("-A ") {
                    let (chain, rule) = rule.split_once(' ').unwrap();
                    let rules = tables.get_mut(&table).unwrap().entry(chain.to_owned()).or_default();
                    rules.push(rule.to_owned());
                }
            }
        }
    }
    let nft = place.shown(&["nft", "-s", "list", "ruleset", "inet"]);
    let chains: Rules = nft
        .split("\tchain ")
        .skip(1)
        .map(|text| {
            let mut lines = text.lines().map(|line| line.trim().to_owned());
            (lines.next().unwrap(), lines.collect())
        })
        .collect();
    tables.insert("nft".to_owned(), chains);
    tables.retain(|_, rules| !rules.is_empty());
    tables
}

#[test]
fn killed_with_nft_nothing_is_half_applied() {
    killed_nothing_is_half_applied("nft", "nft");
}

#[test]
fn killed_with_iptables_nft_nothing_is_half_applied() {
    killed_nothing_is_half_applied("iptables-nft", "iptables-nft");
}

#[test]
fn killed_with_iptables_legacy_nothing_is_half_applied() {
    killed_nothing_is_half_applied("iptables-legacy", "iptables-legacy");
}

#[test]
fn killed_between_two_back_ends_one_of_them_is_in_force() {
    killed_nothing_is_half_applied("iptables-legacy", "nft");
}

fn killed_nothing_is_half_applied(from: &str, to: &str) {
    let Some(place) = Place::new() else { return };
    let tools = Tools::new();
    let [old, new] = [format!("apply --backend {from} {OLD}"), format!("apply --backend {to} {NEW}")];
    place.ends(&old, 0);
    let before = tables(&place);
    let calls = tools.calls(&place, &new);
    let after = tables(&place);
    assert!(before != after && calls > 3, "{calls}");
    let mut unfinished = 0;
    for call in 1..=calls {
        for (moment, goes_on) in [("before", false), ("before", true), ("after", true)] {
            place.ends(&old, 0);
            let stop = format!("{call} {moment}");
            tools.kill(&place, &new, &stop, goes_on);
            let now = tables(&place);
            let nothing = Rules::new();
            let of = |tables: &BTreeMap<String, Rules>, name: &str| tables.get(name).unwrap_or(&nothing).clone();
            let names = before.keys().chain(after.keys()).chain(now.keys());
            for name in names {
                let rules = of(&now, name);
                assert!(rules == of(&before, name) || rules == of(&after, name), "{stop}: {name}: {rules:#?}");
            }
            let captures = now.values().flatten().any(|(_, rules)| rules.iter().any(|rule| rule.contains("15001")));
            assert!(captures, "{stop}: nothing captures what the workload sends");
            unfinished += usize::from(now != after);
            place.ends(&new, 0);
            place.ends(&format!("check --backend {to} {NEW}"), 0);
            assert_eq!(tables(&place), after, "{stop}");
        }
    }
    assert!(unfinished > 0, "no moment was early enough");
}
