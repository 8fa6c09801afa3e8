//! What became of all requests, and which failures are excused.
//!
//! A killed application excuses a request that was on its way to one when it died and may not be sent twice, an answer or a tunnel
//! that broke off then, and a POST for which nobody was there. A policy that comes into force excuses what it ends: an answer, and
//! a request that may not be sent again, where it would be told no. What was answered wrong, and what has had no answer and may be
//! asked again, is never excused.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::profile::Wanted;

/// How soon after an application's death whatever was on its way to it has ended.
const PROMPTLY: Duration = Duration::from_secs(2);

/// A policy is in force so soon after it was written.
const IN_FORCE: Duration = Duration::from_secs(2);

/// How a request went well.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Good {
    /// The answer is the very one.
    Answered,
    /// A policy says no.
    Refused,
    /// The client left in the middle.
    Cut,
}

/// How it did not.
pub(crate) enum Bad {
    /// What came belongs to something else.
    Wrong(String),
    /// A status that nobody asked for.
    Status(u16, String),
    /// No head of an answer.
    Lost(String),
    /// It broke off behind the head of the answer.
    Broken(String),
    /// It did not end.
    Late,
}

/// What is told of a request, or a tunnel.
pub(crate) struct Asked<'a> {
    pub(crate) kind: &'static str,
    pub(crate) name: &'a str,
    /// It may be sent again, so that nobody but its client may lose it.
    pub(crate) repeatable: bool,
    /// All of it is kept while it is on its way, so that nobody may lose it who has not reached an application with it.
    pub(crate) kept: bool,
    /// A policy that comes and goes is about it.
    pub(crate) sometimes: bool,
    pub(crate) began: Instant,
}

/// An application's death: the instant before, that after, and when it was back.
#[derive(Clone, Copy)]
pub(crate) struct Kill {
    pub(crate) began: Instant,
    pub(crate) dead: Option<Instant>,
    pub(crate) back: Option<Instant>,
}

#[derive(Default)]
pub(crate) struct Tally {
    sent: Cell<u64>,
    good: Cell<u64>,
    refused: Cell<u64>,
    cut: Cell<u64>,
    explained: RefCell<BTreeMap<String, u64>>,
    /// Name and fault.
    unexplained: RefCell<Vec<(String, String)>>,
    slowest: Cell<Duration>,
    /// Of answers: while there were no faults, and while there were.
    times: [RefCell<Vec<Duration>>; 2],
    /// Things go wrong now.
    pub(crate) faulty: Cell<bool>,
    pub(crate) kills: RefCell<Vec<Kill>>,
    /// When the policy about `sometimes` was written, and what it says.
    pub(crate) denied: RefCell<Vec<(Instant, bool)>>,
    pub(crate) policies: Cell<u64>,
    pub(crate) rotations: Cell<u64>,
    tunnels: Cell<u64>,
    pub(crate) tunnelled: Cell<u64>,
}

impl Tally {
    /// One more is about to be sent; its number.
    pub(crate) fn begin(&self) -> u64 {
        count(&self.sent);
        self.sent.get()
    }

    pub(crate) fn ended(&self, asked: &Asked<'_>, result: Result<Good, Bad>) {
        let took = asked.began.elapsed();
        let result = match result {
            Ok(good) => self.in_force(asked, good).map(|()| good),
            Err(bad) => Err(bad),
        };
        match result {
            Ok(Good::Answered) => {
                count(&self.good);
                match asked.kind {
                    "tunnel" | "TCP" => count(&self.tunnels),
                    _ => {
                        self.slowest.set(self.slowest.get().max(took));
                        self.times[usize::from(self.faulty.get())].borrow_mut().push(took);
                    }
                }
            }
            Ok(Good::Refused) => count(&self.refused),
            Ok(Good::Cut) => count(&self.cut),
            Err(bad) => self.failed(asked, &bad),
        }
    }

    /// Whether a policy that was in force for the whole of a request was kept to.
    fn in_force(&self, asked: &Asked<'_>, good: Good) -> Result<(), Bad> {
        if !asked.sometimes || good == Good::Cut {
            return Ok(());
        }
        let denied = self.denied.borrow();
        let last = denied.iter().rposition(|(at, _)| *at + IN_FORCE <= asked.began);
        let Some(last) = last else { return Ok(()) };
        // It has changed since.
        if denied.iter().skip(last + 1).any(|(_, says)| *says != denied[last].1) {
            return Ok(());
        }
        match (denied[last].1, good) {
            (true, Good::Answered) => Err(Bad::Wrong("let in, and a policy that refuses it is in force".to_owned())),
            (false, Good::Refused) => Err(Bad::Wrong("refused, and no policy in force does".to_owned())),
            _ => Ok(()),
        }
    }

