//! Tests of the crate as a whole; those of one module stand beside it.

mod agreement;
mod custom;
mod naive;
mod reports;
mod semantics;
mod tokens;
mod walkthrough;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use meshgate_identity::SpiffeId;
use serde_json::Value;

use crate::istio::{AuthorizationPolicySpec, authorization_policy};
use crate::{
    CatchAllDeny, ConnectionFacts, Decision, Explanation, Invalid, ObjectName, Policy, PolicySet, Protocol, RemoteIp,
    RequestView, Settings, SmiMode, Token, Workload,
};

/// The workload everything is about: `backend` in `default`.
pub(crate) fn workload() -> Workload {
    let labels = BTreeMap::from([("app".to_owned(), "backend".to_owned())]);
    Workload { namespace: "default".into(), service_account: "backend".into(), labels }
}

pub(crate) fn settings() -> Settings {
    Settings {
        root_namespace: "istio-system".into(),
        trust_domain: "cluster.local".parse().unwrap(),
        trust_domain_aliases: Vec::new(),
        catch_all_deny: CatchAllDeny::Istio,
        smi: SmiMode::Permissive,
        providers: Default::default(),
        smi_path_match: Default::default(),
    }
}

pub(crate) fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    ObjectName { namespace: namespace.into(), name: name.into() }
}

fn try_policy(object: &str, annotations: &[(&str, &str)], spec: Value) -> Result<Policy, Vec<Invalid>> {
    let spec: AuthorizationPolicySpec = serde_json::from_value(spec).unwrap();
    let annotations = annotations.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    authorization_policy(name(object), &annotations, spec)
}

pub(crate) fn policy(object: &str, spec: Value) -> Arc<Policy> {
    Arc::new(try_policy(object, &[], spec).unwrap())
}

pub(crate) fn dry_run(object: &str, spec: Value) -> Arc<Policy> {
    Arc::new(try_policy(object, &[("istio.io/dry-run", "true")], spec).unwrap())
}

/// One policy with one rule, in `default`.
pub(crate) fn rule(action: &str, rule: &Value) -> Arc<Policy> {
    policy("p", serde_json::json!({"action": action, "rules": [rule]}))
}

/// A connection and, on HTTP, a request on it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    peer: Option<SpiffeId>,
    source_ip: IpAddr,
    fixed_remote_ip: Option<IpAddr>,
    destination: SocketAddr,
    service_port: Option<u16>,
    opaque_port: bool,
    sni: Option<String>,
    tcp: bool,
    method: String,
    path_and_query: String,
    host: String,
    headers: HeaderMap,
    remote_ip: IpAddr,
    token: Option<Token>,
}

impl Call {
    /// `frontend` of `default` over mutual TLS.
    pub(crate) fn http(method: &str, path_and_query: &str) -> Call {
        Call {
            peer: Some("spiffe://cluster.local/ns/default/sa/frontend".parse().unwrap()),
            source_ip: [10, 0, 0, 1].into(),
            fixed_remote_ip: None,
            destination: ([10, 0, 0, 2], 8080).into(),
            service_port: None,
            opaque_port: false,
            sni: Some("outbound_.80_._.backend.default".into()),
            tcp: false,
            method: method.into(),
            path_and_query: path_and_query.into(),
            host: "backend:8080".into(),
            headers: HeaderMap::new(),
            remote_ip: [10, 0, 0, 1].into(),
            token: None,
        }
    }

    pub(crate) fn get(path_and_query: &str) -> Call {
        Call::http("GET", path_and_query)
    }

    pub(crate) fn is_tcp(&self) -> bool {
        self.tcp
    }

    pub(crate) fn tcp() -> Call {
        Call { tcp: true, ..Call::get("/") }
    }

    pub(crate) fn by(self, peer: &str) -> Call {
        Call { peer: Some(format!("spiffe://{peer}").parse().unwrap()), ..self }
    }

    pub(crate) fn plaintext(self) -> Call {
        Call { peer: None, sni: None, ..self }
    }

    pub(crate) fn connecting_from(self, ip: &str) -> Call {
        Call { source_ip: ip.parse().unwrap(), ..self }
    }

    /// Through a port of a service that is not the container's.
    pub(crate) fn through(self, service_port: u16) -> Call {
        Call { service_port: Some(service_port), ..self }
    }

    fn host(self, host: &str) -> Call {
        Call { host: host.into(), ..self }
    }

    /// With a verified token that has these claims.
    fn token(self, claims: Value) -> Call {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        Call { token: Some(Token::new(claims)), ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Call {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    pub(crate) fn facts(&self) -> ConnectionFacts<'_> {
        ConnectionFacts {
            peer: self.peer.as_ref(),
            source_ip: self.source_ip,
            remote_ip: self.fixed_remote_ip.map_or(RemoteIp::PerRequest, RemoteIp::Fixed),
            destination: self.destination,
            service_port: self.service_port,
            opaque_port: self.opaque_port,
            sni: self.sni.as_deref(),
            protocol: if self.tcp { Protocol::Tcp } else { Protocol::Http },
        }
    }

    pub(crate) fn request(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            path: self.path_and_query.split('?').next().unwrap(),
            path_and_query: &self.path_and_query,
            host: &self.host,
            scheme: if self.peer.is_some() { "https" } else { "http" },
            headers: &self.headers,
            token: self.token.as_ref(),
            remote_ip: self.remote_ip,
        }
    }

    /// Reduces and decides, and hands the decision to `look`.
    pub(crate) fn decide_in<T>(&self, set: &PolicySet, look: impl FnOnce(Decision<'_>) -> T) -> T {
        let residual = set.reduce(&self.facts());
        look(if self.tcp { residual.decide_connection() } else { residual.decide(&self.request()) })
    }

    pub(crate) fn explain_in(&self, set: &PolicySet) -> Explanation {
        set.explain(&self.facts(), (!self.tcp).then(|| self.request()).as_ref())
    }
}

/// The decision in one line: `deny deny_rule default/p rule 0`.
fn decide_with(policies: &[Arc<Policy>], settings: &Settings, call: &Call) -> String {
    let set = PolicySet::compile(policies, &workload(), settings);
    call.decide_in(&set, |decision| match decision.rule {
        Some(rule) => format!("{} {} {rule}", decision.verdict, decision.reason),
        None => format!("{} {}", decision.verdict, decision.reason),
    })
}

fn decide(policies: &[Arc<Policy>], call: &Call) -> String {
    decide_with(policies, &settings(), call)
}

/// Whether a rule matches, seen through the action of its policy.
fn matches(action: &str, written: &Value, call: &Call) -> bool {
    let verdict = decide(&[rule(action, written)], call);
    match action {
        "ALLOW" => verdict.starts_with("allow"),
        _ => verdict.starts_with("deny"),
    }
}
