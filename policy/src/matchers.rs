//! How one value is compared with one pattern.
//!
//! A pattern is text: nothing in it ever acts as a regular expression. `*` is special only at the first or the last
//! place, except in namespaces ([`Glob`]) and in path templates ([`Template`](crate::template::Template)).

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::template::Template;
use crate::token::RequestPrincipal;

/// Equal, prefix, suffix or present.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StringMatch {
    /// `*` where an empty value counts as present.
    Any,
    /// `*` where it does not.
    NonEmpty,
    /// `abc`
    Exact(Box<str>),
    /// `abc*`
    Prefix(Box<str>),
    /// `*abc`
    Suffix(Box<str>),
}

impl StringMatch {
    /// Reads a pattern; `star` is what a lone `*` stands for. A leading `*` is looked for before a trailing one, so
    /// `*abc*` ends with the text `abc*`.
    pub(crate) fn parse(pattern: &str, star: StringMatch) -> StringMatch {
        if pattern == "*" {
            star
        } else if let Some(suffix) = pattern.strip_prefix('*') {
            StringMatch::Suffix(suffix.into())
        } else if let Some(prefix) = pattern.strip_suffix('*') {
            StringMatch::Prefix(prefix.into())
        } else {
            StringMatch::Exact(pattern.into())
        }
    }

    /// Byte for byte.
    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        self.matches_by(value, |value, pattern| value == pattern)
    }

    /// With the capitals of the value, and only of the value, read as small letters.
    pub(crate) fn matches_lowered(&self, value: &[u8]) -> bool {
        self.matches_by(value, |value, pattern| {
            value.len() == pattern.len() && value.iter().map(u8::to_ascii_lowercase).eq(pattern.iter().copied())
        })
    }

    fn matches_by(&self, value: &[u8], equal: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        match self {
            StringMatch::Any => true,
            StringMatch::NonEmpty => !value.is_empty(),
            StringMatch::Exact(text) => equal(value, text.as_bytes()),
            StringMatch::Prefix(text) => value.get(..text.len()).is_some_and(|head| equal(head, text.as_bytes())),
            StringMatch::Suffix(text) => {
                let tail = value.len().checked_sub(text.len()).and_then(|start| value.get(start..));
                tail.is_some_and(|tail| equal(tail, text.as_bytes()))
            }
        }
    }
}

/// `<issuer>/<subject>`, split at the last `/`, each part by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestPrincipalMatch {
    issuer: StringMatch,
    subject: StringMatch,
}

impl RequestPrincipalMatch {
    /// Reads a pattern. Without a `/` a `*` at one end leaves the part beyond that end open; without a `*` as well it is an
    /// issuer whose subject is empty, as Istio reads it.
    pub(crate) fn parse(pattern: &str) -> RequestPrincipalMatch {
        let (issuer, subject) = match pattern.rsplit_once('/') {
            Some(parts) => parts,
            None if pattern.starts_with('*') => ("*", pattern),
            None if pattern.ends_with('*') => (pattern, "*"),
            None => (pattern, ""),
        };
        let part = |text| StringMatch::parse(text, StringMatch::NonEmpty);
        RequestPrincipalMatch { issuer: part(issuer), subject: part(subject) }
    }

    pub(crate) fn matches(&self, principal: RequestPrincipal<'_>) -> bool {
        self.issuer.matches(principal.issuer.as_bytes()) && self.subject.matches(principal.subject.as_bytes())
    }
}

/// Text in which every `*` stands for any text, also none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Glob {
    /// No `*` in it.
    Exact(Box<str>),
    /// What stands before the first `*`, between the stars, and after the last.
    Stars {
        /// Before the first `*`.
        prefix: Box<str>,
        /// Between two of them, in order.
        middle: Box<[Box<str>]>,
        /// After the last.
        suffix: Box<str>,
    },
}

impl Glob {
    /// Reads a pattern; there is no wrong one.
    pub(crate) fn parse(pattern: &str) -> Glob {
        let Some((prefix, rest)) = pattern.split_once('*') else {
            return Glob::Exact(pattern.into());
        };
        let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = middle.split('*').filter(|piece| !piece.is_empty()).map(Into::into).collect();
        Glob::Stars { prefix: prefix.into(), middle, suffix: suffix.into() }
    }

    /// Whether the whole value fits.
    pub(crate) fn matches(&self, value: &str) -> bool {
        match self {
            Glob::Exact(text) => **text == *value,
            Glob::Stars { prefix, middle, suffix } => {
                let inner = value.strip_prefix(&**prefix).and_then(|rest| rest.strip_suffix(&**suffix));
                // Taking each piece at its first place leaves the most room for the ones after it.
                let fits = |rest: &str| {
                    middle.iter().try_fold(rest, |rest, piece| Some(rest.split_once(&**piece)?.1)).is_some()
                };
                inner.is_some_and(fits)
            }
        }
    }
}

