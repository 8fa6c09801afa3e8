//! What a provider's answer may change, and how the changes are made.
//!
//! A provider is trusted to decide and to add what it knows about the caller; it is not trusted to redirect a request, to
//! frame it anew or to write a mesh identity into it (see [`headers::is_fixed`]). What it may not change is left out.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use meshgate_policy::normalize::Level;

use super::{Failure, query};
use crate::error::ProxyError;
use crate::http::headers;

/// What a provider says.
#[derive(Debug)]
pub(super) enum Answer {
    /// Yes, with changes.
    Allow(Changes),
    /// No, and what the caller is told.
    Deny(Refusal),
}

/// What the caller gets instead of an answer of the application.
#[derive(Debug)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, none of them of a hop's.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A change to one header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub name: HeaderName,
    /// The new value.
    pub value: HeaderValue,
    /// What becomes of the old one.
    pub how: How,
}

/// What becomes of a header's old values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// They go.
    Replace,
    /// They stay, before the new one.
    Append,
    /// If there are any, they stay, before the new one; otherwise the new one is left out.
    AppendIfPresent,
    /// If there are any, they stay and the new one is left out.
    AddIfAbsent,
    /// If there are any, they go; otherwise the new one is left out.
    ReplaceIfPresent,
}

/// What a yes changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// In the request.
    pub(super) headers: Vec<Change>,
    /// From the request.
    pub(super) remove: Vec<HeaderName>,
    /// In the query: parameters that get this value.
    pub(super) query_set: Vec<(String, String)>,
    /// From the query.
    pub(super) query_remove: Vec<String>,
    /// In the answer to the caller.
    pub(super) downstream: Vec<Change>,
}

impl Answer {
    /// What becomes of the request: the changes to its answer, or the refusal.
    ///
    /// # Errors
    /// The changes would make no valid request.
    pub(super) fn carry_out<B>(
        self,
        request: &mut Request<B>,
        level: Level,
    ) -> Result<Result<Vec<Change>, Refusal>, Failure> {
        match self {
            Answer::Allow(changes) => changes.apply(request, level).map(Ok).map_err(Failure::Broken),
            Answer::Deny(refusal) => Ok(Err(refusal)),
        }
    }
}

impl Refusal {
    /// A status and nothing else.
    pub fn status(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

impl Changes {
    /// Makes the changes to the request; those to its answer come back.
    ///
    /// # Errors
    /// The query would make no valid request. Then nothing is changed.
    pub(super) fn apply<B>(self, request: &mut Request<B>, level: Level) -> Result<Vec<Change>, ProxyError> {
        if !self.query_set.is_empty() || !self.query_remove.is_empty() {
            let changed =
                query::changed(request.uri().query().unwrap_or_default(), &self.query_set, &self.query_remove);
            headers::replace_query(request, &changed, level)?;
        }
        let fields = request.headers_mut();
        for name in self.remove.iter().filter(|name| !headers::is_fixed(name)) {
            fields.remove(name);
        }
        let allowed: Vec<Change> = self.headers.into_iter().filter(|change| !headers::is_fixed(&change.name)).collect();
        change(&allowed, fields);
        Ok(self.downstream.into_iter().filter(|change| !headers::is_of_hop(&change.name)).collect())
    }
}

/// Makes changes, in their order.
pub fn change(changes: &[Change], headers: &mut HeaderMap) {
    for Change { name, value, how } in changes {
        let present = headers.contains_key(name);
        match how {
            How::AddIfAbsent if present => {}
            How::ReplaceIfPresent | How::AppendIfPresent if !present => {}
            How::Append | How::AppendIfPresent => {
                headers.append(name, value.clone());
            }
            How::Replace | How::AddIfAbsent | How::ReplaceIfPresent => {
                headers.insert(name, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &'static str, how: How) -> Change {
        Change { name: HeaderName::from_static(name), value: HeaderValue::from_static(value), how }
    }

    fn request() -> Request<()> {
        Request::get("/a?x=1&%64ebug=2").header("host", "h").header("x-user", "spoofed").body(()).unwrap()
    }

    #[test]
    fn replaces_appends_and_removes() {
        let changes = Changes {
            headers: vec![
                of("x-user", "alice", How::Replace),
                of("x-user", "bob", How::Append),
                of("x-user", "eve", How::AddIfAbsent),
                of("x-new", "1", How::ReplaceIfPresent),
                of("x-group", "1", How::AddIfAbsent),
                of("x-group", "2", How::AppendIfPresent),
                of("x-new", "2", How::AppendIfPresent),
            ],
            query_set: vec![("x".into(), "a b&c#".into())],
            query_remove: vec!["debug".into()],
            ..Changes::default()
        };
        let mut request = request();
        changes.apply(&mut request, Level::MergeSlashes).unwrap();
        let users: Vec<_> = request.headers().get_all("x-user").iter().collect();
        assert_eq!(users, ["alice", "bob"]);
        let groups: Vec<_> = request.headers().get_all("x-group").iter().collect();
        assert_eq!(groups, ["1", "2"]);
        assert_eq!(request.headers().get("x-new"), None);
        assert_eq!(request.uri(), "/a?x=a%20b%26c%23");
    }

    #[test]
    fn leaves_alone_what_is_not_a_providers_to_change() {
        for name in [
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "te",
            "upgrade",
            "x-forwarded-client-cert",
            "x_forwarded_client_cert",
            "x-forwarded-for",
        ] {
            let mut request = request();
            let before = request.headers().clone();
            let changes = Changes {
                headers: vec![of(name, "1", How::Replace)],
                remove: vec![HeaderName::from_static(name)],
                downstream: vec![of("content-length", "9", How::Replace)],
                ..Changes::default()
            };
            assert_eq!(changes.apply(&mut request, Level::MergeSlashes).unwrap(), []);
            assert_eq!(*request.headers(), before, "{name}");
        }
    }
}
