//! Paths of every shape: what is forwarded, and what a policy says about it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::json;

use crate::binary;
use crate::call::{Call, What};
use crate::compare::{Set, compare};
use crate::dice::{self, Dice, seed};
use crate::differences::{self, PathDifference};
use crate::people::NOBODY;
use crate::policies::Document;
use crate::profile::{DEFAULT, Profile};

const LEVELS: [&str; 4] = ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"];
/// Paths for each level, over all policies.
const PATHS: usize = 600;

/// What paths are made of.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "/", "/", "/", "/", "/", "//", "a", "admin", "Admin", "public", ".", "..", "%2e", "%2E%2e", "..;", ".;x", ";x=1", "%2f",
    "%2F", "%5c", "\\", "%61", "%7e", "%20", "%25", "%252e", "%zz", "%", "%4", "%c0%ae", "%00", "?", "?q=/../x", "[", "]", "*",
    "'", "!", "$", "&", "(", "+", ",", "=", ":", "@", "~", "{", "}", "|", "^",
];

/// What few of them have, for most of these are the end of it.
const ODD: &[&str] = &[
    "\"",
    "<",
    ">",
    "`",
    "#",
    "\u{e9}",
    "\t",
    "\u{7f}",
    "http://",
    "http://h",
    "HTTP://h:80/",
    "x://y",
    "/%4%31",
    "/\\..;",
];

fn path(dice: &mut Dice) -> String {
    let mut pieces: Vec<_> = (0..1 + dice.below(8)).map(|_| dice.pick(PIECES)).collect();
    if dice.often(15) {
        pieces.insert(dice.below(pieces.len() + 1), dice.pick(ODD));
    }
    let path = pieces.concat();
    if path.starts_with('/') || dice.often(3) { path } else { format!("/{path}") }
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
            sets.push(Set {
                profile: Profile { normalization, ..DEFAULT },
                authentication: None,
                provider: None,
                documents,
                calls,
            });
        }
    }
    let verdicts = meshgate_tests::run(compare(&envoy, sets));
    let (mut wrong, mut known) = (String::new(), BTreeMap::<&str, usize>::new());
    for each in verdicts.iter().filter(|each| !each.agree()) {
        let target = target(&each.call);
        let fits =
            |kind: &&PathDifference| (kind.is)(each.set.profile.normalization, &target) && (kind.ours)(&each.ours);
        match differences::PATHS.iter().find(fits) {
            Some(kind) => *known.entry(kind.why).or_default() += 1,
            None => writeln!(wrong, "{each}").unwrap(),
        }
    }
    let differences: usize = known.values().sum();
    println!(
        "seed {}: {} paths, {} agreements, {differences} intended differences",
        seed(),
        verdicts.len(),
        verdicts.len() - differences
    );
    for (why, count) in &known {
        println!("  {count}: {why}");
    }
    assert!(wrong.is_empty(), "{wrong}");
    // Every kind has been met, at least with the seed that is not chosen.
    assert!(known.len() == differences::PATHS.len() || std::env::var(dice::VARIABLE).is_ok(), "{known:?}");
}

fn target(call: &Call) -> String {
    let What::Http1(bytes) = &call.what else { panic!("{call}") };
    let text = String::from_utf8_lossy(bytes);
    let line = text.split("\r\n").next().unwrap();
    line.strip_prefix("GET ").and_then(|line| line.strip_suffix(" HTTP/1.1")).unwrap().to_owned()
}
