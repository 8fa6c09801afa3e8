//! `reduce` and `decide`, `fixed` and `explain` against the naive evaluator, over generated policies and calls.
//!
//! Every alphabet is small, so that values and calls meet often.

mod smi;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::naive::smi::Smi;
use super::naive::{self, Document, Mesh};
use super::{Call, workload};
use crate::explain::{Outcome, RuleName};
use crate::istio::authorization_policy;
use crate::{
    CatchAllDeny, Decision, Explanation, Family, ObjectName, Policy, PolicySet, Provider, ProviderKind, Providers,
    Reason, Residual, RuleRef, Settings, SmiMode, Verdict,
};

type Fields = &'static [(&'static str, &'static [&'static str])];

const PRINCIPALS: &[&str] = &[
    "*",
    "cluster.local/ns/default/sa/frontend",
    "old-td/ns/default/sa/*",
    "*-td/ns/default/sa/frontend",
    "new-*/ns/other/sa/frontend",
    "*/sa/other",
    "other/ns/default/sa/frontend",
    "cluster.local/ns/de*",
];
const NAMESPACES: &[&str] = &["default", "*", "de*t", "o*", "other", "*e*"];
const ACCOUNTS: &[&str] = &["frontend", "default/other", "other/frontend"];
const DOMAINS: &[&str] = &["cluster.local", "old-td", "*-td", "new*", "other", "*"];
const BLOCKS: &[&str] = &["10.0.0.0/24", "10.0.0.1", "192.0.2.7/24", "::/0", "2001:db8::/32", "0.0.0.0/0"];
const HOSTS: &[&str] = &["backend", "Backend:*", "*", "*:8080", "other"];
const METHODS: &[&str] = &["GET", "POST", "*", "P*"];
const PATHS: &[&str] = &["/", "/a", "/a*", "*/b", "*", "/a/{*}", "/a/{**}", "/{*}/b", "/{**}/b", "/{*}/{**}"];
const PORTS: &[&str] = &["80", "8080", "443"];
const REQUEST_PRINCIPALS: &[&str] =
    &["*", "i/a", "i/*", "i/a*", "*/a", "*i/a", "i*", "*a", "i", "https://i/*", "https://i*", "https://i/a", "*/*"];
const WORDS: &[&str] = &["a", "b", "a*", "*b", "*", "1"];
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
    ("requestPrincipals", REQUEST_PRINCIPALS),
    ("notRequestPrincipals", REQUEST_PRINCIPALS),
];
/// Of a connection alone.
const CONNECTION_SOURCES: Fields = &[
    ("principals", PRINCIPALS),
    ("notPrincipals", PRINCIPALS),
    ("namespaces", NAMESPACES),
    ("trustDomains", DOMAINS),
    ("ipBlocks", BLOCKS),
];
const REQUEST_OPERATIONS: Fields =
    &[("hosts", HOSTS), ("methods", METHODS), ("paths", PATHS), ("notPaths", PATHS), ("notMethods", METHODS)];
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
    ("request.headers[:path]", &["/a?q", "/*", "*"]),
    ("request.headers[:authority]", &["backend", "backend:8080", "*"]),
    ("request.auth.principal", REQUEST_PRINCIPALS),
    ("request.auth.audiences", WORDS),
    ("request.auth.presenter", WORDS),
    ("request.auth.claims[group]", WORDS),
    ("request.auth.claims[nested][a.b]", WORDS),
    ("source.ip", BLOCKS),
    ("remote.ip", BLOCKS),
    ("destination.ip", BLOCKS),
    ("source.namespace", NAMESPACES),
    ("source.principal", PRINCIPALS),
    ("source.serviceAccount", ACCOUNTS),
    ("source.trustDomain", DOMAINS),
    ("destination.port", PORTS),
    ("connection.sni", &["a.example", "*.example", "A.example", "*"]),
    ("experimental.envoy.filters.x[y]", &["*"]),
];

fn values(alphabet: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(alphabet), 1..3)
}

