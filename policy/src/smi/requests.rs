//! Which requests the matches of HTTPRouteGroups mean, for whoever routes by them rather than lets in.
//!
//! The one idea: the conditions are those that a TrafficTarget's rule would have, so that a route means the same whoever
//! names it.

use std::sync::Arc;

use crate::condition::{Condition, RequestTest};
use crate::model::AnyCondition;
use crate::request::RequestView;
use crate::smi::compose::clause;
use crate::smi::pattern::PathMatch;
use crate::smi::route::{HttpMatch, HttpRouteGroup};

type Asked = Arc<Condition<RequestTest>>;

/// Requests that fit one match at least of some HTTPRouteGroups; with no group that is none.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// All conditions of one of them must hold.
    matches: Vec<Box<[Asked]>>,
}

impl Requests {
    /// Those that fit any match of any of these groups. `part` is how much of a path a `pathRegex` must cover.
    pub fn of<'a>(groups: impl IntoIterator<Item = &'a HttpRouteGroup>, part: PathMatch) -> Requests {
        let matches = groups.into_iter().flat_map(|group| &group.matches);
        Requests { matches: matches.filter_map(|one| conditions(one, part)).collect() }
    }

    /// Whether a request is among them.
    pub fn include(&self, request: &RequestView<'_>) -> bool {
        self.matches.iter().any(|conditions| conditions.iter().all(|condition| condition.holds(request)))
    }
}

impl PartialEq for Requests {
    /// As they are written.
    fn eq(&self, other: &Requests) -> bool {
        let is_same = |(one, other): (&Asked, &Asked)| one.field == other.field && one.values == other.values;
        self.matches.len() == other.matches.len()
            && self
                .matches
                .iter()
                .zip(&other.matches)
                .all(|(one, other)| one.len() == other.len() && one.iter().zip(other).all(is_same))
    }
}

impl Eq for Requests {}

/// `None` when nothing can fit the match.
fn conditions(one: &HttpMatch, part: PathMatch) -> Option<Box<[Asked]>> {
    let asks = clause(one, part).into_iter().map(|condition| match condition {
        AnyCondition::Request(condition) => Some(condition),
        // The one that stands for what can never be.
        AnyCondition::Connection(_) => None,
    });
    asks.collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;
    use crate::smi::tests::group;

    #[test]
    fn a_request_is_included_when_one_match_of_one_group_fits_it() {
        let reads = group(json!([{"name": "read", "pathRegex": "/data", "methods": ["GET"]}]));
        let testers = group(json!([
            {"name": "tester", "headers": {"x-user": "alice|bob"}},
            {"name": "connect", "pathRegex": "/c", "methods": ["*"]},
        ]));
        let both = [&*reads, &*testers];
        for (part, method, path, user, expected) in [
            (PathMatch::Prefix, "GET", "/data/1", None, true),
            (PathMatch::Full, "GET", "/data/1", None, false),
            (PathMatch::Search, "GET", "/x/data/1", None, true),
            (PathMatch::Prefix, "POST", "/data/1", None, false),
            (PathMatch::Prefix, "POST", "/x", Some("alice"), true),
            (PathMatch::Prefix, "POST", "/x", Some("alice2"), false),
            (PathMatch::Prefix, "PATCH", "/c", None, true),
            (PathMatch::Prefix, "CONNECT", "/c", None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(user) = user {
                headers.insert("x-user", user.parse().unwrap());
            }
            let request = RequestView {
                method,
                path,
                path_and_query: path,
                host: "",
                scheme: "http",
                headers: &headers,
                token: None,
                remote_ip: [10, 0, 0, 1].into(),
            };
            let requests = Requests::of(both, part);
            assert_eq!(requests.include(&request), expected, "{method} {path} {user:?}");
            assert!(!Requests::default().include(&request), "no group, no request");
            assert_eq!(
                (requests == Requests::of(both, part), requests == Requests::of([&*reads], part)),
                (true, false)
            );
        }
    }
}
