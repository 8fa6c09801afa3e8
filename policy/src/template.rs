//! Path templates: `{*}` is one segment, `{**}` is any number of them.
//!
//! Both stand for whole segments, and `{**}` is the last operator, so a template is a list of pieces from the left
//! and one tail from the right: matching is linear and takes no search.

use std::fmt;

/// A path value with `{*}` or `{**}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    head: Box<[Piece]>,
    /// What follows `{**}`; `None` when there is no `{**}`.
    tail: Option<Box<str>>,
    fills: Fills,
}

/// What a placeholder may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fills {
    /// The characters of a path segment, percent escapes included (Envoy's set). For a match that lets a request in.
    SegmentCharacters,
    /// Anything but the slash. For a match that refuses: with Envoy's set a `[`, which normalization leaves alone,
    /// would be enough to step out of a DENY.
    Anything,
}

/// Why a path value is not a valid template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemplateError {
    NoLeadingSlash,
    Brace,
    OperatorAfterRest,
    Literal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Segment,
}

impl Template {
    /// `Ok(None)` for a value that has no braces and so is no template.
    pub(crate) fn parse(value: &str, fills: Fills) -> Result<Option<Template>, TemplateError> {
        if !value.contains(['{', '}']) {
            return Ok(None);
        }
        let inner = value.strip_prefix('/').ok_or(TemplateError::NoLeadingSlash)?;
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let mut rest_seen = false;
        for segment in inner.split('/') {
            match segment {
                "{*}" | "{**}" if rest_seen => return Err(TemplateError::OperatorAfterRest),
                "{*}" => {}
                "{**}" => rest_seen = true,
                _ if segment.contains(['{', '}']) => return Err(TemplateError::Brace),
                // A lone `*` is legal in a path but would be read as a wildcard.
                _ if segment.is_empty() || segment.contains('*') || !segment.bytes().all(is_segment_character) => {
                    return Err(TemplateError::Literal);
                }
                _ => {}
            }
        }
        let (head, tail) = match value.split_once("{**}") {
            Some((head, tail)) => (head, Some(tail.into())),
            None => (value, None),
        };
        Ok(Some(Template { head: pieces(head), tail, fills }))
    }

    /// Whether the whole path, without its query, fits.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let rest = self.head.iter().try_fold(path, |rest, piece| match piece {
            Piece::Text(text) => rest.strip_prefix(&**text),
            Piece::Segment => {
                let (segment, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (!segment.is_empty() && self.covers(segment)).then_some(rest)
            }
        });
        match (&self.tail, rest) {
            (_, None) => false,
            (None, Some(rest)) => rest.is_empty(),
            (Some(tail), Some(rest)) => rest.strip_suffix(&**tail).is_some_and(|middle| self.covers(middle)),
        }
    }

    /// The plain text that every path it matches begins with, and that which it ends with.
    pub(crate) fn literals(&self) -> (&str, &str) {
        (literal(self.head.first()), self.tail.as_deref().unwrap_or_else(|| literal(self.head.last())))
    }

    fn covers(&self, text: &str) -> bool {
        match self.fills {
            Fills::Anything => true,
            Fills::SegmentCharacters => text.bytes().all(|byte| byte == b'/' || is_segment_character(byte)),
        }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TemplateError::NoLeadingSlash => "a path template starts with /",
            TemplateError::Brace => "{ and } are allowed only as the whole segments {*} and {**}",
            TemplateError::OperatorAfterRest => "{**} is the last operator of a path template",
            TemplateError::Literal => "a segment of a path template is {*}, {**} or plain path characters other than *",
        })
    }
}

fn literal(piece: Option<&Piece>) -> &str {
    match piece {
        Some(Piece::Text(text)) => text,
        Some(Piece::Segment) | None => "",
    }
}

fn pieces(head: &str) -> Box<[Piece]> {
    let mut pieces = Vec::new();
    for (index, text) in head.split("{*}").enumerate() {
        if index > 0 {
            pieces.push(Piece::Segment);
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
    }
    pieces.into()
}

fn is_segment_character(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$')
        || matches!(byte, b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b':' | b'@' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_cover_segments() {
        for (template, path, expected) in [
            ("/a/{**}", "/a/", true),
            ("/a/{**}", "/a/b/c", true),
            ("/a/{**}", "/a", false),
            ("/s/{**}/c", "/s//c", true),
            ("/s/{**}/c", "/s/x/y/c", true),
            ("/s/{**}/c", "/s/c", false),
            ("/a/{*}", "/a/b", true),
            ("/a/{*}", "/a/", false),
            ("/a/{*}", "/a/b/", false),
            ("/a/{*}/", "/a/b/", true),
            ("/a/{*}/c/{*}", "/a/b/c/d", true),
            ("/a/{*}/c/{**}", "/a/b/c/d/e", true),
            ("/{*}/{**}/z", "/a/b/z", true),
            ("/{**}", "/", true),
            ("/a/{*}", "/a/x[y", false),
            ("/a/{**}", "/a/x/[", false),
            ("/a/{*}", "/a/%7B;x=1", true),
        ] {
            let parsed = Template::parse(template, Fills::SegmentCharacters).unwrap().unwrap();
            assert_eq!(parsed.matches(path), expected, "{template} against {path}");
        }
    }

    #[test]
    fn a_refusing_template_covers_any_character() {
        let parsed = Template::parse("/a/{*}/{**}", Fills::Anything).unwrap().unwrap();
        assert!(parsed.matches("/a/x[y/]"));
        assert!(!parsed.matches("/a//x"));
    }

    #[test]
    fn refuses_what_envoy_cannot_load() {
        for (value, expected) in [
            ("a/{*}", TemplateError::NoLeadingSlash),
            ("{**}", TemplateError::NoLeadingSlash),
            ("/a{*}", TemplateError::Brace),
            ("/{a}", TemplateError::Brace),
            ("/a/{", TemplateError::Brace),
            ("/{***}", TemplateError::Brace),
            ("/{**}/{*}", TemplateError::OperatorAfterRest),
            ("/{**}/x/{**}", TemplateError::OperatorAfterRest),
            ("/a*/{*}", TemplateError::Literal),
            ("/a|b/{*}", TemplateError::Literal),
            ("/a//{*}", TemplateError::Literal),
        ] {
            assert_eq!(Template::parse(value, Fills::Anything), Err(expected), "{value}");
        }
        assert_eq!(Template::parse("/a/*", Fills::Anything), Ok(None));
    }
}
