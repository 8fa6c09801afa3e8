//! The product's redirection, loaded as its documentation says.

use super::command::{command, feed, stdout};
use super::network::Network;

/// The tool that the rules are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rendering {
    Nft,
    Iptables,
}

impl Rendering {
    /// Asks the product for the rules and loads them into a pod.
    pub(crate) fn load(self, network: &Network, pod: usize, flags: &[String]) {
        let loads: &[(&str, &[&str])] = match self {
            Self::Nft => &[("nft", &["nft", "-f", "-"])],
            Self::Iptables => {
                &[("iptables", &["iptables-restore", "--noflush"]), ("ip6tables", &["ip6tables-restore", "--noflush"])]
            }
        };
        for (format, tool) in loads {
            let mut print = command(crate::binary());
            let rules = stdout(&print.args(["iptables", "print", "--format", format]).args(flags).output().unwrap());
            feed(network.enter(pod, 0).args(*tool), &rules).unwrap_or_else(|error| panic!("{error}\n{rules}"));
        }
    }
}
