//! Policies made of bytes, and calls to try them with.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use meshgate_identity::SpiffeId;
use meshgate_policy::explain::{Outcome, RuleName};
use meshgate_policy::smi::{self, PathMatch};
use meshgate_policy::{
    CatchAllDeny, ConnectionFacts, Decision, Explanation, ObjectName, Policy, PolicySet, Protocol, Provider,
    ProviderKind, Providers, Reason, RemoteIp, RequestView, RuleRef, Settings, SmiMode, Token, Verdict, Workload,
    istio,
};
use serde_json::{Map, Value, json};

/// No request's headers.
static NO_HEADERS: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);

pub(crate) fn settings() -> Settings {
    Settings {
        root_namespace: "istio-system".into(),
        trust_domain: "cluster.local".parse().expect("a trust domain"),
        trust_domain_aliases: vec!["old-td".parse().expect("a trust domain")],
        catch_all_deny: CatchAllDeny::Istio,
        smi: Default::default(),
        smi_path_match: Default::default(),
        providers: Default::default(),
    }
}

pub(crate) fn workload() -> Workload {
    let labels = BTreeMap::from([("app".to_owned(), "backend".to_owned())]);
    Workload { namespace: "default".into(), service_account: "backend".into(), labels }
}

/// A policy of the workload's namespace; `None` for one that is not valid.
pub(crate) fn policy(name: &str, spec: Value) -> Option<Arc<Policy>> {
    let spec = serde_json::from_value(spec).ok()?;
    let name = ObjectName { namespace: "default".into(), name: name.into() };
    istio::authorization_policy(name, &BTreeMap::new(), spec).ok().map(Arc::new)
}

pub(crate) fn facts(peer: Option<&SpiffeId>) -> ConnectionFacts<'_> {
    ConnectionFacts {
        peer,
        source_ip: [10, 0, 0, 1].into(),
        remote_ip: RemoteIp::PerRequest,
        destination: ([10, 0, 0, 2], 8080).into(),
        service_port: None,
        opaque_port: false,
        sni: None,
        protocol: Protocol::Http,
    }
}

pub(crate) fn request(target: &str) -> RequestView<'_> {
    RequestView {
        method: "GET",
        path: target.split('?').next().unwrap_or_default(),
        path_and_query: target,
        host: "backend",
        scheme: "http",
        headers: &NO_HEADERS,
        token: None,
        remote_ip: [10, 0, 0, 1].into(),
    }
}

/// Bytes as choices. When they end, every choice is the first.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn below(&mut self, end: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Now and then a text that is in no list.
    fn text(&mut self, from: &[&str]) -> String {
        match self.below(from.len() + 1) {
            index if index < from.len() => from[index].to_owned(),
            _ => {
                let length = self.below(8).min(self.0.len());
                let (text, rest) = self.0.split_at(length);
                self.0 = rest;
                String::from_utf8_lossy(text).into_owned()
            }
        }
    }
}

