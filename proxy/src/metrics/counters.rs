//! What a connection or a route counts with: its series, looked up once each.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use meshgate_policy::ObjectName;

use super::Metrics;
use super::edge::{Edge, Facts, Party};
use super::istio::{Amounts, RequestLabels, RequestSeries, TcpLabels, TcpSeries};
use super::labels::DecisionLabels;
use super::series::Counter;

/// Series that one place keeps at hand. Few occur; who makes up statuses has more, and pays for looking them up.
const AT_HAND: usize = 64;

/// How a request ended, as far as labels tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// The status sent downstream; 0 when none was.
    pub code: u16,
    /// Envoy's letters.
    pub flags: &'static str,
    /// The gRPC status, where gRPC is spoken; see [`grpc_status`].
    pub grpc: Option<&'static str>,
}

/// The counters of what goes from one party to another: all labels but those of an ending are fixed, and few endings occur, so a
/// short list beats a map behind a lock.
#[derive(Debug)]
pub struct RequestCounters {
    facts: Facts,
    edge: OnceCell<Edge>,
    requests: RefCell<Vec<Found<Ending, RequestSeries>>>,
    tcp: RefCell<Vec<Found<&'static str, TcpSeries>>>,
    /// The same, toward those of the service's endpoints that are somebody else than the one in `facts`.
    toward: RefCell<Vec<Rc<RequestCounters>>>,
}

#[derive(Debug)]
struct Found<K, S> {
    key: K,
    series: Arc<S>,
    /// Since the last [`RequestCounters::let_go`].
    used: Cell<bool>,
}

impl RequestCounters {
    /// Counters of what goes between them.
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            edge: OnceCell::new(),
            requests: RefCell::default(),
            tcp: RefCell::default(),
            toward: RefCell::default(),
        }
    }

    /// The same between the same source and another destination; the same ones each time.
    pub fn toward(self: &Rc<Self>, destination: Party) -> Rc<Self> {
        if self.facts.destination == destination {
            return Rc::clone(self);
        }
        let mut toward = self.toward.borrow_mut();
        if let Some(known) = toward.iter().find(|known| known.facts.destination == destination) {
            return Rc::clone(known);
        }
        let counters = Rc::new(Self::new(Facts { destination, ..self.facts.clone() }));
        toward.push(Rc::clone(&counters));
        counters
    }

    /// Who talks to whom.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Counts one request.
    pub fn count(&self, metrics: &Metrics, ending: Ending, amounts: &Amounts) {
        if !metrics.enabled() {
            return;
        }
        let new = || {
            let Ending { code, flags, grpc } = ending;
            let protocol = if grpc.is_some() { "grpc" } else { "http" };
            let labels = RequestLabels { edge: self.edge(), protocol, code: Some(code), grpc, flags };
            metrics.requests.get_or_create(&labels)
        };
        with(&self.requests, ending, new, |series| series.count(amounts));
    }

    /// The series of TCP connections that ended like this; `-` is of those that have not ended, too. `None` when nothing is counted.
    pub fn tcp(&self, metrics: &Metrics, flags: &'static str) -> Option<Arc<TcpSeries>> {
        let new = || metrics.tcp.get_or_create(&TcpLabels { edge: self.edge(), flags });
        metrics.enabled().then(|| with(&self.tcp, flags, new, Arc::clone))
    }

    /// Lets go of what was not used since it was last asked to, so that it can be forgotten; it is looked up again when needed.
    pub fn let_go(&self) {
        self.requests.borrow_mut().retain(|found| found.used.take());
        self.tcp.borrow_mut().retain(|found| found.used.take());
        self.toward.borrow().iter().for_each(|counters| counters.let_go());
    }

    /// Whether there is anything that could be let go of.
    pub fn has_any(&self) -> bool {
        !self.requests.borrow().is_empty() || !self.tcp.borrow().is_empty()
    }

    fn edge(&self) -> Edge {
        self.edge.get_or_init(|| Edge::new(self.facts.clone())).clone()
    }
}

fn with<K: PartialEq, S, T>(
    list: &RefCell<Vec<Found<K, S>>>,
    key: K,
    new: impl FnOnce() -> Arc<S>,
    then: impl FnOnce(&Arc<S>) -> T,
) -> T {
    let mut list = list.borrow_mut();
    if let Some(found) = list.iter().find(|found| found.key == key) {
        found.used.set(true);
        return then(&found.series);
    }
    let series = new();
    let result = then(&series);
    if list.len() < AT_HAND {
        list.push(Found { key, series, used: Cell::new(true) });
    }
    result
}

