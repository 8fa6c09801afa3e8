//! The last refusals, for whoever looks at a running proxy: who was refused what, and by which policy.
//!
//! The one idea: each worker keeps a few of its own, behind a lock that only a reader ever contends for; who is let in pays nothing. What is
//! refused again and again is kept once and counted, and who is refused in ever new ways has few lines, so that one who never tires does not
//! push out the others. It is no log: the access log has every one of them.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use http::{Method, Request};
use meshgate_policy::{Decision, Verdict};
use serde::Serialize;

use super::DENIED;
use crate::access_log::rfc3339;
use crate::metrics::Facts;

/// Different refusals that each worker keeps: a screen full of them, and some tens of kilobytes.
const KEPT: usize = 64;

/// Of these, lines of one caller that are refused for one cause, however they differ otherwise.
const ALIKE: usize = 8;

/// Bytes that are kept of why, of a path and of a method: what came from the wire is in it.
const WHY_MAX: usize = 256;

/// The flags of what was refused for what the caller is or sent; the others are faults.
const FLAGS: [&str; 6] = [DENIED, "UAEX", "JWT", "RL", "DPE", "DOWNSTREAM_TLS"];

/// Which policy refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    reason: &'static str,
    policy: Option<String>,
}

impl By {
    /// What of a decision is kept for [`Refused`]: nothing where it was let in.
    pub fn of(decision: &Decision<'_>) -> Option<Self> {
        let refused = decision.verdict == Verdict::Deny;
        refused.then(|| Self { reason: decision.reason.as_str(), policy: decision.rule.map(|rule| rule.to_string()) })
    }
}

/// One refusal, and how often there was one like it.
#[derive(Debug, Clone, Serialize)]
pub struct Refused {
    /// Which of the process's refusals the last of them is, from 0.
    number: u64,
    /// When that was.
    #[serde(serialize_with = "time")]
    at: SystemTime,
    /// When the first was.
    #[serde(serialize_with = "time")]
    since: SystemTime,
    /// How many there were.
    times: u64,
    #[serde(flatten)]
    what: What,
}

/// Who was refused what, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
struct What {
    /// As the metrics have it.
    reporter: &'static str,
    source_namespace: String,
    source_workload: String,
    source_principal: String,
    destination_service: String,
    destination_workload: String,
    /// What was asked for, where it was HTTP. Without the query, which may hold secrets and which no policy looks at.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// The status, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    flags: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<String>,
}

/// What a request asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    method: Method,
    path: String,
}

impl Wanted {
    /// What is kept of a request that is refused.
    pub fn of<B>(request: &Request<B>) -> Self {
        Self { method: request.method().clone(), path: cut(request.uri().path()) }
    }
}

/// How an exchange ended that may have been a refusal.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// What was asked for, where it was HTTP.
    pub wanted: Option<&'a Wanted>,
    /// The status, where there was one.
    pub code: Option<u16>,
    /// Envoy's letters.
    pub flags: &'static str,
    /// By what.
    pub by: Option<&'a By>,
    /// Why, as in the access log.
    pub details: Option<&'a str>,
}

/// The last refusals of one worker.
#[derive(Debug, Default)]
pub struct Ring {
    kept: Mutex<VecDeque<Refused>>,
    /// How many there have been on all workers.
    count: Arc<AtomicU64>,
}

/// Those of all workers.
#[derive(Debug, Default)]
pub struct Refusals {
    rings: Mutex<Vec<Arc<Ring>>>,
    count: Arc<AtomicU64>,
}

impl By {
    /// The word that metrics and logs have for why.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Which rule of which policy, where there is one.
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }
}

impl Refused {
    /// What another worker knows of the same.
    fn add(&mut self, other: &Self) {
        self.number = self.number.max(other.number);
        self.at = self.at.max(other.at);
        self.since = self.since.min(other.since);
        self.times += other.times;
    }
}

impl What {
    /// Who is refused; those of whom nothing is known are one.
    fn caller(&self) -> [&str; 3] {
        [&self.source_namespace, &self.source_workload, &self.source_principal]
    }

    /// Whether the same caller is refused by the same.
    fn is_like(&self, other: &Self) -> bool {
        let cause = |of: &Self| (of.flags, of.reason);
        cause(self) == cause(other) && self.policy == other.policy && self.caller() == other.caller()
    }
}

/// Which line has to go for one more: the oldest that is like it, where there are enough of those; where there is no room, the oldest of
/// whoever has most.
fn gives_way(kept: &VecDeque<Refused>, what: &What) -> Option<usize> {
    let lines = || kept.iter().map(|refused| &refused.what).enumerate();
    let alike = lines().rev().filter(|(_, other)| other.is_like(what)).nth(ALIKE - 1);
    if alike.is_some() || kept.len() < KEPT {
        return alike.map(|(index, _)| index);
    }
    let mut callers = HashMap::<_, (usize, Reverse<usize>)>::new();
    for (index, other) in lines() {
        callers.entry(other.caller()).or_insert((0, Reverse(index))).0 += 1;
    }
    callers.into_values().max().map(|(_, Reverse(oldest))| oldest)
}

