//! HTTPRouteGroup and TCPRoute: what may be asked for.

use std::collections::BTreeSet;

use http::{HeaderName, Method};

use crate::istio::report::Report;
use crate::model::Invalid;
use crate::smi::pattern::{PathMatch, Pattern};
use crate::smi::spec::{HeadersSpec, HttpMatchSpec, HttpRouteGroupSpec, TcpRouteSpec};

/// An HTTPRouteGroup, checked.
#[derive(Clone, Debug)]
pub struct HttpRouteGroup {
    pub(crate) matches: Box<[HttpMatch]>,
}

/// One of its matches.
#[derive(Clone, Debug)]
pub(crate) struct HttpMatch {
    pub(crate) name: Option<String>,
    /// As written: it is compiled when it is known how much of a path it must cover.
    pub(crate) path: Option<String>,
    /// As written; empty means any.
    pub(crate) methods: Vec<String>,
    pub(crate) headers: Vec<HeaderMatch>,
}

/// One header and the pattern that all of its value must match.
#[derive(Clone, Debug)]
pub(crate) struct HeaderMatch {
    pub(crate) name: HeaderName,
    pub(crate) written: String,
    pub(crate) pattern: Pattern,
}

/// A TCPRoute, checked.
#[derive(Clone, Debug)]
pub struct TcpRoute {
    /// Empty means every port.
    pub(crate) ports: Box<[u16]>,
}

/// Gives an HTTPRouteGroup its meaning.
///
/// # Errors
/// Everything that is wrong with it: no match, two matches of one name, a regular expression that is none or too large, a
/// method or header name that cannot be one.
pub fn http_route_group(spec: HttpRouteGroupSpec) -> Result<HttpRouteGroup, Vec<Invalid>> {
    let mut report = Report::default();
    if spec.matches.is_empty() {
        report.add("spec.matches", "must not be empty");
    }
    let mut names = BTreeSet::new();
    let mut matches = Vec::with_capacity(spec.matches.len());
    for (index, written) in spec.matches.into_iter().enumerate() {
        let path = format!("spec.matches[{index}]");
        if let Some(name) = &written.name
            && !names.insert(name.clone())
        {
            report.add(format!("{path}.name"), format!("{name:?} is already the name of another match"));
        }
        matches.push(http_match(&path, written, &mut report));
    }
    report.finish(HttpRouteGroup { matches: matches.into() })
}

fn http_match(at: &str, written: HttpMatchSpec, report: &mut Report) -> HttpMatch {
    let HttpMatchSpec { name, path_regex, methods, headers } = written;
    // Go cannot tell an empty text from none.
    let path = path_regex.filter(|text| !text.is_empty());
    if let Some(text) = &path
        && let Err(message) = Pattern::parse(text, PathMatch::Full)
    {
        report.add(format!("{at}.pathRegex"), message);
    }
    if methods.as_ref().is_some_and(Vec::is_empty) {
        report.add(format!("{at}.methods"), "must not be empty; leave it out for any method");
    }
    let methods = methods.unwrap_or_default();
    for (index, method) in methods.iter().enumerate() {
        if method != "*" && Method::from_bytes(method.as_bytes()).is_err() {
            report.add(format!("{at}.methods[{index}]"), format!("{method:?} is not a method"));
        }
    }
    let headers = headers.map(pairs).unwrap_or_default();
    let headers = headers.into_iter().filter_map(|(name, text)| header(at, &name, text, report)).collect();
    HttpMatch { name, path, methods, headers }
}

fn pairs(headers: HeadersSpec) -> Vec<(String, String)> {
    match headers {
        HeadersSpec::Map(map) => map.into_iter().collect(),
        HeadersSpec::List(list) => list.into_iter().flatten().collect(),
    }
}

fn header(at: &str, name: &str, written: String, report: &mut Report) -> Option<HeaderMatch> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is not a header's name"));
    let pattern = Pattern::parse(&written, PathMatch::Full);
    match (parsed, pattern) {
        (Ok(name), Ok(pattern)) => Some(HeaderMatch { name, written, pattern }),
        (parsed, pattern) => {
            for message in [parsed.err(), pattern.err()].into_iter().flatten() {
                report.add(format!("{at}.headers[{name}]"), message);
            }
            None
        }
    }
}

/// Gives a TCPRoute its meaning.
///
/// # Errors
/// A list of ports that is empty, or a port that is none.
pub fn tcp_route(spec: TcpRouteSpec) -> Result<TcpRoute, Vec<Invalid>> {
    let mut report = Report::default();
    let ports = spec.matches.and_then(|matches| matches.ports);
    if ports.as_ref().is_some_and(Vec::is_empty) {
        report.add("spec.matches.ports", "must not be empty; leave it out for every port");
    }
    let ports = ports.unwrap_or_default();
    for (index, _) in ports.iter().enumerate().filter(|(_, port)| **port == 0) {
        report.add(format!("spec.matches.ports[{index}]"), "is not a port, 1 to 65535");
    }
    report.finish(TcpRoute { ports: ports.into() })
}
