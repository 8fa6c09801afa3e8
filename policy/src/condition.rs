//! One attribute against the values a policy gives for it.
//!
//! A condition belongs to one of two kinds by its type: a [`ConnectionTest`] is answered once a connection, a
//! [`RequestTest`] once a request. The split is what lets [`PolicySet::reduce`](crate::PolicySet::reduce) leave only
//! requests' tests behind.

use std::net::IpAddr;

use http::HeaderName;
use meshgate_identity::SpiffeId;

use crate::field::{Field, Written};
use crate::matchers::{Glob, IpBlock, PathMatch, RequestPrincipalMatch, StringMatch};
use crate::request::{ConnectionFacts, Protocol, RemoteIp, RequestView};
use crate::smi::Pattern;
use crate::token::{self, Token};

/// A test, whether it is asked for or against, and how it was written.
#[derive(Clone, Debug)]
pub(crate) struct Condition<T> {
    /// Where it stands in the rule: `to[0].operation.methods`.
    pub(crate) field: Field,
    /// As written; for people only.
    pub(crate) values: Written,
    /// A `not` form: holds when the test does not.
    pub(crate) negated: bool,
    /// What is compared.
    pub(crate) test: T,
}

/// What a connection's facts answer. One matching value is enough.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ConnectionTest {
    Principals(Box<[StringMatch]>),
    Namespaces(Box<[Glob]>),
    ServiceAccounts(Box<[ServiceAccount]>),
    TrustDomains(Box<[StringMatch]>),
    SourceIp(Box<[IpBlock]>),
    DestinationIp(Box<[IpBlock]>),
    DestinationPort(Box<[u16]>),
    Sni(Box<[StringMatch]>),
    /// `experimental.*`: metadata of filters that do not exist here, so no value ever matches.
    Metadata,
    /// SMI's subjects: service accounts of the own trust domain under each of its names, which come with compilation; until
    /// then there are none, and nobody is meant.
    LocalAccounts {
        accounts: Box<[ServiceAccount]>,
        trust_domains: Box<[Box<str>]>,
    },
    /// The port that was called, as the container or as the service counts it.
    Ports(Box<[u16]>),
    Protocol(Protocol),
    /// Never matches: stands for a route that is not there.
    Nothing,
}

/// What it takes a request to answer. One matching value is enough.
#[derive(Clone, Debug)]
pub(crate) enum RequestTest {
    /// The one test that is not about HTTP, and that a connection may answer: see [`RemoteIp`].
    RemoteIp(Box<[IpBlock]>),
    Hosts(Box<[StringMatch]>),
    Methods(Box<[StringMatch]>),
    Paths(Box<[PathMatch]>),
    Header {
        name: HeaderName,
        lines: Lines,
        values: Box<[StringMatch]>,
    },
    /// `request.headers[:authority]` and `[host]`: as `Hosts`, but case-sensitive.
    Authority(Box<[StringMatch]>),
    /// `request.headers[:path]`: with the query.
    PathAndQuery(Box<[StringMatch]>),
    Scheme(Box<[StringMatch]>),
    /// SMI's methods; `*` is every one but CONNECT.
    MethodList {
        any: bool,
        listed: Box<[Box<str>]>,
    },
    PathRegex(Pattern),
    /// The whole value, of several lines joined by commas; an absent header never matches.
    HeaderRegex {
        name: HeaderName,
        pattern: Pattern,
    },
    /// Whom a verified token speaks for.
    RequestPrincipals(Box<[RequestPrincipalMatch]>),
    /// A claim of a verified token: its text, or a text in its list.
    Claim {
        /// Names from the outside in.
        path: Box<[Box<str>]>,
        values: Box<[StringMatch]>,
    },
}

/// How many lines of a repeated header must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// One is enough: where a match refuses, so that a harmless second line hides nothing.
    Any,
    /// All, and there is at least one: where a match lets in, so that a second line smuggles nothing in.
    All,
}

/// A service account in its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServiceAccount {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
}

impl Condition<ConnectionTest> {
    /// Whether the condition holds on this connection.
    pub(crate) fn holds(&self, facts: &ConnectionFacts<'_>) -> bool {
        self.test.matches(facts) != self.negated
    }
}

impl Condition<RequestTest> {
    /// The answer when no request is needed for it. On TCP a field that needs HTTP holds, which widens the rule; an
    /// ALLOW rule with such a field is void before this is asked.
    pub(crate) fn settled(&self, facts: &ConnectionFacts<'_>) -> Option<bool> {
        if facts.protocol == Protocol::Tcp && self.test.http_only() {
            return Some(true);
        }
        let matches = match &self.test {
            RequestTest::RemoteIp(blocks) => contain(blocks, connection_remote_ip(facts)?),
            _ => return None,
        };
        Some(matches != self.negated)
    }

