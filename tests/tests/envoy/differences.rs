//! Where we mean to differ from Envoy: what each side does, and why we do otherwise.
//!
//! Both sides are asserted. When Envoy changes its mind, or we do, this list is what has to change.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::binary;
use crate::call::{Call, Outcome, What};
use crate::compare::{Set, compare};
use crate::people::{DEEP, FRONTEND, LONG, NOBODY, TWO_URIS};
use crate::policies::Document;
use crate::profile::{DEFAULT, Profile};

/// One call that the two answer differently.
struct Difference {
    why: &'static str,
    profile: Profile,
    policy: Value,
    call: Call,
    envoy: &'static str,
    ours: &'static str,
}

impl Difference {
    fn new(why: &'static str, policy: Value, call: Call, envoy: &'static str, ours: &'static str) -> Self {
        Self { why, profile: DEFAULT, policy, call, envoy, ours }
    }

    fn with(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }
}

fn everything() -> Value {
    json!({"rules": [{}]})
}

fn when(action: &str, key: &str, form: &str, values: &[&str]) -> Value {
    json!({"action": action, "rules": [{"when": [{"key": key, form: values}]}]})
}

fn source(field: &str, values: &[&str]) -> Value {
    json!({"rules": [{"from": [{"source": {field: values}}]}]})
}

fn operation(action: &str, field: &str, values: &[&str]) -> Value {
    json!({"action": action, "rules": [{"to": [{"operation": {field: values}}]}]})
}

fn raw(lines: &str) -> Call {
    Call::http1(NOBODY, lines)
}

fn get(path: &str) -> Call {
    Call::get(NOBODY, path)
}

fn headers(lines: &str) -> Call {
    raw(&format!("GET / HTTP/1.1\r\nhost: h\r\n{lines}"))
}

/// What a policy says about a request that both read alike.
fn of_policies() -> Vec<Difference> {
    const X_A: &str = "request.headers[x-a]";
    let two_lines = || headers("x-a: user\r\nx-a: admin");
    vec![
        Difference::new(
            "a second line must not ride along with one that an ALLOW rule names",
            when("ALLOW", X_A, "values", &["user"]),
            two_lines(),
            "allowed /",
            "403",
        ),
        Difference::new(
            "nor end a DENY that lets only one value through",
            when("DENY", X_A, "notValues", &["admin"]),
            two_lines(),
            "allowed /",
            "403",
        ),
        Difference::new(
            "a namespace inside an identity of another shape is nobody's namespace",
            source("namespaces", &["default"]),
            Call::get(DEEP, "/"),
            "allowed /",
            "403",
        ),
        Difference::new(
            "the same, turned round: such an identity has no namespace",
            source("notNamespaces", &["default"]),
            Call::get(DEEP, "/"),
            "403",
            "allowed /",
        ),
        Difference::new(
            "an identity with something behind its service account is not that account",
            source("serviceAccounts", &["default/frontend"]),
            Call::get(LONG, "/"),
            "allowed /",
            "403",
        ),
        Difference::new(
            "the same, turned round",
            source("notServiceAccounts", &["default/frontend"]),
            Call::get(LONG, "/"),
            "403",
            "allowed /",
        ),
    ]
}

/// Where a policy's values or the address it is asked for are read otherwise.
fn of_values() -> Vec<Difference> {
    let sidecar = Profile { believes_forwarded_for: true, ..DEFAULT };
    vec![
        Difference::new(
            "a block of v4-mapped addresses is the IPv4 block it maps: as IPv6 it could never match",
            json!({"action": "DENY", "rules": [{"from": [{"source": {"ipBlocks": ["::ffff:127.0.0.0/104"]}}]}]}),
            get("/"),
            "allowed /",
            "403",
        ),
        Difference::new(
            "a character that a placeholder does not cover must not lead out of a DENY",
            operation("DENY", "paths", &["/a/{*}"]),
            get("/a/["),
            "allowed /a/[",
            "403",
        ),
        Difference::new(
            "nobody is believed who claims another's address, unless the operator says how many proxies may",
            when("ALLOW", "remote.ip", "values", &["192.0.2.1"]),
            headers("x-forwarded-for: 192.0.2.1"),
            "allowed /",
            "403",
        )
        .with(sidecar),
        Difference::new(
            "x-forwarded-client-cert is taken away and not written: policies have the identity itself",
            when("ALLOW", "request.headers[x-forwarded-client-cert]", "values", &["*"]),
            Call::get(FRONTEND, "/"),
            "allowed /",
            "403",
        ),
    ]
}