impl Ring {
    /// Keeps it, if it is one.
    pub fn note(&self, facts: &Facts, end: End<'_>) {
        if !is_refusal(end.flags) {
            return;
        }
        let what = What {
            reporter: facts.reporter,
            source_namespace: facts.source.namespace.clone(),
            source_workload: facts.source.workload.clone(),
            source_principal: facts.source.principal.clone(),
            destination_service: facts.service.host.clone(),
            destination_workload: facts.destination.workload.clone(),
            method: end.wanted.map(|wanted| cut(wanted.method.as_str())),
            path: end.wanted.map(|wanted| wanted.path.clone()),
            code: end.code,
            flags: end.flags,
            reason: end.by.map(|by| by.reason),
            policy: end.by.and_then(|by| by.policy.clone()),
            details: end.details.map(cut),
        };
        let (number, at) = (self.count.fetch_add(1, Ordering::Relaxed), SystemTime::now());
        let mut kept = self.locked();
        let known = kept.iter().position(|refused| refused.what == what).and_then(|index| kept.remove(index));
        if let Some(index) = known.is_none().then(|| gives_way(&kept, &what)).flatten() {
            kept.remove(index);
        }
        let (since, times) = known.map_or((at, 0), |known| (known.since, known.times));
        kept.push_back(Refused { number, at, since, times: times + 1, what });
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<Refused>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusals {
    /// The ring of one more worker.
    pub fn ring(&self) -> Arc<Ring> {
        let ring = Arc::new(Ring { kept: Mutex::default(), count: Arc::clone(&self.count) });
        self.rings.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&ring));
        ring
    }

    /// All that are kept, the last first.
    pub fn all(&self) -> Vec<Refused> {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all = HashMap::<What, Refused>::new();
        for refused in rings.iter().flat_map(|ring| ring.locked().iter().cloned().collect::<Vec<_>>()) {
            all.entry(refused.what.clone()).and_modify(|known| known.add(&refused)).or_insert(refused);
        }
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_by_key(|refused| Reverse(refused.number));
        all
    }
}

/// Whether the flag is one of what was refused for what the caller is or sent.
pub fn is_refusal(flags: &str) -> bool {
    FLAGS.contains(&flags)
}

/// The beginning of it, as far as it is kept.
fn cut(text: &str) -> String {
    let boundary = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=WHY_MAX.min(text.len())).rev().find(boundary).unwrap_or_default();
    text.get(..end).unwrap_or_default().to_owned()
}

fn time<S: serde::Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end<'a>(flags: &'static str, details: &'a str) -> End<'a> {
        End { wanted: None, code: Some(403), flags, by: None, details: Some(details) }
    }

    /// One workload calls.
    fn by(workload: &str) -> Facts {
        let mut facts = Facts::unknown("destination");
        workload.clone_into(&mut facts.source.workload);
        facts
    }

    #[test]
    fn the_last_refusals_are_kept_and_faults_are_none() {
        let refusals = Refusals::default();
        let rings = [refusals.ring(), refusals.ring()];
        for number in 0..KEPT * 3 {
            rings[0].note(&by(&number.to_string()), end(DENIED, ""));
        }
        rings[1].note(&Facts::unknown("destination"), end("UF", "a fault"));
        rings[1].note(&Facts::unknown("destination"), end("JWT", "the last"));
        let all = refusals.all();
        assert_eq!(all.len(), KEPT + 1);
        assert_eq!(all[0].what.details.as_deref(), Some("the last"));
        assert!(all.iter().any(|refused| refused.what.source_workload == "191"));
        assert!(!all.iter().any(|refused| refused.what.source_workload == "127"));
    }

    #[test]
    fn a_scanner_with_a_new_path_each_time_pushes_nobody_else_out() {
        let refusals = Refusals::default();
        let ring = refusals.ring();
        // With what each rule refuses, there is more of it than there is room.
        for (times, rules) in [(1, 1), (2, 100)] {
            ring.note(&by("other"), end(DENIED, "rare"));
            for number in 0..1000 {
                let wanted = Wanted { method: Method::GET, path: format!("/{number}") };
                let policy = By { reason: "deny_rule", policy: Some(format!("default/none rule {}", number % rules)) };
                let end = End { wanted: Some(&wanted), by: Some(&policy), ..end(DENIED, "scan") };
                ring.note(&by("scanner"), end);
            }
            let all = refusals.all();
            assert_eq!(all[0].what.path.as_deref(), Some("/999"));
            let mut others = all.iter().filter(|refused| refused.what.source_workload == "other");
            assert!(others.next().is_some_and(|other| other.times == times), "{rules}: {all:#?}");
            assert_eq!(all.len(), if rules == 1 { 1 + ALIKE } else { KEPT });
        }
    }

    #[test]
    fn one_who_never_tires_is_counted_and_pushes_nobody_out() {
        let refusals = Refusals::default();
        let rings = [refusals.ring(), refusals.ring()];
        rings[0].note(&Facts::unknown("destination"), end(DENIED, "rare"));
        for _ in 0..KEPT * 3 {
            rings.iter().for_each(|ring| ring.note(&Facts::unknown("destination"), end(DENIED, "often")));
        }
        let told: Vec<_> = refusals
            .all()
            .iter()
            .map(|refused| (refused.what.details.clone().unwrap(), refused.times, refused.number))
            .collect();
        let times = 2 * 3 * KEPT as u64;
        assert_eq!(told, [("often".to_owned(), times, times), ("rare".to_owned(), 1, 0)]);
        assert!(refusals.all().iter().all(|refused| refused.since <= refused.at));
    }

    #[test]
    fn what_came_from_the_wire_does_not_fill_the_memory() {
        let refusals = Refusals::default();
        let ring = refusals.ring();
        ring.note(&Facts::unknown("destination"), end("DPE", &"\u{20ac}".repeat(10_000)));
        let details = refusals.all()[0].what.details.clone().unwrap();
        assert!((WHY_MAX - 3..=WHY_MAX).contains(&details.len()), "{}", details.len());
    }
}
