//! Loopback addresses that no other sandbox on this machine uses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

/// The port that is held on a network's first address for as long as the network is used.
const CLAIM_PORT: u16 = 15999;

/// The networks tried: 127.64.0.0/24 to 127.127.255.0/24, out of the way of what people use by hand.
const NETWORKS: u32 = 64 * 256;

/// A loopback /24 of one's own, until the last clone is gone.
#[derive(Debug, Clone)]
pub struct Subnet {
    second: u8,
    third: u8,
    _claim: Arc<TcpListener>,
}

impl Subnet {
    /// Claims a network by listening on its first address; the claim ends with the process at the latest.
    ///
    /// # Errors
    /// When all are taken, or this system has only one loopback address.
    pub fn claim() -> io::Result<Self> {
        let first = std::process::id();
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for offset in 0..NETWORKS {
            let index = first.wrapping_mul(31).wrapping_add(offset) % NETWORKS;
            let [_, _, second, third] = index.to_be_bytes();
            let second = 64 + second % 64;
            match TcpListener::bind(SocketAddr::new(host(second, third, 1), CLAIM_PORT)) {
                Ok(claim) => return Ok(Self { second, third, _claim: Arc::new(claim) }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// One of its addresses; 1 is the claim's own.
    pub fn host(&self, last: u8) -> IpAddr {
        host(self.second, self.third, last)
    }
}

fn host(second: u8, third: u8, last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, second, third, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_claims_never_share_an_address() {
        let (first, second) = (Subnet::claim().unwrap(), Subnet::claim().unwrap());
        assert_ne!(first.host(2), second.host(2));
        assert!(first.host(2).is_loopback());
    }
}
