//! What the commands say of what they did: lines for people, or one JSON document.

use std::io::Write;

use serde_json::{Value, json};

use crate::apply::Applied;
use crate::check::Checked;
use crate::clean::Cleaned;
use crate::cli::Output;
use crate::error::Error;
use crate::options::Options;
use crate::rules::{Family, RuleSet};
use crate::validate::Probed;

/// What `check` found.
pub(crate) fn checked(checked: &Checked, output: Output, out: &mut impl Write) -> Result<(), Error> {
    let Checked { backend, count, difference } = checked;
    if output == Output::Json {
        let same = difference.is_empty();
        let found = json!({ "same": same, "backend": backend.to_string(), "rules": count, "difference": difference });
        return document(&found, out);
    }
    if difference.is_empty() {
        writeln!(out, "{count} rules of {backend} are as asked for")?;
        return Ok(());
    }
    writeln!(out, "what {backend} shows (-) is not what is asked for (+)")?;
    Ok(difference.iter().try_for_each(|line| writeln!(out, "{line}"))?)
}

/// What `clean` removed.
pub(crate) fn cleaned(cleaned: &Cleaned, output: Output, out: &mut impl Write) -> Result<(), Error> {
    let Cleaned { backends, routes, address } = cleaned;
    if output == Output::Json {
        let of = |(backend, count): &(crate::Backend, usize)| json!({ "backend": backend.to_string(), "rules": count });
        let removed: Vec<_> = backends.iter().map(of).collect();
        return document(&json!({ "removed": removed, "routes": routes, "address": address }), out);
    }
    for (backend, count) in backends {
        writeln!(out, "removed {count} rules of {backend}")?;
    }
    if *routes > 0 {
        writeln!(out, "removed {routes} routing rules")?;
    }
    if *address {
        writeln!(out, "removed the address ::6 from loopback")?;
    }
    if backends.is_empty() && *routes == 0 && !address {
        writeln!(out, "nothing to remove")?;
    }
    Ok(())
}

