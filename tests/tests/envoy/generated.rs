//! Generated policies and calls. Every alphabet is small, so that values and calls meet often.

use serde_json::{Map, Value, json};

use crate::binary;
use crate::call::{Call, What};
use crate::compare::{Set, compare};
use crate::dice::{Dice, seed};
use crate::people::{ELSEWHERE, FRONTEND, NOBODY, OLD, OTHER, PARTNER};
use crate::policies::{Document, NAMES};
use crate::profile::{DEFAULT, Profile};

type Fields = &'static [(&'static str, &'static [&'static str])];

/// Sets of policies for each profile, and calls for each set.
const SETS: usize = 60;
const CALLS: usize = 16;

const PROFILES: [Profile; 3] = [
    DEFAULT,
    Profile { trust_domains: &["cluster.local", "old-td"], normalization: "BASE", ..DEFAULT },
    Profile { trusted_proxies: 1, normalization: "DECODE_AND_MERGE_SLASHES", ..DEFAULT },
];

const PRINCIPALS: &[&str] = &[
    "*",
    "cluster.local/ns/default/sa/frontend",
    "old-td/ns/default/sa/*",
    "*-td/ns/default/sa/frontend",
    "cluster.*/ns/other/sa/frontend",
    "*/sa/other",
    "partner/ns/default/sa/frontend",
    "cluster.local/ns/de*",
];
const NAMESPACES: &[&str] = &["default", "*", "de*t", "o*", "other", "*e*"];
const ACCOUNTS: &[&str] = &["frontend", "default/other", "other/frontend"];
const DOMAINS: &[&str] = &["cluster.local", "old-td", "*-td", "part*", "partner", "*"];
const BLOCKS: &[&str] =
    &["127.0.0.0/24", "127.0.0.2", "192.0.2.7/24", "::/0", "2001:db8::/32", "0.0.0.0/0", "127.0.0.0/8"];
const HOSTS: &[&str] = &["backend", "Backend:*", "*", "*:8080", "other"];
const METHODS: &[&str] = &["GET", "POST", "*", "P*"];
const PATHS: &[&str] =
    &["/", "/a", "/a*", "*/b", "*", "/a/{*}", "/a/{**}", "/{*}/b", "/{**}/b", "/{*}/{**}", "/a//b", "/a.b"];
const PORTS: &[&str] = &["80", "8080"];
const HEADERS: &[&str] = &["1", "2", "*", "1*", "*2"];

const SOURCES: Fields = &[
    ("principals", PRINCIPALS),
    ("notPrincipals", PRINCIPALS),
    ("namespaces", NAMESPACES),
    ("notNamespaces", NAMESPACES),
    ("trustDomains", DOMAINS),
    ("notTrustDomains", DOMAINS),
    ("ipBlocks", BLOCKS),
    ("notIpBlocks", BLOCKS),
    ("remoteIpBlocks", BLOCKS),
    ("notRemoteIpBlocks", BLOCKS),
    ("requestPrincipals", &["*"]),
    ("notRequestPrincipals", &["*", "https://idp/*"]),
];
const ACCOUNT_SOURCES: Fields = &[
    ("serviceAccounts", ACCOUNTS),
    ("notServiceAccounts", ACCOUNTS),
    ("trustDomains", DOMAINS),
    ("remoteIpBlocks", BLOCKS),
];
const OPERATIONS: Fields = &[
    ("hosts", HOSTS),
    ("notHosts", HOSTS),
    ("methods", METHODS),
    ("notMethods", METHODS),
    ("paths", PATHS),
    ("notPaths", PATHS),
    ("ports", PORTS),
    ("notPorts", PORTS),
];
const KEYS: Fields = &[
    ("request.headers[x-a]", HEADERS),
    ("request.headers[X-B]", HEADERS),
    ("request.headers[:path]", &["/a?q", "/*", "*", "*?q"]),
    ("request.headers[:authority]", &["backend", "backend:8080", "*"]),
    ("request.headers[:method]", METHODS),
    ("request.auth.claims[group]", &["*"]),
    ("request.auth.audiences", &["*"]),
    ("source.ip", BLOCKS),
    ("remote.ip", BLOCKS),
    ("destination.ip", BLOCKS),
    ("source.namespace", NAMESPACES),
    ("source.principal", PRINCIPALS),
    ("source.serviceAccount", ACCOUNTS),
    ("source.trustDomain", DOMAINS),
    ("destination.port", PORTS),
    ("connection.sni", &["a.example", "*.example", "A.example", "a.*", "*"]),
    ("experimental.envoy.filters.x[y]", &["*"]),
];

/// One to three of the fields with values.
fn fields(dice: &mut Dice, all: Fields) -> Value {
    let chosen = dice.some(all, 1, 3);
    chosen
        .into_iter()
        .map(|(name, alphabet)| (name.to_owned(), json!(dice.some(alphabet, 1, 2))))
        .collect::<Map<_, _>>()
        .into()
}

