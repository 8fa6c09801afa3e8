//! The product's redirection, applied by itself as in a pod's init container.

use std::path::Path;

use super::command::stdout;
use super::network::Network;

/// The way into the kernel that the rules take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rendering {
    Nft,
    Iptables,
    Legacy,
}

impl Rendering {
    /// The value of `--backend`.
    fn backend(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Iptables => "iptables-nft",
            Self::Legacy => "iptables-legacy",
        }
    }

    /// Has the product apply its rules in a pod, with an init container's two capabilities and no more.
    /// `program` is the product's, where someone may read it who is root and may do nothing else.
    pub(super) fn load(self, network: &Network, pod: usize, program: &Path, flags: &[String]) {
        let mut apply = network.enter_as_init(pod);
        apply.arg(program).args(["iptables", "apply", "--backend", self.backend()]).args(flags);
        stdout(&apply.output().unwrap());
    }
}
