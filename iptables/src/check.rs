//! Compares what is loaded with what is wanted.
//!
//! The one idea: nothing is changed, and everything of ours counts: a rule that is missing, one too many, one in another
//! place, one of another back end, routing.

use crate::backend::{Backend, Choice, Survey};
use crate::drift::Rules;
use crate::error::Error;
use crate::routes::Ip;
use crate::session::{Wanted, WithoutIpv6};
use crate::system::System;

/// What was found.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The back end that was compared.
    pub(crate) backend: Backend,
    /// Rules that are wanted.
    pub(crate) count: usize,
    /// Where what is loaded differs; nothing when it does not.
    pub(crate) difference: Vec<String>,
}

/// Compares.
///
/// # Errors
/// When what is loaded cannot be read.
pub(crate) fn check(system: &impl System, wanted: &Wanted, choice: Choice, seconds: u32) -> Result<Checked, Error> {
    let (candidates, others) = Survey::of(system, seconds).candidates(choice)?;
    let mut candidates = candidates.into_iter();
    let Some(candidate) = candidates.next() else { return Err(Error::NoBackend(Vec::new())) };
    // Where IPv6 may be left out, it was left out if the machine does not take it.
    let less = wanted.without_ipv6 == WithoutIpv6::Suffices && candidate.tool.test(system, &wanted.rules).is_err();
    let rules = if less { wanted.rules.clone().without_ipv6() } else { wanted.rules.clone() };
    let target = candidate.tool.wanted(&rules);
    let mut difference = candidate.loaded.own.difference(&target);
    for other in others.into_iter().chain(candidates.map(crate::backend::Candidate::into_surveyed)) {
        let backend = other.backend;
        match other.found {
            Ok((_, loaded)) => {
                let lines = loaded.own.difference(&Rules::default());
                difference.extend(lines.into_iter().map(|line| format!("{backend}: {line}")));
            }
            Err(error) if error.is_denied() => {
                system.note(&format!("note: rules of {backend} cannot be looked at: {error}"));
            }
            Err(_) => {}
        }
    }
    let (routing, needed) = Ip::find(system).compare(system, &rules)?;
    difference.extend(routing.difference(&needed));
    Ok(Checked { backend: candidate.backend, count: target.count(), difference })
}
