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
