//! Ports, single or in ranges, merged into the fewest that name the same.

use std::fmt;
use std::str::FromStr;

use super::{ListError, items, write_list};

/// The most ports and ranges that a list names. They are compared one after the other for every new connection, fifteen
/// a rule; whoever needs more means a range.
const MAX_PORTS: usize = 512;

/// TCP ports from `first` to `last`, both included; a single port has the two equal. Never port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The range of one port, which is not 0.
    pub(crate) fn single(port: u16) -> Self {
        PortRange { first: port, last: port }
    }

    /// The lowest port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether `port` is in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
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
    fn merged(mut ranges: Vec<PortRange>) -> Self {
        ranges.sort_unstable();
        // nftables refuses a set whose intervals overlap.
        ranges.dedup_by(|next, kept| {
            let overlap = next.first <= kept.last;
            if overlap {
                kept.last = kept.last.max(next.last);
            }
            overlap
        });
        PortList(ranges)
    }

    /// A list of these ports, none of which is 0.
    pub(crate) fn of(ports: &[u16]) -> Self {
        PortList::merged(ports.iter().copied().map(PortRange::single).collect())
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    /// Whether the list names `port`.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(port))
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
        let ranges = items(text, MAX_PORTS)?.map(PortRange::from_str).collect::<Result<Vec<_>, _>>()?;
        Ok(PortList::merged(ranges))
    }
}

impl fmt::Display for PortList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &self.0)
    }
}