/// One value of `paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathMatch {
    /// Without placeholders.
    Text(StringMatch),
    /// With `{*}` or `{**}`.
    Template(Box<Template>),
}

impl PathMatch {
    /// Whether the path, without its query, fits.
    pub(crate) fn matches(&self, path: &str) -> bool {
        match self {
            PathMatch::Text(text) => text.matches(path.as_bytes()),
            PathMatch::Template(template) => template.matches(path),
        }
    }
}

/// An address or a block of addresses. Host bits are ignored, and IPv4 and IPv6 never match each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct IpBlock(IpNet);

impl IpBlock {
    /// Reads `10.0.0.1`, `10.0.0.0/8`, `2001:db8::/32`. A v4-mapped block is the IPv4 block it maps, as addresses
    /// are: left as IPv6 it could never match anything.
    pub(crate) fn parse(text: &str) -> Option<IpBlock> {
        // Go, and so Istio, takes no length with a leading zero.
        if text.split_once('/').is_some_and(|(_, length)| length.len() > 1 && length.starts_with('0')) {
            return None;
        }
        let net = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().ok()?,
        };
        if let IpNet::V6(v6) = net
            && let Some(v4) = v6.addr().to_ipv4_mapped()
            && let Some(length) = v6.prefix_len().checked_sub(96)
        {
            return Ipv4Net::new(v4, length).ok().map(|net| IpBlock(net.into()));
        }
        Some(IpBlock(net))
    }

    /// Without host bits.
    pub(crate) fn net(self) -> IpNet {
        self.0.trunc()
    }

    /// Whether the block holds the address; a v4-mapped address (of a dual-stack socket) counts as IPv4.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_outer_star_is_special() {
        for (pattern, value, expected) in [
            ("*", "x", true),
            ("*", "", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("abc*", "abc", true),
            ("abc*", "abcd", true),
            ("abc*", "ab", false),
            ("*abc", "abc", true),
            ("*abc", "xabc", true),
            ("*abc", "bc", false),
            ("*abc*", "xabc*", true),
            ("*abc*", "xabcd", false),
            ("a*b", "a*b", true),
            ("a*b", "axb", false),
            ("a.c", "abc", false),
        ] {
            let found = StringMatch::parse(pattern, StringMatch::NonEmpty).matches(value.as_bytes());
            assert_eq!(found, expected, "{pattern} against {value}");
        }
        assert!(StringMatch::parse("*", StringMatch::Any).matches(b""));
    }

    #[test]
    fn lowers_the_value_but_not_the_pattern() {
        let parse = |pattern| StringMatch::parse(pattern, StringMatch::NonEmpty);
        assert!(parse("a.example").matches_lowered(b"A.Example"));
        assert!(parse("*.example").matches_lowered(b"A.EXAMPLE"));
        assert!(parse("a.*").matches_lowered(b"A.EXAMPLE"));
        assert!(!parse("A.example").matches_lowered(b"A.example"));
    }

    #[test]
    fn every_star_of_a_glob_is_any_text() {
        for (pattern, value, expected) in [
            ("prod", "prod", true),
            ("prod", "prods", false),
            ("*", "x", true),
            ("p*", "p", true),
            ("p*d", "prod", true),
            ("p*d", "pd", true),
            ("p*p", "p", false),
            ("*ro*", "prod", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*b*b", "ab", false),
            ("a**b", "ab", true),
            ("a.b", "axb", false),
        ] {
            assert_eq!(Glob::parse(pattern).matches(value), expected, "{pattern} against {value}");
        }
    }

    #[test]
    fn blocks_ignore_host_bits_and_never_mix_families() {
        for (block, address, expected) in [
            ("192.168.7.9/30", "192.168.7.8", true),
            ("192.168.7.9/30", "192.168.7.12", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("::/0", "10.0.0.1", false),
            ("::/0", "2001:db8::1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::5/32", "2001:db8:1::", true),
        ] {
            let block_read = IpBlock::parse(block).unwrap();
            assert_eq!(block_read.contains(address.parse().unwrap()), expected, "{block} against {address}");
        }
        for wrong in ["", "10.0.0", "10.0.0.0/33", "a", "10.0.0.1:80", "10.0.0.0/", "10.0.0.0/08", "[::1]"] {
            assert_eq!(IpBlock::parse(wrong), None, "{wrong}");
        }
    }
}
