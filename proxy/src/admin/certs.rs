//! `GET /certs`: the own certificate and the roots that vouch for peers: what is public of them, and how long they last.

use std::time::SystemTime;

use meshgate_identity::{Identity, Root};
use serde::Serialize;

use crate::access_log::rfc3339;
use crate::connection::Direction;
use crate::metrics::Metrics;

/// The page. No key is known here.
#[derive(Serialize)]
pub(super) struct Page {
    generation: u64,
    certificate: Certificate,
    roots: Vec<ShownRoot>,
}

#[derive(Serialize)]
struct Certificate {
    id: String,
    /// Lower-case hexadecimal.
    serial: String,
    /// Fingerprint of the root that vouches for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    /// Certificates that are shown to peers, the leaf included.
    chain: usize,
    #[serde(flatten)]
    life: Life,
}

#[derive(Serialize)]
struct ShownRoot {
    trust_domain: String,
    /// The one cluster for which it vouches.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// Fingerprint of the certificate, lower-case hexadecimal.
    sha256: String,
    /// Of open connections, whose peers are believed by it: 0 is none, more is no number of peers.
    sessions: Sessions,
    #[serde(flatten)]
    life: Life,
}

#[derive(Serialize)]
struct Sessions {
    inbound: i64,
    outbound: i64,
}

#[derive(Serialize)]
struct Life {
    not_before: String,
    not_after: String,
    /// Of its life; 0 when it has ended.
    seconds_left: u64,
    /// From begin to end.
    seconds_in_all: u64,
}

impl Life {
    fn new(not_before: SystemTime, not_after: SystemTime, now: SystemTime) -> Self {
        let seconds = |from: SystemTime| not_after.duration_since(from).map_or(0, |left| left.as_secs());
        Self {
            not_before: rfc3339(not_before),
            not_after: rfc3339(not_after),
            seconds_left: seconds(now),
            seconds_in_all: seconds(not_before),
        }
    }
}

/// The page.
pub(super) fn page(identity: &Identity, metrics: &Metrics) -> Page {
    let (svid, now) = (identity.svid(), SystemTime::now());
    let sessions = |root: &Root| {
        let of = |direction| metrics.by_root.series(direction, &root.trust_domain, &root.sha256).sessions.get();
        Sessions { inbound: of(Direction::Inbound), outbound: of(Direction::Outbound) }
    };
    let root = |root: Root| ShownRoot {
        sessions: sessions(&root),
        trust_domain: root.trust_domain.to_string(),
        cluster: root.cluster.map(|cluster| cluster.to_string()),
        sha256: root.sha256.to_string(),
        life: Life::new(root.not_before, root.not_after, now),
    };
    Page {
        generation: identity.generation(),
        certificate: Certificate {
            id: svid.id().to_string(),
            serial: svid.serial().to_owned(),
            root: identity.root_fingerprint().map(ToString::to_string),
            chain: svid.chain().len(),
            life: Life::new(svid.not_before(), svid.not_after(), now),
        },
        roots: identity.bundles().inventory().into_iter().map(root).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_has_ended_has_nothing_left() {
        let (begin, hour) = (SystemTime::UNIX_EPOCH, Duration::from_secs(3600));
        let life = Life::new(begin, begin + hour, begin + hour / 4);
        assert_eq!((life.seconds_left, life.seconds_in_all), (2700, 3600));
        assert_eq!(Life::new(begin, begin + hour, begin + hour * 2).seconds_left, 0);
    }
}
