//! `POST /explain`: what this proxy would decide now on a described case.
//!
//! It tells more than the other pages (the mesh's policies), and takes input. So it answers the loopback interface only,
//! and only under an address or `localhost` for a name, so that no page in somebody's browser gets at it by a name of
//! its own (DNS rebinding).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use meshgate_config::source::Source;
use meshgate_config::{Problem, Snapshot};
use serde_json::json;

use super::{JSON, TEXT, text};
use crate::case::{Case, CaseError};
use crate::http::headers;
use crate::judge::Judge;
use crate::judge::calling::{Called, Calling, Live, Settings};
use crate::worker::Shared;

/// Bytes of a case. The largest request head that a proxy takes by default is 64 KiB.
const MAX_CASE: usize = 256 * 1024;

/// A case that takes longer to arrive is not waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers one request.
pub(super) async fn answer(
    shared: &Shared,
    snapshot: &Snapshot,
    caller: SocketAddr,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    if !is_on_this_machine(caller.ip()) {
        return text(StatusCode::FORBIDDEN, TEXT, "only for callers on this machine\n".into());
    }
    if !headers::host(&request).is_some_and(is_own_name) {
        return text(StatusCode::FORBIDDEN, TEXT, "only under an IP address or localhost\n".into());
    }
    let plain = wants_text(request.headers());
    let body = Limited::new(request.into_body(), MAX_CASE).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("larger than {} KiB, the most that is read", MAX_CASE / 1024);
            return complain(StatusCode::PAYLOAD_TOO_LARGE, &Problem::error("case", message));
        }
        Ok(Err(_)) | Err(_) => {
            return complain(StatusCode::REQUEST_TIMEOUT, &Problem::error("case", "it did not arrive"));
        }
    };
    match explain(shared, snapshot, &body, plain) {
        Ok(answer) => text(StatusCode::OK, if plain { TEXT } else { JSON }, answer),
        Err(problem) => complain(StatusCode::BAD_REQUEST, &problem),
    }
}

fn explain(shared: &Shared, snapshot: &Snapshot, body: &[u8], plain: bool) -> Result<String, Problem> {
    let source = Source::read("case", body)?;
    let [written] = source.documents()[..] else {
        return Err(source.error("expected one case: a JSON object, or one YAML document"));
    };
    let case: Case = written.parse()?;
    if case.workload.is_some() {
        return Err(written.error("workload", "this proxy decides for its own workload only"));
    }
    let wrong = |error: CaseError| written.error(error.field, error.message);
    let bootstrap = &shared.bootstrap;
    let workload = &bootstrap.workload;
    let name = format!("{}/{}", workload.namespace, workload.name);
    let json = |answer: serde_json::Result<String>| {
        answer.map(|json| json + "\n").map_err(|error| source.error(error.to_string()))
    };
    if case.to.is_some() {
        let mut called = call(shared, snapshot, &case).map_err(wrong)?;
        (called.workload, called.generation) = (Some(name), Some(snapshot.generation));
        return if plain { Ok(called.text(false)) } else { json(serde_json::to_string_pretty(&called)) };
    }
    let is_own =
        |name: &meshgate_policy::ObjectName| name.namespace == workload.namespace && name.name == workload.name;
    let judge = Judge {
        snapshot,
        workload: snapshot.workloads.iter().find(|record| is_own(&record.name)),
        level: bootstrap.authorization.path_normalization,
        trusted_proxies: bootstrap.authorization.num_trusted_proxies,
    };
    let mut answer = judge.judge(&case).map_err(wrong)?;
    (answer.workload, answer.generation) = (Some(name), Some(snapshot.generation));
    if plain { Ok(answer.text(false)) } else { json(serde_json::to_string_pretty(&answer)) }
}

/// What would become of a call of this proxy's own workload.
fn call(shared: &Shared, snapshot: &Snapshot, case: &Case) -> Result<Called, CaseError> {
    let (caller, settings) = (shared.bootstrap.workload(), Settings::from(&shared.bootstrap));
    let live = Live { clusters: &shared.clusters, ejected: &|_, _| None };
    Calling { snapshot, caller: &caller, settings: &settings, live: Some(live) }.judge(case)
}

fn is_on_this_machine(caller: IpAddr) -> bool {
    caller.to_canonical().is_loopback()
}

/// An IP address or `localhost`, with or without a port.
fn is_own_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn wants_text(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain"))
}

fn complain(status: StatusCode, problem: &Problem) -> Response<Full<Bytes>> {
    let error = json!({ "line": problem.line, "field": problem.field, "message": problem.message });
    text(status, JSON, format!("{}\n", json!({ "error": error })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_from_elsewhere_are_not_on_this_machine() {
        for (caller, expected) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.2", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(is_on_this_machine(caller.parse().unwrap()), expected, "{caller}");
        }
    }

    #[test]
    fn names_that_anybody_may_own_are_not_ours() {
        for host in ["127.0.0.1", "127.0.0.1:15000", "[::1]:15000", "localhost:15000", "LOCALHOST"] {
            assert!(is_own_name(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:15000", "127.0.0.1.evil.example", "localhost.evil.example", "a b"]
        {
            assert!(!is_own_name(host), "{host}");
        }
    }
}
