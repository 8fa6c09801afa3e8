//! What the bootstrap says about the admin endpoint: `admin`.

use std::time::Duration;

use serde::Deserialize;

use super::Admin;
use super::validate::Validator;

/// For callers on this machine; 15000 is where Envoy beside Istio has it.
const ADDRESS: &str = "127.0.0.1:15000";

/// Who follows the live page: a few people, each in a window or two. Each costs a page of JSON a second.
const EVENT_LISTENERS: usize = 8;

/// Scrapers, the kubelet's probes and a few people with a browser each, many times over; each costs some ten kilobytes.
const CONNECTIONS: usize = 64;

/// A request's head, and the rest between two: a scraper that sends slower than this is none, and one that comes every 15 seconds may
/// as well connect anew.
const IDLE: Duration = Duration::from_secs(10);

/// The largest page is some ten megabytes, through `kubectl port-forward` on a bad day.
const REQUEST: Duration = Duration::from_secs(60);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawAdmin {
    pub(super) address: Option<String>,
    #[serde(default)]
    quit: bool,
    event_listeners: Option<usize>,
    connections: Option<usize>,
    idle: Option<String>,
    request: Option<String>,
}

/// The settings; `None` where it is not known where to listen, which has been said.
pub(super) fn admin(v: &mut Validator<'_>, raw: RawAdmin) -> Option<Admin> {
    let address = v.address("admin.address", raw.address.as_deref().unwrap_or(ADDRESS));
    let event_listeners = raw.event_listeners.unwrap_or(EVENT_LISTENERS);
    // Whoever follows the page keeps its connection: probes and scrapers need some besides.
    let least = event_listeners.saturating_add(1);
    address.map(|address| Admin {
        address,
        quit: raw.quit,
        event_listeners,
        connections: v.at_least("admin.connections", raw.connections, least, CONNECTIONS.max(least)),
        idle: v.duration("admin.idle", raw.idle, IDLE),
        request: v.duration("admin.request", raw.request, REQUEST),
    })
}
