//! The tokens of a request, place by place.

use std::borrow::Cow;
use std::sync::Arc;

use crate::jwt::authentication::Asked;
use crate::jwt::place::Place;
use crate::jwt::rejection::Rejection;
use crate::jwt::rule::{JwtRule, Verified};

/// Tokens that are looked at, counted once for each rule that reads their place. A signature takes a hundred times as long as the
/// rest of a request, so that there must be an end to them.
const FOUND_MAX: usize = 32;

/// A token at a place of a rule.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// The rule's index.
    pub(super) rule: usize,
    pub(super) place: &'a Place,
    pub(super) text: Cow<'a, [u8]>,
    /// Whether it is good for the rule.
    pub(super) verdict: Result<Arc<Verified>, Rejection>,
}

impl Found<'_> {
    /// Whether this is the same token at the same place, for another rule.
    pub(super) fn is_same_token(&self, other: &Found<'_>) -> bool {
        self.place == other.place && self.text == other.text
    }
}

/// Every token at every rule's places, each with its verdict.
pub(super) fn all<'a>(
    rules: &'a [Arc<JwtRule>],
    asked: &Asked<'a>,
    mut verdict: impl FnMut(usize, &[u8]) -> Result<Arc<Verified>, Rejection>,
) -> Result<Vec<Found<'a>>, Rejection> {
    let mut found = Vec::new();
    for (rule, written) in rules.iter().enumerate() {
        for place in &written.places {
            place.tokens(asked.headers, asked.query, |text| {
                let verdict = if found.len() < FOUND_MAX { verdict(rule, &text) } else { Err(Rejection::TooMany) };
                found.push(Found { rule, place, text, verdict });
            });
            if found.len() > FOUND_MAX {
                return Err(Rejection::TooMany);
            }
        }
    }
    Ok(found)
}