/// Who is let in, and what host is meant.
fn of_callers() -> Vec<Difference> {
    let http2 = |authority: &str, headers: &[(&'static str, &'static str)]| Call {
        who: FRONTEND,
        source: 1,
        sni: None,
        what: What::Http2 {
            method: "GET",
            authority: authority.to_owned(),
            path: "/".to_owned(),
            headers: headers.to_vec(),
        },
    };
    vec![
        Difference::new(
            "SPIFFE says one URI SAN; which of two is meant nobody can know",
            source("principals", &["cluster.local/ns/default/sa/other"]),
            Call::get(TWO_URIS, "/"),
            "allowed /",
            "closed",
        ),
        Difference::new(
            "two Host lines are 400 (RFC 9112): joined they are the name of nothing, and a DENY on either misses",
            operation("DENY", "hosts", &["b"]),
            raw("GET / HTTP/1.1\r\nhost: a\r\nhost: b"),
            "allowed /",
            "400",
        ),
        Difference::new(
            "host beside another :authority is 400: it would be somebody else's name to whoever reads it",
            operation("DENY", "hosts", &["b"]),
            http2("a", &[("host", "b")]),
            "allowed /",
            "400",
        ),
    ]
}

/// Which messages are requests at all, when every request is allowed.
fn of_framing() -> Vec<Difference> {
    let everything_to = |why, call, envoy, ours| Difference::new(why, everything(), call, envoy, ours);
    vec![
        everything_to(
            "userinfo is no part of a target",
            raw("GET http://user@h/ HTTP/1.1\r\nhost: h"),
            "allowed /",
            "400",
        ),
        everything_to("nor of a host", raw("GET / HTTP/1.1\r\nhost: user@a"), "allowed /", "400"),
        everything_to("no path behind an authority", raw("GET http://h?x HTTP/1.1\r\nhost: h"), "404", "400"),
        everything_to("OPTIONS * is judged like any request", raw("OPTIONS * HTTP/1.1\r\nhost: h"), "404", "allowed *"),
        everything_to(
            "which scheme an absolute target says changes nothing",
            raw("GET https://h/ HTTP/1.1\r\nhost: h"),
            "403, but by no policy",
            "allowed /",
        ),
        everything_to(
            "methods are the application's affair: unknown ones are judged and forwarded",
            raw("FOO / HTTP/1.1\r\nhost: h"),
            "400",
            "allowed /",
        ),
        everything_to("also in small letters", raw("get / HTTP/1.1\r\nhost: h"), "400", "allowed /"),
        everything_to("HTTP/1.0 is served", raw("GET / HTTP/1.0\r\nhost: h"), "426", "allowed /"),
        everything_to(
            "two spaces in a request line are no separator",
            raw("GET  / HTTP/1.1\r\nhost: h"),
            "allowed /",
            "400",
        ),
        everything_to("a tab is none either", raw("GET /\t HTTP/1.1\r\nhost: h"), "allowed /", "400"),
        everything_to("a folded header line is obsolete (RFC 9112, 5.2)", headers("x-a: 1\r\n 2"), "allowed /", "400"),
        everything_to(
            "a coding that cannot be read is a request that cannot be read",
            headers("transfer-encoding: gzip, chunked"),
            "501",
            "400",
        ),
    ]
}

/// A kind of path that the two read differently.
pub(crate) struct PathDifference {
    pub(crate) why: &'static str,
    /// Whether a target, at a level of normalization, is of this kind. For what generators make, which one has to recognise.
    pub(crate) is: fn(&str, &str) -> bool,
    /// Whether it is what we answer to such a path.
    pub(crate) ours: fn(&Outcome) -> bool,
    /// Some of the kind: the path, what Envoy does and what we do when every path is allowed.
    examples: &'static [(&'static str, &'static str, &'static str)],
}

fn bad_request(outcome: &Outcome) -> bool {
    *outcome == Outcome::Status(400)
}

