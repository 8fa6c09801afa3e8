//! `GET /connections`: the downstream connections that are open, a page of them at a time.
//!
//! `?limit=` so many at most ([`LIMIT`], up to [`LIMIT_MAX`]), `?after=` only those with a higher number (the page before says where
//! it ended), `?principal=` only those whose peer's SPIFFE ID has this in it, `?direction=` only those that go this way.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use meshgate_policy::percent;
use serde::Serialize;

use super::{TEXT, json, text};
use crate::connection::{Direction, Protocol};
use crate::open::{Found, Place, Tls, Wanted};
use crate::worker::Shared;

/// Connections on a page: what a person looks through.
const LIMIT: usize = 100;

/// As many as may be asked for: half a megabyte, made within some milliseconds on the thread that answers probes.
const LIMIT_MAX: usize = 1000;

/// The page.
#[derive(Serialize)]
struct Page {
    /// As many are open.
    total: usize,
    /// As many of them are as was asked for; with `after`, of those that are later.
    matching: usize,
    /// What `after` has to be for the next page; `null` on the last one.
    next: Option<u64>,
    /// In the order in which they began.
    connections: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    number: u64,
    /// The listener it came in at.
    listener: SocketAddr,
    direction: &'static str,
    /// Who connected.
    remote: SocketAddr,
    /// `opening` while it is not known yet what is spoken.
    state: &'static str,
    /// Where it was going before redirection; through a tunnel, what was asked for.
    destination: Option<SocketAddr>,
    /// The SPIFFE ID that its certificate proved.
    principal: Option<String>,
    /// `http/1.1`, `http/2` or `tcp`.
    protocol: Option<&'static str>,
    /// `null` where it is plaintext to this proxy.
    tls: Option<Encryption>,
    age_seconds: u64,
    /// Requests so far; of what carries tunnels, those.
    requests: u32,
    in_flight: u32,
    /// Of bytes that are only moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<Tunnel>,
    /// The number of the connection that it is a tunnel in.
    #[serde(skip_serializing_if = "Option::is_none")]
    within: Option<u64>,
}

#[derive(Serialize)]
struct Encryption {
    version: String,
    cipher: String,
}

#[derive(Serialize)]
struct Tunnel {
    to: SocketAddr,
    /// Bytes from who connected, and to it.
    received: u64,
    sent: u64,
}

/// The answer to a query, as it stands behind the `?`.
pub(super) fn answer(shared: &Shared, query: &str) -> Response<Full<Bytes>> {
    match wanted(query) {
        Ok(wanted) => json(&Page::new(shared.open.find(&wanted))),
        Err(wrong) => text(StatusCode::BAD_REQUEST, TEXT, wrong + "\n"),
    }
}

fn wanted(query: &str) -> Result<Wanted, String> {
    let mut wanted = Wanted { limit: LIMIT, ..Wanted::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = String::from_utf8(percent::decoded(value).into_owned());
        let value = value.map_err(|_| format!("{name}: not UTF-8"))?;
        match name {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                wanted.limit = limit.ok_or_else(|| format!("limit: expected a number from 1 to {LIMIT_MAX}"))?;
            }
            "after" => {
                wanted.after = value.parse().map_err(|_| "after: expected a connection's number".to_owned())?;
            }
            "principal" => wanted.principal = Some(value),
            "direction" => {
                let all = [Direction::Inbound, Direction::Outbound, Direction::Gateway];
                let one = all.into_iter().find(|direction| direction.as_str() == value);
                let one = one.ok_or_else(|| "direction: expected inbound, outbound or gateway".to_owned())?;
                wanted.direction = Some(one);
            }
            _ => return Err("expected limit, after, principal or direction".to_owned()),
        }
    }
    Ok(wanted)
}

impl Page {
    fn new(found: Found) -> Self {
        let Found { places, matching, total } = found;
        let next = if places.len() < matching { places.last().map(|place| place.number()) } else { None };
        Self { total, matching, next, connections: places.iter().map(Shown::new).collect() }
    }
}

impl Shown {
    fn new(place: &Arc<Place>) -> Self {
        let (entrance, told) = (place.entrance(), place.told());
        Self {
            number: place.number(),
            listener: entrance.listener,
            direction: entrance.direction.as_str(),
            remote: place.remote(),
            state: if told.is_some() { "open" } else { "opening" },
            destination: told.and_then(|told| told.destination),
            principal: told.and_then(|told| told.peer.as_ref()).map(ToString::to_string),
            protocol: told.and_then(|told| told.protocol).map(Protocol::name),
            tls: told.and_then(|told| told.tls).map(Encryption::of),
            age_seconds: place.begun().elapsed().as_secs(),
            requests: place.requests(),
            in_flight: place.in_flight(),
            tunnel: place.onward().map(|(to, received, sent)| Tunnel { to, received, sent }),
            within: told.and_then(|told| told.within),
        }
    }
}

impl Encryption {
    fn of(tls: Tls) -> Self {
        // As OpenSSL and Envoy write it.
        let version = format!("{:?}", tls.version).replace('_', ".");
        Self { version, cipher: format!("{:?}", tls.cipher) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_is_not_understood_is_told_so() {
        let good = wanted("limit=5&after=7&principal=ns%2fdefault%2Fsa/front&direction=gateway").unwrap();
        assert_eq!((good.limit, good.after, good.direction), (5, 7, Some(Direction::Gateway)));
        assert_eq!(good.principal.as_deref(), Some("ns/default/sa/front"));
        assert_eq!(wanted("").unwrap().limit, LIMIT);
        for bad in ["limit=0", "limit=1001", "limit", "after=-1", "direction=up", "principle=x", "principal=%ff"] {
            assert!(wanted(bad).is_err(), "{bad}");
        }
    }
}
