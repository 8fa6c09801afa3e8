//! The values of list options: ports, port ranges and CIDRs, read strictly and kept in one normal form.
//!
//! The one idea: two spellings of the same set give the same rules, so lists are sorted and merged when they are
//! read. It does not judge lists against each other; `options.rs` does.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Either everything (`*`) or what a list names. An empty list names nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection<L> {
    /// `*`
    All,
    /// A list, possibly empty.
    Listed(L),
}

impl<L: FromStr> FromStr for Selection<L> {
    type Err = L::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "*" { Ok(Selection::All) } else { text.parse().map(Selection::Listed) }
    }
}

impl<L: fmt::Display> fmt::Display for Selection<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selection::All => f.write_str("*"),
            Selection::Listed(list) => list.fmt(f),
        }
    }
}

/// TCP ports from `first` to `last`, both included; a single port has the two equal. Never port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The lowest port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether this is one port only.
    pub fn is_single(self) -> bool {
        self.first == self.last
    }

    /// The ports that are in both ranges, if any.
    pub fn intersection(self, other: PortRange) -> Option<PortRange> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(PortRange { first, last })
    }
}

impl FromStr for PortRange {
    type Err = ListError;

    /// `8080`, or `8000-8100`; `8000:8100` is the same, as iptables and linkerd write it.
    fn from_str(text: &str) -> Result<Self, ListError> {
        let (first, last) = text.split_once(['-', ':']).unwrap_or((text, text));
        let port = |part: &str| match part.parse::<u16>() {
            Ok(port) if port > 0 && part.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
            _ => Err(ListError::Port { item: text.to_owned() }),
        };
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(ListError::ReversedRange { item: text.to_owned() });
        }
        Ok(PortRange { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// Ports as a comma-separated list, sorted, without overlaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortList(Vec<PortRange>);

impl PortList {
    /// The ranges, ascending.
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    /// Whether the list names no port.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first ports that both lists name, if any.
    pub fn intersection(&self, other: &PortList) -> Option<PortRange> {
        self.0.iter().find_map(|ours| other.0.iter().find_map(|theirs| ours.intersection(*theirs)))
    }
}

impl FromStr for PortList {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let mut ranges = items(text).map(PortRange::from_str).collect::<Result<Vec<_>, _>>()?;
        ranges.sort_unstable();
        // nftables refuses a set whose intervals overlap.
        ranges.dedup_by(|next, kept| {
            let overlap = next.first <= kept.last;
            if overlap {
                kept.last = kept.last.max(next.last);
            }
            overlap
        });
        Ok(PortList(ranges))
    }
}

impl fmt::Display for PortList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &self.0)
    }
}

/// Networks of either family as a comma-separated list, sorted, without repeats, host bits cleared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CidrList(Vec<IpNet>);

impl CidrList {
    /// The networks, IPv4 first.
    pub fn networks(&self) -> &[IpNet] {
        &self.0
    }
}

impl FromStr for CidrList {
    type Err = ListError;

    /// `10.0.0.0/8,fd00::/8`; a bare address is a network of one.
    fn from_str(text: &str) -> Result<Self, ListError> {
        let network = |item: &str| {
            item.parse::<IpNet>()
                .or_else(|_| item.parse::<IpAddr>().map(IpNet::from))
                .map(|network| network.trunc())
                .map_err(|_| ListError::Cidr { item: item.to_owned() })
        };
        let mut networks = items(text).map(network).collect::<Result<Vec<_>, _>>()?;
        networks.sort_unstable();
        networks.dedup();
        Ok(CidrList(networks))
    }
}

impl fmt::Display for CidrList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &self.0)
    }
}

/// Why a list could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Not a port or a range of ports.
    #[error("{item:?} is not a port: want 1 to 65535, or a range such as 8000-8100")]
    Port {
        /// The item as written.
        item: String,
    },
    /// A range that ends before it starts.
    #[error("{item:?} is a range that ends before it starts")]
    ReversedRange {
        /// The item as written.
        item: String,
    },
    /// Not an address or a network.
    #[error("{item:?} is not a network: want a CIDR such as 10.0.0.0/8, or an address")]
    Cidr {
        /// The item as written.
        item: String,
    },
}

/// The trimmed items of a comma-separated list. Text without any is the empty list; an empty item among others is
/// passed on, to be refused: it is more likely a slip than an intention.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim();
    text.split(',').map(str::trim).filter(move |_| !text.is_empty())
}

fn write_list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports_into_one_normal_form() {
        for (text, normal) in [
            ("", ""),
            ("  ", ""),
            ("80", "80"),
            (" 443 , 80 ", "80,443"),
            ("80,80", "80"),
            ("8000:8100", "8000-8100"),
            ("8000-8100,8050-8200,9000", "8000-8200,9000"),
            ("8000-8100,8010", "8000-8100"),
            ("8000-8100,8101", "8000-8100,8101"),
        ] {
            let list: PortList = text.parse().unwrap();
            assert_eq!(list.to_string(), normal, "{text:?}");
            assert_eq!(normal.parse::<PortList>().unwrap(), list, "{text:?}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_port() {
        for text in ["0", "65536", "http", "80,", ",80", "80,,443", "-1", "+80", "8000-", "8000-http", "1-2-3", "*"] {
            assert!(matches!(text.parse::<PortList>(), Err(ListError::Port { .. })), "{text:?}");
        }
        assert!(matches!("90-80".parse::<PortList>(), Err(ListError::ReversedRange { .. })));
    }

    #[test]
    fn reads_networks_into_one_normal_form() {
        for (text, normal) in [
            ("", ""),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("fd00::/8,10.0.0.0/8,10.0.0.0/8", "10.0.0.0/8,fd00::/8"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("2001:db8::1", "2001:db8::1/128"),
        ] {
            assert_eq!(text.parse::<CidrList>().unwrap().to_string(), normal, "{text:?}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_network() {
        for text in ["10.0.0.0/33", "10.0.0/8", "example.com", "10.0.0.0/8,", "*", "10.0.0.0/8 fd00::/8"] {
            assert!(matches!(text.parse::<CidrList>(), Err(ListError::Cidr { .. })), "{text:?}");
        }
    }

    #[test]
    fn a_star_selects_all_and_nothing_selects_nothing() {
        assert_eq!("*".parse(), Ok(Selection::<PortList>::All));
        assert_eq!("".parse(), Ok(Selection::Listed(PortList::default())));
    }
}