/// All there are. The examples are for the level that is the default.
pub(crate) const PATHS: [PathDifference; 4] = [
    PathDifference {
        why: "bytes that no target may have (RFC 3986) are refused, not escaped",
        is: |_, target| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            path.contains(['<', '>', '`', '\t']) || query.contains(['<', '>', '"', '\t'])
        },
        ours: bad_request,
        examples: &[
            ("/<", "allowed /%3C", "400"),
            ("/>", "allowed /%3E", "400"),
            ("/`", "allowed /%60", "400"),
            ("/?<", "allowed /?<", "400"),
            ("/?>", "allowed /?>", "400"),
            ("/?\"", "allowed /?\"", "400"),
        ],
    },
    PathDifference {
        why: "decoding must not make an escape that a second reader would decode again",
        is: |_, target| nested(target),
        ours: bad_request,
        examples: &[("/%4%31", "allowed /%2541", "400"), ("/%%34%31", "allowed /%2541", "400")],
    },
    PathDifference {
        why: "an encoded NUL is refused, also where it would be cut off with what stands behind a dot segment",
        is: |_, target| path(target).split('/').any(|segment| dots(segment) && segment.contains("%00")),
        ours: bad_request,
        examples: &[("/..;%00/a", "allowed /a", "400"), ("/x/.;%00", "allowed /x/", "400")],
    },
    PathDifference {
        why: "a dot segment that shows only after decoding loses what stands behind its `;`, and is resolved",
        is: |level, target| {
            let early = path(target).split('/').filter(|segment| dots(segment)).count();
            let mut late = path(target).replace("%2e", ".").replace("%2E", ".").replace('\\', "/");
            if level.starts_with("DECODE") {
                late = ["%2f", "%2F", "%5c", "%5C"].iter().fold(late, |late, slash| late.replace(slash, "/"));
            }
            late.split('/').filter(|segment| dots(segment)).count() > early
        },
        ours: |outcome| match outcome {
            Outcome::Allowed(path) => !path.split('/').any(dots),
            outcome => *outcome == Outcome::Denied,
        },
        examples: &[
            ("/x/%2e%2e;/admin", "allowed /x/..;/admin", "allowed /admin"),
            ("/x\\..;/admin", "allowed /x/..;/admin", "allowed /admin"),
            ("/x\\.;y", "allowed /x/.;y", "allowed /x/"),
        ],
    },
];

fn path(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// `.;` and `..;`, and what may follow.
fn dots(segment: &str) -> bool {
    segment.starts_with(".;") || segment.starts_with("..;")
}

/// A `%` that begins no escape, and an escape within the two places behind it.
fn nested(target: &str) -> bool {
    let bytes = path(target).as_bytes();
    let escape = |at: usize| {
        let digits = bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        bytes.get(at) == Some(&b'%') && digits
    };
    (0..bytes.len()).any(|at| bytes[at] == b'%' && !escape(at) && (escape(at + 1) || escape(at + 2)))
}

fn of_paths() -> Vec<Difference> {
    let difference = |why, (path, envoy, ours): &(&str, &'static str, &'static str)| {
        Difference::new(why, everything(), get(path), envoy, ours)
    };
    let all = PATHS.iter().flat_map(|each| each.examples.iter().map(move |example| difference(each.why, example)));
    all.collect()
}

#[test]
fn where_we_mean_to_differ_both_do_as_written() {
    let Some(envoy) = binary::envoy() else { return };
    let differences: Vec<_> =
        [of_policies(), of_values(), of_callers(), of_framing(), of_paths()].into_iter().flatten().collect();
    let set = |each: &Difference| Set {
        profile: each.profile,
        authentication: None,
        provider: None,
        documents: vec![Document::new("p0", each.policy.clone())],
        calls: vec![each.call.clone()],
    };
    let verdicts = meshgate_tests::run(compare(&envoy, differences.iter().map(set).collect()));
    let mut wrong = String::new();
    for (verdicts, Difference { why, envoy, ours, .. }) in verdicts.iter().zip(&differences) {
        if verdicts.envoy.to_string() != *envoy || verdicts.ours.to_string() != *ours {
            writeln!(wrong, "{why}: {envoy} and {ours} expected of {verdicts}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{} intended differences", differences.len());
}
