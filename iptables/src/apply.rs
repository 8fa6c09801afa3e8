//! Brings what is loaded to what is wanted.
//!
//! The one idea: new rules are in force before old ones go, so at no time is the workload's traffic captured by neither. A
//! back end that refuses has changed nothing, and the next one is tried.

use crate::backend::{Backend, Candidate, Choice, Survey, Surveyed, Tool, Why};
use crate::drift::Rules;
use crate::error::Error;
use crate::routes::{Ip, wanted as routes};
use crate::rules::RuleSet;
use crate::session::{Wanted, WithoutIpv6, guard};
use crate::system::System;

/// How to apply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) backend: Choice,
    pub(crate) lock_seconds: u32,
    pub(crate) dry_run: bool,
    pub(crate) allow_host_network: bool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) backend: Backend,
    pub(crate) why: Why,
    /// What changed, or would; nothing when all was there.
    pub(crate) difference: Vec<String>,
    /// Rules that are in force now.
    pub(crate) count: usize,
    pub(crate) rules: RuleSet,
    /// Back ends whose rules of ours were removed, or would be.
    pub(crate) cleaned: Vec<Backend>,
}

/// Applies the rules, or says what applying them would change.
///
/// # Errors
/// What no back end takes, or what must not be done here.
pub(crate) fn apply(system: &impl System, wanted: &Wanted, request: Request) -> Result<Applied, Error> {
    let survey = Survey::of(system, request.lock_seconds);
    let of_a_node = survey.0.iter().any(|one| one.found.as_ref().is_ok_and(|(_, loaded)| loaded.of_a_node));
    guard(system, of_a_node, request.allow_host_network)?;
    let error = match install(system, survey, &wanted.rules, request) {
        Ok(applied) => return Ok(applied),
        Err(error) => error,
    };
    // Whether it is IPv6 that fails is seen by doing without.
    let without = |request: Request| {
        install(system, Survey::of(system, request.lock_seconds), &wanted.rules.clone().without_ipv6(), request)
    };
    match wanted.without_ipv6 {
        WithoutIpv6::Fails => Err(error),
        WithoutIpv6::Bypasses if without(Request { dry_run: true, ..request }).is_ok() => {
            Err(Error::Ipv6Uncaptured(Box::new(error)))
        }
        WithoutIpv6::Bypasses => Err(error),
        WithoutIpv6::Suffices => {
            let Ok(applied) = without(request) else { return Err(error) };
            system.note(&format!("warning: IPv6 is not captured, and the workload has no IPv6 address: {error}"));
            Ok(applied)
        }
    }
}

/// Takes the first back end that takes the rules.
fn install(system: &impl System, survey: Survey, rules: &RuleSet, request: Request) -> Result<Applied, Error> {
    let (candidates, mut others) = survey.candidates(request.backend)?;
    let ip = Ip::find(system);
    let routing = ip.loaded(system)?;
    let mut failures = Vec::new();
    let mut chosen: Option<(Candidate, Vec<String>)> = None;
    for candidate in candidates {
        if chosen.is_some() {
            others.push(candidate.into_surveyed());
            continue;
        }
        match put(system, &candidate, &ip, rules, request.dry_run) {
            Ok(difference) => chosen = Some((candidate, difference)),
            Err(error @ Error::NotUndone { .. }) => return Err(error),
            Err(error) => {
                system.note(&format!("note: {} does not work here: {error}", candidate.backend));
                failures.push((candidate.backend, error));
                others.push(candidate.into_surveyed());
            }
        }
    }
    let Some((candidate, difference)) = chosen else {
        if !request.dry_run {
            // Made for rules that nobody took. That those failed is what matters.
            let _ = ip.remove_all_but(system, &routing);
        }
        if request.backend == Choice::Auto {
            // Those that could not even be looked at say most about what is missing.
            failures.extend(others.into_iter().filter_map(|one| Some((one.backend, one.found.err()?))));
        }
        return Err(Error::NoBackend(failures));
    };
    let cleaned = clear_others(system, &others, request.dry_run)?;
    if !request.dry_run {
        ip.remove_all_but(system, &routes(rules))?;
    }
    Ok(Applied {
        backend: candidate.backend,
        why: candidate.why,
        difference,
        count: candidate.tool.wanted(rules).count(),
        rules: rules.clone(),
        cleaned,
    })
}

/// Loads the rules by one back end, unless they are there, and looks whether they are afterwards.
fn put(
    system: &impl System,
    candidate: &Candidate,
    ip: &Ip,
    rules: &RuleSet,
    dry_run: bool,
) -> Result<Vec<String>, Error> {
    let Candidate { tool, loaded, .. } = candidate;
    let wanted = tool.wanted(rules);
    let (routing, needed) = ip.compare(system, rules)?;
    let filter = loaded.own.difference(&wanted);
    let difference = [filter.clone(), routing.difference(&needed)].concat();
    if dry_run {
        tool.test(system, rules)?;
        return Ok(difference);
    }
    ip.add(system, rules)?;
    if !filter.is_empty() {
        tool.load(system, rules)?;
        verify(system, tool, &wanted)?;
    }
    Ok(difference)
}

fn verify(system: &impl System, tool: &Tool, wanted: &Rules) -> Result<(), Error> {
    let difference = tool.loaded(system)?.own.difference(wanted);
    if !difference.is_empty() {
        system.note("warning: the rules are loaded, and listed otherwise than they were written:");
        difference.iter().for_each(|line| system.note(line));
    }
    Ok(())
}

/// Removes what earlier calls left in other back ends: two at once would redirect twice.
fn clear_others(system: &impl System, others: &[Surveyed], dry_run: bool) -> Result<Vec<Backend>, Error> {
    let mut cleaned = Vec::new();
    for Surveyed { backend, found } in others {
        match found {
            Ok((tool, loaded)) if !loaded.own.is_empty() => {
                if !dry_run {
                    tool.clear(system)?;
                }
                cleaned.push(*backend);
            }
            Err(error) if error.is_denied() => {
                system.note(&format!("note: rules of {backend} cannot be looked at: {error}"));
            }
            _ => {}
        }
    }
    Ok(cleaned)
}

#[cfg(test)]
mod tests;