/// One to three of the fields with values.
fn fields(all: Fields) -> impl Strategy<Value = Value> {
    let chosen = prop::sample::subsequence(all, 1..=3.min(all.len()));
    chosen.prop_flat_map(|fields| {
        let each: Vec<_> = fields.into_iter().map(|(name, alphabet)| (Just(name), values(alphabet))).collect();
        each.prop_map(|fields| {
            fields.into_iter().map(|(name, values)| (name.to_owned(), json!(values))).collect::<Map<_, _>>().into()
        })
    })
}

fn condition() -> impl Strategy<Value = Value> {
    prop::sample::select(KEYS).prop_flat_map(|(key, alphabet)| {
        (values(alphabet), values(alphabet), 0..3).prop_map(move |(values, not_values, form)| match form {
            0 => json!({"key": key, "values": values}),
            1 => json!({"key": key, "notValues": not_values}),
            _ => json!({"key": key, "values": values, "notValues": not_values}),
        })
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let source = prop_oneof![4 => fields(SOURCES), 1 => fields(ACCOUNT_SOURCES)];
    let sources = prop::collection::vec(source.prop_map(|source| json!({"source": source})), 1..3);
    let operations =
        prop::collection::vec(fields(OPERATIONS).prop_map(|operation| json!({"operation": operation})), 1..3);
    let conditions = prop::collection::vec(condition(), 0..2);
    (prop::option::weighted(0.5, sources), prop::option::weighted(0.5, operations), conditions).prop_map(
        |(from, to, when)| {
            let mut rule = Map::new();
            rule.extend(from.map(|from| ("from".to_owned(), json!(from))));
            rule.extend(to.map(|to| ("to".to_owned(), json!(to))));
            rule.insert("when".to_owned(), json!(when));
            rule.into()
        },
    )
}

/// A rule of a CUSTOM policy: what others may look at and it may not is left out.
fn custom_rule() -> impl Strategy<Value = Value> {
    const ASKED_SOURCES: Fields = &[("ipBlocks", BLOCKS), ("notIpBlocks", BLOCKS), ("remoteIpBlocks", BLOCKS)];
    let sources = prop::collection::vec(fields(ASKED_SOURCES).prop_map(|source| json!({"source": source})), 1..3);
    let operations =
        prop::collection::vec(fields(OPERATIONS).prop_map(|operation| json!({"operation": operation})), 1..3);
    (prop::option::weighted(0.4, sources), prop::option::weighted(0.6, operations)).prop_map(|(from, to)| {
        let mut rule = Map::new();
        rule.extend(from.map(|from| ("from".to_owned(), json!(from))));
        rule.extend(to.map(|to| ("to".to_owned(), json!(to))));
        rule.into()
    })
}

fn custom_document(index: usize) -> impl Strategy<Value = Document> {
    let namespace = prop::sample::select(vec!["default", "default", "istio-system", "other"]);
    let selector = prop::sample::select(vec![None, Some("backend"), Some("other")]);
    let provider = prop::sample::select(vec!["grpc", "grpc", "grpc", "http", "nobody"]);
    (namespace, selector, provider, prop::collection::vec(custom_rule(), 1..3)).prop_map(
        move |(namespace, selector, provider, rules)| {
            let selector = selector.map(|app| json!({"matchLabels": {"app": app}}));
            let spec =
                json!({"selector": selector, "action": "CUSTOM", "provider": {"name": provider}, "rules": rules});
            Document {
                namespace: namespace.to_owned(),
                name: format!("p{index}"),
                dry_run: false,
                spec: serde_json::from_value(spec).unwrap(),
            }
        },
    )
}

fn document(index: usize) -> impl Strategy<Value = Document> {
    document_of(index, &["ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"], rule())
}

fn document_of(
    index: usize,
    actions: &'static [&'static str],
    rule: impl Strategy<Value = Value>,
) -> impl Strategy<Value = Document> {
    let namespace = prop::sample::select(vec!["default", "default", "istio-system", "other"]);
    let selector = prop::sample::select(vec![None, Some("backend"), Some("other")]);
    let action = prop::sample::select(actions);
    (namespace, selector, action, prop::bool::weighted(0.2), prop::collection::vec(rule, 0..3)).prop_map(
        move |(namespace, selector, action, dry_run, mut rules)| {
            if action == "DENY" && rules.is_empty() {
                rules.push(json!({}));
            }
            let selector = selector.map(|app| json!({"matchLabels": {"app": app}}));
            let spec = json!({"selector": selector, "action": action, "rules": rules});
            Document {
                namespace: namespace.to_owned(),
                name: format!("p{index}"),
                dry_run: dry_run && action != "AUDIT",
                spec: serde_json::from_value(spec).unwrap(),
            }
        },
    )
}

fn documents() -> impl Strategy<Value = Vec<Document>> {
    let several = (document(3), document(1), document(0), document(2));
    (several, 1..=4_usize).prop_map(|((a, b, c, d), length)| [a, b, c, d].into_iter().take(length).collect())
}

/// So many that they are looked up and not tried one by one. Half of the sets are without a DENY, which would hide the rest,
/// and half are made of the same few sources, which are then asked for once for many rules.
fn many_documents() -> impl Strategy<Value = Vec<Document>> {
    let actions: [&'static [&'static str]; 2] =
        [&["ALLOW", "ALLOW", "ALLOW", "AUDIT"], &["ALLOW", "DENY", "DENY", "AUDIT"]];
    let sources = prop::collection::vec(fields(CONNECTION_SOURCES), 3);
    let made = (prop::sample::select(actions.to_vec()), prop::bool::ANY, sources);
    let documents = made.prop_flat_map(|(actions, few, sources)| {
        let rule = if few { rule_of(sources).boxed() } else { rule().boxed() };
        prop::collection::vec(document_of(0, actions, rule), 30..=60)
    });
    documents.prop_map(|mut documents| {
        for (index, document) in documents.iter_mut().enumerate() {
            document.name = format!("p{index:02}");
        }
        documents
    })
}

