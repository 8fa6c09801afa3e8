//! How much one endpoint gets at once, and what becomes of the rest: it is refused at once, and may go to another endpoint.
//!
//! The one idea: an endpoint that is full or silent must cost its callers nothing but an answer. So there is no queue but that of
//! the requests that wait for a connection, which is bounded; and where an endpoint has not taken a connection in time, one
//! request tries it at a time, until it has taken one.
//!
//! All workers count together. A [`Circuit`] is looked up once for each way to an endpoint, and from then on is a few atomics.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use meshgate_config::EndpointLimits;

use crate::error::{ErrorKind, ProxyError};
use crate::http::pool::{Upstream, Via};

/// The circuits of all endpoints that are in use.
#[derive(Debug)]
pub struct Circuits {
    limits: EndpointLimits,
    known: Mutex<HashMap<Key, Arc<Circuit>>>,
}

/// Where an endpoint is. What is spoken to it, and whom to expect there, change nothing about how much it can take.
type Key = (SocketAddr, Option<Via>);

/// What one endpoint has.
#[derive(Debug)]
pub struct Circuit {
    label: String,
    limits: EndpointLimits,
    connections: AtomicUsize,
    requests: AtomicUsize,
    pending: AtomicUsize,
    /// It did not take the last connection that it was offered in time.
    silent: AtomicBool,
}

/// One thing that an endpoint has, until it is dropped.
#[derive(Debug)]
pub struct Use {
    circuit: Arc<Circuit>,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Connection,
    Request,
    Pending,
}

impl Circuits {
    /// Nobody has anything.
    pub fn new(limits: EndpointLimits) -> Self {
        Self { limits, known: Mutex::default() }
    }

    /// The circuit of an endpoint.
    pub fn of(&self, upstream: &Upstream) -> Arc<Circuit> {
        let key = (upstream.address, upstream.via.clone());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Circuit::new(upstream.to_string(), self.limits));
        Arc::clone(known.entry(key).or_insert_with(new))
    }

    /// What all endpoints have together: connections, requests, and of those that wait for a connection.
    pub fn totals(&self) -> (usize, usize, usize) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        known.values().fold((0, 0, 0), |(connections, requests, pending), circuit| {
            let Circuit { connections: c, requests: r, pending: p, .. } = &**circuit;
            (connections + read(c), requests + read(r), pending + read(p))
        })
    }

    /// Forgets those that nobody uses any more.
    pub fn sweep(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, circuit| Arc::strong_count(circuit) > 1);
    }
}

impl Circuit {
    fn new(label: String, limits: EndpointLimits) -> Self {
        Self {
            label,
            limits,
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            silent: AtomicBool::new(false),
        }
    }

    /// One more connection to it.
    ///
    /// # Errors
    /// [`ErrorKind::Overflow`]: it has as many as it gets.
    pub fn connection(self: &Arc<Self>) -> Result<Use, ProxyError> {
        self.take(What::Connection)
    }

    /// One more request, or connection that is no HTTP, for as long as it is served.
    ///
    /// # Errors
    /// [`ErrorKind::Overflow`]: it has as many as it gets.
    pub fn request(self: &Arc<Self>) -> Result<Use, ProxyError> {
        self.take(What::Request)
    }

    /// One more that waits for a connection.
    ///
    /// # Errors
    /// [`ErrorKind::Overflow`]: as many wait as may, or one does and the endpoint has taken no connection of late.
    pub fn wait(self: &Arc<Self>) -> Result<Use, ProxyError> {
        let waits = self.take(What::Pending)?;
        if self.silent.load(Ordering::Relaxed) && self.pending.load(Ordering::Relaxed) > 1 {
            return Err(self.in_vain());
        }
        Ok(waits)
    }

    /// Who has waited for somebody else's connection need not wait for the next: it has just been shown to be in vain.
    pub fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// See [`Circuit::wait`].
    pub fn in_vain(&self) -> ProxyError {
        let detail = format!("{}: takes no connections; another request is trying", self.label);
        ProxyError::new(ErrorKind::Overflow, detail)
    }

    /// What came of offering it a connection.
    pub fn offered<T>(&self, result: Result<T, ProxyError>) -> Result<T, ProxyError> {
        let silent = result.as_ref().is_err_and(|error| error.kind == ErrorKind::ConnectTimeout);
        if self.silent.swap(silent, Ordering::Relaxed) != silent {
            tracing::info!(upstream = self.label, silent, "whether the endpoint takes connections has changed");
        }
        result
    }

    fn take(self: &Arc<Self>, what: What) -> Result<Use, ProxyError> {
        let (count, most) = self.count(what);
        // Relaxed: the count guards no other memory.
        let before = count.fetch_add(1, Ordering::Relaxed);
        let taken = Use { circuit: Arc::clone(self), what };
        if before < most {
            return Ok(taken);
        }
        let limit = match what {
            What::Connection => "limits.endpointConnections",
            What::Request => "limits.endpointRequests",
            What::Pending => "limits.endpointPending",
        };
        Err(ProxyError::new(ErrorKind::Overflow, format!("{}: {limit} reached", self.label)))
    }

    fn count(&self, what: What) -> (&AtomicUsize, usize) {
        match what {
            What::Connection => (&self.connections, self.limits.connections),
            What::Request => (&self.requests, self.limits.requests),
            What::Pending => (&self.pending, self.limits.pending),
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.circuit.count(self.what).0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit(connections: usize, requests: usize, pending: usize) -> Arc<Circuit> {
        Arc::new(Circuit::new("there".to_owned(), EndpointLimits { connections, requests, pending }))
    }

    #[test]
    fn each_limit_holds_by_itself_and_room_comes_back() {
        let circuit = circuit(1, 2, 1);
        let connection = circuit.connection().unwrap();
        let _requests = [circuit.request().unwrap(), circuit.request().unwrap()];
        assert_eq!(circuit.connection().unwrap_err().detail, "there: limits.endpointConnections reached");
        assert_eq!(circuit.request().unwrap_err().kind, ErrorKind::Overflow);
        drop(connection);
        assert!(circuit.connection().is_ok());
    }

    #[test]
    fn a_silent_endpoint_is_tried_by_one_at_a_time_until_it_answers() {
        let circuit = circuit(9, 9, 9);
        let late = || Err::<(), _>(ProxyError::new(ErrorKind::ConnectTimeout, ""));
        let _first = circuit.wait().unwrap();
        let second = circuit.wait().unwrap();
        assert!(circuit.offered(late()).is_err());
        drop(second);
        assert_eq!(circuit.wait().unwrap_err().kind, ErrorKind::Overflow);
        circuit.offered(Ok(())).unwrap();
        assert!(circuit.wait().is_ok());
        assert!(circuit.offered(Err::<(), _>(ProxyError::new(ErrorKind::ConnectFailed, ""))).is_err());
        assert!(circuit.wait().is_ok(), "who refuses says so at once, and costs nobody any time");
    }
}
