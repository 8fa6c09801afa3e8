//! What rests on which root: whoever takes a root's place by another sees when nobody depends on the old one any more.
//!
//! The one idea: a session looks its root's series up when it begins and holds them, so a handshake only adds one, and a request
//! nothing. The series of the roots in force are there before anybody is counted in them: a 0 says more than nothing at all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meshgate_identity::{Identity, TrustDomain};
use tokio::time::Instant;

use super::family::{Exposed, Family};
use super::labels::{OwnRootLabels, RootLabels, root_label};
use super::series::{Counter, Gauge};
use crate::connection::Direction;

/// By direction and root. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    handshakes: Family<RootLabels, Counter>,
    sessions: Family<RootLabels, Gauge>,
    /// Our own certificate's, the only one at any time.
    own: Family<OwnRootLabels, Gauge>,
    /// Those of the roots in force: what is held is not forgotten.
    in_force: Arc<Mutex<Vec<RootSeries>>>,
}

/// What a peer counts in whom one root vouches for.
#[derive(Debug, Clone)]
pub struct RootSeries {
    /// Handshakes that went well.
    pub handshakes: Counter,
    /// Sessions: on one worker the connections with one peer by one chain, in one role, under one root of our own.
    pub sessions: Gauge,
}

impl Roots {
    /// The series of a peer that is of this trust domain and believed by this root.
    pub fn series(&self, direction: Direction, trust_domain: &TrustDomain, fingerprint: &str) -> RootSeries {
        let (trust_domain, root) = (trust_domain.to_string(), root_label(fingerprint).to_owned());
        let labels = RootLabels { direction: direction.as_str(), trust_domain, root };
        RootSeries {
            handshakes: self.handshakes.get_or_create(&labels),
            sessions: self.sessions.get_or_create(&labels),
        }
    }

    /// Notes the identity in force. The series of a root that is not in it any more go when nothing has rested on it for a while.
    pub fn identity(&self, identity: &Identity) {
        let both = [Direction::Inbound, Direction::Outbound];
        let roots = identity.bundles().inventory();
        let series = roots.iter().flat_map(|root| both.map(|way| self.series(way, &root.trust_domain, &root.sha256)));
        let series = series.collect();
        *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = series;
        let own = identity.root_fingerprint().map(|root| OwnRootLabels { root: root_label(root).to_owned() });
        for (labels, _) in self.own.all().iter().filter(|(labels, _)| Some(&**labels) != own.as_ref()) {
            self.own.remove(labels);
        }
        if let Some(labels) = own {
            self.own.get_or_create(&labels).set(1);
        }
    }

    /// See [`Metrics::forget_idle`](super::Metrics::forget_idle).
    pub fn forget_idle(&self, now: Instant, idle: Duration) {
        self.handshakes.forget_idle(now, idle);
        self.sessions.forget_idle(now, idle);
    }

    /// With name and help text.
    pub(super) fn each(&self, mut with: impl FnMut(&str, &str, &dyn Exposed)) {
        with(
            "mesh_tls_handshakes_by_root_total",
            "TLS handshakes by the root that vouches for the peer",
            &self.handshakes,
        );
        with(
            "mesh_tls_sessions_by_root",
            "Sessions of open connections by the root that vouches for the peer; 0 is none, more is no number of peers",
            &self.sessions,
        );
        with("mesh_certificate_root_info", "Which root vouches for the own certificate", &self.own);
    }
}