/// One of the sources, and mostly something that only a request answers.
fn rule_of(sources: Vec<Value>) -> impl Strategy<Value = Value> {
    let operation = prop_oneof![4 => fields(REQUEST_OPERATIONS), 1 => fields(OPERATIONS)];
    let conditions = prop::collection::vec(condition(), 0..2);
    (prop::sample::select(sources), operation, prop::bool::weighted(0.2), conditions).prop_map(
        |(source, operation, conditional, conditions)| {
            let when = if conditional { conditions } else { Vec::new() };
            json!({"from": [{"source": source}], "to": [{"operation": operation}], "when": when})
        },
    )
}

fn mesh() -> impl Strategy<Value = Mesh> {
    let domains = prop::sample::select(vec![vec!["cluster.local"], vec!["new-td", "old-td"], vec!["old-td"]]);
    (domains, any::<bool>()).prop_map(|(domains, baseline)| Mesh { domains, baseline })
}

/// Of all kinds that JSON has, in the claims that policies look at.
fn claims() -> impl Strategy<Value = Map<String, Value>> {
    let claim = || {
        prop::sample::select(vec![
            json!("a"),
            json!("b"),
            json!("ab"),
            json!(""),
            json!(1),
            json!(true),
            json!(null),
            json!(["a", "x"]),
            json!([]),
            json!([["a"], {"a": "a"}, 1, "ab"]),
            json!({"a": "a", "a.b": "a"}),
            json!({"a.b": ["b"]}),
        ])
    };
    let issuer = prop::sample::select(vec![json!("i"), json!("https://i"), json!("xi"), json!("")]);
    let subject = prop::sample::select(vec![json!("a"), json!("b"), json!("ab"), json!(""), json!("*")]);
    let named = |name: &'static str, value: BoxedStrategy<Value>| {
        prop::option::weighted(0.8, value).prop_map(move |value| value.map(|value| (name.to_owned(), value)))
    };
    let all = (
        named("iss", issuer.boxed()),
        named("sub", subject.boxed()),
        named("aud", claim().boxed()),
        named("azp", claim().boxed()),
        named("group", claim().boxed()),
        named("nested", claim().boxed()),
    );
    all.prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f].into_iter().flatten().collect())
}

