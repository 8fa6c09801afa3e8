//! Paths of every shape: what is forwarded, and what a policy says about it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::binary;
use crate::call::Call;
use crate::compare::{Set, compare};
use crate::dice::{Dice, SEED};
use crate::people::NOBODY;
use crate::policies::Document;
use crate::profile::{DEFAULT, Profile};

const LEVELS: [&str; 4] = ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"];
/// Paths for each level, over all policies.
const PATHS: usize = 300;

/// What paths are made of.
const PIECES: &[&str] = &[
    "/",
    "/",
    "/",
    "/",
    "/",
    "//",
    "a",
    "admin",
    "Admin",
    "public",
    ".",
    "..",
    "%2e",
    "%2E%2e",
    "..;",
    ".;x",
    ";x=1",
    "%2f",
    "%2F",
    "%5c",
    "\\",
    "%61",
    "%7e",
    "%20",
    "%25",
    "%252e",
    "%zz",
    "%",
    "%4",
    "%c0%ae",
    "%00",
    "?",
    "?q=/../x",
    "[",
    "]",
    "*",
    "'",
    "!",
    "$",
    "&",
    "(",
    "+",
    ",",
    "=",
    ":",
    "@",
    "~",
    "{",
    "}",
    "|",
    "\"",
    "<",
    ">",
    "^",
    "`",
    "#",
    "\u{e9}",
    "\t",
    "\u{7f}",
    "http://",
    "http://h",
    "HTTP://h:80/",
];

fn path(dice: &mut Dice) -> String {
    let pieces: String = (0..1 + dice.below(8)).map(|_| dice.pick(PIECES)).collect();
    if pieces.starts_with('/') || dice.often(3) { pieces } else { format!("/{pieces}") }
}

/// One policy on its own each, so that every path is judged by more than one kind of matcher.
fn policies() -> [Vec<Document>; 3] {
    let paths = |action: &str, paths: &[&str]| {
        vec![Document::new("p0", json!({"action": action, "rules": [{"to": [{"operation": {"paths": paths}}]}]}))]
    };
    [
        paths("DENY", &["/admin", "/admin/*", "*.x"]),
        paths("ALLOW", &["/", "/a*", "/public", "*/", "/admin"]),
        paths("ALLOW", &["/{*}", "/admin/{**}", "/{*}/a"]),
    ]
}

#[test]
fn generated_paths_are_forwarded_and_judged_as_by_envoy() {
    let Some(envoy) = binary::envoy() else { return };
    let mut dice = Dice::new(2);
    let mut sets = Vec::new();
    for normalization in LEVELS {
        for documents in policies() {
            let calls = (0..PATHS / 3).map(|_| Call::get(NOBODY, &path(&mut dice))).collect();
            sets.push(Set { profile: Profile { normalization, ..DEFAULT }, documents, calls });
        }
    }
    let verdicts = meshgate_tests::run(compare(&envoy, sets));
    let mut d: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for v in verdicts.iter().filter(|v| !v.agree()) {
        println!("{} {} | {} | {}", v.set.profile.normalization, v.call, v.envoy, v.ours);
    }
    println!("{SEED} {} {}", verdicts.len(), verdicts.iter().filter(|v| !v.agree()).count());
}