    /// Whether the condition holds for a request that it was left over for.
    pub(crate) fn holds(&self, request: &RequestView<'_>) -> bool {
        self.test.matches(request) != self.negated
    }

    /// The header it asks about.
    pub(crate) fn header(&self) -> Option<&HeaderName> {
        match &self.test {
            RequestTest::Header { name, .. } | RequestTest::HeaderRegex { name, .. } => Some(name),
            _ => None,
        }
    }
}

impl ConnectionTest {
    fn matches(&self, facts: &ConnectionFacts<'_>) -> bool {
        let peer = |matches: &dyn Fn(&SpiffeId) -> bool| facts.peer.is_some_and(matches);
        match self {
            ConnectionTest::Principals(values) => peer(&|id| any(values, id.principal().as_bytes())),
            ConnectionTest::TrustDomains(values) => peer(&|id| any(values, id.trust_domain_str().as_bytes())),
            ConnectionTest::Namespaces(values) => {
                peer(&|id| id.namespace().is_some_and(|namespace| values.iter().any(|value| value.matches(namespace))))
            }
            ConnectionTest::ServiceAccounts(values) => peer(&|id| values.iter().any(|value| value.is(id))),
            ConnectionTest::SourceIp(blocks) => contain(blocks, facts.source_ip),
            ConnectionTest::DestinationIp(blocks) => contain(blocks, facts.destination.ip()),
            ConnectionTest::DestinationPort(ports) => ports.contains(&facts.destination.port()),
            ConnectionTest::Sni(values) => {
                facts.sni.is_some_and(|sni| values.iter().any(|value| value.matches_lowered(sni.as_bytes())))
            }
            ConnectionTest::LocalAccounts { accounts, trust_domains } => peer(&|id| {
                trust_domains.iter().any(|domain| **domain == *id.trust_domain_str())
                    && accounts.iter().any(|account| account.is(id))
            }),
            ConnectionTest::Ports(ports) => {
                let called = [Some(facts.destination.port()), facts.service_port];
                called.into_iter().flatten().any(|port| ports.contains(&port))
            }
            ConnectionTest::Protocol(protocol) => facts.protocol == *protocol,
            ConnectionTest::Metadata | ConnectionTest::Nothing => false,
        }
    }

    /// What the connection shows for this test, for people.
    pub(crate) fn seen(&self, facts: &ConnectionFacts<'_>) -> String {
        match self {
            ConnectionTest::Principals(_)
            | ConnectionTest::Namespaces(_)
            | ConnectionTest::ServiceAccounts(_)
            | ConnectionTest::TrustDomains(_)
            | ConnectionTest::LocalAccounts { .. } => {
                facts.peer.map_or_else(|| "no identity".to_owned(), |id| id.principal().to_owned())
            }
            ConnectionTest::SourceIp(_) => facts.source_ip.to_string(),
            ConnectionTest::DestinationIp(_) => facts.destination.ip().to_string(),
            ConnectionTest::DestinationPort(_) => facts.destination.port().to_string(),
            ConnectionTest::Sni(_) => facts.sni.unwrap_or("no server name").to_owned(),
            ConnectionTest::Metadata => "no metadata".to_owned(),
            ConnectionTest::Ports(_) => match facts.service_port {
                Some(port) => format!("{} (of the service: {port})", facts.destination.port()),
                None => facts.destination.port().to_string(),
            },
            ConnectionTest::Protocol(_) => match facts.protocol {
                Protocol::Http => "HTTP".to_owned(),
                Protocol::Tcp => "TCP".to_owned(),
            },
            ConnectionTest::Nothing => "nothing".to_owned(),
        }
    }
}

impl RequestTest {
    /// Whether it is about what a token says.
    pub(crate) fn is_token(&self) -> bool {
        matches!(self, RequestTest::RequestPrincipals(_) | RequestTest::Claim { .. })
    }

    /// Whether there are connections that answer it and others that do not.
    pub(crate) fn may_be_settled(&self) -> bool {
        matches!(self, RequestTest::RemoteIp(_))
    }

    /// Whether there is nothing to compare on a TCP connection.
    pub(crate) fn http_only(&self) -> bool {
        !matches!(self, RequestTest::RemoteIp(_))
    }