fn call() -> impl Strategy<Value = Call> {
    let peer = (
        prop::sample::select(vec!["cluster.local", "new-td", "old-td", "other"]),
        prop::sample::select(vec!["default", "default", "other"]),
        prop::sample::select(vec!["frontend", "other"]),
    );
    let addresses = || prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "192.0.2.7", "2001:db8::1"]);
    let connection = (
        prop::option::weighted(0.8, peer),
        addresses(),
        prop::option::of(addresses()),
        addresses(),
        (prop::sample::select(vec![80, 8080]), prop::option::of(prop::sample::select(vec![80, 443]))),
        prop::sample::select(vec![None, Some("a.example"), Some("A.Example"), Some("b")]),
        (prop::bool::weighted(0.3), prop::bool::ANY),
    );
    let request = (
        prop::sample::select(vec!["GET", "POST", "PUT", "CONNECT"]),
        prop::sample::select(vec!["/", "/a", "/a?q", "/a/b", "/a/", "/a/x/b", "/b", "/a/[b", "/x//b"]),
        prop::sample::select(vec!["backend", "BACKEND:8080", "backend:8080", "other", ""]),
        prop::collection::vec(prop::sample::select(vec!["1", "2", "12", " 1"]), 0..3),
        addresses(),
        prop::option::of(claims()),
    );
    (connection, request).prop_map(|(connection, (method, path, host, lines, remote_ip, claims))| {
        let (peer, source_ip, fixed, destination, (port, service_port), sni, (tcp, opaque_port)) = connection;
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-a", HeaderValue::from_static(line));
        }
        Call {
            peer: peer.map(|(domain, ns, account)| format!("spiffe://{domain}/ns/{ns}/sa/{account}").parse().unwrap()),
            source_ip: source_ip.parse().unwrap(),
            fixed_remote_ip: fixed.map(|address| address.parse().unwrap()),
            destination: (destination.parse::<std::net::IpAddr>().unwrap(), port).into(),
            service_port,
            opaque_port,
            sni: sni.map(str::to_owned),
            tcp,
            method: method.to_owned(),
            path_and_query: path.to_owned(),
            host: host.to_owned(),
            headers,
            remote_ip: remote_ip.parse().unwrap(),
            token: claims.map(crate::Token::new),
        }
    })
}

fn compile(documents: &[Document], smi: &Smi, mesh: &Mesh) -> PolicySet {
    let mut policies: Vec<Arc<Policy>> = documents
        .iter()
        .map(|document| {
            let name = ObjectName { namespace: document.namespace.clone(), name: document.name.clone() };
            let annotations = BTreeMap::from([("istio.io/dry-run".to_owned(), document.dry_run.to_string())]);
            let annotations = if document.dry_run { annotations } else { BTreeMap::new() };
            Arc::new(authorization_policy(name, &annotations, document.spec.clone()).unwrap())
        })
        .collect();
    policies.extend(smi::policies(smi));
    let mut domains = mesh.domains.iter().map(|domain| domain.parse().unwrap());
    let settings = Settings {
        root_namespace: "istio-system".to_owned(),
        trust_domain: domains.next().unwrap(),
        trust_domain_aliases: domains.collect(),
        catch_all_deny: if mesh.baseline { CatchAllDeny::Baseline } else { CatchAllDeny::Istio },
        smi: if smi.in_force { SmiMode::TrafficPolicy } else { SmiMode::Permissive },
        smi_path_match: smi.part,
        providers: Providers::Known(BTreeMap::from([
            ("http".to_owned(), Provider { kind: ProviderKind::Http, fail_open: false }),
            ("grpc".to_owned(), Provider { kind: ProviderKind::Grpc, fail_open: true }),
        ])),
    };
    PolicySet::compile(&policies, &workload(), &settings)
}

fn family(family: Family) -> &'static str {
    match family {
        Family::Istio => "istio",
        Family::Smi => "smi",
    }
}

