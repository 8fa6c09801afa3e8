//! What a field or a `when` key looks at, and how its values are read.
//!
//! `from`, `to` and `when` name the same attributes in different words; here each is read in one way only.

use std::sync::Arc;

use http::HeaderName;

use crate::condition::{Condition, ConnectionTest, Lines, RequestTest, ServiceAccount};
use crate::istio::report::Report;
use crate::matchers::{Glob, IpBlock, PathMatch, RequestPrincipalMatch, StringMatch};
use crate::model::{Action, AnyCondition};
use crate::template::{Fills, Template};

/// The limits of Istio's schema for one list of service accounts, and for one value in bytes.
const SERVICE_ACCOUNTS_MAX: usize = 16;
const SERVICE_ACCOUNT_MAX: usize = 320;

/// Something a condition can look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
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
    Header(HeaderName),
    Authority,
    PathAndQuery,
    Scheme,
    /// Whom a token speaks for.
    RequestPrincipal,
    /// A claim of a token, by its names from the outside in.
    Claim(Box<[Box<str>]>),
    /// Dynamic metadata of an Envoy filter.
    Metadata,
}

/// Where a list of values stands, and what that makes of it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The rule: `spec.rules[0]`.
    pub(super) rule: &'a str,
    /// The list in the rule: `from[0].source.principals`.
    pub(super) field: &'a str,
    /// The policy's namespace.
    pub(super) namespace: &'a str,
    /// What a match of the rule means.
    pub(super) action: Action,
    /// Whether this is a `not` form.
    pub(super) negated: bool,
}

impl Place<'_> {
    /// Whether a match of one of the values speaks against the request. In doubt such a match is the wider one.
    fn match_refuses(&self) -> bool {
        (self.action == Action::Allow) == self.negated
    }

    /// Reads every value; what is wrong is reported and left out.
    fn read<T>(&self, values: &[String], report: &mut Report, parse: impl Fn(&str) -> Result<T, String>) -> Box<[T]> {
        let mut read = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            let parsed = match value {
                _ if value.is_empty() => Err("must not be empty".to_owned()),
                // Nothing that could match has one, and values are kept with one between them.
                _ if value.contains('\0') => Err("must not have a NUL character".to_owned()),
                _ => parse(value),
            };
            match parsed {
                Ok(value) => read.push(value),
                Err(message) => report.add(format!("{}.{}[{index}]", self.rule, self.field), message),
            }
        }
        read.into()
    }
}

impl Attribute {
    /// Whether a CUSTOM rule may look at it, as Istio's webhook has it.
    pub(super) fn may_ask_provider(&self) -> bool {
        matches!(
            self,
            Attribute::SourceIp
                | Attribute::RemoteIp
                | Attribute::DestinationIp
                | Attribute::DestinationPort
                | Attribute::Sni
                | Attribute::Host
                | Attribute::Method
                | Attribute::Path
                | Attribute::Header(_)
                | Attribute::Authority
                | Attribute::PathAndQuery
                | Attribute::Scheme
        )
    }

    /// The condition that one of the values (in a `not` form: none of them) matches.
    pub(super) fn condition(&self, values: Vec<String>, place: Place<'_>, report: &mut Report) -> AnyCondition {
        let test = self.test(&values, place, report);
        let (field, values, negated) = (place.field.into(), values.into(), place.negated);
        match test {
            Test::Connection(test) => AnyCondition::Connection(Box::new(Condition { field, values, negated, test })),
            Test::Request(test) => AnyCondition::Request(Arc::new(Condition { field, values, negated, test })),
        }
    }

