//! Whether a caller gets a tunnel, and to which service: decided without I/O.
//!
//! What is exported, and to whom, comes first; then the policies that apply to the gateway's own workload. Traffic-policy mode does
//! not close a gateway: whether a TrafficTarget lets the caller in is for the workload's own proxy to say, which sees who calls
//! inside the tunnel, and what is asked for.

use std::sync::Arc;

use http::HeaderMap;
use http::header::FORWARDED;
use meshgate_config::{CLUSTERSET_DOMAIN, ClusterKey, Export, ServicePort, Snapshot};
use meshgate_identity::SpiffeId;
use meshgate_policy::{Decision, ObjectName, Reason, RequestView, Residual, Verdict};

use super::Caller;
use crate::error::{ErrorKind, ProxyError};

/// Who this gateway is.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// Its identity.
    pub id: &'a SpiffeId,
    /// Its cluster.
    pub cluster: &'a ClusterKey,
}

/// What a tunnel leads to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The exported service.
    pub export: Arc<Export>,
    /// The port of it that was asked for.
    pub port: Arc<ServicePort>,
}

/// Decides about CONNECT `authority`; `headers` are the request's.
///
/// # Errors
/// [`ErrorKind::Loop`], [`ErrorKind::BadRequest`], [`ErrorKind::NotExported`] or [`ErrorKind::NotForCaller`].
pub fn plan(
    snapshot: &Snapshot,
    own: Own<'_>,
    caller: &Caller,
    authority: &str,
    headers: &HeaderMap,
) -> Result<Target, ProxyError> {
    if *own.id == caller.id {
        return Err(ProxyError::new(ErrorKind::Loop, "the caller is a gateway of our own identity"));
    }
    if passed(headers, own.cluster) {
        return Err(ProxyError::new(ErrorKind::Loop, format!("a gateway of {} has passed it on already", own.cluster)));
    }
    let Some((service, port)) = exported_name(authority) else {
        let detail = format!("`{authority}` is not name.namespace.svc.{CLUSTERSET_DOMAIN}:port");
        return Err(ProxyError::new(ErrorKind::BadRequest, detail));
    };
    let Some((export, exported)) = snapshot.exports.find(&service, port) else {
        return Err(ProxyError::new(ErrorKind::NotExported, format!("{authority} is not exported")));
    };
    if !may_call(export, caller.cluster.as_deref()) {
        let cluster = caller.cluster.as_deref().unwrap_or("a cluster that nobody vouches for");
        let detail = format!("{} is not exported to {cluster}", export.service);
        return Err(ProxyError::new(ErrorKind::NotForCaller, detail));
    }
    Ok(Target { export: Arc::clone(export), port: Arc::clone(&exported.port) })
}

/// Whether an export is meant for a caller's cluster. One of which nobody knows the cluster is let in only where all are.
pub fn may_call(export: &Export, cluster: Option<&str>) -> bool {
    export.target_clusters.is_empty() || export.target_clusters.iter().any(|target| Some(target.as_str()) == cluster)
}

/// What the policies say about a tunnel.
pub fn decide<'a>(residual: &'a Residual, caller: &Caller, authority: &str, headers: &HeaderMap) -> Decision<'a> {
    let view = RequestView {
        method: "CONNECT",
        path: "",
        path_and_query: "",
        host: authority,
        scheme: "https",
        headers,
        token: None,
        remote_ip: caller.source,
    };
    unasked(residual, |residual| residual.decide(&view))
}

/// What the policies say at a gateway, which asks no provider: of a tunnel it sees no requests, and who calls in plain HTTP is
/// nobody. Where a CUSTOM policy would have to be asked, nobody can say yes.
pub fn unasked<'a>(residual: &'a Residual, decide: impl FnOnce(&'a Residual) -> Decision<'a>) -> Decision<'a> {
    if residual.may_ask() { Decision::refused(Reason::CustomFailed, None) } else { decide(residual) }
}

/// Whether a decision lets in.
pub fn lets_in(decision: &Decision<'_>) -> bool {
    decision.verdict == Verdict::Allow
}

/// `name.namespace.svc.clusterset.local:port`, and nothing that only resembles it: there is one way to say what one wants.
fn exported_name(authority: &str) -> Option<(ObjectName, u16)> {
    let (host, port) = authority.split_once(':')?;
    let (name, rest) = host.split_once('.')?;
    let (namespace, suffix) = rest.split_once('.')?;
    let is_label = |label: &str| {
        let byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(byte) && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_port = (1..=5).contains(&port.len()) && !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit());
    if suffix.strip_prefix("svc.") != Some(CLUSTERSET_DOMAIN) || !is_label(name) || !is_label(namespace) || !is_port {
        return None;
    }
    Some((ObjectName { namespace: namespace.to_owned(), name: name.to_owned() }, port.parse().ok()?))
}

/// How an exported port is asked for.
pub fn authority(service: &ObjectName, port: u16) -> String {
    format!("{}.{}.svc.{CLUSTERSET_DOMAIN}:{port}", service.name, service.namespace)
}

/// Whether a gateway of this cluster stands among those that passed a request on (RFC 7239, `by`).
fn passed(headers: &HeaderMap, own: &ClusterKey) -> bool {
    let lines = headers.get_all(FORWARDED).iter().filter_map(|line| line.to_str().ok());
    let mut parameters = lines.flat_map(|line| line.split([',', ';']));
    parameters.any(|parameter| match parameter.split_once('=') {
        Some((name, value)) => name.trim().eq_ignore_ascii_case("by") && value.trim().trim_matches('"') == own.as_str(),
        None => false,
    })
}

#[cfg(test)]
mod tests;