fn as_naive(decision: Decision<'_>) -> naive::Result {
    let text = |rule: Option<RuleRef<'_>>| rule.map(|rule| rule.to_string());
    naive::Result {
        verdict: decision.verdict.as_str(),
        reason: decision.reason.as_str(),
        family: family(decision.family),
        rule: text(decision.rule),
        target: text(decision.target),
        audit: text(decision.audit),
        dry_run_allow: decision.dry_run_allow.map(|(verdict, rule)| (verdict.as_str(), text(rule))),
        dry_run_deny: decision.dry_run_deny.map(|(verdict, rule)| (verdict.as_str(), text(rule))),
    }
}

fn explained_as_naive(explanation: &Explanation) -> naive::Result {
    let text = |rule: &Option<RuleName>| rule.as_ref().map(ToString::to_string);
    let would_be = |of: &Option<crate::explain::WouldBe>| of.as_ref().map(|of| (of.verdict.as_str(), text(&of.rule)));
    naive::Result {
        verdict: explanation.verdict.as_str(),
        reason: explanation.reason.as_str(),
        family: family(explanation.family),
        rule: text(&explanation.rule),
        target: text(&explanation.target),
        audit: text(&explanation.audit),
        dry_run_allow: would_be(&explanation.dry_run_allow),
        dry_run_deny: would_be(&explanation.dry_run_deny),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_decides_as_the_semantics_say(
        documents in documents(), smi in smi::everything(), mesh in mesh(), call in call()
    ) {
        let set = compile(&documents, &smi, &mesh);
        let expected = naive::decide(&documents, &smi, &mesh, &call);
        agreed(&set, &call, &expected)?;
    }

    #[test]
    fn the_engine_asks_as_the_semantics_say(
        custom in (custom_document(0), custom_document(1), document(2)),
        length in 1..=3_usize,
        mesh in mesh(),
        call in call(),
    ) {
        let documents: Vec<_> = [custom.0, custom.1, custom.2].into_iter().take(length).collect();
        let set = compile(&documents, &Smi::default(), &mesh);
        let residual = set.reduce(&call.facts());
        let asked = if call.tcp { residual.custom_connection() } else { residual.custom(&call.request()) };
        let asked = asked.map(|custom| (custom.rule.to_string(), custom.fault.is_none()));
        prop_assert_eq!(&asked, &naive::asks(&documents, &mesh, &call));
        let explained = call.explain_in(&set).asks.map(|asks| (asks.rule.to_string(), asks.fault.is_none()));
        prop_assert_eq!(explained, asked);
    }

    #[test]
    fn an_explanation_agrees_rule_by_rule(
        documents in documents(), smi in smi::everything(), mesh in mesh(), call in call()
    ) {
        let explanation = call.explain_in(&compile(&documents, &smi, &mesh));
        prop_assert_eq!(explained_as_naive(&explanation), naive::decide(&documents, &smi, &mesh, &call));
        let selected: Vec<_> = documents.iter().filter(|document| naive::selects(document)).collect();
        let targets: Vec<_> = smi.targets.iter().filter(|target| naive::smi::selects(target)).collect();
        prop_assert_eq!(explanation.policies.len(), selected.len() + targets.len());
        for policy in &explanation.policies {
            if policy.family == Family::Smi {
                let of = |target: &&&naive::smi::Target| format!("{}/{}", target.namespace, target.name) == policy.policy;
                let target = *targets.iter().find(of).unwrap();
                prop_assert_eq!((policy.kind, policy.rules.len()), ("TrafficTarget", target.spec.rules.len()));
                for rule in &policy.rules {
                    let matched = naive::smi::rule_matches(&smi, target, rule.rule, &mesh, &call);
                    prop_assert_eq!(rule.outcome == Outcome::Matched, matched, "{}", explanation);
                    prop_assert!(matched || !rule.because.is_empty());
                }
                continue;
            }
            let of = |document: &&&Document| format!("{}/{}", document.namespace, document.name) == policy.policy;
            let document = *selected.iter().find(of).unwrap();
            for (rule, written) in policy.rules.iter().zip(naive::rules(document)) {
                let matched = naive::rule_matches(document, written, &mesh, &call);
                prop_assert_eq!(rule.outcome == Outcome::Matched, matched, "{}", explanation);
                prop_assert!(matched || !rule.because.is_empty());
            }
        }
    }
}

/// What the engine says of a call, checked in itself.
fn agreed(set: &PolicySet, call: &Call, expected: &naive::Result) -> Result<(), TestCaseError> {
    let residual = set.reduce(&call.facts());
    let decided = if call.tcp { residual.decide_connection() } else { residual.decide(&call.request()) };
    prop_assert_eq!(&as_naive(decided), expected);
    match residual.fixed() {
        Some(fixed) => prop_assert_eq!(fixed, decided),
        None => prop_assert!(!call.tcp, "a connection leaves nothing open on TCP"),
    }
    if residual.decide_connection().verdict == Verdict::Allow {
        prop_assert_eq!(decided.verdict, Verdict::Allow, "in doubt it refuses");
    }
    let facts = call.facts();
    let nearest = residual.nearest(&decided, &facts, (!call.tcp).then(|| call.request()).as_ref());
    let wanting = matches!(decided.reason, Reason::NoAllowMatched | Reason::CatchAllDeny | Reason::NoTargetMatched);
    prop_assert!(wanting || nearest.is_none());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn many_policies_decide_as_the_semantics_say(
        documents in many_documents(),
        mesh in mesh(),
        calls in prop::collection::vec(call(), 12),
    ) {
        let set = compile(&documents, &Smi::default(), &mesh);
        for call in &calls {
            agreed(&set, call, &naive::decide(&documents, &Smi::default(), &mesh, call))?;
        }
    }

    #[test]
    fn connections_with_equal_essential_facts_have_one_residual(
        documents in prop_oneof![4 => documents(), 1 => many_documents()],
        asking in prop::option::of(custom_document(4)),
        smi in smi::everything(),
        mesh in mesh(),
        calls in prop::collection::vec(near_calls(), 12),
    ) {
        let documents: Vec<Document> = documents.into_iter().chain(asking).collect();
        let set = compile(&documents, &smi, &mesh);
        for (one, other) in &calls {
            if set.essential(&one.facts()) != set.essential(&other.facts()) {
                continue;
            }
            let fingerprint = |call: &Call| set.essential(&call.facts()).fingerprint();
            prop_assert_eq!(fingerprint(one), fingerprint(other));
            // Made for the one, asked by the other.
            let (residual, fresh) = (set.reduce(&one.facts()), set.reduce(&other.facts()));
            let decided = if other.tcp { residual.decide_connection() } else { residual.decide(&other.request()) };
            prop_assert_eq!(as_naive(decided), naive::decide(&documents, &smi, &mesh, other));
            let asked = |residual: &Residual| {
                let custom = if other.tcp { residual.custom_connection() } else { residual.custom(&other.request()) };
                custom.map(|custom| (custom.rule.to_string(), custom.fault))
            };
            prop_assert_eq!(asked(&residual), asked(&fresh));
            prop_assert_eq!(residual.fixed().map(as_naive), fresh.fixed().map(as_naive));
        }
    }
}

/// A call, and one whose connection differs from it in few facts.
fn near_calls() -> impl Strategy<Value = (Call, Call)> {
    (call(), call(), 0..64_u8).prop_map(|(one, other, same)| {
        let keep = |bit: u8| same & (1 << bit) != 0;
        let mut near = Call { tcp: one.tcp, ..other };
        if keep(0) || keep(1) {
            near.peer = one.peer.clone();
        }
        if keep(2) {
            (near.source_ip, near.fixed_remote_ip) = (one.source_ip, one.fixed_remote_ip);
        }
        if keep(3) {
            near.destination = one.destination;
        }
        if keep(4) {
            near.sni = one.sni.clone();
        }
        if keep(5) || keep(0) {
            near.service_port = one.service_port;
        }
        (one, near)
    })
}
