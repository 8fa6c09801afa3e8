//! How a request has to be read, and what the policies say of it. Written from the description of Istio's semantics,
//! step by step and as plainly as it stands there; nothing here is the product's.

use super::calls::Call;
use super::exchange::Received;
use super::levels::decoded;
pub(super) use super::levels::{Level, path};

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::None => "NONE",
            Level::Base => "BASE",
            Level::MergeSlashes => "MERGE_SLASHES",
            Level::DecodeAndMergeSlashes => "DECODE_AND_MERGE_SLASHES",
        }
    }
}

/// What the application must receive, if it receives anything; `None` for what has no one reading.
pub(super) fn of(call: &Call, level: Level) -> Option<Received> {
    // In HTTP/2 `:authority` wins; in HTTP/1.1 two lines are two readings.
    let [host, others @ ..] = call.hosts.as_slice() else { return None };
    if !call.http2 && !others.is_empty() {
        return None;
    }
    let (mut host, mut target) = (host.clone(), call.target.clone());
    // A fragment is 400; in HTTP/2 it is cut off, because the library below the product does so before anybody sees it.
    if call.http2 {
        target = without_fragment(&target);
    } else if target.contains(&b'#') {
        return None;
    }
    if let Some((scheme, authority, rest)) = absolute(&target).filter(|_| !call.http2) {
        if ![b"http".as_slice(), b"https"].contains(&&*scheme) {
            return None;
        }
        (host, target) = (authority, rest);
    }
    if host.iter().any(|&byte| !byte.is_ascii_graphic() || b"/@?#\\\"<>^`{|}".contains(&byte)) {
        return None;
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !call.method.iter().copied().all(is_token) || (target == b"*" && call.method != b"OPTIONS") {
        return None;
    }
    let lines = |name: &str| -> Vec<Vec<u8>> {
        let lines = call.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| trimmed(value)).collect()
    };
    let mut cookies = lines("cookie");
    if call.http2 && cookies.len() > 1 {
        cookies.retain(|crumb| !crumb.is_empty());
        cookies = vec![cookies.join(b"; ".as_slice())];
    }
    let target = path(&target, level)?;
    let method = call.method.clone();
    Some(Received { method, target, host, roles: lines("x-role"), groups: lines("x-group"), cookies })
}

fn without_fragment(target: &[u8]) -> Vec<u8> {
    let cut = target.split(|&byte| byte == b'#').next().unwrap_or_default();
    if cut.is_empty() && !target.is_empty() { b"/".to_vec() } else { cut.to_vec() }
}

/// An absolute target's scheme in small letters, its authority, and its path with the query.
fn absolute(target: &[u8]) -> Option<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let at = target.windows(3).position(|window| window == b"://")?;
    if !target[..at].iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let rest = &target[at + 3..];
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = if path.starts_with(b"/") { path.to_vec() } else { [b"/", path].concat() };
    Some((target[..at].to_ascii_lowercase(), authority.to_vec(), path))
}

/// Whether a policy set of the test lets it in.
pub(super) fn allowed(request: &Received) -> bool {
    let target = &request.target;
    let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    let host = request.host.to_ascii_lowercase();
    let segments: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    let denied = path.starts_with(b"/admin")
        || matches!(segments.as_slice(), [b"", b"t", middle, b"x"] if !middle.is_empty())
        || host == b"secret.example"
        || host.starts_with(b"secret.example:")
        || request.method == b"DELETE"
        || request.roles.iter().any(|line| line == b"admin")
        || target.ends_with(b"token=1")
        || request.cookies.iter().any(|line| line == b"evil=1" || line.ends_with(b"; evil=1"));
    let let_in = !path.starts_with(b"/private") && request.groups.iter().all(|line| line != b"guest");
    !denied && let_in
}

/// What may be answered with 400 although it has one reading: the caller sent what no sound client sends.
pub(super) fn may_be_refused(call: &Call, level: Level) -> bool {
    let target = &call.target;
    let odd = |byte: &u8| b"<>\"`{}|^".contains(byte);
    let lines = call.fields.len() + call.hosts.len() + 1;
    let Some(seen) = of(call, level) else { return true };
    // A second reader would read it another way.
    let nested = level >= Level::Base && makes_escapes(target);
    // The first bytes of a connection tell HTTP/1 by its methods.
    let method = !call.http2 && !call.method.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
    // Without an authority, or with a query right behind it.
    let short = absolute(target).is_some_and(|(_, authority, _)| {
        let after = target.windows(3).position(|window| window == b"://").map_or(0, |at| at + 3 + authority.len());
        !call.http2 && (authority.is_empty() || target.get(after) == Some(&b'?'))
    });
    let two_names = call.http2 && call.hosts.iter().any(|host| *host != seen.host);
    short
        || two_names
        || target.starts_with(b"#")
        || nested
        || method
        || target.iter().any(odd)
        || lines > 90
        || seen.host.contains(&b'%')
        || (call.http2 && seen.host.is_empty())
}

/// Whether a `%` that starts no escape may come to start one.
fn makes_escapes(target: &[u8]) -> bool {
    let starts_escape = |at: usize| {
        let digits = target.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let stray = (0..target.len()).any(|at| target[at] == b'%' && !starts_escape(at));
    stray && decoded(target) != target
}

fn trimmed(value: &[u8]) -> Vec<u8> {
    value.trim_ascii().to_vec()
}
