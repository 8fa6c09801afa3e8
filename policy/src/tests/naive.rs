//! What a policy means, written straight down from its documents: nothing compiled, nothing reduced, nothing shared
//! with the engine but the documents' types.

pub(super) mod smi;

use std::net::IpAddr;

use super::Call;
use crate::istio::spec::{
    ActionSpec, AuthorizationPolicySpec, ConditionSpec, OperationSpec, RuleSpec, SourceSpec, Values,
};

#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) dry_run: bool,
    pub(super) spec: AuthorizationPolicySpec,
}

/// `ns/name rule 0`, or nothing.
type Hit = Option<String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Result {
    pub(super) verdict: &'static str,
    pub(super) reason: &'static str,
    pub(super) family: &'static str,
    pub(super) rule: Hit,
    pub(super) target: Hit,
    pub(super) audit: Hit,
    pub(super) dry_run_allow: Option<(&'static str, Hit)>,
    pub(super) dry_run_deny: Option<(&'static str, Hit)>,
}

/// The names of the trust domain, and whether a catch-all DENY is a baseline.
#[derive(Clone, Debug)]
pub(super) struct Mesh {
    pub(super) domains: Vec<&'static str>,
    pub(super) baseline: bool,
}

pub(super) fn decide(documents: &[Document], smi: &smi::Smi, mesh: &Mesh, call: &Call) -> Result {
    let mut applicable: Vec<_> = documents.iter().filter(|document| selects(document)).collect();
    applicable.sort_by_key(|document| (document.namespace != "istio-system", &document.namespace, &document.name));
    let of = |action, dry_run| {
        let wanted = move |document: &&&Document| action_of(document) == action && document.dry_run == dry_run;
        applicable.iter().filter(wanted).copied().collect::<Vec<_>>()
    };
    let hit = |documents: &[&Document], catch_all: bool| -> Hit {
        documents.iter().find_map(|document| {
            rules(document).iter().enumerate().find_map(|(index, rule)| {
                let is_baseline = mesh.baseline && action_of(document) == ActionSpec::Deny && is_empty(rule);
                let matches = is_baseline == catch_all && rule_matches(document, rule, mesh, call);
                matches.then(|| format!("{}/{} rule {index}", document.namespace, document.name))
            })
        })
    };
    let (deny, allow) = (of(ActionSpec::Deny, false), of(ActionSpec::Allow, false));
    let (dry_deny, dry_allow) = (of(ActionSpec::Deny, true), of(ActionSpec::Allow, true));
    let (verdict, reason, rule) = if let Some(rule) = hit(&deny, false) {
        ("deny", "deny_rule", Some(rule))
    } else if let Some(rule) = hit(&allow, false) {
        ("allow", "allow_rule", Some(rule))
    } else if let Some(rule) = hit(&deny, true) {
        ("deny", "catch_all_deny", Some(rule))
    } else if !allow.is_empty() {
        ("deny", "no_allow_matched", None)
    } else if !deny.is_empty() {
        ("allow", "not_denied", None)
    } else {
        ("allow", "no_policy", None)
    };
    let let_in = smi::hit(smi, mesh, call);
    let (family, verdict, reason, rule, target) = match (verdict, reason, let_in) {
        ("deny", ..) => ("istio", verdict, reason, rule, None),
        _ if !smi.in_force => ("istio", verdict, reason, rule, None),
        (_, _, None) => ("smi", "deny", "no_target_matched", None, None),
        (_, "allow_rule", Some(target)) => ("istio", verdict, reason, rule, Some(target)),
        (_, _, Some(target)) => ("smi", verdict, "target_rule", Some(target), None),
    };
    let would_allow = hit(&dry_allow, false);
    let would_deny = hit(&dry_deny, false).or_else(|| {
        let nothing_allows = hit(&allow, false).is_none() && would_allow.is_none();
        nothing_allows.then(|| hit(&dry_deny, true)).flatten()
    });
    Result {
        verdict,
        reason,
        family,
        rule,
        target,
        audit: hit(&of(ActionSpec::Audit, false), false),
        dry_run_allow: (!dry_allow.is_empty())
            .then(|| (if would_allow.is_some() { "allow" } else { "deny" }, would_allow)),
        dry_run_deny: (!dry_deny.is_empty()).then(|| (if would_deny.is_some() { "deny" } else { "allow" }, would_deny)),
    }
}

/// The CUSTOM rule that asks, and whether it can; the provider `http` sees no TCP, `nobody` does not exist.
pub(super) fn asks(documents: &[Document], mesh: &Mesh, call: &Call) -> Option<(String, bool)> {
    let mut custom: Vec<_> =
        documents.iter().filter(|document| selects(document) && action_of(document) == ActionSpec::Custom).collect();
    custom.sort_by_key(|document| (document.namespace != "istio-system", &document.namespace, &document.name));
    let named: Vec<_> = custom.iter().map(|document| document.spec.provider.as_ref().unwrap().name.as_str()).collect();
    let several = named.iter().any(|name| *name != named[0]);
    let without_requests = !several && call.tcp && named.first() == Some(&"http");
    if without_requests && call.opaque_port {
        return None;
    }
    custom.iter().find_map(|document| {
        rules(document).iter().enumerate().find_map(|(index, rule)| {
            let possible = !several && named[0] != "nobody" && !without_requests;
            rule_matches(document, rule, mesh, call)
                .then(|| (format!("{}/{} rule {index}", document.namespace, document.name), possible))
        })
    })
}

/// For the workload of these tests.
pub(super) fn selects(document: &Document) -> bool {
    let labels = document.spec.selector.as_ref().and_then(|selector| selector.match_labels.as_ref());
    matches!(document.namespace.as_str(), "default" | "istio-system")
        && labels.is_none_or(|labels| labels.iter().all(|(key, value)| key == "app" && value == "backend"))
}

pub(super) fn action_of(document: &Document) -> ActionSpec {
    document.spec.action.unwrap_or(ActionSpec::Allow)
}

pub(super) fn rules(document: &Document) -> Vec<&RuleSpec> {
    document.spec.rules.iter().flatten().flatten().collect()
}

fn is_empty(rule: &RuleSpec) -> bool {
    rule.from.is_none() && rule.to.is_none() && rule.when.as_ref().is_none_or(Vec::is_empty)
}

pub(super) fn rule_matches(document: &Document, rule: &RuleSpec, mesh: &Mesh, call: &Call) -> bool {
    let case = Case { namespace: &document.namespace, allow: action_of(document) == ActionSpec::Allow, mesh, call };
    let sources = || rule.from.iter().flatten().flatten().filter_map(|from| from.source.as_ref());
    let operations = || rule.to.iter().flatten().flatten().filter_map(|to| to.operation.as_ref());
    let conditions = || rule.when.iter().flatten().flatten();
    let needs_http = sources().any(|source| given(&source.request_principals) || given(&source.not_request_principals))
        || operations().any(|operation| {
            let OperationSpec { hosts, not_hosts, methods, not_methods, paths, not_paths, .. } = operation;
            [hosts, not_hosts, methods, not_methods, paths, not_paths].into_iter().any(given)
        })
        || conditions().any(|condition| condition.key.starts_with("request."));
    if call.tcp && case.allow && needs_http {
        return false;
    }
    (rule.from.is_none() || sources().any(|source| case.source(source)))
        && (rule.to.is_none() || operations().any(|operation| case.operation(operation)))
        && conditions().all(|condition| case.condition(condition))
}

fn given(values: &Values) -> bool {
    values.as_ref().is_some_and(|values| !values.is_empty())
}

struct Case<'a> {
    namespace: &'a str,
    allow: bool,
    mesh: &'a Mesh,
    call: &'a Call,
}

impl Case<'_> {
    fn source(&self, source: &SourceSpec) -> bool {
        let both = |values, not_values, test: &dyn Fn(&str) -> bool| any(values, test) && none(not_values, test);
        both(&source.principals, &source.not_principals, &|value| self.principal(value))
            && both(&source.namespaces, &source.not_namespaces, &|value| self.peer_namespace(value))
            && both(&source.service_accounts, &source.not_service_accounts, &|value| self.service_account(value))
            && both(&source.trust_domains, &source.not_trust_domains, &|value| self.trust_domain(value))
            && both(&source.ip_blocks, &source.not_ip_blocks, &|value| in_block(value, self.call.source_ip))
            && both(&source.remote_ip_blocks, &source.not_remote_ip_blocks, &|value| in_block(value, self.remote_ip()))
            && (self.call.tcp
                || both(&source.request_principals, &source.not_request_principals, &|value| {
                    self.request_principal(value)
                }))
    }

    fn operation(&self, operation: &OperationSpec) -> bool {
        let call = self.call;
        let path = call.path_and_query.split('?').next().unwrap();
        let port = |value: &str| value == call.destination.port().to_string();
        let host = |value: &str| wildcard(&value.to_lowercase(), &call.host.to_lowercase());
        let method = |value: &str| wildcard(value, &call.method);
        any(&operation.ports, &port)
            && none(&operation.not_ports, &port)
            && (call.tcp
                || any(&operation.hosts, &host)
                    && none(&operation.not_hosts, &host)
                    && any(&operation.methods, &method)
                    && none(&operation.not_methods, &method)
                    && any(&operation.paths, &|value| path_matches(value, path, !self.allow))
                    && none(&operation.not_paths, &|value| path_matches(value, path, self.allow)))
    }

    fn condition(&self, condition: &ConditionSpec) -> bool {
        let call = self.call;
        let key = condition.key.as_str();
        if call.tcp && key.starts_with("request.") {
            return true;
        }
        if let Some(name) =
            key.strip_prefix("request.headers[x-").map(|rest| format!("x-{}", rest.trim_end_matches(']')))
        {
            let lines: Vec<_> = call.headers.get_all(name).iter().map(|line| line.to_str().unwrap().trim()).collect();
            let among = |values: &Values, line: &str| values.iter().flatten().any(|value| wildcard(value, line));
            let values_hold = if self.allow {
                !lines.is_empty() && lines.iter().all(|line| among(&condition.values, line))
            } else {
                lines.iter().any(|line| among(&condition.values, line))
            };
            let not_values_hold = if self.allow {
                !lines.iter().any(|line| among(&condition.not_values, line))
            } else {
                lines.is_empty() || !lines.iter().all(|line| among(&condition.not_values, line))
            };
            return (!given(&condition.values) || values_hold) && (!given(&condition.not_values) || not_values_hold);
        }
        let test = |value: &str| match key {
            "source.ip" => in_block(value, call.source_ip),
            "remote.ip" => in_block(value, self.remote_ip()),
            "destination.ip" => in_block(value, call.destination.ip()),
            "destination.port" => value == call.destination.port().to_string(),
            "source.namespace" => self.peer_namespace(value),
            "source.principal" => self.principal(value),
            "source.serviceAccount" => self.service_account(value),
            "source.trustDomain" => self.trust_domain(value),
            "connection.sni" => call.sni.as_ref().is_some_and(|sni| wildcard(value, &sni.to_lowercase())),
            "request.headers[:path]" => wildcard(value, &call.path_and_query),
            "request.headers[:authority]" => wildcard(value, &call.host),
            "request.auth.principal" => self.request_principal(value),
            "request.auth.audiences" => self.claim(&["aud"], value),
            "request.auth.presenter" => self.claim(&["azp"], value),
            "request.auth.claims[group]" => self.claim(&["group"], value),
            "request.auth.claims[nested][a.b]" => self.claim(&["nested", "a.b"], value),
            _ => false,
        };
        any(&condition.values, &test) && none(&condition.not_values, &test)
    }

    fn remote_ip(&self) -> IpAddr {
        let otherwise = if self.call.tcp { self.call.source_ip } else { self.call.remote_ip };
        self.call.fixed_remote_ip.unwrap_or(otherwise)
    }

    /// The table of authorization policies' requestPrincipals, row by row.
    fn request_principal(&self, value: &str) -> bool {
        let Some(token) = &self.call.token else { return false };
        let text = |name| token.claim(name).and_then(|value| value.as_str());
        let (Some(iss), Some(sub)) = (text("iss"), text("sub")) else { return false };
        if value == "*" {
            return !iss.is_empty() && !sub.is_empty();
        }
        let Some(slash) = value.rfind('/') else {
            return if let Some(end) = value.strip_prefix('*') {
                !iss.is_empty() && sub.ends_with(end)
            } else if let Some(start) = value.strip_suffix('*') {
                iss.starts_with(start) && !sub.is_empty()
            } else {
                iss == value && sub.is_empty()
            };
        };
        let part = |pattern: &str, value: &str| wildcard(pattern, value) && (pattern != "*" || !value.is_empty());
        part(&value[..slash], iss) && part(&value[slash + 1..], sub)
    }

    fn claim(&self, path: &[&str], pattern: &str) -> bool {
        let Some(token) = &self.call.token else { return false };
        let mut claim = token.claim(path[0]).cloned();
        for name in &path[1..] {
            claim = claim.and_then(|claim| claim.as_object().and_then(|object| object.get(*name)).cloned());
        }
        let texts: Vec<String> = match claim {
            Some(serde_json::Value::String(text)) => vec![text],
            Some(serde_json::Value::Array(items)) => {
                items.iter().filter_map(|item| item.as_str()).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        texts.iter().any(|text| wildcard(pattern, text) && (pattern != "*" || !text.is_empty()))
    }

    /// Domain, namespace and service account of the peer.
    fn parts(&self) -> Option<(&str, &str, &str)> {
        let text = self.call.peer.as_ref()?.as_str().strip_prefix("spiffe://")?;
        match text.split('/').collect::<Vec<_>>()[..] {
            [domain, "ns", namespace, "sa", account] => Some((domain, namespace, account)),
            _ => None,
        }
    }

    fn principal(&self, value: &str) -> bool {
        let Some((domain, namespace, account)) = self.parts() else { return false };
        let own = self.mesh.domains.as_slice();
        let parts: Vec<_> = value.split('/').collect();
        let mut meant = vec![value.to_owned()];
        if parts.len() == 5
            && parts[0] != "*"
            && (parts[0] == "cluster.local" || own.iter().any(|own| wildcard(parts[0], own)))
        {
            let rest = parts[1..].join("/");
            meant = own
                .iter()
                .map(|own| {
                    if parts[0].starts_with('*') && wildcard(parts[0], own) {
                        value.to_owned()
                    } else {
                        format!("{own}/{rest}")
                    }
                })
                .collect();
        }
        meant.iter().any(|value| wildcard(value, &format!("{domain}/ns/{namespace}/sa/{account}")))
    }

    fn peer_namespace(&self, value: &str) -> bool {
        self.parts().is_some_and(|(_, namespace, _)| all_stars(value.as_bytes(), namespace.as_bytes()))
    }

    fn service_account(&self, value: &str) -> bool {
        let meant = if value.contains('/') { value.to_owned() } else { format!("{}/{value}", self.namespace) };
        self.parts().is_some_and(|(_, namespace, account)| meant == format!("{namespace}/{account}"))
    }

    fn trust_domain(&self, value: &str) -> bool {
        let own = self.mesh.domains.as_slice();
        let Some((domain, ..)) = self.parts() else { return false };
        if own.contains(&value) { own.contains(&domain) } else { wildcard(value, domain) }
    }
}

fn any(values: &Values, test: &dyn Fn(&str) -> bool) -> bool {
    !given(values) || values.iter().flatten().any(|value| test(value))
}

fn none(values: &Values, test: &dyn Fn(&str) -> bool) -> bool {
    !values.iter().flatten().any(|value| test(value))
}

fn wildcard(pattern: &str, value: &str) -> bool {
    if let Some(suffix) = pattern.strip_prefix('*') {
        value.ends_with(suffix)
    } else if let Some(prefix) = pattern.strip_suffix('*') {
        value.starts_with(prefix)
    } else {
        value == pattern
    }
}

fn all_stars(pattern: &[u8], value: &[u8]) -> bool {
    match pattern.split_first() {
        None => value.is_empty(),
        Some((b'*', rest)) => (0..=value.len()).any(|skipped| all_stars(rest, &value[skipped..])),
        Some((byte, rest)) => value.first() == Some(byte) && all_stars(rest, &value[1..]),
    }
}

/// Templates by trying every length a placeholder could take.
fn path_matches(pattern: &str, path: &str, anything: bool) -> bool {
    if !pattern.contains('{') {
        return wildcard(pattern, path);
    }
    template(pattern, path, &|c| anything || c.is_ascii_alphanumeric() || "-._~%!$&'()*+,;:@=".contains(c))
}

fn template(pattern: &str, path: &str, covered: &dyn Fn(char) -> bool) -> bool {
    if let Some(rest) = pattern.strip_prefix("{**}") {
        (0..=path.len())
            .any(|end| path[..end].chars().all(|c| c == '/' || covered(c)) && template(rest, &path[end..], covered))
    } else if let Some(rest) = pattern.strip_prefix("{*}") {
        (1..=path.len())
            .any(|end| path[..end].chars().all(|c| c != '/' && covered(c)) && template(rest, &path[end..], covered))
    } else if let Some(first) = pattern.chars().next() {
        path.starts_with(first) && template(&pattern[1..], &path[1..], covered)
    } else {
        path.is_empty()
    }
}

fn in_block(block: &str, address: IpAddr) -> bool {
    let (base, length) =
        block.split_once('/').map_or((block, None), |(base, length)| (base, Some(length.parse::<u32>().unwrap())));
    match (base.parse::<IpAddr>().unwrap(), address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - length.unwrap_or(32)).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - length.unwrap_or(128)).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}
