//! Which of a service's addresses are meant.

use std::net::SocketAddr;

/// Which of a service's addresses are meant. Of a workload with several, one is used: the application may listen on one family
/// only, and would count twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Those of the family that the application connected to.
    V4,
    /// As [`Family::V4`].
    V6,
    /// One of each workload, whichever it is.
    Any,
}

impl Family {
    /// The family of an address that was called, if there was one.
    pub fn of(destination: Option<SocketAddr>) -> Self {
        match destination {
            Some(SocketAddr::V4(_)) => Self::V4,
            Some(SocketAddr::V6(_)) => Self::V6,
            None => Self::Any,
        }
    }

    /// Whether an address is of this family.
    pub fn has(self, address: SocketAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
            Self::Any => true,
        }
    }
}
