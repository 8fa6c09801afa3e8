//! What this machine must be able to do, found out once by doing it.

use std::io::Write;
use std::sync::LazyLock;

use super::command::{command, feed};
use super::network::Network;
use super::redirection::Rendering;

/// A redirection for each tool: what a kernel without address translation refuses.
const NFT: &str =
    "table inet probe {\n chain c {\n type nat hook output priority -100;\n meta l4proto tcp redirect to :1\n }\n}\n";
const IPTABLES: &str = "*nat\n-A OUTPUT -p tcp -m owner --uid-owner 1 -j REDIRECT --to-ports 1\nCOMMIT\n";

static MACHINE: LazyLock<Result<(), String>> = LazyLock::new(|| {
    for (tool, arguments) in [("ip", ["-V"]), ("setpriv", ["--version"]), ("curl", ["--version"])] {
        feed(command(tool).args(arguments), "")?;
    }
    Network::sweep();
    let network =
        Network::new(&["probe"]).map_err(|error| format!("cannot make a network of its own (needs root): {error}"))?;
    // Other users' processes, and both address families.
    feed(network.enter(0, 1000).args(["grep", "-q", "^fd000077", "/proc/net/if_inet6"]), "")
});

static NFTABLES: LazyLock<Result<(), String>> = LazyLock::new(|| {
    let network = Network::new(&["probe"])?;
    feed(network.enter(0, 0).args(["nft", "-f", "-"]), NFT)
});

static XTABLES: LazyLock<Result<(), String>> = LazyLock::new(|| restore("nft"));
static LEGACY: LazyLock<Result<(), String>> = LazyLock::new(|| restore("legacy"));

fn restore(variant: &str) -> Result<(), String> {
    let network = Network::new(&["probe"])?;
    let mut tools = ["iptables", "ip6tables"].map(|tool| format!("{tool}-{variant}-restore")).into_iter();
    tools.try_for_each(|tool| feed(network.enter(0, 0).args([&tool, "--noflush"]), IPTABLES))
}

/// Whether this machine can run tests of every back end of `meshgate iptables apply`.
pub(crate) fn all_back_ends_met() -> bool {
    met(Rendering::Nft) && met(Rendering::Iptables) && met(Rendering::Legacy)
}

/// Whether this machine can run tests of a rendering. When it cannot, says so where no test harness captures it.
pub(super) fn met(rendering: Rendering) -> bool {
    let tools = match rendering {
        Rendering::Nft => &NFTABLES,
        Rendering::Iptables => &XTABLES,
        Rendering::Legacy => &LEGACY,
    };
    let Err(reason) = MACHINE.as_ref().and_then(|()| tools.as_ref()) else { return true };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("kernel test");
    // Straight to the descriptor: the harness keeps what eprintln! writes in a test that passes.
    let _ = std::io::stderr().write_all(format!("\n*** SKIPPED: {test}: {reason} ***\n").as_bytes());
    false
}
