//! A network that pods of one test have for themselves. Its router leads nowhere: it is in a namespace that nothing leaves.

use std::net::{IpAddr, Ipv4Addr};

use crate::command::feed;

use super::world::podman;

/// A network of podman's; it is removed when dropped, after its pods.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) name: String,
    prefix: [u8; 3],
}

impl Network {
    /// A network of 254 addresses that begin with `prefix`.
    pub(crate) fn new(name: &str, prefix: [u8; 3]) -> Self {
        let network = Self { name: name.to_owned(), prefix };
        let subnet = format!("{}/24", network.address(0));
        let mut create = podman(["network", "create", "--disable-dns", "--subnet", &subnet, name]);
        feed(&mut create, "").unwrap_or_else(|error| panic!("{error}"));
        network
    }

    /// One of its addresses.
    pub(crate) fn address(&self, host: u8) -> IpAddr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, host).into()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = feed(&mut podman(["network", "rm", &self.name]), "") {
            eprintln!("{error}");
        }
    }
}