fn condition(dice: &mut Dice) -> Value {
    let (key, alphabet) = dice.pick(KEYS);
    let mut condition = json!({"key": key});
    let form = dice.below(3);
    if form != 1 {
        condition["values"] = json!(dice.some(alphabet, 1, 2));
    }
    if form != 0 {
        condition["notValues"] = json!(dice.some(alphabet, 1, 2));
    }
    condition
}

fn rule(dice: &mut Dice) -> Value {
    let mut rule = json!({});
    if dice.often(50) {
        let source = |dice: &mut Dice| {
            let all = if dice.often(80) { SOURCES } else { ACCOUNT_SOURCES };
            json!({"source": fields(dice, all)})
        };
        rule["from"] = (0..1 + dice.below(2)).map(|_| source(dice)).collect();
    }
    if dice.often(50) {
        rule["to"] = (0..1 + dice.below(2)).map(|_| json!({"operation": fields(dice, OPERATIONS)})).collect();
    }
    if dice.often(40) {
        rule["when"] = (0..1 + dice.below(2)).map(|_| condition(dice)).collect();
    }
    rule
}

fn document(dice: &mut Dice, name: &str) -> Document {
    let action = dice.pick(&["ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"]);
    let mut rules: Vec<_> = (0..dice.below(4)).map(|_| rule(dice)).collect();
    if action != "ALLOW" && rules.is_empty() {
        rules.push(rule(dice));
    }
    let mut spec = json!({"action": action, "rules": rules});
    if let Some(app) = dice.pick(&[None, None, Some("backend"), Some("other")]) {
        spec["selector"] = json!({"matchLabels": {"app": app}});
    }
    let namespace = dice.pick(&["default", "default", "default", "istio-system", "other"]).to_owned();
    Document { namespace, dry_run: action != "AUDIT" && dice.often(15), ..Document::new(name, spec) }
}

fn call(dice: &mut Dice) -> Call {
    let who = dice.pick(&[NOBODY, FRONTEND, FRONTEND, OTHER, ELSEWHERE, OLD, PARTNER]);
    let sni = if who == NOBODY { None } else { dice.pick(&[None, Some("a.example"), Some("b.example")]) };
    Call { who, source: dice.pick(&[1, 2]), sni, what: what(dice) }
}

fn what(dice: &mut Dice) -> What {
    let method = dice.pick(&["GET", "GET", "POST", "PUT"]);
    let path =
        dice.pick(&["/", "/a", "/a?q", "/a/b", "/a/", "/a/x/b", "/b", "/x//b", "//a", "/a%2Fb", "/%61", "/a/./b"]);
    let host = dice.pick(&["backend", "BACKEND:8080", "backend:8080", "other"]);
    let mut headers = Vec::new();
    for name in ["x-a", "x-b"] {
        if dice.often(60) {
            headers.push((name, dice.pick(&["1", "2", "12", "21", "x"])));
        }
    }
    if dice.often(40) {
        headers.push((
            "x-forwarded-for",
            dice.pick(&["127.0.0.9", "192.0.2.9", "2001:db8::9", "10.0.0.1, 192.0.2.9", "x", "192.0.2.9:80"]),
        ));
    }
    match dice.below(10) {
        0..3 => What::Tcp,
        3..5 => What::Http2 { method, authority: host.to_owned(), path: path.to_owned(), headers },
        _ => {
            let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            // A body that is not there is no body, also to a POST.
            What::Http1(
                format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{lines}content-length: 0\r\n\r\n").into_bytes(),
            )
        }
    }
}

#[test]
fn generated_policies_mean_what_they_mean_to_envoy() {
    let Some(envoy) = binary::envoy() else { return };
    let mut dice = Dice::new(1);
    let mut sets = Vec::new();
    for profile in PROFILES {
        for _ in 0..SETS {
            let names = &NAMES[..1 + dice.below(NAMES.len())];
            let documents = names.iter().map(|name| document(&mut dice, name)).collect();
            let calls = (0..CALLS).map(|_| call(&mut dice)).collect();
            sets.push(Set { profile, authentication: None, provider: None, documents, calls });
        }
    }
    let verdicts = meshgate_tests::run(compare(&envoy, sets));
    let allowed = verdicts.iter().filter(|each| each.ours.to_string().starts_with("allowed")).count();
    let wrong: Vec<_> = verdicts.iter().filter(|each| !each.agree()).collect();
    println!(
        "seed {}: {} calls under {} sets of policies, {} agreements ({allowed} of them allowed), {} differences",
        seed(),
        verdicts.len(),
        SETS * PROFILES.len(),
        verdicts.len() - wrong.len(),
        wrong.len()
    );
    let first: String = wrong.iter().take(10).map(|each| format!("{each}\n")).collect();
    assert!(wrong.is_empty(), "{first}");
    // Generators that only ever meet refusals would prove little.
    assert!(allowed * 10 > verdicts.len(), "only {allowed} of {} were allowed", verdicts.len());
}
