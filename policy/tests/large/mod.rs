//! Policies by the thousand, for what measures: each mix has one policy that lets the same request in.

#![allow(dead_code, reason = "the benchmark and the tests of costs each use a part")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use meshgate_identity::SpiffeId;
use meshgate_policy::istio::authorization_policy;
use meshgate_policy::{
    ConnectionFacts, ObjectName, Policy, PolicySet, Protocol, RemoteIp, RequestView, Settings, Workload,
};
use serde_json::{Value, json};

/// What tells the policies of a set apart.
pub(crate) type Mix = (&'static str, fn(usize) -> Value);

/// Every kind of mix. Of `n` policies the last is the one that matches.
pub(crate) const MIXES: &[Mix] = &[
    ("principals and paths", |n| {
        rule(
            &json!({"principals": [format!("cluster.local/ns/default/sa/client-{n:05}")]}),
            &json!({"methods": ["GET"], "paths": [format!("/api/v1/data-{n:05}")]}),
        )
    }),
    ("service accounts", |n| rule(&json!({"serviceAccounts": [format!("default/client-{n:05}")]}), &get())),
    ("namespaces", |n| rule(&json!({"namespaces": [format!("default-{n:05}")]}), &get())),
    ("principal prefixes", |n| rule(&json!({"principals": [format!("cluster.local/ns/default-{n:05}/*")]}), &get())),
    ("principal suffixes", |n| rule(&json!({"principals": [format!("*/sa/client-{n:05}")]}), &get())),
    ("one namespace, paths", |n| {
        rule(&json!({"namespaces": ["default*"]}), &json!({"paths": [format!("/api/v1/data-{n:05}")]}))
    }),
    ("ports", |n| json!({"rules": [{"to": [{"operation": {"ports": [n.to_string()], "methods": ["GET"]}}]}]})),
    ("paths", |n| to(&json!({"methods": ["GET"], "paths": [format!("/api/v1/data-{n:05}")]}))),
    ("path prefixes", |n| to(&json!({"paths": [format!("/api/v1/data-{n:05}*")]}))),
    ("path suffixes", |n| to(&json!({"paths": [format!("*/data-{n:05}")]}))),
    ("path templates", |n| to(&json!({"paths": [format!("/{{*}}/v1/data-{n:05}")]}))),
    ("hosts", |n| to(&json!({"hosts": [format!("backend-{n:05}.example")]}))),
    (
        "headers",
        |n| json!({"rules": [{"when": [{"key": "request.headers[x-tenant]", "values": [format!("tenant-{n:05}")]}]}]}),
    ),
];

fn get() -> Value {
    json!({"methods": ["GET"]})
}

fn rule(source: &Value, operation: &Value) -> Value {
    json!({"rules": [{"from": [{"source": source}], "to": [{"operation": operation}]}]})
}

fn to(operation: &Value) -> Value {
    json!({"rules": [{"to": [{"operation": operation}]}]})
}

/// Policies of a mix, as they are after reading.
pub(crate) fn policies(mix: Mix, count: usize) -> Vec<Arc<Policy>> {
    (0..count).map(|n| policy(&format!("policy-{n:05}"), mix.1(n))).collect()
}

/// The two policies of the walk-through.
pub(crate) fn walkthrough() -> Vec<Arc<Policy>> {
    let allow = json!({
        "selector": {"matchLabels": {"app": "backend"}},
        "rules": [{
            "from": [{"source": {"principals": ["cluster.local/ns/default/sa/frontend"]}}],
            "to": [{"operation": {"methods": ["GET"], "paths": ["/api/v1/data"]}}],
        }],
    });
    vec![policy("allow-nothing", json!({})), policy("allow-frontend-get-data", allow)]
}

fn policy(name: &str, mut spec: Value) -> Arc<Policy> {
    if let Some(spec) = spec.as_object_mut() {
        spec.entry("selector").or_insert_with(|| json!({"matchLabels": {"app": "backend"}}));
    }
    let name = ObjectName { namespace: "default".into(), name: name.into() };
    Arc::new(authorization_policy(name, &BTreeMap::new(), serde_json::from_value(spec).unwrap()).unwrap())
}

pub(crate) fn compile(policies: &[Arc<Policy>]) -> PolicySet {
    let labels = BTreeMap::from([("app".to_owned(), "backend".to_owned())]);
    let workload = Workload { namespace: "default".into(), service_account: "backend".into(), labels };
    let settings = Settings {
        root_namespace: "istio-system".into(),
        trust_domain: "cluster.local".parse().unwrap(),
        trust_domain_aliases: Vec::new(),
        catch_all_deny: Default::default(),
        smi: Default::default(),
        smi_path_match: Default::default(),
        providers: Default::default(),
    };
    PolicySet::compile(policies, &workload, &settings)
}

/// A connection and a request on it.
pub(crate) struct Call {
    peer: SpiffeId,
    port: u16,
    method: &'static str,
    path: String,
    host: String,
    headers: HeaderMap,
}

impl Call {
    /// What the policy `n` of every mix lets in, and no other.
    pub(crate) fn number(n: usize) -> Call {
        let mut headers = HeaderMap::new();
        headers.insert("x-tenant", HeaderValue::from_str(&format!("tenant-{n:05}")).unwrap());
        headers.insert("user-agent", HeaderValue::from_static("curl/8"));
        Call {
            peer: format!("spiffe://cluster.local/ns/default-{n:05}/sa/client-{n:05}").parse().unwrap(),
            port: u16::try_from(n).unwrap(),
            method: "GET",
            path: format!("/api/v1/data-{n:05}"),
            host: format!("backend-{n:05}.example"),
            headers,
        }
    }

    /// As [`Call::number`], by the caller that a mix is about.
    pub(crate) fn of(mix: Mix, n: usize) -> Call {
        let namespaced = mix.0 == "namespaces" || mix.0 == "principal prefixes";
        let namespace = if namespaced { format!("default-{n:05}") } else { "default".to_owned() };
        let peer = format!("spiffe://cluster.local/ns/{namespace}/sa/client-{n:05}").parse().unwrap();
        Call { peer, ..Call::number(n) }
    }

    /// The request of the walk-through.
    pub(crate) fn walkthrough() -> Call {
        Call {
            peer: "spiffe://cluster.local/ns/default/sa/frontend".parse().unwrap(),
            port: 8080,
            path: "/api/v1/data".to_owned(),
            host: "backend.default".to_owned(),
            ..Call::number(0)
        }
    }

    pub(crate) fn facts(&self) -> ConnectionFacts<'_> {
        ConnectionFacts {
            peer: Some(&self.peer),
            source_ip: [10, 0, 0, 1].into(),
            remote_ip: RemoteIp::Fixed([10, 0, 0, 1].into()),
            destination: ([10, 0, 0, 2], self.port).into(),
            service_port: None,
            opaque_port: false,
            sni: Some("backend.default"),
            protocol: Protocol::Http,
        }
    }

    pub(crate) fn request(&self) -> RequestView<'_> {
        RequestView {
            method: self.method,
            path: &self.path,
            path_and_query: &self.path,
            host: &self.host,
            scheme: "https",
            headers: &self.headers,
            token: None,
            remote_ip: IpAddr::from([10, 0, 0, 1]),
        }
    }
}