/// A `grpc-status` as a label: what is none of the sixteen codes and OK is `unknown`.
pub fn grpc_status(value: &[u8]) -> &'static str {
    const CODES: [&str; 17] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
    CODES.into_iter().find(|code| code.as_bytes() == value).unwrap_or(super::UNKNOWN)
}

/// The decision counters of one worker, kept like [`RequestCounters`].
#[derive(Debug, Default)]
pub struct DecisionCounters {
    found: RefCell<Vec<Decided>>,
    generation: Cell<u64>,
}

#[derive(Debug)]
struct Decided {
    verdict: &'static str,
    reason: &'static str,
    policy: Option<ObjectName>,
    counter: Counter,
}

impl DecisionCounters {
    /// Counts one decision under the configuration of this generation, by the policy that decided, if one did.
    pub fn count(
        &self,
        metrics: &Metrics,
        generation: u64,
        verdict: &'static str,
        reason: &'static str,
        policy: Option<&ObjectName>,
    ) {
        let mut found = self.found.borrow_mut();
        // Policies that are gone are not held on to.
        if self.generation.replace(generation) != generation {
            found.clear();
        }
        let is_it =
            |known: &&Decided| known.verdict == verdict && known.reason == reason && known.policy.as_ref() == policy;
        if let Some(known) = found.iter().find(is_it) {
            known.counter.inc();
            return;
        }
        let name = policy.map_or_else(|| "-".to_owned(), ToString::to_string);
        let counter = metrics.decisions.get_or_create(&DecisionLabels { decision: verdict, reason, policy: name });
        counter.inc();
        if found.len() < AT_HAND {
            found.push(Decided { verdict, reason, policy: policy.cloned(), counter });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OK: Ending = Ending { code: 200, flags: "-", grpc: None };

    #[test]
    fn counts_by_ending_under_istios_names() {
        let metrics = Metrics::default();
        let counters = RequestCounters::new(Facts::unknown("destination"));
        let amounts = Amounts { took: Duration::from_millis(3), received: 10, sent: 20, messages: (0, 0) };
        counters.count(&metrics, OK, &amounts);
        counters.count(&metrics, OK, &amounts);
        counters.count(&metrics, Ending { code: 503, flags: "UF", ..OK }, &amounts);
        let grpc = Ending { grpc: Some(grpc_status(b"5")), ..OK };
        counters.count(&metrics, grpc, &Amounts { messages: (1, 7), ..amounts });
        let text = metrics.render();
        for expected in [
            "istio_requests_total{reporter=\"destination\",source_workload=\"unknown\"",
            "request_protocol=\"http\",response_code=\"200\",response_flags=\"-\"} 2\n",
            "request_protocol=\"http\",response_code=\"503\",response_flags=\"UF\"} 1\n",
            "request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"5\",response_flags=\"-\"} 1\n",
            "istio_request_duration_milliseconds_sum{",
            "response_flags=\"-\"} 7\n",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        for (bound, count) in [("1.0", 0), ("5.0", 2)] {
            let begin = format!("istio_request_duration_milliseconds_bucket{{le=\"{bound}\",reporter=\"destination\",");
            let end = format!(",request_protocol=\"http\",response_code=\"200\",response_flags=\"-\"}} {count}");
            assert!(text.lines().any(|line| line.starts_with(&begin) && line.ends_with(&end)), "{bound}\n{text}");
        }
    }

    #[test]
    fn a_status_that_is_none_does_not_become_a_label() {
        assert_eq!(grpc_status(b"0"), "0");
        assert_eq!(grpc_status(b"16"), "16");
        for value in [&b"17"[..], b"", b"00", b"-1", b"\"}", b" 1"] {
            assert_eq!(grpc_status(value), "unknown");
        }
    }

    #[test]
    fn what_is_let_go_is_found_again_and_nothing_is_lost() {
        let metrics = Metrics::default();
        let counters = RequestCounters::new(Facts::unknown("source"));
        counters.count(&metrics, OK, &Amounts::default());
        // Used since the last time; then not.
        counters.let_go();
        assert_eq!(counters.requests.borrow().len(), 1);
        counters.let_go();
        assert!(counters.requests.borrow().is_empty());
        counters.count(&metrics, OK, &Amounts::default());
        assert!(metrics.render().contains("response_flags=\"-\"} 2\n"));
    }
}
