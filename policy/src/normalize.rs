//! One spelling for every path.
//!
//! A path is normalized once, before policy and routing; what was judged is what is forwarded. The levels are Istio's,
//! and their steps Envoy's, with three differences, all towards refusing:
//!
//! * `;...` is cut off a dot segment also where the segment only shows after decoding or after `\` became `/`
//!   (Envoy 1.40 forwards `/x/%2e%2e;/admin` as `/x/..;/admin`).
//! * A path that decodes to a new escape (`/%4%31` to `/%41`) is refused: a second reader would decode it again.
//! * Bytes above `0x7e` are refused on HTTP/2 too: RFC 3986 has none, and HTTP/1 upstream could not carry them.

use std::borrow::Cow;

use serde::Deserialize;

/// How much is done to a path; each level does what the one before does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    /// Only refuses what no path may hold.
    None,
    /// Decodes letters, digits and `-._~`, turns `\` into `/`, resolves dot segments.
    #[serde(alias = "DEFAULT")]
    Base,
    /// And makes one slash of several.
    #[default]
    MergeSlashes,
    /// And decodes `%2F` and `%5C` first.
    DecodeAndMergeSlashes,
}

/// Why a path is refused; the answer is 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PathError {
    /// It does not start with `/`.
    #[error("the path does not start with /")]
    NotAbsolute,
    /// `#`, which no client should send and which servers read differently.
    #[error("the path has a fragment")]
    Fragment,
    /// A space, a control byte, or one that is not ASCII.
    #[error("the path has the byte 0x{0:02x}")]
    Byte(u8),
    /// `%00`
    #[error("the path has an encoded NUL")]
    EncodedNul,
    /// Decoding it once makes an escape that was not there.
    #[error("the path has an escape inside an escape")]
    NestedEscape,
}

/// Normalizes the path and leaves the query as it is. Borrowed when nothing changes; applied to its own result it
/// changes nothing.
///
/// `*` alone, the target of `OPTIONS *`, is accepted as it is; that the method is OPTIONS is for the caller to check.
///
/// # Errors
///
/// When there is no single reading of the path.
pub fn normalize(path_and_query: &str, level: Level) -> Result<Cow<'_, str>, PathError> {
    if path_and_query == "*" {
        return Ok(Cow::Borrowed(path_and_query));
    }
    if !path_and_query.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let Scan { path_length, plain } = scan(path_and_query, level)?;
    let (path, query) = path_and_query.split_at(path_length);
    if plain {
        return Ok(Cow::Borrowed(path_and_query));
    }
    let normalized = rewrite(path, level)?;
    if normalized == path { Ok(Cow::Borrowed(path_and_query)) } else { Ok(Cow::Owned(normalized + query)) }
}

/// What one look at every byte tells.
struct Scan {
    /// Without the query, in bytes.
    path_length: usize,
    /// Whether it is clear that no step has anything to do.
    plain: bool,
}

fn scan(path_and_query: &str, level: Level) -> Result<Scan, PathError> {
    let (mut path_length, mut plain, mut before) = (None, true, 0);
    for (index, byte) in path_and_query.bytes().enumerate() {
        match byte {
            b'#' => return Err(PathError::Fragment),
            _ if !byte.is_ascii_graphic() => return Err(PathError::Byte(byte)),
            _ if path_length.is_some() => {}
            b'?' => path_length = Some(index),
            b'%' | b'\\' => plain = false,
            b'.' if before == b'/' => plain = false,
            b'/' if before == b'/' && level >= Level::MergeSlashes => plain = false,
            _ if is_encoded(byte) => plain = false,
            _ => {}
        }
        before = byte;
    }
    let path_length = path_length.unwrap_or(path_and_query.len());
    Ok(Scan { path_length, plain: plain || level == Level::None })
}

fn rewrite(path: &str, level: Level) -> Result<String, PathError> {
    let path = if level == Level::DecodeAndMergeSlashes { decode_slashes(path) } else { Cow::Borrowed(path) };
    if path.contains("%00") {
        return Err(PathError::EncodedNul);
    }
    let cut: Vec<_> = path.split('/').map(cut_parameters).collect();
    let decoded = decode(&cut.join("/"))?;
    let resolved = resolve_dots(&decoded);
    Ok(if level >= Level::MergeSlashes { merge_slashes(&resolved) } else { resolved })
}

fn decode_slashes(path: &str) -> Cow<'_, str> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        decoded.push_str(before);
        let (byte, length) = match escape.get(1..3) {
            Some("2F" | "2f") => ('/', 3),
            Some("5C" | "5c") => ('\\', 3),
            _ => ('%', 1),
        };
        decoded.push(byte);
        rest = escape.split_at(length).1;
    }
    Cow::Owned(decoded + rest)
}

/// Cuts `;...` off a segment that is otherwise `.` or `..`.
fn cut_parameters(segment: &str) -> &str {
    match segment.split_once(';') {
        Some((dots @ ("." | ".."), _)) => dots,
        _ => segment,
    }
}

/// Decodes what needs no escape, encodes what may not stand without one, turns `\` into `/`; each once.
fn decode(path: &str) -> Result<String, PathError> {
    let mut decoded = String::with_capacity(path.len());
    // Where a `%` was written that starts no escape; decoding what follows must not make it one.
    let mut stray = None;
    let mut bytes = path.as_bytes();
    while let Some((&byte, mut rest)) = bytes.split_first() {
        match (byte, escape(rest)) {
            (b'%', Some(value)) if is_unreserved(value) => {
                decoded.push(char::from(value));
                rest = rest.get(2..).unwrap_or_default();
            }
            (b'%', None) => {
                stray = Some(decoded.len());
                decoded.push('%');
            }
            (b'\\', _) => decoded.push('/'),
            _ if is_encoded(byte) => decoded.push_str(&format!("%{byte:02X}")),
            _ => decoded.push(char::from(byte)),
        }
        if stray.is_some_and(|at| decoded.as_bytes().get(at + 1..).and_then(escape).is_some()) {
            return Err(PathError::NestedEscape);
        }
        bytes = rest;
    }
    Ok(decoded)
}

/// The byte that two hexadecimal digits at the start stand for.
fn escape(digits: &[u8]) -> Option<u8> {
    let digit =
        |at: usize| digits.get(at).and_then(|&byte| char::from(byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    Some(digit(0)? * 16 + digit(1)?)
}

/// Drops `.`, and `..` with the segment before it. A dot segment at the end leaves its slash.
fn resolve_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match cut_parameters(segment) {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => {
                kept.push(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// Makes one slash of several. A path of slashes only keeps two, as in Envoy.
fn merge_slashes(path: &str) -> String {
    if !path.contains("//") {
        return path.to_owned();
    }
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let end = if path.ends_with('/') { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

/// RFC 3986, section 2.3: decoding these changes nothing a server may tell apart.
fn is_unreserved(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~')
}

/// What is written as an escape when it comes without one.
fn is_encoded(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

#[cfg(test)]
mod tests;
