//! What a condition asks for, as texts that can be looked up.

use http::HeaderName;

use super::{Form, Look, Text};
use crate::condition::{Condition, ConnectionTest, RequestTest, ServiceAccount};
use crate::matchers::{Glob, IpBlock, PathMatch, StringMatch};
use crate::request::{ConnectionFacts, RequestView};

/// Where a text is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Principal,
    TrustDomain,
    Namespace,
    ServiceAccount,
    SourceIp,
    DestinationIp,
    DestinationPort,
    Sni,
    RemoteIp,
    Host,
    Method,
    Path,
    Header(HeaderName),
    Authority,
    PathAndQuery,
    Scheme,
}

/// Values of one attribute, of which one must be there.
pub(crate) struct Ask<'a> {
    pub(crate) attribute: Attribute,
    values: Values<'a>,
}

enum Values<'a> {
    Strings(&'a [StringMatch]),
    Globs(&'a [Glob]),
    Accounts(&'a [ServiceAccount]),
    Blocks(&'a [IpBlock]),
    Ports(&'a [u16]),
    Paths(&'a [PathMatch]),
}

impl Condition<ConnectionTest> {
    /// `None` when it holds without any certain text.
    pub(crate) fn ask(&self) -> Option<Ask<'_>> {
        let (attribute, values) = match &self.test {
            _ if self.negated => return None,
            ConnectionTest::Principals(values) => (Attribute::Principal, Values::Strings(values)),
            ConnectionTest::Namespaces(values) => (Attribute::Namespace, Values::Globs(values)),
            ConnectionTest::ServiceAccounts(values) => (Attribute::ServiceAccount, Values::Accounts(values)),
            ConnectionTest::LocalAccounts { accounts, .. } => (Attribute::ServiceAccount, Values::Accounts(accounts)),
            ConnectionTest::TrustDomains(values) => (Attribute::TrustDomain, Values::Strings(values)),
            ConnectionTest::SourceIp(blocks) => (Attribute::SourceIp, Values::Blocks(blocks)),
            ConnectionTest::DestinationIp(blocks) => (Attribute::DestinationIp, Values::Blocks(blocks)),
            ConnectionTest::DestinationPort(ports) => (Attribute::DestinationPort, Values::Ports(ports)),
            ConnectionTest::Sni(values) => (Attribute::Sni, Values::Strings(values)),
            // A kind that is not known here is always tried.
            _ => return None,
        };
        Some(Ask { attribute, values })
    }
}

impl Condition<RequestTest> {
    /// `None` when it holds without any certain text.
    pub(crate) fn ask(&self) -> Option<Ask<'_>> {
        let (attribute, values) = match &self.test {
            _ if self.negated => return None,
            RequestTest::RemoteIp(blocks) => (Attribute::RemoteIp, Values::Blocks(blocks)),
            RequestTest::Hosts(values) => (Attribute::Host, Values::Strings(values)),
            RequestTest::Methods(values) => (Attribute::Method, Values::Strings(values)),
            RequestTest::Paths(values) => (Attribute::Path, Values::Paths(values)),
            // Whether one line must match or all of them: without one that does, it does not hold.
            RequestTest::Header { name, values, .. } => (Attribute::Header(name.clone()), Values::Strings(values)),
            RequestTest::Authority(values) => (Attribute::Authority, Values::Strings(values)),
            RequestTest::PathAndQuery(values) => (Attribute::PathAndQuery, Values::Strings(values)),
            RequestTest::Scheme(values) => (Attribute::Scheme, Values::Strings(values)),
            // A kind that is not known here is always tried.
            _ => return None,
        };
        Some(Ask { attribute, values })
    }
}

impl<'a> Ask<'a> {
    /// Hands over each text with its length; false when some value needs none.
    pub(super) fn texts(&self, mut each: impl FnMut(Form, Text<'a>, usize)) -> bool {
        let mut text = |(form, text): (Form, &'a str)| each(form, Text::Plain(text.as_bytes()), text.len());
        let mut all = true;
        let mut plain = |found: Option<(Form, &'a str)>| match found {
            Some(found) => text(found),
            None => all = false,
        };
        match self.values {
            Values::Strings(values) => values.iter().for_each(|value| plain(string(value))),
            Values::Globs(values) => values.iter().for_each(|value| plain(glob(value))),
            Values::Paths(values) => values.iter().for_each(|value| plain(path(value))),
            Values::Accounts(values) => {
                values.iter().for_each(|account| each(Form::Whole, Text::Pair(&account.namespace, &account.name), 0));
            }
            Values::Ports(ports) => ports.iter().for_each(|port| each(Form::Whole, Text::Number(*port), 0)),
            Values::Blocks(blocks) => {
                for block in blocks {
                    let net = block.net();
                    let form = if net.prefix_len() == net.max_prefix_len() { Form::Whole } else { Form::Beginning };
                    each(form, Text::Address(net.network()), usize::from(net.prefix_len()));
                }
            }
        }
        all
    }
}

fn string(value: &StringMatch) -> Option<(Form, &str)> {
    match value {
        StringMatch::Exact(text) => Some((Form::Whole, text)),
        StringMatch::Prefix(text) => Some((Form::Beginning, text)),
        StringMatch::Suffix(text) => Some((Form::End, text)),
        _ => None,
    }
}

fn glob(value: &Glob) -> Option<(Form, &str)> {
    match value {
        Glob::Exact(text) => Some((Form::Whole, text)),
        Glob::Stars { prefix, suffix, .. } => longer(prefix, suffix),
    }
}

fn path(value: &PathMatch) -> Option<(Form, &str)> {
    match value {
        PathMatch::Text(value) => string(value),
        PathMatch::Template(template) => {
            let (first, last) = template.literals();
            longer(first, last)
        }
    }
}

/// The longer tells more; one of nothing tells nothing.
fn longer<'a>(beginning: &'a str, end: &'a str) -> Option<(Form, &'a str)> {
    let (form, text) = if beginning.len() >= end.len() { (Form::Beginning, beginning) } else { (Form::End, end) };
    (!text.is_empty()).then_some((form, text))
}

impl Look for ConnectionFacts<'_> {
    fn values<'a>(&'a self, attribute: &Attribute, each: &mut dyn FnMut(Text<'a>)) {
        match attribute {
            Attribute::SourceIp => each(Text::Address(self.source_ip.to_canonical())),
            Attribute::DestinationIp => each(Text::Address(self.destination.ip().to_canonical())),
            Attribute::DestinationPort => each(Text::Number(self.destination.port())),
            Attribute::Sni => self.sni.into_iter().for_each(|sni| each(Text::Lowered(sni.as_bytes()))),
            _ => {
                let Some(peer) = self.peer else { return };
                match attribute {
                    Attribute::Principal => each(Text::Plain(peer.principal().as_bytes())),
                    Attribute::TrustDomain => each(Text::Plain(peer.trust_domain_str().as_bytes())),
                    Attribute::Namespace => {
                        peer.namespace().into_iter().for_each(|namespace| each(Text::Plain(namespace.as_bytes())));
                    }
                    Attribute::ServiceAccount => {
                        let pair = peer.namespace().zip(peer.service_account());
                        pair.into_iter().for_each(|(namespace, name)| each(Text::Pair(namespace, name)));
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Look for RequestView<'_> {
    fn values<'a>(&'a self, attribute: &Attribute, each: &mut dyn FnMut(Text<'a>)) {
        match attribute {
            Attribute::RemoteIp => each(Text::Address(self.remote_ip.to_canonical())),
            Attribute::Host => each(Text::Lowered(self.host.as_bytes())),
            Attribute::Method => each(Text::Plain(self.method.as_bytes())),
            Attribute::Path => each(Text::Plain(self.path.as_bytes())),
            Attribute::Authority => each(Text::Plain(self.host.as_bytes())),
            Attribute::PathAndQuery => each(Text::Plain(self.path_and_query.as_bytes())),
            Attribute::Scheme => each(Text::Plain(self.scheme.as_bytes())),
            Attribute::Header(name) => {
                let lines = self.headers.get_all(name).iter();
                lines.for_each(|line| each(Text::Plain(line.as_bytes().trim_ascii())));
            }
            _ => {}
        }
    }
}
