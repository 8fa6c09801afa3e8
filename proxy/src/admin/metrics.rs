//! `GET /metrics`: what was counted, and what is looked up only when somebody asks.
//!
//! All of it is read from atomics and short lists; no worker waits for it.

use std::collections::BTreeMap;

use meshgate_config::Snapshot;

use crate::metrics::exposition::{Format, Kind, Labels, Page};
use crate::metrics::process;
use crate::worker::Shared;

/// What a page takes that is not much used: it grows from there.
const ROOM: usize = 64 * 1024;

/// The page.
pub(super) fn page(shared: &Shared, snapshot: &Snapshot, format: Format) -> String {
    let mut page = Page::new(format, ROOM);
    shared.metrics.write(&mut page);
    endpoints(shared, snapshot, &mut page);
    use_of_room(shared, &mut page);
    let blockers = shared.readiness.blockers();
    one(&mut page, "mesh_ready", "Whether it is ready, as /ready says", usize::from(blockers.is_empty()));
    let is_draining = blockers.contains(&"draining");
    one(&mut page, "mesh_draining", "Whether it is on its way to its end", usize::from(is_draining));
    process::write(&mut page);
    page.finish()
}

fn one(page: &mut Page, name: &str, help: &str, value: usize) {
    page.head(name, Kind::Gauge, help);
    page.value(name, "", value);
}

/// How many endpoints each service port has, ready and not; of as many services as a metric may have series.
fn endpoints(shared: &Shared, snapshot: &Snapshot, page: &mut Page) {
    const NAME: &str = "mesh_endpoints";
    page.head(NAME, Kind::Gauge, "Endpoints of services");
    let most = shared.bootstrap.metrics.max_series / 2;
    let (mut rest, mut ports) = ((0, 0), BTreeMap::new());
    for port in snapshot.services.iter() {
        let (ready, not) = (port.endpoints.len(), port.not_ready);
        if ports.len() < most {
            ports.insert((port.host.as_str(), port.port), (ready, not));
        } else {
            rest = (rest.0 + ready, rest.1 + not);
        }
    }
    let mut write = |service: &str, port: &str, (ready, not): (usize, usize)| {
        for (state, count) in [("ready", ready), ("not_ready", not)] {
            let mut labels = Labels::default();
            labels.add("service", service);
            labels.add("port", port);
            labels.add("state", state);
            page.value(NAME, &labels.into_text(), count);
        }
    };
    for ((host, port), counts) in ports {
        write(host, &port.to_string(), counts);
    }
    if rest != (0, 0) {
        write(crate::metrics::family::OVERFLOW, crate::metrics::family::OVERFLOW, rest);
    }
}

/// How much there is of what there may only be so much of.
fn use_of_room(shared: &Shared, page: &mut Page) {
    let (connections, requests, pending) = shared.circuits.totals();
    let limits = &shared.bootstrap.limits;
    one(page, "mesh_upstream_connections", "Open connections to endpoints", connections);
    one(page, "mesh_upstream_requests", "Requests and TCP connections in progress at endpoints", requests);
    one(page, "mesh_upstream_pending", "Requests that wait for a connection to their endpoint", pending);
    one(page, "mesh_requests_in_flight", "Requests being served", shared.requests.used());
    page.head("mesh_limit", Kind::Gauge, "How much there may be of what is limited as a whole");
    for (what, most) in [("connections", limits.connections), ("requests_in_flight", limits.requests_in_flight)] {
        page.value("mesh_limit", &format!("limit=\"{what}\""), most);
    }
}
