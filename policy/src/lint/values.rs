//! Values that never match, or match less than it seems.

use super::{
    Findings, HOST_WITHOUT_PORT_FORM, Known, METHOD_IN_LOWER_CASE, PATH_WITH_QUERY, PRINCIPAL_WITH_SCHEME,
    REMOTE_IP_WITHOUT_PROXIES, SNI_WITH_CAPITALS,
};
use crate::condition::{Condition, ConnectionTest, RequestTest};
use crate::matchers::StringMatch;
use crate::model::{Action, AnyCondition};

pub(super) fn look(findings: &mut Findings<'_>, known: &Known) {
    for (index, rule) in findings.policy.rules.iter().enumerate() {
        for condition in rule.conditions() {
            let field = format!("rules[{index}].{}", condition.field());
            match condition {
                AnyCondition::Connection(condition) => {
                    never_matches(findings, &field, condition, of_connection);
                }
                AnyCondition::Request(condition) => {
                    never_matches(findings, &field, condition, of_request);
                    if known.num_trusted_proxies == Some(0) && matches!(condition.test, RequestTest::RemoteIp(_)) {
                        let message = format!(
                            "{field} is compared with the peer's own address, as no proxy in front is trusted: say \
                             `ipBlocks` (`source.ip`), or set `numTrustedProxies`"
                        );
                        findings.add(REMOTE_IP_WITHOUT_PROXIES, message);
                    }
                    hosts(findings, &field, condition);
                }
            }
        }
    }
}

fn never_matches<T>(
    findings: &mut Findings<'_>,
    field: &str,
    condition: &Condition<T>,
    why: impl Fn(&T, &str) -> Option<(&'static str, &'static str)>,
) {
    for value in condition.values.iter() {
        if let Some((code, advice)) = why(&condition.test, value) {
            findings.add(code, format!("{field}: {value} never matches: {advice}"));
        }
    }
}

fn of_connection(test: &ConnectionTest, value: &str) -> Option<(&'static str, &'static str)> {
    match test {
        ConnectionTest::Principals(_) if value.starts_with("spiffe://") => {
            Some((PRINCIPAL_WITH_SCHEME, "a principal is written without spiffe://"))
        }
        ConnectionTest::Sni(_) if value.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Some((SNI_WITH_CAPITALS, "server names are compared in lower case"))
        }
        _ => None,
    }
}

fn of_request(test: &RequestTest, value: &str) -> Option<(&'static str, &'static str)> {
    match test {
        RequestTest::Paths(_) if value.contains('?') => Some((
            PATH_WITH_QUERY,
            "a path is compared without its query; for both together there is the key request.headers[:path]",
        )),
        RequestTest::Paths(_) | RequestTest::PathAndQuery(_) if value.contains('#') => {
            Some((PATH_WITH_QUERY, "a request with a fragment in its path is refused before any policy is asked"))
        }
        RequestTest::Methods(_) if value.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            Some((METHOD_IN_LOWER_CASE, "methods are compared with regard to case, and clients send capitals"))
        }
        _ => None,
    }
}

/// A host is compared as it was sent: with a port, or without.
fn hosts(findings: &mut Findings<'_>, field: &str, condition: &Condition<RequestTest>) {
    let RequestTest::Hosts(values) = &condition.test else { return };
    if findings.policy.action != Action::Deny || condition.negated {
        return;
    }
    let listed = |text: &str| values.iter().any(|value| value.matches(text.as_bytes()));
    for value in values {
        let (named, other, sent) = match value {
            StringMatch::Exact(host) if !host.contains(':') => {
                (host.to_string(), format!("{host}:*"), format!("{host}:"))
            }
            StringMatch::Prefix(start) => match start.strip_suffix(':') {
                Some(host) => (format!("{start}*"), host.to_owned(), host.to_owned()),
                None => continue,
            },
            _ => continue,
        };
        if !listed(&sent) {
            let message = format!("{field}: {named} is denied and {other} is not: a client chooses which one it sends");
            findings.add(HOST_WITHOUT_PORT_FORM, message);
        }
    }
}
