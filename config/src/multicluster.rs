//! Services over several clusters: what the documents say, and what that comes to for each service of this one.
//!
//! The one idea: whatever the dialect (FSM's documents, the MCS API of KEP-1645, the list of a gateway that was asked), it is made
//! one [`Imports`](imports::Imports): service, port, cluster, ways into it. Policies then say of each service which clusters are
//! spread over, and with what share; the ways of those become endpoints of the service.
//!
//! Plain names (`name.namespace`) stay with the local Service unless a GlobalTrafficPolicy says otherwise;
//! `name.namespace.svc.clusterset.local` always spans.

pub(crate) mod compose;
pub(crate) mod discovered;
pub(crate) mod export;
pub(crate) mod exports;
pub(crate) mod import;
pub(crate) mod imports;
pub(crate) mod lint;
pub(crate) mod policy;
pub(crate) mod slices;
pub(crate) mod spread;

use std::collections::BTreeMap;

use meshgate_policy::Invalid;

use crate::clusters::{Balancer, ClusterKey, HashOn};
use crate::resource::Metadata;
use crate::suggest::nearest;

/// Who runs a service of the MCS API, which has no field for it.
pub(crate) const ACCOUNT: &str = "meshgate.io/service-account";

/// How an endpoint is chosen.
const LOAD_BALANCER: &str = "meshgate.io/load-balancer";

/// What a ring of hashes goes by.
const HASH_ON: &str = "meshgate.io/hash-on";

/// Of which clusters' workloads a TrafficTarget is.
pub(crate) const CLUSTERS: &str = "meshgate.io/clusters";

/// Any service account of the namespace.
pub(crate) const ANY_ACCOUNT: &str = "*";

const BALANCERS: [&str; 4] = ["round-robin", "least-request", "peak-ewma", "ring-hash"];

/// The longest name of a header or cookie to hash on.
const HASH_NAME_MAX: usize = 128;

pub(crate) fn annotation(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

pub(crate) fn invalid(path: impl Into<String>, message: impl Into<String>) -> Invalid {
    Invalid { path: path.into(), message: message.into() }
}

/// How endpoints of a service are chosen, by its annotations; without any by its `sessionAffinity`.
pub(crate) fn balancer(metadata: &Metadata, session_affinity: Option<&str>) -> Result<Balancer, Invalid> {
    let annotations = &metadata.annotations;
    let hash_on = annotations.get(HASH_ON).map(|written| hash_on(written)).transpose()?;
    let Some(written) = annotations.get(LOAD_BALANCER) else {
        let by_affinity = (session_affinity == Some("ClientIP")).then_some(HashOn::SourceIp);
        return Ok(hash_on.or(by_affinity).map_or_else(Balancer::default, Balancer::RingHash));
    };
    let balancer = match written.as_str() {
        "round-robin" => Balancer::RoundRobin,
        "least-request" => Balancer::LeastRequest,
        "peak-ewma" => Balancer::PeakEwma,
        "ring-hash" => return Ok(Balancer::RingHash(hash_on.unwrap_or(HashOn::SourceIp))),
        _ => {
            let near = nearest(written, BALANCERS).map(|near| format!(" (did you mean `{near}`?)"));
            let message = format!("`{written}` is not one of {}{}", BALANCERS.join(", "), near.unwrap_or_default());
            return Err(invalid(annotation(LOAD_BALANCER), message));
        }
    };
    match hash_on {
        None => Ok(balancer),
        Some(_) => Err(invalid(annotation(HASH_ON), format!("goes with ring-hash, not with {written}"))),
    }
}

fn hash_on(written: &str) -> Result<HashOn, Invalid> {
    // RFC 9110, 5.6.2: what both headers and cookies are called.
    let is_token = |name: &str| {
        let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !name.is_empty() && name.len() <= HASH_NAME_MAX && name.bytes().all(is_char)
    };
    match written.split_once(':') {
        None if written == "source-ip" => Ok(HashOn::SourceIp),
        Some(("header", name)) if is_token(name) => Ok(HashOn::Header(name.to_ascii_lowercase().into())),
        Some(("cookie", name)) if is_token(name) => Ok(HashOn::Cookie(name.into())),
        _ => {
            let message = format!("`{written}` is not one of source-ip, header:<name>, cookie:<name>");
            Err(invalid(annotation(HASH_ON), message))
        }
    }
}

/// The clusters that a TrafficTarget is restricted to by its annotation; none without it.
pub(crate) fn restricted_to(annotations: &BTreeMap<String, String>) -> Result<Vec<ClusterKey>, Vec<Invalid>> {
    let Some(written) = annotations.get(CLUSTERS) else { return Ok(Vec::new()) };
    let one = |text: &str| {
        let text = text.trim();
        text.parse().map_err(|error| invalid(annotation(CLUSTERS), format!("`{text}`: {error}")))
    };
    written.split(',').map(one).collect::<Result<_, _>>().map_err(|error| vec![error])
}

/// Whether this can be the name of a service account; `*` is not.
pub(crate) fn is_account(name: &str) -> bool {
    crate::reader::names::check_name(name).is_ok()
}

/// Reads the account behind an import or export: a name, `*`, or empty where nobody says.
fn account(path: &str, written: Option<String>) -> Result<String, Invalid> {
    let written = written.unwrap_or_default();
    if written.is_empty() || written == ANY_ACCOUNT || is_account(&written) {
        return Ok(written);
    }
    Err(invalid(path, format!("{written:?} is not the name of a service account, nor `*` for any of its namespace")))
}

#[cfg(test)]
mod tests;
