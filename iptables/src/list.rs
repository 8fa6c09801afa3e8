//! The values of list options: ports, CIDRs, addresses, ids and interfaces, read strictly and kept in one normal form.
//!
//! The one idea: what is in one of these types is safe to write into a firewall's input, and two spellings of the same
//! set give the same rules, so lists are checked, sorted and merged when they are read. It does not judge lists
//! against each other; `options/validate.rs` does.

mod interface;
mod ports;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

pub use interface::Interface;
pub use ports::{PortList, PortRange};

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

/// What a [`List`] can hold.
pub trait Item: Ord + fmt::Display + Sized {
    /// The most items of a list: each may become a rule of its own, tried for every new connection.
    const MAX: usize;

    /// Reads one item.
    ///
    /// # Errors
    /// What is wrong with `text`, and what is wanted instead.
    fn read(text: &str) -> Result<Self, ListError>;
}

/// Items as a comma-separated list, sorted, without repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(Vec<T>);

/// Networks of either family, IPv4 first, host bits cleared; a bare address is a network of one.
pub type CidrList = List<IpNet>;

/// Addresses of either family, IPv4 first.
pub type AddressList = List<IpAddr>;

/// User or group ids, as numbers: the names of one image are not those of another.
pub type IdList = List<u32>;

/// Network interfaces.
pub type InterfaceList = List<Interface>;

impl<T> List<T> {
    /// The items, ascending.
    pub fn items(&self) -> &[T] {
        &self.0
    }

    /// Whether the list names nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<T: Item> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items: Vec<T> = items.into_iter().collect();
        items.sort_unstable();
        items.dedup();
        List(items)
    }
}

impl<T: Item> FromStr for List<T> {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        items(text, T::MAX)?.map(T::read).collect()
    }
}

impl<T: Item> fmt::Display for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &self.0)
    }
}

impl Item for IpNet {
    const MAX: usize = 512;

    fn read(text: &str) -> Result<Self, ListError> {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(|network| network.trunc())
            .map_err(|_| ListError::Cidr { item: text.to_owned() })
    }
}

impl Item for IpAddr {
    /// A resolver looks at three servers of `resolv.conf`, of each family.
    const MAX: usize = 16;

    fn read(text: &str) -> Result<Self, ListError> {
        text.parse().map_err(|_| ListError::Address { item: text.to_owned() })
    }
}

impl Item for u32 {
    /// Istio's limit of owner groups: all of an inclusion are in one rule.
    const MAX: usize = 64;

    fn read(text: &str) -> Result<Self, ListError> {
        match text.parse::<u32>() {
            // The kernel's "no such id".
            Ok(id) if id != u32::MAX && text.bytes().all(|b| b.is_ascii_digit()) => Ok(id),
            _ => Err(ListError::Id { item: text.to_owned() }),
        }
    }
}

impl Item for Interface {
    const MAX: usize = 64;

    fn read(text: &str) -> Result<Self, ListError> {
        text.parse()
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
    /// Not an address.
    #[error("{item:?} is not an IP address")]
    Address {
        /// The item as written.
        item: String,
    },
    /// Not a user or group id.
    #[error("{item:?} is not an id: want a number; a name means something else in every image")]
    Id {
        /// The item as written.
        item: String,
    },
    /// Not a name that a network interface can have.
    #[error(
        "{item:?} is not the name of an interface: want 1 to 15 of the letters, digits, '_', '.' and '-', the first \
         no '-'; patterns are not read"
    )]
    Interface {
        /// The item as written.
        item: String,
    },
    /// More than the rules should hold.
    #[error("a list of {count} items is too long: at most {max}; want ranges, or larger networks")]
    TooLong {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
}

/// The trimmed items of a comma-separated list, of which there are at most `max`. Text without any is the empty list;
/// an empty item among others is passed on, to be refused: it is more likely a slip than an intention.
fn items(text: &str, max: usize) -> Result<impl Iterator<Item = &str>, ListError> {
    let text = text.trim();
    let items = text.split(',').map(str::trim).filter(move |_| !text.is_empty());
    let count = items.clone().count();
    if count > max { Err(ListError::TooLong { count, max }) } else { Ok(items) }
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
mod tests;
