//! Where in a request a token may stand, and how it is found there and taken away.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header};

use crate::percent;

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind `prefix` in a header, wherever in it the prefix stands.
    Header {
        name: HeaderName,
        prefix: Box<str>,
    },
    /// A query parameter.
    Parameter(Box<str>),
    Cookie(Box<str>),
}

impl Place {
    /// Where a token is looked for if a rule says nothing about it (RFC 6750, sections 2.1 and 2.3).
    pub(crate) fn defaults() -> Vec<Place> {
        let header = Place::Header { name: header::AUTHORIZATION, prefix: "Bearer ".into() };
        vec![header, Place::Parameter("access_token".into())]
    }

    /// Every token at this place.
    pub(super) fn tokens<'a>(
        &self,
        headers: &'a HeaderMap,
        query: Option<&'a str>,
        mut each: impl FnMut(Cow<'a, [u8]>),
    ) {
        match self {
            Place::Header { name, prefix } => {
                if let Some(token) = in_header(headers, name, prefix) {
                    each(token);
                }
            }
            Place::Parameter(name) => {
                for pair in query.into_iter().flat_map(|query| query.split('&')) {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    if *percent::decoded(key) == *name.as_bytes() {
                        each(percent::decoded(value));
                    }
                }
            }
            Place::Cookie(name) => {
                let lines = headers.get_all(header::COOKIE).iter();
                for pair in lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';')) {
                    let mut parts = pair.trim_ascii().splitn(2, |byte| *byte == b'=');
                    if parts.next() == Some(name.as_bytes()) {
                        each(Cow::Borrowed(unquoted(parts.next().unwrap_or_default())));
                    }
                }
            }
        }
    }
}

/// What is left of a query without these parameters; `None` when nothing is.
pub(super) fn without_parameters(query: &str, names: &[Box<str>]) -> Option<String> {
    let stays = |pair: &&str| {
        let key = percent::decoded(pair.split('=').next().unwrap_or_default());
        !names.iter().any(|name| *name.as_bytes() == *key)
    };
    let left: Vec<&str> = query.split('&').filter(stays).collect();
    (!left.is_empty()).then(|| left.join("&"))
}

/// Lines of one header are one value with commas in it, and so a token in each of two lines is none that can be good.
fn in_header<'a>(headers: &'a HeaderMap, name: &HeaderName, prefix: &str) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
    let first = lines.next()?;
    let mut value = Cow::Borrowed(first);
    for line in lines {
        let joined = value.to_mut();
        joined.push(b',');
        joined.extend_from_slice(line);
    }
    let start = find(&value, prefix.as_bytes())? + prefix.len();
    Some(match value {
        Cow::Borrowed(value) => Cow::Borrowed(value.get(start..)?.trim_ascii()),
        Cow::Owned(value) => Cow::Owned(value.get(start..)?.trim_ascii().to_vec()),
    })
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() { Some(0) } else { text.windows(wanted.len()).position(|window| window == wanted) }
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}