    fn matches(&self, request: &RequestView<'_>) -> bool {
        match self {
            RequestTest::RemoteIp(blocks) => contain(blocks, request.remote_ip),
            RequestTest::Hosts(values) => values.iter().any(|value| value.matches_lowered(request.host.as_bytes())),
            RequestTest::Methods(values) => any(values, request.method.as_bytes()),
            RequestTest::Paths(values) => values.iter().any(|value| value.matches(request.path)),
            RequestTest::Header { name, lines, values } => {
                let mut found =
                    request.headers.get_all(name).iter().map(|line| line.as_bytes().trim_ascii()).peekable();
                match lines {
                    Lines::Any => found.any(|line| any(values, line)),
                    Lines::All => found.peek().is_some() && found.all(|line| any(values, line)),
                }
            }
            RequestTest::Authority(values) => any(values, request.host.as_bytes()),
            RequestTest::PathAndQuery(values) => any(values, request.path_and_query.as_bytes()),
            RequestTest::Scheme(values) => any(values, request.scheme.as_bytes()),
            RequestTest::MethodList { any, listed } => {
                listed.iter().any(|method| **method == *request.method) || *any && request.method != "CONNECT"
            }
            RequestTest::PathRegex(pattern) => pattern.matches(request.path.as_bytes()),
            RequestTest::HeaderRegex { name, pattern } => {
                let mut lines = request.headers.get_all(name).iter().map(|line| line.as_bytes().trim_ascii());
                match (lines.next(), lines.next()) {
                    (None, _) => false,
                    (Some(only), None) => pattern.matches(only),
                    (Some(first), Some(second)) => {
                        let all: Vec<&[u8]> = [first, second].into_iter().chain(lines).collect();
                        pattern.matches(&all.join(&b','))
                    }
                }
            }
            RequestTest::RequestPrincipals(values) => {
                let principal = request.token.and_then(Token::principal);
                principal.is_some_and(|principal| values.iter().any(|value| value.matches(principal)))
            }
            RequestTest::Claim { path, values } => {
                let claim = request.token.and_then(|token| token.nested(path));
                claim.is_some_and(|claim| token::has_text(claim, |text| any(values, text.as_bytes())))
            }
        }
    }

    /// What the request shows for this test, for people; `None` when there is no request to look at.
    pub(crate) fn seen(&self, facts: &ConnectionFacts<'_>, request: Option<&RequestView<'_>>) -> Option<String> {
        Some(match self {
            RequestTest::RemoteIp(_) => connection_remote_ip(facts).or(Some(request?.remote_ip))?.to_string(),
            RequestTest::RequestPrincipals(_) => match request?.token {
                None => "no token".to_owned(),
                Some(token) => token
                    .principal()
                    .map_or_else(|| "a token without issuer or subject".to_owned(), |principal| principal.to_string()),
            },
            RequestTest::Claim { path, .. } => match request?.token {
                None => "no token".to_owned(),
                Some(token) => token.nested(path).map_or_else(|| "no such claim".to_owned(), ToString::to_string),
            },
            RequestTest::Hosts(_) | RequestTest::Authority(_) => request?.host.to_owned(),
            RequestTest::Methods(_) | RequestTest::MethodList { .. } => request?.method.to_owned(),
            RequestTest::Paths(_) | RequestTest::PathRegex(_) => request?.path.to_owned(),
            RequestTest::PathAndQuery(_) => request?.path_and_query.to_owned(),
            RequestTest::Scheme(_) => request?.scheme.to_owned(),
            RequestTest::Header { name, .. } | RequestTest::HeaderRegex { name, .. } => {
                let lines: Vec<_> = request?
                    .headers
                    .get_all(name)
                    .iter()
                    .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
                    .collect();
                if lines.is_empty() { "no such header".to_owned() } else { lines.join(" and ") }
            }
        })
    }
}

impl ServiceAccount {
    fn is(&self, id: &SpiffeId) -> bool {
        id.namespace() == Some(&*self.namespace) && id.service_account() == Some(&*self.name)
    }
}

/// The client's address where the connection alone tells it.
fn connection_remote_ip(facts: &ConnectionFacts<'_>) -> Option<IpAddr> {
    match (facts.remote_ip, facts.protocol) {
        (RemoteIp::Fixed(address), _) => Some(address),
        (RemoteIp::PerRequest, Protocol::Tcp) => Some(facts.source_ip),
        (RemoteIp::PerRequest, Protocol::Http) => None,
    }
}

fn any(values: &[StringMatch], text: &[u8]) -> bool {
    values.iter().any(|value| value.matches(text))
}

fn contain(blocks: &[IpBlock], address: IpAddr) -> bool {
    blocks.iter().any(|block| block.contains(address))
}