/// What `apply` did, or would do.
pub(crate) fn applied(applied: &Applied, options: &Options, dry: bool, out: &mut impl Write) -> Result<(), Error> {
    let Applied { backend, why, difference, count, rules, cleaned } = applied;
    if dry {
        difference.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    let families = if rules.families().contains(&Family::V6) { "IPv4 and IPv6" } else { "IPv4 alone" };
    let done = match (difference.is_empty(), dry) {
        (true, _) => "unchanged, as asked for already",
        (false, false) => "applied",
        (false, true) => "would be applied",
    };
    writeln!(out, "{count} rules {done}, by {backend} ({why}): {families}")?;
    let Options { outbound_port, inbound_capture_port, .. } = options;
    let users = &options.proxy_uid;
    write!(out, "outbound to port {outbound_port}, inbound to port {inbound_capture_port}, but for users {users}")?;
    for backend in cleaned {
        write!(out, "; those of {backend} {} removed", if dry { "would be" } else { "are" })?;
    }
    writeln!(out)?;
    Ok(())
}

/// The same for machines, with what `--validate` found if it was asked to.
pub(crate) fn applied_document(
    applied: &Applied,
    dry: bool,
    probes: Option<&[Probed]>,
    out: &mut impl Write,
) -> Result<(), Error> {
    let Applied { backend, why, difference, count, rules, cleaned } = applied;
    let mut found = json!({
        "rules": count,
        "changed": !difference.is_empty(),
        "dryRun": dry,
        "backend": backend.to_string(),
        "why": why.to_string(),
        "families": families(rules),
        "difference": difference,
        "cleaned": cleaned.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    if let (Some(probes), Value::Object(found)) = (probes, &mut found) {
        found.insert("probes".to_owned(), probes.iter().map(of_probe).collect());
    }
    document(&found, out)
}

/// One probe as it ends.
pub(crate) fn probed(probed: &Probed, out: &mut impl Write) -> Result<(), Error> {
    Ok(writeln!(out, "{} {}: {}", probed.direction, name(probed.family), probed.outcome)?)
}

/// All of them.
pub(crate) fn probes_document(probes: &[Probed], out: &mut impl Write) -> Result<(), Error> {
    document(&json!({ "probes": probes.iter().map(of_probe).collect::<Vec<_>>() }), out)
}

fn of_probe(probed: &Probed) -> Value {
    json!({
        "direction": probed.direction,
        "family": name(probed.family),
        "outcome": probed.outcome.word(),
        "detail": probed.outcome.to_string(),
    })
}

fn families(rules: &RuleSet) -> Vec<&'static str> {
    rules.families().iter().map(|family| name(*family)).collect()
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn document(value: &Value, out: &mut impl Write) -> Result<(), Error> {
    Ok(writeln!(out, "{value:#}")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Why};
    use crate::rules::rules;
    use crate::validate::Outcome;

    fn read(write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>) -> Value {
        let mut text = Vec::new();
        write(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn probes() -> [Probed; 2] {
        let to = "192.0.2.2:15002".parse().unwrap();
        let refused = Outcome::NotRedirected(to, "no answer".to_owned());
        [
            Probed { direction: "outbound", family: Family::V4, outcome: refused },
            Probed { direction: "inbound", family: Family::V6, outcome: Outcome::NotWanted("nothing is captured") },
        ]
    }

    #[test]
    fn what_check_found_is_one_document() {
        let of = |difference: Vec<String>| {
            let found = Checked { backend: Backend::Nft, count: 18, difference };
            read(|out| checked(&found, Output::Json, out))
        };
        assert_eq!(of(vec![]), json!({ "same": true, "backend": "nft", "rules": 18, "difference": [] }));
        let drifted = of(vec!["+ tcp \"dport\"".to_owned()]);
        assert_eq!((&drifted["same"], &drifted["difference"][0]), (&json!(false), &json!("+ tcp \"dport\"")));
    }

    #[test]
    fn what_clean_removed_is_one_document() {
        let nothing = read(|out| cleaned(&Cleaned::default(), Output::Json, out));
        assert_eq!(nothing, json!({ "removed": [], "routes": 0, "address": false }));
        let all = Cleaned { backends: vec![(Backend::IptablesLegacy, 12)], routes: 2, address: true };
        let all = read(|out| cleaned(&all, Output::Json, out));
        let removed = json!([{ "backend": "iptables-legacy", "rules": 12 }]);
        assert_eq!(all, json!({ "removed": removed, "routes": 2, "address": true }));
    }

    #[test]
    fn what_apply_did_and_what_was_probed_are_one_document() {
        let rules = rules(&Options::default()).unwrap();
        let done = Applied {
            backend: Backend::Nft,
            why: Why::Preferred,
            difference: vec!["+ a".to_owned()],
            count: 18,
            rules,
            cleaned: vec![Backend::IptablesNft],
        };
        let found = read(|out| applied_document(&done, false, Some(&probes()), out));
        assert_eq!((&found["changed"], &found["dryRun"], &found["rules"]), (&json!(true), &json!(false), &json!(18)));
        assert_eq!((&found["backend"], &found["cleaned"]), (&json!("nft"), &json!(["iptables-nft"])));
        assert_eq!(found["probes"][0]["outcome"], "notRedirected");
        let found = read(|out| applied_document(&done, true, None, out));
        assert_eq!((&found["dryRun"], found.get("probes")), (&json!(true), None));
    }

    #[test]
    fn probes_are_one_document() {
        let found = read(|out| probes_document(&probes(), out));
        assert_eq!(found["probes"][1]["outcome"], "notWanted");
        assert_eq!(
            (&found["probes"][0]["direction"], &found["probes"][0]["family"]),
            (&json!("outbound"), &json!("IPv4"))
        );
        assert!(found["probes"][0]["detail"].as_str().unwrap().contains("192.0.2.2:15002"), "{found}");
    }
}
