//! `POST /explain`: what this proxy would decide now on a described case.
//!
//! It tells more than most pages (the mesh's policies), and takes input: it answers no [stranger](super::stranger), which is seen to before it is asked.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use meshgate_config::source::Source;
use meshgate_config::{Problem, ServicePort, Snapshot};
use serde_json::json;

use super::{JSON, TEXT, text};
use crate::case::{Case, CaseError};
use crate::judge::Judge;
use crate::judge::calling::{Called, Calling, Live, Settings};
use crate::outbound::Hop;
use crate::worker::Shared;

/// Bytes of a case. The largest request head that a proxy takes by default is 64 KiB.
const MAX_CASE: usize = 256 * 1024;

/// A case that takes longer to arrive is not waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers one request.
pub(super) async fn answer(shared: &Shared, snapshot: &Snapshot, request: Request<Incoming>) -> Response<Full<Bytes>> {
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
    let ejected = |service: &ServicePort, hop: &Hop| shared.ledgers.ejected(&service.host, service.port, hop);
    let live = Live { clusters: &shared.clusters, ejected: &ejected };
    Calling { snapshot, caller: &caller, settings: &settings, live: Some(live) }.judge(case)
}

fn wants_text(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain"))
}

fn complain(status: StatusCode, problem: &Problem) -> Response<Full<Bytes>> {
    let error = json!({ "line": problem.line, "field": problem.field, "message": problem.message });
    text(status, JSON, format!("{}\n", json!({ "error": error })))
}