/// A name, its `not` form, and values.
type Fields = &'static [(&'static str, &'static str, &'static [&'static str])];

const PRINCIPALS: &[&str] =
    &["*", "cluster.local/ns/default/sa/frontend", "old-td/ns/*", "*/sa/other", "*-td/ns/default/sa/frontend"];
const SOURCES: Fields = &[
    ("principals", "notPrincipals", PRINCIPALS),
    ("namespaces", "notNamespaces", &["default", "de*t", "*", "other"]),
    ("serviceAccounts", "notServiceAccounts", &["frontend", "default/other"]),
    ("trustDomains", "notTrustDomains", &["cluster.local", "*-td", "*"]),
    ("ipBlocks", "notIpBlocks", &["10.0.0.0/24", "::/0", "10.0.0.1"]),
    ("remoteIpBlocks", "notRemoteIpBlocks", &["10.0.0.0/24", "192.0.2.7/24"]),
    ("requestPrincipals", "notRequestPrincipals", &["*", "https://idp/*"]),
];
const OPERATIONS: Fields = &[
    ("hosts", "notHosts", &["backend", "Backend:*", "*"]),
    ("methods", "notMethods", &["GET", "P*", "*"]),
    ("paths", "notPaths", &["/", "/a*", "*/b", "/a/{*}", "/{**}/b", "*"]),
    ("ports", "notPorts", &["80", "8080"]),
];
/// Keys of `when`, and values.
const KEYS: &[(&str, &[&str])] = &[
    ("request.headers[x-a]", &["1", "*2", "*"]),
    ("request.headers[:path]", &["/a?q", "*"]),
    ("request.auth.claims[a][b]", &["*"]),
    ("source.ip", &["10.0.0.0/24"]),
    ("remote.ip", &["192.0.2.0/24"]),
    ("destination.port", &["80", "8080"]),
    ("source.principal", &["*/sa/other"]),
    ("connection.sni", &["a.example", "*"]),
    ("experimental.envoy.filters.x[y]", &["*"]),
];
fn fields(choices: &mut Choices<'_>, all: Fields) -> Value {
    let mut written = Map::new();
    for _ in 0..=choices.below(3) {
        let (name, not, values) = choices.pick(all);
        let name = if choices.below(3) == 0 { not } else { name };
        let values: Vec<_> = (0..=choices.below(2)).map(|_| choices.text(values)).collect();
        written.insert(name.to_owned(), json!(values));
    }
    written.into()
}

fn rule(choices: &mut Choices<'_>) -> Value {
    let mut rule = json!({});
    if choices.below(2) == 1 {
        rule["from"] = (0..=choices.below(2)).map(|_| json!({"source": fields(choices, SOURCES)})).collect();
    }
    if choices.below(2) == 1 {
        rule["to"] = (0..=choices.below(2)).map(|_| json!({"operation": fields(choices, OPERATIONS)})).collect();
    }
    if choices.below(3) == 1 {
        let (key, values) = choices.pick(KEYS);
        let form = choices.pick(&["values", "notValues"]);
        rule["when"] = json!([{"key": key, form: [choices.text(values)]}]);
    }
    rule
}

fn document(choices: &mut Choices<'_>, name: usize) -> Option<Arc<Policy>> {
    let action = choices.pick(&["ALLOW", "DENY", "AUDIT", "CUSTOM"]);
    let least = usize::from(action != "ALLOW");
    let rules: Vec<_> = (0..least + choices.below(3)).map(|_| rule(choices)).collect();
    let mut spec = json!({"action": action, "rules": rules});
    if action == "CUSTOM" {
        spec["provider"] = json!({"name": choices.pick(&["sso", "sso", "other"])});
    }
    let spec = serde_json::from_value(spec).expect("the shape of a policy");
    let namespace = choices.pick(&["default", "istio-system"]).to_owned();
    let dry_run = !["AUDIT", "CUSTOM"].contains(&action) && choices.below(5) == 1;
    let annotations = BTreeMap::from([("istio.io/dry-run".to_owned(), dry_run.to_string())]);
    let annotations = if dry_run { annotations } else { BTreeMap::new() };
    istio::authorization_policy(ObjectName { namespace, name: format!("p{name}") }, &annotations, spec)
        .ok()
        .map(Arc::new)
}

/// What a TrafficTarget lets in: a group of routes with one match.
fn traffic_target(choices: &mut Choices<'_>) -> Option<Arc<Policy>> {
    let mut one = json!({"pathRegex": choices.text(&["/a", "/a/.*", ".*b", "/a|/x"])});
    if choices.below(2) == 1 {
        one["methods"] = json!([choices.pick(&["GET", "*", "POST"])]);
    }
    if choices.below(3) == 1 {
        one["headers"] = json!({"x-a": choices.text(&["1", "1.?", "[0-9]*"])});
    }
    let group = smi::http_route_group(serde_json::from_value(json!({"matches": [one]})).ok()?).ok()?;
    let part = choices.pick(&[PathMatch::Prefix, PathMatch::Full, PathMatch::Search]);
    Some(super::routes::traffic_target(group, part))
}

fn token(choices: &mut Choices<'_>) -> Option<Token> {
    let all = [
        json!({"iss": "https://idp", "sub": "alice", "a": {"b": ["x", "y"]}}),
        json!({"iss": "https://idp", "a": {"b": 7}}),
        json!({"sub": "alice", "aud": ["us"], "a": "text"}),
    ];
    let claims = all.get(choices.below(all.len() + 1))?;
    Some(Token::new(claims.as_object()?.clone()))
}

/// What is decided in steps, at once, and in words is the same; and where a connection has the answer, requests get no other.
pub fn policy_decide(data: &[u8]) {
    let mut choices = Choices(data);
    let count = 1 + choices.below(4);
    let mut policies: Vec<_> = (0..count).filter_map(|name| document(&mut choices, name)).collect();
    if choices.below(3) == 1 {
        policies.extend(traffic_target(&mut choices));
    }
    let catch_all_deny = choices.pick(&[CatchAllDeny::Istio, CatchAllDeny::Baseline]);
    let smi = choices.pick(&[SmiMode::Permissive, SmiMode::TrafficPolicy]);
    let kind = choices.pick(&[ProviderKind::Grpc, ProviderKind::Http]);
    let sso = BTreeMap::from([("sso".to_owned(), Provider { kind, fail_open: false })]);
    let providers = if choices.below(2) == 1 { Providers::Known(sso) } else { Providers::Unstated };
    let set = PolicySet::compile(&policies, &workload(), &Settings { catch_all_deny, smi, providers, ..settings() });
    let token = token(&mut choices);
    let peers =
        ["cluster.local/ns/default/sa/frontend", "old-td/ns/default/sa/other", "partner/ns/other/sa/frontend/x"];
    let peer: Option<SpiffeId> = match choices.below(4) {
        0 => None,
        index => Some(format!("spiffe://{}", peers[index - 1]).parse().expect("an ID")),
    };
    let mut headers = HeaderMap::new();
    for _ in 0..choices.below(3) {
        headers.append("x-a", HeaderValue::from_static(choices.pick(&["1", "2", "12", ""])));
    }
    let addresses = [[10, 0, 0, 1], [10, 0, 1, 1], [192, 0, 2, 1]];
    let protocol = choices.pick(&[Protocol::Http, Protocol::Http, Protocol::Tcp]);
    let facts = ConnectionFacts {
        source_ip: choices.pick(&addresses).into(),
        remote_ip: choices.pick(&[RemoteIp::PerRequest, RemoteIp::Fixed([192, 0, 2, 1].into())]),
        sni: choices.pick(&[None, Some("a.example")]),
        protocol,
        ..facts(peer.as_ref())
    };
    let target = choices.pick(&["/", "/a", "/a?q", "/a/b", "/a/[", "/x/y/b"]);
    let request = RequestView {
        method: choices.pick(&["GET", "POST", "x"]),
        host: choices.pick(&["backend", "BACKEND:8080", ""]),
        headers: &headers,
        token: token.as_ref(),
        remote_ip: choices.pick(&addresses).into(),
        ..request(target)
    };
    agree(&set, &facts, &request);
}

fn agree(set: &PolicySet, facts: &ConnectionFacts<'_>, request: &RequestView<'_>) {
    let residual = set.reduce(facts);
    let of_connection = residual.decide_connection();
    let (decided, explained) = match facts.protocol {
        Protocol::Tcp => (of_connection, set.explain(facts, None)),
        Protocol::Http => (residual.decide(request), set.explain(facts, Some(request))),
    };
    same(&decided, &explained);
    same(&of_connection, &set.explain(facts, None));
    let asked = match facts.protocol {
        Protocol::Tcp => residual.custom_connection(),
        Protocol::Http => residual.custom(request),
    };
    let asked = asked.map(|custom| (custom.rule.to_string(), custom.fault.is_some()));
    let told = explained.asks.as_ref().map(|asks| (asks.rule.to_string(), asks.fault.is_some()));
    assert_eq!(asked, told, "who is to be asked is told");
    match residual.fixed() {
        Some(fixed) => assert_eq!(fixed, decided),
        None => assert_eq!(facts.protocol, Protocol::Http, "bytes leave nothing open"),
    }
    assert!(of_connection.verdict == Verdict::Deny || decided.verdict == Verdict::Allow, "in doubt it refuses");
    assert_eq!(residual.decide(request), set.clone().reduce(facts).decide(request), "asked again");
    assert!(!explained.to_string().is_empty());
}

fn same(decided: &Decision<'_>, explained: &Explanation) {
    if explained.asks.as_ref().is_some_and(|asks| asks.fault.is_some()) {
        // Nobody can be asked: that comes before what the other policies say.
        assert_eq!((explained.verdict, explained.reason), (Verdict::Deny, Reason::CustomFailed), "{explained}");
        return;
    }
    let of = |rule: Option<RuleRef<'_>>| rule.map(|rule| rule.to_string());
    let told = |rule: &Option<RuleName>| rule.as_ref().map(ToString::to_string);
    assert_eq!((decided.verdict, decided.reason), (explained.verdict, explained.reason), "{explained}");
    assert_eq!((of(decided.rule), of(decided.audit)), (told(&explained.rule), told(&explained.audit)), "{explained}");
    if let Some(rule) = &explained.rule {
        let policy = explained.policies.iter().find(|policy| policy.policy == rule.policy);
        let policy = policy.expect("the deciding policy is among the explained");
        if policy.unreadable.is_none() {
            let outcome = policy.rules[rule.rule].outcome;
            // Without a request a DENY rule that depends on one is held against the connection.
            assert!(matches!(outcome, Outcome::Matched | Outcome::NeedsRequest), "{explained}");
        }
    }
}