    fn test(&self, values: &[String], place: Place<'_>, report: &mut Report) -> Test {
        use Test::{Connection, Request};
        let any = || string(StringMatch::Any);
        let non_empty = || string(StringMatch::NonEmpty);
        match self {
            Attribute::Principal => Connection(ConnectionTest::Principals(place.read(values, report, non_empty()))),
            Attribute::Namespace => {
                Connection(ConnectionTest::Namespaces(place.read(values, report, |text| Ok(Glob::parse(text)))))
            }
            Attribute::ServiceAccount => {
                if values.len() > SERVICE_ACCOUNTS_MAX {
                    let message = format!("at most {SERVICE_ACCOUNTS_MAX} service accounts are allowed");
                    report.add(format!("{}.{}", place.rule, place.field), message);
                }
                let parse = |text: &str| service_account(text, place.namespace);
                Connection(ConnectionTest::ServiceAccounts(place.read(values, report, parse)))
            }
            Attribute::TrustDomain => {
                Connection(ConnectionTest::TrustDomains(place.read(values, report, trust_domain)))
            }
            Attribute::SourceIp => Connection(ConnectionTest::SourceIp(place.read(values, report, ip_block))),
            Attribute::DestinationIp => Connection(ConnectionTest::DestinationIp(place.read(values, report, ip_block))),
            Attribute::DestinationPort => Connection(ConnectionTest::DestinationPort(place.read(values, report, port))),
            Attribute::Sni => Connection(ConnectionTest::Sni(place.read(values, report, non_empty()))),
            Attribute::Metadata => {
                place.read(values, report, |_| Ok(()));
                Connection(ConnectionTest::Metadata)
            }
            Attribute::RemoteIp => Request(RequestTest::RemoteIp(place.read(values, report, ip_block))),
            Attribute::Host => {
                Request(RequestTest::Hosts(place.read(values, report, |text| any()(&text.to_ascii_lowercase()))))
            }
            Attribute::Method => Request(RequestTest::Methods(place.read(values, report, any()))),
            Attribute::Path => {
                let fills = if place.match_refuses() { Fills::Anything } else { Fills::SegmentCharacters };
                Request(RequestTest::Paths(place.read(values, report, |text| path(text, fills))))
            }
            Attribute::Header(name) => Request(RequestTest::Header {
                name: name.clone(),
                lines: if place.match_refuses() { Lines::Any } else { Lines::All },
                values: place.read(values, report, any()),
            }),
            Attribute::Authority => Request(RequestTest::Authority(place.read(values, report, any()))),
            Attribute::PathAndQuery => Request(RequestTest::PathAndQuery(place.read(values, report, any()))),
            Attribute::Scheme => Request(RequestTest::Scheme(place.read(values, report, any()))),
            Attribute::RequestPrincipal => {
                let parse = |text: &str| Ok(RequestPrincipalMatch::parse(text));
                Request(RequestTest::RequestPrincipals(place.read(values, report, parse)))
            }
            Attribute::Claim(path) => {
                Request(RequestTest::Claim { path: path.clone(), values: place.read(values, report, non_empty()) })
            }
        }
    }
}

/// A test of either kind.
enum Test {
    Connection(ConnectionTest),
    Request(RequestTest),
}

fn string(star: StringMatch) -> impl Fn(&str) -> Result<StringMatch, String> {
    move |text| Ok(StringMatch::parse(text, star.clone()))
}

fn service_account(text: &str, own_namespace: &str) -> Result<ServiceAccount, String> {
    let (namespace, name) = text.split_once('/').unwrap_or((own_namespace, text));
    if text.len() > SERVICE_ACCOUNT_MAX {
        Err(format!("a service account has at most {SERVICE_ACCOUNT_MAX} bytes"))
    } else if text.contains('*') {
        Err("a service account is compared as it is; * is not supported".to_owned())
    } else if namespace.is_empty() || name.is_empty() || name.contains('/') {
        Err("expected <namespace>/<service account>, or <service account> of the policy's namespace".to_owned())
    } else {
        Ok(ServiceAccount { namespace: namespace.into(), name: name.into() })
    }
}

fn trust_domain(text: &str) -> Result<StringMatch, String> {
    let inner = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(text);
    if text.contains('/') {
        Err("a trust domain has no /".to_owned())
    } else if inner.contains('*') {
        Err("one * is allowed, at the first or the last place".to_owned())
    } else {
        Ok(StringMatch::parse(text, StringMatch::NonEmpty))
    }
}

fn ip_block(text: &str) -> Result<IpBlock, String> {
    IpBlock::parse(text).ok_or_else(|| format!("{text:?} is neither an IP address nor a block such as 10.0.0.0/8"))
}

/// Digits only, as in Go; `parse` alone takes a sign.
pub(super) fn port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| text.parse().ok()).flatten();
    port.ok_or_else(|| format!("{text:?} is not a port, 0 to 65535"))
}

fn path(text: &str, fills: Fills) -> Result<PathMatch, String> {
    match Template::parse(text, fills) {
        Ok(Some(template)) => Ok(PathMatch::Template(Box::new(template))),
        Ok(None) => Ok(PathMatch::Text(StringMatch::parse(text, StringMatch::NonEmpty))),
        Err(error) => Err(error.to_string()),
    }
}
