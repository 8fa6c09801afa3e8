//! What a case expects, and what of it did not come.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::judge::{Answer, Outcome};

/// `allow`, `deny`, `400`, or more than that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    details: Details,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Details {
    verdict: Option<Word>,
    reason: Option<String>,
    /// `namespace/name`
    policy: Option<String>,
    /// Its index in that policy.
    rule: Option<usize>,
    status: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word(Outcome);

impl Expected {
    /// What differs, for people; nothing when the answer is as expected.
    pub(super) fn differs(&self, answer: &Answer) -> Option<String> {
        let Details { verdict, reason, policy, rule, status } = &self.details;
        let found_policy = answer.rule.as_ref().map(|rule| rule.policy.clone());
        let found_rule = answer.rule.as_ref().map(|rule| rule.rule);
        let differences = [
            differs("", verdict.map(|word| word.0.as_str()), Some(answer.verdict.as_str())),
            differs("reason ", reason.as_deref(), Some(answer.reason)),
            differs("policy ", policy.as_ref(), found_policy.as_ref()),
            differs("rule ", *rule, found_rule),
            differs("status ", *status, answer.status),
        ];
        let all: Vec<_> = differences.into_iter().flatten().collect();
        if all.is_empty() { None } else { Some(all.join("; ")) }
    }
}

fn differs<T: PartialEq + fmt::Display>(what: &str, expected: Option<T>, found: Option<T>) -> Option<String> {
    let expected = expected?;
    match found {
        Some(found) if found == expected => None,
        Some(found) => Some(format!("expected {what}{expected}, got {found}")),
        None => Some(format!("expected {what}{expected}, got none")),
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { verdict, reason, policy, rule, status } = &self.details;
        let parts = [
            verdict.map(|word| word.0.as_str().to_owned()),
            reason.as_ref().map(|reason| format!("reason {reason}")),
            policy.as_ref().map(|policy| format!("policy {policy}")),
            rule.map(|rule| format!("rule {rule}")),
            status.map(|status| format!("status {status}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

fn word<E: Error>(text: &str) -> Result<Word, E> {
    match text {
        "allow" => Ok(Word(Outcome::Allow)),
        "deny" => Ok(Word(Outcome::Deny)),
        "400" => Ok(Word(Outcome::BadRequest)),
        _ => Err(E::custom(format!("`{text}` is no verdict: expected allow, deny or 400"))),
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
        match Expected::deserialize(deserializer)? {
            Expected {
                details: Details { verdict: Some(found), reason: None, policy: None, rule: None, status: None },
            } => Ok(found),
            _ => Err(D::Error::custom("expected allow, deny or 400")),
        }
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Expected, D::Error> {
        deserializer.deserialize_any(ExpectedVisitor)
    }
}

struct ExpectedVisitor;

impl<'de> Visitor<'de> for ExpectedVisitor {
    type Value = Expected;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("allow, deny, 400, or an object with verdict, reason, policy, rule or status")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Expected, E> {
        Ok(Expected { details: Details { verdict: Some(word(text)?), ..Details::default() } })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Expected, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Expected, A::Error> {
        let details = Details::deserialize(MapAccessDeserializer::new(map))?;
        if details == Details::default() {
            return Err(A::Error::custom("expects nothing: give a verdict, reason, policy, rule or status"));
        }
        Ok(Expected { details })
    }
}