    fn failed(&self, asked: &Asked<'_>, bad: &Bad) {
        let (began, now) = (asked.began, Instant::now());
        let kills = self.kills.borrow();
        // It was under way in the instant of an application's death, and ended with it.
        let died_with = kills.iter().any(|kill| {
            let dead = kill.dead.unwrap_or(now);
            began <= dead && kill.began <= now && now <= dead + PROMPTLY
        });
        // It began while nobody was there.
        let nobody = kills.iter().any(|kill| kill.began <= now && began <= kill.back.unwrap_or(now));
        // Whatever its method, it should have been tried elsewhere.
        let unsent = matches!(bad, Bad::Status(503, text) if text == "upstream connect error");
        let excusable = !(asked.repeatable || unsent && asked.kept);
        let withdrawn = asked.sometimes && self.denied_since(began, now);
        let excuse = match bad {
            Bad::Broken(_) if withdrawn => Some("broken off when a policy refused it"),
            Bad::Lost(_) | Bad::Status(503, _) if withdrawn && excusable => Some("under way when a policy refused it"),
            // It was sent again, into the same instant at the other endpoint: one after the other they say no.
            Bad::Status(503, text) if withdrawn && text == "upstream closed the connection" => {
                Some("under way at either endpoint when a policy refused it")
            }
            Bad::Broken(_) if died_with => Some("broken off when an application was killed"),
            Bad::Lost(_) | Bad::Status(502 | 503, _) if died_with && excusable => {
                Some("on its way to an application that was killed")
            }
            Bad::Status(503, _) if nobody && excusable => Some("while an application was away"),
            _ => None,
        };
        if let Some(excuse) = excuse {
            *self.explained.borrow_mut().entry(format!("{} {excuse}: {bad}", asked.kind)).or_default() += 1;
        } else {
            let since = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
            let kill = kills.last().map_or("none yet".to_owned(), |kill| format!("{:.3}s ago", since(kill.began)));
            let (kind, name) = (asked.kind, asked.name);
            let text = format!("{kind} {name} after {:.3}s: {bad} (last kill {kill})", since(began));
            if self.unexplained.borrow().len() < 20 {
                println!("UNEXPLAINED {text}");
            }
            self.unexplained.borrow_mut().push((name.to_owned(), text));
        }
    }

    /// Whether the policy about `sometimes` began to refuse while something was under way.
    fn denied_since(&self, began: Instant, now: Instant) -> bool {
        let denied = self.denied.borrow();
        let begins = |pair: &[(Instant, bool)]| matches!(pair, [(_, false), (at, true)] if *at <= now && began <= *at + IN_FORCE);
        denied.windows(2).any(begins)
    }

    pub(crate) fn line(&self) -> String {
        let explained: u64 = self.explained.borrow().values().sum();
        let unexplained = self.unexplained.borrow().len();
        format!(
            "{} sent, {} good, {} refused, {} cut, {explained} explained, {unexplained} unexplained, slowest {:?}",
            self.sent.get(),
            self.good.get(),
            self.refused.get(),
            self.cut.get(),
            self.slowest.get()
        )
    }

    /// The requests whose failure nothing excuses.
    pub(crate) fn unexplained(&self) -> Vec<String> {
        self.unexplained.borrow().iter().map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn problems(&self, wanted: &Wanted) -> Vec<String> {
        let mut problems: Vec<String> =
            self.unexplained.borrow().iter().take(20).map(|(_, text)| text.clone()).collect();
        let ended = self.good.get() + self.refused.get() + self.cut.get();
        let failed = self.explained.borrow().values().sum::<u64>() + self.unexplained.borrow().len() as u64;
        if self.sent.get() != ended + failed {
            problems.push(format!("{} were sent, and only {} have ended", self.sent.get(), ended + failed));
        }
        let counts = [
            ("answered", self.good.get()),
            ("refused", self.refused.get()),
            ("cut", self.cut.get()),
            ("said back in a tunnel", self.tunnels.get()),
        ];
        for (what, count) in counts {
            if count == 0 {
                problems.push(format!("nothing was {what}: the soak has not shown what it is for"));
            }
        }
        let [quiet, faulty] = [0, 1].map(|when| quantile(&mut self.times[when].borrow_mut(), 990));
        if let Some(times) = wanted.times_quiet
            && faulty > quiet * times
        {
            problems.push(format!("p99 {faulty:?} with faults, and at most {times} times {quiet:?} are wanted"));
        }
        problems
    }
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// The time that so many of a thousand stay below.
fn quantile(times: &mut [Duration], thousandths: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * thousandths / 1000).copied().unwrap_or_default()
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(what) => write!(f, "wrong: {what}"),
            Self::Status(status, body) => write!(f, "{status} {body}"),
            Self::Lost(why) => write!(f, "no answer: {why}"),
            Self::Broken(why) => write!(f, "broken off: {why}"),
            Self::Late => write!(f, "not done in time"),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.line())?;
        for (what, count) in &*self.explained.borrow() {
            writeln!(f, "  {count} times: {what}")?;
        }
        writeln!(f, "{} tunnels to their end, {} MiB said back", self.tunnels.get(), self.tunnelled.get() >> 20)?;
        for (when, times) in ["while all was quiet", "with faults"].into_iter().zip(&self.times) {
            let mut times = times.borrow().clone();
            let (p50, p99, p999) = (quantile(&mut times, 500), quantile(&mut times, 990), quantile(&mut times, 999));
            writeln!(f, "{when}: {} answers, p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}", times.len())?;
        }
        let (kills, policies) = (self.kills.borrow().len(), self.policies.get());
        write!(f, "{policies} policy changes, {} certificate rotations, {kills} kills", self.rotations.get())
    }
}
