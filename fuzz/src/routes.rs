//! Regular expressions of SMI's routes: refused, or compiled within bounds and anchored.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use meshgate_identity::SpiffeId;
use meshgate_policy::smi::{self, HttpRouteGroup, PathMatch, Routes};
use meshgate_policy::{ObjectName, Policy, PolicySet, RequestView, Settings, SmiMode, Verdict};
use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Value, json};

use super::policies::{facts, request, settings, workload};

/// A pattern on the first line and a text on the second: as a path, and as a header's value.
pub fn smi_regex(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((pattern, text)) = text.split_once('\n') else { return };
    let group = |one: Value| {
        let spec = serde_json::from_value(json!({"matches": [one]})).expect("the shape of a group");
        smi::http_route_group(spec)
    };
    let (by_path, by_header) = (group(json!({"pathRegex": pattern})), group(json!({"headers": {"x-a": pattern}})));
    if !pattern.is_empty() {
        assert_eq!(by_path.is_ok(), by_header.is_ok(), "good for one, good for the other");
    }
    let (Ok(by_path), Ok(by_header)) = (by_path, by_header) else { return };
    let alone = RegexBuilder::new(pattern).unicode(false).build().expect("what is accepted is a pattern by itself");
    if text.starts_with('/') && !text.contains('?') && !pattern.is_empty() {
        let [prefix, full, search] = [PathMatch::Prefix, PathMatch::Full, PathMatch::Search]
            .map(|part| allowed(by_path.clone(), part, &request(text)));
        assert!((!full || prefix) && (!prefix || search), "each lets in what the one before does");
        assert_eq!(search, alone.is_match(text.as_bytes()));
        assert_eq!(prefix, at_start(&alone, text.as_bytes()), "a beginning, and never the middle");
    }
    let Ok(value) = HeaderValue::from_str(text) else { return };
    let mut headers = HeaderMap::new();
    headers.insert("x-a", value);
    if allowed(by_header, PathMatch::Prefix, &RequestView { headers: &headers, ..request("/") }) {
        // Blanks around a value are no part of it (RFC 9110, section 5.5).
        let value = text.trim_matches([' ', '\t']);
        assert!(at_start(&alone, value.as_bytes()), "all of a header, whatever counts for paths");
    }
}

/// A match that begins at the start is the leftmost there is.
fn at_start(pattern: &Regex, text: &[u8]) -> bool {
    pattern.find(text).is_some_and(|found| found.start() == 0)
}

/// Whether a request of the frontend's is let in by the group's routes alone.
fn allowed(group: HttpRouteGroup, part: PathMatch, request: &RequestView<'_>) -> bool {
    let policy = traffic_target(group, part);
    let settings = Settings { smi: SmiMode::TrafficPolicy, ..settings() };
    let frontend: SpiffeId = "spiffe://cluster.local/ns/default/sa/frontend".parse().expect("an ID");
    let set = PolicySet::compile(&[policy], &workload(), &settings);
    set.reduce(&facts(Some(&frontend))).decide(request).verdict == Verdict::Allow
}

/// The frontend may ask the backend for what is in the group.
pub(crate) fn traffic_target(group: HttpRouteGroup, part: PathMatch) -> Arc<Policy> {
    let name = |name: &str| ObjectName { namespace: "default".into(), name: name.into() };
    let spec = json!({
        "destination": {"kind": "ServiceAccount", "name": "backend"},
        "sources": [{"kind": "ServiceAccount", "name": "frontend"}],
        "rules": [{"kind": "HTTPRouteGroup", "name": "routes"}],
    });
    let spec = serde_json::from_value(spec).expect("the shape of a target");
    let target = smi::traffic_target(name("target"), spec).expect("a target");
    let mut routes = Routes::default();
    routes.http.insert(name("routes"), Arc::new(group));
    Arc::new(smi::compose(&target, &routes, part).policy.expect("of its own namespace"))
}
