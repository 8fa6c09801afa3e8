//! Residuals of a worker's connections, shared between those whose facts are equal as far as the policies look at them.
//!
//! Bounded: beyond `KEPT_MAX` residuals, or `RULES_MAX` rules in them, those that nobody has asked for since the last time
//! are let go. A connection keeps its own for as long as it needs it.

use std::cell::RefCell;
use std::collections::HashMap;

use meshgate_config::Snapshot;
use meshgate_policy::{ConnectionFacts, Essential, Residual};

/// Residuals of one half; there are two halves.
const KEPT_MAX: usize = 512;

/// Rules of the residuals of one half. One takes some hundred bytes, where many are left.
const RULES_MAX: usize = 64 * 1024;

/// One worker's residuals under the current configuration.
#[derive(Debug, Default)]
pub struct Residuals(RefCell<Kept>);

#[derive(Debug, Default)]
struct Kept {
    generation: u64,
    /// By fingerprint. Of two with one fingerprint the later takes the place.
    young: HashMap<u64, Entry>,
    /// Looked into when `young` has none; what is found goes back there, and the rest is forgotten when `young` is full.
    old: HashMap<u64, Entry>,
    /// Of `young`, with one for each residual.
    weight: usize,
}

#[derive(Debug)]
struct Entry {
    facts: Essential<Box<str>>,
    residual: Residual,
}

impl Residuals {
    /// What a snapshot's policies leave open on a connection.
    pub fn residual(&self, snapshot: &Snapshot, facts: &ConnectionFacts<'_>) -> Residual {
        let policy = &snapshot.inbound_policy;
        let mut kept = self.0.borrow_mut();
        // A connection that took its snapshot before a change must not throw away what was made after it.
        if snapshot.generation < kept.generation {
            return policy.reduce(facts);
        }
        if snapshot.generation > kept.generation {
            *kept = Kept { generation: snapshot.generation, ..Kept::default() };
        }
        let essential = policy.essential(facts);
        kept.get_or_insert(essential, || policy.reduce(facts))
    }
}

impl Kept {
    fn get_or_insert(&mut self, facts: Essential<&str>, reduce: impl FnOnce() -> Residual) -> Residual {
        let fingerprint = facts.fingerprint();
        let same = |entry: &&Entry| entry.facts.as_ref() == facts;
        if let Some(entry) = self.young.get(&fingerprint).filter(same) {
            return entry.residual.clone();
        }
        let entry = self.old.remove(&fingerprint).filter(|entry| same(&entry));
        let entry = entry.unwrap_or_else(|| Entry { facts: facts.to_owned(), residual: reduce() });
        let residual = entry.residual.clone();
        self.weight += 1 + residual.weight();
        self.young.insert(fingerprint, entry);
        if self.young.len() >= KEPT_MAX || self.weight >= RULES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        residual
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::IpAddr;

    use meshgate_policy::{PolicySet, Protocol, RemoteIp};

    use super::*;

    /// A set that looks at the port alone cannot be made here; the service port always counts.
    fn facts(service_port: u16) -> ConnectionFacts<'static> {
        let ip = IpAddr::from([10, 0, 0, 1]);
        ConnectionFacts {
            peer: None,
            source_ip: ip,
            remote_ip: RemoteIp::Fixed(ip),
            destination: (ip, 80).into(),
            service_port: Some(service_port),
            opaque_port: false,
            sni: None,
            protocol: Protocol::Http,
        }
    }

    #[test]
    fn makes_one_residual_for_equal_facts_and_keeps_those_in_use() {
        let (set, made) = (PolicySet::default(), Cell::new(0));
        let mut kept = Kept::default();
        let mut ask = |port: u16| {
            let facts = facts(port);
            kept.get_or_insert(set.essential(&facts), || {
                made.set(made.get() + 1);
                set.reduce(&facts)
            });
            (kept.young.len(), kept.old.len())
        };
        ask(0);
        ask(0);
        assert_eq!(made.get(), 1);
        for port in 1..3000 {
            let (young, old) = ask(port);
            assert!(young < KEPT_MAX && old <= KEPT_MAX);
            ask(0);
        }
        assert_eq!(made.get(), 3000, "what was asked for all the while was never let go");
        ask(1);
        assert_eq!(made.get(), 3001);
    }
}
