//! The table of the path levels, in the words of Istio's description; nothing here is the product's.

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    None,
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
}

/// The table of the levels, row by row. `None` is 400.
pub(super) fn path(target: &[u8], level: Level) -> Option<Vec<u8>> {
    if target == b"*" {
        return Some(target.to_vec());
    }
    if !target.starts_with(b"/") || !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return None;
    }
    let end = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    let mut path = path.to_vec();
    if level >= Level::DecodeAndMergeSlashes {
        for (escape, byte) in [("%2F", b"/"), ("%2f", b"/"), ("%5C", b"\\"), ("%5c", b"\\")] {
            path = replaced(&path, escape.as_bytes(), byte);
        }
    }
    if level >= Level::Base {
        if replaced(&path, b"%00", b"") != path {
            return None;
        }
        // Once on the text as written, and once on the final one, where Envoy leaves a hole.
        path = decoded(&without_parameters(&path));
        path = resolved(&without_parameters(&path));
    }
    let only_slashes = path.len() > 1 && path.iter().all(|&byte| byte == b'/');
    if level >= Level::MergeSlashes && only_slashes {
        path = b"//".to_vec();
    } else if level >= Level::MergeSlashes {
        while path.windows(2).any(|window| window == b"//") {
            path = replaced(&path, b"//", b"/");
        }
    }
    Some([&path, query].concat())
}

fn replaced(text: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(&first) = rest.first() {
        match rest.strip_prefix(what) {
            Some(after) => {
                out.extend(with);
                rest = after;
            }
            None => {
                out.push(first);
                rest = &rest[1..];
            }
        }
    }
    out
}

/// Cuts `;...` off segments that begin `.;` or `..;`.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let cut = |segment: &[u8]| -> Vec<u8> {
        for dots in [b".".as_slice(), b".."] {
            if segment.strip_prefix(dots).is_some_and(|rest| rest.starts_with(b";")) {
                return dots.to_vec();
            }
        }
        segment.to_vec()
    };
    path.split(|&byte| byte == b'/').map(cut).collect::<Vec<_>>().join(b"/".as_slice())
}

pub(super) fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let escaped = path.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = escaped.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match (path[at], escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                out.push(byte);
                at += 2;
            }
            (b'\\', _) => out.push(b'/'),
            (byte, _) if b"\"<>^`{|}".contains(&byte) => out.extend(format!("%{byte:02X}").bytes()),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    out
}

/// Goes from segment to segment; `..` at the root goes nowhere.
fn resolved(path: &[u8]) -> Vec<u8> {
    let segments: Vec<&[u8]> = path[1..].split(|&byte| byte == b'/').collect();
    let mut stack: Vec<&[u8]> = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        match *segment {
            b"." => {}
            b".." => {
                stack.pop();
            }
            other => {
                stack.push(other);
                continue;
            }
        }
        if is_last {
            stack.push(b"");
        }
    }
    [b"/", stack.join(b"/".as_slice()).as_slice()].concat()
}
