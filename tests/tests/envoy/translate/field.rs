//! What a field or a `when` key becomes.

use serde_json::{Value, json};

use super::{matcher, trust};

/// Which half of an RBAC policy a field belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Permission,
    Principal,
}

impl Side {
    pub(super) fn and(self, all: &[Value]) -> Value {
        match self {
            _ if all.is_empty() => json!({"any": true}),
            Side::Permission => json!({"and_rules": {"rules": all}}),
            Side::Principal => json!({"and_ids": {"ids": all}}),
        }
    }

    pub(super) fn or(self, any: &[Value]) -> Value {
        match self {
            Side::Permission => json!({"or_rules": {"rules": any}}),
            Side::Principal => json!({"or_ids": {"ids": any}}),
        }
    }

    pub(super) fn not(self, matcher: &Value) -> Value {
        match self {
            Side::Permission => json!({"not_rule": matcher}),
            Side::Principal => json!({"not_id": matcher}),
        }
    }
}

/// What a policy can look at.
#[derive(Clone, Debug)]
pub(super) enum Field {
    Principal,
    Namespace,
    ServiceAccount,
    TrustDomain,
    SourceIp,
    RemoteIp,
    DestinationIp,
    DestinationPort,
    Sni,
    Host,
    Method,
    Path,
    Header(String),
    RequestPrincipal,
    Claim(Vec<String>),
    Metadata(String, String),
}

impl Field {
    /// A field of a source or an operation, and whether it is the `not` form.
    pub(super) fn of_name(name: &str) -> (Field, bool) {
        let (positive, negated) = match name.strip_prefix("not") {
            Some(rest) => (rest[..1].to_lowercase() + &rest[1..], true),
            None => (name.to_owned(), false),
        };
        let field = match positive.as_str() {
            "principals" => Field::Principal,
            "requestPrincipals" => Field::RequestPrincipal,
            "namespaces" => Field::Namespace,
            "serviceAccounts" => Field::ServiceAccount,
            "trustDomains" => Field::TrustDomain,
            "ipBlocks" => Field::SourceIp,
            "remoteIpBlocks" => Field::RemoteIp,
            "hosts" => Field::Host,
            "methods" => Field::Method,
            "paths" => Field::Path,
            "ports" => Field::DestinationPort,
            other => panic!("no field {other}"),
        };
        (field, negated)
    }

    /// A `when` key.
    pub(super) fn of_key(key: &str) -> Field {
        let inside = |prefix: &str| Some(key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')?.to_owned());
        if let Some(name) = inside("request.headers") {
            return Field::Header(name);
        }
        if let Some(names) = inside("request.auth.claims") {
            return Field::Claim(names.split("][").map(str::to_owned).collect());
        }
        if let Some((filter, name)) = key.strip_prefix("experimental.").and_then(|rest| rest.split_once('[')) {
            return Field::Metadata(filter.to_owned(), name.trim_end_matches(']').to_owned());
        }
        match key {
            "source.ip" => Field::SourceIp,
            "remote.ip" => Field::RemoteIp,
            "source.namespace" => Field::Namespace,
            "source.principal" => Field::Principal,
            "source.serviceAccount" => Field::ServiceAccount,
            "source.trustDomain" => Field::TrustDomain,
            "destination.ip" => Field::DestinationIp,
            "destination.port" => Field::DestinationPort,
            "connection.sni" => Field::Sni,
            "request.auth.principal" => Field::RequestPrincipal,
            "request.auth.audiences" => Field::Claim(vec!["aud".to_owned()]),
            "request.auth.presenter" => Field::Claim(vec!["azp".to_owned()]),
            other => panic!("no key {other}"),
        }
    }

    pub(super) fn side(&self) -> Side {
        match self {
            Field::DestinationIp | Field::DestinationPort | Field::Sni | Field::Metadata(..) => Side::Permission,
            Field::Host | Field::Method | Field::Path => Side::Permission,
            _ => Side::Principal,
        }
    }

    /// Whether there is nothing to compare on a TCP connection.
    pub(super) fn needs_http(&self) -> bool {
        use Field::{Claim, Header, Host, Method, Path, RequestPrincipal};
        matches!(self, Host | Method | Path | Header(_) | RequestPrincipal | Claim(_))
    }

    /// What a value is compared by; several for a principal under several trust domains.
    pub(super) fn matchers(&self, value: &str, namespace: &str, trust_domains: &[&str]) -> Vec<Value> {
        vec![match self {
            Field::Principal => {
                return trust::principal(value, trust_domains).iter().map(|value| matcher::principal(value)).collect();
            }
            Field::TrustDomain => {
                return trust::trust_domain(value, trust_domains).into_iter().map(matcher::trust_domain).collect();
            }
            Field::Namespace => matcher::namespace(value),
            Field::ServiceAccount => matcher::service_account(value, namespace),
            Field::SourceIp => json!({"direct_remote_ip": matcher::block(value)}),
            Field::RemoteIp => json!({"remote_ip": matcher::block(value)}),
            Field::DestinationIp => json!({"destination_ip": matcher::block(value)}),
            Field::DestinationPort => json!({"destination_port": value.parse::<u16>().unwrap()}),
            Field::Sni => json!({"requested_server_name": matcher::string(value)}),
            Field::Host => matcher::header(":authority", value, true),
            Field::Method => matcher::header(":method", value, false),
            Field::Header(name) => matcher::header(name, value, false),
            Field::Path => matcher::path(value),
            Field::RequestPrincipal => matcher::request_principal(value),
            Field::Claim(names) => matcher::claim(names, value),
            Field::Metadata(filter, name) => matcher::metadata(filter, &[name], &matcher::string(value)),
        }]
    }
}
